"""Memory of large arrays that are gone, for the next ones of as many bytes.

Memory fresh from the system is made page by page as it is first written, which takes about as long
as a pass over it, and a training step asks for the same sizes again and again.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from typing import Any

import numpy as np

# Bytes of an array from which on it is worth it, and how many are kept at most: two arrays of 32 MB
# and what they need to begin with a line of the cache.
LARGE, MOST = 1 << 20, (64 << 20) + (1 << 12)


class Lease:
    """What stands between a block's bytes and the one array that is made in them."""

    __slots__ = ()


class _Block:
    """Bytes, and the type of a lease of them."""

    def __init__(self, nbytes: int) -> None:
        self.memory = np.empty(nbytes, np.uint8)
        self.lease: Any = type("_Lease", (Lease, ctypes.c_char * nbytes), {})
        self.again = False  # whether a second array was made here

    def leased(self) -> Any:
        """What one array is made in."""
        return self.lease.from_buffer(self.memory)

    def holders(self) -> int:
        """What the interpreter counts of those who hold the bytes."""
        return sys.getrefcount(self.memory)


class Spare:
    """Blocks that arrays were made in, the one taken last at the end; any may be in use.

    Every array, and whatever else reads its memory, holds the block that it is in. A block is
    free where as many hold it as hold one that no array was ever made in.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.blocks: list[_Block] = []
        self.lock = threading.Lock()
        self.alone = _Block(1).holders()

    def take(self, nbytes: int) -> Any:
        """So many bytes that nobody uses, uninitialised: an object to make one array in.

        Raises MemoryError, or what NumPy raises for too many bytes.
        """
        # It may be this very thread that has the lock: what ends while it does may make arrays.
        if not self.lock.acquire(blocking=False):
            return _Block(nbytes).leased()
        try:
            return self._take(nbytes).leased()
        finally:
            self.lock.release()

    def _take(self, nbytes: int) -> _Block:
        for i, block in enumerate(self.blocks):
            if block.memory.nbytes == nbytes and block.holders() == self.alone:
                block.again = True
                self.blocks.append(self.blocks.pop(i))
                return block
        # What was wanted once may never be again.
        kept = [x for x in self.blocks if x.again or x.holders() != self.alone]
        held = sum(x.memory.nbytes for x in kept)
        # What is too much is forgotten, used or not: it lasts as long as its array.
        while kept and held + nbytes > self.most:
            held -= kept.pop(0).memory.nbytes
        block = _Block(nbytes)
        if nbytes <= self.most:
            kept.append(block)
        self.blocks = kept
        return block

    def forget(self) -> None:
        """Keep no block: one that is in use lasts as long as what holds it."""
        if self.lock.acquire(blocking=False):
            self.blocks = []
            self.lock.release()


def counts() -> bool:
    """Whether the interpreter counts who holds an object, exactly and at once."""
    locked: Any = getattr(sys, "_is_gil_enabled", None)
    return sys.implementation.name == "cpython" and (locked is None or bool(locked()))


spare = Spare() if counts() else None
