"""The memory of the device made of NumPy: pools whose free blocks are poisoned."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

POISON = 0xFF
Host = np.ndarray[Any, Any]


class OutOfMemoryError(MemoryError):
    """The pool is at its limit."""


class CUDARuntimeError(RuntimeError):
    """The driver reports an error."""


class Memory:
    """A pool of blocks, of which those given back are used again."""

    every: ClassVar[weakref.WeakSet[Memory]] = weakref.WeakSet()

    def __init__(self, limit: int = 1 << 40) -> None:
        self.limit = limit
        self.used = 0
        self.total = 0
        self.free: dict[int, list[Any]] = {}
        self.live: dict[int, Any] = {}
        self.growing: Callable[[], None] = lambda: None
        self.every.add(self)

    def malloc(self, size: int) -> Host:
        """What `using_allocator` takes."""
        return self.block(size)

    def block(self, size: int) -> Host:
        """Bytes of that size; the array that they are in owns them."""
        if self.used + size > self.limit:
            raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes")
        waiting = self.free.setdefault(size, [])
        if waiting:
            raw = waiting.pop()
        else:
            self.growing()
            raw = (ctypes.c_ubyte * size)()
            self.total += size
        ctypes.memset(raw, POISON, size)
        owner = np.frombuffer(raw, np.uint8)
        self.used += size
        self.live[ctypes.addressof(raw)] = raw
        weakref.finalize(owner, self._give_back, raw, size)
        return owner

    def _give_back(self, raw: Any, size: int) -> None:
        ctypes.memset(raw, POISON, size)
        self.used -= size
        del self.live[ctypes.addressof(raw)]
        self.free.setdefault(size, []).append(raw)

    def free_all_blocks(self) -> None:
        """Forget the blocks that were given back."""
        self.total -= sum(size * len(raws) for size, raws in self.free.items())
        self.free.clear()

    @classmethod
    def at(cls, address: int) -> Host | None:
        """What lies at an address, up to the end of its block; None of one that was given back."""
        for pool in cls.every:
            for start, raw in pool.live.items():
                if start <= address < start + len(raw):
                    return np.frombuffer(raw, np.uint8)[address - start :]
        return None

    def used_bytes(self) -> int:
        return self.used

    def total_bytes(self) -> int:
        return self.total
