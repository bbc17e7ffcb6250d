"""Ops added from outside: with a rule, from a scalar function, from code for any namespace."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.backends import Backend
from gradnet.errors import GraphError
from gradnet.formulas import exp, log, where
from gradnet.reader import FormulaError

X = np.array([[0.5, 1.0, 2.0], [0.1, 3.0, 1.5]])


def cbrt(x: Any) -> Any:
    """Of an array of any library, so by its own operators."""
    return x ** (1 / 3)


def test_an_op_with_either_rule_has_both_modes(backend: Backend) -> None:
    by_vjp = gn.op(cbrt, vjp=lambda g, y, x: g / (3 * y * y))
    by_jvp = gn.op(cbrt, jvp=lambda ts, y, x: ts[0] / (3 * y * y))
    for f in (by_vjp, by_jvp):
        assert f.name == "cbrt"
        np.testing.assert_allclose(f(X).numpy(), np.cbrt(X), rtol=1e-14)
        gn.gradcheck(f, X, order=2)
        gn.gradcheck(lambda x, f=f: gn.sum(f(x) * x), X, order=2)


def test_an_op_of_several_operands_and_outputs(backend: Backend) -> None:
    def polar(x: Any, y: Any, *, scale: float) -> Any:
        library = np if isinstance(x, np.ndarray) else backend._device.cupy  # type: ignore[attr-defined]
        return scale * library.hypot(x, y), library.arctan2(y, x)

    def pull(g: Any, out: Any, x: Any, y: Any, *, scale: float) -> Any:
        r, (g_r, g_a) = out[0] / scale, (gn.zeros_like(x) if part is None else part for part in g)
        return (
            scale * g_r * x / r - g_a * y / r**2,
            scale * g_r * y / r + g_a * x / r**2,
        )

    def push(ts: Any, out: Any, x: Any, y: Any, *, scale: float) -> Any:
        t_x, t_y = (gn.zeros_like(x) if t is None else t for t in ts)
        r = out[0] / scale
        return scale * (x * t_x + y * t_y) / r, (x * t_y - y * t_x) / r**2

    for rules in ({"vjp": pull}, {"jvp": push}, {"vjp": pull, "jvp": push}):
        f = gn.op(polar, outputs=2, **rules)
        gn.gradcheck(lambda x, y, f=f: f(x, y, scale=2.0), X, X[::-1].copy(), order=2)
        gn.gradcheck(lambda x, f=f: f(x, gn.asarray(X), scale=2.0)[1], X)


def test_an_op_says_what_is_missing() -> None:
    x = gn.asarray(X, requires_grad=True)
    with pytest.raises(GraphError, match="cbrt has no derivative"):
        gn.sum(gn.op(cbrt)(x)).backward()
    with pytest.raises(GraphError, match="returned 2 cotangents for 1 operands"):
        gn.sum(gn.op(cbrt, vjp=lambda g, y, x: (g, g))(x)).backward()


@gn.elementwise
def bump(x, width):  # type: ignore[no-untyped-def]
    """A bell of height 1."""
    return exp(-((x / width) ** 2))


def entropy(x):  # type: ignore[no-untyped-def]
    return where(x > 0, -x * log(where(x > 0, x, 1.0)), 0.0)


def entropy_dx(x):  # type: ignore[no-untyped-def]
    return -1 - log(x)


def test_an_elementwise_op_from_a_function(backend: Backend) -> None:
    np.testing.assert_allclose(bump(gn.asarray(X), 0.5).numpy(), np.exp(-((X / 0.5) ** 2)))
    assert bump(gn.asarray([1, 2]), 2).dtype == gn.float32
    assert bump(gn.asarray(X), gn.ones((2, 1))).shape == (2, 3)
    assert bump.__doc__ == "A bell of height 1."
    gn.gradcheck(bump, X, np.array([0.7, 1.1, 2.0]), order=2)
    with pytest.raises(TypeError, match="bump misses its operand 'width'"):
        bump(gn.asarray(X))


def test_an_elementwise_op_with_its_derivative(backend: Backend) -> None:
    f = gn.elementwise(entropy, derivatives=(entropy_dx,), name="entropy_term")
    assert f.name == "entropy_term"
    assert f(gn.asarray([0.0, 1.0])).tolist() == [0.0, 0.0]
    gn.gradcheck(f, X, order=2)
    traced = gn.elementwise(entropy)
    gn.gradcheck(traced, X, order=2)


def test_defaults_and_refusals() -> None:
    @gn.elementwise(defaults={"width": 2.0})
    def bell(x, width):  # type: ignore[no-untyped-def]
        return exp(-((x / width) ** 2))

    assert bell(gn.asarray([2.0])).item() == pytest.approx(np.exp(-1.0))
    assert bell(gn.asarray([2.0]), width=1.0).item() == pytest.approx(np.exp(-4.0))

    def branching(x):  # type: ignore[no-untyped-def]
        return x if x > 0 else 0.0

    with pytest.raises(FormulaError, match="branching"):
        gn.elementwise(branching)


def test_wrap_gives_tensors_to_code_for_any_namespace(backend: Backend) -> None:
    def energy(x: Any, weights: Any, xp: Any) -> Any:
        return xp.sum(weights * xp.square(xp.tanh(x)))

    def modern(x: Any) -> Any:
        xp = x.__array_namespace__()
        return xp.linalg.vector_norm(xp.exp(x))

    def old(x: Any) -> Any:
        return np.sum(np.exp(x) * np.arange(3.0))

    expected = float(np.sum(X * np.tanh(X) ** 2))
    assert float(gn.wrap(energy)(X, X)) == pytest.approx(expected)
    assert float(gn.wrap(energy)(X, weights=X)) == pytest.approx(expected)
    gn.gradcheck(gn.wrap(energy), X, X, order=2)
    gn.gradcheck(gn.wrap(modern), X)
    gn.gradcheck(gn.wrap(old), X)
    assert isinstance(gn.grad(gn.wrap(modern))(X), gn.Tensor)
