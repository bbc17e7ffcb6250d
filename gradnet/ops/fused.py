"""The fused op of training: a linear layer with its activation.

It is one backend call forward and one backward where the gradient itself is not differentiated;
all higher derivatives are those of the expression that states what it computes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from gradnet import binding, dtypes, formulas, precision
from gradnet.backends import Array, Backend, Scalar, Shape
from gradnet.dtypes import float32
from gradnet.errors import DTypeError, ShapeError
from gradnet.graph import Context, Edge, Node, Pending, mode
from gradnet.ops import direct
from gradnet.ops.core import Composed, Cost, size
from gradnet.ops.creation import operands_of_one_dtype
from gradnet.ops.elementwise import Elementwise, op
from gradnet.ops.multilinear import CAST, MATMUL, cast_back, matmul
from gradnet.ops.reduce import SUM
from gradnet.ops.shape import (
    matrix_transpose,
    reshape,
)
from gradnet.precision import Rounding
from gradnet.tensor import Tensor
from gradnet.walk import destination

Scalars = tuple[Scalar, ...]


class _LinearBackward(Composed):
    """The cotangents of x, w and the bias, those that are needed, from `g` and what was saved.

    dz = g * derivative(saved), dx = dz @ w.T, dw = x.T @ dz, dbias the sum of the rows of dz.
    With a rounding, x and w are factors already, and dz becomes one for the products. With one to
    16 bits dw and dbias are float32, as the weights are, and dx is with `wide`, as x was.
    """

    multiple = True

    def forward(
        self,
        backend: Backend,
        *xs: Array,
        activation: Elementwise | None,
        scalars: Scalars,
        needs: tuple[bool, ...],
        rounding: Rounding | None = None,
        wide: bool = True,
        into: Array | None = None,
    ) -> tuple[Array, ...]:
        """The cotangents; that of w may be made at once in the array `into`."""
        dz, saved, x, w = xs
        dbias = None
        halved = _halved(rounding)
        if activation is not None and not _is_identity(activation):
            derivative = activation.row.derivatives[0]
            assert derivative is not None  # `_fusible` sees to it
            # A sum over rows of 16 bits is of as many: those of float32 are summed by themselves.
            dz, dbias = backend.bias_activation_backward(
                dz, saved, derivative, scalars, with_bias=not halved
            )
        if needs[2:] == (True,) and dbias is None:
            dtype = float32 if halved else dz.dtype
            dbias = backend.reduce("sum", dz, (0,), False, dtype=dtype)
        found = []
        product = backend.matmul
        if rounding is not None:
            product = partial(rounding.product, backend)
            dz = rounding.factor(backend, dz)
        if needs[0]:
            found.append((product if wide else backend.matmul)(dz, backend.permute(w, (1, 0))))
        if needs[1]:
            found.append(product(backend.permute(x, (1, 0)), dz, out=into))
        if needs[2:] == (True,):
            found.append(dbias)
        return tuple(found)

    def expression(
        self,
        *inputs: Any,
        activation: Elementwise | None,
        scalars: Scalars,
        needs: tuple[bool, ...],
        rounding: Rounding | None = None,
        wide: bool = True,
    ) -> tuple[Tensor, ...]:
        from gradnet.ops.traced import bind_to_tensors

        dz, saved, x, w = inputs
        if activation is not None and not _is_identity(activation):
            dz = dz * bind_to_tensors(activation.row.derivatives[0])(saved, *scalars)
        rounded, narrow = _rounded(rounding), x.dtype
        if _halved(rounding):
            # Exactly what they were: the products round them again.
            dz, x, w = (cast_back(t, float32) for t in (dz, x, w))
        found = []
        if needs[0]:
            dx = MATMUL(dz, matrix_transpose(w), **rounded)
            found.append(dx if wide else cast_back(dx, narrow))
        if needs[1]:
            found.append(MATMUL(matrix_transpose(x), dz, **rounded))
        if needs[2:] == (True,):
            found.append(SUM(dz, axes=(0,), keepdims=False, dtype=dz.dtype))
        return tuple(found)

    def cost(self, *shapes: Shape, itemsize: int = 4, **parameters: Any) -> Cost:
        (n, m), _, (_, k), _ = shapes
        activation, needs = parameters["activation"], parameters["needs"]
        after = 2.0 if activation is None else activation.row.flops + 2.0
        products = needs[0] + needs[1]
        return (2.0 * k * products + after) * n * m, itemsize * (
            3.0 * n * m + products * (n * m + n * k + k * m)
        )


_LINEAR_BACKWARD = _LinearBackward("linear_backward")


class _Linear(Composed):
    """`activation(x @ w + b)`: the product, then bias and activation in one pass over it.

    The second output is what the activation's derivative takes: its output, or its input. Where
    factors are rounded to 16 bits, two more are x and w so rounded, for the backward's products;
    what an activation gives has 16 bits as well, and may be x; that of the identity is the same
    array. Without one the result is float32.
    """

    multiple = True

    def forward(
        self,
        backend: Backend,
        *xs: Array,
        activation: Elementwise | None,
        scalars: Scalars,
        rounding: Rounding | None = None,
    ) -> tuple[Array, ...]:
        x, w = xs[:2]
        bias = xs[2] if len(xs) > 2 else None
        factors: tuple[Array, ...] = ()
        if rounding is None:
            z = backend.matmul(x, w)
        else:
            x, w = rounding.factor(backend, x), rounding.factor(backend, w)
            if _halved(rounding):
                factors = x, w
            if factors and activation is not None:
                z = backend.matmul(x, w)
                bias = None if bias is None else rounding.factor(backend, bias)
            else:
                z = rounding.product(backend, x, w)
        if activation is None or _is_identity(activation):
            y = z if bias is None else backend.bias_activation(z, bias, None, (), out=z)
            return y, y, *factors
        in_place = _takes_output(activation)
        out = z if in_place else backend.empty(z.shape, z.dtype)
        y = backend.bias_activation(z, bias, activation.row.formula, scalars, out=out)
        return y, (y if in_place else z), *factors

    def expression(
        self,
        *inputs: Any,
        activation: Elementwise | None,
        scalars: Scalars,
        rounding: Rounding | None = None,
    ) -> tuple[Tensor, ...]:
        x, w = cast_back(inputs[0], inputs[1].dtype), inputs[1]
        z = MATMUL(x, w, **_rounded(rounding))
        if len(inputs) > 2:
            z = z + inputs[2]
        y = z if activation is None else activation(z, *scalars)
        saved = z if activation is not None and not _takes_output(activation) else y
        if rounding is None or rounding.dtype is None:
            return y, saved
        if activation is not None:
            y, saved = (CAST(t, dtype=rounding.dtype) for t in (y, saved))
        return y, saved, *(CAST(t, dtype=rounding.dtype) for t in (x, w))

    def saves(self, needs: tuple[bool, ...]) -> tuple[tuple[bool, ...], bool]:
        # A bias is kept for the expression alone, and costs nothing: it is a parameter.
        return (True,) * len(needs), True

    def vjp(self, context: Context, g: Any) -> Sequence[Tensor | None]:
        if g[0] is None or any(c is not None for c in g[1:]):
            return super().vjp(context, g)
        x, w = context.inputs[:2]
        # Where it is differentiated again, its steps are ops of their own: none is computed twice.
        again = mode.recording or mode.levels
        backward = _LINEAR_BACKWARD.expression if again else _LINEAR_BACKWARD
        wide, needs = x.dtype == w.dtype, context.needs
        if len(g) > 2 and not again:
            x, w = context.output_at(2), context.output_at(3)
        # Where the derivative takes the input of the activation, that is the second output.
        parameters = context.parameters
        activation = parameters["activation"]
        unbent = activation is None or _is_identity(activation)
        saved = g[0] if unbent else context.output_at(1)
        found = iter(backward(g[0], saved, x, w, needs=needs, wide=wide, **parameters))
        return [next(found) if need else None for need in context.needs]

    def pull(self, node: Node, g: Array, pending: Pending) -> Sequence[tuple[Edge, Array]]:
        """`vjp` on arrays; the gradient of a weight goes to its optimizer's buffer at once."""
        backends: Any = node.backend
        backend = backends[0] if isinstance(backends, tuple) else backends
        inputs: Any = node.inputs
        parents = node.parents
        x, w = inputs[0].array, inputs[1].array
        to = parents[1]
        into = None if to is None else destination(to, pending)
        if into is not None and into.dtype != w.dtype:
            into = None
        wide = True
        if len(node.outputs) > 2:
            wide = x.dtype == w.dtype
            x, w = node.output(2), node.output(3)
        needs = tuple([edge is not None for edge in parents])
        activation = node.parameters["activation"]
        unbent = activation is None or _is_identity(activation)
        found = _LINEAR_BACKWARD.forward(
            *(backend, g, g if unbent else node.output(1), x, w),
            needs=needs,
            wide=wide,
            into=into,
            **node.parameters,
        )
        return [*zip([edge for edge in parents if edge is not None], found, strict=True)]

    def cost(
        self,
        *shapes: Shape,
        itemsize: int = 4,
        activation: Elementwise | None = None,
        **parameters: Any,
    ) -> Cost:
        (n, k), (_, m) = shapes[:2]
        after = (len(shapes) > 2) + (0 if activation is None else activation.row.flops)
        return 2.0 * n * k * m + after * n * m, itemsize * (
            size((n, k)) + size((k, m)) + size((n, m))
        )


