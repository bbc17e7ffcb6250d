"""gradnet in the races: op by op, captured, and several steps at a time."""

from __future__ import annotations

import contextlib
import os
from typing import Any, ClassVar

import gradnet as gn
from benchmarks.gpu.device import Bench, needs_precision
from benchmarks.gpu.races import Race
from benchmarks.peers import ours
from gradnet import backends


class Eager(ours.Eager):
    """Op by op."""

    # Whether the fully fused MLP is used: "" where it is expected to be faster.
    switch: ClassVar[str] = ""
    # Whether a whole step is given to a cluster of blocks: "0" never, "1" wherever it can be.
    cluster: ClassVar[str] = "0"
    bench: Bench
    precision: str

    @classmethod
    def cannot(cls, race: Race, dry: bool) -> str:
        """Why it takes no part, or nothing. Raises NotThere for what this version has not."""
        needs_precision(race.precision)
        return ""

    @classmethod
    def racing(cls, race: Race, dry: bool) -> Eager:
        """A contender on the device."""
        found = cls(race.workload, "")
        found.precision, found.bench = race.precision, bench_of(dry)
        found.turn()
        return found

    def turn(self) -> None:
        """Choose its way again, where another contender of this process has had its turn."""
        os.environ["GRADNET_FUSED_MLP"] = self.switch
        os.environ["GRADNET_CLUSTER_STEP"] = self.cluster

    def prepare(self) -> None:
        x, y = self.workload.data()
        self.batches = [(gn.asarray(a), gn.asarray(b)) for a, b in zip(x, y, strict=True)]

    def build(self) -> None:
        work = self.workload
        kind = needs_precision(self.precision)
        output = "softmax" if work.loss == "cross_entropy" else "linear"
        model = gn.nn.MLP(
            work.sizes, activation=work.activation, output=output, bias=work.bias, seed=0, **kind
        )
        self.initial = [gn.asarray(v) for layer in work.weights() for v in layer if v is not None]
        self.parameters = list(model.parameters())
        self.reset()
        opt: Any = (gn.optim.Adam if work.optimizer == "adam" else gn.optim.SGD)(
            self.parameters, lr=work.lr
        )
        self.plain = self.written(model, opt)
        self.step = self.wrapped(self.plain)  # type: ignore[method-assign]

    def wait(self, loss: Any) -> None:
        self.bench.wait()

    def start_memory(self) -> None:
        self.bench.start_memory()

    def peak_memory(self) -> int | None:
        return self.bench.peak_memory()

    def told(self, counted: bool) -> dict[str, Any]:
        """The launches of a step."""
        assert self.parameters[0].backend is self.bench.backend
        x, y = self.batches[0]
        return {"launches": self.bench.launches(lambda: self.step(x, y))}


class Captured(Eager):
    """The step recorded once and replayed: as a CUDA graph where the backend has them."""

    @classmethod
    def cannot(cls, race: Race, dry: bool) -> str:
        if not hasattr(bench_of(dry).backend.empty((1,), gn.float32), "__cuda_array_interface__"):
            return "arrays of this device do not tell their addresses, by which capture works"
        return super().cannot(race, dry)

    def wrapped(self, step: Any) -> Any:
        self.captured = gn.capture(step)
        return self.captured

    @property
    def replay(self) -> Any:
        """What replays the step, if it has been captured; the way that it takes, of two."""
        found = self.captured._last._replay if self.captured._last is not None else None
        return getattr(found, "taken", None) or found

    def peak_memory(self) -> int | None:
        """Graphs have a pool of their own."""
        room, peak = getattr(self.replay, "_room", None), super().peak_memory()
        return peak if peak is None or room is None else peak + int(room._pool.total_bytes())

    def told(self, counted: bool) -> dict[str, Any]:
        """What replays the step, and its nodes where that is a graph."""
        return {
            **super().told(counted),
            "replayed_by": type(self.replay).__name__,
            "graph_nodes": getattr(self.replay, "nodes", None),
        }


class Several(Captured):
    """All batches in one call of the captured step, so that the host is away from between them."""

    def build(self) -> None:
        super().build()
        self.stride = len(self.batches)  # type: ignore[misc]
        x, y = self.workload.data()
        self.x = gn.asarray(x.reshape(-1, x.shape[-1]))
        self.y = gn.asarray(y.reshape(-1, *y.shape[2:]))

    def run(self, steps: int) -> None:
        for _ in range(-(-steps // self.stride)):
            self.captured.each(self.x, self.y, rows=self.workload.batch)
        self.wait(None)


_benches: list[Bench] = []
_chosen = contextlib.ExitStack()


def settle() -> None:
    """Wait for the device. Raises where it does no more."""
    for bench in _benches:
        bench.wait()


def bench_of(dry: bool) -> Bench:
    """The device of this process, on which new tensors are made from then on."""
    if not _benches:
        _benches.append(Bench("fake" if dry else "cuda"))
        # For as long as the process lives.
        _chosen.enter_context(backends.use(_benches[0].backend))
    return _benches[0]
