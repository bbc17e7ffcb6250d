"""A schedule that waits until a watched value no longer improves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gradnet.optim.optimizer import Optimizer
from gradnet.optim.schedules import Schedule
from gradnet.optim.settings import FRACTION, NONNEGATIVE, choice, whole

__all__ = ["PlateauSchedule"]


class PlateauSchedule(Schedule):
    """A fall by `gamma` when a watched value has not improved for more than `patience` epochs.

    It has improved where it is below (with mode="max", above) the best so far by more than
    `threshold` times the best's size. After a fall, `cooldown` epochs are not counted. No learning
    rate falls below `min_lr`. A NaN is no improvement.
    """

    name = "plateau"
    per = "metric"

    def __init__(
        self,
        optimizer: Optimizer,
        gamma: float = 0.1,
        patience: int = 10,
        *,
        mode: str = "min",
        threshold: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        self.gamma: float = self.setting("gamma", gamma, FRACTION)
        self.patience: int = self.setting("patience", patience, whole(0))
        self.mode = self.setting("mode", mode, choice("min", "max"))
        self.threshold: float = self.setting("threshold", threshold, NONNEGATIVE)
        self.cooldown: int = self.setting("cooldown", cooldown, whole(0))
        self.min_lr: float = self.setting("min_lr", min_lr, NONNEGATIVE)
        self.best: float | None = None
        self.bad = 0
        self.resting = 0
        self.falls = 0
        super().__init__(optimizer)

    def factor(self, t: int, base: float) -> float:
        result = float(self.gamma**self.falls)
        # A base already below min_lr stays; it is only kept from falling.
        return max(result, min(1.0, self.min_lr / base)) if base else 1.0

    def _improved(self, metric: float) -> bool:
        if self.best is None:
            return not math.isnan(metric)
        gain = self.best - metric if self.mode == "min" else metric - self.best
        return gain > self.threshold * abs(self.best)

    def _step(self, metric: float | None) -> None:
        """Count one epoch with its metric, and set the learning rates.

        Raises ValueError without a metric.
        """
        if metric is None:
            raise ValueError(
                "PlateauSchedule.step needs the value to watch, such as the validation loss"
            )
        metric = float(metric)
        if self._improved(metric):
            self.best, self.bad = metric, 0
        else:
            self.bad += 1
        if self.resting:
            self.resting -= 1
            self.bad = 0
        if self.bad > self.patience:
            self.falls += 1
            self.resting, self.bad = self.cooldown, 0
        super()._step(metric)

    def state_dict(self) -> dict[str, Any]:
        """All that the schedule remembers, in plain numbers."""
        return {
            **super().state_dict(),
            "best": self.best,
            "bad": self.bad,
            "resting": self.resting,
            "falls": self.falls,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`, and set the learning rates. Raises as every schedule's."""
        self.check_state(state)
        self.best, self.bad = state["best"], state["bad"]
        self.resting, self.falls = state["resting"], state["falls"]
        super().load_state_dict(state)
