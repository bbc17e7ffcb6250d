"""What lowering any call needs: places, blocks, and how work is split between threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from gradnet.program.calls import Call, Live, Value, mapped
from gradnet.program.replay import Memory, Step, step

from ..templates import replayed
from .machine import Barrier, Block, Guard, Item, Slot, kernel_call, looped
from .team import ranges

BARRIER = Barrier()

# A thread's calls, for each of the team; one list where the first does it alone.
Ranks = list[list[Item]]


class Unsupported(Exception):
    """A call that has no machine code: its method is called instead."""


class Base:
    """Makes the calls of a program's machine code, and holds what they refer to.

    threads   how many threads a call may be split between
    work      how much there is, in what one thread should have at least of a call
    blas      whether it calls the BLAS
    checks    the checks of values, to be repeated where one has found something
    place     where an array is: an address, or a slot
    number    the slot of a number that differs from run to run
    """

    # Elements, or multiply-adds, that are worth a second thread: some four microseconds of work.
    SHARE = 1 << 14
    SHARE_HEAVY = 1 << 9
    SHARE_PRODUCT = 1 << 18
    # A whole program that is: with less, a team loses more to a busy processor than it gains.
    SHARED_PROGRAM = 24

    def __init__(
        self,
        memory: Memory,
        threads: int,
        place: Callable[[Value], int | Slot],
        number: Callable[[Live], Slot],
        compiled: Callable[..., Any],
    ) -> None:
        self.memory = memory
        self.threads = threads
        self.place = place
        self.number = number
        self.kernel = compiled
        self.kept: list[Any] = []
        self.work = 0.0
        self.before: list[Ranks] = []
        self.spread = False
        self.blas = False
        self.checks: list[Step] = []
        # Indices that were looked at, and how long the tables are that they fit.
        self.looked_at: set[tuple[Value, int]] = set()
        self.status = np.zeros(8, np.int64)

    def lower(self, call: Call) -> list[Ranks]:
        """The native calls of each thread, of copies that come first and of the call itself.

        Raises Unsupported.
        """
        written = {value.storage for value in call.writes}
        self.looked_at = {x for x in self.looked_at if x[0].storage not in written}
        method = getattr(self, f"_{call.method}", None)
        if method is None:
            raise Unsupported
        whole = partial(method, call, *call.args, **call.kwargs)
        ways: list[tuple[bool, Callable[[], Ranks]]] = [(False, whole)]
        if call.method in ("map", "matmul"):
            # What repeats in a way that kernels do not know is written out at the last try.
            ways += [(False, partial(self._by_slices, call, method)), (True, whole)]
        work = self.work
        for self.spread, way in ways:
            self.before, self.work = [], work
            try:
                ranks = way()
            except Unsupported:
                continue
            return [*self.before, ranks]
        raise Unsupported

    @property
    def shares(self) -> bool:
        """Whether there is enough work for several threads."""
        return self.work >= self.SHARED_PROGRAM

    def _by_slices(self, call: Call, method: Callable[..., Ranks]) -> Ranks:
        """A call on each slice along the first axis: a batch of matrices, members of a network."""
        (y,) = call.outs
        if y is None or len(y.shape) < 3 or not y.size:
            raise Unsupported
        count, before = y.shape[0], self.work
        threads, self.threads = self.threads, 1

        def turn(i: int) -> list[Item]:
            args, kwargs, outs = (
                mapped(part, partial(_slice, ndim=len(y.shape), i=i))
                for part in (call.args, call.kwargs, call.outs)
            )
            (items,) = method(Call(call.method, args, kwargs, outs, outs), *args, **kwargs)
            if self.before:  # each slice would need memory of its own
                raise Unsupported
            return items

        try:
            some = {i: turn(i) for i in sorted({0, min(1, count - 1), count - 1})}
        finally:
            self.threads = threads
        if count == 1:
            return [some[0]]
        self.work = before + (self.work - before) / len(some) * count
        loop = looped(some, count)
        if loop is None:
            raise Unsupported
        if self.work < self.SHARED_PROGRAM or threads == 1:
            return [[loop]]
        cuts = ranges(count, threads)
        return [[loop.part(start, stop)] if start < stop else [] for start, stop in cuts]

    # Helpers

    def block(self, value: Any) -> Block:
        """An array in row-major order, as kernels take it."""
        if not isinstance(value, Value) or not value.contiguous:
            raise Unsupported
        return Block(self.place(value), value.shape, value.dtype.itemsize)

    def scratch(self, shape: tuple[int, ...], dtype: Any) -> Block:
        """Memory of this program alone."""
        array = np.zeros(shape, dtype)
        self.kept.append(array)
        return Block(array.ctypes.data, shape, array.dtype.itemsize)

    def scalar(self, x: Any) -> float | Slot:
        return self.number(x) if isinstance(x, Live) else float(x)

    def _split(
        self, make: Callable[[int, int], list[Item]], total: int, work: int, least: int, step: int
    ) -> Ranks:
        """The calls that `make` gives for a range of rows, for each thread if there is enough."""
        self.work += work / max(least, 1)
        parts = min(self.threads, work // max(least, 1))
        if parts < 2:
            return [make(0, total)]
        cut = ranges(total, parts, step)
        ranks: Ranks = [make(start, stop) if stop > start else [] for start, stop in cut]
        return [*ranks, *([] for _ in range(self.threads - parts))]

    def _rowwise(
        self, kernel: Any, parts: Sequence[Block], rest: Sequence[Any], work: int, least: int
    ) -> Ranks:
        def make(start: int, stop: int) -> list[Item]:
            return [kernel_call(kernel, *(part.part(start, stop) for part in parts), *rest)]

        return self._split(make, parts[0].shape[0], work, least, 1)

    def joined(self, sums: Block, result: Block, bits: int) -> Item:
        """The sums of blocks of rows, added."""
        kernel = self.kernel(replayed.joined, bits)
        return kernel_call(kernel, sums, result.reshaped(sums.shape[1]))

    def guarded(self, call: Call, x: Value, limits: Sequence[float]) -> Ranks:
        """A look at values: all threads stop where one is not within limits, and `call` tells.

        That is called again then, and raises.
        """
        kernel = self.kernel(replayed.within, x.dtype.name, x.dtype.kind in "iu")
        self.checks.append(step(self.memory.backend, self.memory, call))
        block = self.block(x).reshaped(x.size)
        found = Block(self.status.ctypes.data, (1,), 8)
        ranks: Ranks = [[kernel_call(kernel, block, found, *limits)]]
        ranks += [[] for _ in range(self.threads - 1)]
        return [[*items, BARRIER, Guard(self.status.ctypes.data)] for items in ranks]

    def then(self, ranks: Ranks, *last: Item) -> Ranks:
        """What the first thread does when all have ended."""
        if len(ranks) > 1:
            ranks = [[*items, BARRIER] for items in ranks]
        ranks[0] = [*ranks[0], *last]
        return ranks


def _slice(x: Any, ndim: int, i: int) -> Any:
    """Slice i along the first of so many axes, of an operand that may have fewer of them."""
    if not isinstance(x, Value) or len(x.shape) < ndim:
        return x
    ahead = 0 if x.shape[0] == 1 else i * x.strides[0]
    return Value(x.storage, x.offset + ahead, x.shape[1:], x.strides[1:], x.dtype)
