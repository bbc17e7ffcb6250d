"""Indexing, gathering, scattering and ordering, with gradients to the values that are moved."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

import gradnet.ops as _ops
from gradnet import dtypes, modes
from gradnet.backends import Array, Backend, Index, Shape
from gradnet.errors import DTypeError, ShapeError
from gradnet.graph import Context, mode
from gradnet.ops.core import Cost, Op, common_backend, size
from gradnet.ops.elementwise import op
from gradnet.ops.multilinear import Multilinear
from gradnet.ops.shape import is_number, is_sequence, normalize_axis, reshape
from gradnet.tensor import Tensor, fresh

ops: Any = _ops  # what is above this file, looked up when it is used

_wrap = Tensor.wrap

# Basic indices give views, advanced ones copies. The adjoint of both is a scatter into zeros, and
# the adjoint of that is the index again, so that all of it differentiates to any order.

VIEW: Multilinear = Multilinear(
    "getitem",
    lambda backend, x, index: backend.view(x, index),
    (
        lambda g, context: SCATTER(
            g, shape=context.inputs[0].shape, index=context.parameters["index"], basic=True
        ),
    ),
    view=True,
)

TAKE: Multilinear = Multilinear(
    "getitem",
    lambda backend, x, index: backend.take(x, index),
    (
        lambda g, context: SCATTER(
            g, shape=context.inputs[0].shape, index=context.parameters["index"], basic=False
        ),
    ),
)


def _scatter(backend: Backend, g: Array, shape: Shape, index: Index, basic: bool) -> Array:
    zeros = backend.full(shape, 0, g.dtype)
    backend.put(zeros, index, g, add=not basic)
    return zeros


def _scatter_adjoint(g: Tensor, context: Context) -> Tensor:
    op = VIEW if context.parameters["basic"] else TAKE
    return op(g, index=context.parameters["index"])


SCATTER: Multilinear = Multilinear("scatter", _scatter, (_scatter_adjoint,))


def _parse(x: Tensor, index: Any, name: str) -> tuple[Index, bool]:
    """The index with arrays of the backend in it, and whether it is basic."""
    items = index if isinstance(index, tuple) else (index,)
    parsed: list[Any] = []
    basic = True
    consumed = 0
    for item in items:
        if item is None or item is Ellipsis or isinstance(item, slice):
            parsed.append(_plain_slice(item) if isinstance(item, slice) else item)
            consumed += isinstance(item, slice)
            continue
        if isinstance(item, (int, np.integer)) and not isinstance(item, bool):
            parsed.append(int(item))
            consumed += 1
            continue
        array, axes = _index_array(x, item, name)
        if isinstance(array, int):
            parsed.append(array)
        else:
            parsed.append(array)
            basic = False
        consumed += axes
    if consumed > x.ndim:
        raise IndexError(
            f"{name} got {consumed} indices for a tensor of shape {x.shape}, {x.ndim} dimension(s)"
        )
    return tuple(parsed), basic


def _is_plain(item: slice) -> bool:
    """Whether the bounds of a slice are Python's integers."""
    start, stop, step = item.start, item.stop, item.step
    return (
        (start is None or type(start) is int)
        and (stop is None or type(stop) is int)
        and (step is None or type(step) is int)
    )


def _is_plain_array(x: Tensor, index: Tensor) -> bool:
    """Whether a tensor of integers can be an index as it is."""
    array = index.array
    integers = array.dtype.kind in "iu" and bool(array.shape)
    return integers and index.backend is x.backend and bool(x.array.shape)


def _plain_slice(item: slice) -> slice:
    """A slice whose bounds are integers, from 0-d tensors too."""

    def bound(value: Any) -> int | None:
        return None if value is None else operator.index(value)

    return slice(bound(item.start), bound(item.stop), bound(item.step))


def _index_array(x: Tensor, item: Any, name: str) -> tuple[Any, int]:
    """An index array of the backend (or the integer of a 0-d one), and the axes it consumes."""
    if is_sequence(item) and not len(item):
        item = np.empty(0, np.int64)
    tensor = item
    if not isinstance(item, Tensor) or item.backend is not x.backend:
        tensor = ops.asarray(item, backend=x.backend)
    found = tensor.array.dtype.kind
    if found == "b":
        return tensor.array, tensor.ndim
    if found not in "iu":
        raise DTypeError(
            f"{name} got an index of dtype {tensor.dtype.name}; indices are integers, booleans, "
            "slices, None or Ellipsis"
        )
    if tensor.ndim == 0:
        return int(tensor), 1
    return tensor.array, 1


