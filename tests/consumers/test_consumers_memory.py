"""Memory shared with PyTorch and JAX through DLPack, and GPU tensors with CuPy and Numba."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.backends import Backend
from gradnet.errors import GraphError
from gradnet.tensor import Tensor

DTYPES = ("float16", "float32", "float64", "int8", "int64", "uint8", "bool", "complex64")


def address(x: Tensor) -> int:
    return int(x.numpy().__array_interface__["data"][0])


def aligned(dtype: Any) -> np.ndarray[Any, Any]:
    """Twelve values in memory that begins at a multiple of 64 bytes, as JAX wants it."""
    memory = np.zeros(12 * 16 + 64, np.uint8)
    start = -memory.ctypes.data % 64
    x = memory[start : start + 12 * np.dtype(dtype).itemsize].view(dtype).reshape(3, 4)
    x[...] = np.arange(12).reshape(3, 4)
    return x


# PyTorch


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_both_ways_without_a_copy(dtype: str, backend: Backend) -> None:
    torch = pytest.importorskip("torch")
    x = gn.asarray(np.arange(12).reshape(3, 4).astype(dtype))
    there = torch.from_dlpack(x)
    assert there.data_ptr() == address(x)
    assert str(there.dtype) == f"torch.{dtype}"
    back = gn.from_dlpack(there)
    assert address(back) == address(x)
    assert back.dtype == x.dtype
    there[1, 2] = 1
    assert back[1, 2].item() == x[1, 2].item() == torch.ones((), dtype=there.dtype).item()
    copied = gn.from_dlpack(there, copy=True)
    assert address(copied) != address(x)
    np.testing.assert_array_equal(copied.numpy(), x.numpy())


def test_torch_of_a_view_and_of_a_tensor_with_a_gradient() -> None:
    torch = pytest.importorskip("torch")
    x = gn.asarray(np.arange(12.0).reshape(3, 4))
    there = torch.from_dlpack(x[:, 1])
    assert there.tolist() == [1.0, 5.0, 9.0]
    assert there.data_ptr() == address(x) + 8
    w = gn.asarray([1.0], requires_grad=True)
    with pytest.raises(GraphError, match=r"cannot carry the gradient .* export x.detach\(\)"):
        torch.from_dlpack(w)
    with pytest.raises((RuntimeError, BufferError), match="require"):
        gn.from_dlpack(torch.ones(2, requires_grad=True))


# JAX


@pytest.fixture(scope="module")
def jax() -> ModuleType:
    library = pytest.importorskip("jax", reason="JAX is large, and not among the test extra")
    library.config.update("jax_platforms", "cpu")
    return library


JAX_DTYPES = tuple(dtype for dtype in DTYPES if dtype not in ("float64", "int64"))


@pytest.mark.parametrize("dtype", JAX_DTYPES)
def test_jax_both_ways_without_a_copy(jax: ModuleType, dtype: str, backend: Backend) -> None:
    host = aligned(dtype)
    x = gn.asarray(host, copy=False)
    there = jax.numpy.from_dlpack(x)
    assert there.unsafe_buffer_pointer() == address(x) == host.ctypes.data
    assert there.dtype == dtype
    back = gn.from_dlpack(there)
    assert address(back) == address(x)
    assert back.dtype == x.dtype
    np.testing.assert_array_equal(back.numpy(), host)
    assert address(gn.from_dlpack(there, copy=True)) != address(x)


def test_jax_takes_a_copy_of_memory_that_it_cannot_use(jax: ModuleType) -> None:
    x = gn.asarray(aligned(np.float32), copy=False)[1]  # 16 bytes off
    there = jax.numpy.from_dlpack(x)
    assert there.unsafe_buffer_pointer() != address(x)
    np.testing.assert_array_equal(np.asarray(there), x.numpy())
    with pytest.raises(GraphError, match="cannot carry the gradient"):
        jax.numpy.from_dlpack(gn.asarray([1.0], requires_grad=True))


def test_jax_results_in_our_graph(jax: ModuleType) -> None:
    y = gn.from_dlpack(jax.numpy.arange(3.0) ** 2)
    w = gn.asarray([1.0, 2.0, 3.0], requires_grad=True)
    gn.sum(w * y).backward()
    assert w.grad is not None
    assert w.grad.tolist() == [0.0, 1.0, 4.0]
    with pytest.raises(ValueError, match="read-only"):
        y += 1  # JAX's arrays never change


# CuPy and Numba read __cuda_array_interface__


class OnGPU:
    """An array that says where it lies on a GPU, as CuPy's do; nothing can read it here."""

    shape, dtype = (2, 3), np.dtype("float32")
    __cuda_array_interface__ = {  # noqa: RUF012 - as CuPy gives it
        "shape": (2, 3),
        "typestr": "<f4",
        "data": (0x7F0000000000, False),
        "strides": None,
        "stream": 1,
        "version": 3,
    }


class GPU:
    """As much of a backend as a tensor asks for to say where it is."""

    name, device = "cuda", "cuda:0"


def on_gpu() -> Tensor:
    fake: Any = GPU()
    return Tensor.wrap(OnGPU(), fake)


def test_cuda_array_interface_is_that_of_the_array() -> None:
    x = on_gpu()
    assert x.__cuda_array_interface__ is OnGPU.__cuda_array_interface__
    assert hasattr(x, "__cuda_array_interface__")
    assert x.device == "cuda:0"


def test_cuda_array_interface_refuses_a_gradient_and_the_cpu() -> None:
    x = on_gpu()
    x.requires_grad = True
    with pytest.raises(GraphError, match=r"cannot carry the gradient of this tensor; .*detach\(\)"):
        _ = x.__cuda_array_interface__
    assert x.detach().__cuda_array_interface__["shape"] == (2, 3)
    assert not hasattr(gn.ones((2,)), "__cuda_array_interface__")
