"""Fourier transforms along one axis, as linear ops whose adjoints are transforms again."""

from __future__ import annotations

import math
from typing import Any

from gradnet import dtypes
from gradnet.backends import Array, Backend, Shape
from gradnet.dtypes import DType
from gradnet.graph import Context
from gradnet.ops.complex import REAL
from gradnet.ops.core import Cost, size
from gradnet.ops.creation import asarray, zeros
from gradnet.ops.elementwise import MULTIPLY
from gradnet.ops.joining import concat
from gradnet.ops.multilinear import CAST, Multilinear
from gradnet.tensor import Tensor

OPPOSITE = {"backward": "forward", "forward": "backward", "ortho": "ortho"}


def complex_dtype(dtype: DType) -> DType:
    """The complex dtype of a transform of values of a dtype."""
    return dtypes.complex128 if dtype in (dtypes.float64, dtypes.complex128) else dtypes.complex64


def fitted(x: Tensor, n: int, axis: int) -> Tensor:
    """`x` cut, or filled up with zeros, to n elements along an axis."""
    count = x.shape[axis]
    if n <= count:
        return x if n == count else x[(slice(None),) * axis + (slice(0, n),)]
    shape = tuple(n - count if i == axis else m for i, m in enumerate(x.shape))
    return concat([x, zeros(shape, dtype=x.dtype, backend=x.backend)], axis=axis)


def _cost(shape: Shape, axis: int, itemsize: int = 8, **parameters: Any) -> Cost:
    count = size(shape)
    return 5 * count * math.log2(max(shape[axis], 2)), 2 * itemsize * count


def _transform(name: str) -> Any:
    def forward(backend: Backend, x: Array, axis: int, norm: str, **options: Any) -> Array:
        return backend.linalg(f"fft.{name}", x, axis=axis, norm=norm, **options)

    return forward


# The matrix of a transform is symmetric, so its adjoint is the opposite one, scaled oppositely.


def _fft_adjoint(g: Tensor, context: Context) -> Tensor:
    parameters = context.parameters
    return IFFT(g, axis=parameters["axis"], norm=OPPOSITE[parameters["norm"]])


def _ifft_adjoint(g: Tensor, context: Context) -> Tensor:
    parameters = context.parameters
    return FFT(g, axis=parameters["axis"], norm=OPPOSITE[parameters["norm"]])


def _rfft_adjoint(g: Tensor, context: Context) -> Tensor:
    axis, norm = context.parameters["axis"], context.parameters["norm"]
    whole = fitted(g, context.inputs[0].shape[axis], axis)
    return REAL(IFFT(whole, axis=axis, norm=OPPOSITE[norm]))


def _irfft_adjoint(g: Tensor, context: Context) -> Tensor:
    axis, n = context.parameters["axis"], context.parameters["n"]
    y = RFFT(g, axis=axis, norm=OPPOSITE[context.parameters["norm"]])
    # Each frequency but the first, and the middle one of an even n, stands for its mirror too.
    weights = [1.0 if 2 * i in (0, n) else 2.0 for i in range(n // 2 + 1)]
    shape = tuple(len(weights) if i == axis else 1 for i in range(y.ndim))
    factors = asarray(weights, dtype=g.dtype, backend=g.backend).reshape(shape)
    return MULTIPLY(y, CAST(factors, dtype=y.dtype))


FFT: Multilinear = Multilinear("fft", _transform("fft"), (_fft_adjoint,), cost=_cost)
IFFT: Multilinear = Multilinear("ifft", _transform("ifft"), (_ifft_adjoint,), cost=_cost)
RFFT: Multilinear = Multilinear("rfft", _transform("rfft"), (_rfft_adjoint,), cost=_cost)
IRFFT: Multilinear = Multilinear("irfft", _transform("irfft"), (_irfft_adjoint,), cost=_cost)
