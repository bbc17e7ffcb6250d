"""The CPU backend whose loops Numba compiles: one pass over NumPy arrays where NumPy takes many.

It is the NumPy backend with what is faster compiled put in its place. A formula has one
implementation per dtype here, NumPy's function or a compiled loop, whatever the shape and layout
of its operands; and no result depends on the number of threads.
"""

from __future__ import annotations

import contextvars
import math
import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from gradnet import binding, formulas, philox
from gradnet.backends import Array, Backend, Formula, Index, Scalar, Shape
from gradnet.dtypes import DType, float32, float64, is_half
from gradnet.numpy_backend import UFUNCS, NumpyBackend

from . import compiler, lowering, threads
from .compiler import Kernel
from .templates import elementwise, gather, reductions, softmax
from .templates import philox as philox_kernels

# Elements that one thread takes at least: some 100 microseconds of work, twice what it takes to
# wake another. Random numbers and rows of softmax are ten times the work.
_SHARE = 1 << 18
_SHARE_HEAVY = 1 << 15

# A row of so many elements is summed in blocks, whatever the number of threads.
_LONG_ROW = 1 << 19

_FLOATS = {float32: 32, float64: 64}


class _Quiet(threading.local):
    """Calls functions where NumPy gives no floating-point warnings.

    A context of this thread that has been told so once: entering np.errstate at every call takes
    longer than a small array's sum.
    """

    def __init__(self) -> None:
        context = contextvars.Context()
        context.run(np.seterr, all="ignore")
        self.call = context.run


_quiet = _Quiet()


@cache
def _route(formula: Formula) -> np.ufunc | binding.Source | None:
    """How a formula is computed: by NumPy's function, by a compiled loop, or by neither."""
    name = formula.__name__
    if formulas.FORMULAS.get(name) is formula or binding.is_primitive(formula):
        found = UFUNCS.get(name)
        if found is not None:
            return found
    source = binding.source(formula)
    return source if lowering.refusal(source) is None else None


def _compilable(formula: Formula) -> binding.Source | None:
    found = _route(formula)
    return found if isinstance(found, binding.Source) else None


@cache
def _map_kernel(formula: Formula, bits: int, pattern: str, condition: bool) -> Kernel:
    text = elementwise.map_kernel(binding.source(formula), bits, pattern, condition=condition)
    return compiler.compiled(*text)


@cache
def _kernel(build: Callable[..., elementwise.Text], *arguments: Any, **options: Any) -> Kernel:
    """The kernel that a template builds."""
    return compiler.compiled(*build(*arguments, **options))


