"""Feature maps: what no plane separates, a plane separates in a space of more features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, Self, TypeVar

from gradnet import ops
from gradnet.learners import intake
from gradnet.tensor import Tensor


class Learner(Protocol):
    """What learns from rows and labels, and leaves a trace of it."""

    trace: Any

    def fit(self, X: Any, y: Any) -> Any:
        """Learn from rows X (n, k) and targets y."""

    def predict(self, X: Any) -> Tensor:
        """What it says of rows X (n, k)."""


L = TypeVar("L", bound=Learner)


def with_products(X: Any) -> Tensor:
    """The columns, and the product of every two of them: (n, k) -> (n, k + k (k - 1) / 2).

    Of the inputs of XOR, (x1, x2, x1 x2): there, x1 + x2 - 2 x1 x2 is 1 where just one input is 1,
    else 0.
    """
    x = intake.features(X)
    k = x.shape[1]
    pairs = [x[:, i : i + 1] * x[:, i + 1 :] for i in range(k - 1)]
    return ops.concat([x, *pairs], axis=1)


class FeatureMap(Generic[L]):
    """A learner behind a map of the features: FeatureMap(Perceptron()) learns XOR.

        phi(x) = (x, the products of its columns)          or another map, (n, k) -> (n, m)
        predict by w.phi(x) + b

    The rule that learns w is the learner's own. Minsky and Papert 1969.
    """

    def __init__(self, learner: L, features: Callable[[Any], Tensor] = with_products) -> None:
        self.learner, self.features = learner, features

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from rows X (n, k) and targets y."""
        self.learner.fit(self.features(X), y)
        return self

    def predict(self, X: Any) -> Tensor:
        """What the learner says of the mapped rows."""
        return self.learner.predict(self.features(X))

    @property
    def trace(self) -> Any:
        """The learner's."""
        return self.learner.trace
