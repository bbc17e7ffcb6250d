"""Learners on a far device without float64: they know Tensors only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from strict_backend import StrictBackend

import gradnet as gn
from gradnet import learners

X = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
Y = (X[:, 0] > 0.1).astype(np.int32)
CLASSES = (Y + (X[:, 1] > 0)).astype(np.int32)


@pytest.fixture
def strict() -> Iterator[StrictBackend]:
    device = StrictBackend()
    with gn.backends.use(device):
        yield device


def mean_square(w: gn.Tensor, x: gn.Tensor, y: gn.Tensor) -> gn.Tensor:
    return gn.mean((x @ w - y) ** 2)


CALLS: dict[str, Any] = {
    "perceptron": lambda: learners.Perceptron(3, shuffle=True).fit(X, Y).predict(X),
    "averaged": lambda: learners.AveragedPerceptron(3).fit(X, Y).predict(X),
    "multiclass": lambda: learners.MulticlassPerceptron(3).fit(X, CLASSES).predict(X),
    "bound": lambda: learners.mistake_bound(X, Y, iterations=20),
    "descent": lambda: learners.LinearRegression("descent", steps=3, lr=0.1).fit(X, X[:, 0]),
    "logistic": lambda: learners.LogisticRegression(epochs=2).fit(X, Y).predict_proba(X),
    "softmax": lambda: learners.SoftmaxRegression(epochs=2).fit(X, CLASSES).predict(X),
    "ascents": lambda: learners.compare_ascents(
        lambda x: -gn.sum(x**2), gn.asarray([1.0, 2.0]), iterations=2
    ),
    "descents": lambda: learners.compare_descents(
        mean_square, gn.zeros(3), X, gn.asarray(X[:, 0]), epochs=1
    ),
    "features": lambda: learners.FeatureMap(learners.Perceptron(3)).fit(X, Y).predict(X),
    "collapse": lambda: learners.collapse(gn.nn.MLP((3, 4, 2), "identity"))(gn.asarray(X)),
    "mixture": lambda: learners.MixtureDensityNetwork(epochs=1).fit(X, X[:, :1]).sample(X, 2),
    "gan": lambda: learners.GAN(hidden=(4,), steps=2, batch_size=8).fit(X).predict(X),
    "coverage": lambda: learners.coverage(learners.ring(20), learners.ring_centres()),
    "restarts": lambda: (learners.Restarts((3, 4, 1), members=3, epochs=2).fit(X, Y).predict(X),),
}


@pytest.mark.parametrize("name", CALLS)
def test_learners_know_tensors_only(name: str, strict: StrictBackend) -> None:
    CALLS[name]()
    assert sum(strict.calls.values()) > 5
