"""Ops that join arrays, cut them, and repeat, turn or shift what is in them."""

from __future__ import annotations

import builtins
import operator
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import gradnet.ops as _ops
from gradnet import modes
from gradnet.backends import Array, Backend, Shape
from gradnet.errors import ShapeError
from gradnet.graph import Context
from gradnet.ops.core import Cost, Op, size
from gradnet.ops.direct import Whole
from gradnet.ops.shape import (
    as_shape,
    broadcast_to,
    expand_dims,
    is_number,
    normalize_axes,
    normalize_axis,
    reshape,
    tensor_of,
)
from gradnet.tensor import Tensor, fresh

ops: Any = _ops  # what is above this file, looked up when it is used

_LISTS = frozenset((list, tuple))


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


def _alike(tensors: Any) -> tuple[Backend, list[Array], Shape] | None:
    """The arrays of tensors of one backend, dtype and shape, with an axis, that nobody tracks.

    None for any others.
    """
    first = tensors[0] if type(tensors) in _LISTS and tensors else None
    if modes.open_modes or not isinstance(first, Tensor):
        return None
    backend, array = first.backend, first.array
    shape, dtype = array.shape, array.dtype
    arrays = []
    for x in tensors:
        if not isinstance(x, Tensor) or x.node is not None or x.backend is not backend:
            return None
        array = x.array
        if array.dtype is not dtype or array.shape != shape:
            return None
        arrays.append(array)
    return (backend, arrays, shape) if shape else None


def concat(arrays: Any, /, *, axis: int | None = 0) -> Tensor:
    """Arrays joined along an axis, or flattened first for None.

    Raises ShapeError where lengths other than along the axis differ.
    """
    return _JOINED.direct(arrays, axis)


def _concat(arrays: Any, axis: Any) -> Tensor:
    alike = _alike(arrays)
    if alike is not None:
        backend, parts, shape = alike
        if type(axis) is int and 0 <= axis < len(shape):
            return fresh(backend.concatenate(parts, axis), backend)
    tensors = ops.creation.operands_of_one_dtype("concat", *arrays)
    if not tensors:
        raise ShapeError("concat got no arrays")
    if axis is None:
        tensors = [reshape(x, (-1,)) for x in tensors]
        axis = 0
    shape = tensors[0].array.shape
    if not shape:
        raise ShapeError("concat joins arrays along an axis, got 0-d ones; stack joins those")
    axis = normalize_axis("concat", axis, len(shape))
    for x in tensors:
        other = x.array.shape
        if other != shape:
            rest = other[:axis], other[axis + 1 :]
            if len(other) != len(shape) or rest != (shape[:axis], shape[axis + 1 :]):
                listed = ", ".join(str(t.shape) for t in tensors)
                raise ShapeError(f"concat along axis {axis} got shapes {listed}")
    return CONCATENATE(*tensors, axis=axis)


_JOINED = Whole("concat", _concat)


def stack(arrays: Any, /, *, axis: int = 0) -> Tensor:
    """Arrays of one shape joined along a new axis.

    Raises ShapeError for arrays of several shapes.
    """
    alike = _alike(arrays)
    if alike is not None and type(axis) is int and axis == 0:
        # One after the other along their first axis, then apart.
        backend, parts, lengths = alike
        joined = backend.concatenate(parts, 0)
        return fresh(backend.reshape(joined, (len(parts), *lengths)), backend)
    tensors = ops.creation.operands_of_one_dtype("stack", *arrays)
    shape = tensors[0].array.shape if tensors else None
    for x in tensors:
        if x.array.shape != shape:
            shape = None
            break
    if shape is None:
        shapes = {x.array.shape for x in tensors}
        raise ShapeError(f"stack needs arrays of one shape, got {sorted(shapes)}")
    axis = normalize_axis("stack", axis, len(shape) + 1)
    return CONCATENATE(*tensors, axis=axis, new=True)


def split(x: Any, sections: Any, /, *, axis: int = 0) -> list[Tensor]:
    """An array cut along an axis into equal sections, or at the given indices, as in NumPy.

    Raises ShapeError where the sections would not be equal.
    """
    x = tensor_of(x)
    axis = normalize_axis("split", axis, x.ndim)
    count = x.shape[axis]
    if is_number(sections):
        sections = operator.index(sections)
        if sections < 1 or count % sections:
            raise ShapeError(f"split cannot cut {count} rows into {sections} equal sections")
        edges = [i * (count // sections) for i in range(sections + 1)]
    else:
        edges = [0, *sections, count]
    lead = (slice(None),) * axis
    return [x[(*lead, slice(start, stop))] for start, stop in pairwise(edges)]


def tile(x: Any, repetitions: Any, /) -> Tensor:
    """The array repeated as a whole along each axis, as in NumPy."""
    x = tensor_of(x)
    counts = as_shape(repetitions)
    ndim = builtins.max(x.ndim, len(counts))
    counts = (1,) * (ndim - len(counts)) + counts
    shape = (1,) * (ndim - x.ndim) + x.shape
    interleaved = tuple(n for length in shape for n in (1, length))
    wide = tuple(n for count, length in zip(counts, shape, strict=True) for n in (count, length))
    wider = broadcast_to(reshape(x, interleaved), wide)
    return reshape(wider, tuple(c * n for c, n in zip(counts, shape, strict=True)))


def repeat(x: Any, repeats: Any, /, *, axis: int | None = None) -> Tensor:
    """Each element repeated along an axis, of the flattened array for None.

    Raises ShapeError for counts that are negative, or neither one nor one for each element.
    """
    from gradnet.ops.creation import arange, asarray
    from gradnet.ops.index import take

    x = tensor_of(x)
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    axis = normalize_axis("repeat", axis, x.ndim)
    if isinstance(repeats, int) or asarray(repeats).ndim == 0:
        repeats = operator.index(repeats)
        if repeats < 0:
            raise ShapeError(f"repeat got a count of {repeats}; expected one that is not negative")
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
    x = tensor_of(x)
    axes = normalize_axes("flip", axis, x.ndim)
    return x[tuple(slice(None, None, -1) if i in axes else slice(None) for i in range(x.ndim))]


def roll(x: Any, /, shift: Any, *, axis: Any = None) -> Tensor:
    """Elements moved along axes, those pushed out at the end coming back at the start."""
    x = tensor_of(x)
    if axis is None:
        return reshape(roll(reshape(x, (-1,)), shift, axis=0), x.shape)
    axes = (axis,) if is_number(axis) else tuple(axis)
    shifts = (shift,) * len(axes) if is_number(shift) else tuple(shift)
    for a, s in zip(axes, shifts, strict=True):
        a, s = normalize_axis("roll", a, x.ndim), operator.index(s)
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
    x = concat(joined, axis=axis) if len(joined) > 1 else tensor_of(x)
    axis = normalize_axis("diff", axis, x.ndim)
    lead = (slice(None),) * axis
    difference = op("not_equal" if x.dtype == bool else "subtract")
    for _ in range(n):
        x = difference(x[(*lead, slice(1, None))], x[(*lead, slice(None, -1))])
    return x
