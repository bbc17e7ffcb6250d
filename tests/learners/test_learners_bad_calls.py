"""Bad calls of learners: each with the type of its error and what the message has to say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import learners
from gradnet.errors import DataError, DTypeError, ShapeError, TrainingError

X = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0]])
Y = [0, 1, 1]
BINARY = [
    learners.Perceptron,
    learners.AveragedPerceptron,
    learners.LogisticRegression,
    learners.mistake_bound,
]
MULTICLASS = [learners.MulticlassPerceptron, learners.SoftmaxRegression]
LEARNERS = [*BINARY[:-1], *MULTICLASS, learners.LinearRegression]


def learn(kind: Any, X: Any, y: Any) -> Any:
    return kind(X, y) if kind is learners.mistake_bound else kind().fit(X, y)


BAD_FEATURES: list[tuple[Any, Any, type[Exception], str]] = [
    ([0.0, 1.0, 2.0], Y, ShapeError, r"X has shape \(3,\).*reshape\(-1, 1\)"),
    (np.zeros((3, 1, 2)), Y, ShapeError, r"\(n, features\)"),
    (np.zeros((0, 2)), [], DataError, "X is empty"),
    (np.array([[0.0, 1.0], [1.0, math.nan], [2.0, 1.0]]), Y, DataError, "X holds nan in row 1"),
    (np.array([[0.0, math.inf], [1.0, 1.0], [2.0, 1.0]]), Y, DataError, "X holds inf in row 0"),
    (X * 1j, Y, DTypeError, "real numbers"),
    (None, Y, TypeError, "X must be an array of numbers, not None"),
    ("table", Y, TypeError, "not str"),
    (X, None, TypeError, "y must be an array of numbers, not None"),
    (X, [0, 1], ShapeError, "3 rows, but y has 2 rows"),
    (X, 1.0, ShapeError, "only one value"),
    (X, [0.0, math.nan, 1.0], DataError, "y holds nan in row 1"),
]


@pytest.mark.parametrize("kind", [*LEARNERS, learners.mistake_bound])
@pytest.mark.parametrize(("features", "y", "error", "message"), BAD_FEATURES)
def test_bad_rows(kind: Any, features: Any, y: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        learn(kind, features, y)


BAD_SIGNS: list[tuple[Any, type[Exception], str]] = [
    ([1, 2, 1], DataError, "-1 and 1, or 0 and 1; got 2"),
    ([0.5, 1, 0], DataError, "got 0.5"),
    ([-1, 0, 1], DataError, "-1, 0 and 1 mixed"),
    ([-1, 0, -1], DataError, "it holds -1 and 0"),
    ([1, 1, 1], DataError, "both labels.*it holds 1"),
    (np.eye(3), ShapeError, r"\(3, 3\)"),
]


@pytest.mark.parametrize("kind", BINARY)
@pytest.mark.parametrize(("y", "error", "message"), BAD_SIGNS)
def test_bad_labels_of_two_classes(kind: Any, y: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        learn(kind, X, y)


BAD_CLASSES: list[tuple[Any, type[Exception], str]] = [
    ([-1, 0, 1], DataError, "0, 1, 2, ...; got -1"),
    ([0, 1.5, 1], DataError, "got 1.5"),
    ([2, 2, 2], DataError, "at least two classes; it holds 2"),
    (np.eye(3), ShapeError, "one label per row"),
]


@pytest.mark.parametrize("kind", MULTICLASS)
@pytest.mark.parametrize(("y", "error", "message"), BAD_CLASSES)
def test_bad_classes(kind: Any, y: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        learn(kind, X, y)


@pytest.mark.parametrize("kind", LEARNERS)
def test_predicting_needs_fitting_on_as_many_columns(kind: Any) -> None:
    with pytest.raises(TrainingError, match=f"this {kind.__name__} has not learned yet"):
        kind().predict(X)
    with pytest.raises(ShapeError, match="X has 3 columns, but the learner was fitted on 2"):
        kind().fit(X, Y).predict(np.zeros((1, 3)))


def hill(x: gn.Tensor) -> gn.Tensor:
    return -gn.sum(x**2)


def mean_square(w: gn.Tensor, x: gn.Tensor, y: gn.Tensor) -> gn.Tensor:
    return gn.mean((x @ w - y) ** 2)


BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: learners.Perceptron(0), ValueError, "epochs must be at least 1"),
    (lambda: learners.Perceptron(2.5), TypeError, "epochs"),
    (lambda: learners.Perceptron(lr=0.0), ValueError, "lr must be"),
    (lambda: learners.MulticlassPerceptron(seed=-1), ValueError, "seed"),
    (lambda: learners.LinearRegression("newton"), ValueError, "'closed' or 'descent'"),
    (lambda: learners.LinearRegression(lr=math.nan), ValueError, "lr"),
    (lambda: learners.LinearRegression().fit(X, np.zeros((3, 1, 1))), ShapeError, "(n, m)"),
    (lambda: learners.LogisticRegression(l2=-1.0), ValueError, "l2"),
    (lambda: learners.LogisticRegression(optimizer="newt").fit(X, Y), ValueError, "'newt'"),
    # Searches
    (lambda: learners.hill_climb(hill, [[1.0]]), ShapeError, r"a point \(d,\)"),
    (lambda: learners.hill_climb(hill, [1.0], step=0.0), ValueError, "step"),
    (lambda: learners.gradient_ascent(hill, [1.0], iterations=0), ValueError, "iterations"),
    (lambda: learners.gradient_ascent(lambda x: x, [1.0, 2.0]), ShapeError, r"shape \(2,\)"),
    (lambda: learners.hill_climb(lambda x: 1.0, [1.0]), ShapeError, "float"),
    (lambda: learners.gradient_ascent(hill, [math.nan]), DataError, "x holds nan"),
    (
        lambda: learners.finite_difference_ascent(hill, [1.0], epsilon=-1.0),
        ValueError,
        "epsilon",
    ),
    (lambda: learners.descend(mean_square, [0.0, 0.0], X, [1.0]), ShapeError, "1 rows"),
    (lambda: learners.descend(mean_square, [0, 0], X, Y, batch_size=0), ValueError, "batch_size"),
    (lambda: learners.descend(mean_square, [0, 0], X, Y, decay=-1.0), ValueError, "decay"),
    # Networks
    (lambda: learners.with_products([1.0, 2.0]), ShapeError, "X has shape"),
    (lambda: learners.collapse(gn.nn.MLP((2, 3, 1))), ValueError, r"MLP\[0\].*not linear"),
    (lambda: learners.collapse(gn.nn.Sequential(gn.nn.Tanh())), ValueError, r"Sequential\[0\]"),
    (lambda: learners.collapse(gn.nn.Sequential()), ValueError, "no layer to collapse"),
    (lambda: learners.construct(gn.sin, 0), ValueError, "width"),
    (lambda: learners.construct(gn.sin, 3, (1.0, 0.0)), ValueError, "low < high"),
    (lambda: learners.construct(lambda x: x[:2], 3), ShapeError, "a value for each"),
    (lambda: learners.construct(lambda x: x / 0, 3), DataError, r"f\(x\) holds nan"),
    (lambda: learners.approximate(gn.sin, method="guess"), ValueError, "'construct' or 'learn'"),
    # Restarts
    (lambda: learners.Restarts((2, 1), members=0).fit(X, Y), ValueError, "members"),
    (lambda: learners.Restarts((2, 1), optimizer="lbfgs").fit(X, Y), ValueError, "line search"),
    (lambda: learners.Restarts((2, 1), optimizer="adm").fit(X, Y), ValueError, "'adm'"),
    (lambda: learners.Restarts((2, 1)).predict(X), TrainingError, "call fit first"),
    (lambda: learners.Restarts((2, 1)).spread(), TrainingError, "call fit first"),
    (lambda: learners.Restarts((3, 1)).fit(X, Y), ShapeError, r"\(3, 2\)"),
    (lambda: learners.Restarts((2, 2), output="softmax").fit(X, [0, 1, 2]), DataError, "class 2"),
    # Distributions
    (lambda: learners.MixtureDensityNetwork(0), ValueError, "at least 1 component"),
    (lambda: learners.MixtureDensityNetwork().sample(X), TrainingError, "call fit first"),
    (lambda: learners.MixtureDensityNetwork().fit(X, [1.0]), ShapeError, "1 rows"),
    (lambda: learners.GAN(noise=0), ValueError, "noise"),
    (lambda: learners.GAN(blur=-1.0), ValueError, "blur"),
    (lambda: learners.GAN().sample(3), TrainingError, "call fit first"),
    (lambda: learners.GAN().predict(X), TrainingError, "call fit first"),
    (lambda: learners.GAN().fit(X[0]), ShapeError, "X has shape"),
    (lambda: learners.coverage(X, np.zeros((2, 3))), ShapeError, "equal columns"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_calls(call: Any, error: type[Exception], message: str) -> None:
    with np.errstate(all="ignore"), pytest.raises(error, match=message):
        call()
