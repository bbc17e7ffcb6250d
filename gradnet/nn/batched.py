"""Many networks of one layout side by side: 3-D weights, and one product for all of them.

A step of R small networks costs the calls of one network, not of R. Members meet nowhere: the loss
is the sum of theirs, so that each gets the gradient it would have alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gradnet import ops
from gradnet.nn import init as initializers
from gradnet.nn.activations import Maxout
from gradnet.nn.activations import activation as activation_layer
from gradnet.nn.containers import Sequential
from gradnet.nn.init import blank
from gradnet.nn.layers import positive
from gradnet.nn.mlp import MLP
from gradnet.nn.module import Module, register
from gradnet.nn.outputs import OutputUnit
from gradnet.nn.parameter import Parameter
from gradnet.random import Generator
from gradnet.tensor import Tensor


class BatchedLinear(Module):
    """x_r @ weight_r + bias_r of R members: (n, k) or (R, n, k) -> (R, n, m).

    `weight` is (R, k, m), `bias` (R, 1, m). Rows (n, k) go to every member. Each member's weight
    is drawn by the initialiser from its own generator.
    """

    bias: Parameter | None

    def __init__(
        self,
        inputs: int,
        outputs: int,
        generators: Sequence[Generator],
        *,
        bias: bool = True,
        init: str | initializers.Initializer = "glorot_uniform",
        dtype: Any = None,
        device: str | None = None,
    ) -> None:
        positive("BatchedLinear", inputs=inputs, outputs=outputs, members=len(generators))
        self.inputs, self.outputs, self.members = inputs, outputs, len(generators)
        draw, place = initializers.get(init), {"dtype": dtype, "device": device}
        weights = [draw((inputs, outputs), generator=g, **place) for g in generators]
        self.weight = Parameter(ops.stack(weights))
        self.bias = Parameter(ops.zeros((self.members, 1, outputs), **place)) if bias else None

    def forward(self, x: Any) -> Tensor:
        """(n, k) or (R, n, k) -> (R, n, m)"""
        y = ops.matmul(x, self.weight)
        return y if self.bias is None else y + self.bias

    def multiply_adds(self, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> int:
        return math.prod(output_shape) * self.inputs

    def details(self) -> str:
        return f"{self.inputs}, {self.outputs}, members={self.members}"


class BatchedOutput(OutputUnit):
    """An output unit for each of R members: raw outputs (n, R, units), targets shared."""

    def __init__(self, unit: OutputUnit, members: int) -> None:
        self.unit, self.members = unit, members
        self.name, self.task = unit.name, unit.task

    def units(self, targets: int) -> int:
        """Those of one member."""
        return self.unit.units(targets)

    def settings(self) -> dict[str, Any]:
        return self.unit.settings()

    def _each(self, z: Tensor) -> Tensor:
        """(n, R, units) -> (n R, units)"""
        return ops.reshape(z, (-1, z.shape[-1]))

    def _repeated(self, y: Any) -> Tensor:
        """Targets or weights (n, ...) for the rows of all members: (n R, ...)."""
        return ops.repeat(ops.asarray(y), self.members, axis=0)

    def misfit(
        self, z: Any, y: Any, *, sample_weight: Any = None, reduction: str = "mean", **options: Any
    ) -> Tensor:
        """The sum of the members' losses, each with its own reduction; "none" is (n R, ...)."""
        weight = None if sample_weight is None else self._repeated(sample_weight)
        loss = self.unit.loss(
            self._each(z), self._repeated(y), weight, reduction=reduction, **options
        )
        return loss * self.members if reduction == "mean" else loss

    def member_losses(self, z: Any, y: Any, *, check: bool = True) -> Tensor:
        """The mean loss of each member: (n, R, units) -> (R,)."""
        rows = self.unit.loss(self._each(z), self._repeated(y), reduction="none", check=check)
        by_member = ops.reshape(rows, (z.shape[0], self.members, -1))
        return ops.sum(by_member, axis=(0, 2)) * (self.members / by_member.size)

    def predict(self, z: Any) -> Any:
        """What each member says: (n, R, ...), or a tuple of such."""
        z = ops.asarray(z)
        found = self.unit.predict(self._each(z))
        if isinstance(found, tuple):
            return tuple(self._apart(part) for part in found)
        return self._apart(found)

    def estimate(self, z: Any) -> Tensor:
        """The mean of what the members say: (n, ...)."""
        return ops.mean(self._apart(self.unit.estimate(self._each(ops.asarray(z)))), axis=1)

    def _apart(self, y: Tensor) -> Tensor:
        return ops.reshape(y, (-1, self.members, *y.shape[1:]))


