"""Running reductions along an axis, each with derivatives of any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradnet.backends import Array, Backend, Shape
from gradnet.errors import ShapeError
from gradnet.graph import Context
from gradnet.ops.core import Composed, Cost, size
from gradnet.ops.creation import asarray, astype, full
from gradnet.ops.joining import concat, flip
from gradnet.ops.multilinear import Multilinear
from gradnet.ops.reduce import accumulator
from gradnet.ops.shape import normalize_axis
from gradnet.tensor import Tensor


def _scan_cost(shape: Shape, axis: int, itemsize: int) -> Cost:
    return size(shape), 2.0 * itemsize * size(shape)


def _cumsum_adjoint(g: Tensor, context: Context) -> Tensor:
    axis = context.parameters["axis"]
    return flip(CUMSUM(flip(g, axis=axis), axis=axis), axis=axis)


CUMSUM = Multilinear(
    "cumulative_sum",
    lambda backend, x, axis: backend.scan("sum", x, axis),
    (_cumsum_adjoint,),
    cost=_scan_cost,
)


class _RunningProduct(Composed):
    """A running product, whose expression doubles its stride in each of log2(n) steps."""

    def forward(self, backend: Backend, *xs: Array, axis: int) -> Array:
        return backend.scan("prod", xs[0], axis)

    def expression(self, *inputs: Any, axis: int) -> Tensor:
        (x,) = inputs
        lead = (slice(None),) * axis
        step = 1
        while step < x.shape[axis]:
            ahead = x[(*lead, slice(step, None))] * x[(*lead, slice(None, -step))]
            x = concat([x[(*lead, slice(None, step))], ahead], axis=axis)
            step *= 2
        return x

    def cost(self, *shapes: Shape, itemsize: int = 4, **parameters: Any) -> Cost:
        return _scan_cost(shapes[0], itemsize=itemsize, **parameters)


CUMPROD = _RunningProduct("cumulative_prod")


def _running(
    which: Callable[..., Any],
    name: str,
    start: float,
    x: Any,
    axis: int | None,
    dtype: Any,
    include_initial: bool,
) -> Tensor:
    x = asarray(x)
    if axis is None:
        if x.ndim != 1:
            raise ShapeError(f"{name} needs an axis for a tensor of shape {x.shape}")
        axis = 0
    axis = normalize_axis(name, axis, x.ndim)
    wanted = accumulator(x, dtype)
    x = astype(x, wanted, copy=False)
    y: Tensor = which(x, axis=axis)
    if include_initial:
        shape = tuple(1 if i == axis else n for i, n in enumerate(x.shape))
        y = concat([full(shape, start, dtype=wanted, backend=x.backend), y], axis=axis)
    return y


def cumulative_sum(
    x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Tensor:
    """The running sum along an axis; with `include_initial` it starts with a 0."""
    return _running(CUMSUM, "cumulative_sum", 0, x, axis, dtype, include_initial)


def cumulative_prod(
    x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Tensor:
    """The running product along an axis; with `include_initial` it starts with a 1."""
    return _running(CUMPROD, "cumulative_prod", 1, x, axis, dtype, include_initial)
