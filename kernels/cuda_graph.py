"""Replays on a GPU: a recorded step as a CUDA graph, and several steps as one.

cuda_graph_calls.py    the calls, each with its results in planned memory
cuda_graph_numbers.py  the numbers that differ from run to run
cuda_absorbed.py       sums, scales and roundings that the kernel of cross-entropy makes
cuda_joined.py         maps that the kernels before or after them make
cuda_moves.py          copies in one launch
cuda_graph_capture.py  the stream and the pool that calls are captured with
cuda_cluster_replay.py the same for what a cluster of blocks can train by itself
cuda_fused_replay.py   the same for what the fused MLP can compute

The first run makes the calls one by one, on the stream that they are then captured on: kernels are
compiled, libraries choose their algorithms, and the pool gets its blocks. Every later run is three
pieces of work for the current stream: a launch that brings inputs and numbers, the graph, and a
launch that takes outputs away. Nothing waits. A call that cannot be captured divides the graph.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from gradnet import host
from gradnet.backends import Array, Replay
from gradnet.program.calls import Call, Program
from gradnet.program.replay import Interpreted

from .cuda_absorbed import scaled_losses, summed_losses
from .cuda_casts import rounded_losses, together, within_maps
from .cuda_checks import by_losses
from .cuda_device import on_device
from .cuda_elementwise import compiles
from .cuda_epilogues import paired
from .cuda_fused import fused_stacks
from .cuda_graph_calls import Calls, Frame, capturable, changes, passages
from .cuda_graph_capture import Room, nodes
from .cuda_graph_numbers import Numbers
from .cuda_joined import in_one
from .cuda_moves import gathered
from .cuda_templates import staging
from .cuda_templates.program import blocks_for
from .fused_mlp import CAPABILITY

if TYPE_CHECKING:
    from .cuda_backend import CudaBackend

# Runs that one graph may make, the most first; and what a launch brings for them at most. Words
# are parameters of its kernel, which takes a second to compile with so many.
MOST_RUNS = 16
_SEVERAL = (MOST_RUNS, 8, 4)
_MOST_WORDS = 64
_MOST_BYTES = 1 << 26

_copies = cache(staging.copies)
_log = logging.getLogger("gradnet")
# A graph has copies of them.
_CHANGES = "a captured function changes its arguments: no CUDA graph is made of it"

Places = list[tuple[int, int]]


def compiled(backend: CudaBackend, program: Program) -> Replay | None:
    """A replay by CUDA graphs; None, with a line in the log, where inputs are written to."""
    from .cuda_cluster import NEVER, switched, whole_step
    from .cuda_cluster_replay import Clustered, fitted
    from .cuda_fused_replay import either

    if any(value.storage.kind == "input" for call in program.calls for value in call.writes):
        _log.info(_CHANGES)
        return None
    step = whole_step(program) if switched() != NEVER else None
    if step is not None and (own := fitted(backend, step)):
        return Clustered(backend, lowered(program), own)
    if backend._device.capability >= CAPABILITY:
        stacked = fused_stacks(program)
        if stacked is not program:
            return either(backend, program, stacked)
    return Graphs(backend, lowered(program))


def lowered(program: Program) -> Program:
    """The program with as few calls as the backend's kernels can do it with."""
    from .fusion import fused, sparing, without_bias

    program = together(paired(program))
    calls = sparing(without_bias(program.calls, compiles), compiles)
    return within_maps(program.with_calls(fused(calls, compiles, again=True)))


