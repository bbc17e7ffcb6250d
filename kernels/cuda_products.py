"""Matrix products of the CUDA backend, by cuBLAS through CuPy."""

from __future__ import annotations

import numpy as np

from gradnet.backends import Array
from gradnet.dtypes import compute_dtype, is_half

from .cuda_arrays import Arrays
from .cuda_device import on_device


class Products(Arrays):
    """What multiplies matrices. Part of the CUDA backend."""

    @on_device
    def matmul(self, a: Array, b: Array, *, out: Array | None = None, tf32: bool = False) -> Array:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        shape = (*batch, a.shape[-2], b.shape[-1])
        whole = out is not None and out.flags.c_contiguous
        y = out if whole else self._device.empty(shape, a.dtype)
        assert y is not None
        if not y.size:
            return y
        if not a.shape[-1]:
            y.fill(0)
        elif is_half(a.dtype) and (len(shape) > 2 or y.dtype != a.dtype):
            # cuBLAS has no batched bfloat16 products here, and slow ones of float16; and CuPy's
            # results have the dtype of the operands.
            wide = compute_dtype(a.dtype)
            a, b = self._cast(a, wide, None), self._cast(b, wide, None)
            self._copied(self.matmul(a, b), y)
        else:
            # float32 stays float32, and 16-bit floats add up in float32: CuPy's defaults.
            self._device.cupy.matmul(a, b, out=y)
        return y if out is None or y is out else self._copied(y, out)
