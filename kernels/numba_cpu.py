"""The CPU backend whose loops Numba compiles: one pass over NumPy arrays where NumPy takes many.

It is the NumPy backend with what is faster compiled put in its place. A formula has one
implementation per dtype here, NumPy's function or a compiled loop, whatever the shape and layout
of its operands; and no result depends on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from gradnet import binding, blas, formulas, philox
from gradnet.array_functions import CORRECTED
from gradnet.backends import Array, Backend, Formula, Index, Replay, Scalar, Shape
from gradnet.dtypes import DType, bool_, float32, float64, is_half
from gradnet.numpy_backend import UFUNCS, NumpyBackend, quiet

from . import compiler, lowering, operands, threads
from .compiler import Kernel
from .operands import FLOATS
from .templates import elementwise, gather, reductions, softmax
from .templates import philox as philox_kernels

if TYPE_CHECKING:
    from gradnet.program.calls import Program

# Elements that one thread takes at least: some 100 microseconds of work, twice what it takes to
# wake another. Random numbers and rows of softmax are ten times the work.
_SHARE = 1 << 18
_SHARE_HEAVY = 1 << 15

# Threads cut what a ufunc computes where its vector loops begin anew.
_STEP = 256

# A row of so many elements is summed in blocks, whatever the number of threads.
_LONG_ROW = 1 << 19

_WORD = 0xFFFFFFFFFFFFFFFF


class _Loops(dict[str, Kernel]):
    """The compiled loops of a formula for operands and results of given dtypes, by pattern."""

    def __init__(self, formula: Formula, common: DType, dtype: DType) -> None:
        super().__init__()
        self.formula, self.bits, self.condition = formula, FLOATS[common], dtype == bool_

    def __missing__(self, pattern: str) -> Kernel:
        self[pattern] = kernel = _formula_kernel(
            elementwise.map_kernel, self.formula, self.bits, pattern, self.condition
        )
        return kernel


class _Plans(dict[tuple[Formula, DType, DType], "np.ufunc | _Loops | None"]):
    """How a formula gives a dtype from operands of a dtype: by NumPy's function, or by loops.

    None where it is neither's work but that of the NumPy backend.
    """

    def __missing__(self, key: tuple[Formula, DType, DType]) -> np.ufunc | _Loops | None:
        formula, common, dtype = key
        plan: np.ufunc | _Loops | None = None
        if common in FLOATS and dtype in (common, bool_):
            plan = _ufunc(formula)
            if plan is None and _compiles(formula):
                plan = _Loops(formula, common, dtype)
        self[key] = plan
        return plan


_plans = _Plans()


def _ufunc(formula: Formula) -> np.ufunc | None:
    """NumPy's function that is a formula, where it is right."""
    name = formula.__name__
    known = formulas.FORMULAS.get(name) is formula or binding.is_primitive(formula)
    return UFUNCS[name] if known and name in UFUNCS and name not in CORRECTED else None


@cache
def _compiles(formula: Formula) -> bool:
    """Whether a formula is a loop of its own here."""
    return _ufunc(formula) is None and lowering.refusal(binding.source(formula)) is None


@cache
def _formula_kernel(
    build: Callable[..., elementwise.Text], formula: Formula, *arguments: Any, **options: Any
) -> Kernel:
    """The kernel that a template builds from a formula."""
    return compiler.entry(compiler.compiled(*build(binding.source(formula), *arguments, **options)))


@cache
def _kernel(build: Callable[..., elementwise.Text], *arguments: Any, **options: Any) -> Kernel:
    """The kernel that a template builds."""
    return compiler.entry(compiler.compiled(*build(*arguments, **options)))


