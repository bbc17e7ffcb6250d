"""Sums, softmax and cross-entropy as kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradnet.program.calls import Call, Value

from .. import operands
from ..operands import FLOATS
from ..templates import reductions, replayed, softmax
from .base import Ranks, Unsupported
from .copies import Copies, permuted
from .machine import Block, Item, kernel_call

# A vector of so many elements is summed by several threads.
_LONG = 1 << 15


class Rows(Copies):
    """Sums, softmax and cross-entropy as kernels."""

    # Along axes

    def _reduce(
        self, call: Call, kind: str, x: Value, axes: Any, keepdims: bool, *, dtype: Any, **_: Any
    ) -> Ranks:
        bits = FLOATS.get(x.dtype)
        if kind != "sum" or bits is None or dtype != x.dtype or not x.size:
            raise Unsupported
        order, (outer, count, inner), _shape = operands.fold(x.shape, axes, keepdims)
        (y,) = call.outs
        assert y is not None
        result = self.block(y)
        if order is not None:
            x = permuted(x, order)
        source = self.taken(x)
        if inner == 1 and outer == 1 and count >= _LONG:
            return self._long_sum(source, count, result, bits)
        if inner == 1:
            kernel = self.kernel(replayed.row_sums, bits, False)
            parts = [source.reshaped(outer, count), result.reshaped(outer)]
            return self._rowwise(kernel, parts, (), x.size, self.SHARE)
        blocks = -(-count // reductions.ROWS)
        if outer != 1:
            if blocks > 1:
                raise Unsupported
            kernel = self.kernel(reductions.columns, bits)
            parts = [source.reshaped(outer, count, inner), result.reshaped(outer, 1, inner)]
            return self._rowwise(kernel, parts, (), x.size, self.SHARE)
        sums = self.scratch((blocks, inner), x.dtype) if blocks > 1 else result
        table = source.reshaped(count, inner)
        kernel = self.kernel(reductions.columns, bits)

        def make(start: int, stop: int) -> list[Item]:
            rows = table.part(start * reductions.ROWS, min(stop * reductions.ROWS, count))
            into = sums.reshaped(blocks, inner).part(start, stop)
            return [
                kernel_call(kernel, rows.reshaped(1, *rows.shape), into.reshaped(1, *into.shape))
            ]

        ranks = self._split(make, blocks, x.size, self.SHARE, 1)
        return ranks if blocks == 1 else self.then(ranks, self.joined(sums, result, bits))

    def _long_sum(self, x: Block, count: int, result: Block, bits: int) -> Ranks:
        """The sum of a vector, whose blocks the threads share."""
        rows = -(-count // reductions.BLOCK)
        sums = self.scratch((rows,), np.float64)
        kernel = self.kernel(replayed.row_sums, bits, True)
        whole = count // reductions.BLOCK
        table = x.reshaped(count)

        def make(start: int, stop: int) -> list[Item]:
            part = table.part(start * reductions.BLOCK, stop * reductions.BLOCK)
            return [
                kernel_call(
                    kernel, part.reshaped(stop - start, reductions.BLOCK), sums.part(start, stop)
                )
            ]

        last: list[Item] = []
        if whole < rows:
            rest = table.part(whole * reductions.BLOCK, count)
            last.append(
                kernel_call(kernel, rest.reshaped(1, rest.shape[0]), sums.part(whole, rows))
            )
        last.append(kernel_call(self.kernel(replayed.total, bits), sums, result.reshaped(1)))
        return self.then(self._split(make, whole, count, self.SHARE, 1), *last)

    def _softmax(self, call: Call, x: Value, log: bool, *, out: Any = None) -> Ranks:
        bits = FLOATS.get(x.dtype)
        if bits is None or not x.size:
            raise Unsupported
        kernel = self.kernel(softmax.softmax, bits, log=log)
        parts = [self.taken(x), self.block(call.outs[0])]
        return self._rowwise(kernel, parts, (), x.size, self.SHARE_HEAVY)

    def _softmax_cross_entropy(
        self, call: Call, logits: Value, targets: Value, scale: Any, smoothing: float
    ) -> Ranks:
        bits = FLOATS.get(logits.dtype)
        classes = len(targets.shape) == 1
        if bits is None or not logits.size:
            raise Unsupported
        if targets.dtype != (np.int64 if classes else logits.dtype):
            raise Unsupported
        n, k = logits.shape
        if isinstance(scale, Value):
            scales = self.taken(scale)
        else:
            array = np.full(n, scale, logits.dtype)
            self.kept.append(array)
            scales = Block(array.ctypes.data, (n,), array.dtype.itemsize)
        kinds = {"classes": classes, "smooth": smoothing != 0, "short": softmax.short(k)}
        kernel = self.kernel(softmax.cross_entropy, bits, **kinds)
        parts = [self.taken(x) for x in (logits, targets)]
        parts += [scales, *(self.block(x) for x in call.outs)]
        return self._rowwise(kernel, parts, [float(smoothing)], logits.size, self.SHARE_HEAVY)
