"""Metrics by name: how good predictions are, for people, the history and early stopping.

A metric takes targets, predictions and a weight per row, and gives a number. Predictions are what
the model's output unit predicts: probabilities for classes, values for a regression. The simple
ones are ops on the device; the others come from scikit-learn. `METRICS` is the table of all.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from gradnet import ops
from gradnet.errors import ShapeError
from gradnet.tensor import Tensor
from gradnet.training.history import close

Task = Literal["classification", "regression"]
Function = Callable[[Tensor, Tensor, "Tensor | None"], "Tensor | float"]


@dataclass(frozen=True)
class Metric:
    """A named metric: `function(y, prediction, weight)`, and which way is better.

    `task` is the kind of problem it is for, None for any. `higher` is None where nobody has said.
    """

    name: str
    function: Function
    higher: bool | None
    task: Task | None

    def __call__(self, y: Tensor, prediction: Tensor, weight: Tensor | None = None) -> float:
        """The metric for targets (n, ...), predictions (n, ...) and weights (n,) or None."""
        value = self.function(y, prediction, weight)
        return float(value.item() if isinstance(value, Tensor) else value)


Metrics = Sequence[str | Metric | Callable[..., Any]] | str | Callable[..., Any] | None

METRICS: dict[str, Metric] = {}


def register(
    name: str, *, higher: bool | None, task: Task | None
) -> Callable[[Function], Function]:
    """Decorate a function of (y, prediction, weight) to have it known as a metric by name."""

    def add(function: Function) -> Function:
        METRICS[name] = Metric(name, function, higher, task)
        return function

    return add


def names(task: Task | None = None) -> tuple[str, ...]:
    """The names of all metrics, or of those for one task."""
    return tuple(n for n, m in METRICS.items() if task is None or m.task in (None, task))


def get(metric: str | Metric | Callable[..., Any]) -> Metric:
    """A metric by name ("accuracy", "top_3"), or from a function of (y, prediction).

    A function that has an argument `sample_weight` gets the weights; its attribute
    `higher_is_better`, if any, says which way is better.
    Raises ValueError, with close matches, for an unknown name.
    """
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        top = re.fullmatch(r"top_([1-9]\d*)", metric)
        if top:
            return Metric(metric, partial(_top_k, k=int(top[1])), True, "classification")
        if metric not in METRICS:
            raise ValueError(
                f"there is no metric {metric!r}{close(metric, METRICS)}; "
                f"there are {', '.join(METRICS)} and functions of (y, prediction)"
            )
        return METRICS[metric]
    if not callable(metric):
        raise TypeError(
            f"a metric is a name or a function of (y, prediction), not {type(metric).__name__}"
        )
    name = getattr(metric, "__name__", type(metric).__name__)
    return Metric(name, _adapted(metric), getattr(metric, "higher_is_better", None), None)


def _adapted(function: Callable[..., Any]) -> Function:
    """A user's function of (y, prediction) with the arguments of a metric."""
    weighted = "sample_weight" in inspect.signature(function).parameters

    def call(y: Tensor, prediction: Tensor, weight: Tensor | None) -> Any:
        weights = {"sample_weight": weight} if weighted else {}
        return function(y, prediction, **weights)

    return call


def select(metrics: Metrics, task: Task | None) -> tuple[Metric, ...]:
    """The metrics asked for; for None those usual for the task.

    Raises ValueError for a metric of the other task, and for a name given twice.
    """
    if metrics is None:
        usual = {"classification": ("accuracy",), "regression": ("rmse", "r2"), None: ()}
        return tuple(METRICS[name] for name in usual[task])
    wanted: Any = (metrics,) if isinstance(metrics, str) or callable(metrics) else metrics
    found: dict[str, Metric] = {}
    for metric in (get(m) for m in wanted if m != "loss"):
        if metric.name in found:
            raise ValueError(f"the metric {metric.name!r} is asked for twice")
        if task is not None and metric.task not in (None, task):
            raise ValueError(
                f"the metric {metric.name!r} is for a {metric.task}, but the model's output is "
                f"for a {task}; use {', '.join(names(task))}"
            )
        found[metric.name] = metric
    return tuple(found.values())


