"""The CUDA backend beside NumPy's: operands, and a comparison of what both make of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gradnet.kernels.cuda_backend import CudaBackend

from gradnet import backends, dtypes

NUMPY = backends.get("numpy")
F32, F64, F16, BOOL = dtypes.float32, dtypes.float64, dtypes.float16, dtypes.bool_
BF16 = dtypes.bfloat16()
I64 = dtypes.int64
RNG = np.random.default_rng(7)
START = RNG.bit_generator.state
FLOATS = (F32, F64, F16, BF16)


def normal(*shape: int, dtype: Any = F32) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype(dtype)


def odd(*shape: int, dtype: Any = F32) -> np.ndarray[Any, Any]:
    """Numbers with the special ones among them."""
    x = normal(*shape, dtype=dtype)
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0]
    x.reshape(-1)[: len(special)] = special[: x.size]
    return x


Operation = Callable[[Any, Callable[[np.ndarray[Any, Any]], Any]], Any]


def both(
    cuda: CudaBackend, operation: Operation, *, exact: bool = False, rtol: float = 3e-6
) -> None:
    """The operation gives on the device, with threads in either order, what it gives on NumPy."""
    expected = operation(NUMPY, lambda x: x.copy())
    found = []
    for backwards in (False, True):
        cuda._device.launch.backwards = backwards  # type: ignore[attr-defined]
        result = operation(cuda, lambda x: cuda.from_host(x, copy=True))
        found.append(result if isinstance(result, tuple) else (result,))
    expected = expected if isinstance(expected, tuple) else (expected,)
    for first, second, right in zip(*found, expected, strict=True):
        if right is None:
            assert first is None
            continue
        first, second = cuda.to_host(first), cuda.to_host(second)
        assert first.dtype == right.dtype
        assert first.shape == right.shape
        assert first.tobytes() == second.tobytes()
        if right.dtype == BF16:
            first, right = first.astype(F32), right.astype(F32)
            coarse = 1.6e-2
        else:
            coarse = 2e-3 if right.dtype == F16 else rtol
        if exact or right.dtype.kind in "biu":
            np.testing.assert_array_equal(first, right)
        else:
            np.testing.assert_allclose(first, right, coarse, coarse)
