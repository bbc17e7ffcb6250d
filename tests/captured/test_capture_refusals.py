"""What cannot be captured is refused, and leaves everything as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from captured_steps import CLASSES, table, training, weights

import gradnet as gn
from gradnet.backends import Backend
from gradnet.errors import CaptureError, DataError, ShapeError


def _reads(x: gn.Tensor) -> gn.Tensor:
    return x if x.sum() > 0 else -x


def _prints(x: gn.Tensor) -> gn.Tensor:
    return x * float(x[0])


def _selects(x: gn.Tensor) -> gn.Tensor:
    return x[x > 0]


def _finds(x: gn.Tensor) -> Any:
    return gn.nonzero(x)


CALLS: list[float] = []


def _counts(x: gn.Tensor) -> gn.Tensor:
    CALLS.append(1.0)
    return x * 2.0


ARRAY = np.ones(3, np.float32)


def _converts(x: gn.Tensor) -> gn.Tensor:
    return x + gn.asarray(ARRAY)


W = gn.asarray([1.0, 2.0, 3.0], requires_grad=True)


def _keeps_its_graph(x: gn.Tensor) -> gn.Tensor:
    return x * W


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (_reads, "reads the values of a tensor"),
        (_prints, "reads the values of a tensor"),
        (_selects, "shapes depend on values"),
        (_finds, "shapes depend on values"),
        (_counts, "changes the Python value 'CALLS'"),
        (_converts, "NumPy array of shape"),
    ],
)
def test_what_a_replay_could_not_follow_is_refused(
    backend: Backend, function: Callable[..., Any], message: str
) -> None:
    captured = gn.capture(function)
    with pytest.raises(CaptureError, match=message):
        captured(gn.asarray([1.0, -2.0, 3.0]))
    assert captured.recordings == 0


def test_a_result_with_a_graph_is_refused() -> None:
    captured = gn.capture(_keeps_its_graph)
    with pytest.raises(CaptureError, match=r"detach\(\)"):
        captured(gn.asarray([1.0, -2.0, 3.0]))
    with gn.no_grad():
        assert captured(gn.asarray([1.0, 1.0, 1.0])).numpy().tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("argument", [np.ones(3), [{1, 2}]], ids=["array", "set"])
def test_arguments_that_cannot_be_compared_are_refused(argument: Any) -> None:
    captured = gn.capture(lambda x, other: x * 2.0)
    with pytest.raises(CaptureError, match="pass"):
        captured(gn.ones(2), argument)


def test_a_function_without_tensors_is_refused() -> None:
    with pytest.raises(CaptureError, match="takes no tensor"):
        gn.capture(lambda: 3.0)()


def test_a_refused_function_leaves_everything_as_it_was(backend: Backend) -> None:
    model, optimizer, step = training("adam", dropout=0.5, schedule="cosine")
    model.train()

    def refused(x: gn.Tensor, y: gn.Tensor) -> float:
        return step(x, y).item()

    x, y = table()
    step(x, y)
    before, state = weights(model), optimizer.state_dict()
    stream = gn.random.default_generator().get_state()
    with pytest.raises(CaptureError):
        gn.capture(refused)(x, y)
    for a, b in zip(before, weights(model), strict=True):
        np.testing.assert_array_equal(a, b)
    assert gn.random.default_generator().get_state() == stream
    again = optimizer.state_dict()
    assert again["groups"] == state["groups"]
    for name, value in state.items():
        if isinstance(value, gn.Tensor):
            np.testing.assert_array_equal(value.numpy(), again[name].numpy())
    assert all(p.grad is None for p in model.parameters())


def test_checks_of_values_are_made_in_every_replay(cpu: Backend) -> None:
    model, _, step = training("adam")
    captured = gn.capture(step)
    x, y = table()
    captured(x, y), captured(x, y)
    before = weights(model)
    wrong = np.array(y.numpy())
    wrong[4] = CLASSES
    with pytest.raises(DataError, match="got class 5 in row 4"):
        captured(x, gn.asarray(wrong))
    for a, b in zip(before, weights(model), strict=True):
        np.testing.assert_array_equal(a, b)
    captured(x, y)
    assert captured.recordings == 1


@pytest.mark.parametrize("index", [slice(0, 2), (slice(None), [0, 1]), 0, (0, 1)])
def test_values_that_do_not_fit_into_an_argument(index: Any, cpu: Backend) -> None:
    def store(x: gn.Tensor, v: gn.Tensor) -> gn.Tensor:
        x[index] = v
        return x * 2

    captured = gn.capture(store)
    for _ in range(2):
        with pytest.raises(ShapeError, match="setitem cannot fit values of shape"):
            captured(gn.zeros((5, 4)), gn.ones((3, 3)))
    for fitting in ((), (1,), (1, 1, 1))[: 1 if index == (0, 1) else 3]:
        x = gn.zeros((5, 4))
        twice = captured(x, gn.ones(fitting))
        np.testing.assert_array_equal(twice.numpy(), 2 * x.numpy())
        assert gn.max(x).item() == 1
