"""MLPClassifier and MLPRegressor: scikit-learn's fits, and what goes beyond them."""

from __future__ import annotations

import pickle
from typing import Any

import joblib
import numpy as np
import pytest
from scipy import sparse
from sklearn import neural_network
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gradnet.estimators import MLPClassifier, MLPRegressor
from gradnet.training import register_metric
from gradnet.training.metrics import METRICS

Arrays = tuple[Any, Any]
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def close(a: list[Any], b: list[Any], tolerance: float) -> None:
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, atol=tolerance)


# As scikit-learn's


@pytest.mark.parametrize(
    "given",
    [
        {"solver": "sgd", "learning_rate_init": 0.1},
        {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.1, "alpha": 1.0},
        {"solver": "adam", "activation": "logistic"},
        {"solver": "adam", "activation": "tanh", "alpha": 0.1, "shuffle": False},
    ],
)
@pytest.mark.parametrize("two", [True, False])
def test_a_full_batch_goes_the_way_of_theirs(
    classes: Arrays, given: dict[str, Any], two: bool
) -> None:
    X, y = classes
    y = y == "a" if two else y
    both = [
        kind(hidden_layer_sizes=(7, 4), max_iter=30, random_state=3, **given).fit(X, y)
        for kind in (neural_network.MLPClassifier, MLPClassifier)
    ]
    theirs, ours = both
    # Adam's epsilon stands elsewhere by a factor that goes to 1.
    close(theirs.coefs_, ours.coefs_, 1e-3 if given["solver"] == "adam" else 1e-10)
    close(theirs.intercepts_, ours.intercepts_, 1e-3 if given["solver"] == "adam" else 1e-10)
    assert (theirs.n_iter_, theirs.t_) == (ours.n_iter_, ours.t_)
    assert (theirs.n_layers_, theirs.n_outputs_) == (ours.n_layers_, ours.n_outputs_)
    assert theirs.out_activation_ == ours.out_activation_
    assert list(theirs.classes_) == list(ours.classes_)
    # Theirs takes the penalty before each step, ours after it.
    np.testing.assert_allclose(theirs.loss_curve_, ours.loss_curve_, atol=0.02)
    np.testing.assert_allclose(theirs.predict_proba(X), ours.predict_proba(X), atol=1e-3)


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
@pytest.mark.parametrize("weighed", [True, False])
def test_a_regression_goes_the_way_of_theirs(values: Arrays, loss: str, weighed: bool) -> None:
    X, y = values
    y = np.round(np.exp(0.5 * y))
    weight = np.arange(len(y)) % 3 if weighed else None
    theirs, ours = (
        kind(loss, (6,), random_state=0, max_iter=20, solver="sgd").fit(X, y, weight)
        for kind in (neural_network.MLPRegressor, MLPRegressor)
    )
    close(theirs.coefs_, ours.coefs_, 1e-9)
    np.testing.assert_allclose(theirs.loss_curve_, ours.loss_curve_, rtol=1e-4)
    np.testing.assert_allclose(theirs.predict(X), ours.predict(X), atol=1e-8)
    assert ours.out_activation_ == theirs.out_activation_


def test_the_same_rows_are_held_out(classes: Arrays) -> None:
    X, y = classes
    y = y == "b"  # of more than two classes theirs are not held out in equal shares
    theirs, ours = (
        kind(5, random_state=1, max_iter=25, early_stopping=True, solver="sgd").fit(X, y)
        for kind in (neural_network.MLPClassifier, MLPClassifier)
    )
    assert theirs.validation_scores_ == pytest.approx(ours.validation_scores_)
    assert theirs.best_validation_score_ == pytest.approx(ours.best_validation_score_)
    assert ours.best_loss_ is None
    close(theirs.coefs_, ours.coefs_, 1e-9)


@pytest.mark.parametrize("solver", ["lbfgs", "conjugate_gradient"])
def test_solvers_that_search(classes: Arrays, solver: str) -> None:
    X, y = classes
    model = MLPClassifier(8, "tanh", solver=solver, alpha=1.0, random_state=0, max_iter=500)
    with np.errstate(all="raise"):
        model.fit(X, y)
    theirs = neural_network.MLPClassifier(
        8, "tanh", solver="lbfgs", alpha=1.0, random_state=0, max_iter=500
    ).fit(X, y)
    assert model.loss_ == pytest.approx(theirs.loss_, rel=0.1)
    assert not hasattr(model, "partial_fit")
    with pytest.warns(ConvergenceWarning, match="all its iterations"):
        MLPClassifier(solver=solver, max_iter=2).fit(X, y)


