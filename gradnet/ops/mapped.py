"""Formulas mapped over broadcast operands, and what all elementwise ops share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

import gradnet.ops as _ops
from gradnet.backends import Array, Backend, Scalar, Shape
from gradnet.dtypes import DType
from gradnet.errors import ShapeError
from gradnet.ops.core import Composed, Cost, size
from gradnet.tensor import Tensor

ops: Any = _ops  # what is above this file, looked up when it is used


def sum_to(g: Tensor, shape: Shape) -> Tensor:
    """`g` summed over the axes along which an operand of that shape was broadcast."""
    if g.shape == shape:
        return g
    extra = g.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(
        extra + i for i, n in enumerate(shape) if n == 1 and g.shape[extra + i] != 1
    )
    summed = ops.reduce.SUM(g, axes=axes, keepdims=False, dtype=g.dtype)
    return summed if summed.shape == shape else ops.reshape(summed, shape)


def broadcast_shape(name: str, shapes: Sequence[Shape]) -> Shape:
    """The shape that shapes broadcast to. Raises ShapeError, naming the op and the shapes."""
    try:
        return _joined(*shapes)
    except ValueError:
        listed = " and ".join(str(tuple(shape)) for shape in shapes)
        raise ShapeError(
            f"{name} got shapes {listed}, which do not broadcast: "
            "aligned at the right, lengths must be equal or 1"
        ) from None


_joined = lru_cache(maxsize=4096)(np.broadcast_shapes)


def elementwise_cost(flops: float, shapes: Sequence[Shape], itemsize: int) -> Cost:
    """`flops` for each element of the broadcast shape; every operand read, the result written."""
    count = size(np.broadcast_shapes(*shapes))
    return flops * count, itemsize * (count + sum(size(s) for s in shapes))


class Mapped(Composed):
    """A formula on arrays as an op whose derivatives are found by tracing it over Tensors."""

    def __init__(self, name: str, formula: Any, flops: int) -> None:
        super().__init__(name)
        self.formula = formula
        self.flops = flops

    def __call__(self, *inputs: Any, dtype: DType) -> Tensor:
        arrays = [x.array if isinstance(x, Tensor) else x for x in inputs]
        backend = inputs[0].backend
        result = map_on(backend, self.formula, arrays, dtype)
        return self.finish(backend, inputs, result, {"dtype": dtype})

    def forward(self, backend: Backend, *xs: Array | Scalar, dtype: DType) -> Array:
        return backend.map(self.formula, *xs, dtype=dtype)

    def expression(self, *xs: Any, dtype: DType) -> Any:
        from gradnet.ops.traced import bind_to_tensors

        return bind_to_tensors(self.formula)(*xs)

    def cost(self, *shapes: Shape, itemsize: int = 4, **parameters: Any) -> Cost:
        return elementwise_cost(self.flops, shapes, itemsize)


def map_on(backend: Backend, formula: Any, xs: Sequence[Any], dtype: DType) -> Array:
    """`backend.map(formula, *xs, dtype=dtype)`, which Python calls faster when spelled out."""
    if len(xs) == 1:
        return backend.map(formula, xs[0], dtype=dtype)
    if len(xs) == 2:
        return backend.map(formula, xs[0], xs[1], dtype=dtype)
    return backend.map(formula, *xs, dtype=dtype)
