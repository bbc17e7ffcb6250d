"""Checks of values: at once where reading them is free, else by a flag that the device sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradnet import host
from gradnet.tensor import Tensor

Error = Callable[..., Exception]


def refuse_outside(
    x: Tensor,
    low: float,
    high: float,
    error: Error,
    *about: Any,
    shown: Tensor | None = None,
    made: bool = False,
) -> None:
    """Raise `error(*about, i, x[i])` for the first element outside low ... high; NaN is outside.

    i counts elements in row-major order. With `shown`, of a row of one or two numbers for each
    element of x, those are told in place of x[i]. `error` and `about` are hashable; `made` says
    that x was made for the check. A backend that is not to be waited for raises the error when
    values are read next.
    """
    if not x.size:
        return
    if x.backend.defers:
        _look(x, low, high, error, about, shown)
    else:
        # Where a check is repeated to raise its error, what was made for it is gone.
        bounds = None if made else (low, high)
        host.check(_look, x, low, high, error, about, shown, bounds=bounds)


def _look(
    x: Tensor, low: float, high: float, error: Error, about: tuple[Any, ...], shown: Tensor | None
) -> None:
    told = None if shown is None else shown.array
    x.backend.flag(x.array, low, high, error, about, shown=told)
