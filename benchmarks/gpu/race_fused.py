"""gradnet in the races where one kernel is many layers, or many steps."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from benchmarks.gpu.race_ours import Captured, Eager
from benchmarks.gpu.races import Race
from benchmarks.workloads import Workload

HALVES = ("bfloat16", "float16")
WIDTHS = (16, 32, 64, 128)


class FullyFused(Captured):
    """The hidden layers as one kernel forward and one backward, wherever the kernels can."""

    switch: ClassVar[str] = "1"

    @classmethod
    def cannot(cls, race: Race, dry: bool) -> str:
        if race.precision not in HALVES:
            return f"its products take factors of {' and '.join(HALVES)} alone"
        if len(set(race.workload.sizes[1:-1])) != 1 or race.workload.sizes[1] not in WIDTHS:
            return f"its hidden layers are not all of one of the widths {WIDTHS}"
        return super().cannot(race, dry)

    def told(self) -> dict[str, Any]:
        told = super().told()
        replay = self.captured._last._replay if self.captured._last is not None else None
        calls = replay._program.calls if replay is not None else []
        return {**told, "fused_calls": sum(call.method.startswith("_fused") for call in calls)}


class Unfused(FullyFused):
    """The same without: one product after the other."""

    switch: ClassVar[str] = "0"


class Cluster(Eager):
    """All batches as one launch of the kernel that trains by one cluster of blocks."""

    @classmethod
    def cannot(cls, race: Race, dry: bool) -> str:
        work = race.workload
        if race.precision != "float32" or work.loss != "cross_entropy" or not work.bias:
            return "it trains in float32, with biases and cross-entropy"
        return _kernel().refusal(_training(work))

    def build(self) -> None:
        work, cupy = self.workload, self.bench.cupy
        self.training, self.stride = _training(work), len(self.batches)  # type: ignore[misc]
        x, y = work.data()
        weights = [value for layer in work.weights() for value in layer if value is not None]
        flat = np.concatenate([value.reshape(-1) for value in weights]).astype(np.float32)
        self.x, self.y = (
            cupy.asarray(x.reshape(-1, x.shape[-1])),
            cupy.asarray(y.reshape(-1).astype(np.int64)),
        )
        self.order = cupy.asarray(np.arange(y.size).reshape(self.stride, work.batch))
        self.initial = [cupy.asarray(flat)]
        self.p = cupy.asarray(flat)
        moments = 2 if work.optimizer == "adam" else 0
        self.states = cupy.asarray(np.zeros((moments, flat.size), np.float32))
        self.found = cupy.asarray(np.zeros(self.stride, np.float32))
        self.taken = 0

    def numbers(self) -> Any:
        """What the updates of the next steps take."""
        t = self.taken + np.arange(1, self.stride + 1)
        self.taken += self.stride
        lr = np.full(self.stride, self.workload.lr)
        if self.workload.optimizer != "adam":
            return np.stack([lr, 0 * lr], 1).astype(np.float32)
        parts = (lr / (1 - 0.9**t), 0.1 + 0 * lr, 0.001 + 0 * lr)
        rest = (1 / np.sqrt(1 - 0.999**t), 1e-8 + 0 * lr, 0 * lr)
        return np.stack([*parts, *rest], 1).astype(np.float32)

    def steps(self) -> None:
        """All batches once."""
        numbers = self.bench.cupy.asarray(self.numbers())
        arrays = (self.x, self.y, self.order, numbers, self.p, self.states, self.found)
        _kernel().train(self.bench.device.launch, self.training, *arrays)

    def losses(self, count: int) -> list[float]:
        found: list[float] = []
        while len(found) < count:
            self.steps()
            found += map(float, self.found.get())
        return found[:count]

    def reset(self) -> None:
        self.bench.cupy.copyto(self.p, self.initial[0])

    def run(self, steps: int) -> None:
        for _ in range(-(-steps // self.stride)):
            self.steps()
        self.wait(None)

    def told(self) -> dict[str, Any]:
        kernel = _kernel()
        return {
            "launches": {"kernels": 1 / self.stride, "products": 0},
            "cluster": kernel.cluster_of(self.training),
            "shared_bytes": kernel.program(self.training).shared,
        }


def _kernel() -> Any:
    from gradnet.kernels import cluster_step

    return cluster_step


def _training(work: Workload) -> Any:
    return _kernel().Training(work.sizes, work.batch, work.activation, work.optimizer)
