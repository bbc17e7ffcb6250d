"""What is raced on the device: workloads in precisions, most telling first; and by whom."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

from benchmarks.workloads import STEPS, Array, Layer, Workload


class Kept(Workload):
    """A workload whose numbers are drawn once for all contenders of a process."""

    def data(self) -> tuple[Array, Array]:
        return _data(Workload.of(self.record()))

    def weights(self) -> list[Layer]:
        return _weights(Workload.of(self.record()))


# Large workloads of two sizes take turns.
_data = functools.lru_cache(2)(Workload.data)
_weights = functools.lru_cache(2)(Workload.weights)


# Hidden layers that one kernel can hold, at batches where it should pay: one of a round of its
# blocks, and one of several.
FUSED = tuple(
    Workload(f"fused{width}-{rows}", (*(width,) * 5, 16), rows, batches=4)
    for rows in (1 << 14, 1 << 17)
    for width in (64, 128)
)
FLEET = Workload("fleet", (4096, 4096, 4096, 4096, 4096), 8192, batches=2)
MIDDLE = Workload("middle", (784, 1024, 1024, 10), 1024, batches=8)


class Race(NamedTuple):
    """A workload in a precision."""

    workload: Workload
    precision: str

    @property
    def name(self) -> str:
        return f"{self.workload.name}, {self.precision}"

    @property
    def flops(self) -> float:
        """Of the step's matrix products."""
        return sum(2.0 * n * k * m for n, k, m in self.workload.products())


def _races() -> tuple[Race, ...]:
    plain = [Race(STEPS[name], "float32") for name in ("mnist", "tiny", "tabular", "mnist3")]
    large = [
        Race(work, precision)
        for precision in ("float32", "tf32", "bfloat16")
        for work in (MIDDLE, FLEET)
    ]
    fused = [Race(work, "bfloat16") for work in FUSED]
    rest = [Race(STEPS[name], STEPS[name].dtype) for name in ("big", "wide", "lecture")]
    halves = [Race(FLEET, "float16"), *(Race(work, "float16") for work in FUSED)]
    # The others, where time is left.
    lower = [
        Race(work, precision)
        for precision in ("bfloat16", "tf32")
        for work in STEPS.values()
        if work.dtype == "float32"
    ]
    return (*plain, *large, *fused, *rest, *halves, *lower)


RACES = _races()
_TINY = {"batch": 8, "batches": 2}
DRY = tuple(
    Race(dataclasses.replace(work, sizes=sizes, **_TINY), precision)  # type: ignore[arg-type]
    for work, sizes, precision in (
        (STEPS["mnist"], (6, 5, 3), "float32"),
        (FLEET, (8, 16, 8), "bfloat16"),
        (STEPS["lecture"], (6, 5, 3), "float64"),
    )
)


class Contender(NamedTuple):
    """Where a contender is; and whether a dry run has it: peers take seconds to be imported."""

    module: str
    kind: str
    dry: bool


FAMILIES: dict[str, dict[str, Contender]] = {
    "gradnet": {
        "gradnet-captured": Contender("benchmarks.gpu.race_ours", "Captured", True),
        "gradnet-several": Contender("benchmarks.gpu.race_ours", "Several", True),
        "gradnet-fused": Contender("benchmarks.gpu.race_fused", "FullyFused", True),
        "gradnet-unfused": Contender("benchmarks.gpu.race_fused", "Unfused", True),
        "gradnet-cluster": Contender("benchmarks.gpu.race_fused", "Cluster", True),
        "gradnet-eager": Contender("benchmarks.gpu.race_ours", "Eager", True),
    },
    "torch": {
        "torch-graph": Contender("benchmarks.gpu.race_torch", "Graph", False),
        "torch-graph-several": Contender("benchmarks.gpu.race_torch", "Series", False),
        "torch-eager": Contender("benchmarks.gpu.race_torch", "Eager", False),
        # It takes longest to build: the others are there by then.
        "torch-compile": Contender("benchmarks.gpu.race_torch", "Compiled", False),
    },
    "jax": {
        "jax-scan": Contender("benchmarks.gpu.race_jax", "Scan", False),
        "jax-jit": Contender("benchmarks.gpu.race_jax", "Jit", False),
    },
}
