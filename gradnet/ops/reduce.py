"""Reductions over axes and running ones, each with derivatives of any order."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from gradnet import dtypes, modes
from gradnet.backends import Array, Backend, Shape
from gradnet.dtypes import DType
from gradnet.errors import DTypeError, ShapeError
from gradnet.graph import Context, Edge, Node, Pending
from gradnet.ops.complex import imag, real
from gradnet.ops.core import Composed, Cost, Op, size
from gradnet.ops.creation import asarray, astype, zeros_like
from gradnet.ops.direct import Whole, awaited
from gradnet.ops.elementwise import op
from gradnet.ops.joining import concat
from gradnet.ops.multilinear import CAST, Multilinear, cast_back
from gradnet.ops.shape import (
    BROADCAST,
    RESHAPE,
    normalize_axes,
    normalize_axis,
    reshape,
    tensor_of,
)
from gradnet.spare import LARGE
from gradnet.tensor import Tensor, fresh

Axes = int | tuple[int, ...] | None

_OWN = frozenset((dtypes.float32, dtypes.float64))  # these add up in their own dtype
_ADD, _DIVIDE, _SQUARE, _SUBTRACT = (op(name) for name in ("add", "divide", "square", "subtract"))


def _kept(shape: Shape, axes: tuple[int, ...]) -> Shape:
    """The shape with reduced axes of length 1."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def _spread(g: Tensor, context: Context) -> Tensor:
    """A cotangent of a reduction, broadcast over the axes that were reduced."""
    shape, axes = context.inputs[0].shape, context.parameters["axes"]
    if len(axes) != len(shape):
        g = RESHAPE(g, shape=_kept(shape, axes))
    return BROADCAST(g, shape=shape)


def _sum_adjoint(g: Tensor, context: Context) -> Tensor:
    return cast_back(_spread(g, context), context.inputs[0].dtype)


def _reduce_cost(
    shape: Shape, axes: tuple[int, ...], keepdims: bool, itemsize: int, dtype: DType | None = None
) -> Cost:
    count = size(shape)
    return count, itemsize * (
        count + count / builtins.max(size(tuple(shape[a] for a in axes)), 1.0)
    )


class _Sum(Multilinear):
    """A sum, whose derivative on arrays is a view where the dtype stays."""

    def pull(self, node: Node, g: Array, pending: Pending) -> Sequence[tuple[Edge, Array]]:
        (x,), (edge,) = node.inputs or (), node.parents
        backend: Any = node.backend
        axes, shape = node.parameters["axes"], x.shape
        if edge is None:
            return ()
        if len(axes) != len(shape):
            g = backend.reshape(g, _kept(shape, axes))
        g = backend.broadcast(g, shape)
        if g.dtype != x.dtype:
            g = cast_back(fresh(g, backend), x.dtype).array
        return ((edge, g),)


SUM = _Sum(
    "sum",
    lambda backend, x, axes, keepdims, dtype: backend.reduce("sum", x, axes, keepdims, dtype=dtype),
    (_sum_adjoint,),
    cost=_reduce_cost,
)


# The sum of a Tensor over all axes in machine code, where there is any; None where it does not know
# how, for then nothing is done.
total: Callable[[Any], Tensor | None] | None = awaited


def accumulator(x: Tensor, dtype: Any) -> DType:
    """The dtype of a sum or product: as asked, or 64 bits for integers, as the array API says."""
    if dtype is not None:
        return dtypes.canonical(dtype)
    own = x.array.dtype
    if own.kind == "u":
        return dtypes.uint64
    return dtypes.int64 if own.kind in "bi" else own


def _accumulated(x: Tensor, wanted: DType) -> Tensor:
    """`x` as a dtype that adds up to the wanted one."""
    own = x.array.dtype
    same = own is wanted or own == wanted or dtypes.is_inexact(own) == dtypes.is_inexact(wanted)
    return x if same else astype(x, wanted)


