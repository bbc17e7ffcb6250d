"""One clear line for everything that keeps a GPU from being used, and for memory that lacks."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import re
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fakes.cupy_over_numpy import CUDARuntimeError, Cupy, fake_backend
from gradnet.kernels import cuda_device, fused_mlp, launch, nvrtc
from gradnet.kernels.cuda_backend import CudaBackend
from gradnet.kernels.cuda_templates.program import Program

import gradnet as gn
from gradnet import backends
from gradnet.errors import DeviceError

F32 = gn.float32
TYPES = [
    *("float16", "float32", "float64", "int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64"),
]


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Cupy:
    """A CuPy that is installed once, and works."""
    module: Any = Cupy()
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(
        importlib.metadata, "packages_distributions", lambda: {"cupy": ["cupy-cuda13x"]}
    )
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "14.2.0")
    return module


def refused(index: int = 0) -> str:
    with pytest.raises(DeviceError) as caught:
        cuda_device.found(index)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_no_cupy(cupy: Cupy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "CuPy is not installed; run pip install" in refused()


def test_devices_tell_the_reason_and_the_remedy_apart(
    cupy: Cupy, monkeypatch: pytest.MonkeyPatch
) -> None:
    cupy.driver = 0
    monkeypatch.setattr(backends, "_loaded", dict(backends._loaded))
    backends._loaded.pop(("cuda", 0), None)
    monkeypatch.delitem(sys.modules, "gradnet.kernels.cuda", raising=False)
    (info,) = (info for info in gn.device_info() if info.name == "cuda")
    assert info.device == ""
    assert info.reason == "there is no NVIDIA driver on this machine"
    assert info.remedy == "install it, or use device='cpu'"
    cupy.driver = 13000
    cupy.cuda.Device = lambda index: SimpleNamespace(compute_capability="90")
    (info,) = (info for info in gn.device_info() if info.name == "cuda")
    assert (info.device, info.reason, info.remedy) == ("cuda:0", "", "")
    assert info.versions["cupy-cuda13x"] == "14.2.0"
    assert backends.get("cuda")._device.launch.architecture == (9, 0)  # type: ignore[attr-defined]


def test_two_cupy_packages(cupy: Cupy, monkeypatch: pytest.MonkeyPatch) -> None:
    two = {"cupy": ["cupy-cuda13x", "cupy-cuda12x"]}
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: two)
    text = refused()
    assert "(cupy-cuda12x 14.2.0, cupy-cuda13x 14.2.0)" in text
    assert "pip uninstall cupy-cuda12x cupy-cuda13x" in text


def test_a_cupy_that_cannot_be_imported(cupy: Cupy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    text = refused()
    assert "CuPy (cupy-cuda13x 14.2.0) cannot be imported" in text
    assert "this machine's CUDA version" in text


def test_the_reason_among_the_lines_of_cupys_error(
    cupy: Cupy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As CuPy 14 writes them."""

    class Broken:
        def find_spec(self, name: str, *_: Any) -> None:
            if name == "cupy":
                raise ImportError(
                    "\n====\nFailed to import CuPy.\n\nOriginal error:\n"
                    "  ImportError: libcublas.so.13: cannot open\n====\n"
                )

    monkeypatch.delitem(sys.modules, "cupy")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    text = refused()
    assert "cannot be imported: ImportError: libcublas.so.13: cannot open; run pip" in text


def test_no_driver(cupy: Cupy) -> None:
    cupy.driver = 0
    assert "there is no NVIDIA driver on this machine" in refused()


def test_cupy_for_another_cuda(cupy: Cupy) -> None:
    cupy.driver = 12040
    text = refused()
    assert "CuPy is for CUDA 13.0, and the driver supports CUDA 12.4 at most" in text
    assert "replace cupy-cuda13x by cupy-cuda12x, or install a newer driver" in text


