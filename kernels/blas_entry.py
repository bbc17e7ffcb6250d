"""What machine code calls: addresses of the BLAS's product and of memmove, and matrices for it."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

from gradnet import blas
from gradnet.backends import Shape
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


def lines(shape: Shape, strides: tuple[int, ...], size: int) -> tuple[bool, int] | None:
    """Whether a matrix is stored by columns, and the elements from one line to the next.

    None for a matrix that is neither stored by rows nor by columns.
    """
    (n, m), (rows, columns) = shape, strides
    if (columns == size or m == 1) and (rows >= m * size or n == 1) and rows % size == 0:
        return False, max(rows // size, m, 1) if n > 1 else m
    if (rows == size or n == 1) and columns >= n * size and columns % size == 0:
        return True, max(columns // size, n, 1)
    return None
