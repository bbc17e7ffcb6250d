"""The `fft` extension of the array API standard: Fourier transforms with derivatives.

y_k = sum_j x_j exp(-2 pi i j k / n) along an axis, +i for the inverse ones. `n` cuts x or fills it
up with zeros. `norm` says where the factor 1/n stands: "backward" at the inverse transform,
"forward" at the other one, "ortho" its root at both. float32 gives complex64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradnet import dtypes
from gradnet.dtypes import DType
from gradnet.errors import DTypeError, ShapeError
from gradnet.ops.complex import conj
from gradnet.ops.creation import asarray
from gradnet.ops.fourier import FFT, IFFT, IRFFT, OPPOSITE, RFFT, complex_dtype, fitted
from gradnet.ops.joining import roll
from gradnet.ops.multilinear import CAST, Multilinear
from gradnet.ops.shape import normalize_axes, normalize_axis
from gradnet.tensor import Tensor

__all__ = [
    "fft",
    "fftfreq",
    "fftn",
    "fftshift",
    "hfft",
    "ifft",
    "ifftn",
    "ifftshift",
    "ihfft",
    "irfft",
    "irfftn",
    "rfft",
    "rfftfreq",
    "rfftn",
]


def _operand(name: str, x: Any, norm: str, *, real: bool) -> Tensor:
    """The values as complex ones, or as real ones of that precision."""
    x = asarray(x)
    if norm not in OPPOSITE:
        raise ValueError(f"{name} got norm {norm!r}; expected 'backward', 'ortho' or 'forward'")
    if real and dtypes.kind(x.dtype) == "complex":
        raise DTypeError(f"{name} takes real values, got {x.dtype.name}; use the complex transform")
    wanted = complex_dtype(x.dtype)
    if real:
        wanted = dtypes.float64 if wanted == dtypes.complex128 else dtypes.float32
    return x if x.dtype == wanted else CAST(x, dtype=wanted)


def _length(name: str, n: Any, default: int) -> int:
    found = default if n is None else int(n.__index__())
    if found < 1:
        raise ShapeError(f"{name} needs at least one element along the axis, got n={found}")
    return found


def _along(transform: Multilinear, name: str, x: Tensor, n: Any, axis: int, norm: str) -> Tensor:
    axis = normalize_axis(name, axis, x.ndim)
    return transform(fitted(x, _length(name, n, x.shape[axis]), axis), axis=axis, norm=norm)


def _inverse_real(name: str, x: Tensor, n: Any, axis: int, norm: str) -> Tensor:
    axis = normalize_axis(name, axis, x.ndim)
    count = _length(name, n, 2 * (x.shape[axis] - 1))
    return IRFFT(fitted(x, count // 2 + 1, axis), axis=axis, norm=norm, n=count)


def _lengths(name: str, x: Tensor, s: Any, axes: Any) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    if axes is None:
        count = x.ndim if s is None else len(s)
        axes = tuple(range(x.ndim - count, x.ndim))
    found = normalize_axes(name, tuple(axes), x.ndim)
    lengths = (None,) * len(found) if s is None else tuple(s)
    if len(lengths) != len(found):
        raise ShapeError(f"{name} got {len(lengths)} lengths in s for {len(found)} axes")
    return lengths, found


def _over_axes(
    transform: Multilinear, name: str, x: Tensor, s: Any, axes: Any, norm: str
) -> Tensor:
    for n, axis in zip(*_lengths(name, x, s, axes), strict=True):
        x = _along(transform, name, x, n, axis, norm)
    return x


def fft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The discrete Fourier transform along an axis."""
    return _along(FFT, "fft", _operand("fft", x, norm, real=False), n, axis, norm)


def ifft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The inverse of `fft`."""
    return _along(IFFT, "ifft", _operand("ifft", x, norm, real=False), n, axis, norm)


def fftn(
    x: Any,
    /,
    *,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: str = "backward",
) -> Tensor:
    """The discrete Fourier transform along several axes, the last ones or all of them."""
    return _over_axes(FFT, "fftn", _operand("fftn", x, norm, real=False), s, axes, norm)


def ifftn(
    x: Any,
    /,
    *,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: str = "backward",
) -> Tensor:
    """The inverse of `fftn`."""
    return _over_axes(IFFT, "ifftn", _operand("ifftn", x, norm, real=False), s, axes, norm)


def rfft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The transform of real values, whose second half mirrors the first: n -> n // 2 + 1."""
    return _along(RFFT, "rfft", _operand("rfft", x, norm, real=True), n, axis, norm)


def irfft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The inverse of `rfft`: k -> n real values, 2 (k - 1) unless told."""
    return _inverse_real("irfft", _operand("irfft", x, norm, real=False), n, axis, norm)


def rfftn(
    x: Any,
    /,
    *,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: str = "backward",
) -> Tensor:
    """`rfft` along the last of the axes, `fft` along the others."""
    x = _operand("rfftn", x, norm, real=True)
    lengths, found = _lengths("rfftn", x, s, axes)
    y = _along(RFFT, "rfftn", x, lengths[-1], found[-1], norm)
    return _over_axes(FFT, "rfftn", y, lengths[:-1], found[:-1], norm)


def irfftn(
    x: Any,
    /,
    *,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: str = "backward",
) -> Tensor:
    """The inverse of `rfftn`."""
    x = _operand("irfftn", x, norm, real=False)
    lengths, found = _lengths("irfftn", x, s, axes)
    y = _over_axes(IFFT, "irfftn", x, lengths[:-1], found[:-1], norm)
    return _inverse_real("irfftn", y, lengths[-1], found[-1], norm)


def hfft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The transform of values that are conjugate symmetric, which is real: k -> n."""
    x = _operand("hfft", x, norm, real=False)
    return _inverse_real("hfft", conj(x), n, axis, OPPOSITE[norm])


def ihfft(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The inverse of `hfft`: n -> n // 2 + 1."""
    x = _operand("ihfft", x, norm, real=True)
    return conj(_along(RFFT, "ihfft", x, n, axis, OPPOSITE[norm]))


# Frequencies


def _frequencies(values: Any, n: int, d: float, dtype: Any, device: str | None) -> Tensor:
    wanted: DType = dtypes.canonical(dtype or dtypes.DEFAULT_FLOAT)
    return asarray(np.asarray(values, np.float64) / (n * d), dtype=wanted, device=device)


def fftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: str | None = None) -> Tensor:
    """The frequencies of `fft` for n samples d apart: 0, 1, ..., -2, -1 over n d."""
    n = _length("fftfreq", n, 1)
    return _frequencies([*range((n + 1) // 2), *range(-(n // 2), 0)], n, d, dtype, device)


def rfftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: str | None = None) -> Tensor:
    """The frequencies of `rfft` for n samples d apart: 0, 1, ..., n // 2 over n d."""
    n = _length("rfftfreq", n, 1)
    return _frequencies(range(n // 2 + 1), n, d, dtype, device)


def _shifted(name: str, x: Any, axes: Any, sign: int) -> Tensor:
    x = asarray(x)
    found = normalize_axes(name, axes, x.ndim)
    return roll(x, tuple(sign * (x.shape[a] // 2) for a in found), axis=found)


def fftshift(x: Any, /, *, axes: Any = None) -> Tensor:
    """The frequency 0 moved to the middle of the axes."""
    return _shifted("fftshift", x, axes, 1)


def ifftshift(x: Any, /, *, axes: Any = None) -> Tensor:
    """The inverse of `fftshift`."""
    return _shifted("ifftshift", x, axes, -1)
