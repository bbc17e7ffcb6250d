"""Machine code for a replay: calls of compiled kernels and of the BLAS, one after the other.

A program becomes one function for each thread of a team, `step(slots)`, whose calls have their
arguments written in: addresses in the arena, lengths, constants. What differs from run to run, the
arrays of the caller and an optimizer's numbers, is read from the slots, 64 bits each. Nothing is
optimized here, the kernels are; making a function takes some milliseconds.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gradnet.backends import Shape

from .. import handles
from ..compiler import Compiled
from . import waits
from .code import Code as Code


class Slot(NamedTuple):
    """A number in the slots, or where the array lies whose handle is there, plus a constant."""

    number: int
    plus: int = 0
    array: bool = False


class Argument(NamedTuple):
    """One argument of a native call: its LLVM type, and a constant or where it is read from."""

    kind: str
    value: int | float | Slot


class Native(NamedTuple):
    """A call of a function at an address; what it returns is not looked at."""

    address: int
    result: str
    arguments: tuple[Argument, ...]


class Block(NamedTuple):
    """A contiguous array for a kernel: its place, shape and item size."""

    place: int | Slot
    shape: Shape
    itemsize: int

    def part(self, start: int, stop: int) -> Block:
        """The rows from `start` to `stop`."""
        row = self.itemsize
        for n in self.shape[1:]:
            row *= n
        return Block(moved(self.place, start * row), (stop - start, *self.shape[1:]), self.itemsize)

    def reshaped(self, *shape: int) -> Block:
        """The same elements in another shape."""
        return Block(self.place, shape, self.itemsize)


class Barrier:
    """All threads wait here for one another."""


class Loop(NamedTuple):
    """Calls made so many times, each of their places so many bytes further every time."""

    turns: int
    calls: tuple[Native, ...]
    steps: tuple[tuple[int, ...], ...]

    def part(self, start: int, stop: int) -> Loop:
        """The turns from `start` to `stop`."""
        calls = tuple(
            call._replace(
                arguments=tuple(
                    Argument(x.kind, moved(x.value, start * step)) if step else x
                    for x, step in zip(call.arguments, steps, strict=True)
                )
            )
            for call, steps in zip(self.calls, self.steps, strict=True)
        )
        return Loop(stop - start, calls, self.steps)


class Guard(NamedTuple):
    """All threads stop here where the word at an address is not 0."""

    address: int


Item = Native | Barrier | Guard | Loop


def moved(place: Any, nbytes: int) -> Any:
    """A place, an address or a slot, so many bytes on."""
    if isinstance(place, Slot):
        return place._replace(plus=place.plus + nbytes)
    return place + nbytes


def looped(turns: Mapping[int, Sequence[Item]], count: int) -> Loop | None:
    """Turns as a loop of so many, from the calls of some; None unless their places step evenly."""
    if len({len(items) for items in turns.values()}) > 1:
        return None
    steps = [_even(list(turns), calls) for calls in zip(*turns.values(), strict=True)]
    calls = tuple(call for call in turns[0] if isinstance(call, Native))
    found = tuple(step for step in steps if step is not None)
    return Loop(count, calls, found) if len(found) == len(steps) else None


def _even(turns: Sequence[int], calls: Sequence[Item]) -> tuple[int, ...] | None:
    """By how many bytes each argument moves from turn to turn; None where it differs otherwise."""
    natives = [call for call in calls if isinstance(call, Native)]
    if len(natives) < len(calls) or len({(x.address, len(x.arguments)) for x in natives}) > 1:
        return None
    steps = []
    for arguments in zip(*(call.arguments for call in natives), strict=True):
        first, second = arguments[0].value, arguments[1].value
        step = 0
        if arguments[0].kind == "ptr":
            begin, end = (x.plus if isinstance(x, Slot) else int(x) for x in (first, second))
            step = (end - begin) // (turns[1] - turns[0])
        for i, x in zip(turns, arguments, strict=True):
            if x != Argument(x.kind, moved(first, i * step) if step else first):
                return None
        steps.append(step)
    return tuple(steps)


def kernel_call(kernel: Compiled, *operands: Any) -> Native:
    """A call of a kernel: Blocks for its arrays, and ints, floats, or Slots for floats."""
    arguments: list[Argument] = []
    for x in operands:
        if isinstance(x, Block):
            arguments += [Argument("ptr", x.place), *(Argument("i64", n) for n in x.shape)]
        elif isinstance(x, Argument):
            arguments.append(x)
        elif isinstance(x, float | Slot):
            arguments.append(Argument("double", x))
        else:
            arguments.append(Argument("i64", x))
    return Native(kernel.address, "void", tuple(arguments))


# Text


class _Writer:
    """The lines of one function."""

    def __init__(self, threads: int, control: int) -> None:
        self.lines: list[str] = []
        self.threads = threads
        self.control = control
        self.count = 0

    def fresh(self) -> str:
        self.count += 1
        return f"%v{self.count}"

    def argument(self, argument: Argument) -> str:
        kind, value = argument
        if isinstance(value, Slot):
            return self._from_slot(kind, value)
        if kind == "ptr":
            return f"ptr inttoptr (i64 {value} to ptr)" if value else "ptr null"
        if kind in ("double", "float"):
            number = float(np.float32(value)) if kind == "float" else float(value)
            (word,) = struct.unpack("<Q", struct.pack("<d", number))
            return f"{kind} 0x{word:016X}"
        return f"{kind} {value}"

    def _from_slot(self, kind: str, slot: Slot) -> str:
        place, word = self.fresh(), self.fresh()
        self.lines.append(f"{place} = getelementptr i64, ptr %slots, i64 {slot.number}")
        if kind == "double":
            self.lines.append(f"{word} = load double, ptr {place}")
            return f"double {word}"
        self.lines.append(f"{word} = load i64, ptr {place}")
        if slot.array and handles.DIRECT:
            data, found = self.fresh(), self.fresh()
            self.lines.append(f"{data} = add i64 {word}, {handles.DATA}")
            self.lines.append(f"{found} = inttoptr i64 {data} to ptr")
            word = self.fresh()
            self.lines.append(f"{word} = load i64, ptr {found}")
        if slot.plus:
            total = self.fresh()
            self.lines.append(f"{total} = add i64 {word}, {slot.plus}")
            word = total
        if kind == "ptr":
            pointer = self.fresh()
            self.lines.append(f"{pointer} = inttoptr i64 {word} to ptr")
            return f"ptr {pointer}"
        return f"i64 {word}"

    def item(self, item: Item) -> None:
        if isinstance(item, Barrier):
            if self.threads > 1:
                self.lines.append(
                    f"call void @barrier(ptr inttoptr (i64 {self.control} to ptr), "
                    f"i64 {self.threads})"
                )
        elif isinstance(item, Guard):
            word, wrong, go_on = self.fresh(), self.fresh(), f"go{self.count}"
            self.lines.append(
                f"{word} = load volatile i64, ptr inttoptr (i64 {item.address} to ptr)"
            )
            self.lines.append(f"{wrong} = icmp ne i64 {word}, 0")
            self.lines.append(f"br i1 {wrong}, label %stop, label %{go_on}")
            self.lines.append(f"{go_on}:")
        elif isinstance(item, Loop):
            self._loop(item)
        else:
            self._call(item, [self.argument(argument) for argument in item.arguments])

    def _call(self, item: Native, given: list[str]) -> None:
        call = f"call {item.result} inttoptr (i64 {item.address} to ptr)({', '.join(given)})"
        result = "" if item.result == "void" else f"{self.fresh()} = "
        self.lines.append(result + call)

    def _loop(self, loop: Loop) -> None:
        given = [[self.argument(x) for x in call.arguments] for call in loop.calls]
        i, following, more = self.fresh(), self.fresh(), self.fresh()
        before, turn, after = (f"{name}{self.count}" for name in ("before", "turn", "after"))
        self.lines += [f"br label %{before}", f"{before}:", f"br label %{turn}", f"{turn}:"]
        self.lines.append(f"{i} = phi i64 [ 0, %{before} ], [ {following}, %{turn} ]")
        for call, arguments, steps in zip(loop.calls, given, loop.steps, strict=True):
            self._call(call, [self._ahead(x, i, n) for x, n in zip(arguments, steps, strict=True)])
        self.lines.append(f"{following} = add i64 {i}, 1")
        self.lines.append(f"{more} = icmp slt i64 {following}, {loop.turns}")
        self.lines += [f"br i1 {more}, label %{turn}, label %{after}", f"{after}:"]

    def _ahead(self, argument: str, i: str, step: int) -> str:
        """A pointer so many bytes further for every turn."""
        if not step:
            return argument
        distance, place = self.fresh(), self.fresh()
        self.lines.append(f"{distance} = mul i64 {i}, {step}")
        self.lines.append(f"{place} = getelementptr i8, {argument}, i64 {distance}")
        return f"ptr {place}"


def _function(name: str, items: Sequence[Item], threads: int, control: int) -> str:
    writer = _Writer(threads, control)
    for item in items:
        writer.item(item)
    body = "\n".join(writer.lines)
    return (
        f"define void @{name}(ptr %slots) {{\nentry:\n{body}\nbr label %stop\nstop:\nret void\n}}\n"
    )


class Steps(NamedTuple):
    """The functions of each thread: one step on its slots, and several steps on a `Series`."""

    code: Code
    once: list[int]
    several: list[int]


class Series(ctypes.Structure):
    """Several steps: their slots, a row for each. One that leaves a status is the last."""

    _fields_ = (
        ("slots", ctypes.c_size_t),
        ("row_bytes", ctypes.c_int64),
        ("count", ctypes.c_int64),
    )


def steps(ranks: Sequence[Sequence[Item]], control: int, status: int, further: str = "") -> Steps:
    """The functions of each thread, which make that thread's calls, and `further` ones' text."""
    text = further + (waits.barrier() if len(ranks) > 1 else "")
    for rank, items in enumerate(ranks):
        text += _function(f"step{rank}", items, len(ranks), control)
        text += _several(rank, status, len(ranks), control)
    code = Code(text)
    once, several = (
        [code.address(f"{name}{rank}") for rank in range(len(ranks))] for name in ("step", "series")
    )
    return Steps(code, once, several)


def _several(rank: int, status: int, threads: int, control: int) -> str:
    # No thread begins a step before all have ended the last one, whose results it reads.
    together = f"call void @barrier(ptr inttoptr (i64 {control} to ptr), i64 {threads})"
    return f"""
