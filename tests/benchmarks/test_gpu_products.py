"""The table of cublasLt, on a device and a cublasLt made of NumPy."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from fakes import cublaslt_over_numpy
from fakes.cublaslt_over_numpy import Bindings

from benchmarks.gpu import products
from benchmarks.gpu.device import PRECISIONS, Bench
from benchmarks.gpu.notes import NotThere, Wrong


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path to the device made of NumPy is known to these tests alone."""
    monkeypatch.setattr(sys, "path", list(sys.path))


def test_every_epilogue_in_every_precision() -> None:
    found = products.sweep(Bench("fake"))
    table = found["table"]
    assert {row["precision"] for row in table} == set(PRECISIONS)
    epilogues = {row["epilogue"] for row in table}
    assert len(epilogues) == 10
    assert all(row["native"] for row in table)
    assert all(row["seconds"] is None for row in table)
    assert found["counts"] == {"products": len(table), "by_cublaslt": len(table)}
    assert len(table) == len(PRECISIONS) * (10 + 8)


def attach_lame(cuda: Any, lame: Any) -> Any:
    module = cublaslt_over_numpy.Bindings(cuda._device.cupy)
    lame(module)
    cuda.multiply_by(lambda device: cublaslt_over_numpy.CublasLt(module, device, 4096))
    return module


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def lame(module: Bindings) -> None:
        module.missing = {("float64", code) for code in (134, 152)}

    monkeypatch.setattr(cublaslt_over_numpy, "attach", lambda cuda: attach_lame(cuda, lame))
    table = products.sweep(Bench("fake"))["table"]
    lacking = {(row["precision"], row["epilogue"]) for row in table if not row["native"]}
    assert lacking == {("float64", "relu with mask"), ("float64", "relu's gradient")}


def test_a_wrong_product_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def lame(module: Bindings) -> None:
        monkeypatch.setattr(
            cublaslt_over_numpy, "_forward", lambda epilogue, z, rest: np.maximum(z, 0)
        )

    monkeypatch.setattr(cublaslt_over_numpy, "attach", lambda cuda: attach_lame(cuda, lame))
    with pytest.raises(Wrong, match="products are wrong: bias of"):
        products.sweep(Bench("fake"))


def test_without_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cublaslt_over_numpy, "attach", lambda cuda: None)
    with pytest.raises(NotThere, match="nvmath"):
        products.sweep(Bench("fake"))
