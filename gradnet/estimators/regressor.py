"""MLPRegressor: scikit-learn's multilayer perceptron for numbers, trained by gradnet."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_array, check_is_fitted, column_or_1d, validate_data

from gradnet.estimators.base import BaseMLP
from gradnet.estimators.network import Array
from gradnet.estimators.options import keep
from gradnet.estimators.texts import ATTRIBUTES, PARAMETERS


class MLPRegressor(RegressorMixin, BaseMLP):  # type: ignore[misc]
    __doc__ = (
        """A multilayer perceptron for numbers, one or several for each row.

    scikit-learn's interface and defaults, and more: see `gradnet.estimators`. `fit` takes rows X
    (n, features), which may be sparse and are made dense, and numbers y (n,) or (n, m).

    loss                 "squared_error", half of it, summed over the columns of y; or "poisson",
                         half the deviance of counts, of which the network gives the logarithm
"""
        + PARAMETERS.format(score='"r2"').lstrip("\n")
        + ATTRIBUTES.format(more="")
    )

    _score_name = "r2"

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        monitor: Any = None,
        dropout: float = 0.0,
        device: str | None = None,
    ) -> None:
        keep(self, locals())

    def _checked(self, X: Any, y: Any, reset: bool) -> tuple[Array, Any]:
        if self.loss not in ("squared_error", "poisson"):
            raise ValueError(f"loss must be 'squared_error' or 'poisson', got {self.loss!r}")
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            y_numeric=True,
            dtype=(np.float64, np.float32),
            reset=reset,
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if self.loss == "poisson" and y.min() < 0:
            raise ValueError(f"loss='poisson' is for counts of at least 0, but y has {y.min()}")
        return X, y

    def _encoded(self, y: Array, first: bool, incremental: bool) -> Array:
        columns = 1 if y.ndim == 1 else y.shape[1]
        if not first and columns != self.n_outputs_:
            raise ValueError(
                f"y has {columns} columns, but the estimator was fitted to {self.n_outputs_}"
            )
        return y.reshape(len(y), columns)

    def _encoded_validation(self, y: Any) -> Array:
        values = np.asarray(check_array(y, ensure_2d=False, dtype="numeric"))
        return values.reshape(len(values), -1)

    def _shape_of_targets(self, y: Array) -> tuple[int, str]:
        return y.shape[1], "exp" if self.loss == "poisson" else "identity"

    def predict(self, X: Any) -> Array:
        """The number of each row, (n,), or its numbers, (n, m)."""
        check_is_fitted(self)
        found = self._outputs(X)
        return found[:, 0] if found.shape[1] == 1 else found
