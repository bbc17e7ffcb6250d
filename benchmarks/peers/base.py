"""What a contender is: something that trains by a workload, one step after another."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import cycle, islice
from typing import Any, ClassVar

from benchmarks.workloads import Workload


class Contender:
    """A way to train. A file of this folder holds the contenders of one library.

    `prepare` makes the batches as the library wants them on the device, `build` the network, the
    optimizer and the `step(x, y)`, which returns the loss before its update.
    """

    stride: ClassVar[int] = 1  # steps that can only be taken together

    def __init__(self, workload: Workload, device: str) -> None:
        self.workload = workload
        self.device = device
        self.batches: list[tuple[Any, Any]] = []
        self.info: dict[str, Any] = {}

    @staticmethod
    def read(record: dict[str, Any]) -> Workload:
        """The workload of a message."""
        return Workload.of(record)

    @classmethod
    def unfit(cls, workload: Workload, device: str) -> str:
        """Why it cannot take part, or nothing. Called where the library can be imported."""
        return ""

    def prepare(self) -> None:
        """Make the batches."""
        raise NotImplementedError

    def build(self) -> None:
        """Make the network with its initial weights, the optimizer and the step."""
        raise NotImplementedError

    def step(self, x: Any, y: Any) -> Any:
        """Take a step."""
        raise NotImplementedError

    def reset(self) -> None:
        """Write the initial weights into the network, in place; moments may stay."""
        raise NotImplementedError

    def wait(self, loss: Any) -> None:
        """Wait until what led to this loss is done."""

    def tune(self) -> None:
        """Choose between ways to do the same, by trying; called once before timing."""

    def losses(self, count: int) -> list[float]:
        """The losses of the first steps after `build`."""
        return [float(self.step(x, y)) for x, y in islice(cycle(self.batches), count)]

    def run(self, steps: int) -> None:
        """Take steps through the batches, from the first on, and wait for the last."""
        step = self.step
        for x, y in islice(cycle(self.batches), steps):
            loss = step(x, y)
        self.wait(loss)


def quickest(run: Callable[[int], object], least: float = 0.01, trials: int = 5) -> float:
    """The seconds of a step in the best of a few trials of at least so many seconds."""
    run(2)
    found = []
    for _ in range(trials):
        count, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < least or not count:
            run(1)
            count += 1
        found.append(elapsed / count)
    return min(found)
