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


def training(
    optimizer: str = "adam",
    *,
    schedule: str | None = None,
    clip: float | None = None,
    settings: dict[str, Any] | None = None,
    hidden: tuple[int, ...] = (9,),
    **options: Any,
) -> tuple[gn.nn.MLP, Any, Step]:
    """A model, its optimizer, and a step of training as a user writes it."""
    gn.random.seed(3)
    sizes = (FEATURES, *hidden, CLASSES)
    model = gn.nn.MLP(sizes, seed=0, output="softmax", **options)
    made = gn.optim.create(optimizer, model.parameters(), lr=0.05, **(settings or {}))
    falling = None
    if schedule is not None:
        falling = gn.optim.schedule(schedule, made, total_steps=20)

    def step(x: gn.Tensor, y: gn.Tensor) -> gn.Tensor:
        loss = gn.nn.cross_entropy(model(x), y)
        loss.backward()
        if clip is not None:
            gn.optim.clip_grad_norm(model.parameters(), clip)
        made.step()
        made.zero_grad()
        if falling is not None:
            falling.step()
        return loss

    return model, made, step


def weights(model: gn.nn.Module) -> list[np.ndarray[Any, Any]]:
    return [np.array(p.detach().numpy()) for p in model.parameters()]
