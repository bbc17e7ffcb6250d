"""The device made of NumPy takes what CuPy takes, and no more."""

from __future__ import annotations

import importlib
import inspect
import itertools
from typing import Any

import numpy as np
import pytest
from fakes import surface
from gradnet.kernels.cuda_backend import CudaBackend

import gradnet as gn
from gradnet import host


class Count(int):
    """A number that is not Python's own."""


@pytest.fixture
def cupy(cuda: CudaBackend) -> Any:
    return cuda._device.cupy


@pytest.fixture
def x(cuda: CudaBackend) -> Any:
    return cuda.from_host(np.arange(4.0), copy=True)


def test_names_and_parameters_of_others(cupy: Any, x: Any) -> None:
    for room, name in ((cupy, "einsum"), (cupy.linalg, "lstsq"), (cupy.fft, "fftfreq")):
        with pytest.raises(AttributeError, match=name):
            getattr(room, name)
    for call, options in ((cupy.sort, {"stable": True}), (cupy.multiply, {"where": x})):
        with pytest.raises(TypeError, match=r"cupy\.\w+ takes no"):
            call(x, **options)
    with pytest.raises(TypeError, match="3 arguments"):
        cupy.add(x, x, x)


def test_arrays_of_the_host(cupy: Any, x: Any) -> None:
    host_array = np.ones(4)
    attempts = (
        lambda: cupy.add(x, host_array),
        lambda: x * host_array,
        lambda: x[np.array([0, 1])],
        lambda: x.__setitem__(slice(None), host_array),
        lambda: cupy.copyto(x, host_array),
        lambda: cupy.where(x > 0, x, host_array),
    )
    for attempt in attempts:
        with pytest.raises(TypeError, match=r"Unsupported type <class 'numpy\.ndarray'>"):
            attempt()
    # A scalar of NumPy's is one of CuPy's.
    assert cupy.add(x, np.float64(1)).get().tolist() == [1, 2, 3, 4]


def test_numbers_of_other_types(cupy: Any, x: Any) -> None:
    for attempt in (lambda: cupy.add(x, Count(1)), lambda: x + Count(1)):
        with pytest.raises(TypeError, match=r"Unsupported type <class '.*Count'>"):
            attempt()


def test_complex_numbers_have_no_truth(cupy: Any, x: Any) -> None:
    with pytest.raises(TypeError, match="cupy_logical_not"):
        cupy.logical_not(x.astype(np.complex64))


def test_nothing_has_no_address(cuda: CudaBackend, x: Any) -> None:
    empty = cuda.empty((0, 3), np.dtype(np.float32))
    assert empty.data.ptr == 0 != x.data.ptr
    assert x[2:3].data.ptr == x.data.ptr + 16


def test_numbers_of_the_host_in_a_capture_are_plain_ones(backend: CudaBackend) -> None:
    """A number of an action goes to CuPy's own functions too, where there is no kernel."""
    counts = itertools.count(1)

    def count() -> tuple[int]:
        return (next(counts),)

    captured = gn.capture(lambda x: x * host.run(count)[0])
    assert [captured(gn.asarray([1, 2])).numpy().tolist() for _ in range(3)] == [
        [1, 2],
        [2, 4],
        [3, 6],
    ]


# CuPy itself, where it is installed; no device is needed for that


@pytest.fixture(scope="module")
def real() -> Any:
    """CuPy's functions by the names of the table."""
    pytest.importorskip("cupy", reason="CuPy is not installed")

    def found(name: str) -> Any:
        room, _, last = name.rpartition(".")
        return getattr(importlib.import_module(f"cupy.{room}" if room else "cupy"), last)

    return found


def test_the_table_is_of_cupys_functions(real: Any) -> None:
    for name, parameters in surface.FUNCTIONS.items():
        there = list(inspect.signature(real(name)).parameters)
        ours = parameters.split()
        assert set(ours) <= set(there), name
        positional = ours[: ours.index("out")] if "out" in ours else ours
        assert there[: len(positional)] == positional, name
    for name, count in surface.UNIVERSAL.items():
        if name != "matmul":
            assert real(name).nin == count, name
            assert name not in surface._REAL or not any("F" in types for types in real(name).types)
