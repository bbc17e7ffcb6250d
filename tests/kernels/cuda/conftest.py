"""The CUDA backend over a device made of NumPy, in the place of the CPU's backends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes import compare
from fakes.cublaslt_over_numpy import attach
from fakes.cupy_over_numpy import fake_backend
from gradnet.kernels import cuda_graph
from gradnet.kernels.cuda_backend import CudaBackend

from gradnet import backends


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
