"""What learners are given, checked: features, labels, values; errors name row and remedy."""

from __future__ import annotations

from typing import Any

from gradnet import dtypes, ops
from gradnet.errors import DataError, DTypeError, ShapeError, TrainingError
from gradnet.tensor import Tensor
from gradnet.training import checks


def numbers(name: str, x: Any) -> Tensor:
    """Finite real numbers as a Tensor: floats in their dtype, integers and booleans in float32.

    Raises TypeError, DTypeError, ShapeError and DataError for what is none.
    """
    if x is None or isinstance(x, str | bytes | dict):
        what = "None" if x is None else type(x).__name__
        raise TypeError(f"{name} must be an array of numbers, not {what}")
    found = ops.asarray(x).detach()
    if dtypes.kind(found.dtype) == "complex":
        raise DTypeError(f"{name} has dtype {found.dtype.name}; expected real numbers")
    if not dtypes.is_floating(found.dtype):
        found = ops.astype(found, dtypes.DEFAULT_FLOAT)
    if not found.size:
        raise DataError(f"{name} is empty: shape {found.shape}")
    checks.finite(name, found, x)
    return found


def features(X: Any, columns: int | None = None) -> Tensor:
    """Features (n, k), of as many columns as a learner was fitted on."""
    found = numbers("X", X)
    if found.ndim != 2:
        hint = ", such as X.reshape(-1, 1) for one feature" if found.ndim == 1 else ""
        raise ShapeError(f"X has shape {found.shape}; expected (n, features){hint}")
    if columns is not None and found.shape[1] != columns:
        raise ShapeError(f"X has {found.shape[1]} columns, but the learner was fitted on {columns}")
    return found


def _one_column(y: Any, x: Tensor) -> Tensor:
    found = ops.astype(numbers("y", y), x.dtype)
    checks.same_rows(x, found)
    if found.ndim == 2 and found.shape[1] == 1:
        found = ops.reshape(found, (-1,))
    if found.ndim != 1:
        raise ShapeError(f"y has shape {found.shape}; expected one label per row, (n,)")
    return found


def signs(y: Any, x: Tensor) -> tuple[Tensor, int]:
    """Labels -1 and 1, or 0 and 1, as signs (n,); and the lower label.

    Raises DataError for other labels and where all are alike.
    """
    found = _one_column(y, x)
    labels = ops.unique_values(found).tolist()
    odd = [label for label in labels if label not in (-1, 0, 1)]
    if odd or len(labels) > 2:
        got = f"{odd[0]:g}" if odd else "-1, 0 and 1 mixed"
        raise DataError(f"y must hold the labels -1 and 1, or 0 and 1; got {got}")
    if len(labels) < 2 or labels[1] != 1:
        raise DataError(
            f"y must hold both labels, -1 and 1 or 0 and 1; it holds "
            f"{' and '.join(f'{label:g}' for label in labels)}"
        )
    return ops.where(found > 0, ops.ones_like(found), -1), int(labels[0])


def labels(decision: Tensor, lower: int) -> Tensor:
    """1 where a decision is above 0, else the lower label, as int64."""
    above = ops.astype(decision > 0, "int64")
    return above * (1 - lower) + lower


def classes(y: Any, x: Tensor) -> tuple[Tensor, int]:
    """Classes 0 ... k - 1 as int64 (n,), and k. Raises DataError for others, and for one alone."""
    found = _one_column(y, x)
    labels = ops.unique_values(found).tolist()
    odd = [label for label in labels if label < 0 or label != int(label)]
    if odd:
        raise DataError(f"y must hold classes 0, 1, 2, ...; got {odd[0]:g}")
    if len(labels) < 2:
        raise DataError(f"y must hold at least two classes; it holds {labels[0]:g} alone")
    return ops.astype(found, "int64"), int(labels[-1]) + 1


def values(y: Any, x: Tensor) -> Tensor:
    """Values (n,) or (n, m) in the dtype of the features."""
    found = ops.astype(numbers("y", y), x.dtype)
    checks.same_rows(x, found)
    if found.ndim > 2:
        raise ShapeError(f"y has shape {found.shape}; expected (n,) or (n, m)")
    return found


class Described:
    """Base of learners: shows itself with its settings."""

    def __repr__(self) -> str:
        settings = ", ".join(
            f"{name}={value!r}"
            for name, value in vars(self).items()
            if not name.startswith("_") and isinstance(value, bool | int | float | str | tuple)
        )
        return f"{type(self).__name__}({settings})"


class Fitted(Described):
    """Base of learners of one layer: `fit` sets `weights`, and what needs them before says so."""

    weights: Tensor | None = None

    def fitted(self) -> Tensor:
        """The weights. Raises TrainingError before `fit`."""
        if self.weights is None:
            raise TrainingError(f"this {type(self).__name__} has not learned yet; call fit first")
        return self.weights