LINEAR = _Linear("linear")


def _halved(rounding: Rounding | None) -> bool:
    """Whether what lies between layers has the 16 bits of a rounding."""
    return rounding is not None and rounding.dtype is not None


def _is_identity(activation: Elementwise) -> bool:
    return activation.row.name == "identity"


def _takes_output(activation: Elementwise) -> bool:
    """Whether the derivative of an activation is computed from its output alone."""
    derivative = activation.row.derivatives[0]
    return derivative is None or "x" not in binding.arguments(derivative)


def _fusible(activation: Elementwise) -> bool:
    """Whether the fused backward can compute an activation: one array in, one derivative."""
    if _is_identity(activation):
        return True
    derivative = activation.row.derivatives[0]
    if derivative is None:
        return False
    names = binding.arguments(derivative)
    # The kernel passes one saved array, then all scalars.
    return names[:1] in (("x",), ("y",)) and names[1:] == activation.names[1:]


# `linear` in machine code, where there is any: of its operands and an activation's op. Gives None
# where it does not know how, for then nothing is done.
layer: Callable[..., Tensor | None] | None = direct.awaited


def plainly(activation: Any) -> tuple[Elementwise | None, bool] | None:
    """An activation as the fused op takes it, and whether its derivative takes what it gives.

    None where it has further operands, or is not fused, and for what is no op.
    """
    if activation is None:
        return None, True
    if not isinstance(activation, Elementwise):
        return None
    if _is_identity(activation):
        return None, True
    fits = _fusible(activation) and activation.arity == 1
    return (activation, _takes_output(activation)) if fits else None


