"""Replays of whole training steps: as CUDA graphs, and in long trainings by a cluster of blocks.

The cluster's kernel is compiled for each network, which takes as long as some ten thousand steps.
So a training begins with graphs. After AFTER steps both ways are timed on the batches at hand, the
parameters being put back afterwards; what was faster is used from there on, and remembered: see
cuda_timing.py.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from gradnet.backends import Array
from gradnet.program.calls import Program, Value

from . import cluster_split, cluster_step, cuda_cluster, cuda_timing
from .cluster_step import Apart
from .cuda_cluster import Step
from .cuda_graph import MOST_RUNS, Graphs
from .cuda_graph import Places as Given
from .cuda_templates import staging

if TYPE_CHECKING:
    from .cuda_backend import CudaBackend

# An estimate: the steps that graphs make in the time in which a kernel is compiled.
AFTER = 1 << 16
# Attributes of a device, as the runtime numbers them.
_PROCESSORS, _COOPERATIVE = 16, 95

_numbers = cache(staging.copies)
_log = logging.getLogger("gradnet")


def fitted(backend: CudaBackend, step: Step) -> Step | None:
    """A step as it is shared among a device's processors; None where they cannot make it."""
    device = backend._device

    def attribute(number: int) -> int:
        return int(device.cupy.cuda.runtime.deviceGetAttribute(number, device.index))

    if device.capability < cluster_split.MAJOR or attribute(_COOPERATIVE) != 1:
        return None
    training = step.training._replace(
        most=min(attribute(_PROCESSORS), cluster_split.CLUSTERS[-1]),
        shared=min(device.shared, cluster_split.SHARED),
    )
    return None if cluster_step.refusal(training) else step._replace(training=training)


class Clustered(Graphs):
    """A whole training step: by graphs, or by launches of one cluster of blocks."""

    def __init__(self, backend: CudaBackend, program: Program, step: Step) -> None:
        super().__init__(backend, program)
        self.step = step
        # Whether the cluster is the faster way, of single runs and of several in a row.
        self.faster: dict[bool, bool] = {}
        self._at_once = cuda_cluster.switched() == cuda_cluster.AT_ONCE
        self._made = 0
        self._flag = None if step.check is None else backend._own_flag(step.check, by_losses=True)
        brought = (step.x, step.classes) if step.order is None else (step.order,)
        self._order = [program.places().index(v.storage) for v in (*brought, step.loss)]
        self._words = MOST_RUNS * self._numbers.words
        self._table = backend.empty((self._words,), np.dtype(np.uint64))
        # By what the blocks exchange: made on the stream of the first launch that needs it.
        self._exchanged: Array | None = None

    def _run(self, places: Given, count: int, rows: list[tuple[int, ...]]) -> None:
        if self._by_cluster(places, count, rows):
            self._train(places, rows)
        else:
            super()._run(places, count, rows)
        self._made += count

    def _by_cluster(self, places: Given, count: int, rows: list[tuple[int, ...]]) -> bool:
        # The first run warms up what graphs are made of.
        if 1 not in self._frames or (self._made < AFTER and not self._at_once):
            return False
        several = count > 1
        if several not in self.faster:
            self.faster[several] = self._at_once or self._found(places, count, rows)
        return self.faster[several]

    def _train(self, places: Given, rows: list[tuple[int, ...]]) -> None:
        """Runs in a row by one launch, after one that brings their numbers."""
        step, launch, window = self.step, self._device.launch, self._backend.window
        self._room.order()
        if self._exchanged is None:
            room = cluster_split.room_of(step.training)
            self._exchanged = self._device.cupy.zeros(room, np.uint64)
        words = [word for row in rows for word in row]
        words += [0] * (self._words - len(words))
        launch(_numbers((), self._words, False), 1, self._table, *words)
        scalars = window(self._table, 0, (2 * self._words,), (4,), step.p.dtype)
        *given, (losses, ahead) = [places[i] for i in self._order]
        p, gradient, *states = self._lasting()
        scalars_apart, losses_apart = 2 * self._numbers.words, ahead // step.loss.dtype.itemsize
        x: Any
        classes: Any
        order: Any = None
        if step.order is None:
            n = step.training.batch
            x, classes = (np.uintp(place) for place, _ in given)
            steps = [
                stride // v.dtype.itemsize
                for (_, stride), v in zip(given, (step.x, step.classes), strict=True)
            ]
            apart = Apart(steps[0], steps[1], scalars_apart, losses_apart)
        else:
            n, order = step.x.shape[0], np.uintp(given[0][0])
            x, classes = (self._array(v) for v in (step.x, step.classes))
            apart = Apart(0, 0, scalars_apart, losses_apart)
        there = cluster_step.Places(
            *(x, classes, scalars, p, tuple(states), np.uintp(losses), self._exchanged),
            order=order,
            gradient=gradient,
            notes=None if self._flag is None else self._flag.notes,
        )
        cluster_step.give(launch, step.training, there, n, apart, len(rows))
        self._device.flags.expect()

    def _array(self, v: Value) -> Array:
        return self._backend.window(v.storage.array, v.offset, v.shape, v.strides, v.dtype)

    def _lasting(self) -> list[Array]:
        """The parameters, their gradient and their moments."""
        return [self._array(v) for v in (self.step.p, self.step.gradient, *self.step.states)]

    # Which way is faster

    def _found(self, places: Given, count: int, rows: list[tuple[int, ...]]) -> bool:
        """Whether the cluster is faster, as it was found here before, or is found now."""
        kernel = cluster_step.program(self.step.training)
        path = cuda_timing.place(self._device, "cluster", f"{count > 1}\n{kernel.key}")
        faster = cuda_timing.kept(path)
        if faster is None:
            faster = self._timed(places, count, rows)
            if faster is not None:
                cuda_timing.keep(path, faster)
        return bool(faster)

    def _timed(self, places: Given, count: int, rows: list[tuple[int, ...]]) -> bool | None:
        """Whether the cluster is faster at these runs; None where it cannot make them."""
        try:
            with cuda_timing.undone(self._device, self._lasting()):
                by_graph, by_cluster = cuda_timing.milliseconds(
                    self._device,
                    lambda: Graphs._run(self, places, count, rows),
                    lambda: self._train(places, rows),
                )
        except cuda_timing.REFUSALS as error:
            _log.info("a training step is not given to a cluster of blocks: %s", error)
            return None
        _log.info(
            "%d training steps take %.3g ms by graph and %.3g ms by a cluster of blocks",
            *(count, by_graph, by_cluster),
        )
        return by_cluster < by_graph
