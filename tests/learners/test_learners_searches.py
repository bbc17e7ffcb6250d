"""Hill climbing, measured slopes and gradients; batch, mini-batch and stochastic descent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import learners

TOP = np.array([1.0, -0.5])


def hill(x: gn.Tensor) -> gn.Tensor:
    return 2 - gn.sum(gn.asarray([1.0, 3.0], dtype=gn.float64) * (x - TOP) ** 2)


def test_all_ways_lead_up_and_cost_what_they_say(backend: Any) -> None:
    ways = learners.compare_ascents(hill, np.zeros(2), iterations=60)
    assert {name: way.evaluations for name, way in ways.items()} == {
        "hill climbing": 1 + 60 * 4,
        "finite differences": 60 * 4,
        "gradient": 60,
    }
    for way in ways.values():
        assert len(way.points) == len(way.trace) == 61
        np.testing.assert_allclose(way.points[-1], TOP, atol=1e-5)
        assert way.trace[0] == pytest.approx(0.25)
        assert way.trace[-1] == pytest.approx(2, abs=1e-9)
        assert (np.diff(way.trace) >= -1e-12).all()
    np.testing.assert_allclose(
        ways["finite differences"].points, ways["gradient"].points, atol=1e-8
    )


def test_a_gradient_step_by_hand() -> None:
    way = learners.gradient_ascent(hill, [0.0, 0.0], lr=0.1, iterations=1)
    np.testing.assert_allclose(way.points[1], [0.2, -0.3], rtol=1e-6)


def test_hill_climbing_takes_the_best_neighbour_and_shrinks_its_step() -> None:
    way = learners.hill_climb(hill, np.zeros(2), step=0.5, iterations=4)
    # The first two are as good, then the second is better; on the top no step is.
    assert way.points == [[0, 0], [0.5, 0], [0.5, -0.5], [1, -0.5], [1, -0.5]]
    needs_less = learners.hill_climb(hill, np.array([0.9, -0.5]), step=0.5, iterations=4)
    assert needs_less.points[2] == [0.9, -0.5]
    assert needs_less.trace[-1] > needs_less.trace[0]


# Descent

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 2))
Y = X @ [1.5, -1.0] + 0.3 * RNG.normal(size=64)


def loss(w: gn.Tensor, x: gn.Tensor, y: gn.Tensor) -> gn.Tensor:
    return gn.mean((x @ w - y) ** 2)


def test_descents_on_one_surface(backend: Any) -> None:
    ways = learners.compare_descents(loss, [-1.0, 1.0], X, Y, lr=0.1, epochs=8)
    assert {name: len(way.points) - 1 for name, way in ways.items()} == {
        "batch": 8,
        "mini-batch": 32,
        "stochastic": 512,
    }
    best = np.linalg.lstsq(X, Y, rcond=None)[0]
    lowest = ((X @ best - Y) ** 2).mean()
    for way in ways.values():
        assert way.rows == 8 * 64
        assert way.points[0] == [-1, 1]
        assert way.trace[0] == pytest.approx(((X @ [-1, 1] - Y) ** 2).mean())
        assert way.trace[-1] == pytest.approx(((X @ way.points[-1] - Y) ** 2).mean())
        assert way.trace[-1] >= lowest
    # All rows: straight down, and slowest for the same work; one row: fast, and never quite there.
    assert (np.diff(ways["batch"].trace) < 0).all()
    assert (np.diff(ways["stochastic"].trace) > 0).any()
    assert ways["mini-batch"].trace[-1] < ways["batch"].trace[-1]
    assert ways["stochastic"].trace[64] < ways["batch"].trace[1]


def test_batch_descent_is_the_rule(backend: Any) -> None:
    way = learners.descend(loss, [0.0, 0.0], X, Y, lr=0.1, decay=0.5, epochs=3)
    w = np.zeros(2)
    for step, point in enumerate(way.points[1:]):
        w = w - 0.1 / (1 + 0.5 * step) * 2 * X.T @ (X @ w - Y) / 64
        np.testing.assert_allclose(point, w, rtol=1e-10)


def test_a_rate_that_falls_brings_stochastic_descent_to_rest() -> None:
    options: dict[str, Any] = {"batch_size": 1, "lr": 0.1, "epochs": 2}
    wild = learners.descend(loss, [0.0, 0.0], X, Y, **options)
    calm = learners.descend(loss, [0.0, 0.0], X, Y, decay=0.05, **options)
    assert np.ptp(calm.trace[-64:]) < np.ptp(wild.trace[-64:])
    again = learners.descend(loss, [0.0, 0.0], X, Y, **options)
    other = learners.descend(loss, [0.0, 0.0], X, Y, seed=1, **options)
    assert again.points == wild.points != other.points


def test_the_last_batch_may_be_smaller() -> None:
    way = learners.descend(loss, [0.0, 0.0], X[:10], Y[:10], batch_size=4, epochs=2)
    assert len(way.points) == 7
    assert way.rows == 20


def test_the_surface() -> None:
    found = learners.surface(loss, X, Y, [0.0, 1.0, 2.0], [0.0, -1.0])
    assert np.shape(found) == (2, 3)
    assert found[1][2] == pytest.approx(((X @ [2, -1] - Y) ** 2).mean())
