"""The `linalg` extension of the array API standard: linear algebra with derivatives.

Matrices are the last two axes, (..., n, m); the others are batch axes. Integers are taken as
float32. Where a matrix allows no result, such as the inverse of a singular one,
`numpy.linalg.LinAlgError` is raised.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from gradnet import dtypes
from gradnet.errors import DTypeError, ShapeError
from gradnet.ops import decompositions as forms
from gradnet.ops.creation import asarray, operands_of_one_dtype
from gradnet.ops.elementwise import broadcast_shape, op
from gradnet.ops.joining import roll
from gradnet.ops.linear_algebra import diagonal as diagonal
from gradnet.ops.linear_algebra import largest
from gradnet.ops.linear_algebra import outer as outer
from gradnet.ops.linear_algebra import tensordot as tensordot
from gradnet.ops.linear_algebra import trace as trace
from gradnet.ops.linear_algebra import vecdot as vecdot
from gradnet.ops.linear_algebra import vector_norm as vector_norm
from gradnet.ops.multilinear import CAST
from gradnet.ops.multilinear import matmul as matmul
from gradnet.ops.reduce import count_nonzero, max, min, sum
from gradnet.ops.shape import broadcast_to, expand_dims, moveaxis, normalize_axes, number
from gradnet.ops.shape import matrix_transpose as matrix_transpose
from gradnet.tensor import Tensor

__all__ = [
    "cholesky",
    "cross",
    "det",
    "diagonal",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "inv",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "norm",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "tensordot",
    "trace",
    "vecdot",
    "vector_norm",
]


class EigResult(NamedTuple):
    """Eigenvalues `(..., n)` and eigenvectors `(..., n, n)`, the columns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class EighResult(NamedTuple):
    """Eigenvalues `(..., n)`, ascending, and orthonormal eigenvectors `(..., n, n)`."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class QRResult(NamedTuple):
    """Orthonormal columns and an upper triangle whose product is the matrix."""

    Q: Tensor
    R: Tensor


class SlogdetResult(NamedTuple):
    """The sign of a determinant and the logarithm of its magnitude."""

    sign: Tensor
    logabsdet: Tensor


class SVDResult(NamedTuple):
    """Left vectors, singular values (descending) and right vectors, conjugate transposed."""

    U: Tensor
    S: Tensor
    Vh: Tensor


def _matrix(name: str, x: Any, *, square: bool = False) -> Tensor:
    """A stack of matrices of floats. Raises ShapeError and DTypeError where it is none."""
    x = asarray(x)
    if x.ndim < 2 or (square and x.shape[-1] != x.shape[-2]):
        kind = "square matrices, (..., n, n)" if square else "matrices, (..., n, m)"
        raise ShapeError(f"{name} takes {kind}, got shape {x.shape}")
    return _floating(name, x)


def _floating(name: str, x: Tensor) -> Tensor:
    wanted = dtypes.to_float(x.dtype)
    if dtypes.is_half(wanted):
        raise DTypeError(
            f"{name} has no {wanted.name} implementation; cast with astype(gradnet.float32)"
        )
    return x if x.dtype == wanted else CAST(x, dtype=wanted)


# Systems and determinants


def solve(x1: Any, x2: Any, /) -> Tensor:
    """The x of `x1 @ x = x2`: (..., n, n), (..., n, k) -> (..., n, k); a 1-D x2 is one column.

    Raises ShapeError where shapes do not fit and LinAlgError for a singular matrix.
    """
    a, b = operands_of_one_dtype("solve", x1, x2)
    a, b = _matrix("solve", a, square=True), _floating("solve", b)
    column = b.ndim == 1
    if column:
        b = expand_dims(b, -1)
    if not b.ndim or b.shape[-2] != a.shape[-1]:
        raise ShapeError(
            f"solve got matrices of shape {a.shape} and right sides of shape {asarray(x2).shape}; "
            "expected (..., n, n) and (..., n, k) with equal n"
        )
    broadcast_shape("solve", (a.shape[:-2], b.shape[:-2]))
    y = forms.SOLVE(a, b)
    return y[..., 0] if column else y


def inv(x: Any, /) -> Tensor:
    """The inverse of square matrices. Raises LinAlgError for a singular one."""
    return forms.INV(_matrix("inv", x, square=True))


def det(x: Any, /) -> Tensor:
    """The determinant of square matrices: (..., n, n) -> (...).

    Its derivative, det(x) trace(x^-1 dx), raises LinAlgError at a singular matrix.
    """
    return forms.DET(_matrix("det", x, square=True))


def slogdet(x: Any, /) -> SlogdetResult:
    """The sign of the determinant and the logarithm of its magnitude, which does not overflow."""
    return SlogdetResult(*forms.SLOGDET(_matrix("slogdet", x, square=True)))


def pinv(x: Any, /, *, rtol: Any = None) -> Tensor:
    """The Moore-Penrose inverse: (..., n, m) -> (..., m, n).

    Singular values up to `rtol` times the largest count as 0; `rtol` is max(n, m) eps by default.
    """
    x = _matrix("pinv", x)
    if rtol is None:
        rtol = _tolerance(x)
    return forms.PINV(x, rtol=rtol.array if isinstance(rtol, Tensor) else np.asarray(rtol))


def _tolerance(x: Tensor) -> float:
    n, m = x.shape[-2:]
    return float((n if n > m else m) * np.finfo(x.dtype).eps)


def matrix_power(x: Any, n: int, /) -> Tensor:
    """A square matrix times itself, n factors; for negative n its inverse. (..., m, m).

    Raises ShapeError for what is not square, LinAlgError for a negative power of a singular matrix.
    """
    x = asarray(x)
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ShapeError(f"matrix_power takes square matrices, (..., n, n), got shape {x.shape}")
    if n < 0:
        x, n = inv(x), -n
    if n == 0:
        unit = asarray(np.eye(x.shape[-1], dtype=x.dtype), backend=x.backend)
        return broadcast_to(unit, x.shape) * 1
    y: Tensor | None = None
    while n:
        if n % 2:
            y = x if y is None else matmul(y, x)
        n //= 2
        if n:
            x = matmul(x, x)
    assert y is not None
    return y


# Decompositions


def cholesky(x: Any, /, *, upper: bool = False) -> Tensor:
    """The lower triangle L with `L @ L^H = x`, or L^H with `upper`.

    Only the lower triangle of x is read; derivatives are those of the function of (x + x^H) / 2.
    Raises LinAlgError where x is not positive definite.
    """
    y = forms.CHOLESKY(_matrix("cholesky", x, square=True))
    return forms.adjoint(y) if upper else y


def qr(x: Any, /, *, mode: str = "reduced") -> QRResult:
    """Orthonormal Q and upper triangular R with `Q @ R = x`, shapes (..., n, k) and (..., k, m).

    k is min(n, m), or n for mode="complete", which has a derivative only where n <= m.

    Raises ValueError for another mode and ShapeError for what is no matrix.
    """
    if mode not in ("reduced", "complete"):
        raise ValueError(f"qr got mode {mode!r}; expected 'reduced' or 'complete'")
    return QRResult(*forms.QR(_matrix("qr", x), mode=mode))


def svd(x: Any, /, *, full_matrices: bool = True) -> SVDResult:
    """U, S, Vh with `U * S @ Vh = x`: (..., n, k), (..., k), (..., k, m), k = min(n, m).

    With `full_matrices` U is (..., n, n) and Vh (..., m, m), and only square matrices have a
    derivative. The derivative of the vectors is infinite where singular values are equal.
    """
    return SVDResult(*forms.SVD(_matrix("svd", x), full_matrices=full_matrices))


def svdvals(x: Any, /) -> Tensor:
    """The singular values, descending: (..., n, m) -> (..., min(n, m))."""
    return forms.SVDVALS(_matrix("svdvals", x))


def eigh(x: Any, /) -> EighResult:
    """Eigenvalues and eigenvectors of symmetric or Hermitian matrices.

    Only the lower triangle of x is read; derivatives are those of the function of (x + x^H) / 2,
    and infinite for the vectors where eigenvalues are equal.
    """
    return EighResult(*forms.EIGH(_matrix("eigh", x, square=True)))


def eigvalsh(x: Any, /) -> Tensor:
    """The eigenvalues of symmetric or Hermitian matrices, ascending: (..., n, n) -> (..., n)."""
    return forms.EIGVALSH(_matrix("eigvalsh", x, square=True))


def eig(x: Any, /) -> EigResult:
    """Eigenvalues and eigenvectors, of length 1, of square matrices; both complex."""
    return EigResult(*forms.EIG(_matrix("eig", x, square=True)))


def eigvals(x: Any, /) -> Tensor:
    """The eigenvalues of square matrices, complex: (..., n, n) -> (..., n)."""
    return forms.EIGVALS(_matrix("eigvals", x, square=True))


# Norms, ranks, products


def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Tensor:
    """The norm of matrices: (..., n, m) -> (...).

    "fro" is the root of the sum of squares, "nuc" the sum of the singular values, 2 and -2 the
    largest and smallest one; 1 and inf (-1 and -inf) the largest (smallest) sum of magnitudes over
    a column and a row. Of an empty matrix it is 0 where `ord` is not negative.

    Raises ValueError for another `ord` and ShapeError for what is no matrix.
    """
    x, ord = _matrix("matrix_norm", x), number(ord)
    if ord in ("fro", None):
        return vector_norm(x, axis=(-2, -1), keepdims=keepdims)
    if ord in ("nuc", 2, -2):
        values = svdvals(x)
        y = sum(values, axis=-1) if ord == "nuc" else _extreme(ord, values, axis=-1)
        return expand_dims(y, (-2, -1)) if keepdims else y
    if ord not in (1, -1, math.inf, -math.inf):
        raise ValueError(f"matrix_norm got ord {ord!r}; expected 'fro', 'nuc', 1, 2, inf or -those")
    inner, outer_axis = (-2, -1) if abs(ord) == 1 else (-1, -2)
    sums = sum(op("abs")(x), axis=inner, keepdims=True)
    y = _extreme(ord, sums, axis=outer_axis, keepdims=True)
    return y if keepdims else y[..., 0, 0]


def _extreme(ord: Any, magnitudes: Tensor, **options: Any) -> Tensor:
    return (largest if ord > 0 else min)(magnitudes, **options)


def norm(x: Any, /, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The norm of vectors along one axis or of matrices along two, as in NumPy.

    Without `ord` it is the root of the sum of squares, over all axes where none is given.

    Raises ShapeError for an `ord` over more axes than two, ValueError for one that is unknown.
    """
    x = asarray(x)
    axes = None if axis is None else normalize_axes("norm", axis, x.ndim)
    if ord is None or (axes is None and x.ndim < 2) or (axes is not None and len(axes) == 1):
        return vector_norm(x, axis=axes, keepdims=keepdims, ord=2 if ord is None else ord)
    axes = tuple(range(x.ndim)) if axes is None else axes
    if len(axes) != 2:
        raise ShapeError(f"norm with ord {ord!r} takes one axis or two, got {axes} of {x.shape}")
    y = matrix_norm(moveaxis(x, axes, (-2, -1)), ord=ord)
    return expand_dims(y, axes) if keepdims else y


