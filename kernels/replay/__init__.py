"""Replays compiled for the CPU: a whole step as one call of machine code on a team of threads.

lowerings.py  each call becomes calls of compiled kernels, or of the BLAS, split between threads
machine.py    those as machine code, a function for each thread
gate.py       that of one thread as a function that Python calls
series.py     what it is given for several steps in a row
team.py       the threads
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from gradnet import binding, blas, host
from gradnet.backends import Array, Backend, Formula, Replay
from gradnet.program.calls import Action, Call, Live, Program, Storage, Value
from gradnet.program.replay import Memory, Step, step

from .. import compiler, handles, lowering
from ..fusion import fused
from . import gate, machine, team
from .lowerings import Lowering, Ranks, Unsupported
from .machine import Slot
from .series import Table

__all__ = ["compiled"]


@cache
def _kernel(build: Callable[..., Any], *arguments: Any, **options: Any) -> compiler.Compiled:
    """The kernel that a template builds; formulas are given as they are."""
    taken = [binding.source(x) if callable(x) else x for x in arguments]
    return compiler.compiled(*build(*taken, **options))


@cache
def _compiles(formula: Formula) -> bool:
    source = binding.source(formula)
    return source.results == 1 and lowering.refusal(source) is None


class _Slots:
    """The words that machine code reads: the places of a run's arrays, then actions' numbers."""

    def __init__(self, program: Program) -> None:
        places = program.places()
        self.places = {storage: i for i, storage in enumerate(places)}
        self.actions = [action for action in program.actions if action.result]
        self.kinds = "P" * len(places)
        self._starts: dict[Action, int] = {}
        for action in self.actions:
            self._starts[action] = len(self.kinds)
            self.kinds += "".join("Q" if isinstance(x, int) else "d" for x in action.result)

    def number(self, live: Live) -> Slot:
        return Slot(self._starts[live.action] + live.index)


def compiled(backend: Backend, program: Program) -> Replay | None:
    """A replay by machine code, of all calls that have kernels; None where none has."""
    program = program.with_calls(fused(program.calls, _compiles))
    memory = Memory(backend, program)
    slots = _Slots(program)

    def place(value: Value) -> int | Slot:
        if value.storage.kind in ("input", "output"):
            return Slot(slots.places[value.storage], value.offset, array=True)
        array = memory.array(value)
        return int(array.__array_interface__["data"][0])

    crew = team.current()
    size = crew.size if crew else 1
    lower, parts = _lowered(backend, program, Lowering(memory, size, place, slots.number, _kernel))
    if size > 1 and not lower.shares:
        lower, parts = _lowered(backend, program, Lowering(memory, 1, place, slots.number, _kernel))
    if not any(isinstance(part, list) for part in parts):
        return None
    return _Run(program, lower, slots, parts, crew)


def _lowered(
    backend: Backend, program: Program, lower: Lowering
) -> tuple[Lowering, list[list[Ranks] | Step]]:
    """Runs of calls that have machine code, and between them calls of methods."""
    parts: list[list[Ranks] | Step] = []
    for call in program.calls:
        try:
            ranks = lower.lower(call)
        except Unsupported:
            parts.append(step(backend, lower.memory, call))
            continue
        last = parts[-1] if parts else None
        if isinstance(last, list):
            last.extend(ranks)
        else:
            parts.append(ranks)
    return lower, parts


def _launcher(crew: team.Team | None, addresses: list[int]) -> Callable[[int], None]:
    """A call of functions with one argument, each by its thread."""
    if crew is None:
        return machine.STEP(addresses[0])
    functions = np.array(addresses, np.int64)
    place, run = functions.ctypes.data, crew.run

    def launch(argument: int, kept: Any = functions) -> None:
        run(place, argument)
        crew.replayed = True

    return launch


class _Run:
    """Machine code and its slots, filled anew for each run."""

    direct: Callable[..., int] | None = None

    def __init__(
        self,
        program: Program,
        lower: Lowering,
        slots: _Slots,
        parts: list[list[Ranks] | Step],
        crew: team.Team | None,
    ) -> None:
        self._kept = (lower.kept, lower.memory, lower.status)
        self._crew = crew
        self._status = (ctypes.c_int64 * 1).from_address(lower.status.ctypes.data)
        self._checks = lower.checks
        self._layout = struct.Struct(slots.kinds)
        self._words = ctypes.create_string_buffer(max(self._layout.size, 8))
        self._places, self._actions = program.places(), slots.actions
        count = len(self._places)
        self._table = Table(program.actions, count, slots.kinds[count:])
        self._by_storage = not all(isinstance(part, list) for part in parts)
        self._blas = lower.blas
        kinds = slots.kinds if len(parts) == 1 and gate.possible() else None
        self._parts = [
            self._machine(part, lower, kinds) if isinstance(part, list) else part for part in parts
        ]

    def _machine(self, calls: list[Ranks], lower: Lowering, kinds: str | None) -> Step:
        """A run of calls as one function of the slots, of those kinds if it is all of the run."""
        crew = self._crew if lower.threads > 1 else None
        status = ctypes.addressof(self._status)
        gated = crew is None and kinds is not None
        further = gate.text(kinds, status, not lower.shares) if gated and kinds else ""
        ranks = _woven(calls, lower.threads)
        made = machine.steps(ranks, crew.control if crew else 0, status, further)
        if further:
            self._open(gate.opened(made.code, self._kept))
        once, several = (_launcher(crew, addresses) for addresses in (made.once, made.several))
        slots = ctypes.addressof(self._words)
        self._several = several

        def run(arrays: dict[Storage, Array], kept: Any = made.code) -> None:
            once(slots)

        return run

    def _open(self, function: Callable[..., int]) -> None:
        """Have a step be this function, after what the BLAS has to know."""
        if not self._blas:
            self.direct = function
            return

        def direct(*given: Any) -> int:
            blas.alone()
            return function(*given)

        self.direct = direct

    def __call__(self, given: list[Array]) -> None:
        words: list[Any] = [*map(handles.handle, given)]
        for action in self._actions:
            words += action.result
        self._layout.pack_into(self._words, 0, *words)
        blas.alone()
        arrays = dict(zip(self._places, given, strict=True)) if self._by_storage else {}
        for part in self._parts:
            part(arrays)
            if self._status[0]:
                self.verify(given)
                raise AssertionError("a check of values failed, and passes when it is repeated")

    def series(self, places: list[tuple[int, int]], count: int, advance: Callable[[], None]) -> int:
        """As one call of machine code; nothing where the program needs calls of methods too."""
        if self._by_storage or len(self._parts) != 1:
            return 0
        count = self._table.fill(places, count, advance)
        blas.alone()
        series = machine.Series(self._table.address, self._table.row_bytes, count)
        self._several(ctypes.addressof(series))
        return count

    @property
    def failed(self) -> bool:
        """Whether a check of values has found something in the last run."""
        return bool(self._status[0])

    def verify(self, given: list[Array]) -> None:
        """Make the checks again that may have found something: they raise."""
        self._status[0] = 0
        arrays = dict(zip(self._places, given, strict=True))
        for check in self._checks:
            check(arrays)


def _woven(calls: list[Ranks], threads: int) -> list[list[machine.Item]]:
    """What each thread does, with barriers where calls are shared."""
    barrier = machine.Barrier()
    ranks: list[list[machine.Item]] = [[] for _ in range(threads)]
    shared = False
    for call in calls:
        if ranks[0] and (shared or len(call) > 1):
            for items in ranks:
                items.append(barrier)
        for items, own in zip(ranks, call, strict=False):
            items.extend(own)
        shared = len(call) > 1
    return ranks
