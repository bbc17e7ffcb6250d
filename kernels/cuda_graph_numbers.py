"""Numbers that differ from replay to replay, in the device's memory beside a captured step.

An optimizer's scalars and a generator's counter are not baked into a graph: its kernels read them
from a table, which a launch before the graph writes. They travel in that launch's parameters, which
the driver copies when it is given the work; so no buffer of the host's must be waited for.
"""

from __future__ import annotations

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

Number = Callable[[], Any]


class _Field(NamedTuple):
    """The numbers of one call: where they begin, in bytes, and what they are."""

    begin: int
    dtype: DType
    numbers: tuple[Number, ...]


def _number(x: Any) -> Number:
    if isinstance(x, Live):
        action, index = x.action, x.index
        return lambda: action.result[index]
    return lambda: x


def _numbers(call: Call) -> tuple[DType, tuple[Number, ...]]:
    """What a call's kernel takes from memory, in that order."""
    if call.method == "update":
        _, arrays, scalars = call.args
        wide = BITS.get(code_of(arrays[0].dtype)) == 64
        dtype = np.dtype(np.float64 if wide else np.float32)
        return dtype, tuple(_number(x) for x in scalars)
    key, counter = _number(call.args[1]), _number(call.args[2])
    words = (lambda: key() & _WORD, lambda: counter() & _WORD, lambda: counter() >> 64 & _WORD)
    return np.dtype(np.uint64), words


class Numbers:
    """The table of a program: its numbers for one run take `words` words of eight bytes."""

    def __init__(self, calls: Iterable[Call]) -> None:
        self._fields: dict[Call, _Field] = {}
        size = 0
        for call in calls:
            if call.method in HELD:
                dtype, numbers = _numbers(call)
                self._fields[call] = _Field(size, dtype, numbers)
                size += -(-len(numbers) * dtype.itemsize // 16) * 16
        self.words = size // 8

    def values(self) -> np.ndarray[Any, Any]:
        """The numbers as they are now, as words."""
        row = np.zeros(self.words, np.uint64)
        for begin, dtype, numbers in self._fields.values():
            end = begin + len(numbers) * dtype.itemsize
            held = np.array([number() for number in numbers], dtype)
            row.view(np.uint8)[begin:end].view(dtype)[:] = held
        return row

    def array(self, backend: Backend, call: Call, table: Array, run: int) -> Array:
        """Where a call finds its numbers for that run of several."""
        begin, dtype, numbers = self._fields[call]
        place = run * self.words * 8 + begin
        return backend.window(table, place, (len(numbers),), (dtype.itemsize,), dtype)
