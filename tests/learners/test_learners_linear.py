"""Linear models against scikit-learn, closed forms and their own rules by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import learners

RNG = np.random.default_rng(3)
X = RNG.normal(size=(120, 4)) * [1, 2, 0.5, 1] + [0, 3, -1, 0.5]
SCALED = (X - X.mean(axis=0)) / X.std(axis=0)
NOISE = RNG.normal(size=(120, 2))
Y = X @ RNG.normal(size=(4, 2)) + [5, -2] + NOISE
LABELS = (X[:, 0] - X[:, 2] + NOISE[:, 0] > 1).astype(int)
CLASSES = (X[:, 0] + NOISE[:, 1] > 0).astype(int) + (X[:, 1] + NOISE[:, 0] > 3)


@pytest.mark.parametrize("y", [Y, Y[:, 0]])
def test_least_squares_is_that_of_scikit_learn(y: Any, backend: Any) -> None:
    from sklearn.linear_model import LinearRegression

    ours, theirs = learners.LinearRegression().fit(X, y), LinearRegression().fit(X, y)
    np.testing.assert_allclose(ours.weights.numpy(), theirs.coef_.T, rtol=1e-10)
    np.testing.assert_allclose(ours.bias.numpy(), theirs.intercept_, rtol=1e-10)
    np.testing.assert_allclose(ours.predict(X).numpy(), theirs.predict(X), rtol=1e-10)
    assert ours.trace == [pytest.approx(((theirs.predict(X) - y) ** 2).mean())]


def test_columns_that_depend_on_one_another_get_the_shortest_weights() -> None:
    doubled = np.column_stack([X, X[:, 0]])
    ours = learners.LinearRegression().fit(doubled, Y[:, 0])
    assert ours.weights[0].item() == pytest.approx(ours.weights[4].item())
    expected = np.linalg.lstsq(doubled - doubled.mean(0), Y[:, 0] - Y[:, 0].mean(), rcond=None)[0]
    np.testing.assert_allclose(ours.weights.numpy(), expected, rtol=1e-8)


@pytest.mark.parametrize("y", [Y, Y[:, 0]])
def test_descent_comes_to_the_closed_form_and_never_goes_up(y: Any) -> None:
    closed = learners.LinearRegression().fit(SCALED, y)
    down = learners.LinearRegression("descent", steps=400).fit(SCALED, y)
    np.testing.assert_allclose(down.weights.numpy(), closed.weights.numpy(), atol=1e-6)
    np.testing.assert_allclose(
        down.predict(SCALED).numpy(), closed.predict(SCALED).numpy(), atol=1e-6
    )
    assert len(down.trace) == 401
    assert (np.diff(down.trace) <= 1e-12).all()


def test_a_step_of_descent_by_hand() -> None:
    # L = 1/2 ((0 - 1)^2 + (0 - 3)^2) = 5; dL/dw = 1/2 (2 (-1) 1 + 2 (-3) 2) = -7; dL/db = -4.
    learner = learners.LinearRegression("descent", lr=0.1, steps=1).fit([[1.0], [2.0]], [1, 3])
    assert learner.weights.item() == pytest.approx(0.7)
    assert learner.bias.item() == pytest.approx(0.4)
    assert learner.trace == [5, pytest.approx((0.1**2 + 1.2**2) / 2, rel=1e-5)]


def scikit_learns(C: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=C, tol=1e-10, max_iter=10_000)


def test_logistic_regression_is_that_of_scikit_learn(backend: Any) -> None:
    ours, theirs = learners.LogisticRegression().fit(X, LABELS), scikit_learns(np.inf)
    theirs.fit(X, LABELS)
    np.testing.assert_allclose(ours.weights.numpy()[:, 0], theirs.coef_[0], atol=1e-4)
    np.testing.assert_allclose(ours.bias.numpy(), theirs.intercept_, atol=1e-4)
    np.testing.assert_allclose(ours.predict_proba(X).numpy(), theirs.predict_proba(X), atol=1e-4)
    np.testing.assert_array_equal(ours.predict(X).numpy(), theirs.predict(X))
    assert ours.trace == ours.history["loss"].tolist()
    assert ours.trace[0] == pytest.approx(math.log(2))


def test_softmax_regression_is_that_of_scikit_learn(backend: Any) -> None:
    ours, theirs = learners.SoftmaxRegression().fit(X, CLASSES), scikit_learns(np.inf)
    theirs.fit(X, CLASSES)
    np.testing.assert_allclose(ours.weights.numpy(), theirs.coef_.T, atol=1e-4)
    np.testing.assert_allclose(ours.predict_proba(X).numpy(), theirs.predict_proba(X), atol=1e-4)
    np.testing.assert_array_equal(ours.predict(X).numpy(), theirs.predict(X))


@pytest.mark.parametrize("l2", [0.001, 0.1])
def test_the_penalty_is_that_of_scikit_learn(l2: float) -> None:
    theirs = scikit_learns(1 / (2 * l2 * len(X)))
    for kind, y in ((learners.LogisticRegression, LABELS), (learners.SoftmaxRegression, CLASSES)):
        weights = kind(l2=l2).fit(X, y).weights.numpy()
        expected = theirs.fit(X, y).coef_.T
        np.testing.assert_allclose(weights, expected, atol=1e-4)


def test_the_penalty_holds_the_weights_of_separable_rows() -> None:
    separable = (X[:, 0] > 0).astype(int)
    held = learners.LogisticRegression(l2=0.1).fit(X, separable)
    assert abs(held.weights.numpy()).max() < 2


def test_a_step_of_logistic_regression_is_the_rule() -> None:
    w = learners.LogisticRegression(optimizer="sgd", lr=0.5, epochs=1).fit(X, 2 * LABELS - 1)
    np.testing.assert_allclose(
        w.weights.numpy()[:, 0], 0.5 * ((LABELS - 0.5)[:, None] * X).mean(axis=0), rtol=1e-12
    )
    assert w.bias.item() == pytest.approx(0.5 * (LABELS - 0.5).mean())
    assert set(w.predict(X).tolist()) == {-1, 1}


def test_a_step_of_softmax_regression_is_the_rule() -> None:
    w = learners.SoftmaxRegression(optimizer="sgd", lr=0.5, epochs=1).fit(X, CLASSES)
    short = np.eye(3)[CLASSES] - 1 / 3
    np.testing.assert_allclose(
        w.weights.numpy(), 0.5 * X.T @ short / len(X), rtol=1e-12, atol=1e-14
    )


def test_stochastic_descent_comes_near() -> None:
    best = learners.LogisticRegression().fit(SCALED, LABELS)
    near = learners.LogisticRegression(optimizer="sgd", lr=0.05, epochs=10, batch_size=1)
    near.fit(SCALED, LABELS)
    assert best.trace[-1] <= near.trace[-1] < best.trace[-1] + 0.05
    assert near.weights.dtype == gn.float64
