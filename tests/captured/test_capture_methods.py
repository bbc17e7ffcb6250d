"""Captured methods and functions where they are bound, inherited, copied and pickled."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import gradnet as gn
from gradnet.errors import CaptureError

ONE = gn.ones(())


class Scaled:
    def __init__(self, factor: float) -> None:
        self.factor = factor

    @gn.capture
    def times(self, x: gn.Tensor) -> gn.Tensor:
        return x * self.factor

    @classmethod
    @gn.capture
    def of_class(cls, x: gn.Tensor) -> gn.Tensor:
        return x * len(cls.__name__)


class Plain:
    def __init__(self, factor: float) -> None:
        self.factor = factor

    def times(self, x: gn.Tensor) -> gn.Tensor:
        return x * self.factor


class Shifted(Scaled):
    @gn.capture
    def times(self, x: gn.Tensor) -> gn.Tensor:
        return super().times(x) + 1.0


class Slotted:
    __slots__ = ("factor",)
    times = Scaled.times


@gn.capture
def twice(x: gn.Tensor) -> gn.Tensor:
    return x * 2.0


def pickled(x: Any) -> Any:
    return pickle.loads(pickle.dumps(x))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickled])
def test_a_copy_has_methods_of_its_own(copied: Callable[[Any], Any]) -> None:
    first = Shifted(2.0)
    assert [first.times(ONE).item() for _ in range(2)] == [3.0, 3.0]
    other = copied(first)
    other.factor = 7.0
    assert [other.times(ONE).item() for _ in range(2)] == [8.0, 8.0]
    assert first.times(ONE).item() == 3.0
    assert (first.times.recordings, first.times.replays) == (1, 2)
    assert (other.times.recordings, other.times.replays) == (1, 1)


def test_a_method_of_a_class_is_captured_for_each_class() -> None:
    for _ in range(2):
        assert (Scaled.of_class(ONE).item(), Shifted(1.0).of_class(ONE).item()) == (6.0, 7.0)
    assert Scaled.of_class.replays == Shifted.of_class.replays == 1


def test_objects_without_a_place_for_recordings_are_refused() -> None:
    with pytest.raises(CaptureError, match=r'__slots__ .*; add "__dict__" to the slots'):
        Slotted().times(ONE)


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_functions_are_copied_as_python_copies_them(copied: Callable[[Any], Any]) -> None:
    assert copied(twice) is twice
    run = gn.capture(Plain(5.0).times)
    other = copied(run)
    assert other is not run
    assert [other(ONE).item() for _ in range(2)] == [5.0, 5.0]


def test_a_model_that_holds_a_captured_function_is_copied() -> None:
    model: Any = gn.nn.MLP((3, 2), seed=0)
    model.total = gn.capture(lambda x: gn.sum(x))
    other = copy.deepcopy(model)
    assert other.total(gn.ones(3)).item() == 3.0
    assert other.total is not model.total


def _parts(x: gn.Tensor) -> Iterator[gn.Tensor]:
    yield x


async def _later(x: gn.Tensor) -> gn.Tensor:
    return x


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (None, "capture takes a function, got NoneType"),
        (classmethod(lambda cls: cls), "got classmethod; write @classmethod above it"),
        (_parts, "_parts is a generator's or a coroutine's"),
        (_later, "_later is a generator's or a coroutine's"),
    ],
    ids=["nothing", "class method", "generator", "coroutine"],
)
def test_what_cannot_run_to_its_end_is_refused(function: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        gn.capture(function)
