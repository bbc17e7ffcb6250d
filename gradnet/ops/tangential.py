"""Ops that state the rule of their tangent alone.

The cotangents come from the transpose of that rule, so that nothing is derived twice and all of it
differentiates again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradnet.backends import Array, Backend, Shape
from gradnet.graph import Context, Edge, next_id, recording
from gradnet.ops.core import Cost, Op, size, subgraph_gradients
from gradnet.ops.creation import ones_like
from gradnet.tensor import Tensor

Tangents = tuple[Tensor | None, ...]
Rule = Callable[[Context, Tangents], Any]


class Tangential(Op):
    """An op declared by its forward and the rule of its tangent, which is linear in the tangents.

    `names` are the fields of `multiple` outputs; `flops` is the count for n x n matrices over n^3.
    """

    def __init__(
        self,
        name: str,
        forward: Callable[..., Any],
        rule: Rule,
        *,
        multiple: bool = False,
        flops: float,
    ) -> None:
        super().__init__(name)
        self._forward = forward
        self._rule = rule
        self._flops = flops
        self.multiple = multiple

    def forward(self, backend: Backend, *xs: Array, **parameters: Any) -> Any:
        try:
            return self._forward(backend, *xs, **parameters)
        except np.linalg.LinAlgError as error:
            shapes = " and ".join(str(tuple(x.shape)) for x in xs)
            raise np.linalg.LinAlgError(f"{self.name} of shape {shapes}: {error}") from None

    def jvp(self, context: Context, tangents: Tangents) -> Any:
        return self._rule(context, tangents)

    def vjp(self, context: Context, g: Any) -> Sequence[Tensor | None]:
        """The transpose of the tangent's rule, read off its graph at any tangents."""
        tangents: list[Tensor | None] = [None] * len(context.inputs)
        for i, need in enumerate(context.needs):
            if need:
                tangents[i] = ones_like(context.inputs[i]).detach()
                tangents[i].requires_grad = True  # type: ignore[union-attr]
        floor = next_id()
        with recording(True):
            values = self._rule(context, tuple(tangents))
        outputs = values if self.multiple else (values,)
        gs = g if self.multiple else (g,)
        wanted: dict[int, Edge] = {
            i: t.node for i, t in enumerate(tangents) if t is not None and t.node is not None
        }
        gradients = subgraph_gradients(
            [(y, c) for y, c in zip(outputs, gs, strict=True) if y is not None and c is not None],
            list(wanted.values()),
            floor,
        )
        found: list[Tensor | None] = [None] * len(tangents)
        for i, gradient in zip(wanted, gradients, strict=True):
            found[i] = gradient
        return found

    def cost(self, *shapes: Shape, itemsize: int = 4, **parameters: Any) -> Cost:
        shape = shapes[0]
        return (
            self._flops * size(shape) * min(shape[-2:]),
            2.0 * itemsize * sum(size(s) for s in shapes),
        )
