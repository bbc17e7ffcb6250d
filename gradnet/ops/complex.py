"""Complex numbers: their parts, and what is not holomorphic.

Gradients follow PyTorch's convention: of a real L at z = x + iy the gradient is
dL/dx + i dL/dy, the direction of steepest ascent. A cotangent g goes back through a holomorphic f
as g conj(f'(z)), and through any other function by the adjoint under Re(conj(u) v). Derivation:
Kreutz-Delgado 2009, https://arxiv.org/abs/0906.4835.
"""

from __future__ import annotations

from typing import Any

from gradnet import dtypes
from gradnet.backends import Array, Backend, Shape
from gradnet.dtypes import DType
from gradnet.errors import DTypeError
from gradnet.formulas import complex as formulas
from gradnet.graph import Context
from gradnet.ops.core import Composed, Cost
from gradnet.ops.elementwise import MULTIPLY, elementwise_cost, op
from gradnet.ops.multilinear import CAST, Multilinear
from gradnet.tensor import Tensor


def part_dtype(dtype: DType) -> DType:
    """The real dtype of a complex dtype's parts."""
    return dtypes.float64 if dtype == dtypes.complex128 else dtypes.float32


def is_complex(x: Tensor) -> bool:
    """Whether the values are complex."""
    return dtypes.kind(x.dtype) == "complex"


def _imag_adjoint(g: Tensor, context: Context) -> Tensor:
    return MULTIPLY(CAST(g, dtype=context.inputs[0].dtype), 1j)


CONJ: Multilinear = Multilinear(
    "conj",
    lambda backend, x: backend.map(formulas.conj, x, dtype=x.dtype),
    (lambda g, context: CONJ(g),),
)
REAL = Multilinear(
    "real",
    lambda backend, x: backend.map(formulas.real, x, dtype=part_dtype(x.dtype)),
    (lambda g, context: CAST(g, dtype=context.inputs[0].dtype),),
)
IMAG = Multilinear(
    "imag",
    lambda backend, x: backend.map(formulas.imag, x, dtype=part_dtype(x.dtype)),
    (_imag_adjoint,),
)


class _Magnitude(Composed):
    """|z|, whose gradient at 0 is 0."""

    def forward(self, backend: Backend, *xs: Array) -> Array:
        (x,) = xs
        return backend.map(op("abs").row.formula, x, dtype=part_dtype(x.dtype))

    def expression(self, *inputs: Any) -> Tensor:
        (x,) = inputs
        return op("hypot")(REAL(x), IMAG(x))

    def cost(self, *shapes: Shape, itemsize: int = 8, **parameters: Any) -> Cost:
        return elementwise_cost(6, shapes, itemsize)


class _Direction(Composed):
    """z / |z|, 0 at 0, and so is its gradient."""

    def forward(self, backend: Backend, *xs: Array) -> Array:
        (x,) = xs
        return backend.map(op("sign").row.formula, x, dtype=x.dtype)

    def expression(self, *inputs: Any) -> Tensor:
        (x,) = inputs
        r = MAGNITUDE(x)
        away = op("not_equal")(r, 0)
        return op("where")(away, x / CAST(op("where")(away, r, 1.0), dtype=x.dtype), 0.0)

    def cost(self, *shapes: Shape, itemsize: int = 8, **parameters: Any) -> Cost:
        return elementwise_cost(8, shapes, itemsize)


MAGNITUDE, DIRECTION = _Magnitude("abs"), _Direction("sign")
# What complex operands take in place of an elementwise op.
IN_PLACE_OF = {"abs": MAGNITUDE, "sign": DIRECTION}


def _numeric(name: str, x: Any) -> Tensor:
    from gradnet.ops.creation import asarray

    x = asarray(x)
    if x.dtype == dtypes.bool_:
        raise DTypeError(f"{name} takes numbers, got bool; cast it with astype")
    return x


def conj(x: Any, /) -> Tensor:
    """The complex conjugate: a - ib for a + ib; real numbers as they are."""
    x = _numeric("conj", x)
    return CONJ(x) if is_complex(x) else x


def real(x: Any, /) -> Tensor:
    """The real part: a of a + ib."""
    x = _numeric("real", x)
    return REAL(x) if is_complex(x) else x


def imag(x: Any, /) -> Tensor:
    """The imaginary part: b of a + ib, 0 for real numbers."""
    from gradnet.ops.creation import zeros_like

    x = _numeric("imag", x)
    return IMAG(x) if is_complex(x) else zeros_like(x)
