"""Finding a learning rate: train a copy of a model while the rate grows, and look at the loss."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gradnet.nn import Module
from gradnet.optim import Optimizer
from gradnet.random import Generator, default_generator
from gradnet.tensor import Tensor
from gradnet.training import build, checks, intake
from gradnet.training.objective import Objective
from gradnet.training.sources import InMemory, batches
from gradnet.training.step import Step

_MEMORY = 0.9
_DIVERGED = 4.0
"""The search ends where the running mean of the loss is so many times the lowest."""


@dataclass(frozen=True)
class RateSearch:
    """The losses of batches at rates that grow, and the rate that follows from them.

    rates        of each step, lowest to highest, as far as the loss did not diverge
    losses       of each batch, before its step
    smoothed     their mean over neighbours, with triangular weights
    suggestion   the rate where `smoothed` falls most steeply with the logarithm of the rate
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]

    @property
    def suggestion(self) -> float:
        """The rate at the steepest fall of the smoothed loss, before its lowest point."""
        lowest = min(range(len(self.smoothed)), key=self.smoothed.__getitem__)
        span = max(1, len(self.rates) // 20)  # a slope over a few steps: single ones are noise
        slopes = {
            i: self.smoothed[i + span] - self.smoothed[i - span]
            for i in range(span, min(lowest + 1, len(self.rates) - span))
        }
        steepest = min(slopes, key=slopes.__getitem__) if slopes else lowest
        return self.rates[steepest]


def find_learning_rate(
    model: Module,
    X: Any,
    y: Any,
    *,
    optimizer: build.OptimizerLike = "adam",
    loss: str | Callable[..., Tensor] | None = None,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 200,
    batch_size: int | None = 64,
    sample_weight: Any = None,
    seed: int = 0,
) -> RateSearch:
    """The range test: step i of a copy of the model has the rate lowest (highest/lowest)^(i/steps).

    The model itself is not changed. The test ends early where the running mean of the loss is
    not finite or four times its lowest. The arguments are those of `fit`; the optimizer is a
    name, a mapping with a name, or a function of parameters and lr.
    Raises ValueError for an Optimizer object, one that searches for its own rate, and for rates
    that do not grow; otherwise what `fit` raises. Smith 2015, arXiv:1506.01186.
    """
    lowest = checks.number("lowest", lowest, above=0.0)
    highest = checks.number("highest", highest, above=0.0)
    if not lowest < highest:
        raise ValueError(f"the rates must grow, from lowest={lowest:g} to highest={highest:g}")
    steps = checks.whole("steps", steps, 10)
    if batch_size is not None:
        batch_size = checks.whole("batch_size", batch_size, 1)
    if isinstance(optimizer, Optimizer):
        raise ValueError(
            "find_learning_rate trains a copy of the model, which an Optimizer object does not "
            'know: give the optimizer by its name, such as "adam"'
        )
    build.check_names(optimizer, None)
    trial = copy.deepcopy(model)
    objective = Objective(trial, loss)
    made = build.optimizer(optimizer, trial, lowest, False)
    if made.needs_closure:
        raise ValueError(f"{type(made).__name__} searches for its own rate in every step")
    data = intake.Intake(trial, objective, build.reference(trial))
    source = InMemory(data.rows(X, y, sample_weight).weighed(None), batch_size, True)
    step = Step(trial, objective, made, None, l1=0.0, l2=0.0, max_norm=None, clip_norm=None)
    growth = (highest / lowest) ** (1 / (steps - 1))
    # Dropout draws from the seed, and the user's own stream is left where it was.
    trial.train()
    with default_generator().replaying(Generator(seed + 1).get_state()):
        return _searched(step, source, Generator(seed), lowest, growth, steps)


def _searched(
    step: Step, source: InMemory, order: Generator, lowest: float, growth: float, steps: int
) -> RateSearch:
    rates: list[float] = []
    losses: list[float] = []
    running, best, epoch = 0.0, math.inf, 0
    while len(rates) < steps:
        for batch in batches(source, order, epoch, 0):
            rate = lowest * growth ** len(rates)
            step.optimizer.lr = rate
            loss = float(step(batch).item())
            running = _MEMORY * running + (1 - _MEMORY) * loss
            mean = running / (1 - _MEMORY ** (len(rates) + 1))
            best = min(best, mean)
            if not math.isfinite(mean) or mean - best > (_DIVERGED - 1) * abs(best):
                return _found(rates, losses, steps)
            rates.append(rate)
            losses.append(loss)
            if len(rates) == steps:
                break
        epoch += 1
    return _found(rates, losses, steps)


def _found(rates: list[float], losses: list[float], steps: int) -> RateSearch:
    if not rates:
        raise ValueError("the loss of the first batch is not finite: look at data and model")
    return RateSearch(tuple(rates), tuple(losses), _smoothed(losses, max(1, steps // 20)))


def _smoothed(values: list[float], reach: int) -> tuple[float, ...]:
    """Means with triangular weights over `reach` neighbours on both sides: nothing is delayed."""
    found = []
    for i in range(len(values)):
        near = range(max(0, i - reach), min(len(values), i + reach + 1))
        weights = [reach + 1 - abs(i - j) for j in near]
        found.append(sum(w * values[j] for w, j in zip(weights, near, strict=True)) / sum(weights))
    return tuple(found)
