"""Tensors given to NumPy, PyTorch and others, and taken from them."""

from __future__ import annotations

import numpy as np
import pytest

import gradnet as gn
from gradnet.backends import Backend
from gradnet.errors import DeviceError, DTypeError, GraphError

pytestmark = pytest.mark.usefixtures("backend")


def test_numpy_shares_memory_on_the_cpu(backend: Backend) -> None:
    host = np.zeros(3, np.float32)
    x = gn.asarray(host)
    host[0] = 5
    shared = backend.device == "cpu"
    assert float(x[0]) == (5 if shared else 0)
    assert np.shares_memory(x.numpy(), host) == shared
    assert not np.shares_memory(gn.asarray(host, copy=True).numpy(), host)
    assert not np.shares_memory(x.copy().numpy(), host)


def test_array_protocol(backend: Backend) -> None:
    x = gn.asarray([1.0, 2.0])
    if backend.device != "cpu":
        with pytest.raises(DeviceError, match=r"use x\.numpy\(\) to copy it to the CPU"):
            np.asarray(x)
        return
    np.testing.assert_array_equal(np.asarray(x), [1, 2])
    assert np.asarray(x, dtype=np.float64).dtype == np.float64
    assert np.array(x, copy=True) is not x.numpy()
    np.testing.assert_array_equal(np.concatenate([x, x]), [1, 2, 1, 2])
    np.testing.assert_array_equal(np.sin(x), np.sin(x.numpy()))
    with pytest.raises(GraphError, match=r"use x\.detach\(\)\.numpy\(\)"):
        np.asarray(gn.asarray([1.0], requires_grad=True))
    with pytest.raises(ValueError, match="copy"):
        np.array(x, dtype=np.float64, copy=False)


def test_dlpack(backend: Backend) -> None:
    x = gn.asarray([1.0, 2.0, 3.0])
    assert gn.from_dlpack(x).tolist() == x.tolist()
    if backend.device != "cpu":
        with pytest.raises((BufferError, RuntimeError)):
            np.from_dlpack(x)
        return
    host = np.from_dlpack(x)
    assert np.shares_memory(host, x.numpy())
    back = gn.from_dlpack(host)
    assert back.dtype == gn.float32
    with pytest.raises(GraphError, match=r"export x\.detach\(\)"):
        np.from_dlpack(gn.asarray([1.0], requires_grad=True))


def test_memory_of_torch_is_shared() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no DLPack partner")
    theirs = torch.arange(3, dtype=torch.float32)
    x = gn.asarray(theirs)
    theirs[1] = 7
    if x.device != "cpu":
        assert x.tolist() == [0, 1, 2]
        return
    assert x.tolist() == [0, 7, 2]
    ours = torch.from_dlpack(gn.asarray([1.0, 2.0]))
    assert ours.tolist() == [1, 2]


def test_no_cuda_interface_on_the_cpu(backend: Backend) -> None:
    there = hasattr(gn.ones((2,)), "__cuda_array_interface__")
    assert there == (backend.device != "cpu")


def test_array_namespace() -> None:
    assert gn.ones((2,)).__array_namespace__() is gn
    assert gn.ones((2,)).to_device("cpu").tolist() == [1, 1]


def test_versions_of_the_array_namespace() -> None:
    x = gn.ones(2)
    assert x.__array_namespace__(api_version="2025.12") is gn
    assert x.__array_namespace__(api_version="2021.12") is gn
    with pytest.raises(ValueError, match=r"no array API of the version '1999.12'"):
        x.__array_namespace__(api_version="1999.12")


def test_a_tangent_is_not_lost_in_a_conversion() -> None:
    for convert in (np.asarray, np.from_dlpack):
        with pytest.raises(GraphError, match="detach"):
            gn.jvp(convert, gn.ones(2), gn.ones(2))


def test_a_mask_is_not_lost(backend: Backend) -> None:
    masked = np.ma.MaskedArray([1.0, 2.0, 3.0], [False, True, False])
    x = gn.ones(3, dtype=gn.float64)
    for take in (gn.asarray, lambda m: gn.add(x, m), lambda m: np.add(x, m), lambda m: x @ m):
        with pytest.raises(DTypeError, match=r"1 of whose 3 elements are masked.*x\.filled"):
            take(masked)
    assert gn.asarray(masked.filled(0.0)).tolist() == [1.0, 0.0, 3.0]
    assert gn.asarray(np.ma.MaskedArray([1.0, 2.0])).tolist() == [1.0, 2.0]
    if backend.device != "cpu":
        return
    for found in (x + masked, masked + x, x - masked, x < masked, x == masked):
        assert isinstance(found, np.ma.MaskedArray)
        assert np.ma.getmaskarray(found).tolist() == [False, True, False]
    x.requires_grad = True
    with pytest.raises(GraphError, match="detach"):
        x + masked


class _Metres(np.ndarray):  # type: ignore[type-arg]
    """An array with arithmetic of its own, as those with units have."""

    def __array_ufunc__(self, *args: object, **options: object) -> str:
        return "metres"


def test_an_array_with_units_is_asked_itself() -> None:
    length = np.ones(3).view(_Metres)
    for found in (gn.ones(3) * length, length * gn.ones(3), np.add(gn.ones(3), length)):
        assert found == "metres"
