"""NumPy's products, decompositions and transforms under its own names and habits."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from gradnet import fft, linalg
from gradnet import ops as _ops
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