def mean(x: Tensor, weight: Tensor | None) -> Tensor:
    """The weighted mean over rows: (n, ...) with (n,) -> (...)."""
    if weight is None:
        return x.mean(axis=0)
    w = ops.reshape(weight, (weight.shape[0],) + (1,) * (x.ndim - 1))
    return ops.sum(x * w, axis=0) / ops.sum(weight)


# Classes


def classes(prediction: Tensor) -> Tensor:
    """The most probable class of each row: (n, k) -> (n,) for k > 1, else whether p > 1/2."""
    if prediction.ndim == 2 and prediction.shape[1] > 1:
        return ops.argmax(prediction, axis=1)
    return ops.astype(ops.reshape(prediction, (-1,)) > 0.5, "int64")


def _truth(y: Tensor, prediction: Tensor) -> Tensor:
    """Integer classes (n,), from probabilities (n, k) or a column (n, 1) too."""
    if y.ndim == 2 and y.shape[1] > 1:
        y = ops.argmax(y, axis=1)
    y = ops.reshape(y, (-1,))
    if y.shape[0] != prediction.shape[0]:
        raise ShapeError(
            f"a metric got targets of shape {y.shape} for predictions of shape {prediction.shape}; "
            "expected as many rows"
        )
    return ops.astype(y, "int64", copy=False)


def _several_labels(y: Tensor, prediction: Tensor) -> bool:
    """Whether each row has several yes-or-no labels, so that no class is the right one.

    The targets of one choice, one-hot or probabilities, add up to one.
    """
    return y.ndim == 2 and y.shape[1] > 1 and bool((abs(y.sum(axis=1) - 1) > 1e-3).any())


@register("accuracy", higher=True, task="classification")
def _accuracy(y: Tensor, prediction: Tensor, weight: Tensor | None) -> Tensor:
    """The part of rows whose class is right; of rows with several labels, all of them."""
    if _several_labels(y, prediction):
        right = ops.all((prediction > 0.5) == (y > 0.5), axis=1)
    else:
        right = classes(prediction) == _truth(y, prediction)
    return mean(ops.astype(right, prediction.dtype), weight)


def _top_k(y: Tensor, prediction: Tensor, weight: Tensor | None, k: int = 5) -> Tensor:
    """The part of rows whose class is among the k most probable; ties go to the first classes."""
    if prediction.ndim != 2 or prediction.shape[1] < 2:
        raise ShapeError(
            f"top_k needs probabilities of several classes (n, k), got shape {prediction.shape}"
        )
    truth = ops.expand_dims(_truth(y, prediction), 1)
    own = ops.take_along_axis(prediction, truth, axis=1)
    columns = ops.expand_dims(ops.arange(prediction.shape[1], backend=prediction.backend), 0)
    before = (prediction > own) | ((prediction == own) & (columns < truth))
    return mean(ops.astype(ops.sum(before, axis=1) < k, prediction.dtype), weight)


register("top_k", higher=True, task="classification")(_top_k)


@register("balanced_accuracy", higher=True, task="classification")
def _balanced_accuracy(y: Tensor, prediction: Tensor, weight: Tensor | None) -> Tensor:
    """The mean over the classes present of the part of their rows that is right."""
    truth, found = _truth(y, prediction), classes(prediction)
    count = max(2, prediction.shape[1] if prediction.ndim == 2 else 2, int(truth.max()) + 1)
    membership = ops.one_hot(truth, count, dtype=prediction.dtype)
    if weight is not None:
        membership = membership * ops.expand_dims(weight, 1)
    right = ops.expand_dims(ops.astype(found == truth, prediction.dtype), 1)
    totals = ops.sum(membership, axis=0)
    present = totals > 0
    recall = ops.sum(membership * right, axis=0) / ops.elementwise("where")(present, totals, 1.0)
    return ops.sum(recall) / ops.sum(ops.astype(present, prediction.dtype))


