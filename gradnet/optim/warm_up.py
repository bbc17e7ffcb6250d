"""A schedule that starts slowly, alone or before another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradnet.optim.optimizer import Optimizer
from gradnet.optim.schedules import Schedule
from gradnet.optim.settings import between, whole

__all__ = ["WarmUpSchedule"]


class WarmUpSchedule(Schedule):
    """A straight rise over the first `steps` optimizer steps, before or over another schedule.

        lr(t) = base * (start + (1 - start) * min(t / steps, 1)) * (factor of `then`)

    `then`, a schedule of the same optimizer, counts its steps from the end of the rise; one that
    counts epochs counts all of them. Goyal et al. 2017, arXiv:1706.02677.

    Raises ValueError for settings out of range and another optimizer's `then`, TypeError for a
    `then` that is no schedule.
    """

    name = "warm_up"
    per = "step"

    def __init__(
        self,
        optimizer: Optimizer,
        steps: int,
        start: float = 0.0,
        then: Schedule | None = None,
    ) -> None:
        self.steps = self.setting("steps", steps, whole(1))
        self.start = self.setting("start", start, between(0, 1))
        if then is not None and not isinstance(then, Schedule):
            raise TypeError(
                f"WarmUpSchedule: then must be a Schedule, got {type(then).__name__}; make one "
                "with gradnet.optim.schedule(name, optimizer, ...)"
            )
        self.then: Schedule | None = None
        if then is not None and then.optimizer is not optimizer:
            raise ValueError("WarmUpSchedule: then must be a schedule of the same optimizer")
        if then is not None:
            for group, base in zip(optimizer.groups, then.bases, strict=True):
                group["lr"] = base
        super().__init__(optimizer)
        self.then = then
        self.apply()

    def factor(self, t: int, base: float) -> float:
        rise: float = self.start + (1 - self.start) * min(t / self.steps, 1.0)
        return rise if self.then is None else rise * self.then.factor(self.then.count, base)

    def apply(self) -> None:
        if self.then is not None:
            self.then.apply()
        super().apply()

    def _step(self, metric: float | None) -> None:
        """Count one optimizer step and set the learning rates."""
        if self.then is not None and self.then.per == "step" and self.count >= self.steps:
            self.then.step()
        super()._step(metric)

    def after_epoch(self, metric: float | None = None) -> None:
        """Tell that an epoch is over, and the value that is being watched."""
        if self.then is not None:
            self.then.after_epoch(metric)
            self.apply()

    def state_dict(self) -> dict[str, Any]:
        """All that the schedule remembers, in plain numbers."""
        then = None if self.then is None else self.then.state_dict()
        return {**super().state_dict(), "then": then}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`, and set the learning rates. Raises as every schedule's."""
        super().load_state_dict(state)
        if self.then is not None:
            self.then.load_state_dict(state["then"])
            self.apply()

    def check_state(self, state: Mapping[str, Any]) -> None:
        super().check_state(state)
        saved = None if state.get("then") is None else state["then"]["kind"]
        mine = None if self.then is None else self.then.name
        if saved != mine:
            raise ValueError(
                f"WarmUpSchedule cannot load a state that goes on with {saved!r}: "
                f"this one goes on with {mine!r}"
            )
