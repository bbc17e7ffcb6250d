"""What is given to `explain`: values, names and dtypes, those that cannot be, and what is kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.backends import Backend
from gradnet.errors import DTypeError
from gradnet.explainer import ExplainError, ExpressionError
from gradnet.graph import keeping
from gradnet.ops.elementwise import Elementwise

pytestmark = pytest.mark.usefixtures("backend")


def test_values_changed_in_place_are_shown_as_they_were() -> None:
    def f(x: Any) -> Any:
        y = x * 2
        z = y * y
        y += 1
        return z + y

    e = gn.explain(f, 3.0)
    assert [float(row.value) for row in e.rows] == [6, 36, 7, 43]
    assert [row.expression for row in e.rows] == ["x * 2", "u1 * u1", "u1 + 1", "u2 + u3"]
    assert float(e.gradients["x"]) == 26


def test_dtypes_and_inputs() -> None:
    x = gn.asarray([1.0, 2.0], dtype=gn.float32, requires_grad=True)
    e = gn.explain(lambda x: (x * x).sum(), x)
    assert e.value.dtype == gn.float32
    assert x.grad is None
    assert gn.explain(lambda x: x * x, 2).value.dtype == gn.float64
    assert gn.explain(lambda x: x.sum(), np.ones(2, np.float32)).value.dtype == gn.float32
    assert float(gn.explain(lambda x: x, 2).gradients["x"]) == 1
    assert float(gn.explain(lambda x: x + 0 * gn.round(x), 2.4).gradients["x"]) == 1


def test_names() -> None:
    e = gn.explain(lambda f, u1: f * u1 + gn.exp(u1), 2, 3, output="L")
    assert [row.name for row in e.rows] == ["u2", "u3", "L"]
    e = gn.explain(lambda f: f * f, 2)
    assert [row.name for row in e.rows] == ["u1"]
    assert [s.name for s in gn.explain(lambda *xs: xs[0] * xs[1], 1, 2).inputs] == ["x1", "x2"]
    assert [s.name for s in gn.explain(gn.multiply, 1, 2).inputs] == ["a", "b"]
    assert gn.explain(lambda a, b: a * b, 1, 2, names=["p", "q"])["p"].uses == 1
    with pytest.raises(KeyError, match="no variable is called 'zz'; there are x, f"):
        gn.explain(lambda x: x * x, 2)["zz"]


def test_variables_that_are_not_used() -> None:
    e = gn.explain(lambda x, y: x * x, 2, 3)
    assert float(e.gradients["y"]) == 0
    assert float(e.output.forward["y"]) == 0
    assert ["df/dy", "not used", "0"] in e.backward()[1]


def test_what_is_not_finite() -> None:
    assert gn.explain("1 / x", 2).first_not_finite is None
    found = gn.explain("exp(-1 / x) + 2", 0.0).first_not_finite
    assert found is not None
    assert found.expression == "-1 / x"
    e = gn.explain("x + 1", math.inf)
    assert e.first_not_finite is e["x"]


BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: gn.explain(lambda x: x * x, [1.0, 2.0]), ExplainError, r"scalar.*shape \(2,\)"),
    (lambda: gn.explain(lambda x: 3.0, 1), ExplainError, "returned float"),
    (lambda: gn.explain(lambda x: gn.asarray(1.0), 1), ExplainError, "depends on no input"),
    (lambda: gn.explain(lambda x: x.detach() * 2, 1), ExplainError, "depends on no input"),
    (lambda: gn.explain(lambda x: x.sum(), gn.asarray([1, 2])), ExplainError, "depends on no"),
    (lambda: gn.explain(lambda x: x, gn.asarray(1j)), DTypeError, "real numbers"),
    (lambda: gn.explain(lambda x: x, 1, names=["a", "b"]), ExplainError, "1 inputs and the names"),
    (lambda: gn.explain(lambda x, y: x, 1, 2, names=["a", "a"]), ExplainError, "name of its own"),
    (lambda: gn.explain(lambda x: x, 1, names=["a b"]), ExplainError, "name of its own"),
    (lambda: gn.explain("x * y", 1), ExplainError, "1 inputs and the names x, y"),
    (lambda: gn.explain("2 * 3"), ExplainError, "has no variable"),
    (lambda: gn.explain("x +", 1), ExpressionError, "cannot be read"),
]


@pytest.mark.parametrize(("call", "error", "words"), BAD)
def test_bad_calls(call: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_a_kept_graph_has_all_values(backend: Backend) -> None:
    x = gn.asarray(2.0, dtype=gn.float64, requires_grad=True)
    constant = gn.asarray(5.0, dtype=gn.float64)
    with keeping():
        y = x + constant
    plain = x + constant
    kept, usual = y.node[0], plain.node[0]
    assert [float(v) for v in kept.inputs] == [2, 5]
    assert float(kept.outputs[0][0]) == 7
    assert not isinstance(usual.inputs[0], gn.Tensor)
    y.backward()
    assert float(x.grad) == 1
    assert isinstance(gn.add, Elementwise)