def linear(
    x: Any,
    weight: Any,
    bias: Any = None,
    /,
    *,
    activation: str | None = None,
    narrow: bool = False,
    **operands: Any,
) -> Tensor:
    """`activation(x @ weight + bias)`: (..., k) @ (k, m) + (m,) -> (..., m).

    In a precision of 16 bits, x may have those beside a float32 weight, and has the result of an
    activation, or with `narrow` any result. `operands` are the activation's further ones, such as
    alpha. Raises ShapeError where the shapes do not fit, KeyError for an unknown activation, and
    DTypeError for floats that the precision in use is not for.
    """
    if layer is not None and not operands:
        # By its op, for another may come to be called so.
        known = isinstance(activation, str) and formulas.has(activation)
        y = layer(x, weight, bias, op(activation) if known else activation)  # type: ignore[arg-type]
        if y is not None:
            return y
    given = (x, weight) if bias is None else (x, weight, bias)
    if precision.is_factor(x, weight):
        tensors = [x, *operands_of_one_dtype("linear", *given[1:])]
    else:
        tensors = operands_of_one_dtype("linear", *given)
    x, weight = tensors[:2]
    shape, dtype, lengths = x.array.shape, weight.array.dtype, weight.array.shape
    if not dtypes.is_inexact(dtype):
        raise DTypeError(f"linear needs floating tensors, got {dtype.name}")
    if len(lengths) != 2 or not shape or shape[-1] != lengths[0]:
        raise ShapeError(
            f"linear got x of shape {x.shape} and a weight of shape {weight.shape}; expected "
            "(..., k) and (k, m) with equal k"
        )
    if bias is not None and tensors[2].array.shape != lengths[1:]:
        raise ShapeError(
            f"linear got a bias of shape {tensors[2].shape} for a weight of shape {weight.shape}; "
            f"expected {weight.shape[1:]}"
        )
    if dtype.kind == "c":
        # The fused kernels are those of real numbers.
        z = matmul(x, weight) if bias is None else matmul(x, weight) + tensors[2]
        return z if activation is None else op(activation)(z, **operands)
    rounded = _rounded(precision.rounding("linear", dtype))
    if len(shape) != 2:
        rows = 1
        for n in shape[:-1]:
            rows *= n
        x = reshape(x, (rows, shape[-1]))
    act = None if activation is None else op(activation)
    if act is not None and _is_identity(act):
        act = None
    if act is None and narrow and _halved(rounded.get("rounding")):
        act = op("identity")
    rest = () if act is None else scalars_of(act, operands)
    if act is not None and (not _fusible(act) or any(isinstance(s, Tensor) for s in rest)):
        y = act(LINEAR(x, *tensors[1:], activation=None, scalars=(), **rounded)[0], *rest)
    else:
        y = LINEAR(x, *tensors[1:], activation=act, scalars=rest, **rounded)[0]
    return y if len(shape) == 2 else reshape(y, (*shape[:-1], lengths[1]))


def _rounded(rounding: Rounding | None) -> dict[str, Any]:
    """The parameter of an op that says how it rounds, where it does."""
    return {} if rounding is None else {"rounding": rounding}


def scalars_of(activation: Elementwise, operands: dict[str, Any]) -> tuple[Any, ...]:
    """The operands of an activation after the first, by name or default."""
    names = activation.names[1:]
    if not names and not operands:
        return ()
    unknown = [name for name in operands if name not in names]
    if unknown:
        raise TypeError(
            f"{activation.name} takes no {', '.join(unknown)}; "
            f"it takes {', '.join(names) if names else 'no further operands'}"
        )
    values = {**activation.row.defaults, **operands}
    return tuple(values[name] for name in names)
