"""Perceptrons: the same weights as scikit-learn's and as the rule row by row; their bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import learners


def overlapping(rows: int, columns: int, seed: int) -> tuple[Any, Any]:
    """Two classes, -1 and 1, that no plane separates, as whole numbers: sums are exact."""
    rng = np.random.default_rng(seed)
    X = rng.integers(-9, 10, size=(rows, columns)).astype(float)
    y = np.sign(X @ rng.normal(size=columns) + rng.normal(size=rows) * 6)
    return X, y


def separable(rows: int, columns: int, seed: int, gap: float = 0.2) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, size=(rows, columns))
    w = rng.normal(size=columns)
    distance = (X @ w + 0.1) / np.linalg.norm(w)
    kept = abs(distance) > gap
    return X[kept], np.sign(distance[kept])


@pytest.mark.parametrize(
    ("rows", "epochs", "lr", "bias"), [(7, 3, 1.0, True), (500, 4, 0.5, False)]
)
@pytest.mark.parametrize("seed", range(3))
def test_weights_are_those_of_scikit_learn(
    rows: int, epochs: int, lr: float, bias: bool, seed: int, backend: Any
) -> None:
    from sklearn.linear_model import Perceptron

    X, y = overlapping(rows, 4, seed)
    ours = learners.Perceptron(epochs, lr=lr, bias=bias).fit(X, y)
    theirs = Perceptron(
        max_iter=len(ours.trace), tol=None, shuffle=False, eta0=lr, fit_intercept=bias
    ).fit(X, y)
    np.testing.assert_array_equal(ours.weights.numpy(), theirs.coef_[0])
    assert ours.bias.item() == np.ravel(theirs.intercept_)[0]
    np.testing.assert_array_equal(ours.predict(X).numpy(), theirs.predict(X))


def row_by_row(X: Any, y: Any, classes: int, epochs: int) -> tuple[Any, Any, list[int]]:
    """The multiclass rule as it is written: last weights, their mean over rows, mistakes."""
    x = np.column_stack([X, np.ones(len(X))])
    w, total, trace = np.zeros((x.shape[1], classes)), np.zeros((x.shape[1], classes)), []
    for _ in range(epochs):
        trace.append(0)
        for row, label in zip(x, y, strict=True):
            guess = (row @ w).argmax()
            if guess != label:
                trace[-1] += 1
                w[:, label] += row
                w[:, guess] -= row
            total += w
        if not trace[-1]:
            break
    return w, total / (len(trace) * len(x)), trace


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize(("rows", "scale"), [(9, 0.1), (300, 3.0), (300, 0.02)])
def test_multiclass_is_its_rule(averaged: bool, rows: int, scale: float, backend: Any) -> None:
    rng = np.random.default_rng(rows)
    y = np.arange(rows) % 3
    X = np.round(np.eye(3)[y] + scale * rng.normal(size=(rows, 3)), 2) * 64
    last, mean, trace = row_by_row(X, y, 3, 5)
    ours = learners.MulticlassPerceptron(5, averaged=averaged).fit(X, y)
    assert ours.trace == trace
    assert ours.converged == (trace[-1] == 0)
    expected = mean if averaged else last
    np.testing.assert_allclose(ours.weights.numpy(), expected[:-1], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ours.bias.numpy(), expected[-1], rtol=1e-9, atol=1e-9)
    scores = X @ expected[:-1] + expected[-1]
    np.testing.assert_array_equal(ours.predict(X).numpy(), scores.argmax(axis=1))


def test_averaging_is_the_mean_of_the_weights_after_every_row(backend: Any) -> None:
    X, y = overlapping(150, 3, 5)
    x, w, total = np.column_stack([X, np.ones(150)]), np.zeros(4), np.zeros(4)
    for _ in range(3):
        for row, label in zip(x, y, strict=True):
            if label * (row @ w) <= 0:
                w = w + label * row
            total += w
    ours = learners.AveragedPerceptron(3).fit(X, y)
    np.testing.assert_allclose(ours.weights.numpy(), total[:-1] / 450, rtol=1e-12)
    assert ours.bias.item() == pytest.approx(total[-1] / 450, rel=1e-12)


def test_averaging_settles_what_thrashes() -> None:
    last, mean = [], []
    for seed in range(5):
        X, y = overlapping(400, 4, seed)
        for kind, found in ((learners.Perceptron, last), (learners.AveragedPerceptron, mean)):
            learner = kind(5).fit(X[:200], y[:200])
            found.append((learner.predict(X[200:]).numpy() == y[200:]).mean())
    assert np.mean(mean) > np.mean(last) + 0.02


# The bound


@pytest.mark.parametrize("seed", range(4))
def test_no_run_on_separable_rows_passes_the_bound(seed: int) -> None:
    X, y = separable(200, 2 + seed, seed, gap=0.1)
    plain = learners.Perceptron(500).fit(X, y)
    bound = plain.bound(X, y)
    assert plain.converged
    assert (plain.predict(X).numpy() == y).all()
    assert 0 < plain.mistakes <= bound.mistakes <= bound.mistakes_by_features
    for order in range(2):
        again = learners.Perceptron(500, shuffle=True, seed=order).fit(X, y)
        assert again.converged
        assert again.mistakes <= bound.mistakes


@pytest.mark.parametrize("bias", [False, True])
def test_the_margin_is_the_largest(bias: bool, backend: Any) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    X, y = separable(40, 3, 1) if bias else (X := separable(40, 3, 1)[0], np.sign(X @ [1, 2, -1]))
    x = np.column_stack([X, np.ones(len(X))]) if bias else X
    start = learners.Perceptron(2000, bias=bias).fit(X, y)
    w = np.append(start.weights.numpy(), start.bias.numpy()) if bias else start.weights.numpy()
    best = optimize.minimize(
        lambda w: w @ w / 2,
        w / (y * (x @ w)).min(),
        jac=lambda w: w,
        constraints={
            "type": "ineq",
            "fun": lambda w: y * (x @ w) - 1,
            "jac": lambda w: y[:, None] * x,
        },
        options={"ftol": 1e-12, "maxiter": 500},
    )
    largest = 1 / np.linalg.norm(best.x)
    found = learners.mistake_bound(X, y, bias=bias)
    assert largest * 0.998 <= found.margin <= largest * (1 + 1e-6)
    assert found.radius == pytest.approx(np.linalg.norm(x, axis=1).max())
    assert found.features == x.shape[1]


def test_the_bound_of_two_points() -> None:
    bound = learners.mistake_bound([[2.0, 0.0], [-1.0, 0.0]], [1, -1], bias=False)
    assert bound == (pytest.approx(1), 2, 2)
    assert bound.mistakes == pytest.approx(4)
    assert bound.mistakes_by_features == pytest.approx(2)


def test_it_thrashes_where_no_plane_separates() -> None:
    X, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [-1, 1, 1, -1]
    learner = learners.Perceptron(50).fit(X, y)
    assert len(learner.trace) == 50
    assert not learner.converged
    assert min(learner.trace[5:]) > 0
    assert learner.mistakes == sum(learner.trace)
    bound = learner.bound(X, y)
    assert bound.mistakes == bound.mistakes_by_features == float("inf")
    assert bound.margin == 0


# What goes in and comes out


@pytest.mark.parametrize("labels", [(-1, 1), (0, 1), (False, True), (0.0, 1.0)])
def test_predictions_are_in_the_labels_given(labels: Any) -> None:
    X = np.array([[0.0, 1.0], [1.0, 0.0], [0.2, 1.0]])
    y = np.array([labels[1], labels[0], labels[1]])
    predicted = learners.Perceptron().fit(X, y).predict(X)
    assert predicted.dtype == gn.int64
    np.testing.assert_array_equal(predicted.numpy(), y.astype(int))


def test_it_computes_in_the_dtype_given() -> None:
    X, y = separable(60, 2, 0)
    assert learners.Perceptron().fit(X.astype(np.float32), y).weights.dtype == gn.float32
    assert learners.Perceptron().fit(X, y[:, None]).weights.dtype == gn.float64
    assert learners.Perceptron().fit((X * 9).astype(int), y).weights.dtype == gn.float32


def test_shuffling_follows_the_seed() -> None:
    X, y = overlapping(100, 3, 0)
    runs = [learners.Perceptron(4, shuffle=True, seed=s).fit(X, y) for s in (0, 0, 1)]
    assert runs[0].trace == runs[1].trace
    assert runs[0].weights.tolist() == runs[1].weights.tolist()
    assert runs[0].weights.tolist() != runs[2].weights.tolist()


def test_digits_are_learned() -> None:
    parts = gn.data.load("digits").split(test=0.2, seed=0)
    learner = learners.MulticlassPerceptron(5, averaged=True).fit(parts.train.X, parts.train.y)
    assert (learner.predict(parts.test.X).numpy() == parts.test.y).mean() > 0.93
    assert learner.trace[-1] < learner.trace[0]
