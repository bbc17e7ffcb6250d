"""What MLPClassifier and MLPRegressor share: one fit by `gradnet.training`, and its attributes."""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple, Self

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, validate_data

from gradnet import nn
from gradnet.estimators import options
from gradnet.estimators.convergence import Convergence
from gradnet.estimators.fitted import Fitted
from gradnet.estimators.network import (
    LOSSES,
    SKLEARN,
    Array,
    arrays,
    dense,
    drawn,
    recall,
)
from gradnet.estimators.protocol import Epochs, has_callbacks, with_callbacks
from gradnet.estimators.trained import Validation
from gradnet.training import Metric, NotFinite, Trainer, TrainingInterrupted, metric

MOST_AUTO = 200
"""The largest batch that batch_size="auto" makes."""


class Data(NamedTuple):
    """Rows: features, encoded targets, weights or None, and the targets as users gave them."""

    X: Array
    y: Array
    weight: Array | None
    labels: Array


class BaseMLP(Fitted):
    """Base of the multilayer perceptrons for scikit-learn; use its subclasses."""

    _score_name: str

    # What subclasses say

    def _encoded(self, y: Any, first: bool, incremental: bool) -> Array:
        """Targets as the network takes them; on a `first` fit, learns what there is to learn."""
        raise NotImplementedError

    def _encoded_validation(self, y: Any) -> Array:
        """Validation targets as the network takes them."""
        raise NotImplementedError

    def _shape_of_targets(self, y: Array) -> tuple[int, str]:
        """The number of outputs, and the name of their activation."""
        raise NotImplementedError

    def _weights_of_rows(self, y: Array, weight: Array | None, incremental: bool) -> Array | None:
        """The weights of rows, those of their classes included."""
        return weight

    def _strata(self, y: Array) -> Array | None:
        """What a validation split is stratified by."""
        return None

    def _checked(self, X: Any, y: Any, reset: bool) -> tuple[Array, Any]:
        """X and y as arrays of the right shapes."""
        raise NotImplementedError

    # Fitting

    @available_if(lambda self: self._check_solver())  # type: ignore[untyped-decorator]
    @with_callbacks  # type: ignore[untyped-decorator]
    def partial_fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Train for one epoch on rows X, going on where the last call ended.

        With early_stopping, `X_val` and `y_val` are watched from call to call; after
        n_iter_no_change calls without a better score the weights are those of the best call, and
        `early_stopped_` says that further ones do nothing.
        """
        return self._fit(X, y, sample_weight, (X_val, y_val, sample_weight_val), incremental=True)

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        validation: Validation,
        incremental: bool = False,
    ) -> Self:
        options.check(self)
        if incremental and self.early_stopping and getattr(self, "early_stopped_", False):
            return self
        going_on = hasattr(self, "coefs_") and (self.warm_start or incremental)
        X, labels = self._checked(X, y, not going_on)
        X = dense(X)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, dtype=X.dtype)
        encoded = self._encoded(labels, not going_on, incremental)
        data = Data(X, encoded, sample_weight, labels)
        random = check_random_state(self.random_state)
        if not going_on:
            self._begin(data, random)
        held = self._held(validation, incremental)
        if self._stochastic and self.early_stopping and held is None:
            data, held = self._split(data, random)
        # Each run of one fit has another order of rows.
        self._runs = getattr(self, "_runs", 0) + 1
        seed = int(random.randint(np.iinfo(np.int32).max)) + self._runs
        self._train(self._model(), data, held, seed, going_on, incremental)
        return self

    @property
    def _stochastic(self) -> bool:
        return self.solver not in options.SEARCHES

    def _check_solver(self) -> bool:
        if not self._stochastic:
            raise AttributeError(
                f"partial_fit needs a solver that takes batches; {self.solver} searches along "
                "lines, with all rows"
            )
        return True

    def _held(self, validation: Validation, incremental: bool) -> Data | None:
        """The validation rows that a call gives. Raises ValueError where they are missing."""
        X, y, weight = validation
        if (X is None) != (y is None):
            raise ValueError("X_val and y_val go together: give both, or neither")
        if X is None:
            if incremental and self.early_stopping:
                raise ValueError(
                    "partial_fit does not support early_stopping=True without X_val and y_val: "
                    "what it would hold out of one call, the next may train on"
                )
            return None
        X = dense(validate_data(self, X, accept_sparse=["csr", "csc"], reset=False))
        if weight is not None:
            weight = _check_sample_weight(weight, X, dtype=X.dtype)
        return Data(X, self._encoded_validation(y), weight, y)

    def _split(self, data: Data, random: Any) -> tuple[Data, Data]:
        """Training rows and those held out, of classes in equal shares."""
        parts = [x for x in data if x is not None]
        found = train_test_split(
            *parts,
            random_state=random,
            test_size=self.validation_fraction,
            stratify=self._strata(data.y),
        )
        kept, held = iter(found[::2]), iter(found[1::2])
        train = Data._make(None if x is None else next(kept) for x in data)
        part = Data._make(None if x is None else next(held) for x in data)
        if len(part.X) < 2:
            raise ValueError(
                "The validation set is too small. Increase validation_fraction "
                f"({self.validation_fraction}) or the number of rows ({len(data.X)})."
            )
        return train, part

    def _begin(self, data: Data, random: np.random.RandomState) -> None:
        """The attributes of an estimator that has not been fitted yet, with its first weights."""
        self.n_outputs_, self.out_activation_ = self._shape_of_targets(data.y)
        self.n_layers_ = len(options.hidden_sizes(self.hidden_layer_sizes)) + 2
        self.n_iter_, self.t_ = 0, 0
        self.loss_curve_ = []
        self.validation_scores_ = None
        self.best_validation_score_: float | None = None
        self.best_loss_: float | None = math.inf
        self.early_stopped_ = False
        self._runs = 0
        for name in ("_optimizer_state", "_best", "_going_on", "_network"):
            self.__dict__.pop(name, None)
        if self.activation in SKLEARN:
            weights = drawn(self._sizes, self.activation, data.X.dtype, random)
            self.coefs_, self.intercepts_ = weights
            self._others = {}
        else:
            seed = int(random.randint(np.iinfo(np.int32).max))
            model = self._network_of(data.X.dtype, seed)
            self.coefs_, self.intercepts_, self._others = arrays(model)

    def _train(
        self,
        model: nn.MLP,
        data: Data,
        held: Data | None,
        seed: int,
        going_on: bool,
        incremental: bool,
    ) -> None:
        """One run of gradnet's training, and what it leaves in the attributes."""
        weight = self._weights_of_rows(data.y, data.weight, incremental)
        rows = len(data.X) if weight is None else int(np.count_nonzero(weight))
        total = float(rows) if weight is None else float(weight.sum())
        size = rows if not self._stochastic else min(self._batch(rows), rows)
        # The penalty counts as alpha over the weight of a batch, as scikit-learn has it.
        batch = max(total * size / max(rows, 1), np.finfo(np.float64).tiny)
        l2 = 0.5 * self.alpha / batch if total > 0 else 0.0
        optimizer = options.solver(self, model, 2 * l2)
        state = getattr(self, "_optimizer_state", None)
        if going_on and state is not None and self._stochastic:
            recall(optimizer, state)
        coupled = self.solver in options.COUPLED
        score = self._metric()
        watch = bool(self.early_stopping and self._stochastic)
        stop = self._convergence(held, watch, l2, rows, incremental, going_on)
        epochs = None
        if has_callbacks(self):
            epochs = self._epochs(model, data, incremental)
            stop.after = lambda c, run: epochs.epoch_done(run.epoch >= run.epochs or c.converged)
        trainer = Trainer(
            model,
            optimizer=optimizer,
            loss=LOSSES.get(self.out_activation_),
            epochs=self.max_iter if self._stochastic and not incremental else 1,
            batch_size=size if self._stochastic else None,
            shuffle=bool(self.shuffle),
            early_stopping=stop,
            schedule=self.learning_rate if self.learning_rate not in options.RATES else None,
            l2=0.0 if coupled else l2,
            metrics=[] if score is None else [score],
            train_metrics=False,
            seed=seed,
            progress=False,
        )
        self._go(trainer, data, weight, held, stop)
        self._note(model, optimizer, stop, going_on, incremental, held is not None)
        if epochs is not None:
            epochs.done()

    def _batch(self, rows: int) -> int:
        return min(MOST_AUTO, rows) if self.batch_size == "auto" else int(self.batch_size)

    def _metric(self) -> Metric | None:
        """What is measured on validation rows."""
        wanted = self._score_name if self.monitor is None else self.monitor
        return None if wanted == "loss" else self._own_metric(wanted)

    def _own_metric(self, wanted: Any) -> Metric:
        return metric(wanted)

    def _convergence(
        self,
        held: Data | None,
        watch: bool,
        l2: float,
        rows: int,
        incremental: bool,
        going_on: bool,
    ) -> Convergence:
        """The rule that ends this fit."""
        score = self._metric()
        of_sgd = self.learning_rate if self.solver == "sgd" else "constant"
        stop = Convergence(
            tol=self.tol,
            n_iter_no_change=math.inf
            if incremental or not self._stochastic
            else self.n_iter_no_change,
            score=None if held is None else f"val_{'loss' if score is None else score.name}",
            watch=watch,
            l2=l2 if self.alpha else 0.0,
            rows=rows,
            seen=self.t_,
            base_rate=self.learning_rate_init,
            adaptive=of_sgd == "adaptive",
            invscaling=self.power_t if of_sgd == "invscaling" else None,
            verbose=bool(self.verbose),
            restore=watch and not incremental,
            after=None,
        )
        if going_on and of_sgd != "constant":
            stop.rate = getattr(self, "learning_rate_", None)
        if incremental:
            before = getattr(self, "_going_on", None)
            stop.best_before = getattr(self, "best_validation_score_", None)
            if before is not None:
                stop.best_loss, stop.bad_epochs = before
            if stop.adaptive:
                stop.n_iter_no_change = self.n_iter_no_change
        return stop

    def _go(
        self,
        trainer: Trainer,
        data: Data,
        weight: Array | None,
        held: Data | None,
        stop: Convergence,
    ) -> None:
        """Train; a run that Ctrl-C ends, or that diverges after a best epoch, keeps its weights."""
        validation = None if held is None else tuple(x for x in held[:3] if x is not None)
        try:
            trainer.fit(data.X, data.y, sample_weight=weight, validation=validation)
        except TrainingInterrupted as interrupted:
            warnings.warn(f"{interrupted}; the weights are those of then", stacklevel=5)
        except NotFinite as error:
            if stop.best_epoch is None or not stop.restore_best:
                raise ValueError(
                    "Solver produced non-finite parameter weights. The input data may contain "
                    f"large values and need to be preprocessed. ({error})"
                ) from error
            stop.losses.append(math.nan)
            stop.scores.append(math.nan)
            warnings.warn(
                f"{error} The weights are those of the best epoch, {stop.best_epoch}.",
                ConvergenceWarning,
                stacklevel=5,
            )
            stop.converged = True

    def _epochs(self, model: nn.MLP, data: Data, incremental: bool) -> Epochs:
        """The bridge to scikit-learn's callbacks."""

        def now() -> dict[str, Any]:
            coefs, intercepts, others = arrays(model)
            return {"coefs_": coefs, "intercepts_": intercepts, "_others": others}

        most = 1 if incremental or not self._stochastic else self.max_iter
        return Epochs(self, data.X, data.labels, data.weight, most, now)
