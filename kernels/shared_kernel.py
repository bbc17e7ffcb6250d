"""Kernels over large arrays, on the team of threads that replays and products run on.

A kernel's machine code is called by each thread on its parts of the arrays, one after the other,
which are in its processor's cache the next time; then on those that others have not begun, for a
thread on a slower processor makes fewer. One team for all that is shared means that no thread waits
for a processor on which another one spins.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from . import entries, handles, kinds
from .compiler import Compiled, Kernel, whole
from .replay import machine, team

# Words of a line of the cache.
_LINE = 8
# Parts for each thread, of as many rows each.
_PARTS = 8


class _Shared:
    """A kernel for a team: `call(*parts, *rest)` starts it, and gives the mask of who sleeps.

    The first arguments, so many arrays, are cut along axis 0. What the threads read is in `slots`:
    a team makes one step at a time.
    """

    def __init__(self, kernel: Compiled, crew: team.Team, cut: int) -> None:
        arguments = kernel.arguments
        words = sum(1 + x.ndim if isinstance(x, kinds.Array) else 1 for x in arguments)
        # The arguments, a function for each thread, and how many rows are taken of each one's.
        self._memory = np.zeros(words + crew.size * (_LINE + 1) + _LINE, np.int64)
        self.slots = self._memory.ctypes.data
        self.functions = self.slots + 8 * words
        taken = self.functions + 8 * (crew.size + _LINE)
        text = _entry(arguments, crew, self.functions, self.slots, taken)
        text += _parts(kernel, crew.size, cut, taken)
        entries.prepare()
        code = machine.Code(text)
        addresses = [code.address(f"part{rank}") for rank in range(crew.size)]
        self._memory[words : words + crew.size] = addresses
        self._kept: list[Any] = [kernel, code]
        self.call = entries.function(b"shared", code.address("shared"), self._kept)


def _entry(
    arguments: tuple[kinds.Argument, ...],
    crew: team.Team,
    functions: int,
    slots: int,
    taken: int,
) -> str:
    """The function of Python: it puts its arguments into the slots, and gives all their parts."""
    lines, given = entries.reading(arguments)
    lines += [f"store {x}, ptr inttoptr (i64 {slots + 8 * i} to ptr)" for i, x in enumerate(given)]
    for rank in range(crew.size):
        lines.append(f"store i64 0, ptr inttoptr (i64 {taken + 8 * _LINE * rank} to ptr)")
    run = (
        f"%asleep = call i64 inttoptr (i64 {crew.go} to ptr)(ptr inttoptr (i64 {crew.boxes} to "
        f"ptr), i64 {crew.size - 1}, ptr inttoptr (i64 {functions} to ptr), i64 {slots})"
    )
    result = "%mask = call ptr @PyLong_FromLongLong(i64 %asleep)"
    return entries.calling("shared", lines, len(arguments), run, result, "%mask")


def _parts(kernel: Compiled, threads: int, cut: int, taken: int) -> str:
    """The function of each thread, which calls the kernel on rows that no thread has taken yet.

    First on its own, then on those of the next ones.
    """
    lines: list[str] = []
    given: list[str] = []
    cuts: list[str] = []
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
        if i < cut:
            cuts.append(f"%b{i}_0 = mul i64 %start, {x.kind.itemsize}")
            for j in range(1, x.ndim):
                cuts.append(f"%b{i}_{j} = mul i64 %b{i}_{j - 1}, %n{i}_{j}")
            cuts.append(f"%r{i} = getelementptr i8, {place}, i64 %b{i}_{x.ndim - 1}")
            place, lengths[0] = f"ptr %r{i}", "i64 %rows"
        given += [place, *lengths]
    head, each = "\n".join(lines), "\n".join(cuts)
    count = threads * _PARTS
    own = "".join(
        f"define void @part{rank}(ptr %slots) {{\ncall void @parts(ptr %slots, i64 {rank})\n"
        "ret void\n}\n"
        for rank in range(threads)
    )
    return f"""
define internal void @parts(ptr %slots, i64 %rank) noinline {{
entry:
{head}
%more = add i64 %n0_0, {count * kernel.step - 1}
%steps = udiv i64 %more, {count * kernel.step}
%each = mul i64 %steps, {kernel.step}
%zone = mul i64 %each, {_PARTS}
br label %look
look:
%turn = phi i64 [ 0, %entry ], [ %later, %next ]
%whose = add i64 %rank, %turn
%number = urem i64 %whose, {threads}
%first = mul i64 %number, %zone
%all = add i64 %first, %zone
%inside = icmp slt i64 %all, %n0_0
%limit = select i1 %inside, i64 %all, i64 %n0_0
%away = mul i64 %number, {8 * _LINE}
%place = add i64 %away, {taken}
%counter = inttoptr i64 %place to ptr
br label %take
take:
%ahead = atomicrmw add ptr %counter, i64 %each monotonic
%start = add i64 %first, %ahead
%behind = icmp slt i64 %start, %limit
br i1 %behind, label %make, label %next
make:
%left = sub i64 %limit, %start
%last = icmp slt i64 %left, %each
%rows = select i1 %last, i64 %left, i64 %each
{each}
call void inttoptr (i64 {kernel.address} to ptr)({", ".join(given)})
br label %take
next:
%later = add i64 %turn, 1
%more_turns = icmp slt i64 %later, {threads}
br i1 %more_turns, label %look, label %end
end:
ret void
}}
{own}"""


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
