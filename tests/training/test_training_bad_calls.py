"""Bad calls of fit and Trainer: what is raised, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from training_calls import CLASSES, VALUES, X, call, classifier, regressor

import gradnet as gn
from gradnet.errors import DataError, DTypeError, ShapeError
from gradnet.training import Callback, EarlyStopping, Trainer, fit


def no_rows(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


DATA: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    ("lengths", call(y=CLASSES[:29]), ShapeError, r"X has 30 rows, but y has 29 rows"),
    ("scalar y", call(y=1), ShapeError, r"X has 30 rows, but y has only one value"),
    ("no y", call(y=None), TypeError, r"y must be an array of numbers, not None"),
    ("no X", call(X=None), TypeError, r"X must be an array of numbers, not None"),
    ("text X", call(X="digits"), TypeError, r"X must be an array of numbers, not str"),
    ("dict X", call(X={"a": [1]}), TypeError, r"X must be an array of numbers, not dict"),
    ("words", call(X=np.array([["a"] * 4] * 30)), DTypeError, r"X: asarray got .* dtype <U1"),
    ("labels", call(y=np.array(["a", "b", "c"] * 10)), DTypeError, r"y: asarray got .*<U1"),
    ("objects", call(X=np.full((30, 4), None)), DTypeError, r"X: asarray got .* dtype object"),
    ("ragged", call(X=[[1.0, 2.0], [3.0]]), ShapeError, r"X: asarray got a nested sequence"),
    ("complex", call(X=X + 1j), DTypeError, r"X has dtype complex64; expected real numbers"),
    ("one axis", call(X=VALUES), ShapeError, r"X has shape \(30,\); .*X\.reshape\(-1, 1\)"),
    ("empty", call(X=no_rows(0, 4), y=no_rows(0)), DataError, r"X is empty: shape \(0, 4\)"),
    ("no columns", call(X=no_rows(30, 0)), DataError, r"X is empty: shape \(30, 0\)"),
    ("features", call(X=X[:, :3]), ShapeError, r"the model does not take X of shape \(30, 3\)"),
    (
        "class too high",
        call(y=CLASSES + 1),
        DataError,
        r"y has class 3 in row 2, .* 0 \.\.\. 2; number the classes from 0",
    ),
    ("class below 0", call(y=CLASSES - 1), DataError, r"y has class -1 in row 0"),
    ("fractions", call(y=VALUES), DataError, r'y holds fractions.*output="linear"'),
    ("y of 3 axes", call(y=np.zeros((30, 2, 2))), DataError, r"y has shape \(30, 2, 2\)"),
    ("y too wide", call(y=np.zeros((30, 5))), DataError, r"probabilities \(n, 3\)"),
    (
        "no probabilities",
        call(y=np.ones((30, 3))),
        DataError,
        r"soft targets that are probabilities, got row 0 with sum 3",
    ),
    (
        "two columns of values",
        call(model=regressor, y=np.ones((30, 2))),
        ShapeError,
        r"\(30, 1\) and targets of shape \(30, 2\)",
    ),
    (
        "a generator",
        call(X=(x for x in X), y=None),
        TypeError,
        r"a generator is used up after one epoch",
    ),
    ("no batches", call(X={1, 2} - {1, 2}, y=None), DataError, r"the data set has no batches"),
    (
        "odd batches",
        call(X=[(X, CLASSES, VALUES, 1)], y=None),
        DataError,
        r"batch 1 of the data set is a tuple; expected a tuple \(X, y\)",
    ),
    (
        "weights beside a stream",
        call(X=[(X, CLASSES)], y=None, sample_weight=VALUES),
        ValueError,
        r"sample_weight goes with arrays",
    ),
    (
        "a stream to split",
        call(X=[(X, CLASSES)], y=None, validation=0.1),
        ValueError,
        r"a data set that streams cannot be split",
    ),
    (
        "balance of a stream",
        call(X=[(X, CLASSES)], y=None, class_weight="balanced"),
        DataError,
        r"cannot be counted before",
    ),
]

WEIGHTS: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    (
        "count",
        call(sample_weight=np.ones(29)),
        DataError,
        r"sample_weight has shape \(29,\) for 30 rows",
    ),
    ("negative", call(sample_weight=VALUES - 9), DataError, r"sample_weight is -.* in row 0"),
    ("nan", call(sample_weight=np.full(30, np.nan)), DataError, r"sample_weight is nan in row 0"),
    ("zero", call(sample_weight=np.zeros(30)), DataError, r"sample_weight is 0 in every row"),
    (
        "class missing",
        call(class_weight={0: 1.0, 1: 2.0}),
        DataError,
        r"no weight for class 2, which y has",
    ),
    (
        "unknown class",
        call(class_weight={0: 1.0, 7: 2.0}),
        DataError,
        r"class_weight has the class 7",
    ),
    (
        "number of classes",
        call(class_weight=[1.0, 2.0]),
        DataError,
        r"2 weights for the model's 3 classes",
    ),
    (
        "negative class",
        call(class_weight=[1.0, -2.0, 1.0]),
        DataError,
        r"class_weight of class 1 is -2.0",
    ),
    ("all classes 0", call(class_weight=[0.0, 0.0, 0.0]), DataError, r"every row has weight 0"),
    (
        "word",
        call(class_weight="balance"),
        DataError,
        r"class_weight is 'balance'; expected 'balanced'",
    ),
    (
        "regression",
        call(model=regressor, y=VALUES, class_weight="balanced"),
        DataError,
        r"class_weight is for classes",
    ),
    (
        "loss without",
        call(loss=lambda z, y: gn.mean(z), sample_weight=np.ones(30)),
        ValueError,
        r"the loss does not take them",
    ),
]

VALIDATION: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    (
        "above 1",
        call(validation=1.5),
        DataError,
        r"validation fraction must lie between 0 and 1, not 1.5",
    ),
    ("one", call(validation=1), DataError, r"validation fraction must lie between 0 and 1"),
    ("negative", call(validation=-0.1), DataError, r"validation fraction must lie between 0 and 1"),
    ("nan", call(validation=float("nan")), DataError, r"not nan"),
    ("true", call(validation=True), TypeError, r"validation must be a fraction.*not bool"),
    ("word", call(validation="10%"), TypeError, r"validation must be a fraction.*not str"),
    ("one row", call(X=X[:1], y=CLASSES[:1], validation=0.5), DataError, r"1 row cannot be split"),
    (
        "other features",
        call(validation=(X[:, :3], CLASSES)),
        ShapeError,
        r"does not take validation's X of shape \(30, 3\)",
    ),
    (
        "lengths",
        call(validation=(X, CLASSES[:5])),
        ShapeError,
        r"validation's X has 30 rows, but validation's y has 5",
    ),
]


TABLE = [*DATA, *WEIGHTS, *VALIDATION]


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [row[1:] for row in TABLE],
    ids=[row[0] for row in TABLE],
)
def test_bad_calls(bad: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        bad()


def test_a_metric_that_does_not_say_which_way_is_better() -> None:
    def odd(y: gn.Tensor, prediction: gn.Tensor) -> float:
        return 0.0

    options: dict[str, Any] = {"metrics": [odd], "validation": 0.2, "epochs": 1, "progress": False}
    with pytest.raises(ValueError, match="which way is better for 'val_odd'; give mode="):
        fit(classifier(), X, CLASSES, monitor="val_odd", **options)
    stopping = EarlyStopping(2, monitor="val_odd", mode="min")
    assert fit(classifier(), X, CLASSES, early_stopping=stopping, **options).best_epoch == 1


def test_a_bad_call_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    model = classifier()
    before = {name: x.numpy().copy() for name, x in model.state_dict().items()}
    state = gn.random.default_generator().get_state()

    class Never(Callback):
        def on_epoch_start(self, run: Any) -> None:
            raise AssertionError

    bad: list[dict[str, Any]] = [{"y": CLASSES + 1}, {"metrics": ["x"]}, {"optimizer": "x"}]
    for options in bad:
        with pytest.raises(ValueError, match=r"."):
            fit(model, **{"X": X, "y": CLASSES, "callbacks": [Never()], **options})
    assert all(np.array_equal(x.numpy(), before[name]) for name, x in model.state_dict().items())
    assert gn.random.default_generator().get_state() == state
    assert capsys.readouterr() == ("", "")


def test_predict_and_evaluate_check_too() -> None:
    trainer = Trainer(classifier())
    with pytest.raises(ShapeError, match=r"the model does not take X of shape \(30, 3\)"):
        trainer.predict(X[:, :3])
    with pytest.raises(DataError, match="y has class 3 in row 2"):
        trainer.evaluate(X, CLASSES + 1)
