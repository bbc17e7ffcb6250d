"""Operands of an elementwise kernel, and shapes of a reduction, as the loops take them."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from gradnet.backends import Array, Shape
from gradnet.dtypes import bool_, float32, float64

from .templates.elementwise import CUT

# The bits of the floats that kernels compute in.
FLOATS = {float32: 32, float64: 64}

# What a kernel is compiled for and called with: a letter per operand, as in templates.elementwise;
# the arrays that threads cut along axis 0, the result last; and the other arguments.
Operands = tuple[str, list[Array], list[Any]]


def alike(xs: tuple[Any, ...]) -> tuple[str, list[Array], list[Any], Shape] | None:
    """Arrays of one shape, which the result has, and numbers: one flat loop. None for others."""
    pattern = ""
    parts: list[Array] = []
    rest: list[Any] = []
    shape = None
    for x in xs:
        if not isinstance(x, np.ndarray):
            pattern += "s"
            rest.append(float(x))
            continue
        if shape is None:
            shape = x.shape
        elif x.shape != shape:
            return None
        pattern += "X" if x.dtype.kind == "b" else "x"
        parts.append(x.ravel())
    assert shape is not None
    return pattern, parts, rest, shape


def broadcast(xs: tuple[Any, ...], shape: Shape, y: Array) -> Operands:
    """Operands that repeat, as rows, columns or single elements; any other way, repeated."""
    kinds = [repeats(x.shape, shape) if isinstance(x, np.ndarray) else "s" for x in xs]
    columns = 0
    for x, kind in zip(xs, kinds, strict=True):
        if not columns and kind in ("r", "c"):
            columns = x.size if kind == "r" else y.size // x.size
    loop = (y.size // columns, columns) if columns else (y.size,)
    pattern = ""
    parts: list[Array] = []
    rest: list[Any] = []
    for x, kind in zip(xs, kinds, strict=True):
        if kind == "s":
            pattern += "s"
            rest.append(float(x))
        elif x is y:
            pattern += "y"
        else:
            fits = {"r": x.size == columns, "c": x.size * columns == y.size, "e": True}
            if not fits.get(kind, False):
                x, kind = np.broadcast_to(x, shape), "x"
            pattern += kind.upper() if x.dtype == bool_ else kind
            flat = x.ravel()
            (parts if kind in CUT else rest).append(flat.reshape(loop) if kind == "x" else flat)
    parts.append(y.reshape(loop))
    return pattern, parts, rest


@lru_cache(maxsize=4096)
def joined(*shapes: Shape) -> Shape:
    """The shape that shapes broadcast to."""
    return np.broadcast_shapes(*shapes)


@lru_cache(maxsize=4096)
def repeats(shape: Shape, into: Shape) -> str:
    """Whether an operand is one element, a row or a column of a shape, or all of it."""
    if shape == into:
        return "x"
    if math.prod(shape) == 1:
        return "e"
    lengths = (1,) * (len(into) - len(shape)) + shape
    leading = next(i for i, n in enumerate(lengths) if n != 1)
    if lengths[leading:] == into[leading:]:
        return "r"
    trailing = next(i for i, n in enumerate(reversed(lengths)) if n != 1)
    head = len(into) - trailing
    return "c" if lengths[:head] == into[:head] else "x"


class Fold(NamedTuple):
    """A reduction as one over the middle of three axes.

    order    of the axes, where those reduced are to be brought together
    lengths  of the three axes
    shape    of the result
    """

    order: tuple[int, ...] | None
    lengths: tuple[int, int, int]
    shape: Shape


@lru_cache(maxsize=4096)
def fold(shape: Shape, axes: tuple[int, ...], keepdims: bool) -> Fold:
    """How to reduce an array of a shape over axes."""
    ndim = len(shape)
    reduced = sorted(axis % ndim for axis in axes)
    result = tuple(
        1 if axis in reduced else n
        for axis, n in enumerate(shape)
        if keepdims or axis not in reduced
    )
    order = None
    if reduced and reduced != list(range(reduced[0], reduced[-1] + 1)):
        rest = [axis for axis in range(ndim) if axis not in reduced]
        order = (*rest, *reduced)
        shape, reduced = tuple(shape[axis] for axis in order), list(range(len(rest), ndim))
    first, last = (reduced[0], reduced[-1] + 1) if reduced else (ndim, ndim)
    lengths = (math.prod(shape[:first]), math.prod(shape[first:last]), math.prod(shape[last:]))
    return Fold(order, lengths, result)
