"""The CUDA backend's work along axes: reductions, scans, softmax, cross-entropy, bias gradients."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from gradnet import binding
from gradnet.backends import Array, Formula, Scalar
from gradnet.dtypes import DType, bool_, compute_dtype

from .cuda_computed import Made, given
from .cuda_device import on_device
from .cuda_elementwise import compiles, floats, width_of
from .cuda_layout import BITS, code_of
from .cuda_scaled import Scaled
from .cuda_templates import reductions, softmax
from .cuda_templates.program import BLOCKS, THREADS
from .operands import fold

_rows = cache(reductions.rows)
_columns = cache(reductions.columns)
_argreduce = cache(reductions.argreduce)
_scan = cache(reductions.scan)
_softmax = cache(softmax.softmax)
_cross_entropy = cache(softmax.cross_entropy)

# Blocks that keep a large device busy.
ENOUGH = 264

_EMPTY = {"sum": 0, "prod": 1, "any": False, "all": True}
_CUPY = {"sum": "sum", "prod": "prod", "max": "amax", "min": "amin", "any": "any", "all": "all"}


def blocks_of(items: int, lanes: int) -> int:
    """Blocks for items that `lanes` threads share."""
    return max(1, min(-(-items * lanes // THREADS), BLOCKS))


def tiles_of(items: int, m: int, lanes: int, width: int = 1) -> int:
    """Blocks for items of m columns, `lanes` threads for each `width` columns."""
    wide = THREADS // lanes * width
    return max(1, min(items * -(-m // wide), BLOCKS))


def _column_width(items: int, m: int, lanes: int, *arrays: Array) -> int:
    """Columns that a thread takes: those of a load of 8 bytes, if all of a device has work then."""
    width = max(1, width_of(*arrays) // 2)
    while width > 1 and (m % width or tiles_of(items, m, lanes, width) < ENOUGH):
        width //= 2
    return width


def _arrays(arguments: tuple[Any, ...]) -> list[Array]:
    """Those of a kernel's arguments that are no numbers."""
    return [x for x in arguments if not isinstance(x, float)]


def column_lanes(m: int) -> int:
    """Threads for each column: few columns leave more of a block to each."""
    lanes = 8
    while lanes < 64 and THREADS // lanes >= 2 * m:
        lanes *= 2
    return lanes


def sums_losses(n: int, k: int) -> bool:
    """Whether one block takes so few rows of logits that it can add up what it finds on the way.

    It adds in the order of `reduce`.
    """
    few = n * reductions.lanes_for(k) <= 2 * softmax.ROUNDS * THREADS
    lanes = reductions.lanes_for(n), column_lanes(k)
    return few and all(reductions.segments(n, one) == 1 for one in lanes)