def getitem(x: Tensor, index: Any) -> Tensor:
    """`x[index]`: a view for basic indices, a copy for index arrays, with gradients in both.

    Raises IndexError for an index that is out of range or of no kind that there is.
    """
    kind = type(index)
    array, backend = x.array, x.backend
    if (kind is int or (kind is slice and _is_plain(index))) and array.shape:
        parsed, basic = (index,), True
    elif isinstance(index, Tensor) and _is_plain_array(x, index):
        parsed, basic = (index.array,), False
    else:
        parsed, basic = _parse(x, index, "getitem")
    try:
        if x.node is not None or modes.open_modes:
            y = (VIEW if basic else TAKE)(x, index=parsed)
        elif basic:
            y = _wrap(backend.view(array, parsed), backend, None, x.counter)
        else:
            return fresh(backend.take(array, parsed), backend)
    except IndexError as error:
        raise IndexError(f"getitem on a tensor of shape {x.shape}: {error}") from None
    if basic:
        y.origin = (array, parsed, y.counter[0])  # for `take_over`
    return y


class _SetItem(Op):
    """`x[index] = v` in the memory of x; both keep their gradients."""

    def forward(self, backend: Backend, *xs: Array, index: Index, basic: bool) -> Array:
        x, v = xs
        backend.put(x, index, v, add=False)
        return x

    def saves(self, needs: tuple[bool, ...]) -> tuple[tuple[bool, ...], bool]:
        return (False, False), False

    def vjp(self, context: Context, g: Any) -> Sequence[Tensor | None]:
        from gradnet.ops.creation import copy, zeros
        from gradnet.ops.elementwise import sum_to

        index, basic = context.parameters["index"], context.parameters["basic"]
        g_x = g_v = None
        if context.needs[0]:
            nothing = zeros((), dtype=g.dtype, backend=g.backend)
            g_x = self(copy(g), nothing, index=index, basic=basic)
        if context.needs[1]:
            g_v = VIEW(g, index=index) if basic else _of_last(TAKE(g, index=index), g, index)
            g_v = sum_to(g_v, context.inputs[1].shape)
        return g_x, g_v

    def jvp(self, context: Context, tangents: tuple[Tensor | None, ...]) -> Any:
        from gradnet.ops.creation import copy, zeros, zeros_like

        x, v = context.inputs
        t_x, t_v = tangents
        t_x = zeros_like(x) if t_x is None else copy(t_x)
        t_v = zeros(v.shape, dtype=x.dtype, backend=x.backend) if t_v is None else t_v
        return self(t_x, t_v, **context.parameters)

    def cost(self, *shapes: Shape, itemsize: int = 4, **parameters: Any) -> Cost:
        return 0.0, 2.0 * itemsize * size(shapes[1])


def _of_last(picked: Tensor, g: Tensor, index: Index) -> Tensor:
    """`picked = g[index]` where an assignment left its value, 0 where a later one replaced it."""
    from gradnet.ops.creation import arange, zeros

    order = reshape(arange(picked.size, backend=g.backend), picked.shape)
    last = zeros(g.shape, dtype=dtypes.int64, backend=g.backend)
    g.backend.put(last.array, index, order.array, add=False)
    return op("where")(op("equal")(TAKE(last, index=index), order), picked, 0.0)


SETITEM = _SetItem("setitem")


def setitem(x: Tensor, index: Any, value: Any) -> None:
    """`x[index] = value`, broadcast and cast to the dtype of x.

    Raises GraphError for a leaf that requires a gradient, DTypeError for a value of a higher kind.
    """
    from gradnet.ops.creation import asarray, astype, beside

    if isinstance(value, Tensor):
        v = value
    elif isinstance(value, bool | int | float | complex):
        v = asarray(value, dtype=dtypes.scalar_dtype(value, x.dtype), backend=x.backend)
    else:
        v = beside(value, [x], x.backend)
    if dtypes.is_inexact(v.dtype) and not dtypes.is_inexact(x.dtype):
        raise DTypeError(
            f"setitem cannot store {v.dtype.name} values in a {x.dtype.name} tensor; "
            "cast one of them with astype"
        )
    v = v if v.dtype == x.dtype else astype(v, x.dtype)
    parsed, basic = _parse(x, index, "setitem")
    x.check_changeable()
    common_backend("setitem", (x, v))
    if basic:
        x.take_over(v, parsed)
    try:
        if mode.levels or (mode.recording and (x.node is not None or v.node is not None)):
            x.replace(SETITEM(x, v, index=parsed, basic=basic))
        else:
            x.backend.put(x.array, parsed, v.array, add=False)
            x.changed()
    except IndexError as error:
        raise IndexError(f"setitem on a tensor of shape {x.shape}: {error}") from None
    except ValueError as error:
        if isinstance(error, ShapeError):
            raise
        raise ShapeError(
            f"setitem cannot fit values of shape {v.shape} into the indexed part of a tensor of "
            f"shape {x.shape}: {error}"
        ) from None


# Gathering


def take(x: Any, indices: Any, /, *, axis: int | None = None) -> Tensor:
    """The slices of x at integer indices along an axis; of the flattened x for None."""
    from gradnet.ops.creation import asarray

    x = asarray(x)
    if axis is None:
        x, axis = (x if x.ndim == 1 else reshape(x, (-1,))), 0
    axis = normalize_axis("take", axis, x.ndim)
    return getitem(x, (slice(None),) * axis + (indices,))


