"""The workloads of training steps: each defined once, for every contender alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Layer = tuple[Array, Array | None]


@dataclass(frozen=True)
class Workload:
    """One training step: the network, the batch, the loss and the optimizer.

    loss       "cross_entropy", the mean over rows, or "squared_error", the sum of all squares
    optimizer  "adam" with betas .9 and .999 and eps 1e-8, or "sgd", plain
    batches    how many prepared batches the contenders cycle through
    """

    name: str
    sizes: tuple[int, ...]
    batch: int
    activation: str = "relu"
    loss: str = "cross_entropy"
    optimizer: str = "adam"
    lr: float = 1e-3
    dtype: str = "float32"
    bias: bool = True
    batches: int = 16
    seed: int = 0

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Workload:
        """The workload that `record()` describes."""
        return cls(**{**record, "sizes": tuple(record["sizes"])})

    def record(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return asdict(self)

    @property
    def title(self) -> str:
        """What it is, in a few characters: 64-32-10, 32 rows."""
        return f"{'-'.join(map(str, self.sizes))}, {self.batch} rows"

    @property
    def parameters(self) -> int:
        """The number of weights and biases."""
        pairs = zip(self.sizes, self.sizes[1:], strict=False)
        return sum(n * m + m * self.bias for n, m in pairs)

    def products(self) -> list[tuple[int, int, int]]:
        """(n, k, m) of each matrix product of a step: the first layer's input needs no gradient."""
        found = []
        for i, (k, m) in enumerate(zip(self.sizes, self.sizes[1:], strict=False)):
            found += [(self.batch, k, m), (k, self.batch, m)]
            if i:
                found.append((self.batch, m, k))
        return found

    def data(self) -> tuple[Array, Array]:
        """Features (batches, batch, inputs), and classes or values for each row."""
        rng = np.random.default_rng(self.seed)
        x = rng.standard_normal((self.batches, self.batch, self.sizes[0])).astype(self.dtype)
        if self.loss == "cross_entropy":
            # Labels that no network of this size can learn by heart: losses stay of order one,
            # and no contender meets the denormal numbers of a vanishing gradient.
            return x, rng.integers(0, self.sizes[-1], (self.batches, self.batch))
        y = rng.standard_normal((self.batches, self.batch, self.sizes[-1]))
        return x, y.astype(self.dtype)

    def weights(self) -> list[Layer]:
        """The initial weights (n, m) and biases (m,) of each layer."""
        rng = np.random.default_rng(self.seed + 1)
        layers: list[Layer] = []
        for n, m in zip(self.sizes, self.sizes[1:], strict=False):
            # The lecture draws its weights from the standard normal distribution as they are.
            scale = math.sqrt(2 / n) if self.activation == "relu" else 1.0
            w = (scale * rng.standard_normal((n, m))).astype(self.dtype)
            layers.append((w, np.zeros(m, self.dtype) if self.bias else None))
        return layers

    def cost(self) -> tuple[float, float]:
        """(floating-point operations, bytes) of a step, by the costs that our ops declare."""
        from gradnet.ops.elementwise import op
        from gradnet.ops.fused import _LINEAR_BACKWARD, LINEAR
        from gradnet.ops.probabilities import CROSS_ENTROPY

        itemsize = np.dtype(self.dtype).itemsize
        hidden = op(self.activation)
        last = len(self.sizes) - 2
        costs = []
        for i, (k, m) in enumerate(zip(self.sizes, self.sizes[1:], strict=False)):
            x, w, z = (self.batch, k), (k, m), (self.batch, m)
            shapes = (x, w, (m,)) if self.bias else (x, w)
            activation = hidden if i < last else None
            costs.append(LINEAR.cost(*shapes, itemsize=itemsize, activation=activation))
            needs = (i > 0, True, *((True,) if self.bias else ()))
            costs.append(
                _LINEAR_BACKWARD.cost(
                    *(z, z, x, w), itemsize=itemsize, activation=activation, needs=needs
                )
            )
        costs.append(CROSS_ENTROPY.cost(z, itemsize=itemsize))
        costs.append(update_cost(self.optimizer, self.parameters, itemsize))
        return sum(flops for flops, _ in costs), sum(moved for _, moved in costs)


def update_cost(name: str, parameters: int, itemsize: int) -> tuple[float, float]:
    """(operations, bytes) of an optimizer's update: values, gradients and moments, one pass."""
    from gradnet.formulas import UPDATES

    update = UPDATES[name]
    arrays = 3 + 2 * len(update.state)  # all are read, and all but the gradients written
    return float(update.flops * parameters), float(arrays * itemsize * parameters)


@dataclass(frozen=True)
class Bar:
    """What a workload must show: the step over its own products, and against the best peer."""

    over_floor: float
    over_peers: float


STEPS = {
    workload.name: workload
    for workload in (
        Workload("tiny", (64, 32, 10), 32, batches=64),
        Workload("tabular", (14, 64, 64, 2), 256),
        Workload("mnist", (784, 128, 10), 128),
        Workload("mnist3", (784, 512, 512, 10), 128),
        Workload("big", (784, 1024, 1024, 10), 256),
        Workload("wide", (2048, 2048, 2048, 10), 1024, batches=4),
        Workload(
            "lecture",
            (1000, 100, 10),
            64,
            activation="sigmoid",
            loss="squared_error",
            optimizer="sgd",
            lr=1e-4,
            dtype="float64",
            bias=False,
        ),
    )
}

BARS = {
    "tiny": Bar(1.5, 1.5),
    "tabular": Bar(1.35, 1.4),
    "mnist": Bar(1.3, 1.25),
    "mnist3": Bar(1.3, 1.1),
    "big": Bar(1.18, 1.05),
    "wide": Bar(1.1, 1.0),
    "lecture": Bar(1.15, 1.15),
}