define void @series{rank}(ptr %series) {{
entry:
%first = load i64, ptr %series
%second = getelementptr i8, ptr %series, i64 8
%bytes = load i64, ptr %second
%third = getelementptr i8, ptr %series, i64 16
%count = load i64, ptr %third
br label %look
look:
%i = phi i64 [ 0, %entry ], [ %next, %go ]
%more = icmp slt i64 %i, %count
br i1 %more, label %go, label %end
go:
%ahead = mul i64 %i, %bytes
%place = add i64 %first, %ahead
%slots = inttoptr i64 %place to ptr
call void @step{rank}(ptr %slots)
{together if threads > 1 else ""}
%next = add i64 %i, 1
%word = load volatile i64, ptr inttoptr (i64 {status} to ptr)
%wrong = icmp ne i64 %word, 0
br i1 %wrong, label %end, label %look
end:
ret void
}}
"""


def addressed(table: np.ndarray[Any, Any], count: int, behind: int) -> np.ndarray[Any, Any]:
    """Where to write the addresses of so many arrays in a table whose rows begin with their slots.

    They go into the slots, or into the columns from `behind` on, of which the slots tell then.
    """
    if not handles.DIRECT:
        return table[:, :count]
    columns = table.strides[1] * np.arange(behind, behind + count)
    rows = table.strides[0] * np.arange(len(table))[:, None]
    table[:, :count] = table.ctypes.data + rows + columns - handles.DATA
    return table[:, behind:]


# Called without the interpreter's lock.
STEP: Callable[[int], Callable[[int], None]] = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
