"""Weights of rows and classes: ones change no bit, integers repeat rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

import gradnet as gn
from gradnet.backends import Backend
from gradnet.training import Callback, History, Run, fit


def weights(model: gn.nn.Module) -> dict[str, Any]:
    return {name: x.numpy().copy() for name, x in model.state_dict().items()}


MODELS: dict[str, Any] = {
    "softmax": lambda: gn.nn.MLP((5, 8, 3), output="softmax", seed=0),
    "sigmoid": lambda: gn.nn.MLP((5, 8, 1), output="sigmoid", seed=0),
    "linear": lambda: gn.nn.MLP((5, 8, 1), output="linear", seed=0),
    "gaussian": lambda: gn.nn.MLP((5, 8, 1), output="gaussian", seed=0),
}


def targets(output: str, sample: Any) -> Any:
    if output in ("softmax", "sigmoid"):
        return sample.y if output == "softmax" else (sample.y > 0).astype(np.int64)
    return sample.X[:, 0] * sample.X[:, 1]


def run(output: str, X: Any, y: Any, **options: Any) -> tuple[dict[str, Any], History]:
    model = MODELS[output]()
    history = fit(model, X, y, **{"epochs": 3, "lr": 0.02, "progress": False, **options})
    return weights(model), history


@pytest.mark.parametrize("output", MODELS)
@pytest.mark.parametrize("batch_size", [16, 1, None])
def test_weights_of_one_change_no_bit(
    output: str, batch_size: int | None, backend: Backend, classes: Any
) -> None:
    X, y = classes.X[:41], targets(output, classes)[:41]
    options: dict[str, Any] = {"batch_size": batch_size, "validation": 0.25, "epochs": 2}
    plain, one = run(output, X, y, **options)
    weighed, two = run(output, X, y, sample_weight=np.ones(41), **options)
    for name, x in plain.items():
        assert np.array_equal(x, weighed[name]), name
    for name in one:
        if name not in ("seconds", "samples_per_second"):
            assert np.array_equal(one[name], two[name]), name


@pytest.mark.parametrize("output", MODELS)
def test_integer_weights_repeat_rows(output: str, backend: Backend, classes: Any) -> None:
    y = targets(output, classes)
    counts = np.random.default_rng(0).integers(0, 4, len(y))
    rows = np.repeat(np.arange(len(y)), counts)
    options: dict[str, Any] = {"batch_size": None, "optimizer": "sgd", "lr": 0.1, "epochs": 10}
    options["train_metrics"] = True
    weighed, one = run(output, classes.X, y, sample_weight=counts, **options)
    repeated, two = run(output, classes.X[rows], y[rows], **options)
    for name, x in weighed.items():
        np.testing.assert_allclose(x, repeated[name], rtol=1e-4, atol=1e-6)
    for name in set(one) - {"seconds", "samples_per_second"}:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-4, atol=1e-6)


class Rows(Callback):
    """Notes how many rows were seen."""

    def __init__(self) -> None:
        self.steps = 0

    def on_step_end(self, run: Run) -> None:
        self.steps += 1


def test_rows_of_weight_zero_are_as_if_not_there(backend: Backend, classes: Any) -> None:
    weight = (np.arange(90) % 2).astype(np.float32)
    seen = Rows()
    model, other = (gn.nn.MLP((5, 8, 3), norm="batch", output="softmax", seed=0) for _ in "ab")
    options: dict[str, Any] = {"epochs": 2, "batch_size": 9, "progress": False}
    fit(model, *classes, sample_weight=weight, callbacks=[seen], **options)
    assert seen.steps == 2 * 5
    fit(other, classes.X[1::2], classes.y[1::2], **options)
    for name, x in weights(model).items():
        np.testing.assert_allclose(x, weights(other)[name], rtol=1e-5, atol=1e-6)


def test_balanced_classes_weigh_as_in_scikit_learn(backend: Backend, classes: Any) -> None:
    keep = (classes.y < 2) | (np.arange(90) % 5 == 0)
    X, y = classes.X[keep], classes.y[keep]
    expected = compute_class_weight("balanced", classes=np.arange(3), y=y)
    options: dict[str, Any] = {"batch_size": 10, "epochs": 3}
    balanced, one = run("softmax", X, y, class_weight="balanced", **options)
    listed, two = run("softmax", X, y, class_weight=list(expected), **options)
    mapped, three = run("softmax", X, y, class_weight=dict(enumerate(expected)), **options)
    by_row, four = run("softmax", X, y, sample_weight=expected[y], **options)
    plain, _ = run("softmax", X, y, **options)
    for name, x in balanced.items():
        for other in (listed, mapped, by_row):
            np.testing.assert_allclose(x, other[name], rtol=1e-4, atol=1e-6)
    assert not all(np.allclose(x, plain[name], rtol=1e-3) for name, x in balanced.items())
    for history in (two, three, four):
        np.testing.assert_allclose(history["loss"], one["loss"], rtol=1e-5)


def test_balanced_classes_of_weighed_rows(backend: Backend, classes: Any) -> None:
    counts = 1 + np.arange(90) % 3
    rows = np.repeat(np.arange(90), counts)
    options: dict[str, Any] = {"class_weight": "balanced", "batch_size": None, "epochs": 4}
    weighed, _ = run("softmax", *classes, sample_weight=counts, **options)
    repeated, _ = run("softmax", classes.X[rows], classes.y[rows], **options)
    for name, x in weighed.items():
        np.testing.assert_allclose(x, repeated[name], rtol=1e-4, atol=1e-6)


def test_class_weights_of_one_change_no_bit(backend: Backend, classes: Any) -> None:
    options: dict[str, Any] = {"batch_size": 16, "validation": 0.2}
    plain, one = run("softmax", *classes, **options)
    weighed, two = run("softmax", *classes, class_weight=[1, 1, 1], **options)
    assert all(np.array_equal(x, weighed[name]) for name, x in plain.items())
    assert np.array_equal(one["val_loss"], two["val_loss"])


@pytest.mark.parametrize("given", [{0: 1.0, 1: 4.0}, [1.0, 4.0], "balanced"])
def test_two_classes_and_soft_targets(given: Any, backend: Backend, classes: Any) -> None:
    y = (classes.y > 0).astype(np.int64)
    if isinstance(given, str):
        by_class = 90 / (2 * np.bincount(y))
    else:
        by_class = np.array(list(given.values()) if isinstance(given, Mapping) else given)
    weighed, _ = run("sigmoid", classes.X, y, class_weight=given)
    by_row, _ = run("sigmoid", classes.X, y, sample_weight=by_class[y])
    for name, x in weighed.items():
        np.testing.assert_allclose(x, by_row[name], rtol=1e-4, atol=1e-6)


def test_probabilities_weigh_by_their_classes(backend: Backend, classes: Any) -> None:
    soft = np.eye(3, dtype=np.float32)[classes.y]
    given = [1.0, 2.0, 5.0]
    hard_result, _ = run("softmax", *classes, class_weight=given)
    soft_result, _ = run("softmax", classes.X, soft, class_weight=given)
    for name, x in hard_result.items():
        np.testing.assert_allclose(x, soft_result[name], rtol=1e-4, atol=1e-6)


def test_class_weights_count_in_the_validation_loss_not_in_metrics(
    backend: Backend, classes: Any
) -> None:
    frozen: dict[str, Any] = {"optimizer": {"name": "sgd", "lr": 0.0}, "lr": None, "epochs": 1}
    given = np.array([1.0, 3.0, 9.0])
    options = {**frozen, "metrics": ["accuracy"]}
    _, weighed = run("softmax", *classes, class_weight=given, validation=tuple(classes), **options)
    _, by_row = run(
        "softmax", *classes, validation=(*classes, given[classes.y]), class_weight=None, **options
    )
    _, plain = run("softmax", *classes, validation=tuple(classes), **options)
    np.testing.assert_allclose(weighed["val_loss"], by_row["val_loss"], rtol=1e-6)
    assert weighed["val_loss"][0] == pytest.approx(weighed["loss"][0], rel=1e-5)
    assert weighed["val_accuracy"] == plain["val_accuracy"] != by_row["val_accuracy"]


def test_streams_take_weights_of_classes(backend: Backend, classes: Any) -> None:
    order = np.stack([np.flatnonzero(classes.y == c) for c in range(3)], axis=1).ravel()
    X, y = classes.X[order], classes.y[order]
    batches = [(X[i : i + 30], y[i : i + 30]) for i in (0, 30, 60)]
    given = [1.0, 0.0, 2.0]
    model, other = (gn.nn.MLP((5, 8, 3), output="softmax", seed=0) for _ in "ab")
    fit(model, batches, class_weight=given, epochs=2, progress=False)
    fit(
        other, X, y, class_weight=given, shuffle=False, batch_size=20, epochs=2, progress=False
    )  # each class has 10 rows in each 30
    for name, x in weights(model).items():
        np.testing.assert_allclose(x, weights(other)[name], rtol=1e-5, atol=1e-6)


def test_validation_rows_that_all_weigh_nothing_are_refused(classes: Any) -> None:
    model = gn.nn.MLP((5, 3), output="softmax", seed=0)
    rows = classes.y == 1
    held = (classes.X[rows], classes.y[rows])
    with pytest.raises(gn.errors.DataError, match="all rows to evaluate the model on have weight"):
        fit(
            model, *classes, class_weight=[1.0, 0.0, 1.0], validation=held, epochs=1,
            progress=False,
        )  # fmt: skip
    with pytest.raises(gn.errors.DataError, match="every row of batch 2 is of a class of weight 0"):
        fit(model, [tuple(classes), held], class_weight=[1.0, 0.0, 1.0], progress=False)
