"""In which order the threads of a launch take turns.

Of the threads those take the next turn that are least far in the text, all of them together: those
that a branch parts come together again where their ways do. Where threads must come together
they wait for one another; where they never do, that is a fault.

Blocks that tell each other numbers take turns in an order that chance chooses, some many times
before others once: what they compute must not depend on it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .blocks import Stretch
from .machine import Machine
from .memory import Fault
from .text import UnknownError

Array = Any
# So many choices of a block, for each of them, after which none has told anything mean that none
# ever will.
_PATIENCE = 25


def together(m: Machine) -> None:
    """Run all threads to their end, those of all blocks at the same time."""
    stretches = m.compiled.stretches
    end = len(stretches)
    # Where each thread is; None while all are at the same place.
    places: Array = None
    at = 0
    with np.errstate(all="ignore"):
        while True:
            if places is None:
                group = None
                if at == end:
                    return
            else:
                at = int(places.min())
                if at == end:
                    return
                group = np.flatnonzero(places == at)
                if group.size == m.count:
                    group = places = None
                elif stretches[at].level:
                    at, group = _ready(m, places, at, group)
            stretch = stretches[at]
            size = m.count if group is None else group.size
            m.turns[at] += size
            found = _go(m, stretch, group, size)
            if isinstance(found, int):
                if places is None:
                    at = found
                else:
                    places[group] = found
                continue
            condition, yes, no = found
            if places is None:
                taken = int(np.count_nonzero(condition))
                if taken in (0, size):
                    at = yes if taken else no
                else:
                    places = np.where(condition, yes, no)
            else:
                places[group] = np.where(condition, yes, no)


def _go(m: Machine, stretch: Stretch, group: Array, size: int) -> Any:
    try:
        return stretch.go(m, group, size)
    except (Fault, UnknownError, ZeroDivisionError) as error:
        error.add_note(m.compiled.where(error))
        raise


def _ready(m: Machine, places: Array, at: int, group: Array) -> tuple[int, Array]:
    """A stretch, and threads that may go on there: all that must come together."""
    waiting = []
    for place in np.unique(places):
        if place == len(m.compiled.stretches):
            break
        stretch = m.compiled.stretches[place]
        group = np.flatnonzero(places == place)
        if not stretch.level:
            return int(place), group
        units = _units(m, stretch.level)
        here = np.bincount(units[group], minlength=int(units[-1]) + 1)
        whole = np.flatnonzero(here == np.bincount(units))
        group = group[np.isin(units[group], whole)]
        if group.size:
            return int(place), group
        waiting.append((stretch.level, stretch.body[0].text))
    ended = int((places == len(m.compiled.stretches)).sum())
    raise Fault(f"threads wait for others that never come: at {waiting}, and {ended} ended")


def _units(m: Machine, level: str) -> Array:
    return {"warp": m.warp, "block": m.block, "cluster": m.block // m.cluster}[level]


def apart(m: Machine, seed: int) -> None:
    """Run all threads to their end, a block after the other until it waits for what others tell."""
    rng = np.random.default_rng(seed)
    end = len(m.compiled.stretches)
    places = np.zeros(m.count, np.int64)
    running = list(range(m.blocks))
    told, idle = -1, 0
    with np.errstate(all="ignore"):
        while running:
            block = int(rng.choice(running))
            for _ in range(int(rng.choice([1, 3, 30]))):
                _turn(m, places, block)
                if (places[m.block == block] == end).all():
                    running.remove(block)
                    break
            idle = idle + 1 if told == m.told else 0
            told = m.told
            if idle > _PATIENCE * m.blocks:
                raise Fault(f"blocks {running} wait for one another forever")


def _turn(m: Machine, places: Array, block: int) -> None:
    """Run a block until each of its threads has looked for what others tell, or waits for one."""
    stretches = m.compiled.stretches
    first = block * m.threads
    here = places[first : first + m.threads]
    looked = np.zeros(m.threads, bool)
    warps = np.arange(m.threads) // 32
    while True:
        free = ~looked & (here < len(stretches))
        group: Array = None
        for at in np.unique(here[free]):
            found = np.flatnonzero(free & (here == at))
            level = stretches[at].level
            if level == "warp":
                whole = np.bincount(warps[found], minlength=warps[-1] + 1) == np.bincount(warps)
                found = found[whole[warps[found]]]
            elif level and found.size < m.threads:
                found = found[:0]
            if found.size:
                group = found
                break
        if group is None:
            if free.any() and not looked.any():
                raise Fault(f"threads of block {block} wait for others that never come")
            return
        stretch = stretches[at]
        m.turns[at] += group.size
        following = _go(m, stretch, group + first, group.size)
        if not isinstance(following, int):
            condition, yes, no = following
            following = np.where(condition, yes, no)
        here[group] = following
        if stretch.looks:
            looked[group] = True
