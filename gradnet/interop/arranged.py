"""NumPy's functions that join, part and turn arrays, made of those that the namespace has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradnet import ops as _ops
from gradnet.tensor import Tensor

ops: Any = _ops  # its names are made when asked for


def _at_least(x: Any, ndim: int) -> Tensor:
    x = ops.asarray(x)
    if x.ndim >= ndim:
        return x
    lead = (1,) * (ndim - x.ndim)
    # A vector is the middle axis of three, and a matrix the first two.
    shape = (*x.shape, 1) if x.ndim == 2 else (1, *x.shape, 1) if (x.ndim, ndim) == (1, 3) else None
    return ops.reshape(x, lead + x.shape if shape is None else shape)


def _each(xs: tuple[Any, ...], ndim: int) -> Any:
    found = tuple(_at_least(x, ndim) for x in xs)
    return found[0] if len(found) == 1 else found


def atleast_1d(*xs: Any) -> Any:
    return _each(xs, 1)


def atleast_2d(*xs: Any) -> Any:
    return _each(xs, 2)


def atleast_3d(*xs: Any) -> Any:
    return _each(xs, 3)


def vstack(xs: Sequence[Any], /) -> Tensor:
    return ops.concat([_at_least(x, 2) for x in xs], axis=0)


def hstack(xs: Sequence[Any], /) -> Tensor:
    tensors = [_at_least(x, 1) for x in xs]
    return ops.concat(tensors, axis=0 if tensors[0].ndim == 1 else 1)


def dstack(xs: Sequence[Any], /) -> Tensor:
    return ops.concat([_at_least(x, 3) for x in xs], axis=2)


def column_stack(xs: Sequence[Any], /) -> Tensor:
    tensors = [ops.asarray(x) for x in xs]
    return ops.concat([x if x.ndim > 1 else ops.reshape(x, (-1, 1)) for x in tensors], axis=1)


def append(x: Any, values: Any, /, *, axis: int | None = None) -> Tensor:
    return ops.concat([x, values], axis=axis)


def array_split(x: Any, sections: Any, /, *, axis: int = 0) -> list[Tensor]:
    x = ops.asarray(x)
    if isinstance(sections, int):
        length, longer = divmod(x.shape[axis], sections)
        sections = [i * length + min(i, longer) for i in range(1, sections)]
    return list(ops.split(x, sections, axis=axis))


def hsplit(x: Any, sections: Any, /) -> list[Tensor]:
    x = ops.asarray(x)
    return list(ops.split(x, sections, axis=0 if x.ndim == 1 else 1))


def vsplit(x: Any, sections: Any, /) -> list[Tensor]:
    return list(ops.split(x, sections, axis=0))


def dsplit(x: Any, sections: Any, /) -> list[Tensor]:
    return list(ops.split(x, sections, axis=2))


def fliplr(x: Any, /) -> Tensor:
    return ops.flip(x, axis=1)


def flipud(x: Any, /) -> Tensor:
    return ops.flip(x, axis=0)


def rot90(x: Any, /, *, k: int = 1, axes: Sequence[int] = (0, 1)) -> Tensor:
    x = ops.asarray(x)
    if k % 4 >= 2:
        x = ops.flip(x, axis=tuple(axes))
    return ops.flip(ops.swapaxes(x, *axes), axis=axes[0]) if k % 2 else x


def ediff1d(x: Any, /, *, to_end: Any = None, to_begin: Any = None) -> Tensor:
    found = ops.diff(ops.ravel(x))
    ends = [
        v if v is None else ops.ravel(ops.asarray(v, dtype=found.dtype, backend=found.backend))
        for v in (to_begin, to_end)
    ]
    return ops.concat([v for v in (ends[0], found, ends[1]) if v is not None])


def diagflat(x: Any, /, *, k: int = 0) -> Tensor:
    from gradnet.interop.composed import diag

    return diag(ops.ravel(x), k=k)


def select(conditions: Sequence[Any], choices: Sequence[Any], /, *, default: Any = 0) -> Tensor:
    found = default
    for condition, choice in list(zip(conditions, choices, strict=True))[::-1]:
        found = ops.where(condition, choice, found)
    return found


def diagonal(x: Any, /, *, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    return ops.asarray(x).diagonal(offset, axis1, axis2)


def sort(x: Any, /, *, axis: int | None = -1) -> Tensor:
    return ops.sort(ops.ravel(x), axis=-1) if axis is None else ops.sort(x, axis=axis)


def argsort(x: Any, /, *, axis: int | None = -1) -> Tensor:
    return ops.argsort(ops.ravel(x), axis=-1) if axis is None else ops.argsort(x, axis=axis)


def take_along_axis(x: Any, indices: Any, /, *, axis: int | None = -1) -> Tensor:
    x = ops.ravel(x) if axis is None else x
    return ops.take_along_axis(x, indices, axis=0 if axis is None else axis)


def ix_(*xs: Any) -> tuple[Tensor, ...]:
    found = []
    for i, x in enumerate(map(ops.asarray, xs)):
        x = ops.nonzero(x)[0] if x.dtype.kind == "b" else x
        found.append(ops.reshape(x, (1,) * i + (-1,) + (1,) * (len(xs) - i - 1)))
    return tuple(found)
