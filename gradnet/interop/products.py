"""NumPy's products, decompositions and transforms under its own names and habits."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradnet import dtypes, fft, linalg
from gradnet import ops as _ops
from gradnet.ops.creation import operands_of_one_dtype
from gradnet.tensor import Tensor

ops: Any = _ops  # its names are made when asked for


def inner(a: Any, b: Any, /) -> Tensor:
    a, b = ops.asarray(a), ops.asarray(b)
    return ops.tensordot(a, b, axes=((-1,), (-1,))) if a.ndim and b.ndim else a * b


def vdot(a: Any, b: Any, /) -> Tensor:
    return ops.vecdot(ops.ravel(a), ops.ravel(b))


def matvec(a: Any, x: Any, /) -> Tensor:
    return ops.matmul(a, ops.expand_dims(x, axis=-1))[..., 0]


def vecmat(x: Any, a: Any, /) -> Tensor:
    return ops.matmul(ops.expand_dims(ops.conj(x), axis=-2), a)[..., 0, :]


def multi_dot(xs: Sequence[Any], /) -> Tensor:
    return functools.reduce(ops.matmul, xs)


def cross(
    a: Any, b: Any, /, *, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: Any = None
) -> Tensor:
    axisa, axisb, axisc = (axisa, axisb, axisc) if axis is None else (axis,) * 3
    a, b = ops.moveaxis(ops.asarray(a), axisa, -1), ops.moveaxis(ops.asarray(b), axisb, -1)
    return ops.moveaxis(linalg.cross(a, b), -1, axisc)


def eigh(x: Any, /, *, UPLO: str = "L") -> Any:
    return linalg.eigh(x if UPLO.upper() == "L" else ops.conj(ops.matrix_transpose(x)))


def eigvalsh(x: Any, /, *, UPLO: str = "L") -> Tensor:
    return linalg.eigvalsh(x if UPLO.upper() == "L" else ops.conj(ops.matrix_transpose(x)))


def svd(x: Any, /, *, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    return linalg.svd(x, full_matrices=full_matrices) if compute_uv else linalg.svdvals(x)


def qr(x: Any, /, *, mode: Any = "reduced") -> Any:
    return linalg.qr(x).R if mode == "r" else linalg.qr(x, mode=mode)


def cond(x: Any, /, *, p: Any = None) -> Tensor:
    if p in (None, 2):
        values = linalg.svdvals(x)
        return values[..., 0] / values[..., -1]
    return linalg.matrix_norm(x, ord=p) * linalg.matrix_norm(linalg.inv(x), ord=p)


def fft2(x: Any, /, *, axes: Any = (-2, -1), **options: Any) -> Tensor:
    return fft.fftn(x, axes=axes, **options)


def ifft2(x: Any, /, *, axes: Any = (-2, -1), **options: Any) -> Tensor:
    return fft.ifftn(x, axes=axes, **options)


def rfft2(x: Any, /, *, axes: Any = (-2, -1), **options: Any) -> Tensor:
    return fft.rfftn(x, axes=axes, **options)


def irfft2(x: Any, /, *, axes: Any = (-2, -1), **options: Any) -> Tensor:
    return fft.irfftn(x, axes=axes, **options)


def lstsq(
    a: Any, b: Any, /, *, rcond: float | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The least solution x of least |a x - b|, the squares that are left, the rank and the values.

    Its derivative is that of `pinv(a) @ b`, at matrices of one rank.
    """
    a, b = operands_of_one_dtype("lstsq", a, b)
    a = ops.astype(a, dtypes.to_float(a.dtype), copy=False)
    b = ops.astype(b, a.dtype, copy=False)
    # NumPy cuts with a negative one, as none does, where rounding makes it necessary.
    rcond = None if rcond is None or rcond < 0 else rcond
    x = ops.matmul(linalg.pinv(a, rtol=rcond), b)
    values = linalg.svdvals(a)
    rtol = max(a.shape) * float(np.finfo(a.dtype).eps) if rcond is None else rcond
    rank = ops.sum(values > rtol * values[:1].detach())
    left = ops.matmul(a, x) - b
    squares = ops.sum(ops.real(left * ops.conj(left)), axis=0, keepdims=b.ndim == 1)
    n, m = a.shape
    whole = n > m and int(rank) == m
    return x, squares if whole else squares[:0], rank, values


def tensorsolve(a: Any, b: Any, /, *, axes: Any = None) -> Tensor:
    a, b = ops.asarray(a), ops.asarray(b)
    if axes is not None:
        last = [i % a.ndim for i in axes]
        a = ops.permute_dims(a, (*(i for i in range(a.ndim) if i not in last), *last))
    shape = a.shape[b.ndim :]
    return ops.reshape(linalg.solve(ops.reshape(a, (b.size, -1)), ops.ravel(b)), shape)


def tensorinv(a: Any, /, *, ind: int = 2) -> Tensor:
    a = ops.asarray(a)
    flat = ops.reshape(a, (math.prod(a.shape[:ind]), -1))
    return ops.reshape(linalg.inv(flat), a.shape[ind:] + a.shape[:ind])
