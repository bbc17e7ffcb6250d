"""Schedules: how learning rates change over the steps or epochs of a run.

A schedule is a factor on each group's learning rate, the one that the group had when the schedule
was made. It is told of every optimizer step or epoch that is over (`after_step`, `after_epoch`),
counts those of its own unit, and sets the learning rates; the count is all that it remembers.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from gradnet import host
from gradnet.optim.optimizer import Optimizer
from gradnet.optim.settings import (
    BETAS,
    FLAG,
    FRACTION,
    NONNEGATIVE,
    POSITIVE,
    Setting,
    between,
    choice,
    optional,
    whole,
)

__all__ = [
    "ConstantSchedule",
    "CosineSchedule",
    "ExponentialSchedule",
    "OneCycleSchedule",
    "Schedule",
    "StepSchedule",
]

_DECAY = between(0, 1, open_low=True)
_PER = choice("step", "epoch")


class Schedule(host.Stateful):
    """Base of all schedules. `per` is what it counts: "step", "epoch", or epochs with a "metric".

    `bases` holds the learning rate of each group that the factors apply to. Raises ValueError for a
    bad setting, and TypeError for what is no Optimizer.
    """

    name: ClassVar[str]
    per: str = "epoch"

    def __init__(self, optimizer: Optimizer, per: str | None = None) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"{type(self).__name__} takes an Optimizer first, got {type(optimizer).__name__}"
            )
        self.optimizer = optimizer
        if per is not None:
            self.per = self.setting("per", per, _PER)
        self.count = 0
        self.bases: list[float] = [group["lr"] for group in optimizer.groups]
        self.apply()

    def setting(self, name: str, value: Any, rule: Setting) -> Any:
        """The value, if the rule allows it. Raises ValueError."""
        return rule(type(self).__name__, name, value)

    def factor(self, t: int, base: float) -> float:
        """What a base learning rate is multiplied by after t units."""
        raise NotImplementedError

    def apply(self) -> None:
        """Set the learning rate of every group to that of now."""
        groups = self.optimizer.groups
        if len(groups) != len(self.bases):
            raise ValueError(
                f"{type(self).__name__} was made for {len(self.bases)} groups and the optimizer "
                f"has {len(groups)} now; make a new schedule after add_group"
            )
        for group, base in zip(groups, self.bases, strict=True):
            group["lr"] = base * self.factor(self.count, base)

    def step(self, metric: float | None = None) -> None:
        """Count one unit and set the learning rates; a metric is for schedules that watch one."""
        host.run(self._step, metric)

    def _step(self, metric: float | None) -> None:
        self.count += 1
        self.apply()

    def watched(self) -> Iterable[Any]:
        """The optimizer."""
        return (self.optimizer,)

    def snapshot(self) -> Any:
        """What it remembers, and the settings of the optimizer."""
        return self.state_dict(), self.optimizer.snapshot()

    def rewind(self, snapshot: Any) -> None:
        """Go back to a snapshot."""
        self.load_state_dict(snapshot[0])
        self.optimizer.rewind(snapshot[1])

    def after_step(self) -> None:
        """Tell that an optimizer step is over."""
        if self.per == "step":
            self.step()

    def after_epoch(self, metric: float | None = None) -> None:
        """Tell that an epoch is over, and the value that is being watched."""
        if self.per == "epoch":
            self.step()
        elif self.per == "metric":
            self.step(metric)

    def state_dict(self) -> dict[str, Any]:
        """All that the schedule remembers, in plain numbers."""
        return {"kind": self.name, "count": self.count, "bases": list(self.bases)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`, and set the learning rates.

        Raises ValueError for one of another kind of schedule or another number of groups.
        """
        self.check_state(state)
        self.count = state["count"]
        self.bases = list(state["bases"])
        self.apply()

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Raise ValueError where `load_state_dict` could not take a state."""
        kind = type(self).__name__
        if state.get("kind") != self.name:
            raise ValueError(
                f"{kind} cannot load the state of {state.get('kind')!r}; "
                f"it takes a state_dict of the schedule {self.name!r}"
            )
        if len(state["bases"]) != len(self.bases):
            raise ValueError(
                f"{kind} cannot load a state for {len(state['bases'])} groups: the optimizer has "
                f"{len(self.bases)}"
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(per={self.per!r}, count={self.count})"


class ConstantSchedule(Schedule):
    """The learning rate as it is: lr(t) = base."""

    name = "constant"

    def factor(self, t: int, base: float) -> float:
        return 1.0


class StepSchedule(Schedule):
    """A fall by `gamma` after every `size` units, or after each of the `milestones`.

    lr(t) = base * gamma**floor(t / size), or base * gamma**(number of milestones up to t)

    Raises ValueError for both of them or neither.
    """

    name = "step"

    def __init__(
        self,
        optimizer: Optimizer,
        size: int | None = None,
        gamma: float = 0.1,
        *,
        milestones: Sequence[int] | None = None,
        per: str | None = None,
    ) -> None:
        if (size is None) == (milestones is None):
            raise ValueError("StepSchedule takes either size or milestones")
        self.size = None if size is None else self.setting("size", size, whole(1))
        self.milestones = [
            self.setting("each of milestones", item, whole(0)) for item in milestones or ()
        ]
        if any(b <= a for a, b in zip(self.milestones, self.milestones[1:], strict=False)):
            raise ValueError(f"StepSchedule: milestones must increase, got {self.milestones}")
        self.gamma: float = self.setting("gamma", gamma, _DECAY)
        super().__init__(optimizer, per)

    def factor(self, t: int, base: float) -> float:
        falls = bisect_right(self.milestones, t) if self.size is None else t // self.size
        return float(self.gamma**falls)


class ExponentialSchedule(Schedule):
    """A fall by the same factor in every unit: lr(t) = base * gamma**t."""

    name = "exponential"

    def __init__(self, optimizer: Optimizer, gamma: float, *, per: str | None = None) -> None:
        self.gamma: float = self.setting("gamma", gamma, _DECAY)
        super().__init__(optimizer, per)

    def factor(self, t: int, base: float) -> float:
        return float(self.gamma**t)


class CosineSchedule(Schedule):
    """A fall along half a cosine within `total_steps` units, to `min_lr`.

        lr(t) = min_lr + (base - min_lr) * (1 + cos(pi * t / total_steps)) / 2

    and min_lr from there on. With `restarts`, lr jumps back to its base instead, and falls again
    within a period `growth` times as long as the one before.
    Loshchilov and Hutter 2017, arXiv:1608.03983.
    """

    name = "cosine"
    per = "step"

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        min_lr: float = 0.0,
        *,
        restarts: bool = False,
        growth: int = 1,
        per: str | None = None,
    ) -> None:
        self.total_steps: int = self.setting("total_steps", total_steps, whole(1))
        self.min_lr: float = self.setting("min_lr", min_lr, NONNEGATIVE)
        self.restarts = self.setting("restarts", restarts, FLAG)
        self.growth: int = self.setting("growth", growth, whole(1))
        super().__init__(optimizer, per)

    def factor(self, t: int, base: float) -> float:
        length = self.total_steps
        if not self.restarts:
            t = min(t, length)
        elif self.growth == 1:
            t %= length
        else:
            while t >= length:
                t -= length
                length *= self.growth
        lowest = self.min_lr / base if base else 1.0
        part = (1 - math.cos(math.pi * t / length)) / 2
        return (1 - part) + part * lowest


class OneCycleSchedule(Schedule):
    """A rise from base / `start_divisor` to base, then a fall to that start / `end_divisor`.

    The rise takes `rise`, a fraction of `total_steps`; both follow half a cosine, or straight lines
    with anneal="linear". With momentum=(low, high), the groups' momentum, or beta1, runs the other
    way: high, low at the top, high. Smith and Topin 2018, arXiv:1708.07120.

    Raises ValueError for fewer than 2 steps, and for momentum of an optimizer that has none.
    """

    name = "one_cycle"
    per = "step"

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        *,
        rise: float = 0.3,
        start_divisor: float = 25.0,
        end_divisor: float = 1e4,
        anneal: str = "cosine",
        momentum: tuple[float, float] | None = None,
        per: str | None = None,
    ) -> None:
        self.total_steps: int = self.setting("total_steps", total_steps, whole(2))
        self.rise: float = self.setting("rise", rise, FRACTION)
        self.start_divisor: float = self.setting("start_divisor", start_divisor, POSITIVE)
        self.end_divisor: float = self.setting("end_divisor", end_divisor, POSITIVE)
        self.anneal = self.setting("anneal", anneal, choice("cosine", "linear"))
        self.momentum: tuple[float, float] | None = self.setting(
            "momentum", momentum, optional(BETAS)
        )
        if self.momentum is not None:
            for i, group in enumerate(getattr(optimizer, "groups", ())):
                if "momentum" not in group and "betas" not in group:
                    raise ValueError(
                        f"OneCycleSchedule: group {i} of {type(optimizer).__name__} has neither "
                        "momentum nor betas to change; leave momentum out"
                    )
        super().__init__(optimizer, per)

    def _between(self, t: int, start: float, top: float, end: float) -> float:
        """Where a value is after t units that goes from `start` over `top` to `end`."""
        last = self.total_steps - 1
        peak = self.rise * self.total_steps - 1
        t = min(t, last)
        if peak > 0 and t <= peak:
            a, b, part = start, top, t / peak
        else:
            a, b, part = top, end, (t - peak) / (last - peak)
        if self.anneal == "cosine":
            part = (1 - math.cos(math.pi * part)) / 2
        # In this form both ends are met exactly.
        return (1 - part) * a + part * b

    def factor(self, t: int, base: float) -> float:
        start = 1 / self.start_divisor
        return self._between(t, start, 1.0, start / self.end_divisor)

    def apply(self) -> None:
        super().apply()
        if self.momentum is None:
            return
        low, high = self.momentum
        value = self._between(self.count, high, low, high)
        for group in self.optimizer.groups:
            if "betas" in group:
                group["betas"] = (value, group["betas"][1])
            else:
                group["momentum"] = value
