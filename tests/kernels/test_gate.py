"""A step as a function of Python's: what it takes, what it refuses, and who waits meanwhile."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import backends
from gradnet.captured import Captured

gate = pytest.importorskip("gradnet.kernels.replay.gate", reason="numba is not installed")
from gradnet.kernels.replay import lowerings, machine, team  # noqa: E402

if not gate.possible():
    pytest.skip("this Python's objects are not CPython's", allow_module_level=True)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(team, "current", lambda: None)
    with backends.use("numba"):
        yield


def replayed(function: Callable[..., Any], *args: gn.Tensor) -> Any:
    """The replay of a function that was called with such arguments."""
    captured: Any = Captured(function)
    captured(*args)
    return captured._last._replay


def doubled(x: gn.Tensor) -> gn.Tensor:
    return x * 2.0


def test_it_takes_arrays() -> None:
    direct = replayed(doubled, gn.asarray([1.0, 2.0])).direct
    x, y = np.asarray([3.0, -4.0], "float32"), np.zeros(2, "float32")
    assert direct(x, y) == 0
    np.testing.assert_array_equal(y, [6.0, -8.0])


def test_it_takes_numbers_of_both_kinds() -> None:
    """An optimizer's are floats, a generator's whole."""
    weight = gn.asarray(np.ones(300), dtype=gn.float32, requires_grad=True)
    opt = gn.optim.SGD([weight], lr=0.5)
    noise = gn.random.Generator(3)

    def step(x: gn.Tensor) -> gn.Tensor:
        loss = (weight * x * noise.uniform((300,))).sum()
        loss.backward()
        opt.step()
        opt.zero_grad()
        return loss

    x = gn.asarray(np.ones(300), dtype=gn.float32)
    captured: Any = Captured(step)
    captured(x)
    recording = captured._last
    kinds = {type(n) for action in recording.actions for n in action.result or ()}
    assert recording._replay.direct is not None
    assert kinds == {int, float}
    found = [float(captured(x)) for _ in range(3)]
    with gn.no_grad():
        weight.assign_(gn.asarray(np.ones(300), dtype=gn.float32))
    noise = gn.random.Generator(3)
    expected = [float(step(x)) for _ in range(4)]
    assert captured.replays == 3
    np.testing.assert_allclose(found, expected[1:], rtol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_it_refuses_another_number_of_arguments(count: int) -> None:
    direct = replayed(doubled, gn.asarray([1.0])).direct
    with pytest.raises(TypeError, match="bad argument"):
        direct(*[np.zeros(1, "float32")] * count)


def test_it_refuses_what_is_no_number() -> None:
    status = np.zeros(1, np.int64)
    made = machine.steps([[]], 0, status.ctypes.data, gate.text("d", status.ctypes.data, True))
    opened = gate.opened(made.code, status)
    assert opened(1.0) == 0
    with pytest.raises(TypeError, match="must be real number"):
        opened("one")


def test_it_tells_of_a_failed_check() -> None:
    def loss(z: gn.Tensor, y: gn.Tensor) -> gn.Tensor:
        return gn.nn.cross_entropy(z, y)

    z, y = gn.asarray(np.zeros((2, 3)), dtype=gn.float32), gn.asarray([0, 2])
    replay = replayed(loss, z, y)
    out = np.zeros((), "float32")
    assert replay.direct(z.array, y.array, out) == 0
    assert replay.direct(z.array, np.asarray([0, 3]), out) != 0


@pytest.mark.parametrize("alone", [False, True], ids=["others run", "others wait"])
def test_long_steps_let_other_threads_run(alone: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    text = gate.text
    monkeypatch.setattr(gate, "text", lambda *given: asked.append(given[2]) or text(*given))
    monkeypatch.setattr(lowerings.Lowering, "SHARED_PROGRAM", 1e9 if alone else 0)
    direct = replayed(doubled, gn.asarray([1.0])).direct
    assert asked == [alone]
    y = np.zeros(1, "float32")
    threads = [threading.Thread(target=direct, args=(np.ones(1, "float32"), y)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert y == 2.0


def test_its_code_lives_as_long_as_it_does() -> None:
    replay = replayed(doubled, gn.asarray([1.0]))
    direct, gone = replay.direct, weakref.ref(replay)
    del replay
    gc.collect()
    assert gone() is None
    y = np.zeros(1, "float32")
    direct(np.ones(1, "float32"), y)
    assert y == 2.0