def matrix_rank(x: Any, /, *, rtol: Any = None) -> Tensor:
    """How many singular values exceed `rtol` times the largest (max(n, m) eps by default)."""
    x = _matrix("matrix_rank", x).detach()
    values = svdvals(x)
    if not values.shape[-1]:
        return count_nonzero(values, axis=-1)
    bound = asarray(_tolerance(x) if rtol is None else rtol, dtype=values.dtype, backend=x.backend)
    bound = expand_dims(bound, -1) if bound.ndim else bound
    return count_nonzero(values > bound * max(values, axis=-1, keepdims=True), axis=-1)


def cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Tensor:
    """The cross product of vectors of 3 elements along an axis; the other axes broadcast.

    Raises ShapeError for another number of elements and DTypeError for bool.
    """
    a, b = operands_of_one_dtype("cross", x1, x2)
    if a.dtype == dtypes.bool_:
        raise DTypeError("cross takes numbers, got bool; cast it with astype")
    for x in (a, b):
        if not -x.ndim <= axis < x.ndim or x.shape[axis] != 3:
            raise ShapeError(
                f"cross got shapes {a.shape} and {b.shape}; expected 3 elements along axis {axis}"
            )
    a_next, b_next = roll(a, -1, axis=axis), roll(b, -1, axis=axis)
    return roll(a * b_next - a_next * b, -1, axis=axis)
