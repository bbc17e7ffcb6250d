"""NumPy's names that other libraries look for in a tensor's namespace, beside the standard's."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from gradnet import ops as _ops
from gradnet.interop.moved import moved
from gradnet.interop.signals import gradient as gradient
from gradnet.tensor import Tensor

ops: Any = _ops  # its names are made when asked for


def _running(function: Callable[..., Tensor], x: Any, axis: int | None, dtype: Any) -> Tensor:
    x = ops.asarray(x)
    return function(ops.ravel(x) if axis is None else x, axis=axis or 0, dtype=dtype)


def cumsum(x: Any, /, axis: int | None = None, *, dtype: Any = None) -> Tensor:
    """The running sum along an axis, or of all values in order without one."""
    return _running(ops.cumulative_sum, x, axis, dtype)


def cumprod(x: Any, /, axis: int | None = None, *, dtype: Any = None) -> Tensor:
    """The running product along an axis, or of all values in order without one."""
    return _running(ops.cumulative_prod, x, axis, dtype)


def sliding_window_view(x: Any, window_shape: Any, axis: Any = None, **options: Any) -> Tensor:
    """All windows of a shape, in new last axes; a copy, as gradients need it."""
    function = np.lib.stride_tricks.sliding_window_view
    return moved(function.__name__, function, (ops.asarray(x), window_shape, axis), options)


lib = SimpleNamespace(stride_tricks=SimpleNamespace(sliding_window_view=sliding_window_view))
