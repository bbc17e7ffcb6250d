"""Bad calls of fit and Trainer: what is raised, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import optim
from gradnet.errors import DataError, DeviceError, DTypeError, ShapeError
from gradnet.training import Callback, Checkpoint, EarlyStopping, Trainer, fit

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 4)).astype(np.float32)
CLASSES = np.arange(30) % 3
VALUES = X[:, 0].copy()


def classifier(**options: Any) -> gn.nn.MLP:
    return gn.nn.MLP((4, 6, 3), **{"output": "softmax", "seed": 0, **options})


def regressor(**options: Any) -> gn.nn.MLP:
    return gn.nn.MLP((4, 6, 1), **{"output": "linear", "seed": 0, **options})


def call(**options: Any) -> Callable[[], Any]:
    """A call of fit that is good but for the options."""
    arguments: dict[str, Any] = {"model": classifier, "X": X, "y": CLASSES, "epochs": 1}
    arguments.update({"progress": False, **options})
    make = arguments.pop("model")
    return lambda: fit(make() if callable(make) else make, **arguments)


def with_optimizer(make: Callable[[gn.nn.Module], Any], **options: Any) -> Callable[[], Any]:
    def run() -> Any:
        model = classifier()
        return fit(model, X, CLASSES, optimizer=make(model), progress=False, **options)

    return run


def frozen() -> gn.nn.Module:
    return classifier().requires_grad_(False)


def other(module: gn.nn.Module) -> optim.Optimizer:
    return optim.SGD(classifier().parameters(), lr=0.1)


class Plain(gn.nn.Module):
    """No output unit, and what it returns is for a test to say."""

    def __init__(self, result: Any) -> None:
        self.linear = gn.nn.Linear(4, 3)
        self.result = result

    def forward(self, x: Any) -> Any:
        return self.result if self.result is not None else self.linear(x)


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

OPTIONS: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    (
        "no module",
        lambda: fit("mlp", X, CLASSES),
        TypeError,
        r"fit trains a gradnet.nn.Module, not str",
    ),  # type: ignore[arg-type]
    ("epochs", call(epochs=0), ValueError, r"epochs must be at least 1, not 0"),
    ("negative epochs", call(epochs=-3), ValueError, r"epochs must be at least 1, not -3"),
    ("half an epoch", call(epochs=1.5), TypeError, r"epochs must be an integer, not float"),
    (
        "batch_size",
        call(batch_size=0),
        ValueError,
        r"batch_size must be at least 1, not 0; None is full-batch",
    ),
    (
        "text batch_size",
        call(batch_size="all"),
        TypeError,
        r"batch_size must be an integer, not str",
    ),
    ("lr", call(lr=-0.1), ValueError, r"lr must be a finite number above 0, not -0.1"),
    ("lr of nothing", call(lr=0.0), ValueError, r"lr must be a finite number above 0"),
    ("text lr", call(lr="fast"), TypeError, r"lr must be a number, not str"),
    ("seed", call(seed=-1), ValueError, r"seed must be at least 0"),
    ("large seed", call(seed=2**64), ValueError, r"seed must be at most 18446744073709551615"),
    ("l2", call(l2=-1.0), ValueError, r"l2 must be a finite number of at least 0"),
    ("clip_norm", call(clip_norm=0.0), ValueError, r"clip_norm must be a finite number above 0"),
    ("max_norm", call(max_norm=-1.0), ValueError, r"max_norm must be a finite number above 0"),
    ("smoothing", call(label_smoothing=1.0), ValueError, r"label_smoothing"),
    (
        "smoothing values",
        call(model=regressor, y=VALUES, label_smoothing=0.1),
        ValueError,
        r"label_smoothing",
    ),
    (
        "optimizer",
        call(optimizer="adm"),
        ValueError,
        r"no optimizer is called 'adm': did you mean adam",
    ),
    (
        "setting",
        call(optimizer={"name": "adam", "moment": 1}),
        ValueError,
        r"has no setting 'moment'",
    ),
    ("nameless", call(optimizer={"lr": 1}), ValueError, r'optimizer as a mapping needs its "name"'),
    ("no optimizer", call(optimizer=3), TypeError, r"optimizer must be a name"),
    ("odd function", call(optimizer=lambda p: 3), TypeError, r"it gave int"),
    ("another model", with_optimizer(other), ValueError, r"has no parameter of the model"),
    (
        "lr twice",
        with_optimizer(lambda m: optim.SGD(m.parameters(), lr=1), lr=1),
        ValueError,
        r"lr is given beside the SGD object",
    ),
    ("frozen", call(model=frozen), ValueError, r"all parameters of the model are frozen"),
    (
        "no parameters",
        call(model=gn.nn.Sequential, loss="mse"),
        ValueError,
        r"Sequential has no parameters",
    ),
    (
        "line search",
        call(optimizer="lbfgs", batch_size=8),
        ValueError,
        r"LBFGS .*needs all rows in each step; pass batch_size=None",
    ),
    (
        "clipped search",
        call(optimizer="lbfgs", clip_norm=1.0),
        ValueError,
        r"LBFGS needs true gradients",
    ),
    (
        "schedule",
        call(schedule="cosinus"),
        ValueError,
        r"no schedule is called 'cosinus': did you mean cosine",
    ),
    (
        "schedule's need",
        call(schedule="exponential"),
        ValueError,
        r"needs its setting 'gamma': pass schedule=",
    ),
    ("no schedule", call(schedule=3), TypeError, r"schedule must be a name"),
    ("odd schedule", call(schedule=lambda o: 3), TypeError, r"it gave int"),
    (
        "other's schedule",
        call(schedule=optim.ConstantSchedule(other(classifier()))),
        ValueError,
        r"is of another optimizer",
    ),
    (
        "metric",
        call(metrics=["acuracy"]),
        ValueError,
        r"no metric 'acuracy' \(did you mean 'accuracy'",
    ),
    ("metric's task", call(metrics=["rmse"]), ValueError, r"'rmse' is for a regression"),
    (
        "values' metric",
        call(model=regressor, y=VALUES, metrics="accuracy"),
        ValueError,
        r"use rmse, mae, r2",
    ),
    ("metric twice", call(metrics=["f1", "f1"]), ValueError, r"'f1' is asked for twice"),
    (
        "monitor",
        call(monitor="val_los", validation=0.2),
        ValueError,
        r"cannot watch 'val_los' \(did you mean 'val_loss'\?\)",
    ),
    (
        "nothing to monitor",
        call(monitor="val_auc"),
        ValueError,
        r"give validation=0.1; this run measures loss",
    ),
    (
        "patience",
        call(early_stopping=0),
        ValueError,
        r"the patience of early stopping must be at least 1, not 0",
    ),
    (
        "patience of true",
        call(early_stopping=True),
        TypeError,
        r"patience of early stopping must be an integer, not bool",
    ),
    (
        "mode",
        lambda: EarlyStopping(mode="up"),
        ValueError,
        r"mode must be 'auto', 'min' or 'max', not 'up'",
    ),  # type: ignore[arg-type]
    ("min_delta", lambda: EarlyStopping(min_delta=-1), ValueError, r"min_delta must be"),
    (
        "stopping twice",
        call(early_stopping=3, callbacks=[EarlyStopping(2)]),
        ValueError,
        r"early stopping is given twice",
    ),
    (
        "monitor twice",
        call(early_stopping=EarlyStopping(2), monitor="loss"),
        ValueError,
        r"give it in one place",
    ),
    (
        "callback",
        call(callbacks=[print]),
        TypeError,
        r"callbacks are gradnet.training.Callback objects",
    ),
    (
        "progress",
        call(progress="loud"),
        ValueError,
        r"progress must be True, False, 'auto', 'bar', 'lines', not 'loud'",
    ),
    ("device", call(device="gpu"), DeviceError, r"there is no device 'gpu'"),
    (
        "precision",
        call(precision="float16", optimizer="lbfgs", batch_size=None),
        ValueError,
        r"LBFGS looks at its gradients by itself.*precision='bfloat16', which needs no scale",
    ),
    (
        "odd precision",
        call(precision="fast"),
        ValueError,
        r"precision must be one of float32, tf32, bfloat16, float16, float64, not 'fast'",
    ),
    ("loss", call(loss="cross_entropi"), KeyError, r"no loss is called 'cross_entropi'"),
    (
        "no loss",
        call(model=lambda: Plain(None)),
        ValueError,
        r"Plain has no output unit that would say its loss; pass loss=",
    ),
    (
        "loss of rows",
        call(loss=lambda z, y: z),
        ShapeError,
        r"the loss must return a Tensor of one value, got shape \(30, 3\)",
    ),
    ("loss of nothing", call(loss=lambda z, y: 1.0), ShapeError, r"got float"),
    (
        "output",
        call(model=lambda: Plain((1, 2)), loss="mse"),
        TypeError,
        r"a model that returns one floating Tensor",
    ),
    ("checkpoint", call(checkpoint="/nowhere/at/all"), FileNotFoundError, r"create /nowhere/at"),
    (
        "resume",
        call(resume="/nowhere/at/all"),
        FileNotFoundError,
        r"there is no checkpoint at /nowhere",
    ),
    (
        "checkpoint's every",
        lambda: Checkpoint("x", every=0),
        ValueError,
        r"every of a checkpoint must be at least 1",
    ),
    (
        "its seconds",
        lambda: Checkpoint("x", seconds=-1),
        ValueError,
        r"seconds of a checkpoint must be a",
    ),
    (
        "smoothing of a loss without",
        call(model=regressor, y=VALUES, loss="mae", label_smoothing=0.1),
        ValueError,
        r"label_smoothing is 0.1, but the loss mae does not take it",
    ),
]

TABLE = [*DATA, *WEIGHTS, *VALIDATION, *OPTIONS]


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
