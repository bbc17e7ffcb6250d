"""The reference backend: every primitive of the protocol in plain NumPy.

It says what the fast backends must compute, so it is written to be read. 16-bit floats are
computed in float32 and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gradnet import binding, blas, philox
from gradnet.array_functions import round_to_tf32
from gradnet.backends import Array, Backend, Formula, Index, Layer, Replay, Scalar, Shape
from gradnet.dtypes import DType, compute_dtype, float32, is_floating, is_half
from gradnet.numpy_calls import (
    bound,
    copied,
    direct,
    empty,
    filled,
    multiplied,
    order_of_distinct,
    partial_sums,
    quiet,
    quietly,
    softmax_parts,
    windowed,
)
from gradnet.numpy_norms import Norms

if TYPE_CHECKING:
    from gradnet.program.calls import Program

_REDUCERS: dict[str, np.ufunc] = {
    "sum": np.add,
    "prod": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "any": np.logical_or,
    "all": np.logical_and,
}

_ADDING = frozenset(("sum", "prod"))

_BOOL = np.dtype(np.bool_)

# What the methods of arrays call, in fewer steps.
_least, _most = np.minimum.reduce, np.maximum.reduce


class NumpyBackend(Norms):
    """NumPy arrays and NumPy functions on the CPU."""

    name: str = "numpy"
    device: str = "cpu"
    defers: bool = False

    def empty(self, shape: Shape, dtype: DType) -> Array:
        return empty(shape, dtype)

    def full(self, shape: Shape, value: Scalar, dtype: DType, *, out: Array | None = None) -> Array:
        out = self.empty(shape, dtype) if out is None else out
        out.fill(value)
        return out

    def arange(self, start: Scalar, step: Scalar, count: int, dtype: DType) -> Array:
        if is_floating(dtype):
            return (start + step * np.arange(count, dtype=np.float64)).astype(dtype)
        return (start + step * np.arange(count)).astype(dtype)

    def from_host(self, x: np.ndarray[Any, Any], *, copy: bool) -> Array:
        return copied(x) if copy else x

    def to_host(self, x: Array) -> np.ndarray[Any, Any]:
        host: np.ndarray[Any, Any] = x
        return host

    def cast(self, x: Array, dtype: DType, *, out: Array | None = None) -> Array:
        if out is None:
            return quiet.call(x.astype, dtype, order="C")
        quiet.call(np.copyto, out, x, casting="unsafe")
        return out

    def reshape(self, x: Array, shape: Shape) -> Array:
        return x.reshape(shape)

    def shares(self, x: Array, y: Array) -> bool:
        return x.flags.c_contiguous or np.may_share_memory(x, y)

    def permute(self, x: Array, axes: tuple[int, ...]) -> Array:
        return x.transpose(axes)

    def broadcast(self, x: Array, shape: Shape) -> Array:
        if x.size != 1 or not x.flags.c_contiguous:
            return np.broadcast_to(x, shape)
        # One element, such as a loss's cotangent, in a tenth of the time.
        y: Array = np.ndarray(shape, x.dtype, x, 0, (0,) * len(shape))
        y.flags.writeable = False
        return y

    def view(self, x: Array, index: Index) -> Array:
        # The Ellipsis makes a 0-d result an array that shares memory, not a scalar.
        return x[index if Ellipsis in index else (*index, ...)]

    def bits(self, x: Array, dtype: DType) -> Array:
        return x.view(dtype)

    def map(
        self, formula: Formula, *xs: Array | Scalar, dtype: DType, out: Array | None = None
    ) -> Array:
        arrays = [x for x in xs if isinstance(x, np.ndarray)]
        common = arrays[0].dtype
        if common == _BOOL:
            common = next((x.dtype for x in arrays if x.dtype != _BOOL), common)
        ufunc = direct(formula, common)
        if ufunc is not None:
            result = quiet.call(ufunc, *xs, out=out)
            return result if isinstance(result, np.ndarray) else np.asarray(result, dtype)
        working = compute_dtype(common)
        if working != common:
            xs = tuple(
                x.astype(working) if isinstance(x, np.ndarray) and x.dtype == common else x
                for x in xs
            )
        if working.kind in "fc":
            # NumPy's own scalars are not weak, unlike Python's.
            xs = tuple(x if isinstance(x, np.ndarray) else working.type(x) for x in xs)
        with np.errstate(all="ignore"):
            result = bound(formula, working)(*xs)
            if any(result is x for x in xs):
                result = np.array(result)
            shape = np.broadcast_shapes(*(x.shape for x in arrays))
            return filled(result, shape, dtype, out)

    def mapper(self, formula: Formula, given: DType, dtype: DType) -> Callable[..., Array]:
        ufunc = direct(formula, given)
        if ufunc is None:
            return partial(self.map, formula, dtype=dtype)
        return quietly(ufunc, dtype)

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
        ufunc, accumulated = _REDUCERS[kind], compute_dtype(dtype)
        if kind not in _ADDING:
            result = quiet.call(ufunc.reduce, x, axis=axes, keepdims=keepdims)
            if out is None and result.dtype == dtype:
                return np.asarray(result)
            return filled(result, np.shape(result), dtype, out)
        if kind == "sum" and is_floating(dtype):
            x = quiet.call(partial_sums, x, axes, accumulated)
        result = quiet.call(ufunc.reduce, x, axis=axes, dtype=accumulated, keepdims=keepdims)
        return filled(result, np.shape(result), dtype, out)

    def argreduce(self, kind: str, x: Array, axis: int, *, out: Array | None = None) -> Array:
        found = x.argmax(axis) if kind == "max" else x.argmin(axis)
        return filled(found, np.shape(found), np.dtype(np.int64), out)

    def scan(self, kind: str, x: Array, axis: int, *, out: Array | None = None) -> Array:
        working = x.astype(compute_dtype(x.dtype), copy=False)
        accumulate = _REDUCERS[kind].accumulate
        result = quiet.call(accumulate, working, axis=axis, dtype=working.dtype)
        return filled(result, x.shape, x.dtype, out)

    def sort(self, x: Array, axis: int, descending: bool, *, out: Array | None = None) -> Array:
        if descending:
            order = self.argsort(x, axis, True)
            return filled(np.take_along_axis(x, order, axis), x.shape, x.dtype, out)
        if is_half(x.dtype):
            x, half = x.astype(np.float32), x.dtype
            return filled(self.sort(x, axis, False), x.shape, half, out)
        working = x.copy()
        working.sort(axis, stable=True)
        return working if out is None else filled(working, x.shape, x.dtype, out)

    def argsort(self, x: Array, axis: int, descending: bool, *, out: Array | None = None) -> Array:
        x = x.astype(np.float32) if is_half(x.dtype) else x
        if not descending:
            if x.dtype.kind in "iu" and x.ndim == 1:
                order = order_of_distinct(x)
                if order is not None:
                    return filled(order, x.shape, np.dtype(np.int64), out)
            return filled(np.argsort(x, axis, stable=True), x.shape, np.dtype(np.int64), out)
        # Ties keep their order when the reversed array is sorted upwards and reversed back. NaN,
        # sorted last, would come first that way: rotate each line to put its NaNs at the end.
        count = x.shape[axis]
        order = count - 1 - np.flip(np.argsort(np.flip(x, axis), axis, stable=True), axis)
        if x.dtype.kind in "fc":
            missing = np.isnan(x).sum(axis, keepdims=True)
            positions = np.arange(count).reshape(
                [-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]
            )
            order = np.take_along_axis(order, (positions + missing) % max(count, 1), axis)
        return filled(order, x.shape, np.dtype(np.int64), out)

    def matmul(self, a: Array, b: Array, *, out: Array | None = None, tf32: bool = False) -> Array:
        if tf32 and a.dtype == float32:
            return self.matmul(round_to_tf32(a), round_to_tf32(b), out=out)
        if is_half(a.dtype):
            product = self.matmul(a.astype(np.float32), b.astype(np.float32))
            return filled(product, product.shape, a.dtype, out)
        if out is None:
            return multiplied(a, b)
        blas.prepare(a.size * b.shape[-1] if a.ndim > 1 else a.size)
        return quiet.call(np.matmul, a, b, out=out)

    def take(self, x: Array, index: Index, *, out: Array | None = None) -> Array:
        result = np.asarray(x[index])
        if out is not None:
            np.copyto(out, result)
            return out
        return result if result.base is None else result.copy()

    def put(self, x: Array, index: Index, values: Array | Scalar, *, add: bool) -> None:
        if not add:
            x[index] = values
        elif is_half(x.dtype):
            total = x.astype(np.float32)
            np.add.at(total, index, np.asarray(values, np.float32))
            x[...] = total
        else:
            np.add.at(x, index, values)

    def concatenate(self, xs: Sequence[Array], axis: int, *, out: Array | None = None) -> Array:
        return np.concatenate(xs, axis=axis, out=out)

    def nonzero(self, x: Array) -> tuple[Array, ...]:
        return np.nonzero(x)

    def searchsorted(self, sorted_values: Array, x: Array, side: str) -> Array:
        return np.asarray(np.searchsorted(sorted_values, x, side=side), np.int64)  # type: ignore[call-overload]

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
        result = philox.random(kind, key, counter, shape, dtype)
        return filled(result, shape, dtype, out)

    def linalg(self, function: str, *xs: Array, **options: Any) -> Any:
        room, _, name = function.partition(".")
        found = getattr(getattr(np, room), name)(*xs, **options)
        if isinstance(found, tuple):
            arrays = (np.asarray(y) if isinstance(y, np.generic) else y for y in found)
            return tuple(arrays)
        return np.asarray(found) if isinstance(found, np.generic) else found

    def bias_activation(
        self,
        z: Array,
        bias: Array | None,
        formula: Formula | None,
        parameters: tuple[Scalar, ...],
        *,
        out: Array,
    ) -> Array:
        if bias is not None:
            quiet.call(np.add, z, bias, out=z)
        if formula is not None:
            return self.map(formula, z, *parameters, dtype=z.dtype, out=out)
        if out is not z:
            np.copyto(out, z)
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
        dz = self.map(binding.vjp(derivative), g, saved, *parameters, dtype=g.dtype, out=out)
        return dz, self.reduce("sum", dz, (0,), False, dtype=g.dtype) if with_bias else None

    def softmax(self, x: Array, log: bool, *, out: Array | None = None) -> Array:
        working = x.astype(compute_dtype(x.dtype), copy=False)
        shifted, exponentials, total = softmax_parts(working)
        with np.errstate(all="ignore"):
            result = shifted - np.log(total) if log else exponentials / total
        return filled(result, x.shape, x.dtype, out)

    def softmax_cross_entropy(
        self, logits: Array, targets: Array, scale: Array | float, smoothing: float
    ) -> tuple[Array, Array]:
        working = logits.astype(compute_dtype(logits.dtype), copy=False)
        n, k = working.shape
        scale = np.broadcast_to(np.asarray(scale, working.dtype), (n,))
        shifted, exponentials, total = softmax_parts(working)
        with np.errstate(all="ignore"):
            log_probabilities = shifted - np.log(total)
            if targets.ndim == 1:
                probabilities = np.zeros_like(working)
                probabilities[np.arange(n), targets] = 1
            else:
                probabilities = targets.astype(working.dtype, copy=False)
            if smoothing:
                probabilities = probabilities * working.dtype.type(
                    1 - smoothing
                ) + working.dtype.type(smoothing / k)
            # A class of probability 0 adds nothing, though its logarithm may be -inf.
            terms = np.where(probabilities == 0, 0, probabilities * log_probabilities)
            losses = -terms.sum(axis=1) * scale
            mass = probabilities.sum(axis=1, keepdims=True)
            gradient = (exponentials / total * mass - probabilities) * scale[:, None]
        unused = scale == 0
        losses[unused] = 0
        gradient[unused] = 0
        return losses.astype(logits.dtype, copy=False), gradient.astype(logits.dtype, copy=False)

    def update(
        self, formula: Formula, arrays: tuple[Array, ...], scalars: tuple[float, ...]
    ) -> None:
        dtype = arrays[0].dtype
        working = compute_dtype(dtype)
        operands = [x.astype(working, copy=False) for x in arrays]
        with np.errstate(all="ignore"):
            new = bound(formula, working)(*operands, *(working.type(s) for s in scalars))
        for target, value in zip((arrays[0], *arrays[2:]), new, strict=True):
            np.copyto(target, value, casting="same_kind")

    def perceptron(self, x: Array, layers: Sequence[Layer], dtype: DType) -> Array | None:
        return None

    def finite(self, x: Array, numbers: Array) -> tuple[Array, Array]:
        with np.errstate(all="ignore"):
            return np.isfinite(x * (1 / numbers[0])).all(keepdims=True), numbers.copy()

    def scaled_update(
        self,
        formula: Formula,
        advance: Formula,
        arrays: tuple[Array, ...],
        finite: Array,
        numbers: Array,
        scalars: tuple[float, ...],
        *,
        out: Array,
    ) -> Array:
        fine, count = bool(finite.all()), len(numbers)
        given = [*numbers, *(numbers.dtype.type(s) for s in scalars)]
        with np.errstate(all="ignore"):
            values = bound(advance, numbers.dtype)(fine, *given)
            out[:] = values[:count]
            if fine:
                p, g, *state = arrays
                self.update(formula, (p, g * values[count], *state), values[count + 1 :])
        return out

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
        # NaN fails both comparisons.
        if not (_least(x, axis=None) >= low and _most(x, axis=None) <= high):
            i = int(((x >= low) & (x <= high)).reshape(-1).argmin())
            told = x.reshape(-1, 1) if shown is None else shown.reshape(x.size, -1)
            raise error(*about, i, *told[i])

    def synchronize(self) -> None:
        """Nothing to wait for: every call has finished when it returns."""

    def window(
        self, base: Array, offset: int, shape: Shape, strides: tuple[int, ...], dtype: DType
    ) -> Array:
        return windowed(base, offset, shape, strides, dtype)

    def compile(self, program: Program) -> Replay | None:
        return None


BACKEND: Backend = NumpyBackend()
