"""NumPy's functions that apply functions of the caller's to parts of an array."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradnet import ops as _ops
from gradnet.tensor import Tensor

ops: Any = _ops  # its names are made when asked for


def apply_along_axis(f: Callable[..., Any], axis: int, x: Any, *args: Any, **options: Any) -> Any:
    x = ops.asarray(x)
    axis %= x.ndim
    turned = ops.moveaxis(x, axis, -1)
    rows = ops.reshape(turned, (-1, x.shape[axis]))
    found = ops.stack([ops.asarray(f(row, *args, **options)) for row in ops.unstack(rows)])
    inner = found.ndim - 1
    found = ops.reshape(found, turned.shape[:-1] + found.shape[1:])
    last = found.ndim
    return ops.moveaxis(found, tuple(range(last - inner, last)), tuple(range(axis, axis + inner)))


def apply_over_axes(f: Callable[..., Any], x: Any, axes: Any, /) -> Tensor:
    x = ops.asarray(x)
    for axis in axes if isinstance(axes, Sequence) else (axes,):
        y = f(x, axis)
        x = y if y.ndim == x.ndim else ops.expand_dims(y, axis=axis)
    return x


def piecewise(x: Any, conditions: Any, functions: Any, *args: Any, **options: Any) -> Tensor:
    x = ops.asarray(x)
    if not isinstance(conditions, list | tuple) or not getattr(conditions[0], "ndim", x.ndim == 0):
        conditions = [conditions] if getattr(conditions, "ndim", 0) == x.ndim else conditions
    chosen = [ops.asarray(c, dtype="bool", backend=x.backend) for c in conditions]
    functions = list(functions)
    if len(functions) == len(chosen) + 1:
        others = ops.logical_not(ops.any(ops.stack(chosen), axis=0))
        chosen.append(others)
    if len(functions) != len(chosen):
        raise ValueError(
            f"piecewise got {len(functions)} functions for {len(chosen)} conditions; expected one "
            "for each, and maybe one for the rest"
        )
    y = ops.zeros_like(x)
    for there, f in zip(chosen, functions, strict=True):
        y[there] = f(x[there], *args, **options) if callable(f) else f
    return y
