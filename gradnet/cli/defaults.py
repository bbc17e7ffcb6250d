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
    schedule: str | None
    epochs: int
    batch_size: int
    patience: int


def choose(rows: int, optimizer: str | None, searches: bool = False) -> Defaults:
    """The defaults for training on that many rows; `searches` says that steps search along a line.

    Few rows make overfitting the danger: a narrow network. Many rows make time the danger: larger
    batches at a larger rate. The rate falls along half a cosine over all epochs, so that more
    epochs are more care, except where a search finds the rate on all rows at once.
    """
    batch_size = 32 if rows < 2000 else 64 if rows < 8000 else 256
    usual = optimizer in (None, "adamw")
    return Defaults(
        hidden=(64,) if rows < 300 else (128, 128) if rows < 1000 else (256, 256),
        activation="relu",
        dropout=0.3 if 300 <= rows < 1000 else 0.1,
        optimizer="adamw",
        lr=(2e-3 if batch_size == 256 else 1e-3) if usual else None,
        weight_decay=0.01 if usual else None,
        schedule=None if searches else "cosine",
        epochs=100,
        batch_size=rows if searches else batch_size,
        patience=20,
    )
