"""Steps of training for the tests of captured functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import gradnet as gn

Step = Callable[..., Any]
ROWS, FEATURES, CLASSES = 12, 7, 5


def table(seed: int = 0, rows: int = ROWS) -> tuple[gn.Tensor, gn.Tensor]:
    rng = np.random.default_rng(seed)
    x = gn.asarray(rng.normal(size=(rows, FEATURES)).astype("float32"))
    return x, gn.asarray(rng.integers(0, CLASSES, rows))


def step_of(model: gn.nn.Module, optimizer: Any, schedule: Any, clip: float | None) -> Step:
    """A step of training as a user writes it."""

    def step(x: gn.Tensor, y: gn.Tensor) -> gn.Tensor:
        loss = gn.nn.cross_entropy(model(x), y)
        loss.backward()
        if clip is not None:
            gn.optim.clip_grad_norm(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
        if schedule is not None:
            schedule.step()
        return loss

    return step


def training(
    optimizer: str = "adam",
    *,
    schedule: str | None = None,
    clip: float | None = None,
    settings: dict[str, Any] | None = None,
    hidden: tuple[int, ...] = (9,),
    **options: Any,
) -> tuple[gn.nn.MLP, Any, Step]:
    """A model, its optimizer, and a step of training."""
    gn.random.seed(3)
    sizes = (FEATURES, *hidden, CLASSES)
    model = gn.nn.MLP(sizes, seed=0, output="softmax", **options)
    made = gn.optim.create(optimizer, model.parameters(), lr=0.05, **(settings or {}))
    falling = None
    if schedule is not None:
        falling = gn.optim.schedule(schedule, made, total_steps=20)

    return model, made, step_of(model, made, falling, clip)


def weights(model: gn.nn.Module) -> list[np.ndarray[Any, Any]]:
    return [np.array(p.detach().numpy()) for p in model.parameters()]
