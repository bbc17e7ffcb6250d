"""Arrays, formulas and comparisons for the tests of the Numba backend."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradnet import dtypes
from gradnet.backends import Backend
from gradnet.numpy_backend import NumpyBackend

pytest.importorskip("numba")

from gradnet.kernels.numba_cpu import NumbaBackend

Array = Any
NUMBA: Backend = NumbaBackend()
NUMPY: Backend = NumpyBackend()
F4, F8 = dtypes.float32, dtypes.float64
FLOATS = [F4, F8]
HALVES = [dtypes.float16, dtypes.bfloat16()]
INF, NAN = np.inf, np.nan
EXTREMES = [0.0, -0.0, 1.0, -1.0, 300.0, -300.0, 1e30, -1e30, 1e-40, -1e-40, INF, -INF, NAN]
TOLERANCE = {F4: 2e-6, F8: 4e-15}


def where(c: Any, a: Any, b: Any) -> Any:
    return where(c, a, b)


def exp(x: Any) -> Any:
    return exp(x)


def rational(a: Any, b: Any, alpha: Any) -> Any:
    """Exact to the bit on any target that neither contracts nor reorders."""
    return where(a > b, a * b + alpha, a - b / (alpha + 0.1))


def swish_like(x: Any) -> Any:
    return x / (1.0 + exp(-x))


def seed(*parts: Any) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(parts).encode()))


def random(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, wild: bool = False) -> Any:
    x = rng.normal(size=shape) * 3
    if wild:
        x = np.where(rng.random(shape) < 0.3, rng.choice(EXTREMES, size=shape), x)
    with np.errstate(over="ignore"):
        return np.asarray(x).astype(dtype)


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "contiguous": lambda x: x,
    "fortran": lambda x: np.asfortranarray(x) if x.ndim else x,
    "strided": lambda x: np.repeat(x, 2, axis=-1)[..., ::2] if x.ndim else x,
    "reversed": lambda x: x[..., ::-1].copy()[..., ::-1] if x.ndim else x,
    "offset": lambda x: np.concatenate([x[:1], x])[1:] if x.ndim else x,
}


def laid_out(x: Array, layout: str, *, writable: bool = False) -> Array:
    y = LAYOUTS[layout](x)
    np.testing.assert_array_equal(x, y)
    if not writable:
        y = y.view()
        y.flags.writeable = False
    return y


def same(found: Array, expected: Array) -> None:
    assert isinstance(found, np.ndarray)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if found.dtype in HALVES:
        # NumPy's comparison does not know the NaN of bfloat16.
        found, expected = found.astype(F4), expected.astype(F4)
    np.testing.assert_array_equal(found, expected)


def close(found: Array, expected: Array, factor: float = 1.0, scale: float = 1.0) -> None:
    assert isinstance(found, np.ndarray)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    tolerance = TOLERANCE[found.dtype] * factor
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * scale)


def adam_like(p: Any, g: Any, m: Any, v: Any, lr: Any, beta: Any) -> Any:
    m = beta * m + (1.0 - beta) * g
    v = beta * v + (1.0 - beta) * g * g
    return p - lr * m / (v + 1e-8), m, v


def sgd_like(p: Any, g: Any, lr: Any) -> Any:
    return (p - lr * g,)
