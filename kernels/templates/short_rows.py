"""Cross-entropy of a few classes: a row is one vector, without the lanes beyond it.

A loop over the ten logits of a row takes them one by one. Here each step of a row is that of a
vector, and what is one number of each row, such as a logarithm, is computed for a block of rows at
once, a lane for each. It is what softmax.py says, but for the order of a sum's terms: those half
a vector apart are added first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gradnet import formulas

from ..lowering import Target, Value, lowered
from .softmax import SHORT, exponential, shifted, slope

log: Any = formulas.log
where: Any = formulas.where
INFINITY = float("inf")
LANES = SHORT
_build: Any = cgutils  # which has no types
_WORD, _LONG = ir.IntType(32), ir.IntType(64)
_LONGS = ir.VectorType(_LONG, LANES)
_NUMBERS = ir.Constant(_LONGS, list(range(LANES)))


def spared(loss: Any, s: Any) -> Any:
    """A row's loss: 0 where its scale is 0, whatever its logits."""
    return where(s == 0.0, 0.0, loss * s)


def unlike(wrong: Any, s: Any) -> Any:
    """A row's scale: NaN where its target is no class, unless the row does not count."""
    return where((s == 0.0) | (wrong == 0.0), s, INFINITY - INFINITY)


class _Rows:
    """Writes what is done with vectors of floats, one to a row or one to a block of rows."""

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
        return _build.alloca_once(self.builder, kind, size=LANES)

    def whole(self, room: Value) -> Value:
        """A number of each row as a vector."""
        return self.builder.load(self.builder.bitcast(room, self.all.float.as_pointer()))

    def ratio(self, a: Value, c: Value) -> Value:
        """a / c in float64, rounded."""
        b = self.builder
        if self.bits == 64:
            return b.fdiv(a, c)
        wide = ir.VectorType(ir.DoubleType(), LANES)
        return b.fptrunc(b.fdiv(b.fpext(a, wide), b.fpext(c, wide)), self.all.float)


def _cross_entropy(bits: int, context: Any, b: ir.IRBuilder, signature: Any, values: Any) -> Value:
    """The losses and gradients of at most LANES rows, from row `begin` on."""
    logits, targets, scales, losses, gradients = (
        context.make_array(kind)(context, b, x)
        for kind, x in zip(signature.args, values[:5], strict=False)
    )
    begin, count = values[5:]
    rows = _Rows(b, bits)
    one, every = rows.one, rows.all
    k = _build.unpack_tuple(b, logits.shape)[1]
    columns, few = rows.below(k), rows.below(count)
    ahead = b.mul(begin, k)
    source, goal = (b.gep(x.data, [ahead]) for x in (logits, gradients))
    classes, scale, loss = (b.gep(x.data, [begin]) for x in (targets, scales, losses))
    exponentials, totals, depths, factors, kept = (
        rows.room(kind) for kind in (every.float, *[one.float] * 4)
    )
    nothing = ir.Constant(classes.type.pointee, 0)
    with _build.for_range(b, count) as turn:
        place = b.gep(source, [b.mul(turn.index, k)])
        x = rows.load(place, columns, -float("inf"))
        top = rows.folded(x, rows.larger)
        e = lowered(every, exponential, [x, top])
        b.store(e, b.gep(exponentials, [turn.index]))
        t = b.load(b.gep(classes, [turn.index]))
        wrong = b.icmp_unsigned(">=", t, k)
        t = b.select(wrong, nothing, t)
        s = lowered(one, unlike, [b.uitofp(wrong, one.float), b.load(b.gep(scale, [turn.index]))])
        depth = lowered(one, shifted, [b.load(b.gep(place, [t])), first(b, top)])
        for value, room in (
            (first(b, rows.folded(e, b.fadd)), totals),
            (depth, depths),
            (s, kept),
        ):
            b.store(value, b.gep(room, [turn.index]))
    total, s = rows.whole(totals), rows.whole(kept)
    value = b.fsub(lowered(every, log, [total]), rows.whole(depths))
    rows.store(lowered(every, spared, [value, s]), loss, few)
    b.store(rows.ratio(s, total), b.bitcast(factors, every.float.as_pointer()))
    with _build.for_range(b, count) as turn:
        e = b.load(b.gep(exponentials, [turn.index]))
        factor, s = (rows.spread(b.load(b.gep(x, [turn.index]))) for x in (factors, kept))
        d = lowered(every, slope, [e, factor, every.number(0), s])
        t = b.load(b.gep(classes, [turn.index]))
        t = b.select(b.icmp_unsigned(">=", t, k), nothing, t)
        hit = b.icmp_signed("==", _NUMBERS, rows.spread(t, _LONGS))
        d = b.select(hit, b.fsub(d, s), d)
        rows.store(d, b.gep(goal, [b.mul(turn.index, k)]), columns)
    return context.get_dummy_value()


def first(builder: ir.IRBuilder, x: Value) -> Value:
    """The first lane of a vector."""
    return builder.extract_element(x, _WORD(0))


def _made(bits: int) -> Any:
    def rows(
        context: Any, x: Any, target: Any, scale: Any, loss: Any, dx: Any, begin: Any, count: Any
    ) -> Any:
        taken = x, target, scale, loss, dx, types.int64, types.int64
        return types.void(*taken), partial(_cross_entropy, bits)

    return intrinsic(rows)


rows_32, rows_64 = _made(32), _made(64)
