"""Sorting, searching and choosing, with gradients to the values that are moved."""

from __future__ import annotations

from typing import Any

import gradnet.ops as _ops
from gradnet.errors import ShapeError
from gradnet.ops.direct import Whole
from gradnet.ops.elementwise import op
from gradnet.ops.index import take, take_along_axis
from gradnet.ops.shape import normalize_axis
from gradnet.tensor import Tensor, fresh

ops: Any = _ops  # what is above this file, looked up when it is used

_WHERE = Whole("where", op("where").direct)


def argsort(x: Any, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The indices that sort x along an axis, stable, NaN last; complex x by real, then imag."""
    x = ops.asarray(x)
    axis = normalize_axis("argsort", axis, x.ndim)
    return Tensor.wrap(x.backend.argsort(x.array, axis, descending), x.backend)


def sort(x: Any, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The values in order along an axis, NaN last; gradients follow the values.

    Complex values go by their real parts, then by their imaginary parts, as NumPy's do.
    """
    return _SORT.direct(x, axis, descending)


def _sort(x: Any, axis: Any, descending: bool) -> Tensor:
    if not isinstance(x, Tensor):
        x = ops.asarray(x)
    axis = normalize_axis("sort", axis, len(x.array.shape))
    if x.node is not None or x.tangents:
        return take_along_axis(x, argsort(x, axis=axis, descending=descending), axis=axis)
    return fresh(x.backend.sort(x.array, axis, descending), x.backend)


_SORT = Whole("sort", _sort)


def top_k(x: Any, k: int, /, *, axis: int = -1, largest: bool = True) -> tuple[Tensor, Tensor]:
    """The k largest (or smallest) values along an axis in order, and their indices.

    Raises ShapeError for more values than there are along the axis.
    """
    x = ops.asarray(x)
    axis = normalize_axis("top_k", axis, x.ndim)
    if not 0 <= k <= x.shape[axis]:
        raise ShapeError(f"top_k got k={k} for {x.shape[axis]} values along axis {axis}")
    order = argsort(x, axis=axis, descending=largest)
    indices = order[(slice(None),) * axis + (slice(0, k),)]
    return take_along_axis(x, indices, axis=axis), indices


def nonzero(x: Any, /) -> tuple[Tensor, ...]:
    """The indices of the elements that are not zero, a tensor per axis.

    Raises ShapeError for a tensor without an axis.
    """
    x = ops.asarray(x)
    if not x.ndim:
        raise ShapeError("nonzero needs at least one axis")
    return tuple(Tensor.wrap(i, x.backend) for i in x.backend.nonzero(x.array))


def where(condition: Any, x1: Any = None, x2: Any = None, /) -> Any:
    """x1 where the condition holds, else x2; with a condition alone, where it holds (`nonzero`)."""
    if x1 is None and x2 is None:
        return nonzero(condition)
    return _WHERE.direct(condition, x1, x2)


def searchsorted(x1: Any, x2: Any, /, *, side: str = "left", sorter: Any = None) -> Tensor:
    """Where each of x2 would be inserted into the sorted 1-D x1 to keep it sorted.

    Raises ShapeError for an x1 that has not one axis.
    """
    from gradnet.ops.creation import operands_of_one_dtype

    values, x = operands_of_one_dtype("searchsorted", x1, x2)
    if values.ndim != 1:
        raise ShapeError(f"searchsorted needs sorted values of one axis, got {values.shape}")
    if sorter is not None:
        values = take(values, sorter)
    return Tensor.wrap(x.backend.searchsorted(values.array, x.array, side), x.backend)
