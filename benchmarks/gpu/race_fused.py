"""gradnet in the races where one kernel is many layers, or many steps."""

from __future__ import annotations

from typing import Any, ClassVar

from benchmarks.gpu.notes import Wrong
from benchmarks.gpu.race_ours import Captured, Several
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

    def told(self, counted: bool) -> dict[str, Any]:
        told = super().told(counted)
        calls = self.replay._program.calls if self.replay is not None else []
        return {**told, "fused_calls": sum(call.method.startswith("_fused") for call in calls)}


class Unfused(FullyFused):
    """The same without: one product after the other."""

    switch: ClassVar[str] = "0"


class Cluster(Several):
    """All batches as launches of the kernel that trains by one cluster of blocks."""

    cluster: ClassVar[str] = "1"

    @classmethod
    def cannot(cls, race: Race, dry: bool) -> str:
        work = race.workload
        if race.precision != "float32" or work.loss != "cross_entropy" or not work.bias:
            return "it trains in float32, with biases and cross-entropy"
        return _refusal(work) or super().cannot(race, dry)

    def told(self, counted: bool) -> dict[str, Any]:
        told = super().told(counted)
        step = getattr(self.replay, "step", None)
        if step is None:
            raise Wrong("the captured step is none for a cluster of blocks", told)
        from gradnet.kernels import cluster_step

        return {
            **told,
            "cluster": cluster_step.cluster_of(step.training),
            "shared_bytes": cluster_step.program(step.training).shared,
        }


def _refusal(work: Workload) -> str:
    from gradnet.kernels import cluster_step

    return cluster_step.refusal(
        cluster_step.Training(work.sizes, work.batch, work.activation, work.optimizer)
    )
