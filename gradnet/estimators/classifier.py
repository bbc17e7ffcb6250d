"""MLPClassifier: scikit-learn's multilayer perceptron for classes, trained by gradnet."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_array, column_or_1d, validate_data

from gradnet import ops
from gradnet.estimators.base import BaseMLP
from gradnet.estimators.network import Array
from gradnet.estimators.options import keep, weights_of_classes
from gradnet.estimators.protocol import with_callbacks
from gradnet.estimators.texts import ATTRIBUTES, PARAMETERS
from gradnet.estimators.trained import Classifier
from gradnet.tensor import Tensor
from gradnet.training import Metric, metric


class MLPClassifier(Classifier, BaseMLP):
    __doc__ = (
        """A multilayer perceptron for classes, or for several labels of each row.

    scikit-learn's interface and defaults, and more: see `gradnet.estimators`. `fit` takes rows X
    (n, features), which may be sparse and are made dense, and classes y (n,), or labels (n, m) of
    0 and 1.
"""
        + PARAMETERS.format(score='"accuracy"')
        + """    class_weight         "balanced", or a mapping of classes to weights
"""
        + ATTRIBUTES.format(more=", classes_")
    )

    _score_name = "accuracy"

    def __init__(
        self,
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
        class_weight: Any = None,
        device: str | None = None,
    ) -> None:
        keep(self, locals())

    @available_if(lambda self: self._check_solver())  # type: ignore[untyped-decorator]
    @with_callbacks  # type: ignore[untyped-decorator]
    def partial_fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        classes: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """As of every perceptron here; the first call needs all `classes` that will come."""
        self._note_classes(y, classes)
        return self._fit(X, y, sample_weight, (X_val, y_val, sample_weight_val), incremental=True)

    # Targets

    def _checked(self, X: Any, y: Any, reset: bool) -> tuple[Array, Any]:
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            dtype=(np.float64, np.float32),
            reset=reset,
        )
        check_classification_targets(y)
        if hasattr(y, "toarray"):
            y = y.toarray()
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

    def _note_classes(self, y: Any, classes: Any) -> None:
        """Keep the classes of a first partial fit; raises ValueError where none or others come."""
        known = hasattr(self, "classes_")
        if classes is None:
            if not known:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            return
        listed = np.unique(np.asarray(classes))
        if not known:
            self._multilabel = type_of_target(y).startswith("multilabel")
            self.classes_ = np.arange(np.shape(y)[1]) if self._multilabel else listed
        elif not np.array_equal(self.classes_, listed):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit, was: "
                f"{self.classes_!r}"
            )

    def _encoded(self, y: Array, first: bool, incremental: bool) -> Array:
        multilabel = type_of_target(y).startswith("multilabel") and y.ndim == 2
        if first and not incremental:
            self._multilabel = multilabel
            self.classes_ = np.arange(y.shape[1]) if multilabel else np.unique(y)
        elif not hasattr(self, "_multilabel"):
            self._multilabel = multilabel
        if self._multilabel:
            if not multilabel or y.shape[1] != len(self.classes_):
                raise ValueError(
                    f"y has shape {y.shape}, but the estimator was fitted to rows of "
                    f"{len(self.classes_)} labels"
                )
            return y
        present = np.unique(y)
        if self.warm_start and not first and set(present) != set(self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous "
                f"call to fit. Previously got {self.classes_}, `y` has {present}"
            )
        return self._codes(y)

    def _codes(self, y: Array) -> Array:
        """The place of each class, or for two whether it is the second."""
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(
                "`y` has classes not in `self.classes_`. "
                f"`self.classes_` has {self.classes_}. 'y' has {unknown}."
            )
        codes = np.searchsorted(self.classes_, y)
        return codes == 1 if len(self.classes_) <= 2 else codes

    def _encoded_validation(self, y: Any) -> Array:
        if self._multilabel:
            return np.asarray(check_array(y, accept_sparse=False))
        return self._codes(column_or_1d(y))

    def _shape_of_targets(self, y: Array) -> tuple[int, str]:
        if self._multilabel:
            return y.shape[1], "logistic"
        count = len(self.classes_)
        return (1, "logistic") if count <= 2 else (count, "softmax")

    def _strata(self, y: Array) -> Array | None:
        return None if self._multilabel else y.reshape(-1, 1)

    def _weights_of_rows(self, y: Array, weight: Array | None, incremental: bool) -> Array | None:
        if self.class_weight is None:
            return weight
        if self._multilabel:
            raise ValueError("class_weight is for one class a row; weigh rows with sample_weight")
        if incremental and isinstance(self.class_weight, str):
            raise ValueError(
                f"class_weight={self.class_weight!r} needs all rows, which partial_fit has not; "
                "give a mapping of classes to weights"
            )
        return weights_of_classes(self.class_weight, self.classes_, y.astype(np.int64), weight)

    def _own_metric(self, wanted: Any) -> Metric:
        found = metric(wanted)
        if self._multilabel and found.name == "accuracy":
            return Metric("accuracy", _all_labels_right, True, "classification")
        return found

    # Predictions

    def predict(self, X: Any) -> Array:
        """The class of each row, (n,), or its labels, (n, m)."""
        found = self._outputs(X)
        if self._multilabel:
            return (found > 0.5).astype(np.int64)
        codes = found.argmax(axis=1) if found.shape[1] > 1 else (found[:, 0] > 0.5).astype(np.int64)
        labels: Array = self.classes_[np.minimum(codes, len(self.classes_) - 1)]
        return labels

    def predict_proba(self, X: Any) -> Array:
        """The probability of each class, (n, classes), in the order of `classes_`."""
        found = self._outputs(X)
        if self._multilabel or found.shape[1] > 1:
            return found
        if len(self.classes_) == 1:
            return np.ones_like(found)
        return np.hstack([1 - found, found])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _all_labels_right(y: Tensor, prediction: Tensor, weight: Tensor | None) -> Tensor:
    """The part of rows of which every label is right."""
    right = ops.all((prediction > 0.5) == (y > 0.5), axis=1)
    right = ops.astype(right, prediction.dtype)
    if weight is None:
        return ops.mean(right)
    return ops.sum(right * weight) / ops.sum(weight)
