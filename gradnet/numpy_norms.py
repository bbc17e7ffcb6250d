"""Normalisation of the rows or columns of a NumPy table, with its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradnet.dtypes import DType, compute_dtype
from gradnet.formulas import norms
from gradnet.numpy_calls import bound, partial_sums

Array = Any


class Norms:
    """What normalises NumPy arrays."""

    def normalize(
        self,
        x: Array,
        weight: Array | None,
        bias: Array | None,
        axis: int,
        eps: float,
        *,
        running: tuple[Array, Array] | None = None,
        momentum: float = 0.0,
    ) -> tuple[Array, Array, Array]:
        dtype, working = x.dtype, compute_dtype(x.dtype)
        eps = working.type(eps)
        with np.errstate(all="ignore"):
            x = x.astype(working, copy=False)
            mean = _mean(x, axis)
            variance = _mean(np.square(x - mean), axis)
            factor = bound(norms.factor, working)(variance, eps)
            scale, shift = factor, working.type(0)
            if weight is not None and bias is not None:
                scale, shift = factor * weight.astype(working, copy=False), bias
            y = bound(norms.scaled, working)(x, mean, scale, shift).astype(dtype, copy=False)
        if running is not None:
            follow(running, mean[0], variance[0], len(x), momentum)
        return y, mean.reshape(-1), factor.reshape(-1)

    def normalize_backward(
        self,
        g: Array,
        x: Array,
        weight: Array | None,
        mean: Array,
        factor: Array,
        axis: int,
    ) -> tuple[Array, Array | None, Array | None]:
        dtype, working = x.dtype, compute_dtype(x.dtype)
        mean, factor = np.expand_dims(mean, axis), np.expand_dims(factor, axis)
        with np.errstate(all="ignore"):
            g, x = (t.astype(working, copy=False) for t in (g, x))
            standard = bound(norms.standard, working)(x, mean, factor)
            dweight = dbias = None
            given, scale = g, factor
            if weight is not None:
                dweight, dbias = (
                    _sum(t, 0, working)[0].astype(weight.dtype, copy=False)
                    for t in (g * standard, g)
                )
                wide = weight.astype(working, copy=False)
                given, scale = (g, factor * wide) if axis == 0 else (g * wide, factor)
            means = _mean(given, axis), _mean(given * standard, axis)
            dx = bound(norms.slope, working)(given, standard, scale, *means)
        return dx.astype(dtype, copy=False), dweight, dbias


def follow(
    running: tuple[Array, Array], mean: Array, variance: Array, count: int, momentum: float
) -> None:
    """Have the running mean and variance follow those of a batch of so many rows."""
    working = mean.dtype.type
    with np.errstate(all="ignore"):
        unbiased = variance * working(count / (count - 1))
        for target, batch in zip(running, (mean, unbiased), strict=True):
            rates = working(1 - momentum), working(momentum)
            old = target.astype(mean.dtype, copy=False)
            target[...] = bound(norms.follow, mean.dtype)(old, batch, *rates)


def _sum(x: Array, axis: int, dtype: DType) -> Array:
    return np.add.reduce(partial_sums(x, (axis,), dtype), axis=axis, dtype=dtype, keepdims=True)


def _mean(x: Array, axis: int) -> Array:
    return _sum(x, axis, x.dtype) / x.dtype.type(x.shape[axis])
