"""Random programs: a few ops drawn one after the other, each order of derivative checked.

What the ops do one by one is tested elsewhere; here they share values, views and memory.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import ops

pytestmark = pytest.mark.usefixtures("backend")

CHOICE = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0]], bool)
UNARY = ("sin", "tanh", "sigmoid", "gelu", "swish", "erf", "square", "softsign", "asinh")
Step = Callable[[random.Random, Any, Any], Any]


def part(draw: random.Random, x: Any, y: Any) -> Any:
    z = x * 1.0
    z[draw.randrange(3)] = y[draw.randrange(3)]
    return z


def added(draw: random.Random, x: Any, y: Any) -> Any:
    z = x + 0.0
    z[:, 1:] += y[:, :2]
    z *= y
    return z


def viewed(draw: random.Random, x: Any, y: Any) -> Any:
    z = x.copy()
    z -= y
    return z + z.T.reshape(9)[::2].sum()


STEPS: tuple[Step, ...] = (
    lambda draw, x, y: ops.elementwise(draw.choice(UNARY))(x),
    lambda draw, x, y: x + y,
    lambda draw, x, y: x * y.sum(axis=draw.choice([0, 1]), keepdims=True),
    lambda draw, x, y: x / (y * y + 1.3),
    lambda draw, x, y: x @ y,
    lambda draw, x, y: ops.linear(x, y, x[0], activation=draw.choice([None, "tanh", "gelu"])),
    lambda draw, x, y: ops.softmax(x, axis=draw.choice([0, 1])),
    lambda draw, x, y: ops.log_softmax(x) - ops.logsumexp(y, axis=0),
    lambda draw, x, y: gn.concat([x[:1], y[1:]]).T,
    lambda draw, x, y: x[[2, 0, 0]],
    lambda draw, x, y: gn.where(gn.asarray(CHOICE), x, y),
    lambda draw, x, y: gn.cumulative_sum(x, axis=0) + gn.var(y),
    lambda draw, x, y: gn.checkpoint(lambda a, b: gn.tanh(a @ b) * a)(x, y),
    lambda draw, x, y: ops.einsum("ij,kj,kl->il", x, y, x) / 9,
    lambda draw, x, y: x * gn.prod(y * 0.5, axis=1, keepdims=True),
    part,
    added,
    viewed,
)


def program(seed: int) -> Callable[[Any, Any], Any]:
    """A function of two 3 x 3 matrices, the same one for a seed."""

    def f(a: Any, b: Any) -> Any:
        draw = random.Random(seed)
        pool = [a, b]
        for _ in range(draw.randrange(3, 9)):
            z = draw.choice(STEPS)(draw, draw.choice(pool), draw.choice(pool))
            pool.append(gn.tanh(z * 0.7) if draw.random() < 0.5 else z * 0.3)
        total = pool[-1]
        for value in pool[2:-1]:
            if draw.random() < 0.5:
                total = total + value * draw.random()
        return total

    return f


@pytest.mark.parametrize("seed", range(40))
def test_first_and_second_derivatives(seed: int) -> None:
    a, b = np.random.default_rng(seed).standard_normal((2, 3, 3))
    gn.gradcheck(program(seed), a, b, order=2, directions=1, tolerance=3e-6)


@pytest.mark.parametrize("seed", range(40, 50))
def test_orders_of_modes_agree(seed: int) -> None:
    x, b, v = (gn.asarray(z) for z in np.random.default_rng(seed).standard_normal((3, 3, 3)))

    def f(x: Any) -> Any:
        return program(seed)(x, b).sum()

    products = (
        gn.hvp(f, x, v),
        gn.grad(lambda x: (gn.grad(f)(x) * v).sum())(x),
        gn.grad(lambda x: gn.jvp(f, x, v)[1])(x),
        gn.jvp(lambda x: gn.vjp(f, x)[1](gn.asarray(1.0, dtype=gn.float64)), x, v)[1],
    )
    for product in products[1:]:
        np.testing.assert_allclose(product.numpy(), products[0].numpy(), rtol=1e-9, atol=1e-11)
    third = (
        gn.grad(lambda x: gn.hvp(f, x, v).sum())(x),
        gn.jvp(lambda x: gn.hvp(f, x, gn.ones_like(x)), x, v)[1],
    )
    np.testing.assert_allclose(third[0].numpy(), third[1].numpy(), rtol=1e-8, atol=1e-10)
