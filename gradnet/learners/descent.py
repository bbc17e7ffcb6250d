"""Gradient descent with all rows, some, or one for each step, on one surface of the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from gradnet import ops
from gradnet.autodiff import grad, no_grad
from gradnet.learners import intake
from gradnet.random import Generator
from gradnet.tensor import Tensor
from gradnet.training.checks import number, same_rows, whole

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
BATCH_SIZES: dict[str, int | None] = {"batch": None, "mini-batch": 16, "stochastic": 1}


class Descent(NamedTuple):
    """The way that a descent has gone.

    points  the weights: at the start, and after each step
    trace   the loss of all rows there
    rows    the rows that were used for gradients, all steps together
    """

    points: list[list[float]]
    trace: list[float]
    rows: int


def descend(
    loss: Loss,
    w: Any,
    X: Any,
    y: Any,
    *,
    batch_size: int | None = None,
    lr: float = 0.1,
    decay: float = 0.0,
    epochs: int = 10,
    seed: int = 0,
) -> Descent:
    """Minimise loss(w, X, y), a mean over rows, from the weights w (d,).

        for every epoch:
            for every batch B of the rows, in random order:
                w = w - lr / (1 + decay t) d/dw loss(w, X_B, y_B)        t counts the steps

    A batch_size of None takes all rows: batch descent, which goes straight down. One of 1 is
    stochastic descent: many small steps for the same work, each in a direction that is right on
    average only. Between them are mini-batches. Robbins and Monro 1951.
    """
    x = intake.features(X)
    y = intake.numbers("y", y) if not isinstance(y, Tensor) else y
    same_rows(x, y)
    w = ops.astype(intake.numbers("w", w), x.dtype)
    lr, decay = number("lr", lr, above=0.0), number("decay", decay)
    rows = x.shape[0]
    size = rows if batch_size is None else whole("batch_size", batch_size, 1)
    slope, generator = grad(lambda w, x, y: loss(w, x, y)), Generator(seed)
    weights, used = [w], 0
    for _ in range(whole("epochs", epochs, 1)):
        order = generator.permutation(rows, backend=x.backend) if size < rows else None
        for start in range(0, rows, size):
            part = slice(start, min(start + size, rows))
            seen, wanted = x, y
            if order is not None:
                seen, wanted = (ops.take(t, order[part], axis=0) for t in (x, y))
            w = w - lr / (1 + decay * (len(weights) - 1)) * slope(w, seen, wanted)
            weights.append(w)
            used += part.stop - part.start
    with no_grad():
        trace = [float(loss(w, x, y)) for w in weights]
    return Descent([w.tolist() for w in weights], trace, used)


def compare_descents(
    loss: Loss,
    w: Any,
    X: Any,
    y: Any,
    *,
    batch_sizes: Mapping[str, int | None] = BATCH_SIZES,
    **options: Any,
) -> dict[str, Descent]:
    """`descend` from one start with each size of batch, by its name."""
    return {
        name: descend(loss, w, X, y, batch_size=size, **options)
        for name, size in batch_sizes.items()
    }


def surface(
    loss: Loss, X: Any, y: Any, first: Sequence[float], second: Sequence[float]
) -> list[list[float]]:
    """The loss of all rows at the weights (a, b): a row for each b, a column for each a."""
    x = intake.features(X)
    y = intake.numbers("y", y) if not isinstance(y, Tensor) else y
    with no_grad():
        return [
            [
                float(loss(ops.asarray([a, b], dtype=x.dtype, backend=x.backend), x, y))
                for a in first
            ]
            for b in second
        ]
