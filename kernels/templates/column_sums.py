"""The sums of columns, some vectors of them at a time, which stay in registers."""

from __future__ import annotations

from functools import partial

from llvmlite import ir

from ..lowering import Target, Value
from .short_rows import Vectors

_LONG = ir.IntType(64)
# Vectors that are added up side by side, as long as there are so many; the last has lanes off.
_STRIPS = (8, 4, 2, 1)


def _sums(
    bits: int,
    b: ir.IRBuilder,
    table: Value,
    sums: Value,
    first: Value,
    count: Value,
    into: Value,
    m: Value,
    start: Value,
    stop: Value,
) -> None:
    """Row `into` of sums: that of `count` rows of m columns from `first` on, one by one.

    Of the columns from `start` to `stop` alone.
    """
    rows = Vectors(b, bits)
    one = rows.one.float
    source = rows.at(table, b.mul(first, m), one)
    goal = rows.at(sums, b.mul(into, m), one)
    for strip in _STRIPS:
        start = _strips(rows, strip, source, goal, start, count, m, stop)
    left = b.sub(stop, start)
    with b.if_then(b.icmp_signed(">", left, _LONG(0))):
        mask = rows.below(left)
        (total,) = _added(rows, 1, rows.at(source, start, one), count, m, mask)
        rows.store(total, rows.at(goal, start, one), mask)


def _strips(
    rows: Vectors,
    strip: int,
    source: Value,
    goal: Value,
    start: Value,
    count: Value,
    m: Value,
    stop: Value,
) -> Value:
    """Write the sums of strips of so many vectors from a column on; the column after them."""
    b, one, width = rows.builder, rows.one.float, strip * rows.lanes
    before, look, turn, end = b.block, *(b.append_basic_block() for _ in range(3))
    b.branch(look)
    b.position_at_end(look)
    column = b.phi(_LONG)
    following = b.add(column, _LONG(width))
    b.cbranch(b.icmp_signed("<=", following, stop), turn, end)
    b.position_at_end(turn)
    totals = _added(rows, strip, rows.at(source, column, one), count, m, None)
    for n, total in enumerate(totals):
        place = rows.at(goal, b.add(column, _LONG(n * rows.lanes)), one)
        b.store(total, place, align=rows.bits // 8)
    column.add_incoming(start, before)
    column.add_incoming(following, b.block)
    b.branch(look)
    b.position_at_end(end)
    return column


def _added(
    rows: Vectors, strip: int, source: Value, count: Value, m: Value, mask: Value | None
) -> list[Value]:
    """The sums of vectors side by side over rows, of which there is at least one."""
    b, one, kind = rows.builder, rows.one.float, rows.all.float
    before, turn, end = b.block, *(b.append_basic_block() for _ in range(2))
    b.branch(turn)
    b.position_at_end(turn)
    i = b.phi(_LONG)
    totals = [b.phi(kind) for _ in range(strip)]
    row = rows.at(source, b.mul(i, m), one)
    i.add_incoming(_LONG(0), before)
    following = b.add(i, _LONG(1))
    i.add_incoming(following, turn)
    found = []
    for n, total in enumerate(totals):
        place = rows.at(row, _LONG(n * rows.lanes), one)
        if mask is None:
            x = b.load(place, align=rows.bits // 8, typ=kind)
        else:
            x = rows.load(place, mask, 0.0)
        found.append(b.fadd(total, x))
        total.add_incoming(rows.all.number(0), before)
        total.add_incoming(found[-1], turn)
    b.cbranch(b.icmp_signed("<", following, count), turn, end)
    b.position_at_end(end)
    return found


def _joined(
    bits: int,
    b: ir.IRBuilder,
    sums: Value,
    y: Value,
    count: Value,
    m: Value,
    start: Value,
    stop: Value,
) -> None:
    """The sums of columns from `start` to `stop` of so many rows of m, added in float64."""
    rows = Vectors(b, bits)
    one, wide = rows.one.float, Target(b, 64, rows.lanes).float
    before, look, turn, end = b.block, *(b.append_basic_block() for _ in range(3))
    b.branch(look)
    b.position_at_end(look)
    column = b.phi(_LONG)
    b.cbranch(b.icmp_signed("<", column, stop), turn, end)
    b.position_at_end(turn)
    mask = rows.below(b.sub(stop, column))
    with b.goto_entry_block():
        total = b.alloca(wide)
    total.type = ir.PointerType()
    b.store(ir.Constant(wide, [0.0] * rows.lanes), total)
    with rows.turns(count) as i:
        place = rows.at(sums, b.add(b.mul(i, m), column), one)
        x = rows.load(place, mask, 0.0)
        x = b.fpext(x, wide) if bits == 32 else x
        b.store(b.fadd(b.load(total, typ=wide), x), total)
    found = b.load(total, typ=wide)
    found = b.fptrunc(found, rows.all.float) if bits == 32 else found
    rows.store(found, rows.at(y, column, one), mask)
    following = b.add(column, _LONG(rows.lanes))
    column.add_incoming(start, before)
    column.add_incoming(following, b.block)
    b.branch(look)
    b.position_at_end(end)


sums_32, sums_64 = partial(_sums, 32), partial(_sums, 64)
joined_32, joined_64 = partial(_joined, 32), partial(_joined, 64)
