"""Checks of what losses are given: targets, weights and shapes, with errors that name the row.

An accelerator is not made to wait for values: what is wrong with them is told when the next ones
are read, see `ops.values.refuse_outside`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gradnet import dtypes, ops
from gradnet.errors import DataError, DTypeError, ShapeError
from gradnet.ops.values import refuse_outside
from gradnet.tensor import Tensor

Shape = tuple[int, ...]

REDUCTIONS = ("mean", "sum", "none")
# How far the sum of probabilities may be from 1.
_SLACK = 1e-3


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
    if check and dtypes.is_floating(y.dtype):
        refuse_outside(y, -math.inf, math.inf, _missing, name, y.shape)
    return z, (y if y.dtype == z.dtype else ops.astype(y, z.dtype))


def _missing(name: str, shape: Shape, i: int, value: Any) -> DataError:
    return DataError(
        f"{name} got NaN as the target of row {_row(i, shape)}; drop or fill such rows"
    )


def check_range(name: str, y: Tensor, low: float, high: float) -> None:
    """Raise DataError, naming value and row, for a target outside of low ... high."""
    refuse_outside(y, low, high, _beyond, name, low, high, y.shape)


def _beyond(name: str, low: float, high: float, shape: Shape, i: int, value: Any) -> DataError:
    return DataError(
        f"{name} takes targets in {low:g} ... {high:g}, got {value} in row {_row(i, shape)}"
    )


def signs(name: str, y: Tensor, check: bool) -> Tensor:
    """Targets -1 and 1, or 0 and 1, as -1 and 1."""
    if check:
        given = y.detach()
        size = ops.abs(given)
        # 0 for -1, 0 and 1 alone.
        odd = size * (size - 1)
        refuse_outside(odd, 0, 0, _no_sign, name, y.shape, shown=given, made=True)
        # Below 0 where the smallest is -1 and one is 0.
        both = ops.min(given) + ops.min(size)
        refuse_outside(both, 0, math.inf, _three_signs, name, made=True)
    found: Tensor = ops.where(ops.greater(y, 0), ops.ones_like(y), -1)
    return found


def _no_sign(name: str, shape: Shape, i: int, value: Any) -> DataError:
    return DataError(
        f"{name} takes targets -1 and 1 (or 0 and 1), got {value} in row {_row(i, shape)}"
    )


def _three_signs(name: str, i: int, value: Any) -> DataError:
    return DataError(f"{name} takes targets -1 and 1, or 0 and 1, got -1, 0 and 1 mixed")


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
    if check:
        refuse_outside(y, 0, k - 1, _no_class, name, z.shape)
    return y if y.dtype == dtypes.int64 else ops.astype(y, dtypes.int64)


def _no_class(name: str, outputs_shape: Shape, row: int, value: Any) -> DataError:
    return DataError(
        f"{name} has classes 0 to {outputs_shape[1] - 1} for outputs of shape {outputs_shape}, got "
        f"class {value} in row {row}"
    )


def probabilities(name: str, z: Tensor, y: Tensor, check: bool) -> Tensor:
    """Soft targets (n, k) of outputs (n, k): rows of probabilities.

    Raises DataError, naming the row, for a negative or NaN entry, or a sum other than 1.
    """
    if check:
        given = ops.astype(y.detach(), z.dtype, copy=False)
        sums, lowest = ops.sum(given, axis=1), ops.min(given, axis=1)
        # Far from 1 as well where an entry is negative.
        measure = ops.where(ops.greater_equal(lowest, 0), sums, -1)
        told = ops.stack([sums, lowest], axis=1)
        low, high = 1 - _SLACK, 1 + _SLACK
        refuse_outside(measure, low, high, _no_probabilities, name, shown=told, made=True)
    return y if y.dtype == z.dtype else ops.astype(y, z.dtype)


def _no_probabilities(name: str, row: int, whole: Any, lowest: Any) -> DataError:
    return DataError(
        f"{name} takes soft targets that are probabilities, got row {row} with sum {whole:.6g} "
        f"and smallest entry {lowest:.6g}; divide by the sums"
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
    weights = ops.astype(weights, z.dtype, copy=False)
    if check:
        _check_weights(name, "sample_weight", weights)
    return weights


def _check_weights(name: str, which: str, weights: Tensor) -> None:
    given = weights.detach()
    if not given.size:
        return
    usable = ops.where(ops.elementwise("isinf")(given), -1, given)
    refuse_outside(usable, 0, math.inf, _unusable, name, which, shown=given, made=True)
    some = ops.sign(ops.max(given))
    refuse_outside(some, 1, 1, _no_weight, name, which, made=True)


def _unusable(name: str, which: str, i: int, value: Any) -> DataError:
    return DataError(f"{name} takes a {which} that is finite and not negative, got {value} at {i}")


def _no_weight(name: str, which: str, i: int, value: Any) -> DataError:
    return DataError(f"{name} got a {which} that is zero everywhere; at least one must count")


def _row(i: int, shape: Shape) -> int:
    """The row of an element that is counted in row-major order."""
    return i // math.prod(shape[1:])
