"""Linear layers in a row as one call of the backend, where nobody looks at what lies between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradnet import dtypes, modes, precision
from gradnet.modes import mode
from gradnet.ops.elementwise import op
from gradnet.ops.fused import scalars_of
from gradnet.tensor import Tensor

Layers = Sequence[tuple[Tensor, Tensor, str | None, dict[str, Any]]]


def linear_stack(x: Any, layers: Callable[[], Layers | None]) -> Tensor | None:
    """The last of `linear(x, weight, bias, activation, **operands)` one after the other, or None.

    It is made by one kernel where the backend has one for them that is faster, which rounds to the
    16 bits of the precision in use as single layers do. That needs that no gradient, no derivative
    and no recording is asked for; and rows x (n, k). `layers` gives None where there is more.
    """
    if mode.recording or modes.open_modes:
        return None
    if not isinstance(x, Tensor) or x.ndim != 2 or x.dtype != dtypes.float32 or not x.size:
        return None
    rounding = precision.rounding("linear", x.dtype)
    if rounding is None or rounding.dtype is None:
        return None
    found, width = [], x.shape[1]
    for weight, bias, activation, operands in layers() or ():
        act = None if activation in (None, "identity", "linear") else op(activation)
        scalars = () if act is None else scalars_of(act, operands)
        alike = all(t.dtype == x.dtype and t.backend is x.backend for t in (weight, bias))
        if not alike or weight.shape != (width, *bias.shape) or not _numbers(scalars):
            return None
        found.append((weight.array, bias.array, act and act.row.formula, scalars))
        width = weight.shape[1]
    y = x.backend.perceptron(x.array, found, rounding.dtype) if found else None
    return None if y is None else Tensor.wrap(y, x.backend)


def _numbers(scalars: tuple[Any, ...]) -> bool:
    return not any(isinstance(s, Tensor) for s in scalars)