class NumbaBackend(NumpyBackend):
    """NumPy arrays and compiled loops on the CPU."""

    name: str = "numba"

    def from_host(self, x: np.ndarray[Any, Any], *, copy: bool) -> Array:
        # Kernels are compiled for aligned elements.
        return super().from_host(x, copy=copy or not x.flags.aligned)

    def map(
        self, formula: Formula, *xs: Array | Scalar, dtype: DType, out: Array | None = None
    ) -> Array:
        route = _route(formula)
        arrays = [x for x in xs if isinstance(x, np.ndarray)]
        common = arrays[0].dtype
        if common.char == "?":
            common = next((x.dtype for x in arrays if x.dtype.char != "?"), common)
        if isinstance(route, np.ufunc):
            if is_half(common):
                return super().map(formula, *xs, dtype=dtype, out=out)
            if common.kind in "fc":
                xs = tuple(x if isinstance(x, np.ndarray) else common.type(x) for x in xs)
            result = _quiet.call(route, *xs, out=out)
            return result if isinstance(result, np.ndarray) else np.asarray(result, dtype)
        bits = _FLOATS.get(common)
        condition = dtype.char == "?"
        if route is None or bits is None or not (condition or dtype == common):
            return super().map(formula, *xs, dtype=dtype, out=out)
        return _mapped(formula, bits, xs, arrays, dtype, out)

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
        bits = _FLOATS.get(x.dtype)
        if kind not in ("sum", "max", "min") or bits is None or dtype != x.dtype or not x.size:
            return super().reduce(kind, x, axes, keepdims, dtype=dtype, out=out)
        axes = tuple(sorted(axis % x.ndim for axis in axes))
        kept = [n for axis, n in enumerate(x.shape) if axis not in axes]
        shape = tuple(kept)
        if keepdims:
            shape = tuple(1 if axis in axes else n for axis, n in enumerate(x.shape))
        if axes and axes != tuple(range(axes[0], axes[-1] + 1)):
            rest = [axis for axis in range(x.ndim) if axis not in axes]
            x = x.transpose(*rest, *axes)
            axes = tuple(range(len(rest), x.ndim))
        first, last = (axes[0], axes[-1] + 1) if axes else (x.ndim, x.ndim)
        outer, count = math.prod(x.shape[:first]), math.prod(x.shape[first:last])
        table = np.ascontiguousarray(x).reshape(outer, count, -1)
        if table.shape[2] == 1:
            result = _reduced_rows(kind, table.reshape(outer, count), bits)
        elif kind == "sum":
            result = _summed_columns(table, bits)
        else:
            result = (np.maximum if kind == "max" else np.minimum).reduce(table, axis=1)
        return _placed(result, shape, dtype, out)

    def put(self, x: Array, index: Index, values: Array | Scalar, *, add: bool) -> None:
        rows = index[0] if len(index) == 1 else None
        bits = _FLOATS.get(x.dtype)
        plain = isinstance(rows, np.ndarray) and rows.ndim == 1 and rows.dtype == np.int64
        if not (add and plain and bits and x.ndim > 1 and x.size and x.flags.c_contiguous):
            super().put(x, index, values, add=add)
            return
        assert rows is not None
        count = x.shape[0]
        if rows.size and not (-count <= rows.min() and rows.max() < count):
            bad = next(i for i in rows if not -count <= i < count)
            raise IndexError(f"index {bad} is out of bounds for axis 0 with size {count}")
        rows = np.where(rows < 0, rows + count, rows)
        values = np.broadcast_to(np.asarray(values, x.dtype), (rows.size, *x.shape[1:]))
        if np.may_share_memory(values, x):
            values = values.copy()
        table = x.reshape(count, -1)
        _kernel(gather.add_rows, bits)(
            table, rows, np.ascontiguousarray(values).reshape(rows.size, table.shape[1])
        )

    def random(
        self,
        kind: str,
        key: int,
        counter: int,
        shape: Shape,
        dtype: DType,
        *,
        out: Array | None = None,
    ) -> Array:
        philox.check(kind, dtype)
        if is_half(dtype):
            if kind == "normal":
                return self.cast(self.random(kind, key, counter, shape, float32), dtype, out=out)
            return super().random(kind, key, counter, shape, dtype, out=out)
        size = dtype.itemsize
        kernel = _kernel(philox_kernels.random, kind, 8 * size)
        direct = out is not None and out.flags.c_contiguous
        result = out if out is not None and direct else np.empty(shape, dtype)
        flat = result.reshape(-1)
        key &= 0xFFFFFFFFFFFFFFFF

        def work(start: int, stop: int) -> None:
            block = counter + start * size // 16
            words = np.empty(philox_kernels.CHUNK // size, f"uint{8 * size}")
            low, high = block & 0xFFFFFFFFFFFFFFFF, block >> 64 & 0xFFFFFFFFFFFFFFFF
            kernel(key, low, high, words, flat[start:stop])

        threads.share(work, flat.size, _SHARE_HEAVY, philox_kernels.CHUNK // size)
        return result if direct or out is None else _placed(result, shape, dtype, out)

    def bias_activation(
        self,
        z: Array,
        bias: Array | None,
        formula: Formula | None,
        parameters: tuple[Scalar, ...],
        *,
        out: Array,
    ) -> Array:
        if bias is not None and formula is None:
            _quiet.call(np.add, z, bias, out=z)
            if out is not z:
                np.copyto(out, z)
            return out
        bits = _FLOATS.get(z.dtype)
        source = _compilable(formula) if formula is not None else None
        layout = z.flags.c_contiguous and out.flags.c_contiguous
        if bias is None or source is None or bits is None or not layout:
            if bias is not None:
                _quiet.call(np.add, z, bias, out=z)
            return super().bias_activation(z, None, formula, parameters, out=out)
        kernel = _kernel(elementwise.bias_activation, source, bits, in_place=out is z)
        bias, scalars = np.ascontiguousarray(bias), _numbers(parameters)

        def work(start: int, stop: int) -> None:
            if out is z:
                kernel(z[start:stop], bias, *scalars)
            else:
                kernel(z[start:stop], bias, out[start:stop], *scalars)

        n, m = z.shape
        threads.share(work, n, _SHARE // max(m, 1))
        return out

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
        bits = _FLOATS.get(g.dtype)
        source = _compilable(binding.vjp(derivative))
        layout = out is None or out.flags.c_contiguous
        if not with_bias or bits is None or source is None or not layout:
            return super().bias_activation_backward(
                g, saved, derivative, parameters, with_bias=with_bias, out=out
            )
        kernel = _kernel(elementwise.bias_activation_backward, source, bits)
        dz = np.empty(g.shape, g.dtype) if out is None else out
        g, saved = np.ascontiguousarray(g), np.ascontiguousarray(saved)
        n, m = g.shape
        block = reductions.ROWS
        sums = np.empty((-(-n // block), m), g.dtype)
        scalars = _numbers(parameters)

        def work(start: int, stop: int) -> None:
            part = slice(start * block, stop * block)
            kernel(g[part], saved[part], dz[part], sums[start:stop], block, *scalars)

        threads.share(work, len(sums), _SHARE // max(m * block, 1))
        return dz, _joined(sums[None])[0]

    def softmax(self, x: Array, log: bool, *, out: Array | None = None) -> Array:
        bits = _FLOATS.get(x.dtype)
        if bits is None or not x.size:
            return super().softmax(x, log, out=out)
        kernel = _kernel(softmax.softmax, bits, log=log)
        x = np.ascontiguousarray(x)
        direct = out is not None and out.flags.c_contiguous
        y = out if out is not None and direct else np.empty(x.shape, x.dtype)
        threads.share(
            lambda start, stop: kernel(x[start:stop], y[start:stop]),
            x.shape[0],
            _SHARE_HEAVY // x.shape[1],
        )
        return y if direct or out is None else _placed(y, x.shape, x.dtype, out)

    def softmax_cross_entropy(
        self, logits: Array, targets: Array, scale: Array | float, smoothing: float
    ) -> tuple[Array, Array]:
        bits = _FLOATS.get(logits.dtype)
        if bits is None or not logits.size:
            return super().softmax_cross_entropy(logits, targets, scale, smoothing)
        dtype, (n, k) = logits.dtype, logits.shape
        classes = targets.ndim == 1
        kernel = _kernel(softmax.cross_entropy, bits, classes=classes)
        x = np.ascontiguousarray(logits)
        t = np.ascontiguousarray(targets, np.int64 if classes else dtype)
        scales = np.ascontiguousarray(scale, dtype).reshape(-1)
        losses, dx = np.empty(n, dtype), np.empty((n, k), dtype)

        def work(start: int, stop: int) -> None:
            part = slice(start, stop)
            each = scales[part] if scales.size > 1 else scales
            kernel(x[part], t[part], each, float(smoothing), losses[part], dx[part])

        threads.share(work, n, _SHARE_HEAVY // k)
        return losses, dx

    def update(
        self, formula: Formula, arrays: tuple[Array, ...], scalars: tuple[float, ...]
    ) -> None:
        bits = _FLOATS.get(arrays[0].dtype)
        source = _compilable(formula)
        if bits is None or source is None or not all(x.flags.c_contiguous for x in arrays):
            super().update(formula, arrays, scalars)
            return
        kernel = _kernel(elementwise.update, source, bits, len(arrays))
        flat = [x.reshape(-1) for x in arrays]
        values = _numbers(scalars)
        threads.share(
            lambda start, stop: kernel(*(x[start:stop] for x in flat), *values),
            flat[0].size,
            _SHARE,
        )


def _numbers(scalars: Sequence[Any]) -> list[float]:
    """Scalars as kernels take them."""
    return [float(value) for value in scalars]


def _placed(result: Array, shape: Shape, dtype: DType, out: Array | None) -> Array:
    """A result under its shape and dtype, or in `out`."""
    result = result.reshape(shape).astype(dtype, copy=False)
    if out is None:
        return result
    np.copyto(out, result)
    return out


def _mapped(
    formula: Formula,
    bits: int,
    xs: tuple[Any, ...],
    arrays: list[Array],
    dtype: DType,
    out: Array | None,
) -> Array:
    """A compiled formula over broadcast operands."""
    shape = arrays[0].shape
    alike = all(x.shape == shape for x in arrays)
    if not alike:
        shape = np.broadcast_shapes(*(x.shape for x in arrays))
    y = out if out is not None and out.flags.c_contiguous else np.empty(shape, dtype)
    if out is y:
        # An operand in memory that the loop writes to, other than element for element.
        xs = tuple(
            x.copy()
            if isinstance(x, np.ndarray) and x is not y and np.may_share_memory(x, y)
            else x
            for x in xs
        )
    if y.size:
        pattern, table, operands = _operands(xs, shape, y) if not alike else _flat(xs, y)
        kernel = _map_kernel(formula, bits, pattern, dtype.char == "?")
        target = y.reshape(table)
        cut = [letter in "xXcC" for letter in pattern if letter != "y"]

        def work(start: int, stop: int) -> None:
            parts = [x[start:stop] if c else x for x, c in zip(operands, cut, strict=True)]
            kernel(*parts, target[start:stop])

        inner = table[1] if len(table) > 1 else 1
        if y.size < 2 * _SHARE:
            kernel(*operands, target)
        else:
            threads.share(work, table[0], _SHARE // inner)
    if out is not None and out is not y:
        np.copyto(out, y)
        return out
    return y


_Operands = tuple[str, tuple[int, ...], list[Any]]


def _flat(xs: tuple[Any, ...], y: Array) -> _Operands:
    """Operands of the result's shape and numbers: pattern, shape of the loop, arguments."""
    pattern, operands = "", list[Any]()
    for x in xs:
        if not isinstance(x, np.ndarray):
            pattern += "s"
            operands.append(float(x))
        elif x is y:
            pattern += "y"
        else:
            pattern += "X" if x.dtype.char == "?" else "x"
            operands.append(x.ravel())
    return pattern, (y.size,), operands


def _operands(xs: tuple[Any, ...], shape: Shape, y: Array) -> _Operands:
    """The same where operands broadcast: as rows, columns or single elements of a table."""
    columns = 0
    kinds = [_repeats(x, shape) if isinstance(x, np.ndarray) else "s" for x in xs]
    for x, kind in zip(xs, kinds, strict=True):
        if not columns and kind in ("r", "c"):
            columns = x.size if kind == "r" else y.size // x.size
    if not columns:
        loop: tuple[int, ...] = (y.size,)
    else:
        loop = (y.size // columns, columns)
    pattern, operands = "", list[Any]()
    for x, kind in zip(xs, kinds, strict=True):
        if kind == "s":
            pattern += "s"
            operands.append(float(x))
            continue
        if x is y:
            pattern += "y"
            continue
        fits = {"r": x.size == columns, "c": x.size * columns == y.size, "e": True}
        if not fits.get(kind, False):
            x, kind = np.broadcast_to(x, shape), "x"
        pattern += kind.upper() if x.dtype.char == "?" else kind
        x = x.ravel()
        operands.append(x.reshape(loop) if kind == "x" else x)
    return pattern, loop, operands


def _repeats(x: Array, shape: Shape) -> str:
    """Whether an operand is one element, a row or a column of that shape, or all of it."""
    if x.shape == shape:
        return "x"
    if x.size == 1:
        return "e"
    lengths = (1,) * (len(shape) - x.ndim) + x.shape
    ones = next(i for i, n in enumerate(lengths) if n != 1)
    if lengths[ones:] == shape[ones:]:
        return "r"
    ones = next(i for i, n in enumerate(reversed(lengths)) if n != 1)
    head = len(shape) - ones
    return "c" if lengths[:head] == shape[:head] else "x"


def _reduced_rows(kind: str, table: Array, bits: int) -> Array:
    """The sum, maximum or minimum of each row; sums in float64."""
    kernel = _kernel(reductions.rows, bits, kind)
    n, m = table.shape
    # So that threads can share a long row, it becomes a table of blocks.
    if n == 1 and m >= _LONG_ROW:
        whole = m // reductions.BLOCK * reductions.BLOCK
        blocks = _reduced_rows(kind, table[0, :whole].reshape(-1, reductions.BLOCK), bits)
        if whole < m:
            rest = _reduced_rows(kind, np.ascontiguousarray(table[:, whole:]), bits)
            blocks = np.concatenate([blocks, rest])
        join = {"sum": np.add, "max": np.maximum, "min": np.minimum}[kind]
        return _quiet.call(join.reduce, blocks, keepdims=True)
    result = np.empty(n, float64 if kind == "sum" else table.dtype)
    threads.share(lambda start, stop: kernel(table[start:stop], result[start:stop]), n, _SHARE // m)
    return result


def _summed_columns(table: Array, bits: int) -> Array:
    """`table.sum(1)`: (a, n, m) -> (a, m)."""
    a, n, m = table.shape
    sums = np.empty((a, -(-n // reductions.ROWS), m), table.dtype)
    kernel = _kernel(reductions.columns, bits)
    if a > 1:
        threads.share(
            lambda start, stop: kernel(table[start:stop], sums[start:stop]),
            a,
            _SHARE // (n * m),
        )
    else:
        rows = reductions.ROWS
        threads.share(
            lambda start, stop: kernel(table[:, start * rows : stop * rows], sums[:, start:stop]),
            sums.shape[1],
            _SHARE // (rows * m),
        )
    return _joined(sums)


def _joined(sums: Array) -> Array:
    """The sums of blocks of rows, (a, blocks, m) -> (a, m), added in float64."""
    if sums.shape[1] == 1:
        return sums[:, 0]
    total = _quiet.call(np.add.reduce, sums, axis=1, dtype=np.float64)
    return _quiet.call(total.astype, sums.dtype)


BACKEND: Backend = NumbaBackend()
