"""NumPy's reductions, with `where` elements count and the `initial` value to start from."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradnet import dtypes
from gradnet import ops as _ops
from gradnet.ops.reduce import root
from gradnet.tensor import Tensor

ops: Any = _ops  # its names are made when asked for


def _kept(x: Any, where: Any, instead: Any) -> Any:
    """The values with `instead` in place of those that do not count."""
    return x if where is None or where is True else ops.where(where, x, instead)


def sum(x: Any, /, *, initial: Any = None, where: Any = None, **options: Any) -> Tensor:
    found = ops.sum(_kept(x, where, 0), **options)
    return found if initial is None else found + initial


def prod(x: Any, /, *, initial: Any = None, where: Any = None, **options: Any) -> Tensor:
    found = ops.prod(_kept(x, where, 1), **options)
    return found if initial is None else found * initial


def max(x: Any, /, *, initial: Any = None, where: Any = None, **options: Any) -> Tensor:
    return _extreme("max", ops.max, ops.maximum, x, initial, where, options)


def min(x: Any, /, *, initial: Any = None, where: Any = None, **options: Any) -> Tensor:
    return _extreme("min", ops.min, ops.minimum, x, initial, where, options)


def _extreme(
    name: str, reduce: Any, larger: Any, x: Any, initial: Any, where: Any, options: Any
) -> Tensor:
    if initial is None:
        if where is not None and where is not True:
            raise ValueError(
                f"{name} of the elements where a condition holds needs an initial value"
            )
        return reduce(x, **options)
    x = ops.asarray(x)
    axis, keepdims = options.get("axis"), options.get("keepdims", False)
    x = larger(_kept(x, where, initial), initial)
    if x.size:
        return reduce(x, axis=axis, keepdims=keepdims)
    return ops.sum(x, axis=axis, keepdims=keepdims) + initial  # of nothing, in its shape


def all(x: Any, /, *, where: Any = None, **options: Any) -> Tensor:
    return ops.all(_kept(x, where, True), **options)


def any(x: Any, /, *, where: Any = None, **options: Any) -> Tensor:
    return ops.any(_kept(x, where, False), **options)


def mean(x: Any, /, *, dtype: Any = None, where: Any = None, **options: Any) -> Tensor:
    x = ops.asarray(x) if dtype is None else ops.astype(x, dtype)
    if where is None or where is True:
        return ops.mean(x, **options)
    return ops.sum(_kept(x, where, 0), **options) / _count(x, where, options)


def _count(x: Tensor, where: Any, options: Any) -> Tensor:
    there = ops.broadcast_to(ops.asarray(where, backend=x.backend), x.shape)
    axis, keepdims = options.get("axis"), options.get("keepdims", False)
    real = np.empty(0, dtypes.to_float(x.dtype)).real.dtype
    return ops.astype(ops.sum(there, axis=axis, keepdims=keepdims), real)


def var(
    x: Any, /, *, dtype: Any = None, where: Any = None, mean: Any = None, **options: Any
) -> Tensor:
    x = ops.asarray(x) if dtype is None else ops.astype(x, dtype)
    everywhere = where is None or where is True
    if everywhere and mean is None:
        return ops.var(x, **options)
    correction = options.pop("correction", 0)
    axis = options.get("axis")
    if mean is None:
        mean = _mean(x, where=where, axis=axis, keepdims=True)
    apart = x - mean
    squares = _kept(ops.real(apart * ops.conj(apart)), where, 0)
    count = _count(x, True if everywhere else where, options)
    return ops.sum(squares, **options) / (count - correction)


_mean = mean


def std(x: Any, /, **options: Any) -> Tensor:
    return root(var(x, **options))


def trace(x: Any, /, *, dtype: Any = None, **options: Any) -> Tensor:
    x = ops.asarray(x)
    return (x if dtype is None else ops.astype(x, dtype)).trace(**options)
