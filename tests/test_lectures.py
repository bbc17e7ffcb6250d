"""The figures of the lectures, exactly; where a lecture misprints one, the comment says so."""

from __future__ import annotations

import contextlib
import functools
import math
from typing import Any

import numpy as np
import pytest
from conftest import CPU_BACKENDS

import gradnet as gn
from gradnet import nn
from gradnet.backends import Backend

pytestmark = pytest.mark.usefixtures("backend")


def f64(values: Any, *, requires_grad: bool = False) -> gn.Tensor:
    return gn.asarray(np.asarray(values, np.float64), requires_grad=requires_grad)


def printed(value: Any, digits: int) -> float:
    """A value as a lecture prints it, with so many decimals."""
    return round(float(value), digits)


# One sigmoid unit, one step of gradient descent


def unit(w1: Any, w2: Any) -> tuple[Any, Any, Any]:
    """u = w1 x1**3 + w2 x2, its sigmoid, and the squared error against 0."""
    u = w1 * 3.0**3 + w2 * 5.0
    s = gn.sigmoid(u)
    return u, s, 0.5 * (0 - s) ** 2


def test_one_unit() -> None:
    w1, w2 = f64(0.02, requires_grad=True), f64(0.01, requires_grad=True)
    u, s, loss = unit(w1, w2)
    assert printed(u, 12) == 0.59
    assert printed(s, 4) == 0.6434
    assert printed(loss, 4) == 0.2070
    loss.backward()
    # The lecture multiplies what it has rounded, 0.6434 and the sigmoid's slope 0.2294, to 3.9851.
    assert printed(0.6434 * 0.2294 * 27, 4) == 3.9851
    assert printed(w1.grad, 4) == 3.9857
    assert float(w1.grad) == pytest.approx(3.9851, rel=2e-4)
    s_exact = 1 / (1 + math.exp(-0.59))
    assert float(w1.grad) == pytest.approx(s_exact * s_exact * (1 - s_exact) * 27, rel=1e-14)
    assert float(w2.grad) == pytest.approx(s_exact * s_exact * (1 - s_exact) * 5, rel=1e-14)

    # A step of .01. The lecture misprints the new weight as -0.0599: it is 0.02 - 0.0399 = -0.0199,
    # where the loss is 0.0725. The loss that it prints, 0.0148, is that of -0.06.
    with gn.no_grad():
        w1 -= 0.01 * w1.grad
    assert printed(w1, 4) == -0.0199
    assert printed(unit(w1, w2)[2], 4) == 0.0725
    assert printed(unit(f64(-0.06), w2)[2], 4) == 0.0148


# The table of d/dW of -y log sigmoid(W x) at x = 3, y = 1, W = 3


def table(w: Any, x: Any, y: Any, seen: dict[str, Any]) -> Any:
    """Every intermediate value, kept in `seen`: products, exponential, sum, quotient, logarithm."""
    seen["u1"] = w * x
    seen["u2"] = -seen["u1"]
    seen["u3"] = gn.exp(seen["u2"])
    seen["u4"] = 1 + seen["u3"]
    seen["u5"] = 1 / seen["u4"]
    seen["u6"] = gn.log(seen["u5"])
    seen["L"] = -y * seen["u6"]
    return seen["L"]


E9 = math.exp(-9)
S9 = 1 / (1 + E9)
VALUES = {
    "u1": 9,
    "u2": -9,
    "u3": E9,
    "u4": 1 + E9,
    "u5": S9,
    "u6": math.log(S9),
    "L": -math.log(S9),
}
# dL/du: from the loss back.
REVERSE = {
    "L": 1,
    "u6": -1,
    "u5": -1 / S9,
    "u4": S9,
    "u3": S9,
    "u2": S9 * E9,
    "u1": -S9 * E9,
}
# du/dW: from the weight on.
FORWARD = {
    "u1": 3,
    "u2": -3,
    "u3": -3 * E9,
    "u4": -3 * E9,
    "u5": 3 * E9 * S9**2,
    "u6": 3 * E9 * S9,
    "L": -3 * E9 * S9,
}
# What the lecture prints of the total derivative: without its sign, and cut off, not rounded.
PRINTED = 0.00037018372


