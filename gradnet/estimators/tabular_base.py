"""What TabularMLPClassifier and TabularMLPRegressor share: columns to network, and one fit."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, Self

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from gradnet import nn
from gradnet.data.preprocessing import Preprocessing
from gradnet.data.splits import split
from gradnet.data.table import Column, Remarks, Table
from gradnet.data.targets import Target
from gradnet.estimators import options
from gradnet.estimators.frames import column_names, from_array, from_frame, is_frame
from gradnet.estimators.network import Array, arrays
from gradnet.estimators.protocol import Epochs, has_callbacks
from gradnet.estimators.trained import Trained, Validation
from gradnet.training import Callback, EarlyStopping, NotFinite, Run, Trainer, TrainingInterrupted
from gradnet.training.defaults import FEW, WHOLE, Defaults, choose, choose_whole

_PREDICTED = np.float64
"""In double precision, what is predicted of a row does not depend on those beside it."""


class _AfterEpoch(Callback):
    """Tells scikit-learn's callbacks of each epoch."""

    def __init__(self, epochs: Epochs) -> None:
        self.epochs = epochs

    def on_epoch_end(self, run: Run) -> None:
        if self.epochs.epoch_done(run.stopping or run.epoch >= run.epochs):
            run.request_stop("a callback asked for the end")


