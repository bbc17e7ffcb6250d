"""NumPy's functions of sampled signals and of counts: slopes, convolutions, grids, histograms."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradnet import dtypes
from gradnet import ops as _ops
from gradnet.errors import ShapeError
from gradnet.ops.creation import operands_of_one_dtype
from gradnet.ops.custom import CustomOp, op
from gradnet.tensor import Tensor

ops: Any = _ops  # its names are made when asked for


def _floats(x: Any, like: Tensor | None = None) -> Tensor:
    x = ops.asarray(x, backend=None if like is None else like.backend)
    return ops.astype(x, dtypes.to_float(x.dtype), copy=False)


# Slopes


def gradient(f: Any, /, *spacing: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """The derivatives of samples along each axis, by the parabolas through neighbours, as in NumPy.

    `spacing` is one step, or a step or the coordinates of each axis; at the ends `edge_order` 1 or
    2. Raises ValueError for too few values, ShapeError for coordinates that do not fit.
    """
    f = _floats(f)
    axes = range(f.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    places = [a % f.ndim for a in axes]
    steps = spacing or (1.0,)
    steps = steps * len(places) if len(steps) == 1 else steps
    if len(steps) != len(places):
        raise TypeError(f"gradient got {len(spacing)} spacings for {len(places)} axes")
    found = [_slope(f, h, a, edge_order) for h, a in zip(steps, places, strict=True)]
    return found[0] if len(found) == 1 else tuple(found)


def _slope(f: Tensor, spacing: Any, axis: int, order: int) -> Tensor:
    """The derivative along an axis: second order within, of the given order at both ends."""
    n = f.shape[axis]
    if order not in (1, 2) or n < order + 1:
        raise ValueError(f"gradient of order {order} at the ends needs 1 or 2, and more than {n}")
    f = ops.moveaxis(f, axis, -1)
    known = isinstance(spacing, Tensor | np.ndarray)
    h = _floats(spacing, f) if known else ops.asarray(spacing, dtype=f.dtype, backend=f.backend)
    if h.ndim > 1 or (h.ndim and h.shape[0] != n):
        raise ShapeError(f"gradient got coordinates of shape {h.shape} for {n} values of an axis")
    h = ops.diff(h) if h.ndim else ops.broadcast_to(h, (n - 1,))
    slopes = ops.diff(f) / h
    # Half the second derivative of the parabola through three points in a row.
    bend = ops.diff(slopes) / (h[1:] + h[:-1])
    middle = slopes[..., :-1] + h[:-1] * bend
    first, last = slopes[..., :1], slopes[..., -1:]
    if order == 2:
        first = first - h[:1] * bend[..., :1]
        last = last + h[-1:] * bend[..., -1:]
    return ops.moveaxis(ops.concat([first, middle, last], axis=-1), -1, axis)


# Products of shifted signals

_FULL: CustomOp = op(
    np.convolve,
    vjp=lambda g, y, a, v: (
        _FULL(g, ops.conj(ops.flip(v)))[v.size - 1 : v.size - 1 + a.size],
        _FULL(g, ops.conj(ops.flip(a)))[a.size - 1 : a.size - 1 + v.size],
    ),
)


def convolve(a: Any, v: Any, /, *, mode: str = "full") -> Tensor:
    a, v = operands_of_one_dtype("convolve", a, v)
    a, v = ops.ravel(a), ops.ravel(v)
    n, m = max(a.size, v.size), min(a.size, v.size)
    if not m:
        raise ShapeError("convolve got no values")
    starts = {"full": (0, n + m - 1), "same": (m - 1 - m // 2, n), "valid": (m - 1, n - m + 1)}
    if mode not in starts:
        raise ValueError(f"convolve got mode={mode!r}; there is {', '.join(map(repr, starts))}")
    start, count = starts[mode]
    if a.device == "cpu":
        return _FULL(a, v)[start : start + count]
    a, v = (a, v) if a.size >= v.size else (v, a)
    places = np.arange(start, start + count)[:, None] + np.arange(m)
    windows = ops.pad(a, m - 1)[ops.asarray(places, backend=a.backend)]
    return ops.matmul(windows, ops.flip(v))


def correlate(a: Any, v: Any, /, *, mode: str = "valid") -> Tensor:
    a, v = operands_of_one_dtype("correlate", a, v)
    if a.size < v.size:
        return ops.flip(ops.conj(correlate(v, a, mode=mode)))
    return convolve(a, ops.conj(ops.flip(v)), mode=mode)


def unwrap(x: Any, /, *, discont: Any = None, axis: int = -1, period: float = 2 * np.pi) -> Tensor:
    x = ops.asarray(x)
    host = x.numpy()
    turns = np.unwrap(host, discont, axis, period=period) - host
    return x + ops.asarray(turns.astype(host.dtype), backend=x.backend)


# Grids


def linspace(
    start: Any,
    stop: Any,
    /,
    *,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    start, stop = operands_of_one_dtype("linspace", start, stop)
    start, stop = ops.broadcast_arrays(_floats(start), _floats(stop))
    count = num - 1 if endpoint else num
    part = ops.asarray(np.arange(num) / max(count, 1), dtype=start.dtype, backend=start.backend)
    part = ops.reshape(part, (num,) + (1,) * start.ndim)
    y = ops.moveaxis((1 - part) * start + part * stop, 0, axis)
    y = y if dtype is None else ops.astype(y, dtype)
    return (y, (stop - start) / (count or float("nan"))) if retstep else y


def logspace(start: Any, stop: Any, /, *, base: Any = 10.0, dtype: Any = None, **grid: Any) -> Any:
    y = ops.pow(base, linspace(start, stop, **grid))
    return y if dtype is None else ops.astype(y, dtype)


def geomspace(start: Any, stop: Any, /, *, dtype: Any = None, axis: int = 0, **grid: Any) -> Any:
    start, stop = operands_of_one_dtype("geomspace", start, stop)
    start, stop = ops.broadcast_arrays(_floats(start), _floats(stop))
    steps = ops.exp(linspace(ops.zeros_like(start), ops.log(stop / start), **grid))
    y = ops.moveaxis(start * steps, 0, axis)
    return y if dtype is None else ops.astype(y, dtype)


# Counts


def bincount(x: Any, /, *, weights: Any = None, minlength: int = 0) -> Tensor:
    places = np.asarray(x.numpy() if isinstance(x, Tensor) else x)
    backend = (
        x.backend if isinstance(x, Tensor) else weights.backend if weights is not None else None
    )
    if weights is None:
        return ops.asarray(np.bincount(places, minlength=minlength), backend=backend)
    weights = _floats(weights)
    n = max(int(places.max(initial=-1)) + 1, minlength)
    zeros = ops.zeros(n, dtype=weights.dtype, backend=weights.backend)
    return ops.scatter_add(zeros, ops.asarray(places, backend=weights.backend), weights)


def _host(x: Any) -> Any:
    return x.numpy() if isinstance(x, Tensor) else x


def histogram_bin_edges(
    a: Any, /, *, bins: Any = 10, limits: Any = None, weights: Any = None
) -> Any:
    if np.ndim(bins):
        return ops.asarray(bins, backend=getattr(a, "backend", None))
    a = ops.ravel(_floats(a))
    host = np.histogram_bin_edges(a.numpy(), bins, limits, _host(weights))
    edges = ops.asarray(host.astype(a.dtype), backend=a.backend)
    if limits is not None or not a.size:
        return edges
    # With the data they move as the least and the greatest value do.
    low, high = ops.min(a), ops.max(a)
    width = high - low
    still = width.detach()
    part = (edges - low.detach()) / still if still.item() else ops.zeros_like(edges)
    return edges + (low - low.detach()) + part * (width - still)


def histogram(
    a: Any,
    /,
    *,
    bins: Any = 10,
    limits: Any = None,
    density: bool = False,
    weights: Any = None,
) -> tuple[Tensor, Tensor]:
    edges = histogram_bin_edges(a, bins=bins, limits=limits, weights=weights)
    values = np.ravel(_host(a))
    cuts = edges.numpy()
    place = np.searchsorted(cuts, values, side="right") - 1
    place[values == cuts[-1]] = cuts.size - 2
    inside = (place >= 0) & (place < cuts.size - 1)
    if weights is None:
        counts = ops.asarray(
            np.bincount(place[inside], minlength=cuts.size - 1), backend=edges.backend
        )
    else:
        (kept,) = np.nonzero(inside)
        flat = ops.ravel(_floats(weights))
        picked = ops.take(flat, ops.asarray(kept, backend=flat.backend))
        counts = bincount(place[inside], weights=picked, minlength=cuts.size - 1)
    if density:
        counts = ops.astype(counts, edges.dtype, copy=False) / ops.sum(counts) / ops.diff(edges)
    return counts, edges
