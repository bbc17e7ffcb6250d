"""Philox4x32-10, the counter-based generator behind every random number, in plain NumPy.

Word i of a stream depends on the key and on its own place alone, so any part of a stream can be
made by itself, and a longer draw begins with a shorter one. Nothing here calls the platform's
mathematical library: only +, -, *, /, sqrt and integers, so the numbers are the same to the bit
on every IEEE machine, and on every backend that compiles these formulas without contracting
a * b + c. Salmon, Moraes, Dror and Shaw, Parallel random numbers: as easy as 1, 2, 3, SC 2011.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numpy import sqrt, where

from gradnet.dtypes import DType, float32, float64, is_half
from gradnet.errors import DTypeError

Words = np.ndarray[Any, np.dtype[np.uint32]]
Numbers = np.ndarray[Any, np.dtype[Any]]

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10

# The random bits of a uniform number: all that the significand holds.
UNIFORM_BITS = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)

# Counter blocks made at a time, so that the working arrays stay in the cache.
_CHUNK = 1 << 12


def random(kind: str, key: int, counter: int, shape: tuple[int, ...], dtype: DType) -> Numbers:
    """Numbers of a kind, "bits", "uniform" or "normal", as `Backend.random` describes them.

    Raises DTypeError where the kind does not come in that dtype.
    """
    check(kind, dtype)
    n = math.prod(shape)
    if n == 0:
        return np.empty(shape, dtype)
    words = bits(key, counter, 2 * n if dtype.itemsize == 8 else n)
    if kind == "bits":
        numbers: Numbers = _pairs(words) if dtype.itemsize == 8 else words
    else:
        numbers = _uniform(words, dtype) if kind == "uniform" else _normal(words, dtype)
    return numbers.reshape(shape)


@cache
def check(kind: str, dtype: DType) -> None:
    """Refuse an unknown kind, or one that does not come in that dtype, with a DTypeError."""
    known = ("uint32", "uint64") if kind == "bits" else tuple(UNIFORM_BITS)
    if kind not in ("bits", "uniform", "normal"):
        raise ValueError(f"there are no {kind!r} random numbers; use 'bits', 'uniform' or 'normal'")
    if dtype.name not in known:
        raise DTypeError(f"random {kind} come as {', '.join(known)}, not as {dtype.name}")


def bits(key: int, counter: int, n: int) -> Words:
    """The first `n` words of the blocks that begin at block `counter`: uint32 `(n,)`.

    `key` is taken modulo 2**64 and the counter modulo 2**128.
    """
    blocks = np.empty((-(-n // 4), 4), np.uint32)
    for start in range(0, len(blocks), _CHUNK):
        chunk = blocks[start : start + _CHUNK]
        _philox(key, counter + start, chunk)
    return blocks.reshape(-1)[:n]


def _philox(key: int, counter: int, blocks: Words) -> None:
    """Fill `blocks (n, 4)` with the outputs of the counters that begin at `counter`."""
    first = np.uint64(counter & 0xFFFFFFFFFFFFFFFF)
    low = np.arange(len(blocks), dtype=np.uint64) + first
    high = np.uint64(counter >> 64 & 0xFFFFFFFFFFFFFFFF) + np.zeros_like(low)
    high += low < first
    x0, x1, x2, x3 = low & _LOW, low >> _HALF, high & _LOW, high >> _HALF
    k0, k1 = key & 0xFFFFFFFF, key >> 32 & 0xFFFFFFFF
    for _ in range(ROUNDS):
        product0, product1 = x0 * np.uint64(MULTIPLIERS[0]), x2 * np.uint64(MULTIPLIERS[1])
        x0, x1, x2, x3 = (
            product1 >> _HALF ^ x1 ^ np.uint64(k0),
            product1 & _LOW,
            product0 >> _HALF ^ x3 ^ np.uint64(k1),
            product0 & _LOW,
        )
        k0, k1 = k0 + WEYL[0] & 0xFFFFFFFF, k1 + WEYL[1] & 0xFFFFFFFF
    blocks[:, 0], blocks[:, 1], blocks[:, 2], blocks[:, 3] = x0, x1, x2, x3


def _pairs(words: Words) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Words 2i (low) and 2i + 1 (high) as one integer."""
    return words[0::2].astype(np.uint64) | words[1::2].astype(np.uint64) << _HALF


def _uniform(words: Words, dtype: DType) -> Numbers:
    """The highest bits as a fraction: multiples of 2**-bits in [0, 1), each exact in the dtype."""
    used = UNIFORM_BITS[dtype.name]
    if dtype == float64:
        return (_pairs(words) >> np.uint64(64 - used)) * 2.0**-used
    fractions = (words >> np.uint32(32 - used)).astype(np.float32) * np.float32(2.0**-used)
    return fractions.astype(dtype, copy=False)


