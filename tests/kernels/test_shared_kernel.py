"""Kernels on the team of threads: the same bits as on one, whatever the rows."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import binding, formulas

shared_kernel = pytest.importorskip("gradnet.kernels.shared_kernel", reason="numba is missing")
from gradnet.kernels import compiler, handles, threads  # noqa: E402
from gradnet.kernels.replay import team  # noqa: E402
from gradnet.kernels.templates import elementwise, softmax  # noqa: E402
from replays import team_of  # noqa: E402


@pytest.fixture(scope="module", params=[2, 3])
def crew(request: pytest.FixtureRequest) -> Any:
    return team_of(request.param)


def normal(*shape: int, dtype: Any) -> Any:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("entered", [False, True])
@pytest.mark.parametrize("rows", [3, 64, 65, 1001])
@pytest.mark.parametrize("bits", [32, 64])
def test_rows_and_whole_operands(crew: Any, bits: int, rows: int, entered: bool) -> None:
    source = binding.source(formulas.tanh)
    kernel = compiler.compiled(*elementwise.bias_activation(source, bits, False))
    if entered:
        kernel = compiler.entry(kernel)
    z, bias = normal(rows, 7, dtype=f"float{bits}"), normal(7, dtype=f"float{bits}")
    alone, y = np.full_like(z, np.nan), np.full_like(z, np.nan)
    first, second = z.copy(), z.copy()
    kernel(first, alone, bias)
    shared_kernel.run(crew, kernel, [second, y], [bias])
    np.testing.assert_array_equal(y, alone)
    np.testing.assert_array_equal(second, first)


def test_numbers_and_integers(crew: Any) -> None:
    kernel = compiler.compiled(*softmax.cross_entropy(32, classes=True, smooth=True, short=False))
    x, classes = normal(37, 5, dtype="float32"), np.arange(37) % 5
    found = []
    for run in (lambda *parts: kernel(*parts, 0.1), None):
        losses, dx = np.full(37, np.nan, np.float32), np.full_like(x, np.nan)
        parts = [x, classes, np.full(37, 0.5, np.float32), losses, dx]
        if run is None:
            shared_kernel.run(crew, kernel, parts, [0.1])
        else:
            run(*parts)
        found.append((losses, dx))
    for one, other in zip(*found, strict=True):
        assert not np.isnan(one).any()
        np.testing.assert_array_equal(one, other)


def test_arrays_that_cannot_be_read_in_place_go_to_one_thread(
    crew: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handles, "DIRECT", False)
    kernel = compiler.compiled(
        *elementwise.bias_activation(binding.source(formulas.tanh), 32, True)
    )
    z, bias = normal(9, 7, dtype="float32"), normal(7, dtype="float32")
    expected = np.tanh(z + bias)
    with crew.lock:  # which the team would wait for
        shared_kernel.run(crew, kernel, [z], [bias])
    np.testing.assert_allclose(z, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("rows", "awake", "since", "shared"),
    [(1, True, 0, False), (1 << 12, True, 0, False), (1 << 18, True, 9e9, True),
     (1 << 18, False, 2e6, False), (1 << 18, False, 5e5, True), (1 << 12, False, 0, False),
     (1 << 20, False, 9e9, True)],
)  # fmt: skip
def test_what_is_worth_it_goes_to_the_team(
    monkeypatch: pytest.MonkeyPatch, rows: int, awake: bool, since: float, shared: bool
) -> None:
    monkeypatch.setattr(threads, "_last", 0)
    monkeypatch.setattr(threads, "time", SimpleNamespace(perf_counter_ns=lambda: since))
    crew = SimpleNamespace(size=2, awake=awake)
    monkeypatch.setattr(team, "current", lambda: crew)
    monkeypatch.setattr(threads._pool, "size", crew.size)
    seen = []
    monkeypatch.setattr(shared_kernel, "run", lambda *given: seen.append(given))
    alone: list[Any] = []
    x = np.zeros(rows, np.float32)
    threads.launch(lambda *given: alone.append(given), [x], (), rows, threads.SHARE)
    assert bool(seen) is shared
    assert bool(alone) is not shared


LARGE = {
    "where": lambda xp, x, y: xp.where(x > y, x, y),
    "a number where": lambda xp, x, y: xp.where(x > y, x, 0.5),
    "comparison": lambda xp, x, y: x < y,
    "isfinite": lambda xp, x, y: xp.isfinite(x),
    "rows": lambda xp, x, y: x * y[:1] + y[:, :1],
    "sums": lambda xp, x, y: (xp.sum(x, axis=1), xp.sum(y, axis=0), xp.max(x)),
    "softplus": lambda xp, x, y: xp.log1p(xp.exp(-xp.abs(x))) + xp.maximum(x, 0.0),
}


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_arrays_on_a_team_are_those_of_numpy(
    monkeypatch: pytest.MonkeyPatch, crew: Any, name: str, dtype: str
) -> None:
    monkeypatch.setattr(team, "current", lambda: crew)
    monkeypatch.setattr(threads._pool, "size", crew.size)
    x, y = normal(1030, 1031, dtype=dtype), normal(1030, 1031, dtype=dtype)[::-1].copy()
    with gn.backends.use("numba"):
        found = LARGE[name](gn, gn.asarray(x), gn.asarray(y))
    expected = LARGE[name](np, x, y)
    for one, other in zip(_all(found), _all(expected), strict=True):
        np.testing.assert_allclose(np.asarray(one), other, rtol=1e-5, atol=1e-4)


def test_what_is_rounded_once_has_the_bits_of_numpy(
    monkeypatch: pytest.MonkeyPatch, crew: Any
) -> None:
    monkeypatch.setattr(team, "current", lambda: crew)
    monkeypatch.setattr(threads._pool, "size", crew.size)
    runs = []
    run = shared_kernel.run
    monkeypatch.setattr(shared_kernel, "run", lambda *given: runs.append(1) or run(*given))
    x, y = normal(1030, 1031, dtype="float32"), normal(1030, 1031, dtype="float32")[::-1].copy()
    x[0, :5] = np.nan, np.inf, -np.inf, -0.0, 1e-45
    y[0, :4], y[1] = np.inf, x[1]
    a, b = gn.asarray(x), gn.asarray(y)
    with np.errstate(all="ignore"), gn.backends.use("numba"):
        pairs = [(a + b, x + y), (a - b, x - y), (a * b, x * y), (a / b, x / y), (-a, -x)]
        pairs += [(gn.square(a), np.square(x)), (gn.sqrt(a), np.sqrt(x))]
        pairs += [(a < b, x < y), (a <= b, x <= y), (a == b, x == y), (a != b, x != y)]
        assert len(runs) == len(pairs)
        pairs += [(a + b[:1], x + y[:1]), (a.T + b.T, x.T + y.T), (a + 1.0, x + np.float32(1))]
    for found, expected in pairs:
        np.testing.assert_array_equal(found.numpy(), expected)
        assert found.dtype == expected.dtype


def _all(x: Any) -> tuple[Any, ...]:
    return x if isinstance(x, tuple) else (x,)


def test_a_team_is_awake_for_a_while_after_its_work(crew: Any) -> None:
    x = normal(64, 7, dtype="float32")
    kernel = compiler.compiled(
        *elementwise.bias_activation(binding.source(formulas.tanh), 32, False)
    )
    shared_kernel.run(crew, kernel, [x, np.empty_like(x)], [normal(7, dtype="float32")])
    deadline = time.monotonic() + 30
    while crew.awake and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not crew.awake


def test_nobody_waits_for_a_member_that_does_not_wake(monkeypatch: pytest.MonkeyPatch) -> None:
    crew = team.Team(3)
    events = [threading.Event(), threading.Event()]
    monkeypatch.setattr(crew, "_start", lambda: setattr(crew, "_events", events))
    kernel = compiler.compiled(
        *elementwise.bias_activation(binding.source(formulas.tanh), 32, False)
    )
    z, bias = normal(31, 7, dtype="float32"), normal(7, dtype="float32")
    for _ in range(2):
        given, alone = z.copy(), np.full_like(z, np.nan)
        y = alone.copy()
        kernel(z.copy(), alone, bias)
        shared_kernel.run(crew, kernel, [given, y], [bias])
        np.testing.assert_array_equal(y, alone)
    assert all(event.is_set() for event in events)
    crew._reset()  # as no thread will