@register
class BatchedMLP(Module):
    """R multilayer perceptrons trained as one network: (n, sizes[0]) -> (n, R, units).

    The arguments are those of `MLP`. Member r begins with the weights of
    `MLP(sizes, ..., seed=seed + r)`, and under an optimizer that works element by element (all
    but L-BFGS and conjugate gradient), without clipping by norm, takes the same steps as that
    network alone, to rounding. Raises ValueError and KeyError for settings that make no network.
    """

    def __init__(
        self,
        members: int,
        sizes: Sequence[int],
        activation: str = "relu",
        output: str | Mapping[str, Any] | OutputUnit = "linear",
        *,
        bias: bool = True,
        activation_operands: dict[str, Any] | None = None,
        init: str | initializers.Initializer | None = None,
        seed: int = 0,
        dtype: Any = None,
        device: str | None = None,
    ) -> None:
        positive("BatchedMLP", members=members)
        if activation == "prelu":
            raise ValueError("BatchedMLP has no prelu, whose slope each member would learn")
        self.members, self.sizes, self.activation = members, tuple(sizes), activation
        self.bias, self.operands = bias, dict(activation_operands or {})
        self.init = init if isinstance(init, str) else None
        generators = [Generator(seed + r) for r in range(members)]
        with blank():
            self.output = BatchedOutput(self._single(output).output, members)
        place: dict[str, Any] = {"dtype": dtype, "device": device, "bias": bias}
        layers: list[Module] = []
        width = self.sizes[0]
        for wide in self.sizes[1:-1]:
            act = activation_layer(activation, **self.operands)
            units = wide * act.groups if isinstance(act, Maxout) else wide
            draw = init or initializers.for_activation(activation)
            layers += [BatchedLinear(width, units, generators, init=draw, **place), act]
            width = wide
        units = self.output.units(self.sizes[-1])
        draw = init or initializers.for_activation(None)
        self.layers = Sequential(
            *layers, BatchedLinear(width, units, generators, init=draw, **place)
        )

    def _single(self, output: Any, **place: Any) -> MLP:
        """A network of the members' layout."""
        return MLP(
            self.sizes,
            self.activation,
            output=output,
            bias=self.bias,
            activation_operands=self.operands,
            init=self.init,
            **place,
        )

    def forward(self, x: Any) -> Tensor:
        """(n, inputs) -> (n, R, units), raw."""
        return ops.swapaxes(self.layers(x), 0, 1)

    def member(self, r: int) -> MLP:
        """A copy of member r as a network of its own. Raises IndexError where there is none."""
        if not -self.members <= r < self.members:
            raise IndexError(f"BatchedMLP has members 0 to {self.members - 1}, got {r}")
        like = self.layers[0].weight
        with blank():
            model = self._single(self.output.unit, dtype=like.dtype, device=like.device)
        for own, ours in zip(model.parameters(), self.parameters(), strict=True):
            own.assign_(ops.reshape(ours.detach()[r], own.shape))
        return model

    def example(self) -> Tensor | None:
        like = self.layers[0].weight
        return ops.zeros((1, self.sizes[0]), dtype=like.dtype, backend=like.backend)

    def config(self) -> dict[str, Any]:
        return {
            "class": "BatchedMLP",
            "members": self.members,
            "sizes": list(self.sizes),
            "activation": self.activation,
            "output": self.output.config(),
            "bias": self.bias,
            "activation_operands": self.operands,
            "init": self.init,
        }
