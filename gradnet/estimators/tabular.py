"""TabularMLPClassifier and TabularMLPRegressor: data frames as they are, and no configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_array,
    column_or_1d,
)

from gradnet.data.table import Column
from gradnet.data.targets import Target
from gradnet.estimators import options
from gradnet.estimators.network import Array
from gradnet.estimators.tabular_base import Tabular
from gradnet.estimators.trained import Classifier
from gradnet.training.defaults import WHOLE

_PARAMETERS = """
    X is a data frame of pandas or polars, an Arrow table, or an array; its columns are numbers,
    text, booleans or categories, any cell may be missing: `help(gradnet.data)` tells of them.
    Data frames need pyarrow. y is (n,).
    Settings that are None are chosen by the number of rows (`gradnet.training.defaults`):

    hidden_layer_sizes   units of each hidden layer
    activation           any of `gradnet.nn.activations.names()`
    dropout              probability of dropping a hidden unit in training
    solver               any of `gradnet.optim.names()` that takes batches: "adamw", with a learning
                         rate that falls along a cosine
    learning_rate_init, weight_decay   of the solver
    max_iter             epochs at most
    batch_size           rows of a step
    n_iter_no_change     epochs without a better validation loss until a fit ends
    validation_fraction  rows held out for that, unless `fit` is given X_val, y_val; 0 for none. If
                         None, a tenth, but none of fewer than {whole:,} rows, which are all trained
                         on, for a number of epochs set before
    random_state         decides weights, validation rows, order of rows and dropout
    verbose              tell of progress on standard error
    device               "cpu", "cuda", "cuda:1": where to compute
"""

_ATTRIBUTES = """
    Attributes: preprocessing_ (the `gradnet.data.Preprocessing`), notes_ (remarks on the data),
    settings_ (what was chosen), history_ (the columns of the run, lists), best_iter_, n_iter_,
    loss_, coefs_, intercepts_, n_features_in_, feature_names_in_{more}.
"""


class TabularMLPClassifier(Classifier, Tabular):
    __doc__ = (
        """A multilayer perceptron for classes, on a data frame with categories and missing cells.
"""
        + _PARAMETERS.format(whole=WHOLE)
        + """    class_weight         "balanced", or a mapping of classes to weights
"""
        + _ATTRIBUTES.format(more=", classes_")
    )

    _out_activation = "softmax"

    def __init__(
        self,
        hidden_layer_sizes: Any = None,
        activation: str | None = None,
        *,
        dropout: float | None = None,
        solver: str | None = None,
        learning_rate_init: float | None = None,
        weight_decay: float | None = None,
        max_iter: int | None = None,
        batch_size: int | None = None,
        n_iter_no_change: int | None = None,
        validation_fraction: float | None = None,
        random_state: Any = None,
        verbose: bool | int = False,
        device: str | None = None,
        class_weight: Any = None,
    ) -> None:
        options.keep(self, locals())

    def _checked_y(self, y: Any, first: bool) -> Array:
        if y is None:
            raise ValueError(
                "This estimator requires y to be passed, but the target y is None: pass classes"
            )
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        if first:
            self.classes_ = np.unique(y)
            options.several(self.classes_)
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(f"y_val has classes {unknown} that y has not: {self.classes_}")
        return np.asarray(y)

    def _target(self) -> Target:
        classes = tuple(str(c) for c in self.classes_)
        return Target("y", "classification", classes, self.classes_.dtype.kind in "iuf")

    def _encoded(self, y: Array) -> Array:
        return np.searchsorted(self.classes_, y)

    def _strata(self, y: Array) -> Any:
        return self._encoded(y)

    def _class_weights(self) -> Any:
        if isinstance(self.class_weight, Mapping):
            return options.listed_weights(self.class_weight, self.classes_)
        return self.class_weight

    def predict(self, X: Any) -> Array:
        """The most probable class of each row, (n,)."""
        codes = self._predictions(X).argmax(axis=1)
        found: Array = self.classes_[codes]
        return found

    def predict_proba(self, X: Any) -> Array:
        """The probability of each class, (n, classes), in the order of `classes_`."""
        return self._predictions(X)


class TabularMLPRegressor(RegressorMixin, Tabular):  # type: ignore[misc]
    __doc__ = (
        """A multilayer perceptron for numbers, on a data frame with categories and missing cells.

    Targets are standardised for the network, and predicted in their own units.
"""
        + _PARAMETERS.format(whole=WHOLE)
        + _ATTRIBUTES.format(more="")
    )

    _out_activation = "identity"

    def _checked_y(self, y: Any, first: bool) -> Array:
        if y is None:
            raise ValueError(
                "This estimator requires y to be passed, but the target y is None: pass numbers"
            )
        found: Array = check_array(
            column_or_1d(y, warn=True), ensure_2d=False, dtype=np.float64, input_name="y"
        )
        return found

    def _target(self) -> Target:
        return Target("y", "regression")

    def _encoded(self, y: Array) -> Array:
        return self.preprocessing_.target.encode(Column("y", np.asarray(y, dtype=np.float64)))

    def _strata(self, y: Array) -> Any:
        return len(y)

    def predict(self, X: Any) -> Array:
        """The number of each row, (n,), in the units of y."""
        found = self._predictions(X)[:, 0]
        return self.preprocessing_.decode(found)