def test_the_table_in_reverse_mode() -> None:
    w, seen, found = f64(3.0, requires_grad=True), {}, {}
    loss = table(w, 3.0, 1.0, seen)
    for name, value in VALUES.items():
        assert float(seen[name]) == pytest.approx(value, rel=1e-14)

        def keep(g: Any, name: str = name) -> None:
            found[name] = float(g)

        seen[name].register_hook(keep)
    loss.backward()
    assert list(found) == list(REVERSE)
    for name, value in REVERSE.items():
        assert found[name] == pytest.approx(value, rel=1e-14)
    assert float(w.grad) == pytest.approx(-3 * E9 * S9, rel=1e-14)
    assert printed(w.grad, 6) == -0.000370
    assert math.floor(-float(w.grad) * 1e11) / 1e11 == PRINTED


def test_the_table_in_forward_mode() -> None:
    names = list(VALUES)

    def f(w: Any) -> Any:
        seen: dict[str, Any] = {}
        table(w, 3.0, 1.0, seen)
        return tuple(seen[name] for name in names)

    values, slopes = gn.jvp(f, f64(3.0), f64(1.0))
    for name, value, slope in zip(names, values, slopes, strict=True):
        assert float(value) == pytest.approx(VALUES[name], rel=1e-14)
        assert float(slope) == pytest.approx(FORWARD[name], rel=1e-14)
    assert printed(slopes[-1], 6) == -0.000370


def test_the_table_as_one_loss() -> None:
    # -log sigmoid(W x) is softplus(-W x): the stable form gives the same derivative.
    g = gn.grad(lambda w: -gn.log_sigmoid(w * 3.0))(f64(3.0))
    assert float(g) == pytest.approx(-3 * E9 * S9, rel=1e-14)
    g = gn.grad(lambda w: nn.binary_cross_entropy(w * f64([3.0]), f64([1.0])))(f64(3.0))
    assert float(g) == pytest.approx(-3 * E9 * S9, rel=1e-12)


# Circuits


def test_the_circuit_of_a_product() -> None:
    gradients = gn.grad(lambda x, y, z: (x + y) * z, argnums=(0, 1, 2))(
        f64(-2.0), f64(5.0), f64(-4.0)
    )
    assert [float(g) for g in gradients] == [-4, -4, 3]


def test_the_circuit_of_a_sigmoid() -> None:
    w, x = (2.0, -3.0, -3.0), (-1.0, -2.0)

    def f(w0: Any, x0: Any, w1: Any, x1: Any, w2: Any) -> Any:
        return gn.sigmoid(w0 * x0 + w1 * x1 + w2)

    value, gradients = gn.value_and_grad(f, argnums=(0, 1, 2, 3, 4))(
        *map(f64, (w[0], x[0], w[1], x[1], w[2]))
    )
    assert printed(value, 2) == 0.73
    # In the order of the lecture: w0, x0, w1, x1, w2. It rounds its steps: -0.1966 and 0.3932 are
    # printed as -0.20 and 0.39, and -0.5898 as -0.59.
    assert [printed(g, 2) for g in gradients] == [-0.20, 0.39, -0.39, -0.59, 0.20]
    slope = float(value) * (1 - float(value))
    for g, factor in zip(gradients, (-1, 2, -2, -3, 1), strict=True):
        assert float(g) == pytest.approx(slope * factor, rel=1e-14)


def test_the_squared_length_of_a_product() -> None:
    w, x = f64([[0.1, 0.5], [-0.3, 0.8]]), f64([0.2, 0.4])

    def f(w: Any, x: Any) -> Any:
        return ((w @ x) ** 2).sum()

    value, (dw, dx) = gn.value_and_grad(f, argnums=(0, 1))(w, x)
    assert printed(value, 3) == 0.116
    assert float(value) == pytest.approx(0.22**2 + 0.26**2, rel=1e-14)
    np.testing.assert_allclose(dw.numpy(), [[0.088, 0.176], [0.104, 0.208]], rtol=1e-13)
    np.testing.assert_allclose(dx.numpy(), [-0.112, 0.636], rtol=1e-13)


def test_a_polynomial() -> None:
    gradients = gn.grad(lambda w1, w2: w1**3 * w2 + 3 * w1, argnums=(0, 1))(f64(2.0), f64(3.0))
    assert [float(g) for g in gradients] == [39, 8]
    assert float(gn.jvp(lambda w: w**3 * 3.0 + 3 * w, f64(2.0), f64(1.0))[1]) == 39


# XOR

