"""Copies: arrays brought into row-major order, filled, or moved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradnet.program.calls import Call, Value

from .. import blas_entry
from ..operands import FLOATS
from ..templates import gather, replayed
from .base import Base, Ranks, Unsupported
from .machine import Argument, Block, Item, Native, kernel_call, moved

# Axes that a copy may step along, when those that follow one another in memory are joined.
_AXES = 4


class Copies(Base):
    """Brings arrays into row-major order."""

    def taken(self, value: Any) -> Block:
        """An array to be read, in row-major order; a copy is made first where it is not."""
        if not isinstance(value, Value) or value.contiguous:
            return self.block(value)
        copy = self.scratch(value.shape, value.dtype)
        self.before.append(self._copied(value, copy))
        return copy

    def _copied(self, x: Value, target: Block) -> Ranks:
        """The elements of `x` in row-major order."""
        size = x.dtype.itemsize
        if not x.size:
            return [[]]
        if x.contiguous:
            return self._moved(self.block(x), target, x.size * size)
        shape, strides = _joined(x)
        steps = [stride // size for stride in strides]
        exact = all(stride % size == 0 and stride >= 0 for stride in strides)
        if len(shape) > _AXES or not exact or size not in (1, 2, 4, 8):
            raise Unsupported
        missing = _AXES - len(shape)
        counts, steps = [1] * missing + shape, [0] * missing + steps
        kernel = self.kernel(replayed.strided, f"uint{8 * size}", steps[-1] == 1)
        reach = sum((n - 1) * step for n, step in zip(counts, steps, strict=True)) + 1
        place = self.place(x)
        table = target.reshaped(shape[0], math.prod(shape[1:]))

        def make(start: int, stop: int) -> list[Item]:
            ahead = start * steps[missing]
            source = Block(moved(place, ahead * size), (reach - ahead,), size)
            part = [stop - start if i == missing else n for i, n in enumerate(counts)]
            into = table.part(start, stop).reshaped((stop - start) * table.shape[1])
            return [kernel_call(kernel, source, into, *part, *steps)]

        return self._split(make, shape[0], x.size, self.SHARE, 1)

    def _moved(self, source: Block, target: Block, total: int) -> Ranks:
        def make(start: int, stop: int) -> list[Item]:
            pointers = [Argument("ptr", moved(b.place, start)) for b in (target, source)]
            length = Argument("i64", stop - start)
            return [Native(blas_entry.memmove(), "ptr", (*pointers, length))]

        return self._split(make, total, total, 4 * self.SHARE, 64)

    def _cast(self, call: Call, x: Value, dtype: Any, *, out: Any = None) -> Ranks:
        y = call.outs[0]
        assert y is not None
        if x.dtype != y.dtype:
            raise Unsupported
        return self._copied(x, self.block(y))

    def _reshape(self, call: Call, x: Value, shape: Any) -> Ranks:
        return self._copied(x, self.block(call.outs[0]))

    def _take(self, call: Call, x: Value, index: Any, *, out: Any = None) -> Ranks:
        """Rows at an array of indices, which are looked at first, once for all tables so long."""
        (y,), (n, *row) = call.outs, x.shape
        rows = index[0] if len(index) == 1 else None
        if not isinstance(rows, Value) or rows.dtype != np.int64 or not rows.size:
            raise Unsupported
        assert y is not None
        width = x.dtype.itemsize * math.prod(row)
        if not width:
            raise Unsupported
        kernel = self.kernel(gather.picked, width)
        table = Block(self.block(x).place, (n, width), 1)
        result = Block(self.block(y).place, (rows.size, width), 1)
        parts = [self.block(rows).reshaped(rows.size), result]
        if (rows, n) not in self.looked_at:
            self.before.append(self.guarded(call, rows, [-n, n - 1]))
            self.looked_at.add((rows, n))

        def make(start: int, stop: int) -> list[Item]:
            where, into = (part.part(start, stop) for part in parts)
            return [kernel_call(kernel, table, where, into)]

        return self._split(make, rows.size, y.size, self.SHARE, 1)

    def _full(self, call: Call, shape: Any, value: Any, dtype: Any, *, out: Any = None) -> Ranks:
        bits = FLOATS.get(np.dtype(dtype))
        if bits is None:
            raise Unsupported
        target = self.block(call.outs[0])
        count = math.prod(target.shape)
        kernel = self.kernel(replayed.filled, bits)
        return self._rowwise(
            kernel, [target.reshaped(count)], [self.scalar(value)], count, self.SHARE
        )


def _joined(x: Value) -> tuple[list[int], list[int]]:
    """Shape and strides without axes of one element, and with those joined that follow on."""
    shape: list[int] = []
    strides: list[int] = []
    for n, stride in zip(x.shape, x.strides, strict=True):
        if n == 1:
            continue
        if shape and strides[-1] == n * stride:
            shape[-1] *= n
            strides[-1] = stride
        else:
            shape.append(n)
            strides.append(stride)
    return shape or [1], strides or [0]


def permuted(x: Value, order: Sequence[int]) -> Value:
    """The same elements with axes in another order."""
    shape, strides = (tuple(part[axis] for axis in order) for part in (x.shape, x.strides))
    return Value(x.storage, x.offset, shape, strides, x.dtype)
