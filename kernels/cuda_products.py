"""Matrix products of the CUDA backend: by cublasLt where it is there, else by cuBLAS through CuPy.

A product with an epilogue that cublasLt lacks is a product and one fused kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property, partial
from threading import Lock
from typing import Any

import numpy as np

from gradnet import formulas
from gradnet.backends import Array, Formula
from gradnet.dtypes import compute_dtype, is_half

from .cublaslt import CublasLt, multiplies
from .cuda_arrays import Arrays
from .cuda_device import Device, on_device

# What cublasLt computes under these names. Its GELU is the approximation by tanh, formulas'
# gelu_tanh; `gelu`, by the error function, is another function and has no epilogue.
ACTIVATIONS: dict[str, Formula] = {"relu": formulas.relu, "gelu": formulas.gelu_tanh}
DERIVATIVES: dict[str, Formula] = {"drelu": formulas.relu_dx, "dgelu": formulas.gelu_tanh_dx}

# CuPy has one setting of how float32 is multiplied for all threads.
_LOCK = Lock()


class Mask:
    """What the calls that write and read a mask of ReLU know of it: whether it was written."""

    written = False


class Products(Arrays):
    """What multiplies matrices. Part of the CUDA backend."""

    _find_cublaslt: Callable[[Device], CublasLt | None] | None = None

    def multiply_by(self, find: Callable[[Device], CublasLt | None]) -> None:
        """Multiply by the cublasLt that `find` gives when the first product is made."""
        self._find_cublaslt = find

    @cached_property
    def cublaslt(self) -> CublasLt | None:
        """The products of cublasLt, or None where CuPy's take their place."""
        return None if self._find_cublaslt is None else self._find_cublaslt(self._device)

    @on_device
    def matmul(self, a: Array, b: Array, *, out: Array | None = None, tf32: bool = False) -> Array:
        if a.ndim == 1:
            k = a.shape[0]
            y = self.matmul(self.reshape(a, (1, k)), self.reshape(b, (k, 1)), out=out, tf32=tf32)
            return self.reshape(y, ())
        flat = a.ndim == b.ndim == 2
        batch = () if flat else np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        shape = (*batch, a.shape[-2], b.shape[-1])
        y = self._device.empty(shape, a.dtype) if out is None else out
        if not y.size:
            return y
        if not a.shape[-1]:
            self.full(y.shape, 0, y.dtype, out=y)
        elif not self._by_cublaslt(a, b, y, tf32):
            self._by_cupy(a, b, y, tf32)
        return y

    def _by_cublaslt(self, a: Array, b: Array, y: Array, tf32: bool) -> bool:
        """Whether cublasLt has computed the product, of copies where it takes no such strides."""
        products = self.cublaslt
        if products is None or a.dtype != b.dtype or not multiplies(a.dtype):
            return False
        if products.product(a, b, y, tf32=tf32):
            return True
        batch = y.shape[:-2]
        dense = [
            self._dense(x)
            if len(batch) < 2 or x.shape[:-2] == batch
            else self._dense(self._device.cupy.broadcast_to(x, (*batch, *x.shape[-2:])))
            for x in (a, b)
        ]
        z = y if y.flags.c_contiguous else self._device.empty(y.shape, y.dtype)
        if not products.product(dense[0], dense[1], z, tf32=tf32):
            return False
        self._copied(z, y)
        return True

    def _by_cupy(self, a: Array, b: Array, y: Array, tf32: bool) -> None:
        z = y if y.flags.c_contiguous else self._device.empty(y.shape, y.dtype)
        if is_half(a.dtype) and (y.ndim > 2 or y.dtype != a.dtype):
            # cuBLAS has no batched bfloat16 products here, and slow ones of float16; and CuPy's
            # results have the dtype of the operands.
            wide = compute_dtype(a.dtype)
            a, b = self._cast(a, wide, None), self._cast(b, wide, None)
            self._copied(self.matmul(a, b), z)
        else:
            # float32 stays float32, and 16-bit floats add up in float32: CuPy's defaults.
            with _LOCK, _in_tf32(self._device.cupy) if tf32 else nullcontext():
                self._device.cupy.matmul(a, b, out=z)
        self._copied(z, y)

    @on_device
    def product_epilogue(
        self,
        a: Array,
        b: Array,
        kind: str,
        *,
        bias: Array | None = None,
        dbias: Array | None = None,
        saved: Array | None = None,
        aux: Array | None = None,
        mask: Mask | None = None,
        out: Array | None = None,
        tf32: bool = False,
    ) -> Array:
        """A product with what follows it: (n, k) @ (k, m) -> (n, m).

        ""       a @ b + bias
        "relu"   relu(a @ b + bias); `aux` takes the mask of what is positive, in bits
        "gelu"   gelu_tanh(a @ b + bias); `aux` takes what the activation is given
        "drelu"  (a @ b) * relu_dx(saved), and the sum of its rows in `dbias`; `aux` is the mask
        "dgelu"  (a @ b) * gelu_tanh_dx(saved), and the same sum; `aux` is what "gelu" left there
        "sum_a"  a @ b, and the sum of each row of `a` in `dbias`
        "sum_b"  a @ b, and the sum of each column of `b` in `dbias`

        Vectors and `aux` have the dtype of the result, but for ReLU's mask. `mask` is shared by
        "relu" and "drelu", which takes `saved` where no mask was written.
        """
        shape = (a.shape[0], b.shape[1])
        y = self._device.empty(shape, a.dtype) if out is None else out
        vector = bias if kind in ("", *ACTIVATIONS) else dbias
        written = mask is not None and mask.written
        if mask is not None and kind == "relu":
            mask.written = False
        products = self.cublaslt
        if products is not None and y.size and a.shape[1]:
            made = partial(products.product, a, b, y, kind=kind, vector=vector, tf32=tf32)
            if (kind != "drelu" or written) and made(aux=aux):
                if mask is not None and kind == "relu":
                    mask.written = aux is not None
                return y
            if kind == "relu" and aux is not None and made():
                return y
        self._in_steps(a, b, kind, bias, dbias, saved, aux, y, tf32)
        return y

    def _in_steps(
        self,
        a: Array,
        b: Array,
        kind: str,
        bias: Array | None,
        dbias: Array | None,
        saved: Array | None,
        aux: Array | None,
        y: Array,
        tf32: bool,
    ) -> None:
        """The product, then one fused kernel."""
        if kind in ("sum_a", "sum_b"):
            self.matmul(a, b, out=y, tf32=tf32)
            x, axis = (a, 1) if kind == "sum_a" else (b, 0)
            assert dbias is not None
            self.reduce("sum", x, (axis,), False, dtype=dbias.dtype, out=dbias)
        elif kind in DERIVATIVES:
            assert saved is not None
            self.matmul(a, b, out=y, tf32=tf32)
            with_bias = dbias is not None
            _, sums = self.bias_activation_backward(
                y, saved, DERIVATIVES[kind], (), with_bias=with_bias, out=y
            )
            if dbias is not None:
                self._copied(sums, dbias)
        else:
            z = aux if kind == "gelu" and aux is not None else y
            self.matmul(a, b, out=z, tf32=tf32)
            self.bias_activation(z, bias, ACTIVATIONS.get(kind), (), out=y)


@contextmanager
def _in_tf32(cupy: Any) -> Iterator[None]:
    """CuPy's products of float32 in TF32."""
    core = cupy._core
    before = core.get_compute_type(np.float32)
    core.set_compute_type(np.float32, core._routines_linalg.COMPUTE_TYPE_TF32)
    try:
        yield
    finally:
        core.set_compute_type(np.float32, before)
