"""Cross-entropy of a few classes: a row is one vector, without the lanes beyond it.

A loop over the ten logits of a row takes them one by one. Here each step of a row is that of a
vector, and what is one number of each row, such as a logarithm, is computed for a block of rows at
once, a lane for each. It is what softmax.py says, but for the order of a sum's terms: those half
a vector apart are added first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from llvmlite import ir

from gradnet import formulas

from ..lowering import Target, Value, lowered
from .softmax import SHORT, exponential, shifted, slope

log: Any = formulas.log
where: Any = formulas.where
INFINITY = float("inf")
LANES = SHORT
_WORD, _LONG = ir.IntType(32), ir.IntType(64)
_LONGS = ir.VectorType(_LONG, LANES)
_NUMBERS = ir.Constant(_LONGS, list(range(LANES)))


def spared(loss: Any, s: Any) -> Any:
    """A row's loss: 0 where its scale is 0, whatever its logits."""
    return where(s == 0.0, 0.0, loss * s)


def unlike(wrong: Any, s: Any) -> Any:
    """A row's scale: NaN where its target is no class, unless the row does not count."""
    return where((s == 0.0) | (wrong == 0.0), s, INFINITY - INFINITY)


class Vectors:
    """Writes what is done with vectors of floats, one to a row or one to a block of rows."""

    lanes = LANES

    def __init__(self, builder: ir.IRBuilder, bits: int) -> None:
        self.builder, self.bits = builder, bits
        self.one, self.all = Target(builder, bits), Target(builder, bits, LANES)

    def below(self, count: Value) -> Value:
        """A mask of the first lanes."""
        return self.builder.icmp_signed("<", _NUMBERS, self.spread(count, _LONGS))

    def spread(self, value: Value, kind: ir.Type | None = None) -> Value:
        """A vector of one value."""
        b, kind = self.builder, kind or self.all.float
        first = b.insert_element(ir.Constant(kind, ir.Undefined), value, _WORD(0))
        return b.shuffle_vector(first, first, ir.Constant(ir.VectorType(_WORD, LANES), [0] * LANES))

    def folded(self, x: Value, join: Callable[[Value, Value], Value]) -> Value:
        """All lanes joined, in every lane."""
        half = LANES // 2
        while half:
            order = ir.Constant(ir.VectorType(_WORD, LANES), [i ^ half for i in range(LANES)])
            x = join(x, self.builder.shuffle_vector(x, x, order))
            half //= 2
        return x

    def larger(self, a: Value, c: Value) -> Value:
        """The larger; where one is NaN either, for the row's results will be NaN anyway."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, c), a, c)

    def _masked(self, name: str, result: ir.Type, *values: Value) -> Value:
        module, symbol = self.builder.module, f"llvm.masked.{name}.v{LANES}f{self.bits}.p0"
        kind = ir.FunctionType(result, [x.type for x in values])
        declared = module.globals.get(symbol) or ir.Function(module, kind, symbol)
        return self.builder.call(declared, values)

    def load(self, place: Value, mask: Value, beyond: float) -> Value:
        """The floats at a place, and in lanes that are off another number."""
        size, other = _WORD(self.bits // 8), self.all.number(beyond)
        return self._masked("load", self.all.float, place, size, mask, other)

    def store(self, x: Value, place: Value, mask: Value) -> None:
        """Put floats to a place, but for lanes that are off."""
        self._masked("store", ir.VoidType(), x, place, _WORD(self.bits // 8), mask)

    def room(self, kind: ir.Type) -> Value:
        """Memory for a value of each row of a block."""
        with self.builder.goto_entry_block():
            place = self.builder.alloca(kind, LANES)
        place.type = ir.PointerType()
        place.align = 128  # that of the widest vector
        return place

    def whole(self, room: Value) -> Value:
        """A number of each row as a vector."""
        return self.builder.load(room, typ=self.all.float)

    def at(self, place: Value, i: Value, kind: ir.Type) -> Value:
        """The place of an element."""
        return self.builder.gep(place, [i], source_etype=kind)

    def get(self, place: Value, i: Value, kind: ir.Type) -> Value:
        """An element."""
        return self.builder.load(self.at(place, i, kind), typ=kind)

    @contextmanager
    def turns(self, count: Value) -> Iterator[Value]:
        """The numbers below a count, which is not 0."""
        b = self.builder
        before, turn, after = b.block, b.append_basic_block(), b.append_basic_block()
        b.branch(turn)
        b.position_at_end(turn)
        i = b.phi(_LONG)
        i.add_incoming(_LONG(0), before)
        yield i
        following = b.add(i, _LONG(1))
        i.add_incoming(following, b.block)
        b.cbranch(b.icmp_signed("<", following, count), turn, after)
        b.position_at_end(after)

    def ratio(self, a: Value, c: Value) -> Value:
        """a / c in float64, rounded."""
        b = self.builder
        if self.bits == 64:
            return b.fdiv(a, c)
        wide = ir.VectorType(ir.DoubleType(), LANES)
        return b.fptrunc(b.fdiv(b.fpext(a, wide), b.fpext(c, wide)), self.all.float)


def _cross_entropy(bits: int, b: ir.IRBuilder, *values: Value) -> None:
    """The losses and gradients of at most LANES rows of k classes, from row `begin` on."""
    logits, targets, scales, losses, gradients, begin, count, k = values
    rows = Vectors(b, bits)
    one, every = rows.one, rows.all
    columns, few = rows.below(k), rows.below(count)
    ahead = b.mul(begin, k)
    source, goal = (rows.at(x, ahead, one.float) for x in (logits, gradients))
    classes = rows.at(targets, begin, _LONG)
    scale, loss = (rows.at(x, begin, one.float) for x in (scales, losses))
    exponentials, totals, depths, factors, kept = (
        rows.room(kind) for kind in (every.float, *[one.float] * 4)
    )
    with rows.turns(count) as turn:
        place = rows.at(source, b.mul(turn, k), one.float)
        x = rows.load(place, columns, -float("inf"))
        top = rows.folded(x, rows.larger)
        e = lowered(every, exponential, [x, top])
        b.store(e, rows.at(exponentials, turn, every.float))
        t = rows.get(classes, turn, _LONG)
        wrong = b.icmp_unsigned(">=", t, k)
        t = b.select(wrong, _LONG(0), t)
        s = lowered(one, unlike, [b.uitofp(wrong, one.float), rows.get(scale, turn, one.float)])
        depth = lowered(one, shifted, [rows.get(place, t, one.float), first(b, top)])
        for value, room in (
            (first(b, rows.folded(e, b.fadd)), totals),
            (depth, depths),
            (s, kept),
        ):
            b.store(value, rows.at(room, turn, one.float))
    total, s = rows.whole(totals), rows.whole(kept)
    value = b.fsub(lowered(every, log, [total]), rows.whole(depths))
    rows.store(lowered(every, spared, [value, s]), loss, few)
    b.store(rows.ratio(s, total), factors)
    with rows.turns(count) as turn:
        e = rows.get(exponentials, turn, every.float)
        factor, s = (rows.spread(rows.get(x, turn, one.float)) for x in (factors, kept))
        d = lowered(every, slope, [e, factor, every.number(0), s])
        t = rows.get(classes, turn, _LONG)
        t = b.select(b.icmp_unsigned(">=", t, k), _LONG(0), t)
        hit = b.icmp_signed("==", _NUMBERS, rows.spread(t, _LONGS))
        d = b.select(hit, b.fsub(d, s), d)
        rows.store(d, rows.at(goal, b.mul(turn, k), one.float), columns)


def first(builder: ir.IRBuilder, x: Value) -> Value:
    """The first lane of a vector."""
    return builder.extract_element(x, _WORD(0))


rows_32, rows_64 = partial(_cross_entropy, 32), partial(_cross_entropy, 64)
