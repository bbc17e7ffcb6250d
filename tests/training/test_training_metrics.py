"""Metrics against scikit-learn's, and the registry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn.metrics as reference

import gradnet as gn
from gradnet.backends import Backend
from gradnet.training import metric, metric_names, metrics, register_metric
from gradnet.training.metrics import METRICS

ROWS, CLASSES = 60, 6


def softmax(z: Any) -> Any:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return (e / e.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(params=[False, True], ids=["unweighted", "weighted"])
def weight(request: pytest.FixtureRequest) -> Any:
    rng = np.random.default_rng(7)
    return rng.uniform(0, 3, ROWS).astype(np.float32) if request.param else None


@pytest.fixture
def multiclass() -> tuple[Any, Any]:
    rng = np.random.default_rng(2)
    y = rng.integers(0, CLASSES, ROWS)
    return y, softmax(rng.normal(size=(ROWS, CLASSES)) + 1.5 * np.eye(CLASSES)[y])


@pytest.fixture
def binary() -> tuple[Any, Any]:
    rng = np.random.default_rng(3)
    y = (rng.uniform(size=ROWS) < 0.3).astype(np.int64)
    return y, (1 / (1 + np.exp(-(rng.normal(size=ROWS) + y)))).astype(np.float32)[:, None]


@pytest.fixture
def regression() -> tuple[Any, Any]:
    rng = np.random.default_rng(4)
    y = rng.normal(size=(ROWS, 2)).astype(np.float32)
    return y, y + 0.3 * rng.normal(size=y.shape).astype(np.float32)


def ours(name: str, y: Any, prediction: Any, weight: Any) -> float:
    w = None if weight is None else gn.asarray(weight)
    return metric(name)(gn.asarray(y), gn.asarray(prediction), w)


def hard(prediction: Any) -> Any:
    return prediction.argmax(1) if prediction.shape[1] > 1 else prediction[:, 0] > 0.5


def scores(prediction: Any) -> Any:
    return prediction if prediction.shape[1] > 1 else prediction[:, 0]


CLASSIFICATION: dict[str, Any] = {
    "accuracy": lambda y, p, w: reference.accuracy_score(y, hard(p), sample_weight=w),
    "balanced_accuracy": lambda y, p, w: reference.balanced_accuracy_score(
        y, hard(p), sample_weight=w
    ),
    "roc_auc": lambda y, p, w: reference.roc_auc_score(
        y, scores(p), sample_weight=w, multi_class="ovr"
    ),
    "f1": lambda y, p, w: reference.f1_score(y, hard(p), average="macro", sample_weight=w),
}
REGRESSION: dict[str, Any] = {
    "rmse": lambda y, p, w: reference.root_mean_squared_error(y, p, sample_weight=w),
    "mae": lambda y, p, w: reference.mean_absolute_error(y, p, sample_weight=w),
    "r2": lambda y, p, w: reference.r2_score(y, p, sample_weight=w),
}


def top_k(k: int) -> Any:
    return lambda y, p, w: reference.top_k_accuracy_score(
        y, p, k=k, sample_weight=w, labels=range(CLASSES)
    )


def test_every_metric_is_compared() -> None:
    assert set(metric_names()) == {*CLASSIFICATION, *REGRESSION, "top_k"}
    assert set(metric_names("regression")) == set(REGRESSION)


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_classes(name: str, backend: Backend, multiclass: Any, binary: Any, weight: Any) -> None:
    for y, p in (multiclass, binary):
        assert ours(name, y, p, weight) == pytest.approx(CLASSIFICATION[name](y, p, weight), 1e-5)


@pytest.mark.parametrize(("name", "k"), [("top_k", 5), ("top_1", 1), ("top_3", 3)])
def test_top_k(name: str, k: int, backend: Backend, multiclass: Any, weight: Any) -> None:
    y, p = multiclass
    assert ours(name, y, p, weight) == pytest.approx(top_k(k)(y, p, weight), 1e-5)


@pytest.mark.parametrize("name", REGRESSION)
def test_values(name: str, backend: Backend, regression: Any, weight: Any) -> None:
    y, p = regression
    expected = REGRESSION[name](y, p, weight)
    assert ours(name, y, p, weight) == pytest.approx(expected, 1e-5)
    one = REGRESSION[name](y[:, 0], p[:, 0], weight)
    assert ours(name, y[:, 0], p[:, :1], weight) == pytest.approx(one, 1e-5)


@pytest.mark.parametrize("name", metric_names())
def test_weights_of_one_change_no_bit_and_integers_repeat_rows(
    name: str, backend: Backend, multiclass: Any, regression: Any
) -> None:
    y, p = regression if METRICS[name].task == "regression" else multiclass
    assert ours(name, y, p, np.ones(ROWS, np.float32)) == ours(name, y, p, None)
    counts = np.arange(ROWS) % 3
    repeated = ours(name, np.repeat(y, counts, 0), np.repeat(p, counts, 0), None)
    assert ours(name, y, p, counts.astype(np.float32)) == pytest.approx(repeated, rel=1e-5)


def test_ties_go_to_the_first_class(backend: Backend) -> None:
    even = np.full((4, 4), 0.25, np.float32)
    y = np.arange(4)
    assert ours("accuracy", y, even, None) == ours("top_1", y, even, None) == 0.25
    assert ours("top_2", y, even, None) == 0.5


def test_several_labels_must_all_be_right(backend: Backend) -> None:
    y = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 1]])
    p = np.array([[0.9, 0.8, 0.1], [0.2, 0.6, 0.1], [0.7, 0.3, 0.9]], np.float32)
    assert ours("accuracy", y, p, None) == pytest.approx(2 / 3)
    one_hot = np.eye(3)[[0, 1, 2]]
    assert ours("accuracy", one_hot, p, None) == 1.0


def test_limits(backend: Backend) -> None:
    constant = np.ones(5, np.float32)
    assert ours("r2", constant, constant[:, None], None) == 1.0
    assert ours("r2", constant, constant[:, None] + 1, None) == 0.0
    scores = np.linspace(0, 1, 5, dtype=np.float32)[:, None]
    assert np.isnan(ours("roc_auc", np.ones(5, int), scores, None))


def test_a_function_of_targets_and_predictions_is_a_metric() -> None:
    def within(y: gn.Tensor, prediction: gn.Tensor) -> gn.Tensor:
        return gn.mean(gn.astype(abs(prediction - y) < 0.5, gn.float32))

    found = metric(within)
    assert (found.name, found.higher, found.task) == ("within", None, None)
    assert found(gn.asarray([0.0, 1.0]), gn.asarray([0.1, 2.0])) == 0.5
    error = metric(reference.mean_absolute_error)
    y, p, w = gn.asarray([0.0, 1.0]), gn.asarray([0.5, 3.0]), gn.asarray([3.0, 1.0])
    assert error(y, p) == pytest.approx(1.25)
    assert error(y, p, w) == pytest.approx(0.875)


def test_a_metric_is_added_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "METRICS", dict(METRICS))

    @register_metric("worst", higher=False, task="regression")
    def worst(y: gn.Tensor, prediction: gn.Tensor, weight: gn.Tensor | None) -> gn.Tensor:
        return gn.max(abs(prediction - gn.reshape(y, prediction.shape)))

    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 2)).astype(np.float32)
    model = gn.nn.MLP((2, 4, 1), seed=0)
    history = gn.fit(
        model, X, X[:, 0], epochs=2, validation=0.2, metrics=["worst", "mae"],
        early_stopping=5, monitor="val_worst", progress=False,
    )  # fmt: skip
    assert (history["val_worst"] >= history["val_mae"]).all()
    assert history.monitor == "val_worst"


@pytest.mark.parametrize(
    ("wanted", "error", "message"),
    [
        ("acuracy", ValueError, r"no metric 'acuracy' \(did you mean 'accuracy'"),
        ("top_0", ValueError, "no metric 'top_0'"),
        (3, TypeError, "a metric is a name or a function"),
    ],
)
def test_what_is_no_metric(wanted: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        metric(wanted)


def test_shapes_that_do_not_fit_are_refused() -> None:
    p = gn.asarray(np.full((4, 3), 1 / 3, np.float32))
    for name, y in (("accuracy", [0, 1, 2]), ("rmse", [0.0, 1.0]), ("top_k", [0, 1])):
        with pytest.raises(gn.errors.ShapeError, match="a metric got targets of shape"):
            metric(name)(gn.asarray(y), p)
    with pytest.raises(gn.errors.ShapeError, match="top_k needs probabilities of several classes"):
        metric("top_k")(gn.asarray([0, 1]), gn.asarray([0.1, 0.2]))
