"""Ops that move values without computing: reshape, permute, broadcast, join, cut, repeat."""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import gradnet.ops as _ops
from gradnet.backends import Array, Backend, Shape
from gradnet.errors import AxisError, DTypeError, ShapeError
from gradnet.graph import Context
from gradnet.ops.core import Cost, Op, size
from gradnet.ops.multilinear import Multilinear
from gradnet.tensor import Tensor

ops: Any = _ops  # what is above this file, looked up when it is used


def is_sequence(x: Any) -> bool:
    """Whether x is a list or tuple, such as the nested lists that arrays are made from."""
    return isinstance(x, Sequence) and not isinstance(x, str | bytes)


def normalize_axis(name: str, axis: Any, ndim: int) -> int:
    """A non-negative axis. Raises AxisError, naming the op, where it is out of range."""
    if type(axis) is int and 0 <= axis < ndim:
        return axis
    try:
        number = operator.index(axis)
    except TypeError:
        raise DTypeError(f"{name} got the axis {axis!r}; an axis is an integer") from None
    if not -ndim <= number < builtins.max(ndim, 1):
        raise AxisError(
            f"{name} got axis {number} for a tensor of {ndim} dimension(s); "
            f"expected {-ndim} to {ndim - 1}"
        )
    return int(number % builtins.max(ndim, 1))


def normalize_axes(name: str, axis: Any, ndim: int) -> tuple[int, ...]:
    """Non-negative axes, all of them for None. Raises ShapeError for repeated ones."""
    if axis is None:
        return tuple(range(ndim))
    if type(axis) is int and -ndim <= axis < ndim:
        return (axis % ndim,)
    axes = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    found = tuple([normalize_axis(name, a, ndim) for a in axes])
    if len(set(found)) != len(found):
        raise ShapeError(f"{name} got an axis twice in {tuple(axes)}")
    return found


def _tensor(x: Any) -> Tensor:
    if isinstance(x, Tensor):
        return x
    return ops.asarray(x)


# Reshape

RESHAPE: Multilinear = Multilinear(
    "reshape",
    lambda backend, x, shape: backend.reshape(x, shape),
    (lambda g, context: RESHAPE(g, shape=context.inputs[0].shape),),
    view=True,
)


def as_shape(shape: Any) -> Shape:
    """A shape from an int, a tuple, a list or 0-d tensors."""
    try:
        if isinstance(shape, (tuple, list)):
            return tuple(map(operator.index, shape))
        return (operator.index(shape),)
    except TypeError:
        raise DTypeError(f"a shape is an integer or several, got {shape!r}") from None


def as_lengths(shape: Any) -> Shape:
    """A shape to make a tensor of. Raises ShapeError where a length is negative."""
    wanted = as_shape(shape)
    if any(n < 0 for n in wanted):
        raise ShapeError(f"lengths are not negative, got the shape {wanted}")
    return wanted


def reshape(x: Any, /, shape: Any, *, copy: bool | None = None) -> Tensor:
    """The values in row-major order under another shape; one length may be -1.

    Raises ShapeError where the number of elements differs.
    """
    x = _tensor(x)
    current = x.array.shape
    wanted = _reshaped(current, as_shape(shape))
    if copy:
        from gradnet.ops.creation import copy as copied

        x = copied(x)
    return x if wanted == current and not copy else RESHAPE(x, shape=wanted)


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
    x = _tensor(x)
    ndim = len(x.array.shape)
    order = normalize_axes("permute_dims", tuple(axes), ndim)
    if len(order) != ndim:
        raise ShapeError(f"permute_dims needs all {x.ndim} axes of {x.shape}, got {tuple(axes)}")
    return PERMUTE(x, axes=order)


def matrix_transpose(x: Any, /) -> Tensor:
    """The last two axes exchanged: (..., n, m) -> (..., m, n)."""
    x = _tensor(x)
    ndim = len(x.array.shape)
    if ndim < 2:
        raise ShapeError(f"matrix_transpose needs at least two axes, got shape {x.shape}")
    return PERMUTE(x, axes=(*range(ndim - 2), ndim - 1, ndim - 2))


def transpose(x: Any, /, axes: Any = None) -> Tensor:
    """Axes in another order, reversed where none is given, as in NumPy."""
    x = _tensor(x)
    return permute_dims(x, tuple(range(x.ndim))[::-1] if axes is None else axes)


def swapaxes(x: Any, axis1: int, axis2: int) -> Tensor:
    """Two axes exchanged."""
    x = _tensor(x)
    i, j = (normalize_axis("swapaxes", a, x.ndim) for a in (axis1, axis2))
    order = list(range(x.ndim))
    order[i], order[j] = j, i
    return PERMUTE(x, axes=tuple(order))


