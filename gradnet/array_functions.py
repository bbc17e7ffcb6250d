"""What NumPy lacks or gives in another way than the array API standard says."""

from __future__ import annotations

from typing import Any

import numpy as np


def floor_divide(a: Any, b: Any) -> Any:
    """floor(a / b), with the limits at infinities that NumPy misses: inf // 1 is inf, 1 // -inf -0.

    Nothing but finite operands costs more than one sum and a look at it.
    """
    y = np.floor_divide(a, b)
    if y.dtype.kind == "f" and not np.isfinite(np.add(a, b)).all():
        unbounded = np.isinf(a) | np.isinf(b)
        y = np.where(unbounded, np.floor(np.divide(a, b)), y).astype(y.dtype, copy=False)
    return y


def expm1(z: Any) -> Any:
    """exp(z) - 1 of complex numbers, with exp's limits where NumPy's own gives NaN."""
    y = np.asarray(np.expm1(z))
    y.real += 0  # exp(-0) - 1 is 0, not -0
    finite = np.isfinite(y)
    return y if finite.all() else np.where(finite, y, np.exp(z) - z.dtype.type(1))


def tanh(z: Any) -> Any:
    """tanh of complex numbers; at a = +-inf it is +-1 + 0i with the signs of a and b of a + ib."""
    y = np.asarray(np.tanh(z))
    far = np.isinf(z.real) & np.isfinite(z.imag)
    if far.any():
        limit = np.empty_like(y)
        limit.real, limit.imag = np.sign(z.real), np.copysign(0, z.imag)
        y = np.where(far, limit, y)
    return y


def real(z: Any) -> Any:
    return np.array(z.real)


def imag(z: Any) -> Any:
    return np.array(z.imag)


CORRECTED = {"floor_divide": floor_divide}
ON_COMPLEX = {"expm1": expm1, "tanh": tanh, "real": real, "imag": imag}


def round_to_tf32(x: Any) -> Any:
    """Float32 values with the 10 mantissa bits of TF32: the nearest such, ties to even.

    Beyond the largest one lies infinity, as for any cast. NVIDIA A100 whitepaper 2020.
    """
    bits = x.view(np.uint32)
    # Half a unit of the 13 bits that go, less 1 where what stays is even; a carry moves on into
    # the exponent, as it should.
    rounded = (bits + (0x0FFF + ((bits >> 13) & 1))) & 0xFFFFE000
    special = (bits & 0x7F800000) == 0x7F800000
    return np.where(special, bits, rounded).view(np.float32)
