"""Normalisation of NumPy arrays by compiled loops over the rows or columns of tables."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from gradnet.backends import Array
from gradnet.dtypes import float32, float64, is_half
from gradnet.numpy_backend import NumpyBackend
from gradnet.numpy_calls import empty
from gradnet.numpy_norms import follow

from . import compiler, tables, threads
from .compiler import Kernel
from .operands import FLOATS
from .templates import norms, reductions

# The values are gone over several times: half as many of them are worth a thread.
_SHARE = threads.SHARE // 2
# Columns that threads take at least: a line of the cache.
_LINE = 16


@cache
def _kernel(name: str, bits: int) -> Kernel:
    return compiler.entry(compiler.compiled(*getattr(norms, name)(bits)))


def _compiled(x: Array, *others: Array | None) -> bool:
    """Whether loops are compiled for a table and what goes with it."""
    return x.dtype in FLOATS and x.size > 0 and all(t is None or t.dtype is x.dtype for t in others)


class Norms(NumpyBackend):
    """What normalises the arrays of the NumPy backend."""

    def normalize(
        self,
        x: Array,
        weight: Array | None,
        bias: Array | None,
        axis: int,
        eps: float,
        *,
        running: tuple[Array, Array] | None = None,
        momentum: float = 0.0,
    ) -> tuple[Array, Array, Array]:
        if is_half(x.dtype):
            wide, w, c = (_wide(t) for t in (x, weight, bias))
            y, mean, factor = self.normalize(
                wide, w, c, axis, eps, running=running, momentum=momentum
            )
            return self.cast(y, x.dtype), mean, factor
        if not _compiled(x, weight, bias):
            return super().normalize(x, weight, bias, axis, eps, running=running, momentum=momentum)
        dtype, (n, m) = x.dtype, x.shape
        w, c = _affine(weight, bias, m, dtype)
        x, y = np.ascontiguousarray(x), empty((n, m), dtype)
        mean, factor = np.empty(x.shape[1 - axis], dtype), np.empty(x.shape[1 - axis], dtype)
        if axis == 1:
            kernel = _kernel("rows", FLOATS[dtype])
            threads.launch(kernel, [x, y, mean, factor], [w, c, float(eps)], x.size, _SHARE)
            return y, mean, factor
        part, total = np.empty(m, dtype), np.empty(m, float64)
        fits = running is not None and all(
            t.dtype is dtype and t.flags.c_contiguous and t.flags.writeable for t in running
        )
        following = running if running is not None and fits else (part, part)
        numbers = (float(eps), float(momentum), int(fits))
        kernel = _kernel("columns", FLOATS[dtype])

        def work(start: int, stop: int) -> None:
            kernel(x, w, c, y, mean, factor, *following, part, total, start, stop, *numbers)

        _by_columns(work, n, m)
        if running is not None and not fits:
            follow(running, mean, x.var(0), n, momentum)
        return y, mean, factor

    def normalize_backward(
        self,
        g: Array,
        x: Array,
        weight: Array | None,
        mean: Array,
        factor: Array,
        axis: int,
    ) -> tuple[Array, Array | None, Array | None]:
        if is_half(x.dtype):
            wide_g, wide_x, w = (_wide(t) for t in (g, x, weight))
            dx, *rest = self.normalize_backward(wide_g, wide_x, w, mean, factor, axis)
            if weight is None:
                return self.cast(dx, x.dtype), None, None
            dweight, dbias = (self.cast(t, weight.dtype) for t in rest)
            return self.cast(dx, x.dtype), dweight, dbias
        if not _compiled(x, g, weight, mean, factor):
            return super().normalize_backward(g, x, weight, mean, factor, axis)
        dtype, (n, m) = x.dtype, x.shape
        w, _ = _affine(weight, None, m, dtype)
        g, x, dx = np.ascontiguousarray(g), np.ascontiguousarray(x), empty((n, m), dtype)
        if axis == 0:
            dweight, dbias, *rooms = (np.empty(m, dtype) for _ in range(4))
            totals = np.empty(m, float64), np.empty(m, float64)
            kernel = _kernel("columns_backward", FLOATS[dtype])

            def work(start: int, stop: int) -> None:
                made = dx, dweight, dbias, *totals, *rooms
                kernel(g, x, w, mean, factor, *made, start, stop)

            _by_columns(work, n, m)
        else:
            block = reductions.ROWS
            sums = [np.empty((-(-n // block), m), dtype) for _ in range(2)]
            kernel = _kernel("rows_backward", FLOATS[dtype])

            def work(start: int, stop: int) -> None:
                part, own = slice(start * block, stop * block), slice(start, stop)
                tables_ = [t[part] for t in (g, x, mean, factor, dx)]
                kernel(*tables_, *(t[own] for t in sums), w)

            threads.share(work, len(sums[0]), threads.whole_rows(_SHARE, m * block))
            dweight, dbias = (tables.joined(t[None])[0] for t in sums)
        return (dx, None, None) if weight is None else (dx, dweight, dbias)


def _wide(x: Array | None) -> Any:
    return None if x is None else x.astype(float32, copy=False)


def _affine(weight: Array | None, bias: Array | None, m: int, dtype: Any) -> tuple[Array, Array]:
    """Weight and bias as kernels take them."""
    w = np.ones(m, dtype) if weight is None else np.ascontiguousarray(weight)
    return w, np.zeros(m, dtype) if bias is None else np.ascontiguousarray(bias)


def _by_columns(work: threads.Work, n: int, m: int) -> None:
    """Work on m columns of n elements, by several threads if it pays."""
    if 2 * n * m < _SHARE:
        work(0, m)
    else:
        threads.share(work, m, max(_LINE, threads.whole_rows(_SHARE, n)), _LINE)
