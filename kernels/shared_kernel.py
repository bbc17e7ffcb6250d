"""Kernels over large arrays, on the team of threads that replays and products run on.

A kernel's machine code is called by each thread on its part of the arrays. One team for all that
is shared means that no thread waits for a processor on which another one spins.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numba import types

from .compiler import Kernel, whole
from .replay import machine, team
from .replay.machine import Argument, Native, Slot


class _Shared:
    """A kernel, ready to be called by each thread of a team with the words of its part."""

    def __init__(self, kernel: Kernel, crew: team.Team) -> None:
        ((given, _),) = kernel.overloads.items()  # type: ignore[attr-defined]
        kinds = "".join(map(_kinds, given))
        self.layout = struct.Struct(kinds * crew.size)
        calls = [[_call(kernel, given, rank * len(kinds))] for rank in range(crew.size)]
        made = machine.steps(calls, 0, 0)
        self.functions = np.array(made.once, np.int64)
        self.kept = made.code
        self.place = self.functions.ctypes.data


def _kinds(x: Any) -> str:
    """The words of one argument: of an array its handle, count, shape and strides."""
    if isinstance(x, types.Array):
        return "Pq" + 2 * x.ndim * "q"
    return "d" if isinstance(x, types.Float) else "q"


def _call(kernel: Kernel, given: Sequence[Any], first: int) -> Native:
    """The call that takes its arguments from the words from a number on."""
    arguments = [Argument("scratch", 0), Argument("scratch", 0)]
    at = first
    for x in given:
        if isinstance(x, types.Array):
            size = 1 if isinstance(x.dtype, types.Boolean) else x.dtype.bitwidth // 8
            arguments += [Argument("ptr", 0), Argument("ptr", 0), Argument("i64", Slot(at + 1))]
            arguments += [Argument("i64", size), Argument("ptr", Slot(at, array=True))]
            arguments += [Argument("i64", Slot(at + 2 + i)) for i in range(2 * x.ndim)]
        else:
            kind = "double" if isinstance(x, types.Float) else "i64"
            arguments.append(Argument(kind, Slot(at)))
        at += len(_kinds(x))
    return Native(machine.entry(kernel), "i32", tuple(arguments))


@cache
def _shared(kernel: Kernel, crew: team.Team) -> _Shared:
    return _Shared(whole(kernel), crew)


def run(crew: team.Team, kernel: Kernel, parts: Sequence[Any], rest: Sequence[Any]) -> None:
    """`kernel(*parts, *rest)`, where each thread takes its rows of the arrays `parts`."""
    shared = _shared(kernel, crew)
    words: list[Any] = []
    kept = []
    for start, stop in team.ranges(len(parts[0]), crew.size):
        for part in parts:
            rows = part[start:stop]
            kept.append(rows)
            words += (machine.handle(rows), rows.size, *rows.shape, *rows.strides)
        for x in rest:
            if isinstance(x, np.ndarray):
                words += (machine.handle(x), x.size, *x.shape, *x.strides)
            else:
                words.append(x)
    buffer = ctypes.create_string_buffer(shared.layout.size)
    shared.layout.pack_into(buffer, 0, *words)
    crew.run(shared.place, ctypes.addressof(buffer))
