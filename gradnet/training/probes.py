"""What happens in each layer of a network on a batch: activations, saturation, gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gradnet import autodiff, dtypes, nn, ops
from gradnet.nn import Module
from gradnet.nn.activations import Activation, elementwise
from gradnet.tensor import Tensor
from gradnet.training import build, intake
from gradnet.training.objective import Objective

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_FLAT = 0.05
"""Up to this part of its steepest slope an activation is flat there: the value is saturated."""
_REACH = 8.0


@dataclass(frozen=True)
class LayerStatistics:
    """One layer on a batch.

    name, kind   of the module, such as "layers.0" and "Linear, relu"
    units        values of a row
    mean, std    of its outputs over rows and units; `quantiles` of 5, 25, 50, 75 and 95 percent
    saturated    the part of its outputs where the activation's slope is at most a twentieth of its
                 steepest; None for a layer without an elementwise activation
    dead         the part of its units that are saturated in every row, likewise
    gradient     root mean square, over rows and units, of d(loss of a row)/d(output)
    """

    name: str
    kind: str
    units: int
    mean: float
    std: float
    quantiles: tuple[float, ...]
    saturated: float | None
    dead: float | None
    gradient: float


class _Probe:
    """A forward hook that keeps a layer's output, its slopes, and a place for its gradient."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.module: Module | None = None
        self.flat: Tensor | None = None

    def __call__(self, module: Module, inputs: tuple[Any, ...], y: Any) -> Any:
        self.module, self.output = module, y.detach()
        slopes = _slopes(module, inputs[0].detach())
        if slopes is not None:
            self.flat = ops.abs(slopes[0]) <= _FLAT * slopes[1]
        # The gradient of a sum reaches both its terms: that of the zeros is the layer's.
        self.zeros = ops.zeros(y.shape, dtype=y.dtype, backend=y.backend)
        self.zeros.requires_grad = True
        return y + self.zeros

    def statistics(self) -> LayerStatistics:
        assert self.module is not None
        assert self.zeros.grad is not None
        y, rows = self.output, self.output.shape[0]
        ordered = ops.sort(ops.reshape(y, (-1,)))
        last = y.size - 1
        flat = None if self.flat is None else ops.astype(self.flat, dtypes.float32)
        sensitivity = self.zeros.grad * rows  # of a row's own loss, which the mean divides by rows
        name = getattr(self.module, "activation", None) or getattr(self.module, "name", None)
        kind = type(self.module).__name__
        return LayerStatistics(
            self.name,
            f"{kind}, {name}" if name and kind == "Linear" else kind,
            y.size // rows,
            float(y.mean().item()),
            float(y.std().item()),
            tuple(float(ordered[round(q * last)].item()) for q in QUANTILES),
            None if flat is None else float(flat.mean().item()),
            None if flat is None else float(ops.min(flat, axis=0).mean().item()),
            float(ops.sqrt(ops.mean(sensitivity * sensitivity)).item()),
        )


def _slopes(module: Module, x: Tensor) -> tuple[Tensor, float] | None:
    """The slopes of a layer's elementwise activation at its inputs, and its steepest; or None."""
    if isinstance(module, Activation):
        name, operands, z = module.name, module.operands, x
    elif isinstance(module, nn.Linear) and module.activation is not None:
        name, operands = module.activation, module.operands
        with autodiff.no_grad():
            z = ops.linear(x, module.weight, module.bias).detach()
    else:
        return None
    op = elementwise(name)

    def slope(at: Tensor) -> Tensor:
        value, pull = autodiff.vjp(lambda v: op(v, *operands.values()), at)
        found: Tensor = ops.abs(pull(ops.ones_like(value)))
        return found

    line = ops.arange(321, dtype=x.dtype, backend=x.backend) * (_REACH / 160) - _REACH
    return slope(z), float(ops.max(slope(line)).item())


def _watched(module: Module) -> bool:
    """Whether a module is a layer of its own: not one made of layers, not dropout."""
    return not any(True for _ in module.children()) and not isinstance(
        module, nn.Dropout | nn.Flatten
    )


def layer_statistics(
    model: Module,
    X: Any,
    y: Any,
    *,
    loss: str | Callable[..., Tensor] | None = None,
    sample_weight: Any = None,
) -> tuple[LayerStatistics, ...]:
    """What each layer of a model does on a batch of rows, in order of the forward pass.

    Measured by forward hooks on a copy in evaluation mode: the model, its gradients and its mode
    stay as they are. A layer that is called twice is measured at its last call.
    Raises what `fit` raises for data that do not fit, and GraphError where no gradient flows.
    """
    trial = copy.deepcopy(model).eval()
    trial.requires_grad_(True)
    objective = Objective(trial, loss)
    rows = intake.Intake(trial, objective, build.reference(trial)).rows(X, y, sample_weight)
    probes: list[_Probe] = []
    for name, module in trial.named_modules():
        if _watched(module):
            probes.append(_Probe(name or type(module).__name__))
            module.register_forward_hook(probes[-1])
    objective.loss(trial(rows.x), rows.y, rows.weight).backward()
    return tuple(probe.statistics() for probe in probes if probe.module is not None)
