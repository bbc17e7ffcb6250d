"""What instructions compute, bit for bit as IEEE 754 and the PTX manual say, on NumPy's arrays.

Approximate instructions give the nearest number, which is within their bounds; there is one way to
have them err: see `Approximations`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np

Array = Any

U2, U4, U8 = np.uint16, np.uint32, np.uint64
F2, F4, F8 = np.float16, np.float32, np.float64
_TINY = F8(2.0**-126)


# Sums and products that are rounded once


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


def _to_odd(total: Array, error: Array) -> Array:
    """A float64 and what it lacks as one, rounded so that rounding it again is right."""
    bits = total.view(U8).copy()
    change = (error != 0) & np.isfinite(total) & np.isfinite(error) & (bits & U8(1) == 0)
    # Towards the error: one further from zero where both have the same sign, else one nearer.
    outwards = (error > 0) == (total > 0)
    inward = change & ~outwards
    bits[change & outwards] += U8(1)
    bits[inward] -= U8(1)
    return bits.view(F8)


def _exactly(a: Array, b: Array, c: Array) -> Array:
    """a * b + c of float32 in float64, rounded to odd: what 24 bits are right of."""
    total, error = _two_sum(a.astype(F8) * b.astype(F8), np.asarray(c).astype(F8))
    return _to_odd(total, error)


def fma4(a: Array, b: Array, c: Array) -> Array:
    """a * b + c of float32, rounded once to nearest."""
    total = np.multiply(a, b, dtype=F8) + c
    found = total.astype(F4)
    # Rounded twice it may be wrong only where the first rounding gave a tie, and below 2^-126.
    doubtful = (total.view(U8) & U8(0x1FFFFFFF)) == U8(0x10000000)
    doubtful |= np.abs(total) < _TINY
    if doubtful.any():
        where = np.flatnonzero(doubtful)
        a, b, c = (np.broadcast_to(x, total.shape)[where] for x in (a, b, c))
        found[where] = _exactly(a, b, c).astype(F4)
    return found


def directed(mode: str) -> Callable[[Array, Array, Array], Array]:
    """a * b + c of float32, rounded down "rm", up "rp" or to zero "rz"."""

    def fma(a: Array, b: Array, c: Array) -> Array:
        exact = _exactly(*np.broadcast_arrays(a, b, c))
        found = exact.astype(F4)
        wide = found.astype(F8)
        down = {"rm": wide > exact, "rp": np.False_, "rz": (wide > exact) & (exact > 0)}[mode]
        up = {"rm": np.False_, "rp": wide < exact, "rz": (wide < exact) & (exact < 0)}[mode]
        low = np.nextafter(found, F4(-np.inf))
        high = np.nextafter(found, F4(np.inf))
        return np.where(down, low, np.where(up, high, found))

    return fma


FMA4 = {mode: directed(mode) for mode in ("rm", "rp", "rz")}


def _split(a: Array) -> tuple[Array, Array]:
    scaled = F8(134217729.0) * a
    high = scaled - (scaled - a)
    return high, a - high


def fma8(a: Array, b: Array, c: Array) -> Array:
    """a * b + c of float64, rounded once to nearest (Boldo and Melquiond, 2008)."""
    a, b, c = np.broadcast_arrays(a, b, c)
    product = a * b
    a1, a2 = _split(a)
    b1, b2 = _split(b)
    rest = a2 * b2 - (((product - a1 * b1) - a2 * b1) - a1 * b2)
    high, low = _two_sum(c, rest)
    total, error = _two_sum(product, high)
    odd = _to_odd(*_two_sum(low, error))
    found = total + odd
    # Beyond these the parts of a product overflow, or are not exact.
    size = np.abs(product)
    rare = ~((size < 1e290) & (size > 1e-250) & (np.abs(c) < 1e290))
    rare |= (np.abs(a) > 1e290) | (np.abs(b) > 1e290) | (np.abs(found) < 1e-290)
    for i in np.flatnonzero(rare):
        found[i] = _one_fma(float(a[i]), float(b[i]), float(c[i]))
    return found


def _one_fma(a: float, b: float, c: float) -> float:
    if not all(map(math.isfinite, (a, b, c))) or a == 0 or b == 0:
        return a * b + c
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:
        return a * b + c if c == 0 else 0.0
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


# Integers


def divided(a: Array, b: Array) -> tuple[Array, Array]:
    """Quotient, rounded to zero, and remainder. Raises ZeroDivisionError."""
    if not np.all(b):
        raise ZeroDivisionError("an integer divided by zero, which is undefined")
    quotient = a // b
    rest = a - quotient * b
    if np.issubdtype(quotient.dtype, np.signedinteger):
        more = (rest != 0) & ((rest < 0) != (a < 0))
        quotient = quotient + more
        rest = a - quotient * b
    return quotient, rest


def high8(a: Array, b: Array, signed: bool) -> Array:
    """The upper 64 bits of products of 64-bit integers."""
    mask = U8(0xFFFFFFFF)
    x, y = a.view(U8), np.asarray(b).view(U8)
    x1, x0, y1, y0 = x >> U8(32), x & mask, y >> U8(32), y & mask
    middle = x1 * y0 + (x0 * y0 >> U8(32))
    other = x0 * y1 + (middle & mask)
    high = x1 * y1 + (middle >> U8(32)) + (other >> U8(32))
    if signed:
        high = high - np.where(x >> U8(63) != 0, y, U8(0)) - np.where(y >> U8(63) != 0, x, U8(0))
    return high


def shifted_left(a: Array, count: Array) -> Array:
    """Bits shifted by a number that may be as large as there are bits, or larger."""
    bits = 8 * a.dtype.itemsize
    return np.where(count < bits, a << np.minimum(count, bits - 1).astype(a.dtype), a.dtype.type(0))


def shifted_right(a: Array, count: Array) -> Array:
    bits = 8 * a.dtype.itemsize
    moved = a >> np.minimum(count, bits - 1).astype(a.dtype)
    if np.issubdtype(a.dtype, np.signedinteger):
        return moved
    return np.where(count < bits, moved, a.dtype.type(0))


def funnel(low: Array, high: Array, count: Array, left: bool, wrap: bool) -> Array:
    """`shf`: 32 bits of the 64 of two words, shifted."""
    n = (count & U4(31) if wrap else np.minimum(count, U4(32))).astype(U8)
    whole = (high.astype(U8) << U8(32)) | low.astype(U8)
    return ((whole << n) >> U8(32) if left else whole >> n).astype(U4)


def inserted(a: Array, b: Array, place: Array, length: Array) -> Array:
    """`bfi`: the lowest bits of a in the place of bits of b."""
    kind = b.dtype.type
    bits = 8 * b.dtype.itemsize
    place, length = (np.asarray(x, U8) & U8(0xFF) for x in (place, length))
    ones = np.where(length >= bits, U8(2**64 - 1), (U8(1) << np.minimum(length, U8(63))) - U8(1))
    mask = np.where(place >= bits, U8(0), ones << np.minimum(place, U8(63))).astype(kind)
    moved = shifted_left(np.broadcast_to(a, b.shape), place)
    return (b & ~mask) | (moved & mask)


def extracted(a: Array, place: Array, length: Array) -> Array:
    """`bfe` of unsigned words."""
    bits = 8 * a.dtype.itemsize
    place, length = (np.asarray(x, U8) & U8(0xFF) for x in (place, length))
    ones = np.where(length >= bits, U8(2**64 - 1), (U8(1) << np.minimum(length, U8(63))) - U8(1))
    return shifted_right(a, place) & ones.astype(a.dtype)


def permuted(a: Array, b: Array, choice: Array) -> Array:
    """`prmt`: four bytes of the eight of two words, some as their sign."""
    bytes_ = (b.astype(U8) << U8(32)) | np.asarray(a).astype(U8)
    choice = np.broadcast_to(choice, bytes_.shape).astype(U8)
    found = np.zeros(bytes_.shape, U8)
    for k in range(4):
        nibble = (choice >> U8(4 * k)) & U8(15)
        one = (bytes_ >> (U8(8) * (nibble & U8(7)))) & U8(255)
        sign = np.where(one & U8(128) != 0, U8(255), U8(0))
        found |= np.where(nibble & U8(8) != 0, sign, one) << U8(8 * k)
    return found.astype(U4)


def logic(a: Array, b: Array, c: Array, table: int) -> Array:
    """`lop3`: the function of three bits that a table says."""
    found = np.zeros_like(a)
    for k in range(8):
        if table >> k & 1:
            term = a if k & 4 else ~a
            term = term & (b if k & 2 else ~b)
            found |= term & (c if k & 1 else ~c)
    return found


# Conversions


def to_integer(x: Array, kind: Any, rounding: str) -> Array:
    """A float as an integer: the nearest there is, and 0 for NaN."""
    rounded = ROUNDED[rounding](x).astype(F8)
    limits = np.iinfo(kind)
    low, high = float(limits.min), float(limits.max)
    found = np.where((rounded > low) & (rounded < high), rounded, 0).astype(kind)
    found[rounded >= high] = limits.max
    found[rounded <= low] = limits.min
    return found


ROUNDED: dict[str, Callable[[Array], Array]] = {
    "rni": np.rint,
    "rzi": np.trunc,
    "rmi": np.floor,
    "rpi": np.ceil,
}


def saturated(x: Array) -> Array:
    """Within 0 ... 1, and 0 for NaN."""
    return np.where(x > 0, np.minimum(x, x.dtype.type(1)), x.dtype.type(0))


def bfloat16(x: Array) -> Array:
    """The bits of float32 as bfloat16."""
    return x.astype(ml_dtypes.bfloat16).view(U2)


def of_bfloat16(bits: Array) -> Array:
    return (bits.astype(U4) << U4(16)).view(F4)


def float16(x: Array) -> Array:
    """The bits of floats as float16."""
    return x.astype(F2).view(U2)


def pair(high: Array, low: Array) -> Array:
    """Two halves as a word."""
    return (high.astype(U4) << U4(16)) | low.astype(U4)


# Floats


def least(a: Array, b: Array) -> Array:
    """The lesser one; of a NaN and a number the number; -0 is below 0."""
    found = np.fmin(a, b)
    zeros = (a == 0) & (b == 0)
    return np.where(zeros, np.where(np.signbit(a), a, b), found)


def largest(a: Array, b: Array) -> Array:
    found = np.fmax(a, b)
    zeros = (a == 0) & (b == 0)
    return np.where(zeros, np.where(np.signbit(a), b, a), found)


def flushed(x: Array) -> Array:
    """Without denormal numbers, as `.ftz` has it."""
    least_ = np.finfo(x.dtype).smallest_normal
    return np.where(np.abs(x) < least_, np.copysign(x.dtype.type(0), x), x)


def _coarse(x: Array) -> Array:
    """`rcp.approx.ftz.f64`: the upper word of 1 / x, the lower one zero."""
    bits = flushed(1 / flushed(x)).view(U8)
    return (bits & U8(0xFFFFFFFF00000000)).view(F8)


def _of(function: Callable[..., Array]) -> Callable[..., Array]:
    def rounded(*xs: Array) -> Array:
        with np.errstate(all="ignore"):
            return function(*(x.astype(F8) for x in xs)).astype(F4)

    return rounded


def _quotient(a: Array, b: Array) -> Array:
    """`div.approx`: of a divisor beyond 2^126 the reciprocal is taken for zero."""
    large = (np.abs(b) > 2.0**126) & np.isfinite(b)
    return np.where(large, a * np.copysign(0.0, b), a / b)


_APPROXIMATE: dict[str, Callable[..., Array]] = {
    "ex2": _of(np.exp2),
    "lg2": _of(np.log2),
    "rcp": _of(lambda x: 1 / x),
    "sqrt": _of(np.sqrt),
    "rsqrt": _of(lambda x: 1 / np.sqrt(x)),
    "sin": _of(np.sin),
    "cos": _of(np.cos),
    "tanh": _of(np.tanh),
    "div": _of(_quotient),
}


class Approximations:
    """Approximate instructions. `units` units in the last place are added to every result.

    The manual's bounds are 2 of ex2, and 1 of rcp, sqrt and rsqrt, at least.
    """

    def __init__(self, units: int = 0) -> None:
        self.units = units

    def __call__(self, name: str, ftz: bool, x: Array, *more: Array) -> Array:
        if x.dtype == F8:
            return _coarse(x)
        xs = (x, *np.broadcast_arrays(*more))
        found = _APPROXIMATE[name](*map(flushed, xs) if ftz else xs)
        if ftz:
            found = flushed(found)
        if self.units:
            # Away from those that must be what they are: 0, infinity, NaN, and 1 of 0.
            moved = (found.view(np.int32) + np.int32(self.units)).view(F4)
            plain = np.isfinite(found) & np.isfinite(moved) & (found != 0) & (x != 0)
            found = np.where(plain, moved, found)
        return found
