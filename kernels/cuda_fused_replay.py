"""Replays of programs with stacks of layers that the fused MLP can compute: by it, or without it.

Both ways are timed on the first batch, before it is used, and what they have written is put back;
so every step, the first one too, is made in the way that turns out faster, and there is nothing
left of the other. What was found is remembered: see cuda_timing.py. Where a way cannot be taken, as
for want of memory, it is the other; and where both can, but not be timed, it is what is expected.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from gradnet.backends import Array, Replay
from gradnet.dtypes import uint8
from gradnet.program.calls import Program, Storage
from gradnet.program.plan import extent

from . import cuda_timing, fused_mlp
from .cuda_device import on_device
from .cuda_fused import BACKWARD, METHODS
from .cuda_graph import Graphs, Places, lowered
from .cuda_graph_calls import changes, passages

if TYPE_CHECKING:
    from .cuda_backend import CudaBackend

_log = logging.getLogger("gradnet")
_WITH = {True: "with", False: "without"}


def either(backend: CudaBackend, plain: Program, fused: Program) -> Replay:
    """The replay of a program, or of the same with its stacks fused."""
    if fused_mlp.switched() == fused_mlp.ALWAYS:
        return Graphs(backend, lowered(fused))
    path = cuda_timing.place(backend._device, "fused", about(backend, fused))
    faster = cuda_timing.kept(path)
    if faster is not None:
        return Graphs(backend, lowered(fused if faster else plain))
    return Undecided(backend, plain, fused, lambda answer: cuda_timing.keep(path, answer))


def about(backend: CudaBackend, fused: Program) -> str:
    """What decides which way is faster, beside the device: networks, and powers of two of rows."""
    shared, found = backend._device.shared, {f"cublasLt: {backend.cublaslt is not None}"}
    for call in fused.calls:
        if call.method in METHODS:
            network, x = call.args[:2]
            n, (first, *_) = x.shape[0], call.kwargs["out"]
            kernels = fused_mlp.Kernels.of(network, n, shared)
            program = kernels.backward if call.method == BACKWARD else kernels.forward
            up_to = 1 << (n - 1).bit_length()
            # `first` is what forward keeps, or the gradient of the input.
            found.add(f"{tuple(network)} {up_to} {first is not None} {program.key}")
    return "\n".join(sorted(found))


class Undecided:
    """A program in two ways until its first run, and in one of them from there on."""

    failed = False
    direct = None

    def __init__(
        self,
        backend: CudaBackend,
        plain: Program,
        fused: Program,
        decided: Callable[[bool], None],
    ) -> None:
        self._backend = backend
        self._device = backend._device
        # By whether it is fused; what is expected to be faster comes first.
        networks = [call.args[:2] for call in fused.calls if call.method in METHODS]
        likely = all(fused_mlp.expected(network, x.shape[0]) for network, x in networks)
        both = {True: fused, False: plain}
        self._programs = {way: both[way] for way in (likely, not likely)}
        self._decided = decided
        self.taken: Graphs | None = None

    def __call__(self, given: list[Array]) -> None:
        if self.taken is None:
            self.taken = self._faster([(x.data.ptr, 0) for x in given])
            self._programs.clear()
        self.taken(given)

    def series(self, places: Places, count: int, advance: Callable[[], None]) -> int:
        """As those of the way that is taken; none before the first run."""
        return 0 if self.taken is None else self.taken.series(places, count, advance)

    def verify(self, given: list[Array]) -> None:
        """Nothing to repeat."""

    @on_device
    def _faster(self, places: Places) -> Graphs:
        """The way to take, ready for these arrays, which are as they were."""
        likely = next(iter(self._programs))
        ready: dict[bool, Graphs] = {}
        if not self._changes(places):
            for way, program in self._programs.items():
                try:
                    ready[way] = self._ready(program, places)
                except cuda_timing.REFUSALS as error:
                    _log.info("a step cannot be made %s the fused MLP: %s", _WITH[way], error)
        if not ready:
            # Without a graph, or to be told why there is none.
            return Graphs(self._backend, lowered(self._programs[likely]))
        taken = ready[self._quicker(ready)]
        taken.forget()
        if len(ready) > 1:
            ready.clear()
            self._device.trim()
        return taken

    def _ready(self, program: Program, places: Places) -> Graphs:
        """The graphs of a program after a first run, which has changed nothing."""
        graphs = Graphs(self._backend, lowered(program))
        with cuda_timing.undone(self._device, self._lasting()):
            graphs.prepare(places)
        return graphs

    def _quicker(self, ready: dict[bool, Graphs]) -> bool:
        """The way that is faster; or else the first, which is expected to be."""
        likely = next(iter(ready))
        # Calls outside of graphs may look at values, which are others in runs that go on from one
        # another.
        if len(ready) == 1 or any(graphs.divided for graphs in ready.values()):
            return likely
        try:
            with cuda_timing.undone(self._device, self._lasting()):
                jobs = [graphs.repeat for graphs in ready.values()]
                times = cuda_timing.milliseconds(self._device, *jobs)
        except cuda_timing.REFUSALS as error:
            _log.info("a step is made %s the fused MLP, untimed: %s", _WITH[likely], error)
            return likely
        took = dict(zip(ready, times, strict=True))
        faster = min(took, key=took.__getitem__)
        self._decided(faster)
        for way, time in took.items():
            _log.info("a step takes %.3g ms %s the fused MLP", time, _WITH[way])
        return faster

    def _changes(self, places: Places) -> bool:
        """Whether a run writes to its inputs: there will be no graph of it."""
        program = next(iter(self._programs.values()))
        ins, _ = passages(program)
        return changes(program, [(p, places[p.number][0]) for p in ins])

    def _lasting(self) -> list[Array]:
        """What runs change that they are not given, and do not make, in either way."""
        reach: dict[Storage, tuple[int, int]] = {}
        calls = [call for program in self._programs.values() for call in program.calls]
        for value in (value for call in calls for value in call.writes):
            if value.storage.kind == "external":
                low, high = extent(value)
                first, last = reach.get(value.storage, (low, high))
                reach[value.storage] = min(low, first), max(high, last)
        found = [
            self._backend.window(storage.array, low, (high - low,), (1,), uint8)
            for storage, (low, high) in reach.items()
        ]
        if any(call.method in ("take", "put") for call in calls):
            found.append(self._device.faults())
        return found
