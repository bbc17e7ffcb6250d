"""The mean loss of an epoch, from losses that stay on the device until they are read together."""

from __future__ import annotations

import math
import operator

from gradnet import ops
from gradnet.tensor import Tensor
from gradnet.training.sources import Batches

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
        self._unread = 0
        self._weights: list[Tensor] = []
        self._finite = True

    def add(self, losses: Tensor, rows: Batches, size: int) -> bool:
        """Note the losses (count,) of the next batches; False where one read is not finite."""
        count = losses.shape[0]
        self.rows += rows.rows
        self._losses.append(losses)
        self._unread += count
        if rows.weight is None:
            self.weights += [float(size)] * count
        else:
            self._weights.append(ops.sum(ops.reshape(rows.weight, (count, size)), axis=1))
        return self._unread < _READ_EVERY or self.read()

    def read(self) -> bool:
        """Fetch what is still on the device; False where a loss is not finite."""
        if self._losses:
            read = self._losses[0] if len(self._losses) == 1 else ops.concat(self._losses)
            losses = read.numpy().tolist()
            self.losses += losses
            self._finite = self._finite and all(map(math.isfinite, losses))
            self._losses, self._unread = [], 0
        if self._weights:
            self.weights += ops.concat(self._weights).numpy().tolist()
            self._weights = []
        return self._finite

    @property
    def first_not_finite(self) -> int | None:
        """The first batch read whose loss is NaN or infinite."""
        return next((i for i, loss in enumerate(self.losses) if not math.isfinite(loss)), None)

    def mean(self) -> float:
        """The weighted mean over all rows that were read."""
        return math.fsum(map(operator.mul, self.losses, self.weights)) / math.fsum(self.weights)