class Graphs:
    """A program as CUDA graphs, and calls between them where it must be."""

    # Checks of values are made in their places, between graphs.
    failed = False
    direct = None

    def __init__(self, backend: CudaBackend, program: Program) -> None:
        self._backend = backend
        self._device = backend._device
        self._given = program
        program = in_one(summed_losses(rounded_losses(scaled_losses(program))))
        calls, checked = by_losses(gathered(program, capturable).calls)
        self._program = program = program.with_calls(calls)
        self._numbers = Numbers(program.calls)
        self._calls = Calls(backend, program, self._numbers, checked)
        self._ins, self._outs = passages(program)
        self._room = Room(self._device.cupy)
        self._alone = {call for call in program.calls if not capturable(call)}
        self._takes = any(call.method == "take" for call in self._given.calls)
        if self._takes:
            self._device.faults()
        self._frames: dict[int, Frame] = {}
        # In the place of graphs, where arguments turn out to be changed.
        self._plain: Interpreted | None = None

    @property
    def nodes(self) -> int:
        """The pieces of work in the graphs of one run."""
        return sum(nodes(part) for part in self._frames[1].parts if not isinstance(part, Call))

    @property
    def divided(self) -> bool:
        """Whether some calls are made one by one at every run."""
        return bool(self._alone)

    @on_device
    def __call__(self, given: list[Array]) -> None:
        places = [(x.data.ptr, 0) for x in given]
        first = 1 not in self._frames and self._plain is None
        if first and changes(self._program, [(p, places[p.number][0]) for p in self._ins]):
            _log.info(_CHANGES)
            self._plain = Interpreted(self._backend, self._given)
        if self._plain is not None:
            self._plain(given)
        else:
            self._run(places, 1, [self._numbers.values()])

    @on_device
    def series(self, places: Places, count: int, advance: Callable[[], None]) -> int:
        """As graphs of several runs, each given to the device before it needs it."""
        if 1 not in self._frames or self._alone:
            return 0
        sizes = [size for size in (*_SEVERAL, 1) if self._fits(size)]
        done, stale = 0, False
        rows = [self._numbers.values()]
        while done < count and not stale:
            wanted = min(sizes[0], count - done)
            while len(rows) < wanted and not stale:
                try:
                    advance()
                    rows.append(self._numbers.values())
                except host.Stale:
                    stale = True
            while rows:
                size = next(size for size in sizes if size <= len(rows))
                here = [(start + done * stride, stride) for start, stride in places]
                self._run(here, size, rows[:size])
                rows, done = rows[size:], done + size
        return done

    def verify(self, given: list[Array]) -> None:
        """Nothing to repeat."""

    def prepare(self, places: Places) -> None:
        """Make a first run, by which all others are captured."""
        self._run(places, 1, [self._numbers.values()])

    def repeat(self) -> None:
        """The last single run again, on the inputs and numbers that it was brought."""
        self._launch(self._frames[1])

    def forget(self) -> None:
        """Take back the flags that checks have raised."""
        for flag in self._calls.flags.values():
            flag.memory.fill(0)

    def _fits(self, count: int) -> bool:
        """Whether one launch can bring what so many runs need."""
        nbytes = sum(passage.nbytes for passage in (*self._ins, *self._outs))
        words = self._numbers.words
        return count == 1 or (count * words <= _MOST_WORDS and count * nbytes <= _MOST_BYTES)

    # Runs

    def _run(self, places: Places, count: int, rows: list[tuple[int, ...]]) -> None:
        frame, known = self._frames.get(count), True
        if frame is None:
            frame, known = Frame(self._backend, self._ins, self._outs, self._numbers, count), False
        if count > 1 and not known:
            frame.parts = [self._captured(self._program.calls, frame)]
        self._room.order()
        words = [word for row in rows for word in row]
        self._copy(frame, places, words)
        if count == 1 and not known:
            self._warm_up(frame)
        else:
            self._launch(frame)
        self._copy(frame, places, None)
        self._frames[count] = frame
        self._expect()

    def _expect(self) -> None:
        """Have the host look for what these runs may have found, when it waits next."""
        if self._takes:
            self._device.faults()
        if self._calls.flags:
            self._device.flags.expect()

    def _launch(self, frame: Frame) -> None:
        for part in frame.parts:
            if isinstance(part, Call):
                self._calls.make(part, frame, 0)
            else:
                part.launch()

    def _parts(self) -> list[tuple[bool, list[Call]]]:
        """Calls that are captured together, and those that are not."""
        every = groupby(self._program.calls, self._alone.__contains__)
        return [(alone, list(calls)) for alone, calls in every]

    def _warm_up(self, frame: Frame) -> None:
        """The first run, call by call; then capture what can be."""
        for alone, calls in self._parts():
            if alone:
                for call in calls:
                    self._calls.make(call, frame, 0)
            else:
                with self._room.inside():
                    for call in calls:
                        self._calls.make(call, frame, 0)
        while True:
            try:
                frame.parts = [
                    part
                    for alone, calls in self._parts()
                    for part in (calls if alone else (self._captured(calls, frame),))
                ]
            except _Refused as refused:
                self._alone.add(refused.call)
                reason = f"{type(refused.__cause__).__name__}: {refused.__cause__}"
                _log.info("%s is left out of a CUDA graph: %s", refused.call.method, reason)
            else:
                return

    def _captured(self, calls: list[Call], frame: Frame) -> Any:
        """All runs of a frame as a graph."""

        def work() -> None:
            for run in range(frame.count):
                for call in calls:
                    try:
                        self._calls.make(call, frame, run)
                    except RuntimeError as error:
                        raise _Refused(call) from error

        return self._room.captured(work)

    def _copy(self, frame: Frame, places: Places, words: list[int] | None) -> None:
        """Bring inputs and numbers, or take outputs away: one launch, or none."""
        codes: list[str] = []
        arguments: list[Any] = []
        most = 1
        several = frame.count > 1
        for passage, ours in frame.outs if words is None else frame.ins:
            address, stride = places[passage.number]
            address, nbytes = address + passage.low, passage.nbytes
            theirs = np.uintp(address)
            size = _width(address | nbytes | (stride if several else 0))
            codes.append(f"u{size}")
            arguments += [theirs, ours] if words is not None else [ours, theirs]
            arguments.append(nbytes // size)
            if several:
                steps = [stride // size, passage.stride // size]
                arguments += [frame.count, *(steps if words is not None else steps[::-1])]
            most = max(most, nbytes // size * frame.count)
        if words:
            arguments += [frame.table, *words]
        if codes or words:
            program = _copies(tuple(codes), len(words or ()), several)
            self._device.launch(program, blocks_for(most), *arguments)


class _Refused(Exception):
    """A call that cannot be captured; its cause says why."""

    def __init__(self, call: Call) -> None:
        super().__init__(call.method)
        self.call = call


def _width(number: int) -> int:
    """The bytes of the largest integer in which memory so aligned can be copied."""
    return min(8, number & -number) if number else 8