def _along_axis(x: Tensor, indices: Tensor, axis: int) -> tuple[Any, ...]:
    from gradnet.ops.creation import arange

    index: list[Any] = []
    for i in range(x.ndim):
        if i == axis:
            index.append(indices)
        else:
            positions = arange(x.shape[i], backend=x.backend)
            shape = tuple(x.shape[i] if j == i else 1 for j in range(x.ndim))
            index.append(reshape(positions, shape))
    return tuple(index)


# What is around an array may be its own values.
_BORDERS = ("edge", "reflect", "symmetric", "wrap")


def pad(
    x: Any,
    width: Any,
    /,
    mode: str = "constant",
    *,
    constant_values: Any = 0,
    reflect_type: str | None = None,
) -> Tensor:
    """The array with a border: `width` of it, (before, after), or such pairs by axis.

    Filled with a constant, or as in NumPy with the "edge", "reflect", "symmetric" or "wrap".
    Raises ShapeError for other widths, ValueError for another mode.
    """
    from gradnet.ops.creation import asarray, full

    x = asarray(x)
    if mode not in ("constant", *_BORDERS) or reflect_type not in (None, "even"):
        raise ValueError(
            f"pad got the mode {mode!r}, reflect_type {reflect_type!r}; there is 'constant', "
            f"{', '.join(map(repr, _BORDERS))}, and 'even'"
        )
    pairs = [width] if not is_sequence(width) or not any(map(is_sequence, width)) else list(width)
    pairs = [(n, n) if is_number(n) else tuple(n) * (2 if len(n) == 1 else 1) for n in pairs]
    pairs = [tuple(map(operator.index, pair)) for pair in pairs]
    pairs = pairs * x.ndim if len(pairs) == 1 else pairs
    if len(pairs) != x.ndim or not all(len(p) == 2 and min(p) >= 0 for p in pairs):
        raise ShapeError(
            f"pad got the widths {width!r} for a tensor of shape {x.shape}; expected a number, "
            "(before, after), or such a pair for each axis, none negative"
        )
    if mode != "constant":
        places = np.pad(np.arange(x.size).reshape(x.shape), pairs, mode=mode)  # type: ignore[call-overload]
        return take(x, asarray(places, backend=x.backend))
    shape = tuple(a + n + b for (a, b), n in zip(pairs, x.shape, strict=True))
    y = full(shape, constant_values, dtype=x.dtype, backend=x.backend)
    y[tuple(slice(a, a + n) for (a, _), n in zip(pairs, x.shape, strict=True))] = x
    return y


def take_along_axis(x: Any, indices: Any, /, *, axis: int = -1) -> Tensor:
    """`x` at indices that vary along the other axes too: y[i, j] = x[i, indices[i, j]].

    Raises ShapeError for indices of another number of axes.
    """
    from gradnet.ops.creation import asarray

    x = asarray(x)
    indices = asarray(indices, backend=x.backend)
    axis = normalize_axis("take_along_axis", axis, x.ndim)
    if indices.ndim != x.ndim:
        raise ShapeError(
            f"take_along_axis got indices of shape {indices.shape} for a tensor of shape "
            f"{x.shape}; both need the same number of dimensions"
        )
    return getitem(x, _along_axis(x, indices, axis))


def scatter_add(x: Any, index: Any, values: Any, /) -> Tensor:
    """A copy of x with values added at an index; repeated places add up.

    Raises IndexError for an index that is out of range.
    """
    from gradnet.ops.creation import asarray
    from gradnet.ops.elementwise import ADD
    from gradnet.ops.shape import broadcast_to

    x = asarray(x)
    values = asarray(values, dtype=x.dtype, backend=x.backend)
    parsed, _ = _parse(x, index, "scatter_add")
    try:
        shape = np.broadcast_to(np.empty((), np.bool_), x.shape)[_on_host(x.backend, parsed)].shape
    except IndexError as error:
        raise IndexError(f"scatter_add on a tensor of shape {x.shape}: {error}") from None
    spread = broadcast_to(values, shape)
    return ADD(x, SCATTER(spread, shape=x.shape, index=parsed, basic=False))


def _on_host(backend: Backend, index: Index) -> Index:
    plain = (int, slice, type(None), type(Ellipsis))
    return tuple(i if isinstance(i, plain) else backend.to_host(i) for i in index)


def one_hot(indices: Any, classes: int, /, *, dtype: Any = None) -> Tensor:
    """Rows of zeros with a one at each index: (...) -> (..., classes).

    Raises DTypeError for indices that are no integers.
    """
    from gradnet.ops.creation import arange, asarray, astype

    indices = asarray(indices)
    if dtypes.kind(indices.dtype) not in ("int", "uint"):
        raise DTypeError(f"one_hot needs integer indices, got {indices.dtype.name}")
    columns = arange(classes, backend=indices.backend)
    wide = astype(indices, dtypes.int64, copy=False)
    hits = op("equal")(reshape(wide, (*indices.shape, 1)), columns)
    return astype(hits, dtypes.DEFAULT_FLOAT if dtype is None else dtype)
