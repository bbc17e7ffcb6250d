"""Settings for training on a table where none are given: one rule for each, by the number of rows.

The command and the tabular estimators share them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Defaults:
    """Values for what was not given; None leaves it to the optimizer."""

    hidden: tuple[int, ...]
    activation: str
    dropout: float
    optimizer: str
    lr: float | None
    weight_decay: float | None
    schedule: str | None
    epochs: int
    batch_size: int
    patience: int


FEW = 50
"""Fewer training rows than these are too few to draw from: every step takes them all."""

_SIZES: tuple[tuple[float, dict[str, Any]], ...] = (
    (FEW, {"hidden": (64,), "dropout": 0.0, "lr": 2e-3, "epochs": 200, "batch_size": FEW}),
    (300, {"hidden": (64,), "dropout": 0.3, "lr": 2e-3, "epochs": 200, "batch_size": 16}),
    (1000, {"hidden": (128, 128), "dropout": 0.3, "lr": 1e-3, "epochs": 100, "batch_size": 32}),
    (2000, {"hidden": (256, 256), "dropout": 0.1, "lr": 1e-3, "epochs": 100, "batch_size": 32}),
    (8000, {"hidden": (256, 256), "dropout": 0.1, "lr": 1e-3, "epochs": 100, "batch_size": 64}),
    (20000, {"hidden": (256, 256), "dropout": 0.1, "lr": 2e-3, "epochs": 100, "batch_size": 256}),
    (math.inf, {"hidden": (256, 256), "dropout": 0.1, "lr": 2e-3, "epochs": 40, "batch_size": 256}),
)
"""Up to so many training rows, these values. Few rows are overfitted, many take time."""


def choose(rows: int, optimizer: str | None, searches: bool = False) -> Defaults:
    """The defaults for training on that many rows; `searches` says that steps search along a line.

    The rates are AdamW's, another optimizer has its own. They fall along half a cosine over all
    epochs, except where a search finds them, which needs all rows in each step. A run stops when
    the validation loss has not improved for a fifth of all epochs, at least ten.
    """
    chosen = next(values for most, values in _SIZES if rows < most)
    if searches:
        chosen = {**chosen, "batch_size": rows}
    if optimizer not in (None, "adamw"):
        chosen = {**chosen, "lr": None}
    return Defaults(
        activation="relu",
        optimizer="adamw",
        weight_decay=None if chosen["lr"] is None else 0.01,
        schedule=None if searches else "cosine",
        patience=max(10, chosen["epochs"] // 5),
        **chosen,
    )


WHOLE = 2000
"""Of fewer rows than these, what a validation set would tell is worth less than its rows."""


def choose_whole(rows: int, task: str, optimizer: str | None) -> Defaults:
    """The defaults for training on all of fewer than `WHOLE` rows, for as long as planned.

    As nothing tells when to stop, the run is short, and its rate falls to nothing.
    """
    chosen = choose(rows, optimizer)
    if rows < FEW:
        return chosen
    values: dict[str, Any] = {"epochs": 40, "batch_size": 128, "dropout": 0.2}
    if task == "regression":
        values = {"epochs": 60, "batch_size": 32, "dropout": 0.1}
    return replace(chosen, lr=None if chosen.lr is None else 4e-3, **values)
