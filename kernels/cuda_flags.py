"""Flags: places in the device's memory for what checks of values find, and the look at them.

A check waits for nothing. What it refuses is raised where the host waits for the device anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np

from gradnet.backends import Array
from gradnet.dtypes import DType

from .cuda_templates.flags import BLOCKS

# What is told of an element: two numbers of eight bytes at most.
_TOLD = 16
_NOTES = 3 * BLOCKS * 8
_BYTES = _NOTES + BLOCKS * _TOLD
# Flags that are allocated together, and those of plain steps that are kept from step to step.
_TOGETHER, _KEPT = 32, 64


class Check(NamedTuple):
    """What a flag is for: the error, and how what is told of an element is read.

    `period` is the number of elements of one step's array: the same ones of several lie behind.
    `width` is how many numbers are told of an element; 0 where one word says both, see
    `softmax.cross_entropy`.
    """

    error: Callable[..., Exception]
    about: tuple[Any, ...]
    period: int
    dtype: DType
    width: int


class Flag:
    """The place of one check; zero until something is found."""

    __slots__ = ("__weakref__", "check", "memory", "notes", "values")

    def __init__(self, cupy: Any, check: Check, page: Array, place: int) -> None:
        def window(begin: int, size: int, dtype: Any) -> Array:
            count = size // np.dtype(dtype).itemsize
            memptr = page.data + place * _BYTES + begin
            return cupy.ndarray((count,), np.dtype(dtype), memptr=memptr)

        self.check = check
        self.memory = window(0, _BYTES, np.uint8)
        self.notes = window(0, _NOTES, np.int64)
        self.values = window(_NOTES, _BYTES - _NOTES, f"u{check.dtype.itemsize}")
        self.memory.fill(0)

    def found(self, memory: np.ndarray[Any, Any]) -> Exception | None:
        """What a look at the flag's memory has to raise: the first that its blocks have found."""
        notes = memory[:_NOTES].view(np.int64).reshape(3, BLOCKS)
        blocks = np.flatnonzero(notes[0])
        if not blocks.size:
            return None
        error, about, period, dtype, width = self.check
        if not width:
            row, number = divmod(int(notes[0, 0]) - 1, 1 << 32)
            return error(*about, row, number - (number >> 31 << 32))
        _, i, block = min((int(notes[0, b]), int(notes[1, b]), int(b)) for b in blocks)
        told = memory[_NOTES:].view(dtype)[block * width : (block + 1) * width]
        return error(*about, i % period, *told)


class Flags:
    """All flags of a device."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._pages: list[Array] = []
        self._flags: WeakValueDictionary[int, Flag] = WeakValueDictionary()
        self._kept: dict[Check, Flag] = {}
        self._raised = False

    def made(self, check: Check) -> Flag:
        """A flag of its own, for as long as it is held."""
        place = next(i for i in range(len(self._flags) + 1) if i not in self._flags)
        page, rest = divmod(place, _TOGETHER)
        if page == len(self._pages):
            self._pages.append(self._cupy.zeros(_TOGETHER * _BYTES, np.uint8))
        flag = self._flags[place] = Flag(self._cupy, check, self._pages[page], rest)
        return flag

    def kept(self, check: Check) -> Flag:
        """The flag of all checks of that kind."""
        flag = self._kept.get(check)
        if flag is None:
            flag = self._kept[check] = self.made(check)
        return flag

    def expect(self) -> None:
        """Have the next `tell` look: work was given to the device that may raise a flag."""
        self._raised = True

    def tell(self) -> None:
        """Raise what was found since the last look. The device has done its work."""
        if not self._raised:
            return
        self._raised = False
        errors: list[Exception] = []
        for number, page in enumerate(self._pages):
            places = range(number * _TOGETHER, (number + 1) * _TOGETHER)
            flags = [(i, flag) for i in places if (flag := self._flags.get(i)) is not None]
            if not flags:
                continue
            memory = page.get().reshape(_TOGETHER, _BYTES)
            for i, flag in flags:
                error = flag.found(memory[i - places.start])
                if error is not None:
                    flag.memory.fill(0)
                    errors.append(error)
        if len(self._kept) > _KEPT:
            self._kept.clear()
        if errors:
            errors[0].add_note("A check on the device found it; the host has waited only now.")
            raise errors[0]
