"""The threads of a launch: their registers, their memory, and what their instructions ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .arithmetic import Approximations
from .blocks import Compiled
from .emit import HELD
from .memory import LOCAL, RANK, SHARED, Fault, GlobalMemory, LocalMemory, SharedMemory
from .races import Times
from .text import Module, UnknownError, Variable

Array = Any
WARP = 32
_OFFSET = np.uint64((1 << RANK) - 1)


class Machine:
    """Some blocks of a launch, which run at the same time.

    first, blocks, of  the number of the first of these blocks, how many, and how many in all
    shared             the bytes of shared memory that the launch gives
    parameters         the bytes of each parameter
    cluster            how many blocks are in a cluster
    axis               the dimension of the grid that the blocks are in
    """

    def __init__(
        self,
        module: Module,
        compiled: Compiled,
        memory: GlobalMemory,
        parameters: Sequence[bytes],
        threads: int,
        first: int,
        blocks: int,
        of: int,
        shared: int = 0,
        cluster: int = 1,
        units: int = 0,
        axis: str = "x",
    ) -> None:
        self.compiled = compiled
        self.memory = memory
        self.threads, self.first, self.blocks, self.of = threads, first, blocks, of
        self.cluster = cluster
        self.axis = axis
        self.count = blocks * threads
        kernel = compiled.kernel
        self.given = {
            one.name: data for one, data in zip(kernel.parameters, parameters, strict=True)
        }
        self.registers = [
            np.zeros(self.count, HELD[kernel.register(name)]) for name in compiled.numbers
        ]
        self.marks: dict[int, Array] = {}
        self.approximate = Approximations(units)
        self.turns = [0] * len(compiled.stretches)
        # How often words were told others, and the copies under way.
        self.told = 0
        self._copies: list[tuple[Array, Array, Array, int]] = []
        self._places: dict[str, int] = {}
        self._lay_out(module, shared)
        each = np.arange(self.count)
        self.thread = each % threads
        self.block = each // threads
        self.warps = -(-threads // WARP)
        self.warp = self.block * self.warps + self.thread // WARP
        self.met_warp = np.zeros(blocks * self.warps, np.int64)
        self.met_block = np.zeros(blocks, np.int64)
        self.met_cluster = np.zeros(-(-blocks // cluster), np.int64)

    def _lay_out(self, module: Module, shared: int) -> None:
        """Give variables their places."""
        kernel = self.compiled.kernel
        owned, granule = np.zeros(0, bool), 16
        for one in (*module.shared, *kernel.shared):
            size = one.size or shared
            start = -(-owned.size // one.align) * one.align
            self._places[one.name] = start
            # Between two variables there are bytes of neither.
            whole = np.zeros(start + size + 16, bool)
            whole[: owned.size] = owned
            whole[start : start + size] = True
            owned = whole
        granule = granule_of(self.compiled, ("shared", ""))
        self.shared = SharedMemory(self.blocks, owned, granule) if owned.size else None
        size = 0
        for one in kernel.local:
            size = -(-size // one.align) * one.align
            self._places[one.name] = size
            size += one.size
        self.local = LocalMemory(self.count, size) if size else None
        self._tables = {one.name: one for one in module.tables}

    # What the functions of a kernel call

    def special(self, name: str, i: Array) -> Array:
        """A register that the hardware fills."""
        base, _, axis = name.partition(".")
        if axis and axis != (self.axis if base in ("ctaid", "nctaid") else "x"):
            value: Any = int(base in ("ntid", "nctaid"))
        else:
            value = {
                "tid": self.thread,
                "ntid": self.threads,
                "ctaid": self.block + self.first,
                "nctaid": self.of,
                "laneid": self.thread % WARP,
                "warpid": self.thread // WARP,
                "cluster_ctarank": (self.block + self.first) % self.cluster,
            }[base]
        if np.ndim(value) == 0:
            return np.full(self.count if i is None else i.size, value, np.uint32)
        return (value if i is None else value[i]).astype(np.uint32)

    def parameter(self, name: str, offset: int, kind: Any, n: int) -> Array:
        size = np.dtype(kind).itemsize
        data = self.given[name][offset : offset + size]
        if len(data) != size:
            raise Fault(f"{size} bytes from byte {offset} of parameter {name} on")
        return np.full(n, np.frombuffer(data, kind)[0])

    def place(self, name: str, n: int) -> Array:
        """The address of a variable, in its own space."""
        if name not in self._places:
            one: Variable = self._tables[name]
            data = np.frombuffer(one.initial or bytes(one.size), np.uint8)
            self._places[name] = self.memory.add(name, data)
        return np.full(n, self._places[name], np.uint64)

    def generic(self, space: str, address: Array) -> Array:
        return address + (SHARED if space == "shared" else LOCAL)

    def within(self, space: str, address: Array) -> Array:
        return address - (SHARED if space == "shared" else LOCAL)

    def of_rank(self, address: Array, rank: Array) -> Array:
        """The address in another block of the cluster of what is there in this one."""
        if (address < SHARED).any() or (rank >= self.cluster).any():
            raise Fault(f"mapa of blocks {np.unique(rank)} in a cluster of {self.cluster}")
        return (
            SHARED
            + (address & _OFFSET)
            + ((rank.astype(np.uint64) + np.uint64(1)) << np.uint64(RANK))
        )

    def times(self, i: Array) -> Times:
        """Who touches memory, and when."""
        rows: Any = slice(None) if i is None else i
        warp, block = self.warp[rows], self.block[rows]
        # Clusters beside others are ordered by nothing.
        met = self.met_cluster[block // self.cluster] if self.of == self.cluster else 0 * block
        first = self.first
        return Times(
            (np.arange(self.count)[rows]) + first * self.threads,
            warp + first * self.warps,
            block + first,
            self.met_warp[warp],
            self.met_block[block],
            met,
        )

    def load(self, space: str, address: Array, kind: Any, width: int, i: Array) -> Array:
        space, address = self._space(space, address)
        if space == "shared":
            blocks, offsets = self._blocks(address, i)
            assert self.shared is not None
            return self.shared.load(offsets, blocks, kind, width, self.times(i))
        if space == "local":
            assert self.local is not None
            threads = np.arange(self.count)[slice(None) if i is None else i]
            return self.local.load(address.astype(np.int64), threads, kind, width)
        return self.memory.load(address, kind, width, self.times(i))

    def store(
        self, space: str, address: Array, values: tuple[Array, ...], kind: Any, i: Array
    ) -> None:
        width = len(values)
        if width > 1:
            given = np.empty((address.size, width), kind)
            for k, one in enumerate(values):
                given[:, k] = one
        else:
            given = values[0]
        space, address = self._space(space, address)
        if space == "shared":
            blocks, offsets = self._blocks(address, i)
            assert self.shared is not None
            self.shared.store(offsets, blocks, given, kind, width, self.times(i))
        elif space == "local":
            assert self.local is not None
            threads = np.arange(self.count)[slice(None) if i is None else i]
            self.local.store(address.astype(np.int64), threads, given, kind, width)
        else:
            self.memory.store(address, given, kind, width, self.times(i))

    def _space(self, space: str, address: Array) -> tuple[str, Array]:
        """The space of generic addresses, and addresses in it."""
        if space:
            return ("global" if space == "const" else space), address
        low, high = address.min(), address.max()
        for name, start in (("shared", SHARED), ("local", LOCAL)):
            if low >= start:
                return name, address - start
            if high >= start:
                raise UnknownError("addresses of several spaces at once")
        return "global", address

    def _blocks(self, address: Array, i: Array) -> tuple[Array, Array]:
        """Whose shared memory addresses are in, and where in it."""
        block = self.block if i is None else self.block[i]
        rank = (address >> np.uint64(RANK)).astype(np.int64)
        if rank.any():
            block = np.where(rank > 0, block // self.cluster * self.cluster + rank - 1, block)
        if self.shared is None:
            raise Fault("an access to shared memory, of which there is none")
        return block, (address & _OFFSET).astype(np.int64)

    # Words that blocks exchange

    def look(self, address: Array, kind: Any, i: Array) -> Array:
        """Read words that others may write at the same time."""
        held, places = self.memory.words(address, kind, self.times(i))
        return held[places]

    def tell(self, address: Array, value: Array, kind: Any, i: Array) -> None:
        held, places = self.memory.words(address, kind, self.times(i))
        _, firsts, rows = np.unique(places, return_index=True, return_inverse=True)
        if (value != value[firsts[rows]]).any():
            raise Fault("two threads tell others different things in the same word")
        held[places] = value
        self.told += 1

    def arrive(self, address: Array, value: Array, i: Array) -> Array:
        """Add to a word. When all blocks have added to it, what they did is done for all."""
        held, places = self.memory.words(address, np.uint64, self.times(i))
        added = np.broadcast_to(value, places.shape)
        found = np.empty(places.size, np.uint64)
        for k, place in enumerate(places):
            found[k] = held[place]
            held[place] += added[k]
            if int(held[place]) % self.of == 0:
                self.met_cluster += 1
        self.told += 1
        return found

    # Copies that are waited for

    def copy(self, target: Array, source: Array, size: int, i: Array) -> None:
        times, kind = self.times(i), np.dtype(f"u{min(size, 8)}")
        blocks, offsets = self._blocks(target, i)
        assert self.shared is not None
        values = self.memory.load(source, kind, size // kind.itemsize, times)
        places = self.shared.places(offsets, blocks, size, times, "writes")
        self.shared.begin(places, size, times)
        self._copies.append((times.threads - self.first * self.threads, places, values, size))

    def copied(self, i: Array) -> None:
        """Finish the copies of these threads."""
        assert self.shared is not None
        mine = np.zeros(self.count, bool)
        mine[slice(None) if i is None else i] = True
        left = []
        for threads, places, values, size in self._copies:
            done = mine[threads]
            if done.any():
                self.shared.finish(places[done], values[done], size, self.times(threads[done]))
            if not done.all():
                left.append((threads[~done], places[~done], values[~done], size))
        self._copies = left

    def trap(self, i: Array) -> None:
        raise Fault(f"thread {0 if i is None else i[0]} gives up")

    def meet(self, level: str, i: Array) -> None:
        """Note that threads came together: what they did before is done for all of them."""
        rows: Any = slice(None) if i is None else i
        if level == "warp":
            self.met_warp[np.unique(self.warp[rows])] += 1
            return
        blocks = np.unique(self.block[rows])
        self.met_warp.reshape(self.blocks, -1)[blocks] += 1
        self.met_block[blocks] += 1
        if level == "cluster":
            self.met_cluster[np.unique(blocks // self.cluster)] += 1

    def is_written(self, number: int, i: Array) -> None:
        marks = self.marks.setdefault(number, np.zeros(self.count, bool))
        marks[slice(None) if i is None else i] = True

    def must_be_written(self, number: int, name: str, i: Array) -> None:
        marks = self.marks.get(number, np.zeros(self.count, bool))
        if not marks[slice(None) if i is None else i].all():
            raise Fault(f"a read of register {name}, which was never written")

    @property
    def instructions(self) -> int:
        """How many instructions the threads have run, together."""
        pairs = zip(self.turns, self.compiled.stretches, strict=True)
        return sum(turns * one.length for turns, one in pairs)


def granule_of(compiled: Compiled, spaces: Sequence[str]) -> int:
    """The least bytes that an access to one of these spaces touches."""
    least = 16
    for stretch in compiled.stretches:
        for one in stretch.body:
            if one.base == "cp" and one.parts[2] != "wait_all" and "shared" in spaces:
                least = min(least, int(str(one.operands[2])))
            if one.base in ("ld", "st"):
                named = [
                    x for x in one.parts if x in ("global", "shared", "param", "local", "const")
                ]
                if (named[0] if named else "") in spaces:
                    width = [int(x[1]) for x in one.parts if x in ("v2", "v4")] or [1]
                    least = min(least, width[0] * np.dtype(HELD[one.type]).itemsize)
    return least
