"""Layers whose products have epilogues, against float64 NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes.compare import BF16, F16, F32, F64, normal
from fakes.cublaslt_over_numpy import Bindings, attach, close, wide
from gradnet.kernels import cuda_products
from gradnet.kernels.cublaslt import epilogue, mask_row
from gradnet.kernels.cuda_backend import CudaBackend
from gradnet.kernels.cuda_products import Mask

from gradnet import formulas
from gradnet.numpy_backend import BACKEND as NUMPY


@pytest.fixture
def lt(cuda: CudaBackend) -> Bindings:
    """The library of the backend under test."""
    return attach(cuda)


def operands(dtype: Any, n: int = 9, k: int = 6, m: int = 16) -> tuple[Any, Any, Any]:
    return normal(n, k, dtype=dtype), normal(k, m, dtype=dtype), normal(m, dtype=dtype)


def gelu(z: Any) -> Any:
    return 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))


def gelu_dx(z: Any) -> Any:
    u = np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)
    slope = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * z**2)
    return 0.5 * (1 + np.tanh(u)) + 0.5 * z * slope / np.cosh(u) ** 2


ALL = {"": 4, "relu": 134, "gelu": 164, "drelu": 152, "dgelu": 208, "sum_a": 512, "sum_b": 256}


@pytest.mark.parametrize("native", [True, False], ids=["epilogue", "in steps"])
@pytest.mark.parametrize("dtype", [F32, F64, F16, BF16], ids=str)
@pytest.mark.parametrize("width", [16, 13, 130])
def test_a_layer_forward_and_backward(
    cuda: CudaBackend, lt: Bindings, dtype: Any, width: int, native: bool
) -> None:
    if not native:
        lt.missing = {(dtype.name, code) for code in (*ALL.values(), 6)}
    x, w, bias = operands(dtype, m=width)
    v, g = normal(width, 5, dtype=dtype), normal(9, 5, dtype=dtype)
    dx, dw, dbias, dv, dg = (cuda.from_host(t, copy=True) for t in (x, w, bias, v, g))
    z = wide(x) @ wide(w) + wide(bias)
    close(cuda.to_host(cuda.product_epilogue(dx, dw, "", bias=dbias)), z)
    back = cuda.permute(dv, (1, 0))
    dz = wide(g) @ wide(v).T
    for turned in (False, True):
        weights = cuda.permute(cuda.from_host(w.T.copy(), copy=True), (1, 0)) if turned else dw
        mask = Mask()
        bits = cuda.full((9, mask_row(width)), 255, np.dtype(np.uint8))
        y = cuda.product_epilogue(dx, weights, "relu", bias=dbias, aux=bits, mask=mask)
        close(cuda.to_host(y), np.maximum(z, 0))
        assert mask.written is native
        sums = cuda.empty((width,), dtype)
        found = cuda.product_epilogue(dg, back, "drelu", dbias=sums, saved=y, aux=bits, mask=mask)
        positive = wide(cuda.to_host(y)) > 0
        close(cuda.to_host(found), dz * positive)
        close(
            cuda.to_host(sums), (wide(cuda.to_host(found)) if not native else dz * positive).sum(0)
        )
    if width % 8 == 0:
        saved, sums = cuda.empty((9, width), dtype), cuda.empty((width,), dtype)
        y = cuda.product_epilogue(dx, dw, "gelu", bias=dbias, aux=saved)
        close(cuda.to_host(saved), z)
        close(cuda.to_host(y), gelu(z))
        found = cuda.product_epilogue(dg, back, "dgelu", dbias=sums, saved=saved, aux=saved)
        rounded = dz * gelu_dx(wide(cuda.to_host(saved)))
        close(cuda.to_host(found), rounded)
        close(cuda.to_host(sums), rounded.sum(0))
        assert set(lt.epilogues) >= ({164, 208} if native else {1})
    for kind, left, right, sum_ in (
        ("sum_b", cuda.permute(dx, (1, 0)), dg, wide(g).sum(0)),
        ("sum_a", cuda.permute(dg, (1, 0)), dx, wide(g).sum(0)),
    ):
        sums = cuda.empty((5,), dtype)
        found = cuda.to_host(cuda.product_epilogue(left, right, kind, dbias=sums))
        close(found, wide(x).T @ wide(g) if kind == "sum_b" else wide(g).T @ wide(x))
        close(cuda.to_host(sums), sum_)
    assert ({4, 134, 152, 256, 512} <= set(lt.epilogues)) is native


@pytest.mark.parametrize("native", [True, False], ids=["epilogue", "in steps"])
@pytest.mark.parametrize("dtype", [F16, BF16], ids=str)
def test_factors_of_16_bits_give_gradients_of_32(
    cuda: CudaBackend, lt: Bindings, dtype: Any, native: bool
) -> None:
    if not native:
        lt.missing = {("float32", 256), ("float32", 512)}
    x, g = normal(300, 16, dtype=dtype), normal(300, 8, dtype=dtype)
    left, right = (cuda.from_host(t, copy=True) for t in (x, g))
    for kind, a, b, y in (
        ("sum_b", cuda.permute(left, (1, 0)), right, wide(x).T @ wide(g)),
        ("sum_a", cuda.permute(right, (1, 0)), left, wide(g).T @ wide(x)),
    ):
        out, sums = cuda.empty(y.shape, F32), cuda.full((8,), np.nan, F32)
        assert cuda.product_epilogue(a, b, kind, dbias=sums, out=out) is out
        np.testing.assert_allclose(cuda.to_host(out), y, 1e-5, 1e-4)
        np.testing.assert_allclose(cuda.to_host(sums), wide(g).sum(0), 1e-5, 1e-4)
    assert lt.epilogues == ([256, 512] if native else [1, 1])


def test_a_mask_that_was_not_written_is_not_read(cuda: CudaBackend, lt: Bindings) -> None:
    lt.missing = {("float32", 134)}
    x, w, bias = (cuda.from_host(t, copy=True) for t in operands(F32))
    g = cuda.from_host(normal(9, 4), copy=True)
    v = cuda.from_host(normal(4, 16), copy=True)
    mask, bits = Mask(), cuda.full((9, 16), 0, np.dtype(np.uint8))
    y = cuda.product_epilogue(x, w, "relu", bias=bias, aux=bits, mask=mask)
    assert lt.epilogues == [6]
    assert not mask.written
    dz = cuda.product_epilogue(g, v, "drelu", saved=y, aux=bits, mask=mask)
    expected = (wide(cuda.to_host(g)) @ wide(cuda.to_host(v))) * (cuda.to_host(y) > 0)
    close(cuda.to_host(dz), expected)
    assert lt.epilogues == [6, 1]


def test_without_bias_or_gradient(cuda: CudaBackend, lt: Bindings) -> None:
    x, w, _ = operands(F32)
    a, b = cuda.from_host(x, copy=True), cuda.from_host(w, copy=True)
    close(cuda.to_host(cuda.product_epilogue(a, b, "relu")), np.maximum(wide(x) @ wide(w), 0))
    close(cuda.to_host(cuda.product_epilogue(a, b, "gelu")), gelu(wide(x) @ wide(w)))
    saved = cuda.empty((9, 16), F32)
    cuda.product_epilogue(a, b, "gelu", aux=saved)
    cuda.product_epilogue(a, b, "dgelu", saved=saved, aux=saved)
    assert lt.epilogues == [2, 32, 160, 192]


def test_gradients_of_products_of_vectors_take_steps(cuda: CudaBackend, lt: Bindings) -> None:
    g, v = (cuda.from_host(normal(*shape), copy=True) for shape in ((9, 1), (1, 16)))
    sums = cuda.empty((16,), F32)
    cuda.product_epilogue(g, v, "sum_b", dbias=sums)
    np.testing.assert_array_equal(cuda.to_host(sums), cuda.to_host(v)[0])
    assert lt.epilogues == [1]


def test_gelu_is_the_one_by_tanh() -> None:
    assert cuda_products.ACTIVATIONS["gelu"] is formulas.gelu_tanh
    assert cuda_products.DERIVATIVES["dgelu"] is formulas.gelu_tanh_dx
    z = np.linspace(-6, 6, 101)
    inner = np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)
    ours = NUMPY.map(formulas.gelu_tanh, z, dtype=F64)
    np.testing.assert_allclose(ours, 0.5 * z * (1 + np.tanh(inner)), 1e-12, 1e-14)
    assert np.abs(NUMPY.map(formulas.gelu, z, dtype=F64) - ours).max() > 1e-4


def test_numbers_of_epilogues() -> None:
    assert {kind: epilogue(kind, True, kind in ("relu", "gelu")) for kind in ALL} == ALL
    assert (epilogue("", False, False), epilogue("drelu", False, True)) == (1, 136)
    assert [mask_row(m) for m in (1, 128, 129)] == [16, 16, 32]
