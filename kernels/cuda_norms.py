"""The CUDA backend's normalisation of columns and rows: at most two launches each way."""

from __future__ import annotations

from functools import cache
from typing import Any

from gradnet import binding
from gradnet.backends import Array
from gradnet.dtypes import compute_dtype

from .cuda_computed import Following, Made, given
from .cuda_device import on_device
from .cuda_elementwise import floats
from .cuda_layout import BITS, code_of
from .cuda_rows import Rows, blocks_of, column_lanes, tiles_of
from .cuda_templates import norms, reductions
from .cuda_templates.computed import Activation
from .cuda_templates.program import BLOCKS, THREADS

_moments = cache(norms.moments)
_columns = cache(norms.columns)
_rows = cache(norms.rows)
_slope_sums = cache(norms.slope_sums)
_columns_backward = cache(norms.columns_backward)
_rows_backward = cache(norms.rows_backward)
_affine_sums = cache(norms.affine_sums)

# Blocks that sum the gradients of weight and bias over rows, and rows of such sums, that one
# launch joins: four blocks on each of a large device's multiprocessors.
_SUMMING = BLOCKS // 4
_MOST_SUMS = 64 * reductions.TERMS


class Norms(Rows):
    """What normalises columns and rows. Part of the CUDA backend."""

    @on_device
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
        y = self._device.empty(x.shape, x.dtype)
        working = compute_dtype(x.dtype)
        mean, factor = (self._device.empty((x.shape[1 - axis],), working) for _ in range(2))
        self._normalized(x, weight, bias, axis, eps, y, mean, factor, running, momentum)
        return y, mean, factor

    def _normalized(
        self,
        x: Array,
        weight: Array | None,
        bias: Array | None,
        axis: int,
        eps: float,
        y: Array,
        mean: Array,
        factor: Array,
        running: tuple[Array, Array] | None = None,
        momentum: Any = 0.0,
        following: Following | None = None,
    ) -> None:
        """As `normalize`, into contiguous arrays; `following` what is done to y's elements."""
        if not y.size:
            return
        x, (n, m), code = self._dense(x), x.shape, code_of(x.dtype)
        affine = "" if weight is None else code_of(weight.dtype)
        own = () if weight is None else (self._dense(weight), self._dense(bias))
        activation: Activation | None = None
        after: list[float] = []
        more: tuple[Array, ...] = ()
        if following is not None:
            formula, after = binding.source(following.formula), floats(following.numbers)
            more = () if following.out is None else (following.out,)
            activation = Activation(formula, bool(more))
        arrays = (x, *own, y, *more, mean, factor)
        if axis == 1:
            lanes = reductions.lanes_for(m)
            program = _rows(BITS[code], code, lanes, affine, activation)
            self._launch(program, blocks_of(n, lanes), *arrays, n, m, float(eps), *after)
            return
        lanes, length, parts = _cut(n, m)
        joined: tuple[Array, ...] = ()
        blocks = tiles_of(parts, m, lanes)
        if parts > 1:
            found = self._device.empty((2, parts, m), mean.dtype)
            program = _moments(BITS[code], code, lanes)
            self._launch(program, blocks, x, found, n, m, parts, length)
            joined = (found,)
        moved = () if running is None else tuple(self._dense(t) for t in running)
        kind = code_of(moved[0].dtype) if moved else ""
        program = _columns(BITS[code], code, lanes, affine, kind, bool(joined), activation)
        numbers = [float(eps)]
        if moved:
            numbers += [1 - momentum, momentum, n / (n - 1)]
        sizes = (n, m, parts, length)
        self._launch(program, blocks, *arrays, *moved, *joined, *sizes, *numbers, *after)
        for target, done in zip(running or (), moved, strict=True):
            self._copied(done, target)

    @on_device
    def normalize_backward(
        self,
        g: Array,
        x: Array,
        weight: Array | None,
        mean: Array,
        factor: Array,
        axis: int,
    ) -> tuple[Array, Array | None, Array | None]:
        dx = self._device.empty(x.shape, x.dtype)
        dweight = dbias = None
        if weight is not None:
            dweight, dbias = (self._device.empty(weight.shape, weight.dtype) for _ in range(2))
        self._normalized_backward(g, x, weight, mean, factor, axis, dx, dweight, dbias)
        return dx, dweight, dbias

    def _normalized_backward(
        self,
        g: Array | Made,
        x: Array,
        weight: Array | None,
        mean: Array,
        factor: Array,
        axis: int,
        dx: Array,
        dweight: Array | None,
        dbias: Array | None,
    ) -> None:
        """As `normalize_backward`, into contiguous arrays; g may be computed on the way."""
        results = () if dweight is None or dbias is None else (dweight, dbias)
        if not dx.size:
            for result in results:
                result.fill(0)
            return
        x, (n, m), code = self._dense(x), x.shape, code_of(x.dtype)
        gradient, brought = given(g if isinstance(g, Made) else self._dense(g))
        bits, affine = BITS[code], "" if weight is None else code_of(weight.dtype)
        scale = () if weight is None else (self._dense(weight),)
        statistics = self._dense(mean), self._dense(factor)
        arrays = (*brought, x, *scale, *statistics, dx)
        if axis == 0:
            lanes, length, parts = _cut(n, m)
            sizes, blocks = (n, m, parts, length), tiles_of(parts, m, lanes)
            joined: tuple[Array, ...] = ()
            if parts > 1:
                joined = (self._device.empty((2, parts, m), mean.dtype),)
                program = _slope_sums(bits, code, lanes, gradient)
                self._launch(program, blocks, *brought, x, *statistics, *joined, *sizes)
            program = _columns_backward(bits, code, lanes, affine, bool(joined), gradient)
            self._launch(program, blocks, *arrays, *results, *joined, *sizes)
            return
        lanes, blocks = reductions.lanes_for(m), blocks_of(n, reductions.lanes_for(m))
        if not results:
            program = _rows_backward(bits, code, lanes, "", 1, gradient)
            self._launch(program, blocks, *arrays, n, m)
            return
        wide = norms.side_by_side(m)
        groups = THREADS // wide
        blocks = min(blocks, _SUMMING, _MOST_SUMS // groups)
        count = blocks * groups
        found = self._device.empty((2, count, m), mean.dtype)
        program = _rows_backward(bits, code, lanes, affine, wide, gradient)
        self._launch(program, blocks, *arrays, found, n, m, count)
        lanes = column_lanes(m)
        while lanes < THREADS and lanes * reductions.TERMS < count:
            lanes *= 2
        program = _affine_sums(bits, affine, lanes)
        self._launch(program, tiles_of(2, m, lanes), found, *results, 2 * count, m, 2, count)


def _cut(n: int, m: int) -> tuple[int, int, int]:
    """Threads for each column, and the rows and number of the parts that columns are cut into."""
    lanes = column_lanes(m)
    length = norms.part_length(n, lanes)
    return lanes, length, -(-n // length)
