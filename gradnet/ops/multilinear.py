"""The table of ops that are linear in each operand: matrix products, and all moving of values.

Such an op is its forward and, per operand, its adjoint. Its tangent is itself with one operand
replaced by that operand's tangent, so it is never written down.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import gradnet.ops as _ops
from gradnet import modes, precision
from gradnet.backends import Array, Backend, Shape
from gradnet.dtypes import DType
from gradnet.errors import ShapeError
from gradnet.graph import Context
from gradnet.ops.core import Cost, Op, size
from gradnet.ops.direct import Whole
from gradnet.precision import Rounding
from gradnet.tensor import Tensor, fresh

Adjoint = Callable[[Tensor, Context], Tensor]

ops: Any = _ops  # what is above this file, looked up when it is used


class Multilinear(Op):
    """An op linear in each operand: `forward(backend, *arrays, **parameters)` and its adjoints.

    `adjoints[i](g, context)` is the cotangent of operand i; it may use the other operands' values
    and all shapes and parameters.
    """

    def __init__(
        self,
        name: str,
        forward: Callable[..., Array],
        adjoints: Sequence[Adjoint],
        *,
        view: bool = False,
        cost: Callable[..., Cost] | None = None,
    ) -> None:
        super().__init__(name)
        self.forward = forward  # type: ignore[method-assign]
        self._adjoints = adjoints
        self._cost = cost
        self.view = view

    def saves(self, needs: tuple[bool, ...]) -> tuple[tuple[bool, ...], bool]:
        count = sum(needs)
        return tuple(count > needs[i] for i in range(len(needs))), False

    def vjp(self, context: Context, g: Any) -> Sequence[Tensor | None]:
        # Where operands multiply one another, the adjoint takes the conjugates of the others:
        # conj(conj(g) b) = g conj(b).
        conjugated = len(self._adjoints) > 1 and g.array.dtype.kind == "c"
        if conjugated:
            g = _conjugate(g)
        found = [
            adjoint(g, context) if need else None
            for adjoint, need in zip(self._adjoints, context.needs, strict=True)
        ]
        return [None if x is None else _conjugate(x) for x in found] if conjugated else found

    def jvp(self, context: Context, tangents: tuple[Tensor | None, ...]) -> Any:
        total: Tensor | None = None
        for i, t in enumerate(tangents):
            if t is not None:
                operands = [t if j == i else x for j, x in enumerate(context.inputs)]
                term = self(*operands, **context.parameters)
                total = term if total is None else total + term
        return total

    def cost(self, *shapes: Shape, itemsize: int = 4, **parameters: Any) -> Cost:
        if self._cost is not None:
            return self._cost(*shapes, itemsize=itemsize, **parameters)
        return 0.0, 0.0 if self.view else 2.0 * itemsize * sum(size(s) for s in shapes)


def _conjugate(x: Tensor) -> Tensor:
    from gradnet.ops.complex import CONJ

    return CONJ(x)


def cast_back(g: Tensor, dtype: DType) -> Tensor:
    """The adjoint of a cast from `dtype`: a complex cotangent of real values is its real part."""
    if g.dtype == dtype:
        return g
    if g.dtype.kind == "c" and dtype.kind != "c":
        from gradnet.ops.complex import REAL

        g = REAL(g)
    return g if g.dtype == dtype else CAST(g, dtype=dtype)


# Matrix product


def _product(backend: Backend, a: Array, b: Array, rounding: Rounding | None = None) -> Array:
    if rounding is None:
        return backend.matmul(a, b)
    return rounding.product(backend, rounding.factor(backend, a), rounding.factor(backend, b))


def _matmul_cost(a: Shape, b: Shape, itemsize: int, rounding: Rounding | None = None) -> Cost:
    batch = size(np.broadcast_shapes(a[:-2], b[:-2]))
    rows, inner, columns = batch * a[-2], float(a[-1]), float(b[-1])
    moved = size(a) + size(b) + rows * columns
    return 2.0 * rows * inner * columns, itemsize * moved


def _transposed(x: Tensor) -> Tensor:
    from gradnet.ops.shape import matrix_transpose

    return matrix_transpose(x)


def _matmul_adjoint_a(g: Tensor, context: Context) -> Tensor:
    from gradnet.ops.elementwise import sum_to

    y = MATMUL(g, _transposed(context.inputs[1]), **context.parameters)
    return sum_to(y, context.inputs[0].shape)


def _matmul_adjoint_b(g: Tensor, context: Context) -> Tensor:
    from gradnet.ops.elementwise import sum_to
    from gradnet.ops.shape import reshape

    a, b = context.inputs
    if len(b.shape) == 2 and a.ndim > 2:
        # One matrix for all of the batch: a single product over all its rows.
        rows = math.prod(a.shape[:-1])
        a, g = reshape(a, (rows, a.shape[-1])), reshape(g, (rows, g.shape[-1]))
    return sum_to(MATMUL(_transposed(a), g, **context.parameters), b.shape)


MATMUL = Multilinear(
    "matmul",
    _product,
    (_matmul_adjoint_a, _matmul_adjoint_b),
    cost=_matmul_cost,
)


def _dot(backend: Backend, a: Array, b: Array) -> Array:
    """A product of matrices, which is what a recording of calls is planned for."""
    (n,) = a.shape
    y = backend.matmul(backend.reshape(a, (1, n)), backend.reshape(b, (n, 1)))
    return backend.reshape(y, ())


DOT = Multilinear(
    "matmul",
    _dot,
    (
        lambda g, context: ops.multiply(g, context.inputs[1]),
        lambda g, context: ops.multiply(g, context.inputs[0]),
    ),
    cost=lambda a, b, itemsize: (2.0 * a[0], itemsize * (2.0 * a[0] + 1)),
)


def matmul(x1: Any, x2: Any, /) -> Tensor:
    """The matrix product: (..., n, k) @ (..., k, m) -> (..., n, m), batch axes broadcast.

    A 1-D operand is a row on the left, a column on the right, and its axis is dropped again.
    Raises ShapeError where inner lengths differ or an operand is 0-d, and DTypeError for floats
    that the precision in use is not for.
    """
    return _PRODUCT.direct(x1, x2)


def _matmul(a: Any, b: Any) -> Tensor:
    if isinstance(a, Tensor) and isinstance(b, Tensor) and a.array.dtype is b.array.dtype:
        tied = a.node is not None or b.node is not None or modes.open_modes
        backend = a.backend
        if not tied and backend is b.backend and precision.state.rounding is None:
            x, y = a.array, b.array
            shape, other = x.shape, y.shape
            # Two matrices, or two vectors.
            count = len(shape)
            if count == len(other) < 3 and count and shape[-1] == other[0]:
                return fresh(backend.matmul(x, y), backend)
    else:
        a, b = ops.creation.operands_of_one_dtype("matmul", a, b)
    shape, other = a.array.shape, b.array.shape
    if not shape or not other or shape[-1] != other[-2 if len(other) > 1 else 0]:
        raise ShapeError(
            f"matmul got shapes {a.shape} and {b.shape}; expected (..., n, k) @ (..., k, m) "
            "with equal k"
        )
    rounding = precision.rounding("matmul", a.array.dtype)
    rounded = {} if rounding is None else {"rounding": rounding}
    if len(shape) == len(other) == 2:
        return MATMUL(a, b, **rounded)
    if len(shape) == len(other) == 1 and not rounded:
        return DOT(a, b)
    from gradnet.ops.elementwise import broadcast_shape

    reshape = ops.reshape
    row, column = a.ndim == 1, b.ndim == 1
    if row:
        a = reshape(a, (1, *a.shape))
    if column:
        b = reshape(b, (*b.shape, 1))
    if a.ndim > 2 and b.ndim == 2:
        # One product over all rows is faster than a batch of small ones.
        flat = MATMUL(reshape(a, (math.prod(a.shape[:-1]), a.shape[-1])), b, **rounded)
        y = reshape(flat, (*a.shape[:-1], b.shape[-1]))
    else:
        broadcast_shape("matmul", (a.shape[:-2], b.shape[:-2]))
        y = MATMUL(a, b, **rounded)
    if row:
        y = reshape(y, (*y.shape[:-2], y.shape[-1]))
    if column:
        y = reshape(y, y.shape[:-1])
    return y


_PRODUCT = Whole("matmul", _matmul)


# Casts and copies


def _cast_adjoint(g: Tensor, context: Context) -> Tensor:
    return cast_back(g, context.inputs[0].dtype)


CAST = Multilinear(
    "astype",
    lambda backend, x, dtype: backend.cast(x, dtype),
    (_cast_adjoint,),
)


def _move_adjoint(g: Tensor, context: Context) -> Tensor:
    return MOVE(g, source=context.parameters["target"], target=context.parameters["source"])


def _move(backend: Backend, x: Array, source: Backend, target: Backend) -> Array:
    return target.from_host(source.to_host(x), copy=True)


class _Move(Multilinear):
    """A move between devices: the one op whose result lives elsewhere."""

    def __call__(self, *inputs: Any, **parameters: Any) -> Tensor:
        y = super().__call__(*inputs, **parameters)
        y.backend = parameters["target"]
        if y.node is not None:
            y.node[0].backend = y.backend
        return y


MOVE = _Move("to", _move, (_move_adjoint,))
