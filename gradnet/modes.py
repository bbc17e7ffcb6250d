"""What each thread records: the reverse graph, and the levels of forward mode."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Mode(threading.local):
    """What this thread records: the reverse graph, and which levels of forward mode."""

    recording: bool = True
    keeping: bool = False  # nodes keep copies of all operands and outputs, not only what they need
    levels: tuple[int, ...] = ()
    hidden: tuple[int, ...] = ()  # levels that were open when no_grad began
    recomputing: bool = False  # backward runs a checkpointed function once more


mode = _Mode()
# How many levels of forward mode, blocks of `keeping` and recordings of calls are open, in all
# threads together: where there are none, an op need not ask for its thread's.
open_modes = 0
_opening = threading.Lock()
serial = itertools.count()


def opened(count: int) -> None:
    """Note that so many more modes are open, or fewer."""
    global open_modes
    with _opening:
        open_modes += count


def next_id() -> int:
    """An id that all nodes made from here on exceed, and all earlier ones do not."""
    return next(serial)


class recording:
    """Record the reverse graph in this thread, or do not, within a `with` block."""

    # A class, for each op that is changed in place and each walk enters one: a generator's frame
    # takes longer than a small array's sum.
    __slots__ = ("enabled", "previous")

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled

    def __enter__(self) -> None:
        self.previous = mode.recording
        mode.recording = self.enabled

    def __exit__(self, *raised: object) -> None:
        mode.recording = self.previous


@contextmanager
def keeping() -> Iterator[None]:
    """Record a graph that can be read: every node keeps copies of its operands and its outputs."""
    previous = mode.recording, mode.keeping
    opened(1)
    mode.recording = mode.keeping = True
    try:
        yield
    finally:
        mode.recording, mode.keeping = previous
        opened(-1)


@contextmanager
def recomputing() -> Iterator[None]:
    """What was computed before is computed once more: state that it changed stays as it is."""
    previous = mode.recomputing
    mode.recomputing = True
    try:
        yield
    finally:
        mode.recomputing = previous


def is_recomputing() -> bool:
    """Whether backward is running a function under `checkpoint` once more, in this thread."""
    return mode.recomputing


@contextmanager
def tracking(enabled: bool) -> Iterator[None]:
    """Derivatives of both modes taken through what follows in this thread, or not."""
    previous = mode.recording, mode.levels, mode.hidden
    open_levels = (*mode.hidden, *mode.levels)
    mode.recording = enabled
    mode.levels, mode.hidden = (open_levels, ()) if enabled else ((), open_levels)
    try:
        yield
    finally:
        mode.recording, mode.levels, mode.hidden = previous


@contextmanager
def level() -> Iterator[int]:
    """A new innermost level of forward mode, open within a `with` block."""
    number = next(serial)
    previous = mode.levels
    opened(1)
    mode.levels = (*previous, number)
    try:
        yield number
    finally:
        mode.levels = previous
        opened(-1)