# Beyond it


@pytest.mark.parametrize("solver", ["adamw", "nadam", "rmsprop", "lion", "adagrad"])
@pytest.mark.parametrize("activation", ["gelu", "prelu", "maxout"])
def test_our_solvers_and_activations(classes: Arrays, solver: str, activation: str) -> None:
    X, y = classes
    model = MLPClassifier(
        6, activation, solver=solver, learning_rate_init=0.05, max_iter=40, random_state=0
    ).fit(X, y)
    assert model.score(X, y) > 0.7
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_a_schedule_of_ours(classes: Arrays) -> None:
    X, y = classes
    model = MLPClassifier(4, learning_rate="cosine", max_iter=12, random_state=0).fit(X, y)
    assert model.learning_rate_ < 1e-5


def test_rows_of_classes_that_weigh_more_are_found_more_often(classes: Arrays) -> None:
    X, y = classes
    given = {"max_iter": 15, "random_state": 0}
    plain = MLPClassifier(4, **given).fit(X, y)
    heavy = MLPClassifier(4, class_weight={"b": 50.0}, **given).fit(X, y)
    assert (heavy.predict(X) == "b").sum() > (plain.predict(X) == "b").sum()
    rare = np.flatnonzero((y != "b") | (np.arange(len(y)) < 20))
    balanced = MLPClassifier(4, class_weight="balanced", **given).fit(X[rare], y[rare])
    counts = {c: (y[rare] == c).sum() for c in "abc"}
    by_hand = np.array([len(rare) / (3 * counts[c]) for c in y[rare]])
    same = MLPClassifier(4, **given).fit(X[rare], y[rare], by_hand)
    close(balanced.coefs_, same.coefs_, 1e-12)
    with pytest.raises(ValueError, match="which y has not"):
        MLPClassifier(class_weight={"z": 1.0}).fit(X, y)
    with pytest.raises(ValueError, match="needs all rows"):
        MLPClassifier(class_weight="balanced").partial_fit(X, y, classes=["a", "b", "c"])


def test_weights_are_repetitions(values: Arrays) -> None:
    X, y = values
    weight = np.arange(len(y)) % 4
    a = MLPRegressor(hidden_layer_sizes=5, max_iter=20, random_state=0, batch_size=1000).fit(
        X, y, weight
    )
    b = MLPRegressor(hidden_layer_sizes=5, max_iter=20, random_state=0, batch_size=1000).fit(
        np.repeat(X, weight, axis=0), np.repeat(y, weight)
    )
    close(a.coefs_, b.coefs_, 1e-10)


def test_rows_that_are_given_are_watched(classes: Arrays) -> None:
    X, y = classes
    model = MLPClassifier(
        5,
        early_stopping=True,
        monitor="balanced_accuracy",
        n_iter_no_change=4,
        learning_rate_init=0.05,
        random_state=0,
    )
    model.fit(X[:80], y[:80], X_val=X[80:], y_val=y[80:])
    assert len(model.validation_scores_) == model.n_iter_ < 200
    assert model.best_validation_score_ == max(model.validation_scores_)
    recalls = [np.mean(model.predict(X[80:])[y[80:] == c] == c) for c in "abc"]
    assert np.mean(recalls) == pytest.approx(model.best_validation_score_)
    # Without early stopping they are only measured.
    model.set_params(early_stopping=False, max_iter=8, monitor="loss")
    model.fit(X[:80], y[:80], X_val=X[80:], y_val=y[80:], sample_weight_val=np.ones(40))
    assert len(model.validation_scores_) == 8
    with pytest.raises(ValueError, match="go together"):
        model.fit(X, y, X_val=X)


def test_a_loss_is_best_where_it_is_lowest(values: Arrays) -> None:
    X, y = values
    model = MLPRegressor(
        hidden_layer_sizes=20,
        early_stopping=True,
        monitor="loss",
        learning_rate_init=0.05,
        random_state=0,
    ).fit(X, y)
    assert model.best_validation_score_ == min(model.validation_scores_)


