"""Memory of arrays that are gone, for the next ones: never that of one still in use."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import numpy as np
import pytest

from gradnet import heap, numpy_calls, spare

pytestmark = pytest.mark.skipif(
    spare.spare is None, reason="the interpreter does not count holders"
)

BYTES = 1 << 16


def made(source: spare.Spare, nbytes: int = BYTES) -> np.ndarray[Any, Any]:
    return np.ndarray((nbytes // 4,), np.float32, source.take(nbytes))


def place(x: np.ndarray[Any, Any]) -> int:
    return x.ctypes.data


def held(source: spare.Spare) -> int:
    return sum(x.memory.nbytes for x in source.blocks)


def test_what_is_gone_is_used_again() -> None:
    source = spare.Spare()
    first = place(made(source))
    again = made(source)
    assert place(again) == first
    other = made(source)
    assert place(other) != first
    assert place(made(source, 2 * BYTES)) not in (first, place(other))
    assert held(source) == 4 * BYTES


class Given:
    """What NumPy makes an array of by its interface."""

    def __init__(self, x: np.ndarray[Any, Any]) -> None:
        self.x = x
        self.__array_interface__ = x.__array_interface__


HOLDERS = {
    "a view": lambda x: x[5:9],
    "a view of a view": lambda x: x.reshape(4, -1).T[1:],
    "a memoryview": lambda x: memoryview(x[7:]),
    "a type of ctypes": lambda x: (ctypes.c_char * 4).from_buffer(x),
    "DLPack": lambda x: np.from_dlpack(x[3:]),
    "an interface": lambda x: np.asarray(Given(x)),
    "its own base": lambda x: x.base,
}


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
def test_what_is_held_is_left_alone(holder: Any) -> None:
    source = spare.Spare()
    x = made(source)
    start, held = place(x), holder(x)
    del x
    assert place(made(source)) != start
    del held
    found = [made(source), made(source)]
    assert start in map(place, found)


def test_no_more_is_kept_than_may_be() -> None:
    source = spare.Spare(3 * BYTES)
    used = [made(source) for _ in range(5)]
    for i, x in enumerate(used):
        x[:] = i
    assert held(source) == 3 * BYTES
    made(source, 4 * BYTES)
    assert not source.blocks
    # What is forgotten while it is used stays its array's.
    assert [x[-1] for x in used] == [0, 1, 2, 3, 4]


def test_what_served_once_makes_room() -> None:
    source = spare.Spare()
    made(source)
    made(source, 2 * BYTES)
    assert held(source) == 2 * BYTES
    made(source, 2 * BYTES)
    made(source)
    assert held(source) == 3 * BYTES


def test_all_is_given_back_where_room_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    source = spare.Spare()
    monkeypatch.setattr(heap, "spare", source)
    used, gone = made(source), made(source)
    used[:] = 3
    del gone
    heap.trim()
    assert not source.blocks
    assert place(made(source)) != place(used)
    assert used[-1] == 3


def test_threads_get_memory_of_their_own() -> None:
    source = spare.Spare()
    wrong = []

    def work(number: int) -> None:
        for _ in range(200):
            x = made(source)
            x[::1024] = number
            if (x[::1024] != number).any():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert 1 <= len(source.blocks) <= 4


def test_what_is_wanted_meanwhile_is_new() -> None:
    source = spare.Spare()
    first = made(source)
    with source.lock:
        other = made(source)
    assert held(source) == BYTES
    assert place(first) != place(other)


def test_large_arrays_are_made_so(monkeypatch: pytest.MonkeyPatch) -> None:
    source = spare.Spare()
    monkeypatch.setattr(numpy_calls, "spare", source)
    shape = (spare.LARGE // 4, 1)
    x = numpy_calls.empty(shape, np.dtype(np.float32))
    assert x.shape == shape
    assert x.dtype == np.float32
    assert place(x) % numpy_calls.LINE == 0
    start = place(x)
    # A recording tells arrays apart by what owns their memory.
    assert x.T.base is x
    del x
    assert place(numpy_calls.empty(shape, np.dtype(np.float32))) == start
    monkeypatch.setattr(numpy_calls, "spare", None)
    x = numpy_calls.empty(shape, np.dtype(np.float32))
    assert place(x) % numpy_calls.LINE == 0
    assert len(source.blocks) == 1
