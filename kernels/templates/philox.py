"""The loop that makes Philox4x32-10 words, and numbers of them: gradnet/philox.py, compiled."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from gradnet import binding, formulas, philox
from gradnet.philox import central_quantile, minus_log, near_tail, normal_quantile

from .elementwise import Text, head

sqrt: Any = formulas.sqrt
where: Any = formulas.where

# Bytes of words made before they become numbers: they stay in the cache.
CHUNK = 4096
# Counter blocks computed side by side.
LANES = 8


def quantile_32(p: Any, upper: Any) -> Any:
    """The quantile of a lower tail p, or of the upper one; none of 32 bits is in the far tail."""
    q = where(p < 0.075, near_tail(sqrt(minus_log(p)) - 1.6), central_quantile(p))
    return where(upper, q, -q)


def quantile_64(p: Any, upper: Any) -> Any:
    """The quantile of a lower tail p, or of the upper one."""
    q = normal_quantile(p)
    return where(upper, q, -q)


def _rounds(b: ir.IRBuilder, key: Any, low: Any, high: Any) -> list[Any]:
    """The output words of the LANES blocks that follow `low + 2**64 high`: four vectors."""
    word, long = ir.VectorType(ir.IntType(32), LANES), ir.VectorType(ir.IntType(64), LANES)

    def every(kind: ir.VectorType, value: int) -> ir.Constant:
        return ir.Constant(kind, [value] * LANES)

    def spread(value: Any) -> Any:
        one = b.insert_element(ir.Constant(long, ir.Undefined), value, ir.IntType(32)(0))
        return b.shuffle_vector(one, one, every(word, 0))

    def split(value: Any) -> tuple[Any, Any]:
        return b.trunc(value, word), b.trunc(b.lshr(value, every(long, 32)), word)

    first = spread(low)
    c = b.add(first, ir.Constant(long, list(range(LANES))))
    carried = b.add(spread(high), b.zext(b.icmp_unsigned("<", c, first), long))
    (x0, x1), (x2, x3), (key0, key1) = split(c), split(carried), split(spread(key))
    for number in range(philox.ROUNDS):
        # Products of widened words: vectors have an instruction for them.
        (low0, high0), (low1, high1) = (
            split(b.mul(b.zext(x, long), every(long, multiplier)))
            for x, multiplier in zip((x0, x2), philox.MULTIPLIERS, strict=True)
        )
        k0, k1 = (
            b.add(part, every(word, number * weyl & 0xFFFFFFFF))
            for part, weyl in zip((key0, key1), philox.WEYL, strict=True)
        )
        x0, x1, x2, x3 = b.xor(b.xor(high1, x1), k0), low1, b.xor(b.xor(high0, x3), k1), low0
    return [x0, x1, x2, x3]


def blocks(b: ir.IRBuilder, key: Any, low: Any, high: Any, words: Any, place: Any) -> None:
    """Code that writes the words of LANES counter blocks into an array, at a byte's place."""
    x0, x1, x2, x3 = _rounds(b, key, low, high)

    def mixed(a: Any, c: Any, order: list[int]) -> Any:
        kind = ir.VectorType(ir.IntType(32), len(order))
        return b.shuffle_vector(a, c, ir.Constant(kind, order))

    # Words 0 of all blocks, words 1, ... become blocks of four words.
    joined = [mixed(a, c, list(range(2 * LANES))) for a, c in ((x0, x1), (x2, x3))]
    order = [column * LANES + lane for lane in range(LANES) for column in range(4)]
    target = b.gep(words, [place], source_etype=ir.IntType(8))
    b.store(mixed(joined[0], joined[1], order), target, align=4)


_KERNEL = f"""
from gradnet.kernels.templates.philox import blocks


def kernel(key, low, high, words, y):
    for begin in range(0, y.size, words.size):
        for place in range(0, {CHUNK}, {16 * LANES}):
            blocks(key, low, high, words, place)
            next = low + uint64({LANES})
            high += uint64(next < low)
            low = next
        left = y.size - begin
        for i in range(left if left < words.size else words.size):
            w = words[i]
            {{number}}
"""

# The integers made floats are signed, for which there are instructions. `m` has all bits set
# where the highest bit of `w` is: it mirrors the upper half of the words onto the lower.
_NUMBER = {
    "bits32": "y[begin + i] = w",
    "bits64": "y[begin + i] = w",
    "uniform32": "y[begin + i] = T(int32(w >> uint32(8))) * T(2.0**-24)",
    "uniform64": "y[begin + i] = T(int64(w >> uint64(11))) * T(2.0**-53)",
    "normal32": """m = int32(w) >> int32(31)
            p = (float64(int32(int32(w) ^ m)) + 0.5) * 2.0**-32
            y[begin + i] = T(f(p, m != int32(0)))""",
    "normal64": """m = int64(w) >> int64(63)
            p = (float64(int64(w) ^ m) + 0.5) * 2.0**-64
            y[begin + i] = f(p, m != int64(0))""",
}


def random(kind: str, bits: int) -> Text:
    """Numbers of a kind, "bits", "uniform" or "normal", in 32 or 64 bits, into a flat array."""
    text = head(bits)
    if kind == "normal":
        source = binding.source(quantile_32 if bits == 32 else quantile_64)
        text += f'f = function({source.name!r}, """\n{source.text}""", 64)\n'
    text += _KERNEL.format(number=_NUMBER[f"{kind}{bits}"])
    word = f"uint{bits}"
    result = f"Out(1, {word})" if kind == "bits" else "Out(1)"
    return text, f"uint64, uint64, uint64, Out(1, {word}), {result}"