def test_a_metric_of_ones_own(values: Arrays) -> None:
    @register_metric("within", higher=True, task="regression")
    def within(y: Any, prediction: Any, weight: Any) -> Any:
        return (abs(prediction - y) < 1.0).astype(y.dtype).mean()

    try:
        model = MLPRegressor(
            hidden_layer_sizes=8, early_stopping=True, monitor="within", max_iter=30, random_state=0
        )
        model.fit(*values)
        assert 0 <= model.best_validation_score_ <= 1
    finally:
        del METRICS["within"]


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_a_warm_start_goes_on_as_if_never_interrupted(values: Arrays, solver: str) -> None:
    X, y = values
    given: dict[str, Any] = {"hidden_layer_sizes": 6, "solver": solver, "random_state": 0}
    whole = MLPRegressor(max_iter=20, **given).fit(X, y)
    parts = MLPRegressor(max_iter=10, warm_start=True, **given).fit(X, y)
    parts = pickle.loads(pickle.dumps(parts)).fit(X, y)
    close(whole.coefs_, parts.coefs_, 1e-14)
    assert parts.t_ == whole.t_
    assert parts.loss_curve_ == pytest.approx(whole.loss_curve_)
    one_by_one = MLPRegressor(**given)
    for _ in range(20):
        one_by_one.partial_fit(X, y)
    close(whole.coefs_, one_by_one.coefs_, 1e-14)
    parts.set_params(hidden_layer_sizes=9)
    with pytest.raises(ValueError, match="warm_start=False"):
        parts.fit(X, y)


def test_a_partial_fit_that_is_watched_ends_with_the_best_weights(classes: Arrays) -> None:
    X, y = classes
    model = MLPClassifier(
        6, early_stopping=True, n_iter_no_change=3, learning_rate_init=0.1, random_state=0
    )
    with pytest.raises(ValueError, match="without X_val and y_val"):
        model.partial_fit(X, y, classes=["a", "b", "c"])
    calls = 0
    while calls < 200 and not getattr(model, "early_stopped_", False):
        model.partial_fit(X[:80], y[:80], classes=["a", "b", "c"], X_val=X[80:], y_val=y[80:])
        calls += 1
    assert model.early_stopped_
    assert len(model.validation_scores_) == calls
    assert model.score(X[80:], y[80:]) == pytest.approx(max(model.validation_scores_))
    before = model.coefs_
    model.partial_fit(X[:80], y[:80], X_val=X[80:], y_val=y[80:])
    assert model.coefs_ is before


def test_labels_that_exclude_nothing() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 4))
    Y = (X[:, :3] > 0).astype(int)
    model = MLPClassifier(
        12, learning_rate_init=0.05, max_iter=60, early_stopping=True, random_state=0
    ).fit(X, Y)
    assert model.predict(X).shape == Y.shape
    assert model.score(X, Y) > 0.7
    assert model.predict_proba(X).shape == (90, 3)
    assert model.out_activation_ == "logistic"
    with pytest.raises(ValueError, match="weigh rows"):
        MLPClassifier(class_weight="balanced").fit(X, Y)
    with pytest.raises(ValueError, match="labels"):
        model.partial_fit(X, Y[:, :2], X_val=X, y_val=Y)


