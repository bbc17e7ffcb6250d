"""What the command chooses where a flag is not given: one rule for each, by task and size."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Defaults:
    """Values for the flags that were not given; None leaves it to the optimizer."""

    hidden: tuple[int, ...]
    activation: str
    dropout: float
    optimizer: str
    lr: float | None
    weight_decay: float | None
    epochs: int
    batch_size: int
    patience: int


def choose(rows: int, optimizer: str | None) -> Defaults:
    """The defaults for training on that many rows.

    Few rows make overfitting the danger: a narrow network, small batches, much weight decay.
    """
    small = rows < 1000
    usual = optimizer in (None, "adamw")
    batch_size = 32 if rows < 2000 else 64 if rows < 8000 else 256
    return Defaults(
        hidden=(64,) if small else (256, 256),
        activation="relu",
        dropout=0.1,
        optimizer="adamw",
        lr=(2e-3 if batch_size == 256 else 1e-3) if usual else None,
        weight_decay=0.01 if usual else None,
        epochs=100,
        batch_size=batch_size,
        patience=20,
    )
