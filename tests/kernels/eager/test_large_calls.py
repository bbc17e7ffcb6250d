"""Calls on many elements that machine code is left alone with: see gradnet.kernels.habits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import backends
from gradnet.ops import quick as eager

pytest.importorskip("numba")

from gradnet.kernels import large, numpy_loops, threads

backends.get("numba")
if eager._code() is None:
    pytest.skip("this interpreter has its objects otherwise", allow_module_level=True)

SIZE = (1 << 18) + 5
MAGNITUDE = SIZE.bit_length()
COUNT = 3

# Calls, and what their habits are those of: a ufunc and the letter of what it gives, or work.
CALLS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "square": (lambda x: gn.square(x), (np.square, None)),
    "a number": (lambda x: x * 1.5, (np.multiply, None)),
    "two": (lambda x: x - gn.asarray(np.sqrt(np.abs(x.numpy()))), (np.subtract, None)),
    "a condition": (lambda x: x < 0.5, (np.less, "?")),
    "max": (lambda x: gn.max(x), "max"),
    "min": (lambda x: gn.min(x), "min"),
    "product": (lambda x: x[3 : SIZE - 2] @ x[3 : SIZE - 2], "products"),
    "argmax": (lambda x: gn.argmax(x), "argmax"),
    "argmin": (lambda x: gn.argmin(x), "argmin"),
    "astype": (lambda x: gn.astype(x, gn.float32), "astype"),
    "concat": (lambda x: gn.concat([x, x]), "concat"),
}


def free_of(work: Any, dtype: Any) -> Any:
    """How often machine code is left alone with a call."""
    if isinstance(work, tuple):
        ufunc, letter = work
        return numpy_loops.habits(ufunc, dtype, np.dtype(letter or dtype)).free
    return threads.habits_of((work, 8 * dtype.itemsize)).free


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def x(request: pytest.FixtureRequest) -> Any:
    rng = np.random.default_rng(0)
    values = rng.standard_normal(SIZE).astype(request.param)
    values[7::1001] = 0.0
    values[11::1003] = -0.0
    return gn.asarray(values)


@pytest.fixture
def left_alone(x: Any) -> Iterator[None]:
    """Machine code that knows its loops and may make some calls on so many elements."""
    kept = []
    for call, work in CALLS.values():
        for dtype in (np.float32, np.float64):
            for _ in range(3):
                call(gn.asarray(np.ones(5, dtype)))
        kept.append((free_of(work, x.dtype), free_of(work, x.dtype).copy()))
        free_of(work, x.dtype)[:] = 0
    yield
    for free, before in kept:
        free[:] = before


def _not_asked(*given: Any) -> None:
    raise AssertionError("the call was not left to machine code")


@pytest.mark.usefixtures("quick", "left_alone")
@pytest.mark.parametrize("name", CALLS)
def test_the_result_is_the_same_and_the_calls_are_counted(
    name: str, x: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, work = CALLS[name]
    free = free_of(work, x.dtype)
    expected = call(x).numpy()
    free[:] = 0
    free[MAGNITUDE] = COUNT
    free[MAGNITUDE - 1] = free[MAGNITUDE + 1] = 7
    with monkeypatch.context() as patch:
        for module, way in ((large, "by_threads"), (threads, "either")):
            patch.setattr(module, way, _not_asked)
        for left in range(COUNT - 1, -1, -1):
            found = call(x)
            assert free[MAGNITUDE] == left
            assert found.dtype == expected.dtype
            assert found.numpy().tobytes() == expected.tobytes()
    free[MAGNITUDE] = 0
    assert call(x).numpy().tobytes() == expected.tobytes()
    assert free[MAGNITUDE - 1] == free[MAGNITUDE + 1] == 7


@pytest.mark.usefixtures("quick", "left_alone")
@pytest.mark.parametrize("name", ["square", "two", "max", "argmax", "astype"])
def test_what_is_not_in_order_is_left_to_python(name: str, x: Any) -> None:
    call, work = CALLS[name]
    free = free_of(work, x.dtype)
    free[MAGNITUDE] = COUNT
    turned = gn.flip(x)
    found = call(turned).numpy()
    with backends.use("numpy"):
        expected = call(gn.asarray(turned.numpy())).numpy()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.usefixtures("quick", "left_alone")
def test_missing_values_are_found_in_any_piece(x: Any) -> None:
    for place in (0, SIZE // 2, SIZE - 6, SIZE - 1):
        values = x.numpy().copy()
        values[place] = np.nan
        for name in ("max", "min"):
            call, work = CALLS[name]
            free_of(work, x.dtype)[MAGNITUDE] = 1
            assert np.isnan(call(gn.asarray(values)).numpy())
            assert free_of(work, x.dtype)[MAGNITUDE] == 0


@pytest.mark.usefixtures("quick", "left_alone")
def test_other_threads_run_meanwhile(x: Any) -> None:
    call, work = CALLS["two"]
    free = free_of(work, x.dtype)
    expected = call(x).numpy().tobytes()
    wrong: list[int] = []

    def compute() -> None:
        for i in range(20):
            free[MAGNITUDE] = 2
            if call(x).numpy().tobytes() != expected:
                wrong.append(i)

    crowd = [threading.Thread(target=compute) for _ in range(3)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join()
    assert not wrong
