"""Evaluation: loss and metrics of a model on rows it does not learn from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from gradnet import ops
from gradnet.autodiff import no_grad
from gradnet.errors import DataError
from gradnet.nn import Module
from gradnet.tensor import Tensor
from gradnet.training.metrics import Metric
from gradnet.training.objective import Objective
from gradnet.training.sources import Rows
from gradnet.training.weights import row_weights

# Rows that go through the model together where nothing is kept for a gradient.
_ROWS = 2048


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """No dropout, running statistics and no gradients within a `with` block."""
    training = model.training
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        model.train(training)


def outputs(model: Module, x: Tensor, rows: int = _ROWS) -> Tensor:
    """The raw outputs for features (n, ...), a part of the rows at a time."""
    with evaluating(model):
        return joined([model(x[i : i + rows]) for i in range(0, x.shape[0], rows)])


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Tensors one below the other."""
    return parts[0] if len(parts) == 1 else ops.concat(list(parts), axis=0)


class Evaluation:
    """Loss and metrics on the rows that `batches` gives at each call.

    Metrics count the weights of rows, the loss those of classes, (k,), too.
    """

    def __init__(
        self,
        model: Module,
        objective: Objective,
        metrics: Sequence[Metric],
        batches: Callable[[], Iterable[Rows]],
        by_class: Tensor | None = None,
    ) -> None:
        self.model = model
        self.objective = objective
        self.metrics = tuple(metrics)
        self.batches = batches
        self.by_class = by_class

    def __call__(self) -> dict[str, float]:
        """The "loss" and each metric by name. Raises DataError where there are no rows."""
        zs: list[Tensor] = []
        ys: list[Tensor] = []
        weights: list[Tensor] = []
        for rows in self.batches():
            zs.append(outputs(self.model, rows.x))
            ys.append(rows.y)
            if rows.weight is not None:
                weights.append(rows.weight)
        if not zs:
            raise DataError("there are no rows to evaluate the model on")
        z, y = joined(zs), joined(ys)
        weight = joined(weights) if weights else None
        with no_grad():
            by_row = row_weights(weight, self.by_class, y)
            if by_row is not None and not bool((by_row > 0).any()):
                raise DataError("all rows to evaluate the model on have weight 0")
            loss = float(self.objective.loss(z, y, by_row).item())
            if not (self.metrics and math.isfinite(loss)):
                # Where the loss is not finite no metric means anything, and some would fail.
                return {"loss": loss, **{metric.name: math.nan for metric in self.metrics}}
            prediction = self.objective.estimate(z)
            return {"loss": loss, **{m.name: m(y, prediction, weight) for m in self.metrics}}
