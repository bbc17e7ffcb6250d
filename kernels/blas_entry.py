"""Addresses of functions that machine code calls: the BLAS's product, and memmove."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

from gradnet import blas
from gradnet.dtypes import DType, float32, float64

_NAMES = {float32: "cblas_sgemm", float64: "cblas_dgemm"}


@cache
def gemm(dtype: DType) -> int | None:
    """CBLAS's matrix product with 64-bit integers, of the BLAS under NumPy; None without it."""
    name = _NAMES.get(dtype)
    return None if name is None else blas.address(name)


@cache
def memmove() -> int:
    """The C library's memmove."""
    function: Any = ctypes.memmove
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    return address
