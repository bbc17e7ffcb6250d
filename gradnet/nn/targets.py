"""Checks of what losses are given: targets, weights and shapes, with errors that name the row.

Values are read only where that is free, on the CPU: an accelerator is not made to wait for them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gradnet import dtypes, host, ops
from gradnet.errors import DataError, DTypeError, ShapeError
from gradnet.tensor import Tensor

REDUCTIONS = ("mean", "sum", "none")


def readable(x: Tensor) -> bool:
    """Whether reading the values of a tensor costs no wait for a device."""
    return x.device == "cpu" and x.size > 0


def outputs(name: str, z: Any, reduction: str) -> Tensor:
    """The network's outputs as a Tensor in the dtype of the computation.

    Raises DTypeError for values that are not floating, ShapeError without rows and ValueError for
    an unknown reduction.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"{name} has reduction 'mean', 'sum' or 'none', got {reduction!r}")
    z = z if isinstance(z, Tensor) else ops.asarray(z)
    if not dtypes.is_floating(z.dtype):
        raise DTypeError(
            f"{name} takes floating outputs of a network, got {z.dtype.name}; were outputs and "
            "targets exchanged?"
        )
    if not z.ndim or not z.size:
        raise ShapeError(f"{name} got outputs of shape {z.shape}; expected at least one row")
    working = dtypes.compute_dtype(z.dtype)
    return z if z.dtype == working else ops.astype(z, working)


def beside(z: Tensor, y: Any) -> Tensor:
    """Targets as a Tensor, made on the backend of the outputs where they are not one yet."""
    return y if isinstance(y, Tensor) else ops.asarray(y, backend=z.backend)


def matched(name: str, z: Tensor, y: Any, check: bool) -> tuple[Tensor, Tensor]:
    """Outputs and targets of one shape and dtype; one may lack a last axis of length 1.

    Raises ShapeError where shapes differ otherwise, and DataError for NaN among the targets.
    """
    y = beside(z, y)
    if z.shape != y.shape:
        if z.shape == (*y.shape, 1):
            z = ops.reshape(z, y.shape)
        elif y.shape == (*z.shape, 1):
            y = ops.reshape(y, z.shape)
        else:
            raise ShapeError(
                f"{name} got outputs of shape {z.shape} and targets of shape {y.shape}; "
                "expected equal shapes"
                + ("; classes need cross_entropy" if y.ndim == 1 and z.ndim == 2 else "")
            )
    if dtypes.kind(y.dtype) == "complex":
        raise DTypeError(f"{name} takes real targets, got {y.dtype.name}")
    if check and dtypes.is_floating(y.dtype) and readable(y):
        host.check(_no_nan, y, name, bounds=(-math.inf, math.inf))
    return z, (y if y.dtype == z.dtype else ops.astype(y, z.dtype))


def _no_nan(y: Tensor, name: str) -> None:
    values = y.numpy()
    lowest = values.min()  # NaN if any is NaN
    if lowest != lowest:
        at = _first(values != values)
        raise DataError(f"{name} got NaN as the target of row {at}; drop or fill such rows")


def check_range(name: str, y: Tensor, low: float, high: float) -> None:
    """Raise DataError, naming value and row, for a target outside of low ... high."""
    if readable(y):
        host.check(_in_range, y, name, low, high, bounds=(low, high))


def _in_range(y: Tensor, name: str, low: float, high: float) -> None:
    values = y.numpy()
    if values.min() < low or values.max() > high:
        at = _first((values < low) | (values > high))
        raise DataError(
            f"{name} takes targets in {low:g} ... {high:g}, got "
            f"{values.reshape(len(values), -1)[at].tolist()} in row {at}"
        )


def signs(name: str, y: Tensor, check: bool) -> Tensor:
    """Targets -1 and 1, or 0 and 1, as -1 and 1."""
    if check and readable(y):
        host.check(_two_signs, y, name)
    found: Tensor = ops.where(ops.greater(y, 0), ops.ones_like(y), -1)
    return found


def _two_signs(y: Tensor, name: str) -> None:
    values = y.numpy()
    odd = (values != 1) & (values != -1) & (values != 0)
    if odd.any():
        at = _first(odd)
        raise DataError(
            f"{name} takes targets -1 and 1 (or 0 and 1), got "
            f"{values.reshape(len(values), -1)[at].tolist()} in row {at}"
        )
    if (values == 0).any() and (values == -1).any():
        raise DataError(f"{name} takes targets -1 and 1, or 0 and 1, got -1, 0 and 1 mixed")


