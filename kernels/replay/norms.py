"""Normalisation and its gradient as kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradnet.program.calls import Call, Value

from ..operands import FLOATS
from ..templates import norms, reductions
from .base import Ranks, Unsupported
from .copies import Copies
from .machine import Block, Item, kernel_call

# Columns that a thread takes at least: a line of the cache.
_LINE = 16


class Norms(Copies):
    """Normalisation and its gradient as kernels."""

    def _normalize(
        self,
        call: Call,
        x: Value,
        weight: Any,
        bias: Any,
        axis: int,
        eps: float,
        *,
        running: Any = None,
        momentum: Any = 0.0,
    ) -> Ranks:
        bits = self._bits(x, weight, bias, *(running or ()))
        m = x.shape[1]
        outs = [self.block(t) for t in call.outs]
        source = self.taken(x)
        w, c = self._operand(weight, 1.0, x), self._operand(bias, 0.0, x)
        if axis == 1:
            kernel = self.kernel(norms.rows, bits)
            parts = [source, *outs]
            return self._rowwise(kernel, parts, [w, c, float(eps)], x.size, self.SHARE)
        kernel = self.kernel(norms.columns, bits)
        part, total = self.scratch((m,), x.dtype), self.scratch((m,), np.float64)
        following = [self.block(t) for t in running] if running else [part, part]
        numbers = [float(eps), self.scalar(momentum), int(running is not None)]

        def make(start: int, stop: int) -> list[Item]:
            given = [source, w, c, *outs, *following, part, total]
            return [kernel_call(kernel, *given, start, stop, *numbers)]

        return self._split(make, m, x.size, self.SHARE, _LINE)

    def _normalize_backward(
        self, call: Call, g: Value, x: Value, weight: Any, mean: Value, factor: Value, axis: int
    ) -> Ranks:
        bits = self._bits(x, g, weight, mean, factor)
        n, m = x.shape
        dx = self.block(call.outs[0])
        given = [self.taken(t) for t in (g, x)]
        statistics = [self.taken(t) for t in (mean, factor)]
        w = self._operand(weight, 1.0, x)
        results = [
            self.scratch((m,), x.dtype) if weight is None else self.block(t) for t in call.outs[1:]
        ]
        if axis == 0:
            kernel = self.kernel(norms.columns_backward, bits)
            totals = [self.scratch((m,), np.float64) for _ in range(2)]
            rooms = [self.scratch((m,), x.dtype) for _ in range(2)]

            def columns(start: int, stop: int) -> list[Item]:
                taken = [*given, w, *statistics, dx, *results, *totals, *rooms]
                return [kernel_call(kernel, *taken, start, stop)]

            return self._split(columns, m, x.size, self.SHARE, _LINE)
        kernel = self.kernel(norms.rows_backward, bits)
        block = reductions.ROWS
        count = -(-n // block)
        whole = [r.reshaped(1, m) for r in results]
        sums = whole if count == 1 else [self.scratch((count, m), x.dtype) for _ in range(2)]

        def rows(start: int, stop: int) -> list[Item]:
            first, last = start * block, min(stop * block, n)
            taken = [t.part(first, last) for t in (*given, *statistics, dx)]
            return [kernel_call(kernel, *taken, *(s.part(start, stop) for s in sums), w)]

        ranks = self._split(rows, count, x.size, self.SHARE, 1)
        if count == 1:
            return ranks
        pairs = zip(sums, results, strict=True)
        return self.then(ranks, *(self.joined(s, result, bits) for s, result in pairs))

    def _bits(self, x: Value, *others: Any) -> int:
        """The size of the floats, which all have. Raises Unsupported."""
        bits = FLOATS.get(x.dtype)
        alike = all(t.dtype == x.dtype for t in others if t is not None)
        if bits is None or not x.size or not alike:
            raise Unsupported
        return bits

    def _operand(self, value: Any, otherwise: float, x: Value) -> Block:
        """A weight or a bias; numbers where there is none."""
        if value is not None:
            return self.taken(value)
        array = np.full(x.shape[1], otherwise, x.dtype)
        self.kept.append(array)
        return Block(array.ctypes.data, array.shape, array.dtype.itemsize)
