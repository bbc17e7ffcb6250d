"""Memory as a launch sees it, and the accesses that are wrong: those raise `Fault`.

An array that a launch is given has 2^40 addresses of its own, of which only its bytes may be
touched: an address computed from one pointer never reaches what another one points to.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from .races import Shadow, Times

Array = Any
_SPAN = 40
SHARED = np.uint64(1 << 62)
LOCAL = np.uint64(1 << 61)
# A block's number within its cluster, plus one, in an address of shared memory.
RANK = 32
_ALIGNED = 256


class Fault(AssertionError):
    """A launch does what a GPU leaves undefined, or refuses."""


def owner_of(host: Array) -> Array:
    """The array whose memory an array is a view of."""
    while isinstance(host.base, np.ndarray):
        host = host.base
    return host


class Region:
    """The bytes of an array, and their addresses from `begin` to `end`."""

    def __init__(self, name: str, number: int, host: Array) -> None:
        owner = owner_of(host)
        low, high = np.lib.array_utils.byte_bounds(host)
        if host.size == 0:
            high = low = host.__array_interface__["data"][0]
        start = np.lib.array_utils.byte_bounds(owner)[0] if owner.size else low
        # Memory that is allocated is aligned, wherever NumPy has it.
        begin = low - (low - start) % _ALIGNED
        self.name = name
        self.host = host
        # In the middle, so that what is before an array is none of another's.
        self.base = (number << _SPAN) + (1 << _SPAN - 1)
        self.begin = self.base + low - begin
        self.end = self.base + high - begin
        self.first: int = self.begin + host.__array_interface__["data"][0] - low
        self.writeable = host.flags.writeable
        # Whether it is of no account which of several threads writes last.
        self.shared = False
        size = high - begin
        if size:
            held = (ctypes.c_uint8 * size).from_address(begin)
            self.bytes: Array = np.ctypeslib.as_array(held)
        else:
            self.bytes = np.empty(0, np.uint8)
        self.place = begin
        self._views: dict[tuple[Any, int], Array] = {}

    def view(self, kind: Any, width: int) -> Array:
        """The bytes as rows of `width` numbers, or as numbers."""
        key = (kind, width)
        found = self._views.get(key)
        if found is None:
            size = np.dtype(kind).itemsize * width
            found = self.bytes[: self.bytes.size // size * size].view(kind)
            found = self._views[key] = found.reshape(-1, width) if width > 1 else found
        return found


class GlobalMemory:
    """The arrays of a launch. `tally`, where there is one, is told of every access."""

    def __init__(self, granule: int = 1, tally: Any = None) -> None:
        self.regions: list[Region] = []
        self.granule = granule
        self.tally = tally
        self._shadows: list[tuple[int, int, Shadow]] = []

    def add(self, name: str, host: Array) -> int:
        """The address of an array's first element."""
        region = Region(name, len(self.regions) + 1, host)
        self.regions.append(region)
        return region.first

    def load(self, address: Array, kind: Any, width: int, times: Times) -> Array:
        region, places = self._found(address, kind, width, times, "reads")
        if region is None:
            return self._apart(address, kind, width, times, None)
        return region.view(kind, width)[places]

    def store(self, address: Array, values: Array, kind: Any, width: int, times: Times) -> None:
        region, places = self._found(address, kind, width, times, "writes")
        if region is None:
            self._apart(address, kind, width, times, values)
            return
        region.view(kind, width)[places] = values

    def words(self, address: Array, kind: Any, times: Times) -> tuple[Array, Array]:
        """An array as words that blocks exchange, which no others order, and places in it."""
        region, places = self._found(address, kind, 1, times, "touches")
        if region is None:
            raise Fault("words of several arrays at once")
        return region.view(kind, 1), places

    def _found(
        self, address: Array, kind: Any, width: int, times: Times, what: str
    ) -> tuple[Region | None, Array]:
        """The array that all addresses are in, and places in it; None where they are in several."""
        size = np.dtype(kind).itemsize * width
        low, high = int(address.min()), int(address.max())
        number = low >> _SPAN
        if number != high >> _SPAN:
            return None, None
        if not 0 < number <= len(self.regions):
            raise Fault(f"thread {times.threads[0]} {what} address {low:#x}, which is no array's")
        region = self.regions[number - 1]
        if low < region.begin or high + size > region.end:
            bad = int(np.flatnonzero((address < region.begin) | (address + size > region.end))[0])
            place = int(address[bad]) - region.begin
            raise Fault(
                f"thread {times.threads[bad]} {what} bytes {place} to {place + size} of "
                f"{region.name}, which has {region.end - region.begin}"
            )
        places = (address - np.uint64(region.base)).view(np.int64)
        if size > 1 and (places & (size - 1)).any():
            bad = int(np.flatnonzero(places & (size - 1))[0])
            raise Fault(
                f"thread {times.threads[bad]} {what} {size} bytes of {region.name} from an address "
                f"that is {places[bad] % size} bytes beyond a multiple of that"
            )
        if what == "writes" and not region.writeable:
            raise Fault(f"thread {times.threads[0]} writes to {region.name}, which is read-only")
        if what != "touches" and not region.shared:
            self._shadow(region, places, size, times, what)
        if self.tally is not None:
            self.tally.note(region, places, size, times, what)
        return region, places // size

    def _apart(self, address: Array, kind: Any, width: int, times: Times, values: Array) -> Array:
        found = np.zeros((address.size, width), kind)
        found = found if width > 1 else found[:, 0]
        numbers = address >> np.uint64(_SPAN)
        for number in np.unique(numbers):
            some = np.flatnonzero(numbers == number)
            part = times.of(some)
            if values is None:
                found[some] = self.load(address[some], kind, width, part)
            else:
                self.store(address[some], values[some], kind, width, part)
        return found

    def _shadow(self, region: Region, places: Array, size: int, times: Times, what: str) -> None:
        """Who reads and writes each byte, whichever pointer leads to it."""
        place = region.place
        found = (x for x in self._shadows if x[0] <= place <= x[1] - region.bytes.size)
        start, _, shadow = next(found, None) or self._new_shadow(region)
        self._checked(shadow, places + (place - start), size, times, what, region.name)

    def _new_shadow(self, region: Region) -> tuple[int, int, Shadow]:
        """One for all of the memory that an array is in."""
        start, end = np.lib.array_utils.byte_bounds(owner_of(region.host))
        start = min(start, region.place)
        end = max(end, region.place + region.bytes.size)
        self._shadows.append((start, end, Shadow((end - start) // self.granule + 1)))
        return self._shadows[-1]

    def _checked(
        self, shadow: Shadow, places: Array, size: int, times: Times, what: str, name: str
    ) -> None:
        cells = places // self.granule
        race = shadow.touch(cells, max(1, size // self.granule), times, what == "writes")
        if race is not None:
            thread, other, cell = race
            raise Fault(
                f"a race: thread {thread} {what} byte {cell * self.granule} of the memory of "
                f"{name}, which thread {other} touches with no barrier between"
            )


class SharedMemory:
    """The shared memory of some blocks: what was never written is not there to be read."""

    def __init__(self, blocks: int, owned: Array, granule: int) -> None:
        """`owned` says for each byte of a block whether it is in a variable."""
        self.stride = max(16, -(-owned.size // 16) * 16)
        self.owned = np.zeros(self.stride, bool)
        self.owned[: owned.size] = owned
        self.granule = granule
        self.bytes = np.full(blocks * self.stride, 0xFF, np.uint8)
        self.shadow = Shadow(self.bytes.size // granule)
        # Where copies are under way.
        self.pending = np.zeros(self.bytes.size // granule, bool)

    def places(self, address: Array, blocks: Array, size: int, times: Times, what: str) -> Array:
        """Where bytes are that threads touch, checked."""
        low, high = int(address.min()), int(address.max())
        if (
            high + size > self.stride
            or not (self.owned[address] & self.owned[address + size - 1]).all()
        ):
            inside = (address + size <= self.stride) & (address >= 0)
            at = np.where(inside, address, 0)
            bad = int(np.flatnonzero(~(inside & self.owned[at] & self.owned[at + size - 1]))[0])
            raise Fault(
                f"thread {times.threads[bad]} {what} {size} bytes from byte {address[bad]} of "
                f"shared memory on, which has {int(self.owned.sum())}"
            )
        if low < 0 or (size > 1 and (address & (size - 1)).any()):
            raise Fault(f"a thread {what} {size} bytes of shared memory that are not aligned")
        return blocks * self.stride + address

    def touch(self, places: Array, size: int, times: Times, what: str) -> None:
        cells = places // self.granule
        count = max(1, size // self.granule)
        if self.pending[cells].any():
            bad = int(np.flatnonzero(self.pending[cells])[0])
            raise Fault(
                f"a race: thread {times.threads[bad]} {what} byte {places[bad] % self.stride} of "
                "shared memory, to which a copy is under way"
            )
        if what == "reads":
            missing = self.shadow.unwritten(cells, count)
            if missing is not None:
                raise Fault(
                    f"thread {times.threads[missing]} reads byte "
                    f"{places[missing] % self.stride} of shared memory, which was never written"
                )
        race = self.shadow.touch(cells, count, times, what == "writes")
        if race is not None:
            thread, other, cell = race
            raise Fault(
                f"a race: thread {thread} {what} byte {cell * self.granule % self.stride} of "
                f"shared memory, which thread {other} touches with no barrier between"
            )

    def begin(self, places: Array, size: int, times: Times) -> None:
        """Copies to these places are under way, and what is there is nobody's."""
        self.touch(places, size, times, "writes")
        for k in range(0, size, self.granule):
            self.pending[(places + k) // self.granule] = True

    def finish(self, places: Array, values: Array, size: int, times: Times) -> None:
        for k in range(0, size, self.granule):
            self.pending[(places + k) // self.granule] = False
        self.touch(places, size, times, "writes")
        whole = self.bytes.view(values.dtype)
        (whole.reshape(-1, 2) if values.ndim == 2 else whole)[places // size] = values

    def load(self, address: Array, blocks: Array, kind: Any, width: int, times: Times) -> Array:
        size = np.dtype(kind).itemsize * width
        places = self.places(address, blocks, size, times, "reads")
        self.touch(places, size, times, "reads")
        whole = self.bytes.view(kind)
        return (whole.reshape(-1, width) if width > 1 else whole)[places // size]

    def store(
        self, address: Array, blocks: Array, values: Array, kind: Any, width: int, times: Times
    ) -> None:
        size = np.dtype(kind).itemsize * width
        places = self.places(address, blocks, size, times, "writes")
        self.touch(places, size, times, "writes")
        whole = self.bytes.view(kind)
        (whole.reshape(-1, width) if width > 1 else whole)[places // size] = values


class LocalMemory:
    """Memory of each thread alone."""

    def __init__(self, threads: int, size: int) -> None:
        self.size = -(-max(size, 1) // 16) * 16
        self.bytes = np.full(threads * self.size, 0xFF, np.uint8)
        self.written = np.zeros(threads * self.size, bool)

    def places(self, address: Array, threads: Array, size: int) -> Array:
        if int(address.max()) + size > self.size or (address & (size - 1)).any():
            raise Fault("an access beyond local memory, or one that is not aligned")
        return threads * self.size + address

    def load(self, address: Array, threads: Array, kind: Any, width: int) -> Array:
        size = np.dtype(kind).itemsize * width
        places = self.places(address, threads, size)
        if not self.written[places].all():
            raise Fault("a read of local memory that was never written")
        whole = self.bytes.view(kind)
        return (whole.reshape(-1, width) if width > 1 else whole)[places // size]

    def store(self, address: Array, threads: Array, values: Array, kind: Any, width: int) -> None:
        size = np.dtype(kind).itemsize * width
        places = self.places(address, threads, size)
        for k in range(size):
            self.written[places + k] = True
        whole = self.bytes.view(kind)
        (whole.reshape(-1, width) if width > 1 else whole)[places // size] = values
