"""Callbacks: what happens at the turns of a training run, beside the training itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from gradnet.tensor import Tensor
from gradnet.training import checks
from gradnet.training.history import close

if TYPE_CHECKING:
    from gradnet.training.run import Run

Mode = Literal["auto", "min", "max"]


class Callback:
    """Base of callbacks: override the turns you need.

    Each gets the run, whose `history`, `model`, `optimizer`, `epoch` (from 1) and `batch` (the
    batches of this epoch that are done) are there to read, and whose `request_stop(reason)` ends
    it after this epoch. A callback with something to remember gives it in `state_dict`, which
    checkpoints carry: numbers, text, Tensors, and lists and mappings of them.
    """

    # Whether `on_step_end` must come after each update, or may come after several at once.
    every_step = True

    def on_fit_start(self, run: Run) -> None:
        """Before the first epoch, after all checks."""

    def on_epoch_start(self, run: Run) -> None:
        """Before the first batch of an epoch."""

    def on_step_end(self, run: Run) -> None:
        """After each update of the weights."""

    def on_epoch_end(self, run: Run) -> None:
        """After an epoch is measured: its row is the last of the history."""

    def on_interrupt(self, run: Run) -> None:
        """Where Ctrl-C has ended the run, after a whole step."""

    def on_fit_end(self, run: Run) -> None:
        """After the last epoch, and also where an error or an interrupt ends the run."""

    def state_dict(self) -> dict[str, Any]:
        """What must be remembered for the run to go on from a checkpoint as if uninterrupted."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""


def hooks(callbacks: list[Callback], turn: str) -> list[Any]:
    """The methods that do anything at a turn, so that the others cost nothing."""
    nothing = getattr(Callback, turn)
    return [getattr(c, turn) for c in callbacks if getattr(type(c), turn) is not nothing]


class EarlyStopping(Callback):
    """Watches one column of the history: notes the best epoch, and stops when none comes.

    The run stops when `patience` epochs have passed without a value better than the best by more
    than `min_delta`; None never stops. With `restore_best`, the model ends with the weights and
    buffers of the best epoch. `monitor` is by default "val_loss" with a validation set, else
    "loss"; `mode` says whether "min" or "max" is best, and "auto" knows it of losses and named
    metrics. Prechelt 1998, Early Stopping - But When?

    Raises ValueError for another mode or a setting out of range.
    """

    def __init__(
        self,
        patience: int | None = 10,
        *,
        monitor: str | None = None,
        mode: Mode = "auto",
        min_delta: float = 0.0,
        restore_best: bool = True,
    ) -> None:
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"mode must be 'auto', 'min' or 'max', not {mode!r}")
        self.patience = patience
        if patience is not None:
            self.patience = checks.whole("the patience of early stopping", patience, 1)
        self.monitor = monitor
        self.mode = mode
        self.min_delta = checks.number("min_delta", min_delta)
        self.restore_best = restore_best
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.weights: dict[str, Tensor] = {}
        self._higher = False

    def on_fit_start(self, run: Run) -> None:
        monitor = self.monitor or ("val_loss" if run.has_validation else "loss")
        known = run.monitorable
        if monitor not in known:
            hint = close(monitor, known) or (
                "; there is no validation set, give validation=0.1"
                if monitor.startswith("val_") and not run.has_validation
                else ""
            )
            raise ValueError(
                f"early stopping cannot watch {monitor!r}{hint}; this run measures "
                f"{', '.join(known)}"
            )
        higher = known[monitor] if self.mode == "auto" else self.mode == "max"
        if higher is None:
            raise ValueError(
                f"early stopping cannot know which way is better for {monitor!r}; "
                "give mode='min' or mode='max'"
            )
        self._higher = higher
        if not run.resumed:
            self.best, self.best_epoch, self.weights = None, None, {}
        run.history.monitor = monitor
        run.history.best_epoch = self.best_epoch

    def improves(self, value: float) -> bool:
        """Whether a value is better than the best before by more than `min_delta`."""
        if math.isnan(value):
            return False
        if self.best is None:
            return True
        gain = value - self.best if self._higher else self.best - value
        return gain > self.min_delta

    def on_epoch_end(self, run: Run) -> None:
        monitor = run.history.monitor
        assert monitor is not None
        value = run.history.row(-1)[monitor]
        if self.improves(value):
            self.best, self.best_epoch = value, run.epoch
            run.history.best_epoch = run.epoch
            if self.restore_best:
                self.weights = {
                    name: x.detach().copy() for name, x in run.model.state_dict().items()
                }
        elif self.patience is not None and run.epoch - (self.best_epoch or 0) >= self.patience:
            run.request_stop(
                f"stopped early at epoch {run.epoch}: {monitor} has not improved for "
                f"{self.patience} epochs"
            )

    def on_fit_end(self, run: Run) -> None:
        if not self.weights or self.best_epoch == run.history.epochs == run.epoch:
            return
        run.model.load_state_dict(self.weights)
        run.history.notes.append(
            f"weights of epoch {self.best_epoch} restored, "
            f"where {run.history.monitor} was {self.best:.6g}"
        )

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        self.weights = dict(state["weights"])
