"""What a launch does, for decisions about speed that need no device: a tally of its accesses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .races import Times

if TYPE_CHECKING:
    from .memory import Region

SECTOR = 32


class Tally:
    """Counts of a launch; given to it, filled by it.

    instructions  run by all threads together
    requests      accesses of global memory by warps
    sectors       pieces of 32 bytes that those touch: a warp that reads 128 in a row has 4
    bytes         moved from and to global memory, by "reads" and "writes"
    touched       how often each byte of an array is read and written, by its parameter's name
    """

    def __init__(self) -> None:
        self.instructions = 0
        self.requests = 0
        self.sectors = 0
        self.bytes = {"reads": 0, "writes": 0}
        self.touched: dict[tuple[str, str], Any] = {}

    def note(self, region: Region, places: Any, size: int, times: Times, what: str) -> None:
        """An access of some threads to `size` bytes each, from these places of an array on."""
        self.requests += np.unique(times.warps).size
        sectors = places // SECTOR
        self.sectors += np.unique(times.warps.astype(np.int64) << 40 | sectors).size
        self.bytes[what] += size * places.size
        key = (region.name, what)
        if key not in self.touched:
            self.touched[key] = np.zeros(region.end - region.begin, np.int64)
        starts = places - (region.begin - region.base)
        for k in range(size):
            np.add.at(self.touched[key], starts + k, 1)

    @property
    def moved(self) -> int:
        """Bytes moved."""
        return sum(self.bytes.values())

    @property
    def coalescing(self) -> float:
        """The part of the sectors' bytes that is used: 1 where all of them are."""
        return self.moved / (self.sectors * SECTOR) if self.sectors else 1.0
