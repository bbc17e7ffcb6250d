"""The largest and the smallest of each row, several vectors at a time.

A processor's own maximum of two vectors loses a NaN, and one that keeps it takes five times as
long. So NaNs are looked for beside it, two vectors in one comparison.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from llvmlite import ir

from ..lowering import Value
from .short_rows import Vectors, first

_LONG = ir.IntType(64)
# Vectors that are looked at in one turn: their comparisons wait for one another only in the next.
_TURN = 4


def _extreme(bits: int, sign: str, b: ir.IRBuilder, table: Value, i: Value, k: Value) -> Value:
    """The extreme of row i of a table of k columns."""
    rows = Vectors(b, bits)
    one, every, lanes = rows.one, rows.all, rows.lanes
    bound = float("-inf") if sign == ">" else float("inf")
    least = every.number(bound)
    row = rows.at(table, b.mul(i, k), one.float)
    false = ir.Constant(every.condition, [0] * lanes)

    def joined(x: Value, best: Value) -> Value:
        return b.select(b.fcmp_ordered(sign, x, best), x, best)

    whole = b.sub(k, b.urem(k, _LONG(_TURN * lanes)))
    before, look, turn, rest = b.block, *(b.append_basic_block() for _ in range(3))
    b.branch(look)
    b.position_at_end(look)
    at = b.phi(_LONG)
    best = [b.phi(every.float) for _ in range(_TURN)]
    missing = [b.phi(every.condition) for _ in range(_TURN // 2)]
    b.cbranch(b.icmp_signed("<", at, whole), turn, rest)
    b.position_at_end(turn)
    found = [
        b.load(
            rows.at(row, b.add(at, _LONG(n * lanes)), one.float), align=bits // 8, typ=every.float
        )
        for n in range(_TURN)
    ]
    following = b.add(at, _LONG(_TURN * lanes))
    starts: list[tuple[Any, Value, Value]] = [(at, _LONG(0), following)]
    for x, held in zip(found, best, strict=True):
        starts.append((held, least, joined(x, held)))
    for n, held in enumerate(missing):
        pair = b.fcmp_unordered("uno", found[2 * n], found[2 * n + 1])
        starts.append((held, false, b.or_(held, pair)))
    for phi, start, further in starts:
        phi.add_incoming(start, before)
        phi.add_incoming(further, turn)
    b.branch(look)
    b.position_at_end(rest)

    # What is left, a vector at a time, the last with lanes off.
    total, lost = best[0], missing[0]
    for held in best[1:]:
        total = joined(held, total)
    for held in missing[1:]:
        lost = b.or_(lost, held)
    more, last, end = (b.append_basic_block() for _ in range(3))
    before = b.block
    b.branch(more)
    b.position_at_end(more)
    place, sofar, gone = b.phi(_LONG), b.phi(every.float), b.phi(every.condition)
    b.cbranch(b.icmp_signed("<", place, k), last, end)
    b.position_at_end(last)
    mask = rows.below(b.sub(k, place))
    x = rows.load(rows.at(row, place, one.float), mask, bound)
    starts = [
        (place, whole, b.add(place, _LONG(lanes))),
        (sofar, total, joined(x, sofar)),
        (gone, lost, b.or_(gone, b.fcmp_unordered("uno", x, x))),
    ]
    for phi, start, further in starts:
        phi.add_incoming(start, before)
        phi.add_incoming(further, last)
    b.branch(more)
    b.position_at_end(end)
    result = rows.folded(sofar, joined)
    any_lost = rows.folded(gone, b.or_)
    nan = every.number(float("nan"))
    result = b.select(any_lost, nan, result)
    return first(b, result)


max_32, max_64 = partial(_extreme, 32, ">"), partial(_extreme, 64, ">")
min_32, min_64 = partial(_extreme, 32, "<"), partial(_extreme, 64, "<")
