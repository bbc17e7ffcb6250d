"""Replays compiled for the CPU: a whole step as one call of machine code on a team of threads.

fusion.py     chains of elementwise calls become one
lowerings.py  each call becomes calls of compiled kernels, or of the BLAS, split between threads
machine.py    those as machine code, a function for each thread
team.py       the threads
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from gradnet import binding, blas
from gradnet.backends import Array, Backend, Formula, Replay
from gradnet.captured.program import Call, Live, Program, Storage, Value
from gradnet.captured.replay import Memory, Step, step

from .. import compiler, lowering
from . import machine, team
from .fusion import fused
from .lowerings import Lowering, Ranks, Unsupported
from .machine import Slot

__all__ = ["compiled"]


@cache
def _kernel(build: Callable[..., Any], *arguments: Any, **options: Any) -> compiler.Kernel:
    """The kernel that a template builds; formulas are given as they are."""
    taken = [binding.source(x) if callable(x) else x for x in arguments]
    return compiler.compiled(*build(*taken, **options))


@cache
def _compiles(formula: Formula) -> bool:
    source = binding.source(formula)
    return source.results == 1 and lowering.refusal(source) is None


class _Slots:
    """The numbers that machine code reads, and how they are set before each run."""

    def __init__(self) -> None:
        self.storages: dict[Storage, int] = {}
        self.numbers: dict[Live, int] = {}
        self.count = 0

    def place(self, storage: Storage) -> int:
        if storage not in self.storages:
            self.storages[storage] = self.count
            self.count += 1
        return self.storages[storage]

    def number(self, live: Live) -> Slot:
        if live not in self.numbers:
            self.numbers[live] = self.count
            self.count += 1
        return Slot(self.numbers[live])


def compiled(backend: Backend, program: Program) -> Replay | None:
    """A replay by machine code, of all calls that have kernels; None where none has."""
    program = Program(fused(program.calls, _compiles), program.actions)
    memory = Memory(backend, program)
    slots = _Slots()

    def place(value: Value) -> int | Slot:
        if value.storage.kind in ("input", "output"):
            return Slot(slots.place(value.storage), value.offset)
        array = memory.array(value)
        return int(array.__array_interface__["data"][0])

    crew = team.current()
    size = crew.size if crew else 1
    lower, parts = _lowered(backend, program, Lowering(memory, size, place, slots.number, _kernel))
    if size > 1 and not lower.shares:
        lower, parts = _lowered(backend, program, Lowering(memory, 1, place, slots.number, _kernel))
    if not any(isinstance(part, list) for part in parts):
        return None
    return _Run(lower, slots, parts, crew)


Part = list[Ranks] | Step


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
            last.append(ranks)
        else:
            parts.append([ranks])
    return lower, parts


class _Run:
    """Machine code and its slots, filled anew for each run."""

    def __init__(
        self,
        lower: Lowering,
        slots: _Slots,
        parts: list[list[Ranks] | Step],
        crew: team.Team | None,
    ) -> None:
        self._kept = (lower.kept, lower.memory)
        self._crew = crew
        self._status = lower.status
        self._checks = lower.checks
        words = (ctypes.c_uint64 * max(slots.count, 1))()
        self._words = words
        self._doubles = (ctypes.c_double * max(slots.count, 1)).from_buffer(words)
        self._address = ctypes.addressof(words)
        self._storages = list(slots.storages.items())
        self._whole = [(live, i) for live, i in slots.numbers.items() if _is_whole(live)]
        self._floats = [(live, i) for live, i in slots.numbers.items() if not _is_whole(live)]
        self._parts = [
            self._machine(part, lower.threads) if isinstance(part, list) else part for part in parts
        ]

    def _machine(self, calls: list[Ranks], threads: int) -> Step:
        """A run of calls as one function of the slots."""
        code, addresses = machine.steps(
            _woven(calls, threads), self._crew.control if self._crew else 0
        )
        own = machine.STEP(addresses[0])
        slots, crew = self._address, self._crew
        if threads == 1 or crew is None:

            def alone(arrays: dict[Storage, Array], code: Any = code) -> None:
                own(slots)

            return alone
        functions = np.array(addresses, np.int64)
        place = functions.ctypes.data
        run = crew.run

        def together(arrays: dict[Storage, Array], kept: Any = (code, functions)) -> None:
            run(place, own, slots)

        return together

    def __call__(self, arrays: dict[Storage, Array]) -> None:
        words, doubles = self._words, self._doubles
        for storage, i in self._storages:
            words[i] = arrays[storage].__array_interface__["data"][0]
        for live, i in self._whole:
            words[i] = live.action.result[live.index]
        for live, i in self._floats:
            doubles[i] = live.action.result[live.index]
        blas.alone()
        status = self._status
        for part in self._parts:
            part(arrays)
            if status[0]:
                status[0] = 0
                for check in self._checks:
                    check(arrays)
                raise AssertionError("a check of values failed and passed when repeated")


def _is_whole(live: Live) -> bool:
    return isinstance(live.action.result[live.index], int)


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
    if threads > 1:
        for items in ranks:
            items.append(barrier)
    return ranks
