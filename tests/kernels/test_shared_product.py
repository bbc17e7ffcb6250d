"""Large products of eager code on the team of threads, against NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradnet import blas

pytest.importorskip("numba", reason="numba is not installed")
from gradnet.kernels import blas_entry, gemm, numba_cpu, shared_product
from gradnet.kernels.gemm import arrays
from gradnet.kernels.replay import team
from replays import team_of

Array = np.ndarray[Any, Any]
LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "rows": lambda x: x,
    "columns": lambda x: np.ascontiguousarray(x.T).T,
    "wide": lambda x: np.hstack([x, x])[:, : x.shape[1]],
}


@pytest.mark.skipif(blas_entry.gemm(np.dtype("float32")) is None, reason="not an OpenBLAS")
@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 50, 3), (33, 17, 65), (65, 9, 3), (7, 40, 1)])
def test_products(
    sizes: tuple[int, int, int], dtype: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew = team_of(threads)
    monkeypatch.setattr(crew, "replayed", True)
    monkeypatch.setattr(team, "current", lambda: crew)
    n, k, m = sizes
    rng = np.random.default_rng(6)
    a, b = rng.normal(size=(n, k)).astype(dtype), rng.normal(size=(k, m)).astype(dtype)
    for left in LAYOUTS.values():
        for right in LAYOUTS.values():
            out = np.full((n, m), np.nan, dtype)
            made = shared_product.matmul(left(a), right(b), out)
            assert made is out
            np.testing.assert_allclose(out, a @ b, rtol=1e-4 if dtype == "float32" else 1e-12)
    assert shared_product.matmul(a[::1, ::-1], b, None) is None or k == 1
    crew.replayed = False
    assert shared_product.matmul(a, b, None) is None


def test_large_products_take_that_way(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def shared(a: Array, b: Array, out: Array | None) -> Array | None:
        seen.append((a.shape, b.shape))

    monkeypatch.setattr(shared_product, "matmul", shared)
    monkeypatch.setattr(numba_cpu.products, "matmul", lambda a, b, out: None)
    monkeypatch.setattr(blas, "SHARED", 1000)
    small, large = np.ones((9, 10)), np.ones((10, 10))
    numba_cpu.BACKEND.matmul(small, large)
    numba_cpu.BACKEND.matmul(large, large)
    numba_cpu.BACKEND.matmul(large[None], large[None])
    assert seen == [((10, 10), (10, 10))]


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [(4, 4, 4), (33, 17, 65), (130, 9, 7), (7, 40, 130)])
def test_our_own_are_shared_to_the_bit(
    sizes: tuple[int, int, int], dtype: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    n, k, m = sizes
    if not gemm.own(np.dtype(dtype), n, k, m):
        pytest.skip("no products of our own for this processor")
    rng = np.random.default_rng(8)
    a, b = rng.normal(size=(n, k)).astype(dtype), rng.normal(size=(k, m)).astype(dtype)
    ran: list[team.Team] = []

    class Crew(team.Team):
        def step(self, functions: int, slots: int) -> None:
            ran.append(self)
            super().step(functions, slots)

    for left in LAYOUTS.values():
        for right in LAYOUTS.values():
            arrays._ways.clear()
            alone = arrays.matmul(left(a), right(b))
            with monkeypatch.context() as patch:
                arrays._ways.clear()
                crew = Crew(threads)
                patch.setattr(team, "current", lambda crew=crew: crew)
                patch.setattr(blas, "SHARED", 1)
                for _ in range(2):  # other arrays by the same way
                    shared = arrays.matmul(left(a.copy()), right(b.copy()))
                    np.testing.assert_array_equal(shared, alone)
            assert ran == [crew, crew]
            ran.clear()
    arrays._ways.clear()


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize(
    ("dtype", "sizes", "steps"),
    [
        ("float32", (1030, 70, 600), 4),
        ("float32", (130, 1100, 600), 4),
        ("float64", (140, 80, 400), 2),
    ],
)
def test_panels_of_all_threads_are_those_of_one(
    dtype: str,
    sizes: tuple[int, int, int],
    steps: int,
    threads: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    n, k, m = sizes
    if not gemm.choice.large(np.dtype(dtype), n, k, m):
        pytest.skip("no large products of our own for this processor")
    rng = np.random.default_rng(9)
    a, b = rng.normal(size=(n, k)).astype(dtype), rng.normal(size=(k, m)).astype(dtype)
    crew = team_of(threads)
    monkeypatch.setattr(team, "current", lambda: crew)
    monkeypatch.setattr(shared_product, "_JOINT", 1)
    for left in LAYOUTS.values():
        for right in LAYOUTS.values():
            monkeypatch.setattr(arrays, "_ways", {})
            x, y = left(a), right(b)
            alone, together = np.empty((n, m), dtype), np.full((n, m), np.nan, dtype)
            arrays.matmul(x, y, together)
            (way,) = arrays._ways.values()
            way.alone(x, y, alone)
            np.testing.assert_array_equal(together, alone)
            assert len(way.splits[threads]._steps) == steps
