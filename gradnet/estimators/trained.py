"""What every multilayer perceptron here shares: the call of a fit, its weights, and predictions."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from gradnet import nn
from gradnet.estimators.network import Array, network, predictions, put
from gradnet.estimators.protocol import CallbackSupportMixin, with_callbacks

Validation = tuple[Any, Any, Any]
"""X_val, y_val and sample_weight_val, each None where it is not given."""


class Trained(CallbackSupportMixin, BaseEstimator):  # type: ignore[misc]
    """Base of the estimators that hold the weights of a network as arrays, which users may set."""

    device: str | None
    coefs_: list[Array]
    intercepts_: list[Array]
    _others: Mapping[str, Array] = MappingProxyType({})
    """What is learned besides: nothing where users set the weights without a fit."""

    def _fit(self, X: Any, y: Any, sample_weight: Any, validation: Validation) -> Self:
        raise NotImplementedError

    def _layout(self) -> dict[str, Any]:
        """The sizes, activation, dropout and out_activation of the network."""
        raise NotImplementedError

    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Train on rows X and targets y, which `help` of the class tells of.

        A row of weight 2 counts as two rows. `X_val`, `y_val` are the rows that early stopping
        watches. Raises ValueError and TypeError for what cannot be used.
        """
        return self._fit(X, y, sample_weight, (X_val, y_val, sample_weight_val))

    def _network_of(self, dtype: Any, seed: int | None = None) -> nn.MLP:
        return network(**self._layout(), dtype=dtype, device=self.device, seed=seed)

    def _computed(self, X: Array, dtype: Any) -> Array:
        """What the output unit predicts of rows, by the weights of now: (n, k) -> (n, outputs)."""
        model = self.__dict__.get("_network")
        if model is None:
            model = self._network = self._network_of(dtype)
        put(model, self.coefs_, self.intercepts_, self._others)
        return predictions(model, X)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("_network", None)
        return state


class Classifier(ClassifierMixin):  # type: ignore[misc]
    """What the classifiers share."""

    def predict_proba(self, X: Any) -> Array:
        raise NotImplementedError

    def predict_log_proba(self, X: Any) -> Array:
        """log predict_proba(X)."""
        with np.errstate(divide="ignore"):
            found: Array = np.log(self.predict_proba(X))
        return found
