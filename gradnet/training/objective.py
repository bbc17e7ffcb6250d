"""Objective: what a model is trained for: its loss, its predictions, and what targets it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from gradnet import dtypes, ops
from gradnet.errors import DataError
from gradnet.nn import Module, losses, outputs
from gradnet.tensor import Tensor
from gradnet.training.metrics import Task

# For a model without an output unit: the one whose predictions a loss is about.
_UNIT_OF_LOSS = {
    "cross_entropy": "softmax",
    "binary_cross_entropy": "sigmoid",
    "mse": "linear",
    "mae": "linear",
    "huber": "linear",
    "quantile": "linear",
    "gaussian_nll": "gaussian",
    "poisson_nll": "poisson",
}


class Objective:
    """The loss, by default that of `model.output`, and the predictions of raw outputs.

    `loss` is a name of `nn.losses`, or a function loss(z, y), which must take `sample_weight` by
    name where rows are weighed. A model without an output unit needs one.
    Raises ValueError without a loss, or for label smoothing that nothing would apply.
    """

    def __init__(
        self,
        model: Module,
        loss: str | Callable[..., Tensor] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        unit = getattr(model, "output", None)
        self.unit: outputs.OutputUnit | None = (
            unit if isinstance(unit, outputs.OutputUnit) else None
        )
        if loss is None:
            if self.unit is None:
                raise ValueError(
                    f"{type(model).__name__} has no output unit that would say its loss; pass "
                    f"loss=, one of {', '.join(losses.names())}, or a function of (z, y)"
                )
            self._loss: Callable[..., Tensor] = self.unit.loss
        else:
            self._loss = losses.get(loss)
            if self.unit is None and self._name in _UNIT_OF_LOSS:
                self.unit = outputs.output_unit(_UNIT_OF_LOSS[self._name])
        taken = inspect.signature(self._loss).parameters
        anything = any(p.kind is p.VAR_KEYWORD for p in taken.values())
        self.takes_weights = anything or "sample_weight" in taken
        self._options: dict[str, Any] = {}
        if label_smoothing:
            if "label_smoothing" not in taken:
                raise ValueError(
                    f"label_smoothing is {label_smoothing}, but the loss {self._name} does not "
                    "take it; it is for cross_entropy and binary_cross_entropy"
                )
            self._options["label_smoothing"] = label_smoothing
        # The values of targets are checked once, before training, not in every step.
        self._unchecked = {"check": False} if "check" in taken else {}

    @property
    def _name(self) -> str:
        return str(getattr(self._loss, "__name__", type(self._loss).__name__))

    @property
    def task(self) -> Task | None:
        """The task of the output unit, if there is one."""
        return None if self.unit is None else self.unit.task  # type: ignore[return-value]

    def loss(self, z: Tensor, y: Tensor, weight: Tensor | None, *, check: bool = False) -> Tensor:
        """The mean loss of raw outputs, a scalar; `check` reads the values of targets."""
        options = dict(self._options) if check else {**self._options, **self._unchecked}
        if weight is not None:
            options["sample_weight"] = weight
        return self._loss(z, y, **options)

    def predict(self, z: Tensor) -> Any:
        """What raw outputs say: probabilities, values, or mean and variance."""
        return z if self.unit is None else self.unit.predict(z)

    def estimate(self, z: Tensor) -> Tensor:
        """The predictions that metrics compare with targets, such as the mean of a distribution."""
        return z if self.unit is None else self.unit.estimate(z)

    def classes(self, z: Tensor) -> int:
        """How many classes raw outputs (n, k), or (n, members, k), tell apart."""
        if z.ndim < 2 or z.shape[-1] == 1:
            return 2
        return z.shape[-1]

    def targets(self, y: Tensor, z: Tensor) -> Tensor:
        """Targets y, real numbers, in the shape and dtype that the loss of outputs z (1, k) takes.

        Classes become int64, also those given as whole floats or booleans, or in a column (n, 1);
        other targets take the dtype of z. Raises DataError for a class out of range.
        """
        kind = dtypes.kind(y.dtype)
        if self.task != "classification":
            integral = self.task is None and kind in ("int", "uint")
            return ops.astype(y, "int64" if integral else z.dtype, copy=False)
        several = z.ndim > 1 and z.shape[-1] > 1
        if several and y.ndim == 2 and y.shape[1] == z.shape[-1]:
            return ops.astype(y, z.dtype, copy=False)
        if y.ndim == 2 and y.shape[1] == 1:
            y = ops.reshape(y, (-1,))
        if y.ndim != 1:
            raise DataError(
                f"y has shape {y.shape} for a model with outputs (n, {z.shape[-1]}); expected "
                f"classes (n,)" + (f", or probabilities (n, {z.shape[-1]})" if several else "")
            )
        if kind == "float":
            whole = bool((ops.elementwise("floor")(y) == y).all())
            if not whole and several:
                raise DataError(
                    f"y holds fractions, but classes are the integers 0 ... {z.shape[-1] - 1}; "
                    'for a regression give the model output="linear"'
                )
            if not whole:
                return ops.astype(y, z.dtype, copy=False)
        classes: Tensor = ops.astype(y, "int64", copy=False)
        self._check_range(classes, self.classes(z))
        return classes

    def _check_range(self, y: Tensor, count: int) -> None:
        low, high = int(y.min()), int(y.max())
        if low >= 0 and high < count:
            return
        row = int(ops.argmin(y) if low < 0 else ops.argmax(y))
        raise DataError(
            f"y has class {int(y[row])} in row {row}, but the model has {count} classes, "
            f"0 ... {count - 1}"
            + ("; number the classes from 0" if low == 1 and high == count else "")
        )
