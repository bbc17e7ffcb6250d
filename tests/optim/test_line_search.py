"""The strong Wolfe line search, L-BFGS and conjugate gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradnet as gn
from gradnet import optim
from gradnet.optim import line_search
from gradnet.optim.line_search import Point, strong_wolfe

Curve = Callable[[float], tuple[float, float]]
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("lbfgs", {}),
    ("lbfgs", {"history_size": 3}),
    ("conjugate_gradient", {}),
    ("conjugate_gradient", {"method": "fletcher-reeves"}),
]


def satisfied(start: Point, end: Point, decrease: float, curvature: float) -> bool:
    """Both conditions, as they are written in the docstring."""
    lower = end.value <= start.value + decrease * end.step * start.slope
    return lower and abs(end.slope) <= curvature * abs(start.slope)


def yanai(b1: float, b2: float) -> Curve:
    def part(b: float) -> float:
        return math.sqrt(1 + b * b) - b

    def curve(a: float) -> tuple[float, float]:
        left, right = math.hypot(1 - a, b2), math.hypot(a, b1)
        value = part(b1) * left + part(b2) * right
        return value, part(b1) * (a - 1) / left + part(b2) * a / right

    return curve


def wavy(a: float) -> tuple[float, float]:
    b, waves = 0.01, 39
    if a <= 1 - b:
        base, slope = 1 - a, -1.0
    elif a >= 1 + b:
        base, slope = a - 1, 1.0
    else:
        base, slope = (a - 1) ** 2 / (2 * b) + b / 2, (a - 1) / b
    phase = waves * math.pi / 2 * a
    value = base + 2 * (1 - b) / (waves * math.pi) * math.sin(phase)
    return value, slope + (1 - b) * math.cos(phase)


# The six functions of Moré and Thuente 1994, Line Search Algorithms with Guaranteed Sufficient
# Decrease, with the constants of the conditions that they use for each.
CURVES: list[tuple[Curve, float, float]] = [
    (lambda a: (-a / (a * a + 2), (a * a - 2) / (a * a + 2) ** 2), 1e-3, 0.1),
    (
        lambda a: (
            (a + 0.004) ** 5 - 2 * (a + 0.004) ** 4,
            5 * (a + 0.004) ** 4 - 8 * (a + 0.004) ** 3,
        ),
        0.1,
        0.1,
    ),
    (wavy, 0.1, 0.1),
    (yanai(0.001, 0.001), 1e-3, 1e-3),
    (yanai(0.01, 0.001), 1e-3, 1e-3),
    (yanai(0.001, 0.01), 1e-3, 1e-3),
]


@pytest.mark.parametrize("first", [1e-3, 1e-1, 1e1, 1e3])
@pytest.mark.parametrize("which", range(6))
def test_the_conditions_hold_on_the_functions_of_more_and_thuente(which: int, first: float) -> None:
    curve, decrease, curvature = CURVES[which]
    steps: list[float] = []

    def evaluate(step: float) -> Point:
        steps.append(step)
        return Point(step, *curve(step))

    start = Point(0.0, *curve(0.0))
    end = strong_wolfe(
        evaluate, start, first, decrease=decrease, curvature=curvature, evaluations=40
    )
    assert satisfied(start, end, decrease, curvature)
    assert end.step > 0
    assert end.step == steps[-1]
    assert len(steps) == len(set(steps))


@settings(max_examples=200, deadline=None)
@given(
    coefficients=st.tuples(
        st.floats(-5, -1e-2), st.floats(-3, 3), st.floats(-3, 3), st.floats(1e-2, 3)
    ),
    first=st.floats(1e-3, 1e3),
    curvature=st.floats(0.05, 0.9),
)
def test_the_conditions_hold_on_quartics(
    coefficients: tuple[float, ...], first: float, curvature: float
) -> None:
    c1, c2, c3, c4 = coefficients

    def evaluate(a: float) -> Point:
        value = ((c4 * a + c3) * a + c2) * a * a + c1 * a
        return Point(a, value, ((4 * c4 * a + 3 * c3) * a + 2 * c2) * a + c1)

    start = evaluate(0.0)
    end = strong_wolfe(evaluate, start, first, curvature=curvature, evaluations=60)
    assert satisfied(start, end, 1e-4, curvature)


def test_a_search_that_runs_out_keeps_the_lowest_point_that_descends_enough() -> None:
    def evaluate(a: float) -> Point:
        return Point(a, -a, -1.0)  # falls for ever: the second condition never holds

    end = strong_wolfe(evaluate, evaluate(0.0), 1.0, curvature=0.1, evaluations=4)
    assert end.step == 8.0

    def rising(a: float) -> Point:
        return Point(a, a, -1.0)  # the slope lies

    start = rising(0.0)
    assert strong_wolfe(rising, start, 1.0, evaluations=9) is start
    assert strong_wolfe(rising, start, 1.0, narrowest=2.0) is start


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_search_backs_off_from_values_that_are_not_finite(bad: float) -> None:
    def evaluate(a: float) -> Point:
        return Point(a, a * a - a, 2 * a - 1) if a < 0.8 else Point(a, bad, bad)

    end = strong_wolfe(evaluate, evaluate(0.0), 5.0, curvature=0.1)
    assert satisfied(evaluate(0.0), end, 1e-4, 0.1)
    assert 0.4 < end.step < 0.6


def rosenbrock(x: gn.Tensor) -> gn.Tensor:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def bowl(n: int) -> tuple[np.ndarray, np.ndarray]:
    """A positive definite matrix with eigenvalues 1 ... 100, and where its minimum is to be."""
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    return (q * np.geomspace(1, 100, n)) @ q.T, rng.normal(size=n)


class Problem:
    """A function to minimize over a vector, split into two parameters; counts evaluations."""

    def __init__(self, f: Callable[[gn.Tensor], gn.Tensor], start: np.ndarray) -> None:
        cut = start.size // 2
        self.parts = [
            gn.asarray(part.copy(), requires_grad=True) for part in (start[:cut], start[cut:])
        ]
        self.f = f
        self.evaluations = 0

    def closure(self) -> gn.Tensor:
        self.evaluations += 1
        loss = self.f(gn.concat(self.parts))
        loss.backward()
        return loss

    @property
    def x(self) -> np.ndarray:
        return np.concatenate([p.detach().numpy() for p in self.parts])

    @property
    def gradient(self) -> np.ndarray:
        return np.concatenate([p.grad.numpy() for p in self.parts])


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Point, Point, float]]:
    """Every line search that is made: where from, where to, and the curvature asked for."""
    made: list[tuple[Point, Point, float]] = []

    def recorded(evaluate: Any, start: Point, first: float, **options: Any) -> Point:
        end = strong_wolfe(evaluate, start, first, **options)
        made.append((start, end, options["curvature"]))
        return end

    monkeypatch.setattr(line_search, "strong_wolfe", recorded)
    return made


@pytest.mark.parametrize(("name", "given"), METHODS)
@pytest.mark.parametrize("n", [2, 10])
def test_rosenbrock(
    name: str, given: dict[str, Any], n: int, searches: list[tuple[Point, Point, float]]
) -> None:
    start = np.where(np.arange(n) % 2, 1.0, -1.2)
    problem = Problem(rosenbrock, start)
    optimizer = optim.create(
        name, problem.parts, max_iterations=400, tolerance_change=1e-14, **given
    )
    first = float(optimizer.step(problem.closure))
    assert first == pytest.approx(float(rosenbrock(gn.asarray(start))))
    np.testing.assert_allclose(problem.x, np.ones(n), atol=1e-6)
    assert problem.evaluations < (150 if name == "lbfgs" else 700)
    # Rounding decides the last searches, at the bottom of the valley.
    assert len(searches) > 10
    for begun, ended, curvature in searches[:-2]:
        assert satisfied(begun, ended, 1e-4, curvature)
        assert ended.value < begun.value


@pytest.mark.parametrize(("name", "given"), METHODS)
def test_a_quadratic_bowl(name: str, given: dict[str, Any]) -> None:
    a, target = bowl(12)
    matrix, goal = gn.asarray(a), gn.asarray(target)
    problem = Problem(lambda x: ((x - goal) * (matrix @ (x - goal))).sum() / 2, np.zeros(12))
    optimizer = optim.create(name, problem.parts, max_iterations=100, tolerance_change=0, **given)
    optimizer.step(problem.closure)
    assert np.abs(a @ (problem.x - target)).max() < 1e-6
    assert problem.evaluations < 150
    # The parameters and their gradients belong together, wherever the search looked last.
    np.testing.assert_allclose(problem.gradient, a @ (problem.x - target), atol=1e-12)


def test_the_two_loops_are_the_bfgs_matrix() -> None:
    problem = Problem(rosenbrock, np.array([-1.2, 1.0, -1.2, 1.0, 0.3, 0.2]))
    optimizer = optim.LBFGS(problem.parts, max_iterations=9, history_size=5)
    optimizer.step(problem.closure)
    pairs = [
        (s.numpy(), y.numpy())
        for s, y in zip(optimizer.vectors["s"], optimizer.vectors["y"], strict=True)
    ]
    assert len(pairs) == 5
    s, y = pairs[-1]
    matrix = np.eye(s.size) * (s @ y) / (y @ y)
    for s, y in pairs:
        # Nocedal and Wright 2006, equation 6.17.
        side = np.eye(s.size) - np.outer(s, y) / (s @ y)
        matrix = side @ matrix @ side.T + np.outer(s, s) / (s @ y)
    g = np.random.default_rng(1).normal(size=s.size)
    np.testing.assert_allclose(optimizer.direction(gn.asarray(g)).numpy(), -matrix @ g, rtol=1e-9)
    np.testing.assert_allclose(optimizer.direction(gn.asarray(y)).numpy(), -s, rtol=1e-7)


@pytest.mark.parametrize(("name", "given"), METHODS)
def test_one_iteration_a_step_goes_the_way_of_many(name: str, given: dict[str, Any]) -> None:
    start = np.array([-1.2, 1.0, -1.2, 1.0])
    at_once = Problem(rosenbrock, start)
    optim.create(name, at_once.parts, max_iterations=15, **given).step(at_once.closure)
    one_by_one = Problem(rosenbrock, start)
    optimizer = optim.create(name, one_by_one.parts, max_iterations=1, **given)
    for _ in range(15):
        optimizer.step(one_by_one.closure)
    np.testing.assert_array_equal(at_once.x, one_by_one.x)


@pytest.mark.parametrize(("name", "given"), METHODS)
def test_single_precision_goes_as_far_as_it_can(name: str, given: dict[str, Any]) -> None:
    problem = Problem(rosenbrock, np.array([-1.2, 1.0], np.float32))
    optimizer = optim.create(name, problem.parts, max_iterations=300, **given)
    optimizer.step(problem.closure)
    assert problem.x.dtype == np.float32
    np.testing.assert_allclose(problem.x, [1, 1], atol=5e-3)


@pytest.mark.parametrize("name", ["lbfgs", "conjugate_gradient"])
@pytest.mark.parametrize("limit", [1, 2, 7])
def test_evaluations_are_limited(name: str, limit: int) -> None:
    problem = Problem(rosenbrock, np.array([-1.2, 1.0]))
    before = float(rosenbrock(gn.asarray(problem.x)))
    optim.create(name, problem.parts, max_evaluations=limit).step(problem.closure)
    assert problem.evaluations == limit
    assert float(rosenbrock(gn.asarray(problem.x))) <= before


@pytest.mark.parametrize("name", ["lbfgs", "conjugate_gradient"])
def test_nothing_moves_where_nothing_can_be_gained(name: str) -> None:
    goal = Problem(rosenbrock, np.ones(4))
    optim.create(name, goal.parts).step(goal.closure)
    assert goal.evaluations == 1
    np.testing.assert_array_equal(goal.x, np.ones(4))

    for bad in (math.nan, math.inf):
        lost = Problem(lambda x, bad=bad: (x * bad).sum(), np.ones(4))
        assert not math.isfinite(float(optim.create(name, lost.parts).step(lost.closure)))
        assert lost.evaluations == 1
        np.testing.assert_array_equal(lost.x, np.ones(4))


@pytest.mark.parametrize("name", ["lbfgs", "conjugate_gradient"])
def test_a_gradient_that_points_uphill_stops_the_search(name: str) -> None:
    problem = Problem(rosenbrock, np.array([-1.2, 1.0, 0.5, 2.0]))
    start = problem.x.copy()

    def closure() -> gn.Tensor:
        loss = problem.closure()
        for part in problem.parts:
            part.grad = -part.grad
        return loss

    optim.create(name, problem.parts, max_search=8).step(closure)
    np.testing.assert_array_equal(problem.x, start)
    assert problem.evaluations == 9


@pytest.mark.parametrize("name", ["lbfgs", "conjugate_gradient"])
def test_a_bad_history_is_forgotten(name: str) -> None:
    problem = Problem(rosenbrock, np.array([-1.2, 1.0]))
    optimizer = optim.create(name, problem.parts, max_iterations=3)
    optimizer.step(problem.closure)
    for vectors in optimizer.vectors.values():
        for vector in vectors:
            vector.assign_(-1000 * vector)
    before = float(rosenbrock(gn.asarray(problem.x)))
    optimizer.step(problem.closure)
    assert float(rosenbrock(gn.asarray(problem.x))) < before


@pytest.mark.parametrize("name", ["lbfgs", "conjugate_gradient"])
def test_a_change_within_the_tolerance_is_the_last(
    name: str, searches: list[tuple[Point, Point, float]]
) -> None:
    for tolerance, expected in ((10.0, 1), (1e-9, 2)):
        searches.clear()
        problem = Problem(lambda x: (x**4).sum(), np.array([1.0, 0.7]))
        optimizer = optim.create(
            name, problem.parts, lr=0.5, tolerance_change=tolerance, max_iterations=2
        )
        optimizer.step(problem.closure)
        assert len(searches) == expected
        assert np.abs(problem.x).max() < 1


@pytest.mark.parametrize("name", ["lbfgs", "conjugate_gradient"])
def test_a_search_tells_how_it_went(name: str) -> None:
    def told(start: Any, f: Any = rosenbrock, **given: Any) -> line_search.Search:
        problem = Problem(f, np.array(start))
        optimizer = optim.create(name, problem.parts, **given)
        assert isinstance(optimizer, line_search.LineSearch)
        assert optimizer.found is None
        optimizer.step(problem.closure)
        found = optimizer.found
        assert found is not None
        assert found.evaluations == problem.evaluations
        if math.isfinite(found.loss):
            assert found.loss == pytest.approx(float(f(gn.asarray(problem.x))))
        return found

    start = [-1.2, 1.0]
    assert told(start, max_iterations=400, tolerance_grad=1e-3).stopped == "gradient"
    wide = told(start, max_iterations=400, tolerance_change=0.5)
    assert wide.stopped in ("change", "no descent")  # no descent wider than the tolerance
    few = told(start, max_iterations=3)
    assert (few.stopped, few.iterations) == ("iterations", 3)
    assert told(start, max_evaluations=7).stopped == "evaluations"
    assert told(start, lambda x: (x * math.nan).sum()).stopped == "not finite"