class NumbaBackend(NumpyBackend):
    """NumPy arrays and compiled loops on the CPU."""

    name: str = "numba"

    def from_host(self, x: np.ndarray[Any, Any], *, copy: bool) -> Array:
        # Kernels are compiled for aligned elements.
        return super().from_host(x, copy=copy or not x.flags.aligned)

    def map(
        self, formula: Formula, *xs: Array | Scalar, dtype: DType, out: Array | None = None
    ) -> Array:
        first = xs[0]
        plan = _plans[formula, first.dtype if isinstance(first, np.ndarray) else bool_, dtype]
        if plan is None:
            # The first operand is a number or a condition: the others tell the dtype.
            kinds = [x.dtype for x in xs if isinstance(x, np.ndarray) and x.dtype != bool_]
            plan = _plans[formula, kinds[0], dtype] if kinds else None
            if plan is None:
                return super().map(formula, *xs, dtype=dtype, out=out)
        if isinstance(plan, _Loops):
            return _by_loop(plan, xs, dtype, out)
        if not isinstance(first, np.ndarray) or first.size >= 2 * _SHARE:
            return _by_ufunc(plan, xs, dtype, out)
        if len(xs) > 1:
            for x in xs:
                # A Python float is weak, and rounded as the kernels round it.
                if not isinstance(x, np.ndarray) and type(x) is not float:
                    return _by_ufunc(plan, xs, dtype, out)
        result = quiet.call(plan, *xs) if out is None else quiet.call(plan, *xs, out=out)
        return result if isinstance(result, np.ndarray) else np.asarray(result, dtype)

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
        bits = FLOATS.get(x.dtype)
        if kind not in ("sum", "max", "min") or bits is None or dtype != x.dtype or not x.size:
            return super().reduce(kind, x, axes, keepdims, dtype=dtype, out=out)
        order, (outer, count, inner), shape = operands.fold(x.shape, axes, keepdims)
        if order is not None:
            x = x.transpose(order)
        if not x.flags.c_contiguous:
            x = np.ascontiguousarray(x)
        if inner == 1:
            result = _reduced_rows(kind, x.reshape(outer, count), bits)
        elif kind == "sum":
            result = _summed_columns(x.reshape(outer, count, inner), bits)
        else:
            join = np.maximum if kind == "max" else np.minimum
            result = join.reduce(x.reshape(outer, count, inner), axis=1)
        return _placed(result, shape, dtype, out)

    def put(self, x: Array, index: Index, values: Array | Scalar, *, add: bool) -> None:
        rows = index[0] if len(index) == 1 else None
        bits = FLOATS.get(x.dtype)
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
        values = np.ascontiguousarray(values).reshape(rows.size, table.shape[1])
        _kernel(gather.add_rows, bits)(table, rows, values)

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
        y = out if out is not None and out.flags.c_contiguous else np.empty(shape, dtype)
        flat, chunk = y.reshape(-1), philox_kernels.CHUNK // size
        key &= _WORD

        def work(start: int, stop: int) -> None:
            block = counter + start * size // 16
            words = np.empty(chunk, f"uint{8 * size}")
            kernel(key, block & _WORD, block >> 64 & _WORD, words, flat[start:stop])

        threads.share(work, flat.size, _SHARE_HEAVY, chunk)
        return y if out is None else _placed(y, shape, dtype, out)

    def bias_activation(
        self,
        z: Array,
        bias: Array | None,
        formula: Formula | None,
        parameters: tuple[Scalar, ...],
        *,
        out: Array,
    ) -> Array:
        bits = FLOATS.get(z.dtype)
        layout = z.flags.c_contiguous and out.flags.c_contiguous
        if bias is not None and formula is not None and _compiles(formula) and bits and layout:
            kernel = _formula_kernel(elementwise.bias_activation, formula, bits, out is z)
            rest = [np.ascontiguousarray(bias), *_numbers(parameters)]
            threads.launch(kernel, [z] if out is z else [z, out], rest, z.size, _SHARE)
            return out
        if bias is not None:
            quiet.call(np.add, z, bias, out=z)
        return super().bias_activation(z, None, formula, parameters, out=out)

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
        bits = FLOATS.get(g.dtype)
        formula = binding.vjp(derivative)
        layout = out is None or out.flags.c_contiguous
        if not with_bias or bits is None or not layout or not _compiles(formula):
            return super().bias_activation_backward(
                g, saved, derivative, parameters, with_bias=with_bias, out=out
            )
        kernel = _formula_kernel(elementwise.bias_activation_backward, formula, bits, False)
        dz = np.empty(g.shape, g.dtype) if out is None else out
        g, saved = np.ascontiguousarray(g), np.ascontiguousarray(saved)
        block, (n, m) = reductions.ROWS, g.shape
        sums = np.empty((-(-n // block), m), g.dtype)
        scalars = _numbers(parameters)

        def work(start: int, stop: int) -> None:
            part = slice(start * block, stop * block)
            kernel(g[part], saved[part], dz[part], sums[start:stop], block, *scalars)

        threads.share(work, len(sums), _rows(_SHARE, m * block))
        return dz, _joined(sums[None])[0]

    def softmax(self, x: Array, log: bool, *, out: Array | None = None) -> Array:
        bits = FLOATS.get(x.dtype)
        if bits is None or not x.size:
            return super().softmax(x, log, out=out)
        kernel = _kernel(softmax.softmax, bits, log=log)
        y = out if out is not None and out.flags.c_contiguous else np.empty(x.shape, x.dtype)
        parts = [np.ascontiguousarray(x), y]
        threads.launch(kernel, parts, (), x.size, _SHARE_HEAVY)
        return y if out is None else _placed(y, x.shape, x.dtype, out)

    def softmax_cross_entropy(
        self, logits: Array, targets: Array, scale: Array | float, smoothing: float
    ) -> tuple[Array, Array]:
        bits = FLOATS.get(logits.dtype)
        if bits is None or not logits.size:
            return super().softmax_cross_entropy(logits, targets, scale, smoothing)
        dtype, (n, k) = logits.dtype, logits.shape
        classes = targets.ndim == 1
        kernel = _kernel(softmax.cross_entropy, bits, classes=classes, smooth=smoothing != 0)
        losses, dx = np.empty(n, dtype), np.empty((n, k), dtype)
        scales = np.empty(n, dtype)
        scales[...] = scale
        taken = np.ascontiguousarray(targets, np.int64 if classes else dtype)
        parts = [np.ascontiguousarray(logits), taken, scales, losses, dx]
        threads.launch(kernel, parts, [float(smoothing)], dx.size, _SHARE_HEAVY)
        return losses, dx

    def update(
        self, formula: Formula, arrays: tuple[Array, ...], scalars: tuple[float, ...]
    ) -> None:
        bits = FLOATS.get(arrays[0].dtype)
        if bits is None or not _compiles(formula) or not all(x.flags.c_contiguous for x in arrays):
            super().update(formula, arrays, scalars)
            return
        kernel = _formula_kernel(elementwise.update, formula, bits, len(arrays))
        parts = [x.ravel() for x in arrays]
        threads.launch(kernel, parts, _numbers(scalars), parts[0].size, _SHARE)

    def matmul(self, a: Array, b: Array, *, out: Array | None = None, tf32: bool = False) -> Array:
        if tf32:
            return super().matmul(a, b, out=out, tf32=True)
        large = a.ndim == b.ndim == 2 and a.size * b.shape[1] >= blas.SHARED
        if large and a.dtype in FLOATS:
            from . import shared_product

            made = shared_product.matmul(a, b, out)
            if made is not None:
                return made
        return super().matmul(a, b, out=out)

    def compile(self, program: Program) -> Replay | None:
        from . import replay

        return replay.compiled(self, program)


def _by_loop(loops: _Loops, xs: tuple[Any, ...], dtype: DType, out: Array | None) -> Array:
    """A formula on any operands, by the loop compiled for their pattern."""
    if out is None:
        found = operands.alike(xs)
        if found is not None:
            pattern, parts, rest, shape = found
            y = np.empty(shape, dtype)
            parts.append(y.ravel())
            size = y.size
            if size < 2 * _SHARE:
                loops[pattern](*parts, *rest)
            else:
                threads.launch(loops[pattern], parts, rest, size, _SHARE)
            return y
    shape = operands.joined(*(x.shape for x in xs if isinstance(x, np.ndarray)))
    y = out if out is not None and out.flags.c_contiguous else np.empty(shape, dtype)
    if y is out and any(
        x is not y and isinstance(x, np.ndarray) and np.may_share_memory(x, y) for x in xs
    ):
        # An operand in memory that the loop writes to, other than element for element.
        xs = tuple(x.copy() if isinstance(x, np.ndarray) and x is not y else x for x in xs)
    if y.size:
        pattern, parts, rest = operands.broadcast(xs, shape, y)
        threads.launch(loops[pattern], parts, rest, y.size, _SHARE)
    return y if out is None else _placed(y, shape, dtype, out)


def _by_ufunc(ufunc: Any, xs: tuple[Any, ...], dtype: DType, out: Array | None) -> Array:
    """A formula that is a ufunc of NumPy's: large arrays of one layout on several threads."""
    xs = tuple([x if isinstance(x, np.ndarray) else float(x) for x in xs])
    arrays = [x for x in xs if isinstance(x, np.ndarray)]
    shape, size = arrays[0].shape, arrays[0].size
    whole = all(x.shape == shape and x.flags.c_contiguous for x in arrays)
    if size < 2 * _SHARE or out is not None or not whole:
        result = quiet.call(ufunc, *xs, out=out)
        return result if isinstance(result, np.ndarray) else np.asarray(result, dtype)
    y = np.empty(shape, dtype)
    flat = [x.reshape(-1) if isinstance(x, np.ndarray) else x for x in (*xs, y)]

    def work(start: int, stop: int) -> None:
        *cut, part = [x[start:stop] if isinstance(x, np.ndarray) else x for x in flat]
        quiet.call(ufunc, *cut, out=part)

    threads.share(work, size, _SHARE, _STEP)
    return y


def _numbers(scalars: Sequence[Any]) -> list[float]:
    """Scalars as kernels take them."""
    return [float(value) for value in scalars]


def _rows(elements: int, columns: int) -> int:
    """How many rows have so many elements, at least one."""
    return elements // max(columns, 1) or 1


def _placed(result: Array, shape: Shape, dtype: DType, out: Array | None) -> Array:
    """A result under its shape and dtype, or in `out`."""
    if result is out:
        return result
    if result.shape != shape:
        result = result.reshape(shape)
    if out is None:
        return result if result.dtype == dtype else quiet.call(result.astype, dtype)
    quiet.call(np.copyto, out, result, casting="same_kind")
    return out


def _reduced_rows(kind: str, table: Array, bits: int) -> Array:
    """The sum, maximum or minimum of each row; sums in float64."""
    n, m = table.shape
    if n == 1 and m >= _LONG_ROW:
        # So that threads can share it, it becomes a table of blocks.
        whole = m // reductions.BLOCK * reductions.BLOCK
        blocks = _reduced_rows(kind, table[0, :whole].reshape(-1, reductions.BLOCK), bits)
        if whole < m:
            rest = _reduced_rows(kind, np.ascontiguousarray(table[:, whole:]), bits)
            blocks = np.concatenate([blocks, rest])
        join = {"sum": np.add, "max": np.maximum, "min": np.minimum}[kind]
        return quiet.call(join.reduce, blocks, keepdims=True)
    result = np.empty(n, float64 if kind == "sum" else table.dtype)
    kernel = _kernel(reductions.rows, bits, kind)
    if n * m < 2 * _SHARE:
        kernel(table, result)
    else:
        threads.launch(kernel, [table, result], (), n * m, _SHARE)
    return result


def _summed_columns(table: Array, bits: int) -> Array:
    """`table.sum(1)`: (a, n, m) -> (a, m)."""
    a, n, m = table.shape
    block = reductions.ROWS
    sums = np.empty((a, -(-n // block), m), table.dtype)
    kernel = _kernel(reductions.columns, bits)
    if a > 1:
        threads.launch(kernel, [table, sums], (), table.size, _SHARE)
    else:
        threads.share(
            lambda start, stop: kernel(table[:, start * block : stop * block], sums[:, start:stop]),
            sums.shape[1],
            _rows(_SHARE, block * m),
        )
    return _joined(sums)


def _joined(sums: Array) -> Array:
    """The sums of blocks of rows, (a, blocks, m) -> (a, m), added in float64."""
    if sums.shape[1] == 1:
        return sums[:, 0]
    total = quiet.call(np.add.reduce, sums, axis=1, dtype=float64)
    return quiet.call(total.astype, sums.dtype)


BACKEND: Backend = NumbaBackend()
