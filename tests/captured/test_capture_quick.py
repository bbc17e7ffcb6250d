"""The shortest way to a replay: for results and arguments of any form, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import gradnet as gn
from gradnet.backends import Backend


class Pair(NamedTuple):
    first: Any
    second: Any


def values(tree: Any) -> Any:
    """The values of a result, and what holds them."""
    if isinstance(tree, gn.Tensor):
        return tree.numpy().tolist()
    if isinstance(tree, tuple | list):
        return type(tree).__name__, [values(x) for x in tree]
    if isinstance(tree, dict):
        return {key: values(x) for key, x in tree.items()}
    return tree


def tensor(*numbers: float) -> gn.Tensor:
    return gn.asarray(np.array(numbers, np.float32))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Have a captured function take no other way from now on."""

    def other(*given: Any) -> None:
        raise AssertionError("the quick way was not taken")

    def only(captured: Any) -> None:
        monkeypatch.setattr(captured, "_found", other)

    return only


RESULTS: dict[str, Callable[[gn.Tensor], Any]] = {
    "tuple": lambda x: (x * 2.0, gn.sum(x)),
    "one in a tuple": lambda x: (x * 2.0,),
    "dict": lambda x: {"double": x * 2.0, "loss": gn.sum(x), "none": None},
    "nested": lambda x: [x + 1.0, {"pair": Pair(x * x, (x, "text", 1.5))}, (), {}],
    "views of one result": lambda x: ((y := x * x), y[1:], gn.flip(y), y),
    "a view of an argument": lambda x: (x[1:], x * 3.0),
    "nothing": lambda x: None,
    "no tensor": lambda x: ("text", 1.0),
}


@pytest.mark.parametrize("form", RESULTS)
def test_results_of_any_form_are_those_of_the_function(
    backend: Backend, quick: Callable[[Any], None], form: str
) -> None:
    function = RESULTS[form]
    captured = gn.capture(function)
    given = [tensor(1, 2, 3), tensor(4, 5, 6), tensor(-1, 0, 1)]
    captured(given[0])
    quick(captured)
    kept = [captured(x) for x in given]
    # Each call's results stay, whatever later calls give.
    assert [values(result) for result in kept] == [values(function(x)) for x in given]
    assert (captured.recordings, captured.replays) == (1, len(given))


def test_results_of_calls_are_memory_of_their_own(quick: Callable[[Any], None]) -> None:
    weight = tensor(1, 1)
    captured = gn.capture(lambda x: {"y": x * weight, "weight": weight, "z": x + weight})
    x = tensor(2, 3)
    captured(x)
    quick(captured)
    first, second = captured(x), captured(x)
    first["y"] += 10.0
    assert values(second["y"]) == [2.0, 3.0]
    assert values(captured(x)["z"]) == [3.0, 4.0]
    # What is within reach is given as it is.
    weight.assign_([5.0, 7.0])
    assert values(first["weight"]) == [5.0, 7.0]
    assert values(captured(x)) == {"y": [10.0, 21.0], "weight": [5.0, 7.0], "z": [7.0, 10.0]}


def test_arguments_may_be_trees_and_have_names(
    backend: Backend, quick: Callable[[Any], None]
) -> None:
    def function(batch: Any, scale: float, *, rest: Any = (), flag: bool = True) -> Any:
        total = batch["x"] * scale + batch["y"][0]
        for x in rest:
            total = total + x
        return (total, gn.sum(total)) if flag else (total,)

    captured = gn.capture(function)

    def call(target: Any, seed: float) -> Any:
        batch = {"x": tensor(seed, 1), "y": [tensor(2, seed), "name"]}
        return target(batch, 2.0, rest=(tensor(seed, seed),), flag=True)

    call(captured, 1.0)
    quick(captured)
    for seed in (1.0, 2.0, 5.0):
        assert values(call(captured, seed)) == values(call(function, seed))
    assert captured.recordings == 1


def test_other_arguments_are_recorded_anew() -> None:
    def function(batch: Any, factor: Any = 1.0, **named: Any) -> Any:
        parts = list(batch.values()) if isinstance(batch, dict) else list(batch)
        last = named.get("last", 0)
        return parts[0] / factor - 2.0 * parts[1] + last, len(parts), factor

    x, y = tensor(1, 2), tensor(3, 5)
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        (({"x": x, "y": y},), {}),
        (({"y": y, "x": x},), {}),
        (([x, y],), {}),
        (((x, y),), {}),
        ((Pair(x, y),), {}),
        (([x, y, x],), {}),
        (([x, y], 2.0), {}),
        (([x, y], 2), {}),
        (([x, y], 0.0), {}),
        (([x, y], -0.0), {}),
        (([x, y],), {"last": 1}),
        (([x, y],), {"last": True}),
        (([x, y],), {"other": 1}),
        (([x[:1], y[:1]],), {}),
    ]
    captured = gn.capture(function)
    for _ in range(2):
        for args, kwargs in calls:
            for _ in range(2):
                result, expected = captured(*args, **kwargs), function(*args, **kwargs)
                assert values(result) == values(expected)
                assert repr(result[2]) == repr(expected[2])
    # A number that is not a number is one value too.
    before = captured.recordings
    for _ in range(3):
        captured([x, y], float("nan"))
    assert captured.recordings == before + 1


SETTING = {"factor": 2.0}


def test_a_changed_value_is_seen_where_several_tensors_are_given(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    captured = gn.capture(lambda x: (x * SETTING["factor"], x + 1.0))
    x = tensor(1, 2)
    assert values([captured(x), captured(x)]) == values([(x * 2.0, x + 1.0)] * 2)
    monkeypatch.setitem(SETTING, "factor", 3.0)
    assert values(captured(x)) == values((x * 3.0, x + 1.0))
    assert captured.recordings == 2


def test_a_step_that_gives_nothing_or_leaves_gradients(
    backend: Backend, quick: Callable[[Any], None]
) -> None:
    def made() -> tuple[list[gn.Tensor], Callable[[gn.Tensor], Any]]:
        w, b = gn.Tensor([1.0, 2.0], requires_grad=True), gn.Tensor(0.5, requires_grad=True)

        def step(x: gn.Tensor) -> None:
            w.grad = b.grad = None
            loss = gn.sum((x * w + b) ** 2)
            loss.backward()
            with gn.no_grad():
                w.assign_(w - 0.1 * w.grad)

        return [w, b], step

    plain, step = made()
    replayed, other = made()
    captured = gn.capture(other)
    kept = []
    for i in range(4):
        step(tensor(i, 1))
        assert captured(tensor(i, 1)) is None
        if i:
            quick(captured)
        assert values(plain) == values(replayed)
        for a, b in zip(plain, replayed, strict=True):
            assert values(a.grad) == values(b.grad)
        kept.append((replayed[0].grad, values(replayed[0].grad)))
    assert captured.recordings <= 2
    assert all(values(g) == before for g, before in kept)