def test_dropout_and_what_is_predicted(values: Arrays) -> None:
    X, y = values
    model = MLPRegressor(hidden_layer_sizes=30, dropout=0.5, max_iter=5, random_state=0).fit(X, y)
    np.testing.assert_array_equal(model.predict(X), model.predict(X))
    plain = MLPRegressor(hidden_layer_sizes=30, max_iter=5, random_state=0).fit(X, y)
    assert not np.allclose(model.coefs_[0], plain.coefs_[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_is_kept(values: Arrays, dtype: Any) -> None:
    X, y = values[0].astype(dtype), values[1]
    model = MLPRegressor(hidden_layer_sizes=4, max_iter=3, random_state=0).fit(X, y)
    assert {w.dtype for w in (*model.coefs_, *model.intercepts_)} == {np.dtype(dtype)}
    assert model.predict(X).dtype == dtype
    model.partial_fit(X.astype(np.float64), y)
    assert model.coefs_[0].dtype == dtype


def test_what_is_predicted_follows_the_weights(values: Arrays) -> None:
    X, y = values
    model = MLPRegressor(hidden_layer_sizes=4, max_iter=3, random_state=0).fit(X, y)
    model.coefs_[-1][:] = 0.0
    np.testing.assert_allclose(model.predict(X), model.intercepts_[-1][0])
    by_hand = np.maximum(X @ model.coefs_[0] + model.intercepts_[0], 0) @ model.coefs_[1]
    np.testing.assert_allclose(model.predict(X), by_hand[:, 0] + model.intercepts_[1])


def test_a_pickle_holds_arrays_and_parameters(classes: Arrays) -> None:
    X, y = classes
    model = MLPClassifier(4, max_iter=3, random_state=0).fit(X, y)
    content = pickle.dumps(model)
    assert b"gradnet.tensor" not in content
    assert b"gradnet.nn" not in content
    np.testing.assert_array_equal(pickle.loads(content).predict(X), model.predict(X))
    assert clone(model).get_params() == model.get_params()
    assert not hasattr(clone(model), "coefs_")


def test_pipelines_searches_and_processes(classes: Arrays) -> None:
    X, y = classes
    search = GridSearchCV(
        make_pipeline(StandardScaler(), MLPClassifier(max_iter=5, random_state=0)),
        {"mlpclassifier__alpha": [1e-3, 1.0], "mlpclassifier__hidden_layer_sizes": [(4,), (3, 3)]},
        cv=2,
    )
    with joblib.parallel_backend("threading", n_jobs=2):
        search.fit(X, y)
    assert search.best_estimator_.predict(X).shape == (120,)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_sparse_rows(classes: Arrays) -> None:
    X, y = classes
    X = np.where(np.abs(X) > 1, X, 0)
    model = MLPClassifier(4, max_iter=5, random_state=0).fit(sparse.csr_array(X), y)
    same = MLPClassifier(4, max_iter=5, random_state=0).fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(sparse.csc_array(X)), same.predict_proba(X))


def test_no_hidden_layer_is_a_linear_model(values: Arrays) -> None:
    X, y = values
    model = MLPRegressor(hidden_layer_sizes=(), solver="lbfgs", alpha=0.0).fit(X, y)
    line = np.linalg.lstsq(np.c_[X, np.ones(len(X))], y, rcond=None)[0]
    np.testing.assert_allclose(model.coefs_[0][:, 0], line[:-1], atol=1e-3)


def test_divergence_is_told(values: Arrays) -> None:
    X, y = values
    given: dict[str, Any] = {"solver": "sgd", "learning_rate_init": 1e6, "random_state": 0}
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        MLPRegressor("squared_error", 5, "identity", **given).fit(X, y)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"hidden_layer_sizes": (3, 0)}, ValueError),
        ({"hidden_layer_sizes": 2.5}, TypeError),
        ({"activation": "rleu"}, ValueError),
        ({"solver": "newton"}, ValueError),
        ({"learning_rate": "slow"}, ValueError),
        ({"batch_size": 0}, ValueError),
        ({"max_iter": 1.5}, TypeError),
        ({"alpha": -1.0}, ValueError),
        ({"learning_rate_init": 0.0}, ValueError),
        ({"momentum": 2.0}, ValueError),
        ({"dropout": 1.0}, ValueError),
        ({"tol": "small"}, TypeError),
        ({"n_iter_no_change": 0}, ValueError),
        ({"monitor": "acuracy"}, ValueError),
        ({"class_weight": "even"}, ValueError),
    ],
)
def test_bad_parameters_are_named(
    classes: Arrays, given: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match=next(iter(given)).replace("monitor", "metric")):
        MLPClassifier(**given).fit(*classes)


def test_bad_calls(classes: Arrays, values: Arrays) -> None:
    X, y = classes
    with pytest.raises(NotFittedError):
        MLPClassifier().predict(X)
    with pytest.raises(ValueError, match="classes must be passed"):
        MLPClassifier().partial_fit(X, y)
    with pytest.raises(ValueError, match="loss must be"):
        MLPRegressor("absolute").fit(*values)
    with pytest.raises(ValueError, match="at least 0"):
        MLPRegressor("poisson").fit(*values)
    model = MLPRegressor(hidden_layer_sizes=3, max_iter=2).fit(*values)
    with pytest.raises(ValueError, match="columns"):
        model.partial_fit(values[0], np.c_[values[1], values[1]])


def test_weights_whose_sum_is_negative_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"sample_weight is -2\.0 in row 1; weights"):
        MLPRegressor(alpha=1.0, max_iter=1).fit([[0.0], [1.0]], [0.0, 1.0], sample_weight=[1, -2])
