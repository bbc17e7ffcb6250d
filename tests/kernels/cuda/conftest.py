"""The CUDA backend over a device made of NumPy, in the place of the CPU's backends."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import compare
from fakes.cublaslt_over_numpy import attach
from fakes.cupy_over_numpy import fake_backend
from gradnet.kernels import cuda_graph, launch
from gradnet.kernels.cuda_backend import CudaBackend
from gradnet.kernels.cuda_templates import reductions

from gradnet import backends
from gradnet.errors import DeviceError


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Every test draws the same numbers, whichever ran before it."""
    compare.RNG.bit_generator.state = compare.START


@pytest.fixture
def cuda() -> CudaBackend:
    """The CUDA backend on a device of its own."""
    return fake_backend()


@pytest.fixture
def backend(cuda: CudaBackend) -> Iterator[CudaBackend]:
    """The same, as the one that new tensors are made on."""
    with backends.use(cuda):
        yield cuda


@pytest.fixture
def graphs(cuda: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> Iterator[CudaBackend]:
    """With cublasLt, whose products can be captured; without its epilogues, which add up in
    another order than the kernels of plain steps."""
    monkeypatch.setattr(cuda_graph, "paired", lambda program: program)
    attach(cuda)
    with backends.use(cuda):
        yield cuda


@pytest.fixture
def folder(graphs: CudaBackend, tmp_path: Path) -> Path:
    """Where is kept what was found to be faster."""
    graphs._device.answers = lambda: tmp_path
    return tmp_path


@pytest.fixture(scope="session")
def numba_cuda() -> None:
    """Skip where there is no compiler for CUDA."""
    if importlib.util.find_spec("numba_cuda") is None:
        pytest.skip("numba-cuda is not installed")
    try:
        launch.compiled(reductions.rows("sum", 32, "f4", "f4", 32), (9, 0))
    except DeviceError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def nvrtc() -> None:
    """Skip where there is no NVRTC."""
    bindings = pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")
    try:
        bindings.nvrtcVersion()
    except RuntimeError as error:
        pytest.skip(str(error))
