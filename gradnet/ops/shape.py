"""Ops that move values without computing: reshape, permute, broadcast, join, cut, repeat."""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import gradnet.ops as _ops
from gradnet import modes
from gradnet.backends import Array, Backend, Shape
from gradnet.errors import AxisError, DTypeError, ShapeError
from gradnet.graph import Context
from gradnet.ops.multilinear import Multilinear
from gradnet.tensor import Tensor

ops: Any = _ops  # what is above this file, looked up when it is used


_wrap = Tensor.wrap
_ALL = [tuple(range(ndim)) for ndim in range(65)]  # all axes; NumPy has 64 at most


def is_sequence(x: Any) -> bool:
    """Whether x is a list or tuple, such as the nested lists that arrays are made from."""
    return isinstance(x, Sequence) and not isinstance(x, str | bytes)


def number(x: Any) -> Any:
    """A number as Python's: that which a 0-d array or a scalar of NumPy's holds, too."""
    return x.item() if hasattr(x, "item") else x


def is_number(x: Any) -> bool:
    """Whether x is one number, if only as a 0-d array, not several of them."""
    return not (is_sequence(x) or getattr(x, "ndim", False))


def normalize_axis(name: str, axis: Any, ndim: int) -> int:
    """A non-negative axis. Raises AxisError, naming the op, where it is out of range."""
    if type(axis) is int and 0 <= axis < ndim:
        return axis
    try:
        number = operator.index(axis)
    except TypeError:
        raise DTypeError(f"{name} got the axis {axis!r}; an axis is an integer") from None
    if not -ndim <= number < ndim:
        raise AxisError(
            f"{name} got axis {number} for a tensor of {ndim} dimension(s); "
            f"expected {-ndim} to {ndim - 1}"
            if ndim
            else f"{name} got axis {number} for a tensor of 0 dimensions, which has no axis"
        )
    return int(number % ndim)


def normalize_axes(name: str, axis: Any, ndim: int) -> tuple[int, ...]:
    """Non-negative axes, all of them for None. Raises ShapeError for wrong or repeated ones."""
    if axis is None:
        return _ALL[ndim]
    if type(axis) is int and -ndim <= axis < ndim:
        return (axis % ndim,)
    axes = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    found = tuple([normalize_axis(name, a, ndim) for a in axes])
    if len(set(found)) != len(found):
        raise ShapeError(f"{name} got an axis twice in {tuple(axes)}")
    return found


def tensor_of(x: Any) -> Tensor:
    """Data as a Tensor."""
    if isinstance(x, Tensor):
        return x
    return ops.asarray(x)


# Reshape


class _Reshape(Multilinear):
    """A view where strides allow it, and else a copy, which changes of the operand do not reach."""

    def __call__(self, *inputs: Any, **parameters: Any) -> Tensor:
        y = super().__call__(*inputs, **parameters)
        (x,) = inputs
        if not x.backend.shares(x.array, y.array):
            y.separate()
            if y.node is not None:
                y.node[0].op = _RESHAPED_COPY
        return y


def _reshape(backend: Backend, x: Array, shape: Shape) -> Array:
    return backend.reshape(x, shape)


def _reshape_adjoint(g: Tensor, context: Context) -> Tensor:
    return RESHAPE(g, shape=context.inputs[0].shape)


RESHAPE = _Reshape("reshape", _reshape, (_reshape_adjoint,), view=True)
_RESHAPED_COPY = Multilinear("reshape", _reshape, (_reshape_adjoint,))


def _plain(numbers: Any) -> bool:
    """Whether they are a tuple of Python's integers, which is the key of what it gives."""
    if type(numbers) is not tuple:
        return False
    for number in numbers:
        if type(number) is not int:
            break
    else:
        return True
    return False


def as_shape(shape: Any) -> Shape:
    """A shape from an int, a tuple, a list or 0-d tensors. Raises DTypeError for fractions."""
    if _plain(shape):
        found: Shape = shape
        return found
    try:
        if isinstance(shape, (tuple, list)):
            return tuple(map(operator.index, shape))
        return (operator.index(shape),)
    except TypeError:
        raise DTypeError(f"a shape is an integer or several, got {shape!r}") from None