def test_no_device(cupy: Cupy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    cupy.devices = 0
    assert "there is no CUDA device; check that nvidia-smi lists a GPU" in refused()

    # As CuPy counts none.
    def fail() -> int:
        raise CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")

    cupy.cuda.runtime.getDeviceCount = fail
    assert "there is no CUDA device; check" in refused()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert "there is no CUDA device among CUDA_VISIBLE_DEVICES='7'; check" in refused()


def test_a_driver_that_fails(cupy: Cupy) -> None:
    def fail() -> int:
        raise CUDARuntimeError("cudaErrorUnknown: unknown error")

    cupy.cuda.runtime.getDeviceCount = fail
    assert "the CUDA driver does not answer (cudaErrorUnknown: unknown error)" in refused()


def test_an_index_out_of_range(cupy: Cupy) -> None:
    assert "there is no device cuda:1; this machine has cuda:0 alone" in refused(1)
    cupy.devices = 3
    assert "there is no device cuda:7; this machine has cuda:0 to cuda:2" in refused(7)


def test_out_of_memory() -> None:
    cuda = fake_backend()
    memory = cuda._device.cupy.memory
    memory.limit = 1 << 20
    held = cuda.empty((100, 1000), F32)
    with pytest.raises(cuda_device.DeviceMemoryError) as caught:
        cuda.empty((1000, 1000), F32)
    text = str(caught.value)
    assert isinstance(caught.value, MemoryError)
    assert "cuda:0 is out of memory: 3.8 MiB was asked for, with 633.4 KiB of 1.0 MiB free" in text
    assert "390.6 KiB of the pool's 390.6 KiB in use" in text
    assert "take a smaller batch" in text
    # What CuPy's own functions ask for is told as well.
    line = cuda.view(held, (0,))
    many = cuda.broadcast(line, (900, 1000))
    with pytest.raises(cuda_device.DeviceMemoryError, match=r"of memory: \d.* was asked for, with"):
        cuda.searchsorted(line, many, "left")


@pytest.mark.parametrize(
    "text",
    [
        "cudaErrorMemoryAllocation: out of memory",
        "CUDA_ERROR_OUT_OF_MEMORY: out of memory",
    ],
)
def test_what_the_driver_lacks_memory_for(
    cuda: CudaBackend, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """As for the code of kernels."""

    def fail(*_: Any) -> None:
        raise CUDARuntimeError(text)

    monkeypatch.setattr(cuda._device, "launch", fail)
    x = cuda.empty((3,), F32)
    with pytest.raises(cuda_device.DeviceMemoryError, match="out of memory: a work area") as told:
        cuda.cast(x, gn.float64)
    assert str(told.value.__cause__) == text
    text = "cudaErrorIllegalAddress: an illegal memory access was encountered"
    with pytest.raises(CUDARuntimeError, match="cudaErrorIllegalAddress"):
        cuda.cast(x, gn.float64)


def test_sizes_for_people() -> None:
    sizes = {0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 5 << 20: "5.0 MiB", 3 << 40: "3072.0 GiB"}
    assert {count: cuda_device._size(count) for count in sizes} == sizes


def test_the_device_is_made_current_where_there_are_several() -> None:
    cuda = fake_backend(1, devices=2)
    assert cuda.device == "cuda:1"
    cuda.empty((2,), F32)
    assert cuda._device.cupy.done == ["device 1", "allocate"]


def test_graphs_of_a_device_that_is_not_the_current_one() -> None:
    """Streams and memory are that device's, as everything that is made with them."""
    with backends.use(fake_backend(1, devices=2)):
        x = gn.ones((3,))
        step = gn.capture(lambda x: gn.tanh(x) + 1.0)
        assert [step(x).device for _ in range(3)] == ["cuda:1"] * 3


def test_tensors_on_two_devices(cuda: CudaBackend) -> None:
    with backends.use(cuda):
        x = gn.ones((3,))
    with backends.use(fake_backend(1, devices=2)):
        y = gn.ones((3,))
    with pytest.raises(DeviceError, match=r"different devices.*cuda:0.*cuda:1"):
        x + y


# Compilers that are not there


class Missing(RuntimeError):
    """What cuda-pathfinder raises."""


@pytest.mark.parametrize("library", ["nvrtc", "nvvm"])
def test_a_compilers_library_that_is_missing(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise Missing(f'Failure finding "lib{library}.so"\n listdir:\n libnvvm.so libnvrtc.so')

    cuda: Any = SimpleNamespace(compile=fail)
    types: Any = SimpleNamespace(CPointer=str, void=str, **dict.fromkeys(TYPES, ""))
    monkeypatch.setitem(sys.modules, "numba", SimpleNamespace(cuda=cuda, types=types))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(launch, "function", lambda *_: None)
    monkeypatch.setattr(launch.cuda_names, "device_names", lambda bits: {})
    with pytest.raises(DeviceError) as caught:
        launch.compiled(Program("nothing", "", (), 32), (9, 0))
    assert f"compiler library lib{library} is missing" in str(caught.value)
    assert "set CUDA_HOME to a CUDA toolkit" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_cupy_without_its_compiler(cupy: Cupy, monkeypatch: pytest.MonkeyPatch) -> None:
    class CompileError(Exception):
        """CuPy's own: no RuntimeError."""

    class DriverError(RuntimeError):
        """CuPy's as well."""

    raised: list[Exception] = []

    def fail(name: str) -> None:
        raise raised[-1]

    named = SimpleNamespace(get_function=fail)
    cupy.RawModule = lambda **_: named
    cupy.cuda.compiler = SimpleNamespace(CompileException=CompileError)
    cupy.cuda.driver = SimpleNamespace(CUDADriverError=DriverError)
    program = fused_mlp.Kernels(fused_mlp.Network(5, 16, 3, 1)).forward
    raised.append(Missing('Failure finding "libnvrtc.so.13"\n listdir: libnvvm.so'))
    with pytest.raises(DeviceError, match=r"forward cannot be compiled: .*libnvrtc.*; run pip"):
        nvrtc.loaded(cupy, program)
    raised.append(CompileError("error: no such instruction"))
    with pytest.raises(DeviceError, match="NVRTC cannot compile fused_mlp_forward: error: no such"):
        nvrtc.loaded(cupy, program)
    raised.append(DriverError("CUDA_ERROR_ILLEGAL_ADDRESS"))
    with pytest.raises(DriverError):
        nvrtc.loaded(cupy, program)


# An index out of range is told when the host waits for the device


def test_an_index_out_of_range_is_told_later(cuda: CudaBackend) -> None:
    with backends.use(cuda):
        x = gn.asarray(np.arange(6, dtype=np.float32).reshape(3, 2))
        picked = x[gn.asarray([0, -1, 3, -4])]
        with pytest.raises(
            IndexError, match=r"index (3|-4) is out of bounds for an axis of size 3"
        ):
            picked.numpy()
        values = picked.numpy()  # told once
        np.testing.assert_array_equal(values[:2], [[0, 1], [4, 5]])
        assert np.isnan(values[2:]).all()
        x[gn.asarray([5])]
        with pytest.raises(IndexError, match="before this one"):
            cuda.synchronize()
        cuda.synchronize()
        for index in ((gn.asarray([0]), gn.asarray([9])), (slice(None), gn.asarray([2]))):
            picked = x[index]
            with pytest.raises(IndexError, match=r"getitem.*out of bounds for axis 1 with size 2"):
                picked.numpy()
        with pytest.raises(IndexError, match="boolean index did not match: a mask of shape"):
            cuda.take(x.array, (cuda.from_host(np.ones(2, bool), copy=True),))
        before = x.tolist()
        for bad, add in ((3, True), (-4, False)):
            cuda.put(x.array, (gn.asarray([0, bad]).array,), 0.0, add=add)
            with pytest.raises(IndexError, match=f"index {bad} is out of bounds"):
                cuda.synchronize()
        assert x.tolist() == [[0, 0], *before[1:]]


# The registry


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module: Any = ModuleType("fake_cuda_module")
    module.backend = lambda index: fake_backend(index, devices=2)
    module.BACKEND = fake_backend()
    monkeypatch.setitem(sys.modules, "fake_cuda_module", module)
    monkeypatch.setattr(backends, "_MODULES", {**backends._MODULES, "cuda": "fake_cuda_module"})
    monkeypatch.setattr(backends, "_loaded", {})
    monkeypatch.delenv("GRADNET_BACKEND", raising=False)
    return module


def test_devices_by_name(registered: ModuleType) -> None:
    assert gn.ones((2,), device="cuda").device == "cuda:0"
    assert gn.ones((2,), device="cuda:1").device == "cuda:1"
    moved = gn.ones((2,)).to("cuda") * 2
    assert moved.to("cpu").tolist() == [2, 2]


def test_the_automatic_device(
    registered: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "gradnet"):
        assert backends.for_device("auto") is registered.BACKEND
        with backends.use("numpy"):
            assert backends.for_device("auto").name == "numpy"
        monkeypatch.setenv("GRADNET_BACKEND", "numpy")
        assert backends.automatic()[0].name == "numpy"
        monkeypatch.delenv("GRADNET_BACKEND")
        monkeypatch.setattr(backends, "_MODULES", {**backends._MODULES, "cuda": "absent_module"})
        monkeypatch.setattr(backends, "_loaded", {})
        assert backends.for_device("auto").device == "cpu"
    told = [record.getMessage() for record in caplog.records]
    assert told[0] == "device 'auto' is cuda:0"
    assert re.match("device 'auto' is cpu: the backend 'cuda' cannot be loaded", told[-1])
