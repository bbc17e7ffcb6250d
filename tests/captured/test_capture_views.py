"""Captured functions that take a result as it is and by another view, and arrays of one value."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import gradnet as gn
from gradnet.backends import Backend
from gradnet.errors import ShapeError

VIEWS: dict[str, Callable[[gn.Tensor], gn.Tensor]] = {
    "transposed": lambda z: z.T,
    "flipped": lambda z: z[::-1],
    "part": lambda z: z[:1],
    "one": lambda z: z[0, 1],
}


@pytest.mark.parametrize("view", VIEWS)
def test_a_result_and_a_view_of_it_go_into_one_call(view: str, backend: Backend) -> None:
    def function(x: gn.Tensor) -> gn.Tensor:
        z = x * 2.0 + 1.0
        return gn.tanh(z - VIEWS[view](z))

    captured = gn.capture(function)
    for begin in (0.0, 1.0):
        x = gn.reshape(gn.linspace(begin, 2, 9, dtype=gn.float64), (3, 3))
        np.testing.assert_allclose(captured(x).numpy(), function(x).numpy(), rtol=1e-12)
    assert captured.replays == 1


@pytest.mark.parametrize(
    ("function", "values"),
    [
        (lambda x: x & gn.ones((3,), dtype=gn.bool), [True, False, True]),
        (lambda x: x == gn.full((3,), 2, dtype=gn.bool), [True, False, True]),
        (lambda x: x + gn.full((3,), 2.7, dtype=gn.int64), [0, 1, 2]),
    ],
    ids=["and", "equal", "cut"],
)
def test_an_array_of_one_value_holds_it_in_its_dtype(
    function: Callable[[gn.Tensor], gn.Tensor], values: list[int], backend: Backend
) -> None:
    x, captured = gn.asarray(values), gn.capture(function)
    expected = function(x)
    for _ in range(2):
        found = captured(x)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found.numpy(), expected.numpy())


def test_what_is_returned_as_it_was_found_is_returned(backend: Backend) -> None:
    with gn.backends.use(backend.name):
        w, x = gn.asarray([1.0, 2.0, 3.0]), gn.asarray([4.0, 5.0])
    captured = gn.capture(lambda x: (x * 2.0, w, w[1:]))
    for value in (1.0, 7.0):
        w.assign_(w * 0.0 + value)
        _, whole, part = captured(x)
        assert (whole.tolist(), part.tolist()) == ([value] * 3, [value] * 2)


def test_a_gradient_that_is_given_is_left_behind(backend: Backend) -> None:
    with gn.backends.use(backend.name):
        w, given = gn.asarray([1.0, 2.0], requires_grad=True), gn.asarray([5.0, 6.0])

    def give(x: gn.Tensor) -> gn.Tensor:
        w.grad = given
        return x * 2.0

    captured = gn.capture(give)
    for _ in range(2):
        w.grad = None
        captured(given)
        assert w.grad is not None
        assert w.grad.tolist() == [5.0, 6.0]


def _put(y: gn.Tensor) -> None:
    y[0] = 2.0


def _double(y: gn.Tensor) -> None:
    y *= 2.0


@pytest.mark.parametrize("change", [_put, _double])
def test_a_broadcast_view_of_an_argument_is_not_written_to(
    change: Callable[[gn.Tensor], None], backend: Backend
) -> None:
    def function(x: gn.Tensor) -> gn.Tensor:
        y = gn.broadcast_to(x, (2, 3))
        change(y)
        return y * 1.0

    if backend.device != "cpu":
        pytest.skip("memory on a device is not marked as read-only")
    x = gn.asarray([1.0, 2.0, 3.0])
    for f in (function, gn.capture(function)):
        with pytest.raises(ShapeError, match="read-only"):
            f(x)
    assert x.tolist() == [1.0, 2.0, 3.0]
