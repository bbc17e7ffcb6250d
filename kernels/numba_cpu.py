"""The CPU backend with compiled loops: one pass over NumPy arrays where NumPy takes many.

It is the NumPy backend with what is faster compiled put in its place. A formula has one
implementation per dtype here, NumPy's function or a compiled loop, whatever the shape and layout
of its operands; and no result depends on the number of threads.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from gradnet import binding, blas, numpy_calls, philox
from gradnet.backends import Array, Backend, Formula, Index, Replay, Scalar, Shape
from gradnet.dtypes import DType, float32, is_half
from gradnet.numpy_calls import empty, multiplied, quiet

from . import compiler, tables, threads
from .compiler import Kernel
from .cpu_norms import Norms
from .gemm import arrays as products
from .gemm import choice
from .maps import Maps, compiles, formula_kernel, placed
from .operands import FLOATS
from .tables import Reductions
from .templates import elementwise, gather, reductions, replayed, softmax
from .templates import order as sorting
from .templates import philox as philox_kernels

if TYPE_CHECKING:
    from gradnet.program.calls import Program

# The LLVM that compiles kernels comes with Numba. Numba itself compiles none for the CPU, and takes
# longer to import than a small network takes to train.
if importlib.util.find_spec("numba") is None:
    raise ModuleNotFoundError("No module named 'numba'", name="numba")

_WORD = 0xFFFFFFFFFFFFFFFF
_LEAST = choice.LEAST
_UINT32, _UINT64, _INT64 = np.dtype(np.uint32), np.dtype(np.uint64), np.dtype(np.int64)


@cache
def _kernel(build: Callable[..., elementwise.Text], *arguments: Any, **options: Any) -> Kernel:
    """The kernel that a template builds."""
    return compiler.entry(compiler.compiled(*build(*arguments, **options)))


class NumbaBackend(Maps, Reductions, Norms):
    """NumPy arrays and compiled loops on the CPU."""

    name: str = "numba"

    def from_host(self, x: np.ndarray[Any, Any], *, copy: bool) -> Array:
        # Kernels are compiled for aligned elements.
        return super().from_host(x, copy=copy or not x.flags.aligned)

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
        word = _UINT64 if size == 8 else _UINT32
        key &= _WORD

        def work(start: int, stop: int) -> None:
            block = counter + start * size // 16
            words = np.empty(chunk, word)
            kernel(key, block & _WORD, block >> 64 & _WORD, words, flat[start:stop])

        threads.share(work, flat.size, threads.SHARE_HEAVY, chunk)
        return y if out is None else placed(y, shape, dtype, out)

    def argsort(self, x: Array, axis: int, descending: bool, *, out: Array | None = None) -> Array:
        random = x.dtype == _UINT64 and x.ndim == 1 and x.flags.c_contiguous
        if random and sorting.FEW <= x.size <= sorting.MANY and not descending:
            bits = (x.size - 1).bit_length()
            counts, words = np.empty((2, 1 << bits), _UINT32), np.empty(x.size, _UINT64)
            order = np.empty(x.size, np.int64)
            _kernel(sorting.order)(x, bits, counts, words, order)
            if order[0] >= 0:
                return order if out is None else placed(order, x.shape, order.dtype, out)
        return super().argsort(x, axis, descending, out=out)

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
        if bias is not None and formula is not None and compiles(formula) and bits and layout:
            kernel = formula_kernel(elementwise.bias_activation, formula, bits, out is z)
            rest = [np.ascontiguousarray(bias), *_numbers(parameters)]
            threads.launch(kernel, [z] if out is z else [z, out], rest, z.size, threads.SHARE)
            return out
        if bias is not None:
            quiet.call(np.add, z, bias, out=z)
        elif (
            bits
            and layout
            and not parameters
            and formula is not None
            and self._by_own_loop(formula, z, out)
        ):
            return out
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
        if not with_bias or bits is None or not layout or not compiles(formula):
            return super().bias_activation_backward(
                g, saved, derivative, parameters, with_bias=with_bias, out=out
            )
        kernel = formula_kernel(elementwise.bias_activation_backward, formula, bits, False)
        dz = empty(g.shape, g.dtype) if out is None else out
        g, saved = np.ascontiguousarray(g), np.ascontiguousarray(saved)
        block, (n, m) = reductions.ROWS, g.shape
        sums = np.empty((-(-n // block), m), g.dtype)
        scalars = _numbers(parameters)
        if 2 * g.size < threads.SHARE:
            # As below, in few steps.
            kernel(g, saved, dz, sums, block, *scalars)
            return dz, sums[0] if len(sums) == 1 else tables.joined(sums[None])[0]

        def work(start: int, stop: int) -> None:
            part = slice(start * block, stop * block)
            kernel(g[part], saved[part], dz[part], sums[start:stop], block, *scalars)

        threads.share(work, len(sums), threads.whole_rows(threads.SHARE, m * block))
        return dz, tables.joined(sums[None])[0]

    def softmax(self, x: Array, log: bool, *, out: Array | None = None) -> Array:
        bits = FLOATS.get(x.dtype)
        if bits is None or not x.size:
            return super().softmax(x, log, out=out)
        kernel = _kernel(softmax.softmax, bits, log=log)
        y = out if out is not None and out.flags.c_contiguous else empty(x.shape, x.dtype)
        parts = [np.ascontiguousarray(x), y]
        threads.launch(kernel, parts, (), x.size, threads.SHARE_HEAVY)
        return y if out is None else placed(y, x.shape, x.dtype, out)

    def softmax_cross_entropy(
        self, logits: Array, targets: Array, scale: Array | float, smoothing: float
    ) -> tuple[Array, Array]:
        bits = FLOATS.get(logits.dtype)
        if bits is None or not logits.size:
            return super().softmax_cross_entropy(logits, targets, scale, smoothing)
        dtype, (n, k) = logits.dtype, logits.shape
        classes = targets.ndim == 1
        kinds = {"classes": classes, "smooth": smoothing != 0, "short": softmax.short(k)}
        kernel = _kernel(softmax.cross_entropy, bits, **kinds)
        losses, dx = np.empty(n, dtype), empty((n, k), dtype)
        scales = np.empty(n, dtype)
        scales[...] = scale
        taken = np.ascontiguousarray(targets, np.int64 if classes else dtype)
        parts = [np.ascontiguousarray(logits), taken, scales, losses, dx]
        threads.launch(kernel, parts, [float(smoothing)], dx.size, threads.SHARE_HEAVY)
        return losses, dx

    def update(
        self, formula: Formula, arrays: tuple[Array, ...], scalars: tuple[float, ...]
    ) -> None:
        bits = FLOATS.get(arrays[0].dtype)
        if bits is None or not compiles(formula) or not all(x.flags.c_contiguous for x in arrays):
            super().update(formula, arrays, scalars)
            return
        kernel = formula_kernel(elementwise.update, formula, bits, len(arrays))
        parts = [x.ravel() for x in arrays]
        # Memory is the limit: as many elements of two arrays of float32 take as long.
        size = sum(x.nbytes for x in parts) // 8
        threads.launch(kernel, parts, _numbers(scalars), size, threads.SHARE)

    def matmul(self, a: Array, b: Array, *, out: Array | None = None, tf32: bool = False) -> Array:
        if tf32:
            return super().matmul(a, b, out=out, tf32=True)
        known = a.dtype in FLOATS
        if known and out is None:
            shape = a.shape
            if len(shape) == 1:
                made = tables.vectors(a, b)
                return multiplied(a, b) if made is None else made
            columns = b.shape[-1]
            least = columns if columns < shape[-2] else shape[-2]
            if least < _LEAST and a.size * columns < blas.SHARED:
                # Never our own product: as below, in few steps.
                return multiplied(a, b)
        if known:
            made = products.matmul(a, b, out)
            if made is not None:
                return made
        large = a.ndim == b.ndim == 2 and a.size * b.shape[1] >= blas.SHARED
        if large and known:
            from . import shared_product

            made = shared_product.matmul(a, b, out)
            if made is not None:
                return made
        return super().matmul(a, b, out=out)

    def flag(
        self,
        x: Array,
        low: Scalar,
        high: Scalar,
        error: Callable[..., Exception],
        about: tuple[Any, ...],
        *,
        shown: Array | None = None,
    ) -> None:
        if x.dtype is _INT64 and type(low) is type(high) is int and x.flags.c_contiguous:
            # In one pass, where NumPy takes two that each set out slower.
            found = np.zeros(1, _INT64)
            _kernel(replayed.within, "int64", True)(x.reshape(-1), found, low, high)
            if not found[0]:
                return
        super().flag(x, low, high, error, about, shown=shown)

    def compile(self, program: Program) -> Replay | None:
        from . import replay

        return replay.compiled(self, program)


def _numbers(scalars: Sequence[Any]) -> list[float]:
    """Scalars as kernels take them."""
    return [float(value) for value in scalars]


def _eager(tensor: type, node: type) -> Any:
    from .eager import Code

    return Code(tensor, node, BACKEND)


BACKEND: Backend = NumbaBackend()
numpy_calls.machine_code = _eager
