"""NumPy's ufuncs and statistics that the namespace lacks, made of what it has."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from gradnet import dtypes
from gradnet import ops as _ops
from gradnet.ops.creation import operands_of_one_dtype
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


_FMOD = op(np.fmod, vjp=lambda g, y, a, b: (g, -g * ops.trunc(a / b)))


def fmod(a: Any, b: Any, /) -> Tensor:
    a, b = operands_of_one_dtype("fmod", a, b)
    return _FMOD(*ops.broadcast_arrays(a, b))


def heaviside(x: Any, at_zero: Any, /) -> Tensor:
    x, at_zero = operands_of_one_dtype("heaviside", _float(x), _float(at_zero))
    steps = ops.where(ops.isnan(x), x, ops.astype(ops.greater(x, 0), x.dtype))
    return ops.where(ops.equal(x, 0), at_zero, steps)


def modf(x: Any, /) -> tuple[Tensor, Tensor]:
    x = _float(x)
    whole = ops.trunc(x)
    return ops.copysign(ops.where(ops.isinf(x), 0.0, x - whole), x.detach()), whole


def ldexp(x: Any, exponent: Any, /) -> Tensor:
    x = _float(x)
    host = np.ldexp(
        np.ones((), x.dtype), exponent.numpy() if isinstance(exponent, Tensor) else exponent
    )
    return x * ops.asarray(host, backend=x.backend)


def frexp(x: Any, /) -> tuple[Tensor, Tensor]:
    x = _float(x)
    exponent = np.frexp(x.numpy())[1]
    scale = np.ldexp(np.ones((), x.dtype), -exponent)
    return x * ops.asarray(scale, backend=x.backend), ops.asarray(exponent, backend=x.backend)


_ANGLES = (np.arange(256) + 0.5) * (math.pi / 256)


def i0(x: Any, /) -> Tensor:
    """The mean of exp(x cos t) over half a turn: by so many midpoints, exact to rounding."""
    x = _float(ops.asarray(x))
    cosines = ops.asarray(np.cos(_ANGLES), dtype=x.dtype, backend=x.backend)
    return ops.mean(ops.exp(x[..., None] * cosines), axis=-1)


# Statistics


def ptp(x: Any, /, **options: Any) -> Tensor:
    return ops.max(x, **options) - ops.min(x, **options)


def average(
    x: Any,
    /,
    *,
    axis: Any = None,
    weights: Any = None,
    returned: bool = False,
    keepdims: bool = False,
) -> Any:
    x = ops.asarray(x)
    if weights is None:
        y = ops.mean(x, axis=axis, keepdims=keepdims)
        return (y, ops.full_like(y, x.size / builtins.max(y.size, 1))) if returned else y
    weights = _float(ops.asarray(weights, backend=x.backend))
    if weights.shape != x.shape:
        axes = axis if isinstance(axis, tuple) else (axis,)
        places = [a % x.ndim for a in axes]
        # An axis of weights goes with that of the axes in its place.
        turned = ops.permute_dims(weights, tuple(int(i) for i in np.argsort(places)))
        weights = ops.reshape(turned, tuple(n if i in places else 1 for i, n in enumerate(x.shape)))
    total = ops.sum(ops.broadcast_to(weights, x.shape), axis=axis, keepdims=keepdims)
    y = ops.sum(x * weights, axis=axis, keepdims=keepdims) / total
    return (y, total) if returned else y


def cov(
    x: Any,
    /,
    *,
    y: Any = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: int | None = None,
    fweights: Any = None,
    aweights: Any = None,
    dtype: Any = None,
) -> Tensor:
    x, y = (v if v is None else _rows(v, rowvar, dtype) for v in (x, y))
    x = x if y is None else ops.concat([x, y], axis=0)
    ddof = int(not bias) if ddof is None else ddof
    weights = [
        _float(ops.asarray(w, backend=x.backend)) for w in (fweights, aweights) if w is not None
    ]
    if not weights:
        centred = x - ops.mean(x, axis=1, keepdims=True)
        return ops.squeeze(ops.matmul(centred, ops.conj(centred.mT)) / (x.shape[1] - ddof))
    w = weights[0] if len(weights) == 1 else weights[0] * weights[1]
    total = ops.sum(w)
    centred = x - ops.sum(x * w, axis=1, keepdims=True) / total
    left = total - (0 if aweights is None else ddof * ops.sum(w * weights[-1]) / total)
    left = left - (ddof if aweights is None else 0)
    return ops.squeeze(ops.matmul(centred * w, ops.conj(centred.mT)) / left)


def _rows(x: Any, rowvar: bool, dtype: Any) -> Any:
    x = _float(ops.asarray(x)) if dtype is None else ops.astype(x, dtype)
    return ops.reshape(x, (1, -1)) if x.ndim < 2 else x if rowvar else x.mT


def corrcoef(x: Any, /, *, y: Any = None, rowvar: bool = True, dtype: Any = None) -> Tensor:
    c = cov(x, y=y, rowvar=rowvar, dtype=dtype)
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


def interp(
    x: Any, xp: Any, fp: Any, /, *, left: Any = None, right: Any = None, period: Any = None
) -> Tensor:
    x, xp, fp = (_float(ops.asarray(v)) for v in (x, xp, fp))
    if period is not None:
        period, left, right = builtins.abs(period), None, None
        x, xp = ops.remainder(x, period), ops.remainder(xp, period)
        order = ops.argsort(xp)
        xp, fp = ops.take(xp, order), ops.take(fp, order)
        xp = ops.concat([xp[-1:] - period, xp, xp[:1] + period])
        fp = ops.concat([fp[-1:], fp, fp[:1]])
    i = ops.clip(ops.searchsorted(xp, ops.ravel(x), side="right"), 1, xp.shape[0] - 1)
    i = ops.reshape(i, x.shape)
    y = fp[i - 1] + (x - xp[i - 1]) * (fp[i] - fp[i - 1]) / (xp[i] - xp[i - 1])
    y = ops.where(x < xp[0], fp[0] if left is None else left, y)
    return ops.where(x > xp[-1], fp[-1] if right is None else right, y)
