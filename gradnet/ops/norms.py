"""Normalisation, fused for training: over the rows of a batch, or over the units of a row.

A norm is one backend call forward, and one backward where the gradient itself is not
differentiated; all higher derivatives are those of the expression that states what it computes.
Statistics and the affine step are float32 for floats of 16 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradnet import dtypes
from gradnet.backends import Array, Backend, Scalar, Shape
from gradnet.errors import ShapeError
from gradnet.formulas import norms as formulas
from gradnet.graph import Context, Edge, Node, Pending, mode
from gradnet.ops.core import Composed, Cost, common_backend, size
from gradnet.ops.creation import asarray, astype
from gradnet.ops.elementwise import op
from gradnet.ops.multilinear import CAST, cast_back
from gradnet.ops.reduce import SUM
from gradnet.ops.shape import reshape
from gradnet.tensor import Tensor, fresh

Running = tuple[Array, Array]


class _Normalize(Composed):
    """A norm of x (n, m) with its weight and bias (m,), or without: y, mean and factor.

    `running` is changed in place with the call, and is no part of what is differentiated.
    """

    multiple = True

    def forward(
        self,
        backend: Backend,
        *xs: Array,
        axis: int,
        eps: float,
        running: Running | None = None,
        momentum: float = 0.0,
    ) -> tuple[Array, Array, Array]:
        weight, bias = xs[1:] or (None, None)
        if running is None:
            return backend.normalize(xs[0], weight, bias, axis, eps)
        return backend.normalize(xs[0], weight, bias, axis, eps, running=running, momentum=momentum)

    def _several(
        self,
        backend: Backend,
        inputs: tuple[Any, ...],
        results: Sequence[Any],
        parameters: dict[str, Any],
    ) -> Any:
        parameters = {name: parameters[name] for name in ("axis", "eps")}
        found = super()._several(backend, inputs, results, parameters)
        edge = found[0].node
        if edge is not None:
            # No derivative needs y, which is as large as x.
            edge[0].outputs = (None, *edge[0].outputs[1:])
        return found

    def expression(self, *inputs: Any, axis: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        x = inputs[0]
        dtype, working = x.dtype, dtypes.compute_dtype(x.dtype)
        x = cast_back(x, working)
        count = x.shape[axis]

        def mean_of(t: Tensor) -> Tensor:
            return SUM(t, axes=(axis,), keepdims=True, dtype=working) / count

        mean = mean_of(x)
        centred = x - mean
        factor = op("rsqrt")(mean_of(op("square")(centred)) + eps)
        scale: Tensor = factor
        if len(inputs) > 1:
            scale = factor * cast_back(inputs[1], working)
        y = centred * scale
        if len(inputs) > 1:
            y = y + cast_back(inputs[2], working)
        y = y if y.dtype == dtype else CAST(y, dtype=dtype)
        return y, reshape(mean, (mean.size,)), reshape(factor, (factor.size,))

    def vjp(self, context: Context, g: Any) -> Sequence[Tensor | None]:
        if g[0] is None or any(c is not None for c in g[1:]) or mode.recording or mode.levels:
            return super().vjp(context, g)
        x, *rest = (t.array for t in context.inputs)
        backend, (mean, factor) = g[0].backend, (context.output_at(i).array for i in (1, 2))
        weight = rest[0] if rest else None
        axis = context.parameters["axis"]
        found = backend.normalize_backward(g[0].array, x, weight, mean, factor, axis)
        return [
            fresh(array, backend) if need else None
            for array, need in zip(found, context.needs, strict=False)
        ]

    def pull(self, node: Node, g: Array, pending: Pending) -> Sequence[tuple[Edge, Array]]:
        """`vjp` on arrays."""
        backends: Any = node.backend
        backend = backends[0] if isinstance(backends, tuple) else backends
        inputs: Any = node.inputs
        weight = inputs[1].array if len(inputs) > 1 else None
        mean, factor, axis = node.output(1), node.output(2), node.parameters["axis"]
        found = backend.normalize_backward(g, inputs[0].array, weight, mean, factor, axis)
        pairs = zip(node.parents, found, strict=False)
        return [(edge, array) for edge, array in pairs if edge is not None]

    def cost(self, *shapes: Shape, itemsize: int = 4, **parameters: Any) -> Cost:
        return 8.0 * size(shapes[0]), 2.0 * itemsize * size(shapes[0])


NORMALIZE = _Normalize("normalize")


class _Standardize(Composed):
    """A norm by a mean and a variance (m,) that are given, with a weight and a bias (m,)."""

    def forward(self, backend: Backend, *xs: Array, eps: float) -> Array:
        x, mean, variance, *rest = xs
        weight, bias = rest or (1.0, 0.0)
        dtype, working = x.dtype, mean.dtype
        scale = backend.map(formulas.scale, variance, weight, eps, dtype=working)
        if dtype == working:
            return backend.map(formulas.scaled, x, mean, scale, bias, dtype=working)
        wide = backend.cast(x, working)
        y = backend.map(formulas.scaled, wide, mean, scale, bias, dtype=working)
        return backend.cast(y, dtype)

    def expression(self, *inputs: Any, eps: float) -> Tensor:
        x, mean, variance, *rest = inputs
        dtype, working = x.dtype, mean.dtype
        y = (cast_back(x, working) - mean) * op("rsqrt")(variance + eps)
        if rest:
            y = y * rest[0] + rest[1]
        return y if dtype == working else CAST(y, dtype=dtype)

    def cost(self, *shapes: Shape, itemsize: int = 4, **parameters: Any) -> Cost:
        return 4.0 * size(shapes[0]), 2.0 * itemsize * size(shapes[0])


STANDARDIZE = _Standardize("standardize")


def _operands(
    name: str, x: Any, weight: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """x as floats, and weight and bias, if there are both, of its dtype or that of its sums."""
    x = asarray(x)
    x = astype(x, dtypes.to_float(x.dtype), copy=False)
    if x.ndim == 0:
        raise ShapeError(f"{name} takes an x with a last axis, got shape ()")
    if (weight is None) != (bias is None):
        raise TypeError(f"{name} takes a weight and a bias, or neither")
    if weight is None or bias is None:
        return x, ()
    for what, t in (("weight", weight), ("bias", bias)):
        if t.shape != x.shape[-1:]:
            raise ShapeError(f"{name} of {x.shape[-1]} features got a {what} of shape {t.shape}")
    working = dtypes.compute_dtype(x.dtype)
    if weight.dtype == bias.dtype == x.dtype:
        return x, (weight, bias)
    return x, (cast_back(weight, working), cast_back(bias, working))


def batch_norm(
    x: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    running: tuple[Tensor, Tensor] | None = None,
    training: bool = True,
    momentum: Scalar = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias over rows: (n, m) -> (n, m).

    In training, mean and variance are those of the rows, and `running`, a mean and a variance (m,),
    follows them in place: (1 - momentum) running + momentum batch, the variance divided by n - 1.
    Else they are `running`. Raises ValueError for a single row in training, ShapeError where shapes
    do not fit. Ioffe and Szegedy 2015, arXiv:1502.03167.
    """
    x, affine = _operands("batch_norm", x, weight, bias)
    if x.ndim != 2:
        raise ShapeError(f"batch_norm takes x (n, m), got shape {x.shape}")
    for t in running or ():
        if t.shape != x.shape[1:]:
            raise ShapeError(
                f"batch_norm of {x.shape[1]} features got running statistics of shape {t.shape}"
            )
    if running is not None:
        common_backend("batch_norm", (x, *running))
    if not training:
        if running is None:
            raise TypeError("batch_norm needs running statistics where it is not training")
        working = dtypes.compute_dtype(x.dtype)
        given = [astype(t, working, copy=False) for t in (*running, *affine)]
        return STANDARDIZE(x, *given, eps=eps)
    n = x.shape[0]
    if n < 2:
        raise ValueError(
            f"batch_norm in training needs at least 2 rows for a variance, got {n}; use a larger "
            "batch, drop the last partial one, or call eval()"
        )
    if running is None:
        return NORMALIZE(x, *affine, axis=0, eps=eps)[0]
    arrays = running[0].array, running[1].array
    y: Tensor = NORMALIZE(x, *affine, axis=0, eps=eps, running=arrays, momentum=momentum)[0]
    for t in running:
        t.changed()
    return y


def layer_norm(
    x: Any, weight: Tensor | None = None, bias: Tensor | None = None, *, eps: float = 1e-5
) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axis: (..., m) -> (..., m).

    Raises ShapeError where shapes do not fit. Ba, Kiros and Hinton 2016, arXiv:1607.06450.
    """
    x, affine = _operands("layer_norm", x, weight, bias)
    m = x.shape[-1]
    if x.ndim == 2:
        return NORMALIZE(x, *affine, axis=1, eps=eps)[0]
    rows = reshape(x, (x.size // m if m else 0, m))
    return reshape(NORMALIZE(rows, *affine, axis=1, eps=eps)[0], x.shape)
