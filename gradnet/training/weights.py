"""Weights of rows: those of samples times those of their classes, as one tensor or None."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradnet import dtypes, ops
from gradnet.errors import DataError
from gradnet.tensor import Tensor
from gradnet.training.checks import tensor

ClassWeight = str | Mapping[int, float] | Sequence[float] | None


def sample_weights(weight: Any, like: Tensor, rows: int, name: str) -> Tensor | None:
    """Weights per row, (n,) beside `like` and in its dtype, or None where there are none.

    Raises DataError unless there is one finite weight >= 0 for each row and some above 0.
    """
    if weight is None:
        return None
    w = tensor(name, weight, like)
    if w.ndim == 2 and w.shape[1] == 1:
        w = ops.reshape(w, (-1,))
    if w.shape != (rows,):
        raise DataError(f"{name} has shape {w.shape} for {rows} rows; expected ({rows},)")
    w = ops.astype(w, like.dtype, copy=False)
    wrong = ~(ops.elementwise("isfinite")(w) & (w >= 0))
    if wrong.any():
        row = int(ops.argmax(ops.astype(wrong, "int64")))
        raise DataError(
            f"{name} is {w[row].item()} in row {row}; weights must be finite and at least 0"
        )
    if not (w > 0).any():
        raise DataError(f"{name} is 0 in every row: there is nothing to learn from")
    return w


def class_weights(
    given: ClassWeight, y: Tensor | None, count: int, like: Tensor, weight: Tensor | None
) -> Tensor | None:
    """A weight per class, (k,) beside `like`, or None where there are none.

    "balanced" is w_c = sum(w) / (k' * sum of w over the rows of class c), over the k' classes
    that have rows, so that each weighs the same in all, and 1 for the others. A mapping must have
    every class of y; where targets stream, and y is None, every class. Raises DataError where it
    has not, and for another kind of targets.
    """
    if given is None:
        return None
    if y is None:
        if isinstance(given, str):
            raise DataError(
                f"class_weight is {given!r}, but the rows that stream cannot be counted before; "
                "give the weights themselves"
            )
        return ops.asarray(_listed(given, [1.0] * count), dtype=like.dtype, backend=like.backend)
    hits = _membership(y, count, like)
    totals = ops.sum(hits if weight is None else hits * ops.expand_dims(weight, 1), axis=0)
    if isinstance(given, str):
        if given != "balanced":
            raise DataError(
                f"class_weight is {given!r}; expected 'balanced', a mapping of classes to weights "
                "or a sequence of weights"
            )
        present = totals > 0
        share = ops.sum(totals) / ops.sum(ops.astype(present, like.dtype))
        where = ops.elementwise("where")
        balanced: Tensor = where(present, share / where(present, totals, 1.0), 1.0)
        return balanced
    weights = _listed(given, ops.sum(hits, axis=0).numpy().tolist())
    return ops.asarray(weights, dtype=like.dtype, backend=like.backend)


def _listed(given: Mapping[int, float] | Sequence[float], rows: Sequence[float]) -> list[float]:
    """A weight for each class, checked; `rows` counts the rows of each class."""
    count = len(rows)
    if isinstance(given, Mapping):
        unknown = [c for c in given if c not in range(count)]
        if unknown:
            raise DataError(
                f"class_weight has the class {unknown[0]!r}; the model's classes are the integers "
                f"0 ... {count - 1}"
            )
        missing = [c for c in range(count) if c not in given and rows[c] > 0]
        if missing:
            raise DataError(
                f"class_weight has no weight for class {missing[0]}, which y has; "
                "give one for every class"
            )
        weights = [float(given.get(c, 1.0)) for c in range(count)]
    else:
        weights = [float(w) for w in given]
        if len(weights) != count:
            raise DataError(
                f"class_weight has {len(weights)} weights for the model's {count} classes; "
                "give one for every class"
            )
    for c, w in enumerate(weights):
        if not 0 <= w < float("inf"):
            raise DataError(
                f"class_weight of class {c} is {w}; weights must be finite and at least 0"
            )
    return weights


def row_weights(weight: Tensor | None, by_class: Tensor | None, y: Tensor) -> Tensor | None:
    """The product of the weights of each row and of its class, (n,), or None for neither.

    Targets that are probabilities (n, k) have the mean of the classes' weights.
    """
    if by_class is None:
        return weight
    own = ops.take(by_class, y, axis=0) if y.ndim == 1 else ops.matmul(y, by_class)
    return own if weight is None else own * weight


def _membership(y: Tensor, count: int, like: Tensor) -> Tensor:
    """How much each row belongs to each class, (n, k)."""
    if dtypes.kind(y.dtype) in ("int", "uint") and y.ndim == 1:
        return ops.one_hot(y, count, dtype=like.dtype)
    if y.ndim == 2 and y.shape[1] == count > 1:
        return y
    raise DataError(
        f"class_weight is for classes (n,) or probabilities (n, {count}), but y has shape "
        f"{y.shape} and dtype {y.dtype.name}; use sample_weight"
    )
