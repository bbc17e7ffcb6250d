"""NumPy's functions that the namespace lacks, made of those that it has: they differentiate.

NaN stands for a missing value in those named nan...: it is left out, and gets no gradient. Where
nothing is left, the sum is 0, the product 1, and the others are NaN, without NumPy's warning.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradnet import dtypes
from gradnet import ops as _ops
from gradnet.errors import ShapeError
from gradnet.ops.reduce import root
from gradnet.tensor import Tensor

ops: Any = _ops  # its names are made when asked for


def _present(x: Any, instead: float) -> tuple[Tensor, Tensor]:
    """The values with `instead` in place of NaN, and where they are not NaN."""
    x = ops.asarray(x)
    there = ops.logical_not(ops.isnan(x))
    return ops.where(there, x, instead), there


def nansum(x: Any, /, **options: Any) -> Tensor:
    return ops.sum(_present(x, 0)[0], **options)


def nanprod(x: Any, /, **options: Any) -> Tensor:
    return ops.prod(_present(x, 1)[0], **options)


def nancumsum(x: Any, /, **options: Any) -> Tensor:
    return ops.cumulative_sum(_present(x, 0)[0], **options)


def nancumprod(x: Any, /, **options: Any) -> Tensor:
    return ops.cumulative_prod(_present(x, 1)[0], **options)


def nanmean(x: Any, /, *, dtype: Any = None, **options: Any) -> Tensor:
    values, there = _present(x if dtype is None else ops.astype(x, dtype), 0)
    values = ops.astype(values, dtypes.to_float(values.dtype), copy=False)
    return ops.sum(values, **options) / ops.sum(ops.astype(there, values.dtype), **options)


def nanvar(
    x: Any, /, *, dtype: Any = None, axis: Any = None, correction: float = 0, keepdims: bool = False
) -> Tensor:
    x = ops.asarray(x) if dtype is None else ops.astype(x, dtype)
    values, there = _present(x - nanmean(x, axis=axis, keepdims=True), 0)
    n = ops.sum(ops.astype(there, values.dtype), axis=axis, keepdims=keepdims)
    left = ops.where(n > correction, n - correction, float("nan"))
    return ops.sum(ops.real(values * ops.conj(values)), axis=axis, keepdims=keepdims) / left


def nanstd(x: Any, /, **options: Any) -> Tensor:
    return root(nanvar(x, **options))


def nanmax(x: Any, /, **options: Any) -> Tensor:
    values, there = _present(x, -float("inf"))
    return ops.where(ops.any(there, **options), ops.max(values, **options), float("nan"))


def nanmin(x: Any, /, **options: Any) -> Tensor:
    values, there = _present(x, float("inf"))
    return ops.where(ops.any(there, **options), ops.min(values, **options), float("nan"))


def nanargmax(x: Any, /, **options: Any) -> Tensor:
    return _position("nanargmax", ops.argmax, x, -float("inf"), options)


def nanargmin(x: Any, /, **options: Any) -> Tensor:
    return _position("nanargmin", ops.argmin, x, float("inf"), options)


def _position(name: str, function: Any, x: Any, instead: float, options: Any) -> Tensor:
    values, there = _present(x, instead)
    if not bool(ops.all(ops.any(there, **options))):
        raise ValueError(f"{name} got a slice of NaNs alone, which has no greatest or least value")
    found: Tensor = function(values, **options)
    return found


def median(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    x = ops.asarray(x)
    missing = ops.any(ops.isnan(x), axis=axis, keepdims=keepdims)
    return ops.where(missing, float("nan"), nanmedian(x, axis=axis, keepdims=keepdims))


def _rows(x: Any, axis: Any) -> tuple[Tensor, tuple[int, ...]]:
    """Floating values with the axes as the last one, in order along it, NaN last; the axes."""
    x = ops.asarray(x)
    x = ops.astype(x, dtypes.to_float(x.dtype), copy=False)
    axes = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = tuple(sorted(a % x.ndim for a in axes))
    kept = [a for a in range(x.ndim) if a not in axes]
    flat = ops.permute_dims(x, (*kept, *axes))
    return ops.sort(ops.reshape(flat, (*(x.shape[a] for a in kept), -1)), axis=-1), axes


def _counted(values: Tensor) -> Tensor:
    """How many values of each row are not NaN: (..., 1)."""
    there = ops.astype(ops.logical_not(ops.isnan(values)), dtypes.int64)
    return ops.sum(there, axis=-1, keepdims=True)


def nanmedian(x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    values, axes = _rows(x, axis)
    n = _counted(values)
    low, high = ((ops.clip(n - k, 0, None)) // 2 for k in (1, 0))
    found = sum(ops.take_along_axis(values, i, axis=-1) for i in (low, high)) / 2
    found = ops.squeeze(ops.where(n > 0, found, float("nan")), -1)
    return ops.expand_dims(found, axis=axes) if keepdims and axes else found


def nanquantile(x: Any, q: Any, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    values, axes = _rows(x, axis)
    q = np.asarray(q, np.float64)
    if not ((q >= 0) & (q <= 1)).all():
        raise ValueError("quantiles are from 0 to 1, percentiles from 0 to 100")
    last = ops.clip(_counted(values) - 1, 0, None)
    place = ops.astype(last, dtypes.float64) * ops.asarray(q.reshape(-1), backend=values.backend)
    low = ops.astype(ops.floor(place), dtypes.int64)
    ends = [ops.take_along_axis(values, ops.minimum(i, last), axis=-1) for i in (low, low + 1)]
    part = ops.astype(place - ops.floor(place), values.dtype)
    found = ops.moveaxis(ends[0] + (ends[1] - ends[0]) * part, -1, 0)
    if keepdims and axes:
        found = ops.expand_dims(found, axis=tuple(a + 1 for a in axes))
    return ops.reshape(found, q.shape + found.shape[1:])


def nanpercentile(x: Any, q: Any, /, **options: Any) -> Tensor:
    return nanquantile(x, np.asarray(q, np.float64) / 100, **options)


def quantile(x: Any, q: Any, /, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    missing = ops.any(ops.isnan(ops.asarray(x)), axis=axis, keepdims=keepdims)
    return ops.where(missing, float("nan"), nanquantile(x, q, axis=axis, keepdims=keepdims))


def percentile(x: Any, q: Any, /, **options: Any) -> Tensor:
    return quantile(x, np.asarray(q, np.float64) / 100, **options)


def nan_to_num(
    x: Any, /, *, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    x = ops.asarray(x)
    if not dtypes.is_inexact(x.dtype):
        return ops.copy(x)
    from gradnet.inspection import finfo

    info = finfo(x.dtype)
    x = ops.where(ops.isnan(x), nan, x)
    x = ops.where(x == float("inf"), info.max if posinf is None else posinf, x)
    return ops.where(x == -float("inf"), info.min if neginf is None else neginf, x)


def diag(x: Any, /, *, k: int = 0) -> Tensor:
    x = ops.asarray(x)
    if x.ndim == 2:
        return ops.diagonal(x, offset=k)
    if x.ndim != 1:
        raise ShapeError(f"diag got a tensor of shape {x.shape}; expected one or two dimensions")
    n = x.shape[0] + abs(k)
    y = ops.zeros((n, n), dtype=x.dtype, backend=x.backend)
    i = ops.arange(x.shape[0], backend=x.backend)
    y[i + max(-k, 0), i + max(k, 0)] = x
    return y


def kron(a: Any, b: Any, /) -> Tensor:
    a, b = ops.asarray(a), ops.asarray(b)
    ndim = max(a.ndim, b.ndim)
    a = ops.reshape(a, (1,) * (ndim - a.ndim) + a.shape)
    b = ops.reshape(b, (1,) * (ndim - b.ndim) + b.shape)
    wide = ops.expand_dims(a, axis=tuple(range(1, 2 * ndim, 2)))
    deep = ops.expand_dims(b, axis=tuple(range(0, 2 * ndim, 2)))
    shape = tuple(n * m for n, m in zip(a.shape, b.shape, strict=True))
    return ops.reshape(wide * deep, shape)