class Tabular(Trained):
    """Base of the estimators for data frames; use its subclasses."""

    _out_activation: str

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
    ) -> None:
        options.keep(self, locals())

    def _target(self) -> Target:
        """How targets become what the network takes, as far as that is known before the fit."""
        raise NotImplementedError

    def _encoded(self, y: Array) -> Array:
        """Targets as the network takes them."""
        raise NotImplementedError

    def _checked_y(self, y: Any, first: bool) -> Array:
        """Targets as an array (n,); a `first` call learns what there is to learn of them."""
        raise NotImplementedError

    def _strata(self, y: Array) -> Any:
        """What a validation split is stratified by: classes, or only the number of rows."""
        raise NotImplementedError

    def _class_weights(self) -> Any:
        """The weights of classes as training takes them."""
        return None

    # Fitting

    def _fit(self, X: Any, y: Any, sample_weight: Any, validation: Validation) -> Self:
        self.notes_: list[str] = Remarks()
        table = self._table(X, reset=True)
        given, y = y, self._checked_y(y, True)
        check_consistent_length(table, y)
        weight = None
        if sample_weight is not None:
            weight = _check_sample_weight(sample_weight, y, dtype=np.float64)
            kept = np.flatnonzero(weight)
            table, y, weight = table.take(kept), y[kept], weight[kept]
        if len(table) < 2:
            raise ValueError("X has n_samples = 1 with a weight above 0; at least 2 are needed")
        random = check_random_state(self.random_state)
        seed = int(random.randint(np.iinfo(np.int32).max))
        held = None
        if (validation[0] is None) != (validation[1] is None):
            raise ValueError("X_val and y_val go together: give both, or neither")
        if validation[0] is None:
            share = self.validation_fraction
            if share is None:
                share = 0.0 if len(table) < WHOLE else 0.1
            options.real("validation_fraction", share, 0.0, 1.0, open_high=True)
            if share:
                keep, part = split(self._strata(y), share, seed=seed, purpose="validation")
                held = (table.take(part), y[part], None if weight is None else weight[part])
                table, y = table.take(keep), y[keep]
                weight = None if weight is None else weight[keep]
        target = self._target()
        if target.task == "regression":
            target = target.rescaled(Column("y", y), weight)
        self.preprocessing_ = Preprocessing.fit(table, target, notes=self.notes_, weight=weight)
        if validation[0] is not None:
            X_val, y_val, weight_val = validation
            held = (self._table(X_val, reset=False), self._checked_y(y_val, False), weight_val)
        self._train(table, y, weight, held, seed, (X, given))
        return self

    def _table(self, X: Any, reset: bool) -> Table:
        """X as columns. Raises ValueError and TypeError for what cannot be used."""
        kinds: dict[str, Any] | None = None if reset else dict(self.preprocessing_.kinds)
        if is_frame(X):
            validate_data(self, X, reset=reset, skip_check_array=True)
            names = column_names(X)
            if not (names and len(X)):
                raise ValueError(
                    f"the data frame has {len(X)} rows and {len(names)} columns; a minimum of 1 "
                    "is required of each"
                )
            if kinds is not None:
                kinds = {**dict.fromkeys(names), **kinds}
            return from_frame(X, kinds, self.notes_ if reset else Remarks())
        X = validate_data(self, X, dtype=None, ensure_all_finite="allow-nan", reset=reset)
        return from_array(X, kinds)

    def _chosen(self, rows: int, watched: bool) -> Defaults:
        """The settings for that many rows: those given, and the defaults of `gradnet.training`."""
        e = self
        if e.solver is not None:
            options.one_of("solver", e.solver, options.STOCHASTIC)
        if e.activation is not None:
            options.one_of("activation", e.activation, nn.activations.names())
        chosen = choose(rows, e.solver)
        if not watched and rows < WHOLE:
            chosen = choose_whole(rows, self.preprocessing_.task, e.solver)
        given: dict[str, Any] = {
            "activation": e.activation,
            "dropout": e.dropout,
            "optimizer": e.solver,
            "lr": e.learning_rate_init,
            "weight_decay": e.weight_decay,
            "epochs": e.max_iter,
            "batch_size": e.batch_size,
            "patience": e.n_iter_no_change,
        }
        if e.hidden_layer_sizes is not None:
            given["hidden"] = options.hidden_sizes(e.hidden_layer_sizes)
        return replace(chosen, **{name: x for name, x in given.items() if x is not None})

    def _train(
        self,
        table: Table,
        y: Array,
        weight: Array | None,
        held: tuple[Table, Array, Any] | None,
        seed: int,
        given: tuple[Any, Any],
    ) -> None:
        preprocessing = self.preprocessing_
        inputs = preprocessing.transform(table, self.notes_)
        self.settings_ = settings = self._chosen(len(y), held is not None)
        self._sizes = (inputs.shape[1], *settings.hidden, len(preprocessing.classes) or 1)
        # So few rows are computed to the last digit.
        model = self._network_of(np.float64 if len(y) < FEW else np.float32, seed)
        optimizer = {
            "name": settings.optimizer,
            "lr": settings.lr,
            "weight_decay": settings.weight_decay,
        }
        epochs = None
        callbacks = []
        if has_callbacks(self):

            def now() -> dict[str, Any]:
                coefs, intercepts, others = arrays(model)
                return {"coefs_": coefs, "intercepts_": intercepts, "_others": others}

            epochs = Epochs(self, *given, None, settings.epochs, now)
            callbacks.append(_AfterEpoch(epochs))
        trainer = Trainer(
            model,
            optimizer={name: value for name, value in optimizer.items() if value is not None},
            schedule=settings.schedule,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            early_stopping=None if held is None else EarlyStopping(settings.patience),
            class_weight=self._class_weights(),
            metrics=[],
            train_metrics=False,
            seed=seed,
            progress=bool(self.verbose),
            callbacks=callbacks,
        )
        validation = None
        if held is not None:
            x = preprocessing.transform(held[0], self.notes_)
            validation = (x, self._encoded(held[1]), *([] if held[2] is None else [held[2]]))
        try:
            history = trainer.fit(
                inputs,
                self._encoded(y),
                sample_weight=weight,
                validation=validation,
            )
        except TrainingInterrupted as stopped:
            warnings.warn(f"{stopped}; the weights are those of then", stacklevel=4)
            history = stopped.history
        except NotFinite as error:
            raise ValueError(str(error)) from error
        self.coefs_, self.intercepts_, self._others = arrays(model)
        self._network = self._network_of(_PREDICTED)
        self.history_ = history.to_dict()["columns"]
        self.n_iter_, self.best_iter_ = history.epochs, history.best_epoch
        self.loss_ = self.history_["loss"][-1] if history.epochs else float("nan")
        if epochs is not None:
            epochs.done()

    def _layout(self) -> dict[str, Any]:
        return {
            "sizes": self._sizes,
            "activation": self.settings_.activation,
            "dropout": self.settings_.dropout,
            "out_activation": self._out_activation,
        }

    # Predicting

    def _predictions(self, X: Any) -> Array:
        check_is_fitted(self)
        inputs = self.preprocessing_.transform(self._table(X, reset=False), Remarks())
        return self._computed(inputs, _PREDICTED)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags
