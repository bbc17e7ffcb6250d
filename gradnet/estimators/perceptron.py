"""Perceptron: Rosenblatt's, with scikit-learn's interface."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from gradnet import nn, ops
from gradnet.estimators import options
from gradnet.estimators.convergence import Convergence
from gradnet.estimators.network import Array, dense
from gradnet.estimators.protocol import CallbackSupportMixin, Epochs, has_callbacks, with_callbacks
from gradnet.training import Trainer, build


class Perceptron(CallbackSupportMixin, ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A perceptron for two or more classes, which learns from its mistakes alone.

        w_y = w_y + eta0 x,  w_j = w_j - eta0 x     where row x of class y is taken for class j

    One row after the other, from weights of 0, which the first row moves by half as much, for it is
    taken for neither class; of two classes one vector w decides by its sign.
    With several classes the vectors compete for each row (Crammer and Singer 2003), they are not
    trained one against the rest, as scikit-learn's are.

    fit_intercept      learn a bias, which is moved as a weight of a feature of 1 is
    max_iter           epochs at most
    tol                the improvement of the mean loss max(0, -y w.x) that counts; None: only an
                       epoch without a mistake ends a fit early
    shuffle            rows in another order in each epoch
    verbose            print the loss of each epoch
    eta0               the learning rate; it scales the weights and changes no prediction
    random_state       decides the order of rows
    n_iter_no_change   epochs without such an improvement until a fit ends
    warm_start         `fit` goes on from the weights of the last one
    device             "cpu", "cuda", "cuda:1": where to compute

    Attributes: coef_ (classes, features), or (1, features) for two, intercept_ (classes,) or (1,),
    classes_, n_iter_, t_ (rows seen), loss_curve_, n_features_in_, feature_names_in_.
    Rosenblatt 1958.
    """

    def __init__(
        self,
        *,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        shuffle: bool = True,
        verbose: bool | int = False,
        eta0: float = 1.0,
        random_state: Any = None,
        n_iter_no_change: int = 5,
        warm_start: bool = False,
        device: str | None = None,
    ) -> None:
        options.keep(self, locals())

    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any) -> Perceptron:
        """Train on rows X (n, features) and classes y (n,); X may be sparse, and is made dense.

        Raises ValueError and TypeError for what cannot be used.
        """
        return self._fit(X, y, None)

    @with_callbacks  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Perceptron:
        """Train for one epoch, going on from the weights of before.

        The first call needs all `classes` that will come.

        Raises ValueError for a first call without them, and for others in a later one.
        """
        if classes is None and not hasattr(self, "classes_"):
            raise ValueError("classes must be passed on the first call to partial_fit.")
        known: Array = self.classes_ if classes is None else np.unique(np.asarray(classes))
        if not np.array_equal(getattr(self, "classes_", known), known):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit, was: "
                f"{self.classes_!r}"
            )
        return self._fit(X, y, known)

    def _fit(self, X: Any, y: Any, classes: Array | None) -> Perceptron:
        options.whole("max_iter", self.max_iter)
        options.whole("n_iter_no_change", self.n_iter_no_change)
        options.real("eta0", self.eta0, open_low=True)
        if self.tol is not None:
            options.real("tol", self.tol)
        partial = classes is not None
        going_on = hasattr(self, "coef_") and (self.warm_start or partial)
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=["csr", "csc"],
            dtype=(np.float64, np.float32),
            reset=not going_on,
        )
        X, y = dense(X), column_or_1d(y, warn=True)
        check_classification_targets(y)
        found: Array = np.unique(y) if classes is None else classes
        if going_on:
            found = self.classes_
        unknown = np.setdiff1d(y, found)
        if len(unknown):
            raise ValueError(f"y has classes {unknown} that were not there before: {found}")
        options.several(found)
        self.classes_: Array = found
        if not going_on:
            self.t_ = 0
            self.loss_curve_: list[float] = []
        self._train(X, np.searchsorted(found, y), going_on, partial, y)
        return self

    def _train(self, X: Array, codes: Array, going_on: bool, partial: bool, y: Array) -> None:
        units = 1 if len(self.classes_) == 2 else len(self.classes_)
        model = nn.Linear(
            X.shape[1],
            units,
            bias=bool(self.fit_intercept),
            init="zeros",
            dtype=X.dtype.name,
            device=self.device,
        )
        if going_on:
            model.load_state_dict(self._state(model))
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        stop = Convergence(
            tol=-math.inf if self.tol is None else self.tol,
            n_iter_no_change=math.inf if partial else self.n_iter_no_change,
            score=None,
            watch=False,
            l2=0.0,
            rows=len(X),
            seen=self.t_,
            base_rate=self.eta0,
            adaptive=False,
            invscaling=None,
            verbose=bool(self.verbose),
            restore=False,
            after=None,
        )
        epochs: Epochs | None = None
        most = 1 if partial else self.max_iter
        if has_callbacks(self):
            epochs = Epochs(self, X, y, None, most, lambda: self._attributes(model))

        def after(stop: Convergence, run: Any) -> bool:
            # A loss of 0 is an epoch without a mistake, or without a change by one.
            stop.converged = done = stop.converged or stop.losses[-1] == 0.0
            asked = epochs is not None and epochs.epoch_done(done or run.epoch >= run.epochs)
            return done or asked

        stop.after = after
        trainer = Trainer(
            model,
            optimizer={"name": "sgd", "lr": self.eta0},
            loss="perceptron",
            epochs=most,
            batch_size=1,
            shuffle=bool(self.shuffle),
            early_stopping=stop,
            metrics=[],
            train_metrics=False,
            seed=seed,
            progress=False,
        )
        trainer.fit(X, codes)
        for name, value in self._attributes(model).items():
            setattr(self, name, value)
        self.n_iter_, self.t_ = len(stop.losses), stop.seen
        self.loss_curve_ = [*self.loss_curve_, *stop.losses]
        if not partial and not stop.converged:
            warnings.warn(
                f"Maximum iterations ({self.max_iter}) reached, and there are still mistakes; the "
                "classes may not be separable by a plane.",
                ConvergenceWarning,
                stacklevel=5,
            )
        if epochs is not None:
            epochs.done()

    def _state(self, model: nn.Linear) -> dict[str, Any]:
        """The parameters of the network that has these weights."""
        like = build.reference(model)
        state = {"weight": np.ascontiguousarray(self.coef_.T)}
        if model.bias is not None:
            state["bias"] = self.intercept_
        return {
            name: ops.asarray(x, dtype=like.dtype, backend=like.backend)
            for name, x in state.items()
        }

    @staticmethod
    def _attributes(model: nn.Linear) -> dict[str, Array]:
        coef = np.array(model.weight.detach().numpy().T)
        zeros = np.zeros(len(coef), dtype=coef.dtype)
        bias = zeros if model.bias is None else np.array(model.bias.detach().numpy())
        return {"coef_": coef, "intercept_": bias}

    def decision_function(self, X: Any) -> Array:
        """w.x + b of each row: (n,) for two classes, above 0 for the second; else (n, classes)."""
        check_is_fitted(self)
        X = dense(validate_data(self, X, accept_sparse=["csr", "csc"], reset=False))
        scores: Array = X @ self.coef_.T + self.intercept_
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: Any) -> Array:
        """The class of each row, (n,)."""
        scores = self.decision_function(X)
        codes = scores.argmax(axis=1) if scores.ndim == 2 else (scores > 0).astype(np.int64)
        labels: Array = self.classes_[codes]
        return labels

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
