"""When a fit ends: scikit-learn's rule, watching the training loss or a validation score."""

from __future__ import annotations

import math
from collections.abc import Callable

from gradnet.estimators.network import penalty
from gradnet.training import EarlyStopping, Run

SMALLEST_RATE = 1e-6
"""An adaptive learning rate falls until it is no larger than this."""
FALL = 5.0


class Convergence(EarlyStopping):
    """Ends a fit when the watched value has not improved by `tol` for too many epochs.

    What is watched is `score`, a column of the history, if `watch` says so; else the training loss
    with its penalty, whose strength is `l2`. An adaptive learning rate
    falls to a fifth in place of an end, until it is 1e-6; `invscaling` is the power of the rows
    seen by which the rate falls after each epoch. `after` is called after each epoch and may ask
    for the end by returning True.
    """

    def __init__(
        self,
        *,
        tol: float,
        n_iter_no_change: float,
        score: str | None,
        watch: bool,
        l2: float,
        rows: int,
        seen: int,
        base_rate: float,
        adaptive: bool,
        invscaling: float | None,
        verbose: bool,
        restore: bool,
        after: Callable[[Convergence, Run], bool] | None,
    ) -> None:
        super().__init__(None, monitor=score if watch else "loss", restore_best=restore)
        self.tol, self.n_iter_no_change = tol, n_iter_no_change
        self.score, self.watch, self.l2 = score, watch, l2
        self.rows, self.seen = rows, seen
        self.base_rate, self.adaptive, self.invscaling = base_rate, adaptive, invscaling
        self.verbose, self.after = verbose, after
        self.losses: list[float] = []
        self.scores: list[float] = []
        self.best_loss = math.inf
        self.bad_epochs = 0
        self.best_before: float | None = None
        self.improved = False
        self.converged = False
        self.rate: float | None = None

    def on_fit_start(self, run: Run) -> None:
        super().on_fit_start(run)
        # A partial fit goes on from the best score of those before.
        self.best = self.best_before
        if self.rate is not None:
            run.optimizer.lr = self.rate

    def on_epoch_end(self, run: Run) -> None:
        row = run.history.row(-1)
        loss = row["loss"]
        if self.l2:
            loss += self.l2 * penalty(run.model, run.optimizer)
        self.losses.append(loss)
        self.seen += self.rows
        if self.verbose:
            print(f"Iteration {run.epoch}, loss = {loss:.8f}")
        if self.score is not None:
            self.scores.append(row[self.score])
            if self.verbose:
                print(f"Validation score: {self.scores[-1]:.6f}")
        if self.watch:
            gain = self._gain(self.scores[-1])
            small = not gain >= self.tol
        else:
            gain, small = self.best_loss - loss, loss > self.best_loss - self.tol
            self.best_loss = min(self.best_loss, loss)
        self.improved = gain > 0
        self.bad_epochs = self.bad_epochs + 1 if small else 0
        super().on_epoch_end(run)
        if self.invscaling is not None:
            run.optimizer.lr = self.base_rate / (self.seen + 1) ** self.invscaling
        if self.bad_epochs > self.n_iter_no_change:
            self._no_change(run)
        self.rate = float(run.optimizer.lr)
        if self.after is not None and self.after(self, run):
            run.request_stop("a callback asked for the end")

    def _gain(self, value: float) -> float:
        if self.best is None:
            return math.inf
        return value - self.best if self._higher else self.best - value

    def _no_change(self, run: Run) -> None:
        what = "validation score" if self.watch else "training loss"
        text = f"the {what} did not improve by {self.tol:g} for {self.n_iter_no_change} epochs"
        if self.adaptive and run.optimizer.lr > SMALLEST_RATE:
            run.optimizer.lr = run.optimizer.lr / FALL
            self.bad_epochs = 0
            if self.verbose:
                print(f"{text}: the learning rate is now {run.optimizer.lr:g}")
            return
        self.converged = True
        if self.verbose:
            print(f"{text}: stopping")
        run.request_stop(text)
