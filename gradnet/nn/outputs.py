"""Output units: what the raw outputs of a network mean, and the loss that belongs to them.

A unit is one class here; registering it is all that it takes to be found by name. One with
settings is asked for as {"name": ..., settings}, or made by its class.
"""

from __future__ import annotations

from collections.abc import Mapping
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
        """The loss of raw outputs z, a scalar Tensor; the settings are those of `nn.losses`.

        Raises ValueError for settings that are not of the unit's task.
        """
        return self.misfit(
            z,
            y,
            **self.of_classes(class_weight, label_smoothing),
            sample_weight=sample_weight,
            reduction=reduction,
            check=check,
        )

    def of_classes(self, class_weight: Any, label_smoothing: float) -> dict[str, Any]:
        """The settings of `misfit` that are of classes."""
        return {"class_weight": class_weight, "label_smoothing": label_smoothing}

    def misfit(self, z: Any, y: Any, **options: Any) -> Tensor:
        """What `loss` computes, with its settings by name: what a unit says."""
        raise NotImplementedError

    def predict(self, z: Any) -> Any:
        """What raw outputs z say, of the shape of z."""
        raise NotImplementedError

    def estimate(self, z: Any) -> Tensor:
        """One number per target, or a probability per class: what metrics compare with targets.

        Where `predict` gives several things, the first of them.
        """
        prediction = self.predict(z)
        found: Tensor = prediction[0] if isinstance(prediction, tuple) else prediction
        return found

    def settings(self) -> dict[str, Any]:
        """What the unit was made with, JSON-able: arguments of its class by name."""
        return {}

    def config(self) -> str | dict[str, Any]:
        """The name, with the settings where there are any: `output_unit` takes either."""
        settings = self.settings()
        return {"name": self.name, **settings} if settings else self.name

    def __repr__(self) -> str:
        settings = "".join(f" {key}={value}" for key, value in self.settings().items())
        return f"<output unit {self.name}{settings}>"


_UNITS: dict[str, OutputUnit] = {}
U = TypeVar("U", bound=type[OutputUnit])


def register_output(cls: U) -> U:
    """Offer a class of output unit by its name; use it as a decorator."""
    _UNITS[cls.name] = cls()
    return cls


def names() -> tuple[str, ...]:
    """The names of all output units."""
    return tuple(_UNITS)


def output_unit(name: str | Mapping[str, Any] | OutputUnit) -> OutputUnit:
    """The output unit of that name, or of {"name": ..., settings}; a unit is returned as it is.

    Raises KeyError, with close matches, for an unknown name, and TypeError for settings that the
    unit does not take.
    """
    if isinstance(name, OutputUnit):
        return name
    settings = dict(name) if isinstance(name, Mapping) else {"name": name}
    wanted = settings.pop("name", None)
    found = _UNITS.get(wanted) if isinstance(wanted, str) else None
    if found is None:
        raise unknown("output unit", str(wanted), _UNITS)
    return type(found)(**settings) if settings else found


class RegressionUnit(OutputUnit):
    """Base of the units of a task in which classes mean nothing."""

    task = "regression"

    def of_classes(self, class_weight: Any, label_smoothing: float) -> dict[str, Any]:
        """None. Raises ValueError where there are any."""
        if class_weight is not None or label_smoothing:
            which = "class_weight" if class_weight is not None else "label_smoothing"
            raise ValueError(
                f"the output unit {self.name!r} is for regression and takes no {which}; weigh rows "
                "with sample_weight"
            )
        return {}


@register_output
class SoftmaxOutput(OutputUnit):
    """One of k classes: softmax(z) (n, k), with the cross-entropy."""

    name = "softmax"
    task = "classification"

    def misfit(self, z: Any, y: Any, **options: Any) -> Tensor:
        """Cross-entropy: z (n, k), classes (n,) or probabilities (n, k)."""
        return losses.cross_entropy(z, y, **options)

    def predict(self, z: Any) -> Tensor:
        """The probability of each class: (n, k) -> (n, k)."""
        return ops.softmax(z)


@register_output
class SigmoidOutput(OutputUnit):
    """Two classes, or m labels that exclude nothing: sigmoid(z), with the binary cross-entropy."""

    name = "sigmoid"
    task = "classification"

    def misfit(self, z: Any, y: Any, **options: Any) -> Tensor:
        """Binary cross-entropy: z (n, m), targets (n, m), or (n,) for m = 1."""
        return losses.binary_cross_entropy(z, y, **options)

    def predict(self, z: Any) -> Tensor:
        """The probability of class 1, of the shape of z."""
        y: Tensor = ops.sigmoid(z)
        return y


@register_output
class LinearOutput(RegressionUnit):
    """Numbers: z itself, with the mean squared error."""

    name = "linear"

    def misfit(self, z: Any, y: Any, **options: Any) -> Tensor:
        """Mean squared error: z (n, m), targets (n, m), or (n,) for m = 1."""
        return losses.mse(z, y, **options)

    def predict(self, z: Any) -> Tensor:
        """z."""
        return ops.asarray(z)
