"""Softmax, and the cross-entropy of logits, fused for training.

Cross-entropy is one backend call, and its gradient comes with the value; all higher derivatives are
those of the expression that states what it computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradnet import dtypes, formulas, modes
from gradnet.backends import Array, Backend, Shape
from gradnet.graph import Context, Edge, Node, Pending
from gradnet.numpy_calls import is_one
from gradnet.ops.core import Composed, Cost, Op, size
from gradnet.ops.creation import asarray, astype
from gradnet.ops.elementwise import MULTIPLY, op
from gradnet.ops.reduce import SUM
from gradnet.ops.shape import expand_dims, moveaxis, normalize_axis, reshape
from gradnet.tensor import Tensor, fresh
from gradnet.ways import Ways

_TIMES = Ways(formulas.FORMULAS["multiply"])

# Softmax


class _Softmax(Op):
    """Softmax of each row, or its logarithm, from values with the row's maximum taken off."""

    def __init__(self, name: str, log: bool) -> None:
        super().__init__(name)
        self.log = log

    def forward(self, backend: Backend, *xs: Array) -> Array:
        return backend.softmax(xs[0], self.log)

    def saves(self, needs: tuple[bool, ...]) -> tuple[tuple[bool, ...], bool]:
        return (False,), True

    def _rows(self, x: Tensor) -> Tensor:
        return SUM(x, axes=(1,), keepdims=True, dtype=x.dtype)

    def vjp(self, context: Context, g: Any) -> Sequence[Tensor | None]:
        y = context.output
        if self.log:
            return (g - op("exp")(y) * self._rows(g),)
        return (y * (g - self._rows(g * y)),)

    def jvp(self, context: Context, tangents: tuple[Tensor | None, ...]) -> Any:
        (t,) = tangents
        y = context.output
        assert t is not None
        if self.log:
            return t - self._rows(op("exp")(y) * t)
        return y * (t - self._rows(y * t))

    def cost(self, *shapes: Shape, itemsize: int = 4, **parameters: Any) -> Cost:
        return 15.0 * size(shapes[0]), 2.0 * itemsize * size(shapes[0])


_SOFTMAX, _LOG_SOFTMAX = _Softmax("softmax", False), _Softmax("log_softmax", True)


def _over_rows(which: _Softmax, x: Any, axis: int) -> Tensor:
    x = asarray(x)
    if not dtypes.is_floating(x.dtype):
        x = astype(x, dtypes.DEFAULT_FLOAT)
    axis = normalize_axis(which.name, axis, x.ndim)
    if axis != x.ndim - 1:
        return moveaxis(_over_rows(which, moveaxis(x, axis, -1), -1), -1, axis)
    if x.ndim == 2:
        return which(x)
    rows = x.size // x.shape[-1] if x.size else 0
    return reshape(which(reshape(x, (rows, x.shape[-1]))), x.shape)


def softmax(x: Any, /, *, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along an axis."""
    return _over_rows(_SOFTMAX, x, axis)


def log_softmax(x: Any, /, *, axis: int = -1) -> Tensor:
    """The logarithm of softmax along an axis: x - log(sum(exp(x)))."""
    return _over_rows(_LOG_SOFTMAX, x, axis)


# Cross-entropy


class _CrossEntropy(Composed):
    """The weighted cross-entropy of rows of logits; its gradient comes with the value.

    Operands: logits (n, k), targets (n,) or (n, k), and a scale per row (n,) where given.
    Outputs: the losses (n,) times their scale, and the gradient of their sum (n, k).
    """

    multiple = True

    def forward(
        self, backend: Backend, *xs: Array, scale: float, smoothing: float
    ) -> tuple[Array, Array]:
        weights = xs[2] if len(xs) > 2 else scale
        return backend.softmax_cross_entropy(xs[0], xs[1], weights, smoothing)

    def _probabilities(self, inputs: tuple[Any, ...], smoothing: float) -> Tensor:
        from gradnet.ops.index import one_hot

        logits, targets = inputs[:2]
        k = logits.shape[1]
        if targets.ndim == 1:
            targets = one_hot(targets, k, dtype=logits.dtype)
        return targets * (1 - smoothing) + smoothing / k if smoothing else targets

    def _scale(self, inputs: tuple[Any, ...], scale: float) -> Any:
        return expand_dims(inputs[2], 1) if len(inputs) > 2 else scale

    def expression(self, *inputs: Any, scale: float, smoothing: float) -> tuple[Tensor, Tensor]:
        t, s = self._probabilities(inputs, smoothing), self._scale(inputs, scale)
        logits = inputs[0]
        terms = op("where")(op("equal")(t, 0.0), 0.0, t * _LOG_SOFTMAX(logits)) * s
        losses = -SUM(terms, axes=(1,), keepdims=False, dtype=logits.dtype)
        mass = SUM(t, axes=(1,), keepdims=True, dtype=t.dtype)
        return losses, (_SOFTMAX(logits) * mass - t) * s

    def vjp(self, context: Context, g: Any) -> Sequence[Tensor | None]:
        if g[1] is not None or g[0] is None or any(context.needs[1:]):
            return super().vjp(context, g)
        # The gradient was computed with the value, and is an output that differentiates again.
        dlogits = MULTIPLY(expand_dims(g[0], 1), context.output_at(1))
        return (dlogits, *(None for _ in context.inputs[1:]))

    def pull(self, node: Node, g: Array, pending: Pending) -> Sequence[tuple[Edge, Array]]:
        """`vjp` on arrays."""
        backend: Any = node.backend
        if isinstance(backend, tuple):
            backend = backend[0]
        edges = node.parents
        edge = edges[0]
        if edge is None or any(edges[1:]):
            needs = tuple([to is not None for to in edges])
            context = Context(node, node.inputs or (), needs, node.parameters)
            found = self.vjp(context, (fresh(g, backend), None))
            pairs = zip(edges, found, strict=True)
            return [(to, x.array) for to, x in pairs if to is not None and x is not None]
        if not modes.open_modes and is_one(g):
            dx = node.output(1)
            if edge[0].op is not None or edge[0].hooks is not None:
                # Whoever changes it in place is to hear of it: the graph may be kept.
                dx = dx.view()
                dx.flags.writeable = False
            return ((edge, dx),)
        column = backend.reshape(g, (g.shape[0], 1))
        return ((edge, _TIMES.of(backend, g.dtype)(column, node.output(1))),)

    def cost(self, *shapes: Shape, itemsize: int = 4, **parameters: Any) -> Cost:
        return 18.0 * size(shapes[0]), 2.0 * itemsize * size(shapes[0])


CROSS_ENTROPY = _CrossEntropy("cross_entropy")


def softmax_cross_entropy(
    logits: Tensor, targets: Tensor, scale: Tensor | float, smoothing: float
) -> Tensor:
    """Cross-entropy of each row times its scale: (n, k), (n,) or (n, k) -> (n,).

    The checks of what users pass are in gradnet.nn.losses, whose functions call this.
    """
    operands = (logits, targets, scale) if isinstance(scale, Tensor) else (logits, targets)
    constant = 1.0 if isinstance(scale, Tensor) else scale
    losses: Tensor = CROSS_ENTROPY(*operands, scale=constant, smoothing=smoothing)[0]
    return losses
