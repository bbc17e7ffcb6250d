"""Numbers that differ from replay to replay, in the device's memory beside a captured step.

An optimizer's scalars and a generator's counter are not baked into a graph: its kernels read them
from a table, which a launch before the graph writes. They travel in that launch's parameters, which
the driver copies when it is given the work; so no buffer of the host's must be waited for.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from gradnet.backends import Array, Backend
from gradnet.dtypes import DType
from gradnet.program.calls import Call, Live

from .cuda_layout import BITS, code_of

# Calls that have kernels which take their numbers from memory.
HELD = frozenset({"update", "random"})
_WORD = (1 << 64) - 1
_ALIGNMENT = 16

Number = Callable[[], Any]


class _Field(NamedTuple):
    """Where the numbers of a call begin, in bytes; their type as `struct` has it; and how many."""

    begin: int
    code: str
    length: int

    @property
    def dtype(self) -> DType:
        return np.dtype(f"={self.code}")


def _number(x: Any) -> Number:
    if isinstance(x, Live):
        action, index = x.action, x.index
        return lambda: action.result[index]
    return lambda: x


def _numbers(call: Call) -> tuple[str, list[Number]]:
    """What a call's kernel takes from memory, in that order."""
    if call.method == "update":
        _, arrays, scalars = call.args
        wide = BITS.get(code_of(arrays[0].dtype)) == 64
        return "d" if wide else "f", [_number(x) for x in scalars]
    key, counter = _number(call.args[1]), _number(call.args[2])
    parts = (lambda: key() & _WORD, lambda: counter() & _WORD, lambda: counter() >> 64 & _WORD)
    return "Q", list(parts)


class Numbers:
    """The table of a program: its numbers for one run take `words` words of eight bytes."""

    def __init__(self, calls: Iterable[Call]) -> None:
        self._fields: dict[Call, _Field] = {}
        self._all: list[Number] = []
        row, size = "<", 0
        for call in calls:
            if call.method in HELD:
                code, numbers = _numbers(call)
                field = _Field(size, code, len(numbers))
                used = field.length * field.dtype.itemsize
                size += -(-used // _ALIGNMENT) * _ALIGNMENT
                row += f"{field.length}{code}{size - field.begin - used}x"
                self._fields[call] = field
                self._all += numbers
        self.words = size // 8
        self._row, self._words = struct.Struct(row), struct.Struct(f"<{self.words}Q")

    def values(self) -> tuple[int, ...]:
        """The numbers as they are now, as words."""
        return self._words.unpack(self._row.pack(*[number() for number in self._all]))

    def array(self, backend: Backend, call: Call, table: Array, run: int) -> Array:
        """Where a call finds its numbers for that run of several."""
        field = self._fields[call]
        place = run * self.words * 8 + field.begin
        unit = field.dtype.itemsize
        return backend.window(table, place, (field.length,), (unit,), field.dtype)
