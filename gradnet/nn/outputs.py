"""Output units: what the raw outputs of a network mean, and the loss that belongs to them.

A unit is one class here; registering it is all that it takes to be found by name.
"""

from __future__ import annotations

from typing import Any, TypeVar

from gradnet import ops
from gradnet.nn import losses
from gradnet.nn.names import unknown
from gradnet.tensor import Tensor


class OutputUnit:
    """Base of the output units.

    name   what users call it
    task   "classification" or "regression"
    """

    name: str
    task: str

    def units(self, targets: int) -> int:
        """How many outputs of the network that many classes or target columns need."""
        return targets

    def loss(
        self,
        z: Any,
        y: Any,
        sample_weight: Any = None,
        class_weight: Any = None,
        label_smoothing: float = 0.0,
        *,
        reduction: str = "mean",
        check: bool = True,
    ) -> Tensor:
        """The loss of raw outputs z, a scalar Tensor; the settings are those of `nn.losses`."""
        raise NotImplementedError

    def predict(self, z: Any) -> Any:
        """What raw outputs z say, of the shape of z."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<output unit {self.name}>"


_UNITS: dict[str, OutputUnit] = {}
U = TypeVar("U", bound=type[OutputUnit])


def register_output(cls: U) -> U:
    """Offer a class of output unit by its name; use it as a decorator."""
    _UNITS[cls.name] = cls()
    return cls


def names() -> tuple[str, ...]:
    """The names of all output units."""
    return tuple(_UNITS)


def output_unit(name: str | OutputUnit) -> OutputUnit:
    """The output unit of that name; a unit is returned as it is.

    Raises KeyError, with close matches, for an unknown name.
    """
    if isinstance(name, OutputUnit):
        return name
    found = _UNITS.get(name)
    if found is None:
        raise unknown("output unit", name, _UNITS)
    return found


class _Regression(OutputUnit):
    """Of a task in which classes mean nothing."""

    task = "regression"

    def _refuse(self, class_weight: Any, label_smoothing: float) -> None:
        if class_weight is not None or label_smoothing:
            which = "class_weight" if class_weight is not None else "label_smoothing"
            raise ValueError(
                f"the output unit {self.name!r} is for regression and takes no {which}; weigh rows "
                "with sample_weight"
            )


@register_output
class SoftmaxOutput(OutputUnit):
    """One of k classes: softmax(z) (n, k), with the cross-entropy."""

    name = "softmax"
    task = "classification"

    def loss(
        self,
        z: Any,
        y: Any,
        sample_weight: Any = None,
        class_weight: Any = None,
        label_smoothing: float = 0.0,
        *,
        reduction: str = "mean",
        check: bool = True,
    ) -> Tensor:
        """Cross-entropy: z (n, k), classes (n,) or probabilities (n, k)."""
        return losses.cross_entropy(
            z,
            y,
            label_smoothing=label_smoothing,
            class_weight=class_weight,
            sample_weight=sample_weight,
            reduction=reduction,
            check=check,
        )

    def predict(self, z: Any) -> Tensor:
        """The probability of each class: (n, k) -> (n, k)."""
        return ops.softmax(z)


@register_output
class SigmoidOutput(OutputUnit):
    """Two classes, or m labels that exclude nothing: sigmoid(z), with the binary cross-entropy."""

    name = "sigmoid"
    task = "classification"

    def loss(
        self,
        z: Any,
        y: Any,
        sample_weight: Any = None,
        class_weight: Any = None,
        label_smoothing: float = 0.0,
        *,
        reduction: str = "mean",
        check: bool = True,
    ) -> Tensor:
        """Binary cross-entropy: z (n, m), targets (n, m), or (n,) for m = 1."""
        return losses.binary_cross_entropy(
            z,
            y,
            label_smoothing=label_smoothing,
            class_weight=class_weight,
            sample_weight=sample_weight,
            reduction=reduction,
            check=check,
        )

    def predict(self, z: Any) -> Tensor:
        """The probability of class 1, of the shape of z."""
        y: Tensor = ops.sigmoid(z)
        return y


@register_output
class LinearOutput(_Regression):
    """Numbers: z itself, with the mean squared error."""

    name = "linear"

    def loss(
        self,
        z: Any,
        y: Any,
        sample_weight: Any = None,
        class_weight: Any = None,
        label_smoothing: float = 0.0,
        *,
        reduction: str = "mean",
        check: bool = True,
    ) -> Tensor:
        """Mean squared error: z (n, m), targets (n, m), or (n,) for m = 1."""
        self._refuse(class_weight, label_smoothing)
        return losses.mse(z, y, sample_weight=sample_weight, reduction=reduction, check=check)

    def predict(self, z: Any) -> Tensor:
        """z."""
        return ops.asarray(z)


@register_output
class GaussianOutput(_Regression):
    """Numbers with their uncertainty: mean and variance of a normal distribution each."""

    name = "gaussian"

    def units(self, targets: int) -> int:
        """Two for each target: its mean and its raw variance."""
        return 2 * targets

    def loss(
        self,
        z: Any,
        y: Any,
        sample_weight: Any = None,
        class_weight: Any = None,
        label_smoothing: float = 0.0,
        *,
        reduction: str = "mean",
        check: bool = True,
    ) -> Tensor:
        """Negative log-likelihood: z (n, 2m), targets (n, m), or (n,) for m = 1."""
        self._refuse(class_weight, label_smoothing)
        return losses.gaussian_nll(
            z, y, sample_weight=sample_weight, reduction=reduction, check=check
        )

    def predict(self, z: Any) -> tuple[Tensor, Tensor]:
        """Mean and variance: (n, 2m) -> (n, m), (n, m)."""
        return losses.gaussian_parameters(z)