def as_lengths(shape: Any) -> Shape:
    """A shape to make a tensor of. Raises ShapeError where a length is negative."""
    wanted = as_shape(shape)
    if wanted and min(wanted) < 0:
        raise ShapeError(f"lengths are not negative, got the shape {wanted}")
    return wanted


def reshape(x: Any, /, shape: Any, *, copy: bool | None = None) -> Tensor:
    """The values in row-major order under another shape; one length may be -1.

    Raises ShapeError where the number of elements differs.
    """
    if not isinstance(x, Tensor):
        x = ops.asarray(x)
    array = x.array
    current = array.shape
    wanted = _reshaped(current, shape if _plain(shape) else as_shape(shape))
    if copy:
        from gradnet.ops.creation import copy as copied

        return RESHAPE(copied(x), shape=wanted)
    if wanted == current:
        return x
    if x.node is not None or modes.open_modes:
        return RESHAPE(x, shape=wanted)
    backend = x.backend
    made = backend.reshape(array, wanted)
    return _wrap(made, backend, None, x.counter if backend.shares(array, made) else None)


@lru_cache(maxsize=4096)
def _reshaped(current: Shape, wanted: Shape) -> Shape:
    """The shape that is wanted of another, with the length that -1 stands for."""
    count = math.prod(current)
    rest = math.prod([n for n in wanted if n != -1])
    found = tuple([count // (rest or 1) if n == -1 else n for n in wanted])
    unknown = wanted.count(-1)
    known = not unknown or (unknown == 1 and rest)
    if not known or math.prod(found) != count or (found and min(found) < 0):
        raise ShapeError(f"reshape cannot give {current}, {count} elements, shape {wanted}")
    return found


def _permute_adjoint(g: Tensor, context: Context) -> Tensor:
    axes = context.parameters["axes"]
    inverse = tuple(sorted(range(len(axes)), key=axes.__getitem__))
    return PERMUTE(g, axes=inverse)


PERMUTE = Multilinear(
    "permute_dims",
    lambda backend, x, axes: backend.permute(x, axes),
    (_permute_adjoint,),
    view=True,
)


def permute_dims(x: Any, /, axes: Any) -> Tensor:
    """Axes in another order. Raises ShapeError where `axes` is no permutation of all axes."""
    if not isinstance(x, Tensor):
        x = ops.asarray(x)
    array = x.array
    order = _order(array.shape, axes) if _plain(axes) else _ordered(array.shape, axes)
    if x.node is not None or modes.open_modes:
        return PERMUTE(x, axes=order)
    backend = x.backend
    return _wrap(backend.permute(array, order), backend, None, x.counter)


def _ordered(shape: Shape, axes: Any) -> tuple[int, ...]:
    """All axes of a shape, none negative, in the order that is asked for."""
    order = normalize_axes("permute_dims", tuple(axes), len(shape))
    if len(order) != len(shape):
        raise ShapeError(f"permute_dims needs all {len(shape)} axes of {shape}, got {tuple(axes)}")
    return order


_order = lru_cache(maxsize=4096)(_ordered)


def matrix_transpose(x: Any, /) -> Tensor:
    """The last two axes exchanged: (..., n, m) -> (..., m, n).

    Raises ShapeError for fewer axes than two.
    """
    x = tensor_of(x)
    ndim = len(x.array.shape)
    if ndim < 2:
        raise ShapeError(f"matrix_transpose needs at least two axes, got shape {x.shape}")
    return PERMUTE(x, axes=(*range(ndim - 2), ndim - 1, ndim - 2))


def transpose(x: Any, /, axes: Any = None) -> Tensor:
    """Axes in another order, reversed where none is given, as in NumPy."""
    x = tensor_of(x)
    return permute_dims(x, tuple(range(x.ndim))[::-1] if axes is None else axes)


def swapaxes(x: Any, axis1: int, axis2: int) -> Tensor:
    """Two axes exchanged."""
    x = tensor_of(x)
    i, j = (normalize_axis("swapaxes", a, x.ndim) for a in (axis1, axis2))
    order = list(range(x.ndim))
    order[i], order[j] = j, i
    return PERMUTE(x, axes=tuple(order))


def moveaxis(x: Any, source: Any, destination: Any, /) -> Tensor:
    """Axes moved to other places, the others keeping their order.

    Raises ShapeError where there are not as many places as axes to move.
    """
    x = tensor_of(x)
    sources = normalize_axes("moveaxis", source, x.ndim)
    destinations = normalize_axes("moveaxis", destination, x.ndim)
    if len(sources) != len(destinations):
        raise ShapeError(f"moveaxis got {len(sources)} source and {len(destinations)} target axes")
    order = [a for a in range(x.ndim) if a not in sources]
    for target, origin in sorted(zip(destinations, sources, strict=True)):
        order.insert(target, origin)
    return PERMUTE(x, axes=tuple(order))


def _broadcast_adjoint(g: Tensor, context: Context) -> Tensor:
    from gradnet.ops.elementwise import sum_to

    return sum_to(g, context.inputs[0].shape)


BROADCAST = Multilinear(
    "broadcast_to",
    lambda backend, x, shape: backend.broadcast(x, shape),
    (_broadcast_adjoint,),
    view=True,
)


def broadcast_to(x: Any, /, shape: Any) -> Tensor:
    """The values repeated along new and size-1 axes, without a copy.

    Raises ShapeError for a shape that the tensor does not broadcast to.
    """
    x = tensor_of(x)
    wanted = as_shape(shape)
    tail = wanted[len(wanted) - x.ndim :] if x.ndim <= len(wanted) else None
    if tail is None or builtins.any(n not in (1, m) for n, m in zip(x.shape, tail, strict=True)):
        raise ShapeError(f"broadcast_to cannot give {x.shape} the shape {wanted}")
    return x if wanted == x.shape else BROADCAST(x, shape=wanted)


def broadcast_arrays(*arrays: Any) -> tuple[Tensor, ...]:
    """Arrays broadcast against one another."""
    from gradnet.ops.creation import operands
    from gradnet.ops.elementwise import broadcast_shape

    tensors = operands(*arrays)
    shape = broadcast_shape("broadcast_arrays", [x.shape for x in tensors])
    return tuple(broadcast_to(x, shape) for x in tensors)


def ravel(x: Any, /) -> Tensor:
    """The values as one axis, in row-major order."""
    x = tensor_of(x)
    return reshape(x, (x.size,))


def squeeze(x: Any, /, axis: Any = None) -> Tensor:
    """Without the given axes, or all axes, of length 1. Raises ShapeError for a longer one."""
    x = tensor_of(x)
    if axis is None:
        axes: tuple[int, ...] = tuple(i for i, n in enumerate(x.shape) if n == 1)
    else:
        axes = normalize_axes("squeeze", axis, x.ndim)
    for a in axes:
        if x.shape[a] != 1:
            raise ShapeError(f"squeeze got axis {a} of length {x.shape[a]} in shape {x.shape}")
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in axes))


def expand_dims(x: Any, /, axis: Any = 0) -> Tensor:
    """With new axes of length 1 at the given places of the result."""
    x = tensor_of(x)
    if type(axis) is int:
        return reshape(x, _expanded(x.array.shape, axis))
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    lengths = list(x.array.shape)
    for place in sorted(normalize_axes("expand_dims", axes, len(lengths) + len(axes))):
        lengths.insert(place, 1)
    return reshape(x, tuple(lengths))


@lru_cache(maxsize=4096)
def _expanded(shape: Shape, axis: int) -> Shape:
    """A shape with one axis more, of length 1."""
    place = normalize_axis("expand_dims", axis, len(shape) + 1)
    return (*shape[:place], 1, *shape[place:])


def unstack(x: Any, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices along an axis, as a tuple."""
    x = tensor_of(x)
    axis = normalize_axis("unstack", axis, x.ndim)
    return tuple(x[(slice(None),) * axis + (i,)] for i in range(x.shape[axis]))
