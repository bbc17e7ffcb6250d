"""Which threads read and write a piece of memory with nothing between them that orders them.

Two threads of a warp are ordered by what brings the warp together, two of a block by a barrier of
the block, two of a cluster by one of the cluster, others by nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any
_NONE, _SEVERAL = -1, -2


class Times:
    """The threads of an access: their numbers, warps and blocks, and how often each met."""

    __slots__ = ("blocks", "met_block", "met_cluster", "met_warp", "threads", "warps")

    def __init__(
        self,
        threads: Array,
        warps: Array,
        blocks: Array,
        met_warp: Array,
        met_block: Array,
        met_cluster: Array,
    ) -> None:
        self.threads, self.warps, self.blocks = threads, warps, blocks
        self.met_warp, self.met_block, self.met_cluster = met_warp, met_block, met_cluster

    def of(self, some: Array) -> Times:
        """Those of some of the threads."""
        return Times(*(getattr(self, name)[some] for name in _ORDER))


_ORDER = ("threads", "warps", "blocks", "met_warp", "met_block", "met_cluster")


class Shadow:
    """For each cell who wrote it last, and who read it since."""

    def __init__(self, cells: int) -> None:
        # Thread, warp, block; how often the warp, the block and the cluster had met.
        self.writer = np.full((cells, 6), _NONE, np.int32)
        self.reader = np.full((cells, 6), _NONE, np.int32)

    def unwritten(self, cells: Array, count: int) -> int | None:
        """The first of some threads that reads a cell that nobody wrote."""
        missing = self.writer[_all(cells, count), 0] == _NONE
        return int(np.flatnonzero(missing)[0]) // count if missing.any() else None

    def touch(
        self, cells: Array, count: int, times: Times, writes: bool
    ) -> tuple[int, int, int] | None:
        """Note an access; a thread, another, and the cell that both touch without order."""
        cells = _all(cells, count)
        now = np.stack([getattr(times, name) for name in _ORDER], 1).astype(np.int32)
        if count > 1:
            now = np.repeat(now, count, 0)
        race = _unordered(self.writer[cells], now, cells)
        if race is None and writes:
            race = _unordered(self.reader[cells], now, cells)
        if race is not None:
            return race
        if writes:
            self.writer[cells] = now
            other = self.writer[cells, 0]
            twice = other != now[:, 0]
            if twice.any():
                k = int(np.flatnonzero(twice)[0])
                return int(now[k, 0]), int(other[k]), int(cells[k])
            return None
        before = self.reader[cells]
        self.reader[cells] = now
        # Who read it before and is not ordered with these reads it along with them, and so do
        # those that read it at the same time.
        after = self.reader[cells]
        for level in (0, 1, 2):
            along = (before[:, level] != now[:, level]) & _together(before, now, level)
            several = cells[along | (after[:, level] != now[:, level])]
            self.reader[several, level] = _SEVERAL
        return None


def _all(cells: Array, count: int) -> Array:
    """The cells that accesses of `count` cells each touch."""
    return cells if count == 1 else (cells[:, None] + np.arange(count)).ravel()


def _together(before: Array, now: Array, level: int) -> Array:
    """Whether those before read it in the same time: of the warp, of the block, of the cluster."""
    real = before[:, 0] != _NONE
    same_cluster = before[:, 5] == now[:, 5]
    other_block = before[:, 2] != now[:, 2]
    same_block = before[:, 4] == now[:, 4]
    other_warp = before[:, 1] != now[:, 1]
    same_warp = before[:, 3] == now[:, 3]
    return real & same_cluster & (other_block | (same_block & (other_warp | same_warp)))


def _unordered(before: Array, now: Array, cells: Array) -> tuple[int, int, int] | None:
    """A thread, another one before it that nothing orders it after, and the cell."""
    other = (before[:, 0] != _NONE) & (before[:, 0] != now[:, 0])
    if not other.any():
        return None
    at = np.flatnonzero(other)
    before, now = before[at], now[at]
    warp = before[:, 1] == now[:, 1]
    block = before[:, 2] == now[:, 2]
    met = np.where(block, np.where(warp, 3, 4), 5)
    rows = np.arange(at.size)
    bad = before[rows, met] == now[rows, met]
    if not bad.any():
        return None
    k = int(np.flatnonzero(bad)[0])
    return int(now[k, 0]), int(before[k, 0]), int(cells[at[k]])