class Rows(Scaled):
    """What joins elements along axes. Part of the CUDA backend."""

    @on_device
    def reduce(
        self,
        kind: str,
        x: Array,
        axes: tuple[int, ...],
        keepdims: bool,
        *,
        dtype: DType,
        out: Array | None = None,
    ) -> Array:
        source, target = code_of(x.dtype), code_of(dtype)
        whether = kind in ("any", "all")
        own = bool(source) and dtype == bool_ if whether else source in BITS and target in BITS
        if not own:
            return self._reduced_by_cupy(kind, x, axes, keepdims, dtype, out)
        order, (outer, count, inner), shape = fold(x.shape, axes, keepdims)
        whole = out is not None and out.flags.c_contiguous
        y = out if whole else self._device.empty(shape, dtype)
        assert y is not None
        if not y.size:
            return y
        if not count:
            y.fill(_EMPTY[kind])
        else:
            x = self._dense(x if order is None else x.transpose(order))
            bits = 64 if BITS.get(target) == 64 else 32
            self._folded(kind, bits, x, y, outer, count, inner)
        return y if out is None or y is out else self._copied(y, out)

    def _folded(
        self, kind: str, bits: int, x: Array | Made, y: Array, outer: int, count: int, inner: int
    ) -> None:
        """Reduce the middle of three axes of `x` into `y`, in as many launches as it takes."""
        operand, brought = given(x)
        lanes = reductions.lanes_for(count) if inner == 1 else column_lanes(inner)
        parts = reductions.segments(count, lanes)
        between = y
        if parts > 1:
            working = y.dtype if kind in ("any", "all") else compute_dtype(y.dtype)
            between = self._device.empty((outer, parts, inner), working)
        code = code_of(between.dtype)
        if inner == 1:
            rows = _rows(kind, bits, operand, code, lanes)
            items = outer * parts
            self._launch(rows, blocks_of(items, lanes), *brought, between, outer, count, parts)
        else:
            width = _column_width(outer * parts, inner, lanes, *_arrays(brought))
            columns = _columns(kind, bits, operand, code, lanes, None, width)
            blocks = tiles_of(outer * parts, inner, lanes, width)
            self._launch(columns, blocks, *brought, between, outer, count, inner, parts)
        if parts > 1:
            self._folded(kind, bits, between, y, outer, parts, inner)

    def _reduced(self, x: Made, axes: tuple[int, ...], y: Array) -> None:
        """The sum of what is computed, into a contiguous array."""
        shape = next(v.shape for v in x.operands if isinstance(v, self._device.cupy.ndarray))
        _, (outer, count, inner), _ = fold(shape, axes, False)
        bits = 64 if BITS[code_of(y.dtype)] == 64 else 32
        self._folded("sum", bits, x, y, outer, count, inner)

    def _reduced_by_cupy(
        self,
        kind: str,
        x: Array,
        axes: tuple[int, ...],
        keepdims: bool,
        dtype: DType,
        out: Array | None,
    ) -> Array:
        options: dict[str, Any] = {"axis": axes, "keepdims": keepdims}
        if kind in ("sum", "prod"):
            options["dtype"] = compute_dtype(dtype)
        found = getattr(self._device.cupy, _CUPY[kind])(x, **options)
        y = self._device.empty(found.shape, dtype) if out is None else out
        return self._copied(found, y)

    @on_device
    def argreduce(self, kind: str, x: Array, axis: int, *, out: Array | None = None) -> Array:
        axis %= x.ndim
        _, (outer, count, inner), shape = fold(x.shape, (axis,), False)
        whole = out is not None and out.flags.c_contiguous
        y = out if whole else self._device.empty(shape, np.dtype(np.int64))
        assert y is not None
        code = code_of(x.dtype)
        if code not in BITS:
            cupy = self._device.cupy
            self._copied((cupy.argmax if kind == "max" else cupy.argmin)(x, axis=axis), y)
        elif y.size:
            lanes = reductions.lanes_for(count)
            program = _argreduce(kind, BITS[code], code, lanes)
            blocks = blocks_of(outer * inner, lanes)
            self._launch(program, blocks, self._dense(x), y, outer, count, inner)
        return y if out is None or y is out else self._copied(y, out)

    @on_device
    def scan(self, kind: str, x: Array, axis: int, *, out: Array | None = None) -> Array:
        axis %= x.ndim
        _, (outer, count, inner), _ = fold(x.shape, (axis,), False)
        whole = out is not None and out.flags.c_contiguous and out is not x
        y = out if whole else self._device.empty(x.shape, x.dtype)
        assert y is not None
        code = code_of(x.dtype)
        if code not in BITS:
            self._copied(self._scanned_by_cupy(kind, x, axis), y)
        elif y.size:
            program = _scan(kind, BITS[code], code)
            blocks = max(1, min(outer * inner, BLOCKS))
            self._launch(program, blocks, self._dense(x), y, outer, count, inner)
        return y if out is None or y is out else self._copied(y, out)

    def _scanned_by_cupy(self, kind: str, x: Array, axis: int) -> Array:
        cupy = self._device.cupy
        if kind in ("sum", "prod"):
            return (cupy.cumsum if kind == "sum" else cupy.cumprod)(x, axis=axis, dtype=x.dtype)
        # CuPy has no running extreme: integers by doubling steps, each a launch.
        larger = cupy.maximum if kind == "max" else cupy.minimum
        y, reach = x.copy(), 1
        while reach < x.shape[axis]:
            head, tail = [slice(None)] * x.ndim, [slice(None)] * x.ndim
            head[axis], tail[axis] = slice(None, -reach), slice(reach, None)
            y[tuple(tail)] = larger(y[tuple(tail)], y[tuple(head)])
            reach *= 2
        return y

    @on_device
    def bias_activation_backward(
        self,
        g: Array,
        saved: Array,
        derivative: Formula,
        parameters: tuple[Scalar, ...],
        *,
        with_bias: bool,
        out: Array | None = None,
    ) -> tuple[Array, Array | None]:
        formula, code = binding.vjp(derivative), code_of(g.dtype)
        fused = with_bias and g.size and code in BITS and compiles(formula)
        if not fused or not (out is None or out.flags.c_contiguous):
            dz = self.map(formula, g, saved, *parameters, dtype=g.dtype, out=out)
            return dz, self.reduce("sum", dz, (0,), False, dtype=g.dtype) if with_bias else None
        dz = self._device.empty(g.shape, g.dtype) if out is None else out
        dbias = self._device.empty((g.shape[1],), g.dtype)
        self._slope(g, saved, derivative, parameters, dz, dbias)
        return dz, dbias

    def _slope(
        self,
        g: Array | Made,
        saved: Array,
        derivative: Formula,
        parameters: tuple[Scalar, ...],
        dz: Array,
        dbias: Array,
    ) -> None:
        """Both results of `bias_activation_backward` by one kernel, in contiguous memory."""
        (n, m), formula, code = dz.shape, binding.vjp(derivative), code_of(dz.dtype)
        lanes, bits = column_lanes(m), BITS[code]
        parts = reductions.segments(n, lanes)
        sums = dbias if parts == 1 else self._device.empty((1, parts, m), compute_dtype(dz.dtype))
        source = binding.source(formula)
        operand, brought = given(g if isinstance(g, Made) else self._dense(g))
        arrays = (*brought, self._dense(saved), dz)
        width = _column_width(parts, m, lanes, *_arrays(arrays))
        program = _columns("sum", bits, operand, code_of(sums.dtype), lanes, source, width)
        rest = (1, n, m, parts, *floats(parameters))
        self._launch(program, tiles_of(parts, m, lanes, width), *arrays, sums, *rest)
        if parts > 1:
            self._folded("sum", bits, sums, dbias, 1, parts, m)

    @on_device
    def softmax(self, x: Array, log: bool, *, out: Array | None = None) -> Array:
        whole = out is not None and out.flags.c_contiguous
        y = out if whole else self._device.empty(x.shape, x.dtype)
        assert y is not None
        if x.size:
            (n, k), code = x.shape, code_of(x.dtype)
            lanes = reductions.lanes_for(k)
            program = _softmax(BITS[code], code, log, lanes)
            self._launch(program, blocks_of(n, lanes), self._dense(x), y, n, k)
        return y if out is None or y is out else self._copied(y, out)

    @on_device
    def softmax_cross_entropy(
        self, logits: Array, targets: Array, scale: Array | float, smoothing: float
    ) -> tuple[Array, Array]:
        losses = self._device.empty(logits.shape[:1], logits.dtype)
        gradient = self._device.empty(logits.shape, logits.dtype)
        self._losses(logits, targets, scale, smoothing, losses, gradient)
        return losses, gradient

    def _losses(
        self,
        logits: Array,
        targets: Array,
        scale: Array | float,
        smoothing: float,
        losses: Array,
        gradient: Array,
        *,
        notes: Array | None = None,
        rounded: Array | None = None,
        times: Array | None = None,
        total: Array | None = None,
        columns: Array | None = None,
    ) -> None:
        """Both results of `softmax_cross_entropy`, in contiguous memory.

        A class out of range is told in `notes`, where they are given, and the gradient is written
        in 16 bits too, to `rounded`. It is multiplied by the number in `times`; the sum of the
        losses goes to `total`, and those of the gradient's columns to `columns`: where
        `sums_losses` holds.
        """
        (n, k), code = logits.shape, code_of(logits.dtype)
        if not gradient.size:
            losses.fill(0)
            return
        classes = targets.ndim == 1
        if classes and targets.dtype != np.int64:
            targets = self._cast(targets, np.dtype(np.int64), None)
        elif not classes and targets.dtype != logits.dtype:
            targets = self._cast(targets, logits.dtype, None)
        weighted = isinstance(scale, self._device.cupy.ndarray)
        if weighted:
            scale = self._dense(scale)
            if scale.dtype != logits.dtype or scale.shape != (n,):
                scale = self._device.cupy.broadcast_to(scale, (n,))
                scale = self._cast(scale, logits.dtype, None)
        lanes = reductions.lanes_for(k)
        program = _cross_entropy(
            *(BITS[code], code, lanes),
            classes=classes,
            smooth=smoothing != 0,
            weighted=weighted,
            noted=notes is not None,
            rounded="" if rounded is None else code_of(rounded.dtype),
            times=times is not None,
            total=0 if total is None else reductions.lanes_for(n),
            columns=0 if columns is None else column_lanes(k),
        )
        arrays = (self._dense(logits), self._dense(targets), scale, losses, gradient)
        further = [x for x in (rounded, times, total, columns) if x is not None]
        numbers = (1.0 - smoothing, smoothing / k)
        noted = () if notes is None else (notes,)
        blocks = 1 if program.threads > THREADS else blocks_of(n, lanes)
        self._launch(program, blocks, *arrays, *further, n, k, *numbers, *noted)
