"""Norms as compiled loops: NumPy's results, whatever threads share them, eager and replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from captured_steps import step_of

pytest.importorskip("numba")

from gradnet.kernels import threads

import gradnet as gn
from gradnet import nn, optim
from gradnet.backends import get, use

NUMBA, NUMPY = get("numba"), get("numpy")
# Around vectors, blocks of 128 rows and of 512 columns.
SHAPES = ((2, 1), (3, 5), (127, 17), (128, 16), (131, 33), (300, 3), (3, 520), (2, 1100))


def tables(n: int, m: int, dtype: Any) -> list[Any]:
    rng = np.random.default_rng(n * m)
    x, g = rng.standard_normal((n, m)) * 2 + 3, rng.standard_normal((n, m))
    return [np.asarray(t, dtype) for t in (x, g, rng.uniform(0.5, 2, m), rng.standard_normal(m))]


def made(backend: Any, x: Any, g: Any, w: Any, b: Any, axis: int) -> list[Any]:
    """Both results of a norm and its running statistics, and its gradients."""
    m = x.shape[1]
    running = (np.zeros(m, x.dtype), np.ones(m, x.dtype)) if axis == 0 else None
    found = backend.normalize(x, w, b, axis, 1e-3, running=running, momentum=0.25)
    slopes = backend.normalize_backward(g, x, w, *found[1:], axis)
    return [*found, *(running or ()), *(t for t in slopes if t is not None)]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_results_are_numpys(dtype: str, axis: int) -> None:
    rtol = {"float32": 2e-5, "float64": 1e-12, "float16": 2e-3}[dtype]
    for shape in SHAPES:
        x, g, w, b = tables(*shape, dtype)
        for affine in ((w, b), (None, None)):
            found = made(NUMBA, x, g, *affine, axis)
            right = made(NUMPY, x, g, *affine, axis)
            for one, other in zip(found, right, strict=True):
                assert one.dtype == other.dtype
                size = float(np.abs(np.asarray(other, np.float64)).max())
                if axis == 0 and shape[0] == 2 and one.shape == x.shape:
                    size += 1e3  # Of two values the gradient is what rounding leaves.
                np.testing.assert_allclose(one, other, rtol=0, atol=rtol * size)


def test_other_layouts_and_dtypes() -> None:
    x, g, w, b = tables(12, 8, np.float32)
    turned, back = np.ascontiguousarray(x.T).T, np.ascontiguousarray(g.T).T
    every = np.stack([w, b], axis=1)
    for axis in (0, 1):
        found = made(NUMBA, turned, back, every[:, 0], every[:, 1], axis)
        for one, other in zip(found, made(NUMBA, x, g, w, b, axis), strict=True):
            np.testing.assert_array_equal(one, other)
    # Statistics that no loop takes: of another dtype, and every second of a table.
    table = np.zeros((2, 8), np.float64)
    NUMBA.normalize(x, w, b, 0, 1e-3, running=(table[0], table[1]), momentum=1.0)
    np.testing.assert_allclose(table[0], x.mean(0), rtol=1e-6)
    np.testing.assert_allclose(table[1], x.var(0, ddof=1), rtol=1e-5)
    strided = np.zeros((8, 2), np.float32)
    NUMBA.normalize(x, w, b, 0, 1e-3, running=(strided[:, 0], strided[:, 1]), momentum=1.0)
    np.testing.assert_allclose(strided.T, table, rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1])
def test_threads_change_no_bit(axis: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given = tables(700, 400, np.float32)
    alone = made(NUMBA, *given, axis)
    cuts: list[tuple[int, int]] = []

    def share(work: Callable[[int, int], Any], total: int, least: int, step: int = 1) -> None:
        own = [(i, min(i + 3 * step, total)) for i in range(0, total, 3 * step)]
        for start, stop in reversed(own):
            work(start, stop)
        cuts.extend(own)

    def launch(kernel: Any, parts: Any, rest: Any, size: int, least: int) -> None:
        for rows in (slice(500, None), slice(0, 500)):
            kernel(*(part[rows] for part in parts), *rest)

    monkeypatch.setattr(threads, "share", share)
    monkeypatch.setattr(threads, "launch", launch)
    for one, other in zip(made(NUMBA, *given, axis), alone, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(cuts) > 1


@pytest.mark.parametrize("rows", [9, 300])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_a_replayed_step_is_a_plain_one(norm: str, dtype: str, rows: int) -> None:
    rng = np.random.default_rng(rows)
    batches = [
        (rng.standard_normal((rows, 6)).astype(dtype), rng.integers(0, 3, rows)) for _ in range(4)
    ]

    def trained(captured: bool) -> tuple[list[Any], Any]:
        with use("numba"):
            model = nn.MLP((6, 20, 3), "tanh", output="softmax", norm=norm, seed=0)
            model.to(dtype)
            model.layers.append(nn.LayerNorm(3, affine=False))
            step = step_of(model, optim.SGD(model.parameters(), lr=0.1), None, None)
            step = gn.capture(step) if captured else step
            losses = [step(gn.asarray(x), gn.asarray(y)) for x, y in batches]
            return [t.numpy() for t in (*model.state_dict().values(), *losses)], step

    expected, _ = trained(False)
    found, step = trained(True)
    near = {"float32": 1e-5, "float64": 1e-12, "float16": 1e-2}[dtype]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=near, atol=near)
    assert step.replays == 3
    if dtype == "float32":
        # One call of machine code, and nothing of Python.
        assert len(step._last._replay._parts) == 1
