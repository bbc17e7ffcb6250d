"""What a fit of MLPClassifier and MLPRegressor leaves: weights, attributes, predictions."""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from gradnet import nn
from gradnet.estimators import options
from gradnet.estimators.convergence import Convergence
from gradnet.estimators.network import Array, arrays, dense, memory, put
from gradnet.estimators.trained import Trained
from gradnet.optim import Optimizer
from gradnet.optim.line_search import LineSearch


class Continuation(NamedTuple):
    """What a partial fit goes on with."""

    best_loss: float
    bad_epochs: int


class Fitted(Trained):
    """The attributes of a fitted estimator, and its network."""

    loss_curve_: list[float]
    validation_scores_: list[float] | None

    # The network

    @property
    def _sizes(self) -> tuple[int, ...]:
        hidden = options.hidden_sizes(self.hidden_layer_sizes)
        return (self.n_features_in_, *hidden, self.n_outputs_)

    def _layout(self) -> dict[str, Any]:
        return {
            "sizes": self._sizes,
            "activation": self.activation,
            "dropout": self.dropout,
            "out_activation": self.out_activation_,
        }

    def _model(self) -> nn.MLP:
        """The network with the weights that there are."""
        model = self._network_of(np.asarray(self.coefs_[0]).dtype)
        put(model, self.coefs_, self.intercepts_, self._others)
        return model

    # What a fit leaves

    def _note(
        self,
        model: nn.MLP,
        optimizer: Optimizer,
        stop: Convergence,
        going_on: bool,
        incremental: bool,
        has_validation: bool,
    ) -> None:
        """Set the attributes that a fit leaves."""
        self.coefs_, self.intercepts_, self._others = arrays(model)
        self._network = model
        self.n_iter_ = len(stop.losses)
        if isinstance(optimizer, LineSearch):
            self._note_search(optimizer)
            return
        self._optimizer_state = memory(optimizer)
        self.learning_rate_ = float(optimizer.lr)
        self.t_ = stop.seen
        self.loss_curve_ = [*self.loss_curve_, *stop.losses]
        self.loss_ = stop.losses[-1] if stop.losses else math.nan
        self._no_improvement_count = stop.bad_epochs
        if has_validation:
            self.validation_scores_ = [*(self.validation_scores_ or []), *stop.scores]
            self.best_validation_score_ = stop.best if stop.watch else None
        if stop.watch:
            self.best_loss_ = None
        else:
            self.best_loss_ = min(self.best_loss_ or math.inf, *stop.losses, math.inf)
        if incremental:
            self._going_on = Continuation(stop.best_loss, stop.bad_epochs)
            if stop.watch:
                self._keep_best(stop)
        elif not stop.converged and self.n_iter_ == self.max_iter:
            warnings.warn(
                f"Maximum iterations ({self.max_iter}) reached and the optimization has not "
                "converged yet.",
                ConvergenceWarning,
                stacklevel=5,
            )

    def _keep_best(self, stop: Convergence) -> None:
        """After a partial fit that is watched: note the best weights, or go back to them."""
        if stop.improved:
            self._best = (self.coefs_, self.intercepts_, self._others)
        if stop.bad_epochs > self.n_iter_no_change:
            self.coefs_, self.intercepts_, self._others = self._best
            self.early_stopped_ = True

    def _note_search(self, optimizer: LineSearch) -> None:
        found = optimizer.found
        assert found is not None
        self.n_iter_, self.loss_ = found.iterations, found.loss
        if found.stopped in ("iterations", "evaluations"):
            warnings.warn(
                f"{self.solver} made all its {found.stopped} ({found.iterations} iterations of "
                f"{self.max_iter}, {found.evaluations} evaluations of {self.max_fun}) without "
                "coming to a minimum; raise max_iter or max_fun, or scale the data.",
                ConvergenceWarning,
                stacklevel=6,
            )

    # Predicting

    def _outputs(self, X: Any) -> Array:
        """What the output unit predicts, (n, outputs), in the dtype of the weights."""
        check_is_fitted(self)
        X = dense(validate_data(self, X, accept_sparse=["csr", "csc"], reset=False))
        return self._computed(X, np.asarray(self.coefs_[0]).dtype)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