def _normal(words: Words, dtype: DType) -> Numbers:
    """The quantiles of (k + 1/2) / 2**32 for each word k, or / 2**64 for each pair of words.

    The upper half mirrors the lower, so that both tails reach equally far: 6.34 standard
    deviations with 32 bits, 9.15 with 64.
    """
    working = float64 if dtype == float64 else float32
    numbers = np.empty(len(words) // (working.itemsize // 4), working)
    step = 4 * _CHUNK
    for start in range(0, len(numbers), step):
        if dtype == float64:
            k = _pairs(words[2 * start : 2 * (start + step)])
            upper = k >= np.uint64(1 << 63)
            p = (where(upper, ~k, k).astype(np.float64) + 0.5) * 2.0**-64
        else:
            word = words[start : start + step]
            upper = word >= np.uint32(1 << 31)
            p = (where(upper, ~word, word) + 0.5) * 2.0**-32
        magnitude = central_quantile(p)
        tail = p < 0.075
        magnitude[tail] = tail_quantile(p[tail])
        numbers[start : start + step] = where(upper, magnitude, -magnitude)
    return numbers.astype(dtype) if is_half(dtype) else numbers


# The quantile function of the normal distribution: algorithm AS 241 (PPND16) of Wichura, Applied
# Statistics 37 (1988), within about 1e-16. As formulas, compiled targets take them as they stand.
# Each takes a lower tail p in (0, 1/2] in float64 and gives the magnitude of its quantile.


def normal_quantile(p: Any) -> Any:
    """The magnitude of the quantile of p in [2**-65, 1/2]."""
    return where(p < 0.075, tail_quantile(p), central_quantile(p))


def central_quantile(p: Any) -> Any:
    """The quantile's magnitude for p in [0.075, 1/2]."""
    q = 0.5 - p
    r = 0.180625 - q * q
    above = 2.5090809287301226727e3 * r + 3.3430575583588128105e4
    above = (above * r + 6.7265770927008700853e4) * r + 4.5921953931549871457e4
    above = (above * r + 1.3731693765509461125e4) * r + 1.9715909503065514427e3
    above = (above * r + 1.3314166789178437745e2) * r + 3.3871328727963666080
    below = 5.2264952788528545610e3 * r + 2.8729085735721942674e4
    below = (below * r + 3.9307895800092710610e4) * r + 2.1213794301586595867e4
    below = (below * r + 5.3941960214247511077e3) * r + 6.8718700749205790830e2
    below = (below * r + 4.2313330701600911252e1) * r + 1.0
    return above * q / below


def tail_quantile(p: Any) -> Any:
    """The quantile's magnitude for p below 0.075."""
    r = sqrt(minus_log(p))
    return where(r <= 5.0, near_tail(r - 1.6), far_tail(r - 5.0))


def near_tail(r: Any) -> Any:
    """The quantile's magnitude where sqrt(-log(p)) is r + 1.6, at most 5."""
    above = 7.7454501427834140764e-4 * r + 2.27238449892691845833e-2
    above = (above * r + 2.41780725177450611770e-1) * r + 1.27045825245236838258
    above = (above * r + 3.64784832476320460504) * r + 5.76949722146069140550
    above = (above * r + 4.63033784615654529590) * r + 1.42343711074968357734
    below = 1.05075007164441684324e-9 * r + 5.4759380849953449460e-4
    below = (below * r + 1.51986665636164571966e-2) * r + 1.48103976427480074590e-1
    below = (below * r + 6.89767334985100004550e-1) * r + 1.67638483018380384940
    below = (below * r + 2.05319162663775882187) * r + 1.0
    return above / below


def far_tail(r: Any) -> Any:
    """The quantile's magnitude where sqrt(-log(p)) is r + 5, above 5."""
    above = 2.01033439929228813265e-7 * r + 2.71155556874348757815e-5
    above = (above * r + 1.24266094738807843860e-3) * r + 2.65321895265761230930e-2
    above = (above * r + 2.96560571828504891230e-1) * r + 1.78482653991729133580
    above = (above * r + 5.46378491116411436990) * r + 6.65790464350110377720
    below = 2.04426310338993978564e-15 * r + 1.42151175831644588870e-7
    below = (below * r + 1.84631831751005468180e-5) * r + 7.86869131145613259100e-4
    below = (below * r + 1.48753612908506148525e-2) * r + 1.36929880922735805310e-1
    below = (below * r + 5.99832206555887937690e-1) * r + 1.0
    return above / below


def minus_log(p: Any) -> Any:
    """`-log(p)` for p in [2**-66, 1/4), without a logarithm.

    Powers of 2 are taken out by halving steps until the rest x is in [1/sqrt(2), sqrt(2));
    log(x) = 2 atanh((x - 1) / (x + 1)), whose series is cut where it falls below 1e-17.
    """
    x = p * 4.0
    e = where(x < 2.3283064365386963e-10, 34.0, 2.0)
    x = where(x < 2.3283064365386963e-10, x * 4294967296.0, x)
    e = where(x < 1.52587890625e-05, e + 16.0, e)
    x = where(x < 1.52587890625e-05, x * 65536.0, x)
    e = where(x < 0.00390625, e + 8.0, e)
    x = where(x < 0.00390625, x * 256.0, x)
    e = where(x < 0.0625, e + 4.0, e)
    x = where(x < 0.0625, x * 16.0, x)
    e = where(x < 0.25, e + 2.0, e)
    x = where(x < 0.25, x * 4.0, x)
    e = where(x < 0.5, e + 1.0, e)
    x = where(x < 0.5, x * 2.0, x)
    e = where(x < 0.7071067811865476, e + 1.0, e)
    x = where(x < 0.7071067811865476, x * 2.0, x)
    s = (x - 1.0) / (x + 1.0)
    z = s * s
    series = (0.047619047619047616 * z + 0.05263157894736842) * z + 0.058823529411764705
    series = (series * z + 0.06666666666666667) * z + 0.07692307692307693
    series = (series * z + 0.09090909090909091) * z + 0.1111111111111111
    series = (series * z + 0.14285714285714285) * z + 0.2
    series = (series * z + 0.3333333333333333) * z
    # 0.69314... to 33 bits, so that its product with e is exact, and the rest of log(2).
    return e * 0.6931471803691238 - (2.0 * s + (2.0 * s * series - e * 1.9082149292705877e-10))
