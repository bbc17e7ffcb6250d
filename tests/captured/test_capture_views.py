"""Captured functions that take a result as it is and by another view, and arrays of one value."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import gradnet as gn
from gradnet.backends import Backend

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
