"""Options of fit and Trainer that cannot be: what is raised, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from training_calls import CLASSES, VALUES, X, call, classifier, regressor

import gradnet as gn
from gradnet import optim
from gradnet.errors import DeviceError, ShapeError
from gradnet.training import Checkpoint, EarlyStopping, fit


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


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [row[1:] for row in OPTIONS],
    ids=[row[0] for row in OPTIONS],
)
def test_bad_options(bad: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        bad()
