"""The mean loss of an epoch, from losses that stay on the device until they are read together."""

from __future__ import annotations

import math

from gradnet import ops
from gradnet.tensor import Tensor
from gradnet.training.checks import numbers
from gradnet.training.sources import Rows

# Reading waits for the device, so it is done once in so many steps, and at the end of the epoch.
_READ_EVERY = 512


class LossMeter:
    """Adds up sum_b W_b loss_b / sum_b W_b over batches b, W_b being the sum of their weights.

    `first_not_finite` is the number of the first batch, from 0, whose loss was NaN or infinite.
    """

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.weights: list[float] = []
        self.rows = 0
        self._losses: list[Tensor] = []
        self._weights: list[Tensor] = []

    def add(self, loss: Tensor, batch: Rows) -> bool:
        """Note the loss of the next batch; False where one that was read is not finite."""
        count = batch.rows
        self.rows += count
        self._losses.append(loss)
        if batch.weight is None:
            self.weights.append(float(count))
        else:
            self._weights.append(ops.sum(batch.weight))
        return len(self._losses) < _READ_EVERY or self.read()

    def read(self) -> bool:
        """Fetch what is still on the device; False where a loss is not finite."""
        if self._losses:
            self.losses += numbers(self._losses)
            self._losses = []
        if self._weights:
            self.weights += numbers(self._weights)
            self._weights = []
        return self.first_not_finite is None

    @property
    def first_not_finite(self) -> int | None:
        """The first batch read whose loss is NaN or infinite."""
        return next((i for i, loss in enumerate(self.losses) if not math.isfinite(loss)), None)

    def mean(self) -> float:
        """The weighted mean over all rows that were read."""
        terms = (loss * weight for loss, weight in zip(self.losses, self.weights, strict=True))
        return math.fsum(terms) / math.fsum(self.weights)