def moveaxis(x: Any, source: Any, destination: Any, /) -> Tensor:
    """Axes moved to other places, the others keeping their order."""
    x = _tensor(x)
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
    """The values repeated along new and size-1 axes, without a copy."""
    x = _tensor(x)
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
    x = _tensor(x)
    return reshape(x, (x.size,))


def squeeze(x: Any, /, axis: Any = None) -> Tensor:
    """Without the given axes, or all axes, of length 1. Raises ShapeError for a longer one."""
    x = _tensor(x)
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
    x = _tensor(x)
    count = len(axis) if isinstance(axis, tuple | list) else 1
    lengths = list(x.array.shape)
    for place in sorted(normalize_axes("expand_dims", axis, len(lengths) + count)):
        lengths.insert(place, 1)
    return RESHAPE(x, shape=tuple(lengths)) if count else x


def unstack(x: Any, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices along an axis, as a tuple."""
    x = _tensor(x)
    axis = normalize_axis("unstack", axis, x.ndim)
    return tuple(x[(slice(None),) * axis + (i,)] for i in range(x.shape[axis]))


# Joining and cutting


class _Concatenate(Op):
    """Arrays joined along an axis, or a new one; each gets back its own piece of the cotangent."""

    def forward(self, backend: Backend, *xs: Array, axis: int, new: bool = False) -> Array:
        if new:
            shape = xs[0].shape
            longer = (*shape[:axis], 1, *shape[axis:])
            xs = tuple([backend.reshape(x, longer) for x in xs])
        return backend.concatenate(xs, axis)

    def saves(self, needs: tuple[bool, ...]) -> tuple[tuple[bool, ...], bool]:
        return (False,) * len(needs), False

    def vjp(self, context: Context, g: Any) -> Sequence[Tensor | None]:
        axis = context.parameters["axis"]
        lead = (slice(None),) * axis
        if context.parameters.get("new"):
            return [g[(*lead, i)] if need else None for i, need in enumerate(context.needs)]
        pieces: list[Tensor | None] = []
        start = 0
        for x, need in zip(context.inputs, context.needs, strict=True):
            stop = start + x.shape[axis]
            pieces.append(g[(*lead, slice(start, stop))] if need else None)
            start = stop
        return pieces

    def jvp(self, context: Context, tangents: tuple[Tensor | None, ...]) -> Any:
        from gradnet.ops.creation import zeros_like

        full = [
            zeros_like(x) if t is None else t for x, t in zip(context.inputs, tangents, strict=True)
        ]
        return self(*full, **context.parameters)

    def cost(self, *shapes: Shape, itemsize: int = 4, **parameters: Any) -> Cost:
        return 0.0, 2.0 * itemsize * sum(size(s) for s in shapes)


CONCATENATE = _Concatenate("concat")


def concat(arrays: Any, /, *, axis: int | None = 0) -> Tensor:
    """Arrays joined along an axis, or flattened first for None.

    Raises ShapeError where lengths other than along the axis differ.
    """
    tensors = ops.creation.operands_of_one_dtype("concat", *arrays)
    if not tensors:
        raise ShapeError("concat got no arrays")
    if axis is None:
        tensors = [reshape(x, (-1,)) for x in tensors]
        axis = 0
    shape = tensors[0].array.shape
    axis = normalize_axis("concat", axis, len(shape))
    for x in tensors:
        other = x.array.shape
        if other != shape:
            rest = other[:axis], other[axis + 1 :]
            if len(other) != len(shape) or rest != (shape[:axis], shape[axis + 1 :]):
                listed = ", ".join(str(t.shape) for t in tensors)
                raise ShapeError(f"concat along axis {axis} got shapes {listed}")
    return CONCATENATE(*tensors, axis=axis)


def stack(arrays: Any, /, *, axis: int = 0) -> Tensor:
    """Arrays of one shape joined along a new axis."""
    tensors = ops.creation.operands(*arrays)
    shapes = {x.array.shape for x in tensors}
    if len(shapes) != 1:
        raise ShapeError(f"stack needs arrays of one shape, got {sorted(shapes)}")
    axis = normalize_axis("stack", axis, tensors[0].ndim + 1)
    tensors = ops.creation.operands_of_one_dtype("stack", *tensors)
    return CONCATENATE(*tensors, axis=axis, new=True)


def split(x: Any, sections: int | Sequence[int], /, *, axis: int = 0) -> list[Tensor]:
    """An array cut along an axis into equal sections, or at the given indices, as in NumPy."""
    x = _tensor(x)
    axis = normalize_axis("split", axis, x.ndim)
    count = x.shape[axis]
    if isinstance(sections, int):
        if sections < 1 or count % sections:
            raise ShapeError(f"split cannot cut {count} rows into {sections} equal sections")
        edges = [i * (count // sections) for i in range(sections + 1)]
    else:
        edges = [0, *sections, count]
    lead = (slice(None),) * axis
    return [x[(*lead, slice(start, stop))] for start, stop in pairwise(edges)]


def tile(x: Any, repetitions: Any, /) -> Tensor:
    """The array repeated as a whole along each axis, as in NumPy."""
    x = _tensor(x)
    counts = as_shape(repetitions)
    ndim = builtins.max(x.ndim, len(counts))
    counts = (1,) * (ndim - len(counts)) + counts
    shape = (1,) * (ndim - x.ndim) + x.shape
    interleaved = tuple(n for length in shape for n in (1, length))
    wide = tuple(n for count, length in zip(counts, shape, strict=True) for n in (count, length))
    wider = broadcast_to(reshape(x, interleaved), wide)
    return reshape(wider, tuple(c * n for c, n in zip(counts, shape, strict=True)))


def repeat(x: Any, repeats: Any, /, *, axis: int | None = None) -> Tensor:
    """Each element repeated along an axis, of the flattened array for None."""
    from gradnet.ops.creation import arange, asarray
    from gradnet.ops.index import take

    x = _tensor(x)
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    axis = normalize_axis("repeat", axis, x.ndim)
    if isinstance(repeats, int) or asarray(repeats).ndim == 0:
        repeats = operator.index(repeats)
        wider = broadcast_to(
            expand_dims(x, axis + 1), (*x.shape[: axis + 1], repeats, *x.shape[axis + 1 :])
        )
        return reshape(wider, (*x.shape[:axis], x.shape[axis] * repeats, *x.shape[axis + 1 :]))
    counts = asarray(repeats, backend=x.backend)
    if counts.shape == (1,):
        counts = broadcast_to(counts, (x.shape[axis],))
    if counts.shape != (x.shape[axis],) or bool((counts < 0).any()):
        raise ShapeError(
            f"repeat got counts of shape {counts.shape} for {x.shape[axis]} elements along axis "
            f"{axis}; expected one count, not negative, for each"
        )
    ends = counts.cumsum()
    total = int(ends[-1]) if ends.size else 0
    positions = arange(total, backend=x.backend)
    array = x.backend.searchsorted(ends.array, positions.array, "right")
    return take(x, Tensor.wrap(array, x.backend), axis=axis)


def flip(x: Any, /, *, axis: Any = None) -> Tensor:
    """The order of the elements reversed along axes, all of them for None."""
    x = _tensor(x)
    axes = normalize_axes("flip", axis, x.ndim)
    return x[tuple(slice(None, None, -1) if i in axes else slice(None) for i in range(x.ndim))]


def roll(x: Any, /, shift: Any, *, axis: Any = None) -> Tensor:
    """Elements moved along axes, those pushed out at the end coming back at the start."""
    x = _tensor(x)
    if axis is None:
        return reshape(roll(reshape(x, (-1,)), shift, axis=0), x.shape)
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    shifts = (shift,) * len(axes) if isinstance(shift, int) else tuple(shift)
    for a, s in zip(axes, shifts, strict=True):
        a = normalize_axis("roll", a, x.ndim)
        count = x.shape[a]
        if count and s % count:
            lead, cut = (slice(None),) * a, count - s % count
            x = concat([x[(*lead, slice(cut, None))], x[(*lead, slice(None, cut))]], axis=a)
    return x


def diff(
    x: Any, /, n: int = 1, *, axis: int = -1, prepend: Any = None, append: Any = None
) -> Tensor:
    """The differences of neighbours along an axis, taken n times; each time one element fewer.

    `prepend` and `append` are joined to x first. Raises ValueError for a negative n.
    """
    from gradnet.ops.elementwise import op

    if n < 0:
        raise ValueError(f"diff takes the difference n times, got n={n}")
    joined = [part for part in (prepend, x, append) if part is not None]
    x = concat(joined, axis=axis) if len(joined) > 1 else _tensor(x)
    axis = normalize_axis("diff", axis, x.ndim)
    lead = (slice(None),) * axis
    difference = op("not_equal" if x.dtype == bool else "subtract")
    for _ in range(n):
        x = difference(x[(*lead, slice(1, None))], x[(*lead, slice(None, -1))])
    return x