XOR = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
TRUTH = [0, 1, 1, 0]


def network(activation: str, w: Any, c: Any, v: Any, b: Any) -> Any:
    """A network of one hidden layer with these weights."""
    model = nn.MLP((2, len(c), 1), activation=activation, dtype=gn.float64)
    parameters = list(model.parameters())
    assert [p.shape for p in parameters] == [(2, len(c)), (len(c),), (len(c), 1), (1,)]
    for p, values in zip(parameters, (w, c, np.reshape(v, (-1, 1)), [b]), strict=True):
        p.assign_(np.asarray(values, np.float64))
    return model


def test_xor_with_relu() -> None:
    model = network("relu", [[1, 1], [1, 1]], [0, -1], [1, -2], 0)
    assert model(f64(XOR))[:, 0].tolist() == TRUTH


def test_xor_with_thresholds() -> None:
    # One unit is OR, the other AND; the output is OR and not AND.
    model = network("hard_threshold", [[1, 1], [1, 1]], [-0.5, -1.5], [1, -1], -0.5)
    out = gn.hard_threshold(model(f64(XOR)))
    assert out[:, 0].tolist() == TRUTH


def test_the_best_linear_fit_of_xor_is_a_half() -> None:
    w, b = f64([0.3, -0.7], requires_grad=True), f64(0.2, requires_grad=True)
    for _ in range(400):
        ((f64(XOR) @ w + b - f64(TRUTH)) ** 2).mean().backward()
        with gn.no_grad():
            for p in (w, b):
                p -= 0.5 * p.grad
                p.grad = None
    np.testing.assert_allclose(w.numpy(), [0, 0], atol=1e-12)
    assert float(b) == pytest.approx(0.5, abs=1e-12)
    # The normal equations say the same.
    a = np.column_stack([XOR, np.ones(4)])
    np.testing.assert_allclose(np.linalg.solve(a.T @ a, a.T @ TRUTH), [0, 0, 0.5], atol=1e-12)


# The network of two layers in twenty lines of NumPy

N, D_IN, H, D_OUT = 64, 1000, 100, 10
STEPS, RATE = 2000, 1e-4


@functools.cache
def loop_of_the_lecture() -> tuple[tuple[np.ndarray[Any, Any], ...], list[float]]:
    """Plain NumPy, the gradient written by hand: what it starts from, and the losses."""
    rng = np.random.default_rng(0)
    shapes = ((N, D_IN), (N, D_OUT), (D_IN, H), (H, D_OUT))
    x, y, w1, w2 = start = tuple(rng.standard_normal(shape) for shape in shapes)
    losses = []
    for _ in range(STEPS):
        h = 1 / (1 + np.exp(-x.dot(w1)))
        y_pred = h.dot(w2)
        losses.append(float(np.square(y_pred - y).sum()))
        grad_y_pred = 2.0 * (y_pred - y)
        grad_w2 = h.T.dot(grad_y_pred)
        grad_h = grad_y_pred.dot(w2.T)
        grad_w1 = x.T.dot(grad_h * h * (1 - h))
        w1 = w1 - RATE * grad_w1
        w2 = w2 - RATE * grad_w2
    return start, losses


def test_two_layers_follow_the_loop_of_the_lecture(backend: Backend) -> None:
    with one_thread():
        follow_the_loop(backend)


def one_thread() -> Any:
    """BLAS without its threads: on a busy machine they wait for one another, in small products."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return contextlib.nullcontext()
    return threadpool_limits(1)


def follow_the_loop(backend: Backend) -> None:
    (x, y, *start), expected = loop_of_the_lecture()
    # All the way on one backend; the others need not repeat its 2000 steps.
    steps = STEPS if backend.name == CPU_BACKENDS[-1] else 100
    w1, w2 = (f64(w, requires_grad=True) for w in start)
    optimizer = gn.optim.SGD([w1, w2], lr=RATE)
    inputs, targets, losses = f64(x), f64(y), []
    for _ in range(steps):
        h = gn.ops.linear(inputs, w1, activation="sigmoid")
        loss = ((gn.ops.linear(h, w2) - targets) ** 2).sum()
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    np.testing.assert_allclose(losses[:100], expected[:100], rtol=1e-9)
    assert losses[-1] == pytest.approx(expected[steps - 1], rel=1e-6)
    assert expected[-1] < 1e-2 * expected[0]
