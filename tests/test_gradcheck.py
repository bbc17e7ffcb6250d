"""gradcheck finds wrong derivatives, however small, in each mode and order, and says where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import formulas
from gradnet.backends import Backend
from gradnet.check import GradientMismatch
from gradnet.formulas import Row
from gradnet.ops import elementwise
from gradnet.ops.core import Op
from gradnet.ops.elementwise import Elementwise


def exp_off(x):
    return exp(x)  # noqa: F821 - a name that binding supplies


def exp_off_dx(y):
    return 1.0005 * y


def exp_off_dx_of_two(x, y):
    return 0.9995 * y + 0 * x


@pytest.fixture
def faulty() -> Any:
    """Register a row for the duration of a test."""
    made: list[str] = []

    def register(name: str, derivative: Any) -> Elementwise:
        formulas.register(Row(name, exp_off, (derivative,)))
        made.append(name)
        return elementwise(name)

    yield register
    for name in made:
        formulas.unregister(name)


@pytest.mark.parametrize("derivative", [exp_off_dx, exp_off_dx_of_two])
def test_gradcheck_fails_on_an_error_of_a_two_thousandth(
    derivative: Any, faulty: Any, backend: Backend
) -> None:
    op = faulty("exp_off", derivative)
    x = np.array([[0.3, -0.8], [1.1, 0.2]])
    with pytest.raises(GradientMismatch, match="reverse mode of order 1"):
        gn.gradcheck(op, x)
    # One wrong op among many right ones.
    with pytest.raises(GradientMismatch, match="relative difference"):
        gn.gradcheck(lambda x: gn.sin(x) + gn.tanh(op(x) * x), x, directions=1)


class _Half(Op):
    """The square, with a derivative that is wrong in one of its modes or orders."""

    def __init__(self, wrong: str) -> None:
        super().__init__("half")
        self.wrong = wrong

    def forward(self, backend: Backend, *xs: Any) -> Any:
        return backend.map(formulas.square, xs[0], dtype=xs[0].dtype)

    def vjp(self, context: Any, g: Any) -> Any:
        x = context.inputs[0]
        if self.wrong == "reverse":
            return (g * x * 2.001,)
        return (g * (x.detach() if self.wrong == "second" else x) * 2,)

    def jvp(self, context: Any, tangents: Any) -> Any:
        x = context.inputs[0]
        return tangents[0] * x * (2.001 if self.wrong == "forward" else 2)


@pytest.mark.parametrize(
    ("wrong", "order", "message"),
    [
        ("forward", 1, "forward mode of order 1"),
        ("reverse", 1, "reverse mode of order 1"),
        ("second", 2, "reverse mode of order 2"),
    ],
)
def test_gradcheck_looks_at_each_mode_and_order(wrong: str, order: int, message: str) -> None:
    x = np.array([0.7, -1.2, 2.0])
    with pytest.raises(GradientMismatch, match=message):
        gn.gradcheck(_Half(wrong), x, order=order)
    if wrong == "second":
        assert gn.gradcheck(_Half(wrong), x, order=1).reverse < 1e-8
    assert gn.gradcheck(_Half("none"), x, order=2).order == 2


def test_the_report() -> None:
    report = gn.gradcheck(gn.sin, np.array([0.3, 0.4]), order=2, tolerance=1e-5, directions=3)
    assert (report.order, report.tolerance, report.directions) == (2, 1e-5, 3)
    assert 0 < report.reverse < 1e-8
    assert 0 < report.forward < 1e-8


def test_arguments_are_cast_to_float64_and_integers_stay(backend: Backend) -> None:
    seen = []

    def f(x: Any, i: Any, b: Any) -> Any:
        seen.append((x.dtype, i.dtype, b.dtype))
        return x[i] * b

    gn.gradcheck(f, gn.ones((3,)), gn.asarray([2, 0]), gn.asarray([True, False]))
    assert set(seen) == {(gn.float64, gn.int64, gn.bool)}


def test_outputs_of_all_kinds(backend: Backend) -> None:
    gn.gradcheck(lambda x: (x * x, gn.argmax(x), [x.sum()][0]), [1.0, 2.0], order=2)
    gn.gradcheck(lambda x: gn.argmax(x), [1.0, 2.0])
    gn.gradcheck(lambda x: x * x * x, 1.5, order=2)
    gn.gradcheck(lambda x: x[:0], [1.0, 2.0], order=2)
    gn.gradcheck(lambda x, y: x, [1.0], [2.0], order=2)


def test_nan_is_no_agreement(backend: Backend) -> None:
    with pytest.raises(GradientMismatch, match="nan"):
        gn.gradcheck(gn.log, np.array([-1.0, 2.0]))


def test_the_message_says_what_and_where() -> None:
    def kinked(x: Any) -> Any:
        return gn.abs(x).sum()

    with pytest.raises(GradientMismatch, match=r"above 1e-06 \(.*shapes \(2,\)\)"):
        gn.gradcheck(kinked, np.array([3e-6, 1.0]))
