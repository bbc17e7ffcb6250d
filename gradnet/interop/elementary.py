"""NumPy's ufuncs and statistics that the namespace lacks, made of what it has."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from gradnet import dtypes
from gradnet import ops as _ops
from gradnet.ops.custom import op
from gradnet.tensor import Tensor

ops: Any = _ops  # its names are made when asked for


def _float(x: Any) -> Any:
    """Integers as floats; floats and Python's numbers as they are."""
    if isinstance(x, int | float | complex):
        return x
    x = ops.asarray(x)
    return ops.astype(x, dtypes.to_float(x.dtype), copy=False)


_CBRT = op(np.cbrt, vjp=lambda g, y, x: g / (3 * y * y))


def cbrt(x: Any, /) -> Tensor:
    return _CBRT(_float(x))


def float_power(a: Any, b: Any, /) -> Tensor:
    return ops.pow(_float(a), _float(b))


def deg2rad(x: Any, /) -> Tensor:
    return ops.multiply(_float(x), math.pi / 180)


def rad2deg(x: Any, /) -> Tensor:
    return ops.multiply(_float(x), 180 / math.pi)


def fmax(a: Any, b: Any, /) -> Tensor:
    return ops.where(ops.isnan(a), b, ops.where(ops.isnan(b), a, ops.maximum(a, b)))


def fmin(a: Any, b: Any, /) -> Tensor:
    return ops.where(ops.isnan(a), b, ops.where(ops.isnan(b), a, ops.minimum(a, b)))


def logaddexp2(a: Any, b: Any, /) -> Tensor:
    a, b = ops.multiply(_float(a), math.log(2)), ops.multiply(_float(b), math.log(2))
    return ops.logaddexp(a, b) / math.log(2)


def divmod(a: Any, b: Any, /) -> tuple[Tensor, Tensor]:
    return ops.floor_divide(a, b), ops.remainder(a, b)


def sinc(x: Any, /) -> Tensor:
    x = ops.multiply(_float(x), math.pi)
    zero = ops.equal(x, 0)
    return ops.where(zero, 1.0 + 0 * x, ops.sin(x) / ops.where(zero, 1.0, x))


def angle(z: Any, /, *, deg: bool = False) -> Tensor:
    found = ops.atan2(ops.imag(z), ops.real(z))
    return rad2deg(found) if deg else found


def round(x: Any, /, *, decimals: int = 0) -> Tensor:
    if not decimals:
        return ops.round(x)
    x = ops.asarray(x)
    factor = 10 ** builtins.abs(decimals)
    if decimals < 0:
        found = ops.round(x / factor) * factor
        return found if dtypes.is_inexact(x.dtype) else ops.astype(found, x.dtype)
    return ops.round(x * factor) / factor if dtypes.is_inexact(x.dtype) else ops.copy(x)


# Statistics


def ptp(x: Any, /, **options: Any) -> Tensor:
    return ops.max(x, **options) - ops.min(x, **options)


def average(x: Any, /, *, axis: Any = None, weights: Any = None, keepdims: bool = False) -> Tensor:
    x = ops.asarray(x)
    if weights is None:
        return ops.mean(x, axis=axis, keepdims=keepdims)
    weights = _float(ops.asarray(weights, backend=x.backend))
    if weights.shape != x.shape:
        place = axis % x.ndim
        weights = ops.reshape(weights, tuple(-1 if i == place else 1 for i in range(x.ndim)))
    total = ops.sum(ops.broadcast_to(weights, x.shape), axis=axis, keepdims=keepdims)
    return ops.sum(x * weights, axis=axis, keepdims=keepdims) / total


def cov(x: Any, /, *, rowvar: bool = True, bias: bool = False, ddof: int | None = None) -> Tensor:
    x = _float(x)
    x = ops.reshape(x, (1, -1)) if x.ndim < 2 else x if rowvar else x.mT
    centred = x - ops.mean(x, axis=1, keepdims=True)
    left = x.shape[1] - (int(not bias) if ddof is None else ddof)
    return ops.squeeze(ops.matmul(centred, ops.conj(centred.mT)) / left)


def corrcoef(x: Any, /, *, rowvar: bool = True) -> Tensor:
    c = cov(x, rowvar=rowvar)
    if not c.ndim:
        return c / c
    deviation = ops.sqrt(ops.real(c.diagonal()))
    return c / ops.outer(deviation, deviation)


def trapezoid(y: Any, /, *, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Tensor:
    y = ops.moveaxis(ops.asarray(y), axis, -1)
    if x is not None:
        x = ops.asarray(x)
        dx = ops.diff(x if x.ndim == 1 else ops.moveaxis(x, axis, -1))
    return ops.sum(dx * (y[..., 1:] + y[..., :-1]) / 2, axis=-1)


def interp(x: Any, xp: Any, fp: Any, /, *, left: Any = None, right: Any = None) -> Tensor:
    x, xp, fp = (_float(ops.asarray(v)) for v in (x, xp, fp))
    i = ops.clip(ops.searchsorted(xp, ops.ravel(x), side="right"), 1, xp.shape[0] - 1)
    i = ops.reshape(i, x.shape)
    y = fp[i - 1] + (x - xp[i - 1]) * (fp[i] - fp[i - 1]) / (xp[i] - xp[i - 1])
    y = ops.where(x < xp[0], fp[0] if left is None else left, y)
    return ops.where(x > xp[-1], fp[-1] if right is None else right, y)


def polyval(p: Any, x: Any, /) -> Tensor:
    y = 0.0 * ops.asarray(x)
    for factor in ops.unstack(ops.asarray(p)):
        y = y * x + factor
    return y
