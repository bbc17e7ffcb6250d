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
from gradnet.program.calls import Call, Live, Value

from .cuda_layout import BITS, code_of

_WORD = (1 << 64) - 1
# The methods whose last argument is scalars, and the place of the arrays.
_UPDATES = {"update": 1, "scaled_update": 2}
# Those with a generator's key and counter as their second and third.
_RANDOM = ("random", "drawn")
_ALIGNMENT = 8

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


def code_held(call: Call) -> str:
    """The type, as `struct` has it, of the numbers that a call takes from memory; else nothing."""
    if call.method in _RANDOM:
        return "Q"
    if call.method in _UPDATES:
        return "d" if BITS.get(code_of(call.args[_UPDATES[call.method]][0].dtype)) == 64 else "f"
    if call.method not in ("full", "map") or not any(isinstance(x, Live) for x in call.args):
        return ""
    # The dtype of the computation, which numbers take: that of 16-bit floats is another.
    dtypes = {x.dtype for x in call.args if isinstance(x, Value) and x.dtype.kind != "b"}
    dtypes = dtypes or {out.dtype for out in call.outs if out is not None}
    codes = {np.dtype(np.float32): "f", np.dtype(np.float64): "d"}
    return codes.get(dtypes.pop(), "") if len(dtypes) == 1 else ""


def _numbers(call: Call) -> list[Number]:
    """What a call takes from memory, in that order."""
    if call.method in _UPDATES:
        return [_number(x) for x in call.args[-1]]
    if call.method not in _RANDOM:
        return [_number(x) for x in call.args if isinstance(x, Live)]
    key, counter = _number(call.args[1]), _number(call.args[2])
    return [lambda: key() & _WORD, lambda: counter() & _WORD, lambda: counter() >> 64 & _WORD]


class Numbers:
    """The table of a program: its numbers for one run take `words` words of eight bytes."""

    def __init__(self, calls: Iterable[Call]) -> None:
        self._fields: dict[Call, _Field] = {}
        self._all: list[Number] = []
        row, size = "<", 0
        for call in calls:
            code = code_held(call)
            if code:
                numbers = _numbers(call)
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