def sum(x: Any, /, *, axis: Axes = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """The sum over axes, all of them for None; integers add up in 64 bits."""
    if total is not None and axis is None and dtype is None and keepdims is False:
        y = total(x)
        if y is not None:
            return y
    x = tensor_of(x)
    array = x.array
    axes = normalize_axes("sum", axis, len(array.shape))
    own = array.dtype
    if dtype is None and own in _OWN:
        if x.node is not None or modes.open_modes:
            return SUM(x, axes=axes, keepdims=keepdims, dtype=own)
        backend = x.backend
        return fresh(backend.reduce("sum", array, axes, keepdims, dtype=own), backend)
    wanted = accumulator(x, dtype)
    return SUM(_accumulated(x, wanted), axes=axes, keepdims=keepdims, dtype=wanted)


class _Extreme(Op):
    """The largest or smallest value; its cotangent goes to the values that reach it, in parts."""

    def forward(self, backend: Backend, *xs: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
        return backend.reduce(self.name, xs[0], axes, keepdims, dtype=xs[0].dtype)

    def _shares(self, context: Context) -> Tensor:
        """1 / (number of values that reach the extreme) at each of them, 0 elsewhere."""
        x, y = context.inputs[0].detach(), context.output.detach()
        axes = context.parameters["axes"]
        reached = op("equal")(x, reshape(y, _kept(x.shape, axes)))
        hits = CAST(reached, dtype=x.dtype)
        counts = SUM(hits, axes=axes, keepdims=True, dtype=x.dtype)
        return hits / counts

    def vjp(self, context: Context, g: Any) -> Sequence[Tensor | None]:
        return (_spread(g, context) * self._shares(context),)

    def jvp(self, context: Context, tangents: tuple[Tensor | None, ...]) -> Any:
        (t,) = tangents
        assert t is not None
        parameters = context.parameters
        return SUM(t * self._shares(context), dtype=t.dtype, **parameters)

    def cost(self, *shapes: Shape, itemsize: int = 4, **parameters: Any) -> Cost:
        return _reduce_cost(shapes[0], itemsize=itemsize, **parameters)


MAX, MIN = _Extreme("max"), _Extreme("min")


def _extreme(which: _Extreme, x: Any, axis: Axes, keepdims: bool) -> Tensor:
    x = tensor_of(x)
    array = x.array
    shape, dtype = array.shape, array.dtype
    if dtype.kind == "c":
        raise DTypeError(f"{which.name} has no order for {x.dtype.name}")
    axes = normalize_axes(which.name, axis, len(shape))
    if 0 in shape and builtins.any(shape[a] == 0 for a in axes):
        raise ShapeError(f"{which.name} of no values: shape {x.shape}, axis {axis}")
    if x.node is not None or modes.open_modes:
        return which(x, axes=axes, keepdims=keepdims)
    backend = x.backend
    return fresh(backend.reduce(which.name, array, axes, keepdims, dtype=dtype), backend)


def max(x: Any, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The largest value over axes; NaN wins. Values that tie share the gradient equally."""
    return _MAX.direct(x, axis, keepdims)


def min(x: Any, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The smallest value over axes; NaN wins. Values that tie share the gradient equally."""
    return _MIN.direct(x, axis, keepdims)


class _Product(Composed):
    """A product over axes: no division in its derivative, so zeros are no exception."""

    def forward(self, backend: Backend, *xs: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
        return backend.reduce("prod", xs[0], axes, keepdims, dtype=xs[0].dtype)

    def expression(self, *inputs: Any, axes: tuple[int, ...], keepdims: bool) -> Tensor:
        from gradnet.ops.creation import ones_like

        (x,) = inputs
        shape = x.shape
        for axis in axes:
            lead = (slice(None),) * axis
            while x.shape[axis] > 1:
                half = x.shape[axis] // 2
                paired = x[(*lead, slice(0, half))] * x[(*lead, slice(half, 2 * half))]
                odd = x.shape[axis] % 2
                x = (
                    concat([paired, x[(*lead, slice(2 * half, None))]], axis=axis)
                    if odd
                    else paired
                )
            if not x.shape[axis]:
                x = ones_like(sum(x, axis=axis, keepdims=True))
        return x if keepdims else reshape(x, tuple(n for i, n in enumerate(shape) if i not in axes))

    def cost(self, *shapes: Shape, itemsize: int = 4, **parameters: Any) -> Cost:
        return _reduce_cost(shapes[0], itemsize=itemsize, **parameters)


PROD = _Product("prod")


def prod(x: Any, /, *, axis: Axes = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """The product over axes, all of them for None; integers multiply in 64 bits."""
    x = asarray(x)
    axes = normalize_axes("prod", axis, x.ndim)
    wanted = accumulator(x, dtype)
    return PROD(astype(x, wanted, copy=False), axes=axes, keepdims=keepdims)


def _as_float(x: Any) -> Tensor:
    x = tensor_of(x)
    return x if dtypes.is_inexact(x.array.dtype) else CAST(x, dtype=dtypes.DEFAULT_FLOAT)


def _rounded(x: Tensor, dtype: DType) -> Tensor:
    own = x.array.dtype
    return x if own is dtype or own == dtype else CAST(x, dtype=dtype)


def _on_arrays(x: Tensor) -> bool:
    """Whether what is computed from real numbers needs no Tensors, for nobody differentiates it."""
    return x.node is None and not modes.open_modes and x.array.dtype.kind != "c"


def _count(x: Tensor, axes: tuple[int, ...]) -> int:
    """How many elements are reduced to one."""
    shape = x.array.shape
    return math.prod(shape if len(axes) == len(shape) else [shape[a] for a in axes])


def mean(x: Any, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The mean over axes, all of them for None; float32 for integers."""
    x = _as_float(x)
    axes = normalize_axes("mean", axis, x.ndim)
    dtype = x.array.dtype
    # A sum of 16-bit floats overflows long before its mean does.
    wide = dtypes.compute_dtype(dtype)
    count = float(_count(x, axes))
    if _on_arrays(x):
        backend = x.backend
        total = backend.reduce("sum", x.array, axes, keepdims, dtype=wide)
        found = fresh(_DIVIDE.ways.of(backend, wide)(total, count), backend)
    else:
        found = _DIVIDE.pair(SUM(x, axes=axes, keepdims=keepdims, dtype=wide), count)
    return _rounded(found, dtype)


def var(x: Any, /, *, axis: Axes = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The mean squared distance from the mean over axes: sum(|x - mean|^2) / (n - correction)."""
    x = _as_float(x)
    if x.array.dtype.kind == "c":
        parts = [
            var(part, axis=axis, correction=correction, keepdims=keepdims)
            for part in (real(x), imag(x))
        ]
        return _ADD.pair(*parts)
    axes = normalize_axes("var", axis, x.ndim)
    wide = _rounded(x, dtypes.compute_dtype(x.array.dtype))
    count = _count(x, axes)
    rest = float(builtins.max(count - correction, 0))
    if _on_arrays(wide):
        found = fresh(_variance(wide, axes, keepdims, float(count), rest), wide.backend)
    else:
        centred = wide - mean(wide, axis=axes, keepdims=True)
        total = SUM(_SQUARE(centred), axes=axes, keepdims=keepdims, dtype=wide.dtype)
        found = _DIVIDE.pair(total, rest)
    return _rounded(found, x.array.dtype)


def _variance(x: Tensor, axes: tuple[int, ...], keepdims: bool, count: float, rest: float) -> Array:
    """The variance of an array as one."""
    array, backend = x.array, x.backend
    dtype = array.dtype
    divide = _DIVIDE.ways.of(backend, dtype)
    total = backend.reduce("sum", array, axes, True, dtype=dtype)
    centre = divide(total, count)
    centred = _SUBTRACT.ways.of(backend, dtype)(array, centre)
    if size(array.shape) * dtype.itemsize < LARGE:
        squares = _SQUARE.ways.of(backend, dtype)(centred)
    else:
        # A second array of that size would push the first one out of the cache.
        squares = backend.map(_SQUARE.formula, centred, dtype=dtype, out=centred)
    total = backend.reduce("sum", squares, axes, keepdims, dtype=dtype)
    return divide(total, rest)


def std(x: Any, /, *, axis: Axes = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The standard deviation over axes: the square root of the variance.

    Its gradient where all values are equal is 0.
    """
    return root(var(x, axis=axis, correction=correction, keepdims=keepdims))


def root(x: Tensor) -> Tensor:
    """The square root of sums of squares, with derivatives of 0 at 0 in place of infinite ones."""
    if x.node is None and not x.tangents:
        return op("sqrt")(x)
    flat = op("equal")(x.detach(), 0)
    return op("where")(flat, zeros_like(x), op("sqrt")(op("where")(flat, 1.0, x)))


def logsumexp(x: Any, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over axes, with the maximum taken off first so that nothing overflows."""
    x = _as_float(x)
    axes = normalize_axes("logsumexp", axis, x.ndim)
    if not size(tuple(x.shape[a] for a in axes)):
        return op("log")(sum(x, axis=axes, keepdims=keepdims))
    highest = max(x.detach(), axis=axes, keepdims=True)
    highest = op("where")(op("isfinite")(highest), highest, 0.0)
    total = SUM(op("exp")(x - highest), axes=axes, keepdims=keepdims, dtype=x.dtype)
    return op("log")(total) + reshape(highest, total.shape)


# Without derivatives


def _truth(kind: str, x: Any, axis: Axes, keepdims: bool, out: None) -> Tensor:
    if out is not None:  # NumPy hands on the one that it was not given
        raise TypeError(f"{kind} takes no out; assign what it returns")
    x = tensor_of(x)
    axes = normalize_axes(kind, axis, len(x.array.shape))
    backend = x.backend
    return fresh(backend.reduce(kind, x.array, axes, keepdims, dtype=dtypes.bool_), backend)


def any(x: Any, /, *, axis: Axes = None, keepdims: bool = False, out: None = None) -> Tensor:
    """Whether any value over axes is not zero."""
    return _truth("any", x, axis, keepdims, out)


def all(x: Any, /, *, axis: Axes = None, keepdims: bool = False, out: None = None) -> Tensor:
    """Whether all values over axes are not zero."""
    return _truth("all", x, axis, keepdims, out)


def count_nonzero(x: Any, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """How many values over axes are not zero."""
    return sum(op("not_equal")(asarray(x).detach(), 0), axis=axis, keepdims=keepdims)


def _arg_extreme(kind: str, x: Any, axis: int | None, keepdims: bool) -> Tensor:
    x = tensor_of(x)
    array = x.array
    shape = array.shape
    ndim, backend = len(shape), x.backend
    if array.dtype.kind == "c":
        raise DTypeError(f"arg{kind} has no order for {x.dtype.name}")
    if ndim == 1 and shape[0] and axis is None and not keepdims:
        return fresh(backend.argreduce(kind, array, 0), backend)
    if axis is None:
        if ndim != 1:
            x = reshape(x, (-1,) if x.size else (0,))
        axis = 0
        shape = (1,) * ndim if keepdims else ()
    else:
        axis = normalize_axis(f"arg{kind}", axis, ndim)
        shape = tuple(1 if i == axis else n for i, n in enumerate(x.shape) if keepdims or i != axis)
    if not x.shape[axis]:
        raise ShapeError(f"arg{kind} of no values: shape {x.shape}, axis {axis}")
    found = fresh(backend.argreduce(kind, x.array, axis), backend)
    return found if found.array.shape == shape else reshape(found, shape)


def argmax(x: Any, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index of the first largest value along an axis, of the flattened x for None."""
    return _ARGMAX.direct(x, axis, keepdims)


def argmin(x: Any, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index of the first smallest value along an axis, of the flattened x for None."""
    return _ARGMIN.direct(x, axis, keepdims)


_MAX, _MIN = Whole("max", partial(_extreme, MAX)), Whole("min", partial(_extreme, MIN))
_ARGMAX = Whole("argmax", partial(_arg_extreme, "max"))
_ARGMIN = Whole("argmin", partial(_arg_extreme, "min"))