# Values


def _difference(y: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
    """Targets and errors, both (n, d)."""
    rows = prediction.shape[0]
    if y.size != prediction.size or y.shape[:1] != (rows,):
        raise ShapeError(
            f"a metric got targets of shape {y.shape} for predictions of shape {prediction.shape}; "
            "expected as many values"
        )
    truth = ops.reshape(ops.astype(y, prediction.dtype, copy=False), (rows, -1))
    return truth, ops.reshape(prediction, (rows, -1)) - truth


@register("rmse", higher=False, task="regression")
def _rmse(y: Tensor, prediction: Tensor, weight: Tensor | None) -> Tensor:
    """The square root of the mean squared error, averaged over outputs."""
    _, error = _difference(y, prediction)
    return ops.mean(ops.elementwise("sqrt")(mean(error * error, weight)))


@register("mae", higher=False, task="regression")
def _mae(y: Tensor, prediction: Tensor, weight: Tensor | None) -> Tensor:
    """The mean absolute error, averaged over outputs."""
    _, error = _difference(y, prediction)
    return ops.mean(mean(abs(error), weight))


@register("r2", higher=True, task="regression")
def _r2(y: Tensor, prediction: Tensor, weight: Tensor | None) -> float:
    """1 - mean squared error / variance of the targets, averaged over outputs.

    Where targets are constant it is 1 for exact predictions and 0 for others.
    """
    truth, error = _difference(y, prediction)
    centred = truth - mean(truth, weight)
    errors = mean(error * error, weight).numpy().tolist()
    variances = mean(centred * centred, weight).numpy().tolist()
    scores = [1 - e / v if v > 0 else float(e == 0) for e, v in zip(errors, variances, strict=True)]
    return sum(scores) / len(scores)


# From scikit-learn


def _host(weight: Tensor | None) -> Any:
    return None if weight is None else weight.numpy()


def _sklearn(name: str) -> Any:
    try:
        import sklearn.metrics
    except ImportError as error:
        raise ImportError(
            f"the metric {name!r} comes from scikit-learn (remedy: pip install scikit-learn)"
        ) from error
    return sklearn.metrics


def _all_present(truth: Tensor, prediction: Tensor) -> bool:
    """Whether every class has a row: without, rankings of classes are not defined."""
    count = prediction.shape[1] if prediction.ndim == 2 and prediction.shape[1] > 1 else 2
    seen = ops.sum(ops.one_hot(truth, max(count, int(truth.max()) + 1)), axis=0) > 0
    return bool(seen.all())


@register("roc_auc", higher=True, task="classification")
def _roc_auc(y: Tensor, prediction: Tensor, weight: Tensor | None) -> float:
    """The area under the ROC curve, one against the rest; NaN where a class has no row."""
    library = _sklearn("roc_auc")
    truth = _truth(y, prediction)
    if not _all_present(truth, prediction):
        return float("nan")
    scores = prediction.numpy()
    if scores.ndim == 2 and scores.shape[1] <= 2:
        scores = scores[:, -1]
    return float(
        library.roc_auc_score(truth.numpy(), scores, sample_weight=_host(weight), multi_class="ovr")
    )


@register("f1", higher=True, task="classification")
def _f1(y: Tensor, prediction: Tensor, weight: Tensor | None) -> float:
    """The harmonic mean of precision and recall, averaged over classes."""
    return float(
        _sklearn("f1").f1_score(
            _truth(y, prediction).numpy(),
            classes(prediction).numpy(),
            average="macro",
            sample_weight=_host(weight),
            zero_division=0.0,
        )
    )
