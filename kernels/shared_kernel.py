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

from . import handles, kinds
from .compiler import Compiled, Kernel, whole
from .replay import machine, team
from .replay.machine import Argument, Native, Slot


class _Shared:
    """A kernel, ready to be called by each thread of a team with the words of its part."""

    def __init__(self, kernel: Compiled, crew: team.Team) -> None:
        words = "".join(map(_words, kernel.arguments))
        self.layout = struct.Struct(words * crew.size)
        calls = [[_call(kernel, rank * len(words))] for rank in range(crew.size)]
        made = machine.steps(calls, 0, 0)
        self.functions = np.array(made.once, np.int64)
        self.kept = made.code
        self.place = self.functions.ctypes.data


def _words(x: kinds.Argument) -> str:
    """The words of one argument: of an array its handle and lengths."""
    if isinstance(x, kinds.Array):
        return "P" + x.ndim * "q"
    return {"float": "d", "signed": "q", "unsigned": "Q"}[x.sort]


def _call(kernel: Compiled, first: int) -> Native:
    """The call that takes its arguments from the words from a number on."""
    arguments = []
    at = first
    for x in kernel.arguments:
        if isinstance(x, kinds.Array):
            arguments.append(Argument("ptr", Slot(at, array=True)))
            arguments += [Argument("i64", Slot(at + 1 + i)) for i in range(x.ndim)]
        else:
            arguments.append(Argument("double" if x.sort == "float" else "i64", Slot(at)))
        at += len(_words(x))
    return Native(kernel.address, "void", tuple(arguments))


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
            words += (handles.handle(rows), *rows.shape)
        for x in rest:
            words += (handles.handle(x), *x.shape) if isinstance(x, np.ndarray) else (x,)
    buffer = ctypes.create_string_buffer(shared.layout.size)
    shared.layout.pack_into(buffer, 0, *words)
    crew.run(shared.place, ctypes.addressof(buffer))
