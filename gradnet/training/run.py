"""Run: one training run, from its first epoch, or a checkpoint, to its end."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from gradnet import host, optim
from gradnet.errors import DataError
from gradnet.nn import Module
from gradnet.random import Generator, default_generator
from gradnet.training import interrupt
from gradnet.training.callbacks import Callback, hooks
from gradnet.training.diagnose import (
    SMALLEST_SCALE,
    Finding,
    NotFinite,
    careful_step,
    layer_found,
    watched,
)
from gradnet.training.evaluation import Evaluation, outputs
from gradnet.training.history import History
from gradnet.training.meter import LossMeter
from gradnet.training.snapshot import EVERY, Snapshot
from gradnet.training.sources import Source, batches
from gradnet.training.steps import Steps

# Snapshots are so many times as far apart as one takes, at least.
_RARELY = 100


class Run:
    """What callbacks see of a training run.

    model, optimizer, schedule   what is trained, and how
    history                      the measurements of all whole epochs
    epoch, epochs                the number of the current epoch, from 1, and the last one's
    batch, steps_per_epoch       batches of this epoch that are done, and how many it has, if known
    resumed                      whether the run goes on from a checkpoint
    """

    def __init__(
        self,
        steps: Steps,
        source: Source,
        *,
        epochs: int,
        seed: int,
        callbacks: Sequence[Callback],
        evaluations: Mapping[str, Evaluation],
        settings: Mapping[str, Any],
    ) -> None:
        step = steps.step
        self.model: Module = step.model
        self.optimizer: optim.Optimizer = step.optimizer
        self.schedule: optim.Schedule | None = step.schedule
        self.history = History()
        self.epoch = 0
        self.epochs = epochs
        self.batch = 0
        self.resumed = False
        self.notes_before = 0
        self._callbacks = list(callbacks)
        self._step = step
        self._steps = steps
        self._source = source
        self._evaluations = evaluations
        self._settings = dict(settings)
        self._stopped: str | None = None
        self._completed = 0
        # Two streams: the order of rows does not depend on how much noise a model draws.
        self._order, self._noise = _generator(seed, 1), _generator(seed, 2)
        self._order_before = self._order.get_state()
        self._meter = LossMeter()
        self._snapshot: Snapshot | None = None
        self._steps_since = 0
        self._next_snapshot = 0.0
        self._training_since = -1
        self._told: set[str] = set()

    @property
    def steps_per_epoch(self) -> int | None:
        """The number of batches of an epoch, if known."""
        return self._source.steps

    @property
    def has_validation(self) -> bool:
        """Whether there is a validation set."""
        return "val_" in self._evaluations

    @property
    def monitorable(self) -> dict[str, bool | None]:
        """The columns that can be watched, and whether higher is better (None: not known)."""
        columns: dict[str, bool | None] = {"loss": False}
        for prefix, evaluation in self._evaluations.items():
            columns[f"{prefix}loss"] = False
            columns.update({f"{prefix}{m.name}": m.higher for m in evaluation.metrics})
        return columns

    @property
    def stopping(self) -> bool:
        """Whether the run ends after this epoch."""
        return self._stopped is not None

    def request_stop(self, reason: str) -> None:
        """End the run after this epoch; the reason goes to the history's notes."""
        if self._stopped is None:
            self._stopped = reason
            self.history.notes.append(reason)

    # The loop

    def go(self) -> History:
        """Train. Raises NotFinite, TrainingInterrupted, and whatever callbacks raise."""
        self.notes_before = len(self.history.notes)
        # Noise comes from the run's seed, and the user's own stream is left where it was.
        noise = default_generator().replaying(self._noise.get_state())
        with interrupt.deferred() as ctrl_c, noise:
            try:
                self._turn("on_fit_start")
                self.optimizer.zero_grad()
                step_end = hooks(self._callbacks, "on_step_end")
                while self._completed < self.epochs and not self.stopping:
                    self._epoch(step_end, ctrl_c)
                    if ctrl_c.requested:
                        self._interrupted()
            finally:
                if self._step.scale is not None:
                    self._step.scale.settle()
                self.model.eval()
                self._turn("on_fit_end")
        return self.history

    def _turn(self, turn: str) -> None:
        for hook in hooks(self._callbacks, turn):
            hook(self)

    def _epoch(self, step_end: list[Any], ctrl_c: interrupt.Interrupt) -> None:
        started = time.perf_counter()
        self.epoch = self._completed + 1
        if not self.batch:
            self._order_before = self._order.get_state()
            self._meter = LossMeter()
        self._keep_snapshot()
        self._turn("on_epoch_start")
        self._train()
        meter, rows_before = self._meter, self._meter.rows
        each = any(hook.__self__.every_step for hook in step_end)
        for rows, size in self._source.blocks(self._order, self._completed, self.batch):
            for part in self._steps.parts(rows, size, 1 if each else None):
                losses = self._steps(part, size)
                self.batch += losses.shape[0]
                if not meter.add(losses, part, size):
                    self._locate()
                for hook in step_end:
                    hook(self)
                if ctrl_c.requested:
                    self._interrupted()
        self.history.captured = self._steps.replays
        if self._steps.reason and self._steps.reason not in self._told:
            self._told.add(self._steps.reason)
            self.history.notes.append(f"steps are not captured: {self._steps.reason}")
        if not self.batch:
            raise DataError(f"the data set gave no batches in epoch {self.epoch}")
        if not meter.read():
            self._locate()
        trained = time.perf_counter() - started
        row = self._measured(meter.mean())
        row["seconds"] = time.perf_counter() - started
        row["samples_per_second"] = (meter.rows - rows_before) / trained
        self.history.append(row)
        self._steps_since += self.batch
        self._completed, self.batch = self.epoch, 0
        self._turn("on_epoch_end")

    def _train(self) -> None:
        """Have the model train: all of it, where anything of it may have changed since."""
        if host.version[0] != self._training_since:
            self.model.train()
            self._training_since = host.version[0]

    def _measured(self, loss: float) -> dict[str, float]:
        """The row of the history of an epoch whose batches are done."""
        row = {"loss": loss}
        for prefix, evaluation in self._evaluations.items():
            for name, value in evaluation().items():
                row.setdefault(f"{prefix}{name}", value)
        if not math.isfinite(row.get("val_loss", 0.0)) or self._broken():
            self._locate()
        row["lr"] = float(self.optimizer.lr)
        if self._step.scale is not None:
            row["loss_scale"] = self._step.scale.state_dict()["scale"]
            if row["loss_scale"] < SMALLEST_SCALE:
                self._locate()
        self._after_epoch(row)
        return row

    def _after_epoch(self, row: Mapping[str, float]) -> None:
        if self.schedule is not None:
            monitor = self.history.monitor
            self.schedule.after_epoch(None if monitor is None else row[monitor])

    def _interrupted(self) -> NoReturn:
        """End the run, after a whole step, because of Ctrl-C."""
        self._turn("on_interrupt")
        steps = "" if self.steps_per_epoch is None else f" of {self.steps_per_epoch}"
        within = f", batch {self.batch}{steps}" if self.batch else ""
        self.history.interrupted = True
        self.history.notes.append(f"interrupted after epoch {self.epoch}{within}")
        raise interrupt.TrainingInterrupted(self.history.notes[-1], self.history)

    # State

    def _position(self) -> dict[str, Any]:
        """All that the next steps depend on; Tensors share memory with what they belong to."""
        scale = self._step.scale
        if scale is not None:
            scale.settle()
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.live_state(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "scale": None if scale is None else scale.state_dict(),
            "order": self._order_before if self.batch else self._order.get_state(),
            "noise": default_generator().get_state(),
            "completed": self._completed,
            "batch": self.batch,
        }

    def _go_to(self, position: Mapping[str, Any]) -> None:
        self.model.load_state_dict(position["model"])
        self.optimizer.load_state_dict(position["optimizer"])
        if self._step.scale is not None:
            self._step.scale.load_state_dict(position["scale"])
        if self.schedule is not None:
            self.schedule.load_state_dict(position["schedule"])
        self._order.set_state(position["order"])
        self._order_before = dict(position["order"])
        default_generator().set_state(position["noise"])
        self._completed, self.batch = position["completed"], position["batch"]

    def state_dict(self) -> dict[str, Any]:
        """The whole run, for a checkpoint; Tensors share memory with what they belong to."""
        self._meter.read()
        meter = self._meter if self.batch else LossMeter()
        return {
            "position": self._position(),
            "losses": meter.losses,
            "weights": meter.weights,
            "rows": meter.rows,
            "history": self.history.to_dict(),
            "stopped": self._stopped,
            "callbacks": self._named_states(),
            "settings": self._settings,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint's state.

        Raises ValueError where the run differs in what the rest of it depends on.
        """
        for name, value in self._settings.items():
            saved = state["settings"].get(name)
            if saved != value:
                raise ValueError(
                    f"the checkpoint is of a run with {name}={saved!r}, this one has {value!r}; "
                    "a run can only be resumed with the data and options it began with"
                )
        if (self.schedule is None) != (state["position"]["schedule"] is None):
            raise ValueError(
                "the checkpoint's run had "
                + (
                    "no schedule, this one has"
                    if self.schedule
                    else "a schedule, this one has none"
                )
                + "; resume with the options it began with"
            )
        with default_generator().replaying(default_generator().get_state()):
            self._go_to(state["position"])
            self._noise.set_state(default_generator().get_state())
        self._meter.losses, self._meter.weights = list(state["losses"]), list(state["weights"])
        self._meter.rows = state["rows"]
        self.history = History.from_dict(state["history"])
        self._stopped = state["stopped"]
        states = state["callbacks"]
        for name, callback in self._by_name():
            if name in states:
                callback.load_state_dict(states[name])
        self.epoch = self._completed
        self.resumed = True

    def _by_name(self) -> list[tuple[str, Callback]]:
        """Callbacks with the names that their states have in a checkpoint."""
        seen: dict[str, int] = {}
        named = []
        for callback in self._callbacks:
            kind = type(callback).__name__
            seen[kind] = seen.get(kind, 0) + 1
            named.append((f"{kind} {seen[kind]}", callback))
        return named

    def _named_states(self) -> dict[str, Any]:
        states = {name: callback.state_dict() for name, callback in self._by_name()}
        return {name: state for name, state in states.items() if state}

    # Where something is not finite

    def _keep_snapshot(self) -> None:
        """Copy the position now and then, so that steps can be run again to find a cause."""
        started = time.perf_counter()
        if self._snapshot is None or (
            self._steps_since >= self._snapshot.every and started >= self._next_snapshot
        ):
            self._snapshot = None  # its memory is free for the next one
            self._snapshot, self._steps_since = Snapshot(self._position()), 0
            ended = time.perf_counter()
            self._next_snapshot = ended + _RARELY * (ended - started)

    def _broken(self) -> bool:
        """Whether a weight is not finite; left to the validation loss between snapshots."""
        between = self._steps_since + self.batch < EVERY and self.epoch < self.epochs
        if between and self.has_validation:
            return False
        return not self._step.finite()

    def _locate(self) -> NoReturn:
        """Run again from the snapshot, looking at every step, and raise what is found."""
        last, bad = self.epoch, self._meter.first_not_finite
        assert self._snapshot is not None
        self._go_to(self._snapshot.position())
        try:
            while self._completed < last:
                self.epoch = self._completed + 1
                self.model.train()
                for batch in batches(self._source, self._order, self._completed, self.batch):
                    self.batch += 1
                    careful_step(self._step, batch)
                if self.epoch < last:
                    self._after_epoch(self.history.row(self.epoch))
                self._completed, self.batch = self.epoch, 0
            if bad is None:
                self._look_at_validation()
        except Finding as finding:
            raise self._not_finite(finding) from None
        self.batch = 0 if bad is None else bad + 1
        text = "running the steps again did not show where: do the data or a callback change?"
        raise self._not_finite(Finding(text, None, ""))

    def _look_at_validation(self) -> None:
        for rows in self._evaluations["val_"].batches() if self.has_validation else ():
            with watched(self.model) as found:
                outputs(self.model, rows.x)
            raise layer_found(found, rows)

    def _not_finite(self, finding: Finding) -> NotFinite:
        steps = "" if self.steps_per_epoch is None else f" of {self.steps_per_epoch}"
        batch = self.batch or None
        where = f"batch {batch}{steps}" if batch else "validation"
        clip = self._step.clip_norm
        remedies = [
            *([finding.remedy] if finding.remedy else []),
            f"a learning rate below {self.optimizer.lr:g}",
            "clip_norm=1.0" if clip is None else f"a clip_norm below {clip:g}",
        ]
        error = NotFinite(
            f"training became not finite in epoch {self.epoch}, {where}: {finding.text}. "
            f"Remedies: {', '.join(remedies)}",
            self.epoch,
            batch,
            finding.layer,
        )
        error.history = self.history
        return error


def _generator(seed: int, stream: int) -> Generator:
    """A stream of a seed that is not the one users get by that seed."""
    return Generator((seed + stream * 0x9E3779B97F4A7C15) % 2**64)
