"""Perceptron: the rule, its end, and scikit-learn's habits."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from gradnet.estimators import Perceptron

Arrays = tuple[Any, Any]


def by_hand(X: Any, y: Any, epochs: int) -> tuple[Any, float]:
    """Rosenblatt's rule for y of -1 and 1: w = w + y x where y (w.x + b) < 0, half of it at 0."""
    w, b = np.zeros(X.shape[1]), 0.0
    for _ in range(epochs):
        for x, sign in zip(X, y, strict=True):
            step = (1 - np.sign(sign * (w @ x + b))) / 2 * sign
            w, b = w + step * x, b + step
    return w, b


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_rule_row_by_row(classes: Arrays) -> None:
    X, y = classes
    model = Perceptron(shuffle=False, max_iter=3, tol=None).fit(X, y == "a")
    w, b = by_hand(X, np.where(y == "a", 1, -1), 3)
    np.testing.assert_allclose(model.coef_, [w], atol=1e-12)
    np.testing.assert_allclose(model.intercept_, [b])
    assert (model.n_iter_, model.t_) == (3, 360)


def test_separable_classes_end_without_a_mistake() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    y = np.array(["no", "yes"])[(X @ [1.0, -2.0, 0.5] > 0).astype(int)]
    X += np.where(y == "yes", 0.3, -0.3)[:, None] * [1.0, -2.0, 0.5]
    model = Perceptron(tol=None, random_state=0).fit(X, y)
    assert model.score(X, y) == 1.0
    assert model.n_iter_ < 100
    assert model.loss_curve_[-1] == 0.0
    assert list(model.classes_) == ["no", "yes"]


def test_several_classes_compete(classes: Arrays) -> None:
    X, y = classes
    with pytest.warns(ConvergenceWarning, match="still mistakes"):
        model = Perceptron(random_state=0, max_iter=3, tol=None).fit(X, y)
    assert model.coef_.shape == (3, 5)
    assert model.decision_function(X).shape == (120, 3)
    assert model.score(X, y) > 0.8
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(sparse.csr_array(X)), model.predict(X))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_it_goes_on_from_its_weights(classes: Arrays) -> None:
    X, y = classes
    given: dict[str, Any] = {"shuffle": False, "tol": None, "fit_intercept": False}
    whole = Perceptron(max_iter=4, **given).fit(X, y)
    parts = Perceptron(**given)
    for _ in range(4):
        parts.partial_fit(X, y, classes=["a", "b", "c"])
    np.testing.assert_allclose(parts.coef_, whole.coef_)
    warm = Perceptron(max_iter=2, warm_start=True, **given).fit(X, y).fit(X, y)
    np.testing.assert_allclose(warm.coef_, whole.coef_)
    assert not whole.intercept_.any()


def test_bad_calls(classes: Arrays) -> None:
    X, y = classes
    with pytest.raises(ValueError, match="one class"):
        Perceptron().fit(X, np.zeros(120))
    with pytest.raises(ValueError, match="classes must be passed"):
        Perceptron().partial_fit(X, y)
    model = Perceptron().partial_fit(X, y, classes=["a", "b", "c"])
    with pytest.raises(ValueError, match="not the same"):
        model.partial_fit(X, y, classes=["a", "b"])
    with pytest.raises(ValueError, match="not there before"):
        model.partial_fit(X, np.full(120, "d"))
    with pytest.raises(ValueError, match="eta0"):
        Perceptron(eta0=0.0).fit(X, y)
