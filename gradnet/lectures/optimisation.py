"""Deck 2: hill climbing, gradients, batches, and what one hidden layer can approximate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from gradnet import ops
from gradnet.autodiff import grad, jvp, value_and_grad
from gradnet.learners import finite_difference_ascent, hill_climb
from gradnet.learners import gradient_ascent as ascent_of
from gradnet.lectures.examples import Figure, example, lecture, real, worked
from gradnet.optim import SGD
from gradnet.tensor import Tensor


@example("2.1", "A polynomial and its gradient: w1^3 w2 + 3 w1 at (2, 3)")
def polynomial() -> Iterator[Figure]:
    def f(w1: Any, w2: Any) -> Any:
        return w1**3 * w2 + 3 * w1

    value, gradients = value_and_grad(f, argnums=(0, 1))(real(2.0), real(3.0))
    yield worked("value 8 3 + 6", 30, value)
    yield lecture("gradient (3 w1^2 w2 + 3, w1^3)", [39, 8], [float(g) for g in gradients])
    found = jvp(f, (real(2.0), real(3.0)), (real(1.0), real(0.0)))[1]
    yield lecture("the first by forward mode", 39, found)
    found = jvp(f, (real(2.0), real(3.0)), (real(0.0), real(1.0)))[1]
    yield lecture("the second by forward mode", 8, found)


def hill(x: Any) -> Any:
    """5 - (x - 3)^2, with its top at 3."""
    return 5 - (x - 3) ** 2


@example("2.2", "Hill climbing: try both neighbours, take the better, stop at the top")
def hill_climbing() -> Iterator[Figure]:
    x, path = real(0.0), [0.0]
    while True:
        best = max((x - 1, x + 1), key=lambda other: float(hill(other)))
        if float(hill(best)) <= float(hill(x)):
            break
        x = best
        path.append(float(x))
    yield worked("path from 0 with steps of 1", [0, 1, 2, 3], path)
    yield worked("height at its end", 5, hill(x))
    found = hill_climb(lambda x: hill(x).sum(), real([0.0]), step=1.0, iterations=40)
    yield worked("the learner, its step halved at the top", 3, found.points[-1])
    wave = [float(ops.cos(2 * math.pi * real(v)) - 0.1 * real(v) ** 2) for v in (0, 1, 2)]
    yield worked("cos(2 pi x) - 0.1 x^2 at its local tops 0, 1, 2", [1, 0.9, 0.6], wave)


@example("2.3", "Gradient ascent beside finite differences; a step that is too long")
def gradient_ascent() -> Iterator[Figure]:
    def ascend(slope: Callable[[Tensor], Tensor], rate: float, steps: int) -> float:
        x = real(0.0)
        for _ in range(steps):
            x = x + rate * slope(x)
        return float(x)

    def measured(x: Tensor, epsilon: float = 1e-3) -> Tensor:
        difference: Tensor = (hill(x + epsilon) - hill(x - epsilon)) / (2 * epsilon)
        return difference

    yield worked("slope of 5 - (x - 3)^2 at 1", 4, grad(hill)(real(1.0)))
    yield worked("measured: exact for a parabola", 4, measured(real(1.0)), within=1e-10)
    yield worked(
        "10 steps of rate 0.1: 3 (1 - 0.8^10)", 3 * (1 - 0.8**10), ascend(grad(hill), 0.1, 10)
    )
    yield worked("by measured slopes", 3 * (1 - 0.8**10), ascend(measured, 0.1, 10), within=1e-9)
    for name, climb in (("gradient", ascent_of), ("measured", finite_difference_ascent)):
        found = climb(lambda x: hill(x).sum(), real([0.0]), lr=0.1, iterations=10)
        shown = 3 * (1 - 0.8**10)
        yield worked(f"the learner by {name} slopes", shown, found.points[-1], within=1e-9)
    yield worked("one step of rate 0.5 is Newton's", 3, ascend(grad(hill), 0.5, 1))
    yield worked(
        "rate 1.1 runs away: 3 (1 - (-1.2)^10)", 3 * (1 - 1.2**10), ascend(grad(hill), 1.1, 10)
    )


@example("2.4", "Rules of the calculus table: sum, product, quotient, chain, power")
def rules() -> Iterator[Figure]:
    u, du = math.log(2), 0.5  # of ln x at 2
    at = real(2.0)
    table: list[tuple[str, Callable[[Any], Any], float]] = [
        ("(3 x^2 + ln x)' = 6 x + 1 / x", lambda x: 3 * x**2 + ops.log(x), 12.5),
        ("(x^2 ln x)' = 2 x ln x + x", lambda x: x**2 * ops.log(x), 4 * u + 2),
        ("(ln x / x)' = (1 - ln x) / x^2", lambda x: ops.log(x) / x, (1 - u) / 4),
        ("(exp(x^2))' = 2 x exp(x^2)", lambda x: ops.exp(x**2), 4 * math.exp(4)),
        ("((ln x)^3)' = 3 (ln x)^2 / x", lambda x: ops.log(x) ** 3, 3 * u**2 * du),
        ("(sqrt(x))' = 1 / (2 sqrt(x))", ops.sqrt, 0.5 / math.sqrt(2)),
        ("(1 / x)' = -1 / x^2", lambda x: 1 / x, -0.25),
        ("(3^x)' = 3^x ln 3", lambda x: 3**x, 9 * math.log(3)),
        ("(x^x)' = x^x (ln x + 1)", lambda x: x**x, 4 * (u + 1)),
        ("(constant)' = 0", lambda x: 0 * x + 7, 0.0),
    ]
    for name, f, expected in table:
        yield worked(f"{name} at 2", expected, grad(f)(at))


ROWS = ([1.0, 2.0, 1.0, 2.0], [2.0, 4.0, 2.0, 4.0])


def descend(batch: int, rows: int = 4) -> list[float]:
    """The weight after each step of one pass: w x fitted to y = 2 x from w = 0, rate 0.1."""
    x, y = real(ROWS[0][:rows]), real(ROWS[1][:rows])
    w = real(0.0, requires_grad=True)
    optimizer, after = SGD([w], lr=0.1), []
    for start in range(0, rows, batch):
        part = slice(start, start + batch)
        loss = 0.5 * ops.mean(ops.square(w * x[part] - y[part]))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        after.append(float(w))
    return after


@example("2.5", "Batch, stochastic and mini-batch descent on the same four rows")
def batches() -> Iterator[Figure]:
    yield worked("batch: one step along the mean gradient -5", [0.5], descend(4))
    yield worked("mini-batches of two", [0.5, 0.875], descend(2))
    # Each row multiplies what is missing to 2 by 1 - 0.1 x^2: 0.9 for x = 1, 0.6 for x = 2.
    missing, shown = 2.0, []
    for x in ROWS[0]:
        missing *= 1 - 0.1 * x * x
        shown.append(2 - missing)
    yield worked("stochastic: a step for each row", shown, descend(1))
    yield worked("the first two of them", [0.2, 0.92], descend(1)[:2])
    yield worked("a mini-batch of all rows is batch descent", descend(4, 2), descend(2, 2))


@example("2.6", "Universal approximation: a bump of two sigmoids, a staircase of thresholds")
def approximation() -> Iterator[Figure]:
    x = real(0.5)
    for k in (4, 20, 100):
        bump = ops.sigmoid(k * x) - ops.sigmoid(k * (x - 1))
        yield worked(f"bump on (0, 1), steepness {k}, in its middle", math.tanh(k / 4), bump)
    grid = ops.linspace(0.0, 1.0, 1601, dtype="float64")
    for n in (4, 8, 16):
        # Thresholds at the middles of n pieces, each lifting the output by 1 / n.
        corners = (ops.arange(n, dtype="float64") + 0.5) / n
        hidden = ops.hard_threshold(ops.expand_dims(grid, 1) - corners)
        steps = hidden @ ops.full((n,), 1 / n, dtype="float64")
        error = ops.max(ops.abs(steps - grid))
        yield worked(f"x by {n} thresholds: largest error 1 / (2 n)", 0.5 / n, error, within=1e-9)


@example("2.7", "Two weights: the direction of steepest ascent is the gradient's")
def direction() -> Iterator[Figure]:
    def f(w: Any) -> Any:
        return -(w[0] ** 2) - 4 * w[1] ** 2

    w = real([2.0, 1.0])
    g = grad(f)(w)
    yield worked("gradient of -w1^2 - 4 w2^2 at (2, 1)", [-4, -8], g)
    slopes = []
    for degrees in range(0, 360, 5):
        angle = math.radians(degrees)
        slopes.append(float(jvp(f, w, real([math.cos(angle), math.sin(angle)]))[1]))
    length = float(ops.vector_norm(g))
    yield worked("its length, the steepest slope", math.sqrt(80), length)
    yield worked("no direction of 72 is steeper", True, max(slopes) <= length + 1e-12)
    along = jvp(f, w, g / length)[1]
    yield worked("the slope along it", math.sqrt(80), along)
    level = jvp(f, w, real([2.0, -1.0]))[1]
    yield worked("and none along the contour line (2, -1)", 0, level)
