"""Kernels over large arrays, on the team of threads that replays and products run on.

A kernel's machine code is called by each thread on its part of the arrays. One team for all that
is shared means that no thread waits for a processor on which another one spins.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from . import entries, handles, kinds
from .compiler import Compiled, Kernel, whole
from .replay import machine, team


class _Shared:
    """A kernel for a team: `call(*parts, *rest)` starts it, and gives the mask of who sleeps.

    The first arguments, so many arrays, are cut along axis 0. What the threads read is in `slots`:
    a team makes one step at a time.
    """

    def __init__(self, kernel: Compiled, crew: team.Team, cut: int) -> None:
        arguments = kernel.arguments
        words = sum(1 + x.ndim if isinstance(x, kinds.Array) else 1 for x in arguments)
        self._memory = np.zeros(words + crew.size, np.int64)
        self.slots = self._memory.ctypes.data
        self.functions = self.slots + 8 * words
        text = _entry(arguments, crew, self.functions, self.slots)
        for rank in range(crew.size):
            text += _part(kernel, rank, crew.size, cut)
        entries.prepare()
        code = machine.Code(text)
        self._memory[words:] = [code.address(f"part{rank}") for rank in range(crew.size)]
        self._kept: list[Any] = [kernel, code]
        self.call = entries.function(b"shared", code.address("shared"), self._kept)


def _entry(
    arguments: tuple[kinds.Argument, ...], crew: team.Team, functions: int, slots: int
) -> str:
    """The function of Python: it puts its arguments into the slots, and gives all their parts."""
    lines, given = entries.reading(arguments)
    lines += [f"store {x}, ptr inttoptr (i64 {slots + 8 * i} to ptr)" for i, x in enumerate(given)]
    run = (
        f"%asleep = call i64 inttoptr (i64 {crew.go} to ptr)(ptr inttoptr (i64 {crew.boxes} to "
        f"ptr), i64 {crew.size - 1}, ptr inttoptr (i64 {functions} to ptr), i64 {slots})"
    )
    result = "%mask = call ptr @PyLong_FromLongLong(i64 %asleep)"
    return entries.calling("shared", lines, len(arguments), run, result, "%mask")


def _part(kernel: Compiled, rank: int, threads: int, cut: int) -> str:
    """The function of one thread, which calls the kernel on its rows."""
    lines: list[str] = []
    given: list[str] = []
    at = 0

    def load(kind: str, name: str) -> str:
        nonlocal at
        lines.append(f"%s{at} = getelementptr i64, ptr %slots, i64 {at}")
        lines.append(f"%{name} = load {kind}, ptr %s{at}")
        at += 1
        return f"{kind} %{name}"

    for i, x in enumerate(kernel.arguments):
        if not isinstance(x, kinds.Array):
            given.append(load("double" if x.sort == "float" else "i64", f"a{i}"))
            continue
        place, lengths = load("ptr", f"a{i}"), [load("i64", f"n{i}_{j}") for j in range(x.ndim)]
        if i == 0:
            lines += [
                f"%more = add i64 %n0_0, {threads - 1}",
                f"%each = udiv i64 %more, {threads}",
                f"%ahead = mul i64 %each, {rank}",
                "%behind = icmp slt i64 %ahead, %n0_0",
                "%start = select i1 %behind, i64 %ahead, i64 %n0_0",
                "%left = sub i64 %n0_0, %start",
                "%last = icmp slt i64 %left, %each",
                "%rows = select i1 %last, i64 %left, i64 %each",
            ]
        if i < cut:
            lines.append(f"%b{i}_0 = mul i64 %start, {x.kind.itemsize}")
            for j in range(1, x.ndim):
                lines.append(f"%b{i}_{j} = mul i64 %b{i}_{j - 1}, %n{i}_{j}")
            lines.append(f"%r{i} = getelementptr i8, {place}, i64 %b{i}_{x.ndim - 1}")
            place, lengths[0] = f"ptr %r{i}", "i64 %rows"
        given += [place, *lengths]
    lines.append(f"call void inttoptr (i64 {kernel.address} to ptr)({', '.join(given)})")
    body = "\n".join(lines)
    return f"define void @part{rank}(ptr %slots) {{\n{body}\nret void\n}}\n"


@cache
def _shared(kernel: Kernel, crew: team.Team, cut: int) -> _Shared:
    return _Shared(whole(kernel), crew, cut)


def run(crew: team.Team, kernel: Kernel, parts: Sequence[Any], rest: Sequence[Any]) -> None:
    """`kernel(*parts, *rest)`, where each thread takes its rows of the arrays `parts`."""
    if not handles.DIRECT:
        kernel(*parts, *rest)
        return
    shared = _shared(kernel, crew, len(parts))
    with crew.lock:
        crew.ready()
        asleep = shared.call(*parts, *rest)
        if asleep:
            crew.wake(asleep, shared.functions, shared.slots)