def classes(name: str, z: Tensor, y: Any, check: bool) -> Tensor:
    """Integer targets (n,) of outputs (n, k), as int64.

    Raises DTypeError for other dtypes, ShapeError for other lengths, and DataError, naming value
    and row, for a class outside 0 ... k - 1.
    """
    y = beside(z, y)
    n, k = z.shape
    if y.shape == (n, 1):
        y = ops.reshape(y, (n,))
    if y.shape != (n,):
        raise ShapeError(
            f"{name} got outputs of shape {z.shape} and targets of shape {y.shape}; expected one "
            f"class per row, shape ({n},)"
        )
    if dtypes.kind(y.dtype) not in ("int", "uint"):
        raise DTypeError(
            f"{name} takes classes as integers, got {y.dtype.name} of shape {y.shape}; cast them "
            "with astype(gradnet.int64)"
        )
    if check and readable(y):
        host.check(_in_classes, y, name, z.shape, bounds=(0, k - 1))
    return y if y.dtype == dtypes.int64 else ops.astype(y, dtypes.int64)


def _in_classes(y: Tensor, name: str, outputs_shape: tuple[int, ...]) -> None:
    values, k = y.numpy(), outputs_shape[1]
    if values.min() < 0 or values.max() >= k:
        at = _first((values < 0) | (values >= k))
        raise DataError(
            f"{name} has classes 0 to {k - 1} for outputs of shape {outputs_shape}, got class "
            f"{values[at]} in row {at}"
        )


def probabilities(name: str, z: Tensor, y: Tensor, check: bool) -> Tensor:
    """Soft targets (n, k) of outputs (n, k): rows of probabilities.

    Raises DataError, naming the row, for a negative or NaN entry, or a sum other than 1.
    """
    if check and readable(y):
        host.check(_sum_to_one, y, name)
    return y if y.dtype == z.dtype else ops.astype(y, z.dtype)


def _sum_to_one(y: Tensor, name: str) -> None:
    values = y.numpy()
    sums = values.sum(axis=1, dtype="float64")
    odd = ~(abs(sums - 1) <= 1e-3) | ~(values.min(axis=1) >= 0)
    if odd.any():
        at = int(odd.argmax())
        raise DataError(
            f"{name} takes soft targets that are probabilities, got row {at} with sum "
            f"{sums[at]:.6g} and smallest entry {values[at].min():.6g}; divide by the sums"
        )


def smoothing(name: str, label_smoothing: float) -> float:
    """Raise ValueError for a label smoothing outside [0, 1)."""
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"{name} takes label_smoothing in 0 <= s < 1, got {label_smoothing}")
    return float(label_smoothing)


def class_weights(name: str, class_weight: Any, z: Tensor, k: int, check: bool) -> Tensor:
    """A weight per class, (k,), from a sequence or a dict by class (1 where it has none).

    Raises ShapeError for another count, DataError for negative, NaN, infinite or only zero ones.
    """
    if isinstance(class_weight, Mapping):
        unknown = [c for c in class_weight if c not in range(k)]
        if unknown:
            raise DataError(
                f"{name} has classes 0 to {k - 1}, got a class_weight for {unknown[0]!r}"
            )
        class_weight = [float(class_weight.get(c, 1.0)) for c in range(k)]
    weights = ops.asarray(class_weight, dtype=z.dtype, backend=z.backend)
    if weights.shape != (k,):
        raise ShapeError(
            f"{name} takes a class_weight per class, {k} of them, got shape {weights.shape}"
        )
    if check:
        _check_weights(name, "class_weight", weights)
    return weights


def sample_weights(name: str, sample_weight: Any, z: Tensor, check: bool) -> Tensor:
    """A weight per row, (n,), in the dtype of the outputs.

    Raises ShapeError for another count, DataError for negative, NaN, infinite or only zero ones.
    """
    weights = beside(z, sample_weight)
    n = z.shape[0]
    if weights.shape == (n, 1):
        weights = ops.reshape(weights, (n,))
    if weights.shape != (n,):
        raise ShapeError(
            f"{name} takes a sample_weight per row, shape ({n},), got shape {weights.shape}"
        )
    if check:
        _check_weights(name, "sample_weight", weights)
    return weights if weights.dtype == z.dtype else ops.astype(weights, z.dtype)


def _check_weights(name: str, which: str, weights: Tensor) -> None:
    if readable(weights):
        host.check(_usable_weights, weights, name, which)


def _usable_weights(weights: Tensor, name: str, which: str) -> None:
    values = weights.numpy()
    odd = ~(values >= 0) | (values == float("inf"))
    if odd.any():
        at = _first(odd)
        raise DataError(
            f"{name} takes a {which} that is finite and not negative, got {values[at]} at {at}"
        )
    if not values.any():
        raise DataError(f"{name} got a {which} that is zero everywhere; at least one must count")


def _first(odd: Any) -> int:
    """The first row with a True in it."""
    return int(odd.reshape(len(odd), -1).any(axis=1).argmax())
