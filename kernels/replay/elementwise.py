"""Elementwise calls, fused layers and updates as kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradnet import binding, formulas
from gradnet.program.calls import Call, Value

from .. import lowering, operands
from ..operands import FLOATS
from ..templates import elementwise, reductions
from .base import Ranks, Unsupported
from .copies import Copies, permuted
from .machine import Block, Item, Slot, kernel_call

_ADD: Any = formulas.add


class Elementwise(Copies):
    """Elementwise calls, fused layers and updates as kernels."""

    # Elementwise

    def _map(self, call: Call, formula: Any, *xs: Any, dtype: Any, out: Any = None) -> Ranks:
        y = call.outs[0]
        assert y is not None
        if not y.contiguous:
            strides, ndim = y.strides, len(y.shape)
            order = sorted(range(ndim), key=lambda axis: -strides[axis])
            y = permuted(y, order)
            xs = tuple(permuted(_padded(x, ndim), order) if isinstance(x, Value) else x for x in xs)
        values = [x for x in xs if isinstance(x, Value)]
        common = next((x.dtype for x in values if x.dtype != np.bool_), None)
        bits = FLOATS.get(common) if common is not None else None
        condition = dtype == np.bool_
        if bits is None or not (condition or dtype == common) or not y.contiguous:
            raise Unsupported
        source = binding.source(formula)
        if lowering.refusal(source) is not None or source.results != 1:
            raise Unsupported
        taken = [_unrepeated(x, y.shape) if isinstance(x, Value) else x for x in xs]
        kinds = [operands.repeats(x.shape, y.shape) if isinstance(x, Value) else "s" for x in taken]
        columns = 0
        for x, kind in zip(taken, kinds, strict=True):
            if not columns and kind in ("r", "c"):
                columns = x.size if kind == "r" else y.size // x.size
        loop = (y.size // columns, columns) if columns else (y.size,)
        pattern = ""
        parts: list[Block] = []
        rest: list[Block | float | Slot] = []
        target = self.block(y).reshaped(*loop)
        for x, kind in zip(taken, kinds, strict=True):
            if kind == "s":
                pattern += "s"
                rest.append(self.scalar(x))
                continue
            fits = {
                "x": x.shape == y.shape,  # and not repeated along an axis between others
                "r": x.size == columns,
                "c": x.size * columns == y.size,
                "e": True,
            }
            if not fits[kind]:
                if not self.spread:
                    raise Unsupported
                x, kind = _repeated(x, y.shape), "x"
            block = self.taken(x)
            if kind == "x" and block.place == target.place and x.dtype == y.dtype:
                pattern += "y"
                continue
            pattern += kind.upper() if x.dtype == np.bool_ else kind
            flat = block.reshaped(*loop) if kind == "x" else block.reshaped(x.size)
            if kind in "xc":
                parts.append(flat)
            else:
                rest.append(flat)
        kernel = self.kernel(elementwise.map_kernel, formula, bits, pattern, condition)
        return self._rowwise(kernel, [*parts, target], rest, y.size, self.SHARE)

    def _bias_activation(
        self, call: Call, z: Value, bias: Any, formula: Any, parameters: Any, *, out: Value
    ) -> Ranks:
        bits = FLOATS.get(z.dtype)
        if bits is None:
            raise Unsupported
        if formula is None or bias is None:
            if (out != z or bias is None) and formula is None:
                raise Unsupported
            if formula is None:
                formula = _ADD
            xs = (z, *parameters) if bias is None else (z, bias)
            return self._map(call, formula, *xs, dtype=z.dtype, out=out)
        if lowering.refusal(binding.source(formula)) is not None:
            raise Unsupported
        kernel = self.kernel(elementwise.bias_activation, formula, bits, out == z)
        rest = [self.block(bias), *map(self.scalar, parameters)]
        parts = [self.block(z)] if out == z else [self.block(z), self.block(out)]
        return self._rowwise(kernel, parts, rest, z.size, self.SHARE)

    def _bias_activation_backward(
        self,
        call: Call,
        g: Value,
        saved: Value,
        derivative: Any,
        parameters: Any,
        *,
        with_bias: bool,
        out: Any = None,
    ) -> Ranks:
        bits = FLOATS.get(g.dtype)
        formula = binding.vjp(derivative)
        dz, dbias = call.outs
        if bits is None or not with_bias or dz is None or dbias is None:
            raise Unsupported
        if lowering.refusal(binding.source(formula)) is not None:
            raise Unsupported
        block, (n, m) = reductions.ROWS, g.shape
        count = -(-n // block)
        result = self.block(dbias)
        sums = self.scratch((count, m), g.dtype) if count > 1 else result.reshaped(1, m)
        gs, ss, ds = self.taken(g), self.taken(saved), self.block(dz)
        in_place = gs.place == ds.place
        kernel = self.kernel(elementwise.bias_activation_backward, formula, bits, in_place)
        taken = [gs, ss] if in_place else [gs, ss, ds]
        scalars = [self.scalar(x) for x in parameters]

        def make(start: int, stop: int) -> list[Item]:
            first, last = start * block, min(stop * block, n)
            rows = [x.part(first, last) for x in taken]
            return [kernel_call(kernel, *rows, sums.part(start, stop), block, *scalars)]

        ranks = self._split(make, count, g.size, self.SHARE, 1)
        return ranks if count == 1 else self.then(ranks, self.joined(sums, result, bits))

    def _update(self, call: Call, formula: Any, arrays: Any, scalars: Any) -> Ranks:
        bits = FLOATS.get(arrays[0].dtype)
        if bits is None or lowering.refusal(binding.source(formula)) is not None:
            raise Unsupported
        kernel = self.kernel(elementwise.update, formula, bits, len(arrays))
        parts = [self.block(x).reshaped(x.size) for x in arrays]
        rest = [self.scalar(x) for x in scalars]

        def make(start: int, stop: int) -> list[Item]:
            return [kernel_call(kernel, *(part.part(start, stop) for part in parts), *rest)]

        return self._split(make, arrays[0].size, arrays[0].size, self.SHARE, 64)


def _unrepeated(x: Value, into: tuple[int, ...]) -> Value:
    """An operand without the repetition that a broadcast view gave it."""
    shape = tuple(1 if stride == 0 else n for n, stride in zip(x.shape, x.strides, strict=True))
    return x if shape == x.shape else Value(x.storage, x.offset, shape, x.strides, x.dtype)


def _padded(x: Value, ndim: int) -> Value:
    """An operand with that many axes, the new ones first."""
    missing = ndim - len(x.shape)
    shape, strides = (1,) * missing + x.shape, (0,) * missing + x.strides
    return Value(x.storage, x.offset, shape, strides, x.dtype)


def _repeated(x: Value, into: tuple[int, ...]) -> Value:
    """An operand as a broadcast view of that shape."""
    x = _padded(x, len(into))
    steps = [0 if n == 1 else step for n, step in zip(x.shape, x.strides, strict=True)]
    return Value(x.storage, x.offset, into, tuple(steps), x.dtype)
