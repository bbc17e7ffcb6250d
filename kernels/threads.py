"""What is worth more than one thread: kernels over large arrays, and work in pieces of Python.

A kernel goes to the team that products run on. Other work that releases the interpreter's lock is
shared by plain threads, which sleep between calls. Waking either takes some 50 microseconds: only
work of several times that is worth it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from functools import cache
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from .habits import Habits

if TYPE_CHECKING:
    from .replay.team import Team

# Elements that one thread takes at least: some 100 microseconds of work, twice what it takes to
# wake another. Random numbers and rows of softmax are ten times the work.
SHARE = 1 << 18
SHARE_HEAVY = 1 << 15
# How much less is worth it for a team that is awake, or would be had the last of such work, not so
# many nanoseconds ago, woken it.
_AWAKE = 4
_OFTEN = 1_000_000
_last = 0

# What is known of kernels, and of other work that one thread or several may do. None is ever
# forgotten: machine code counts in its memory.
_habits: dict[Hashable, Habits] = {}

T = TypeVar("T")
Work = Callable[[int, int], Any]
_Task = tuple[Work, int, int, "SimpleQueue[BaseException | None]"]


def processors() -> int:
    """The threads to use: $GRADNET_NUM_THREADS, else the processors open to this process."""
    chosen = os.environ.get("GRADNET_NUM_THREADS", "")
    if chosen.isdigit() and int(chosen) > 0:
        return int(chosen)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Pool:
    """Threads that wait for work, started at first use and again in a forked process."""

    def __init__(self) -> None:
        self.size = processors()
        self.reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.reset)

    def reset(self) -> None:
        self.tasks: SimpleQueue[_Task] = SimpleQueue()
        self.started = 0
        self.lock = threading.Lock()

    def ready(self, count: int) -> None:
        if self.started >= count:
            return
        with self.lock:
            while self.started < count:
                self.started += 1
                name = f"gradnet-{self.started}"
                threading.Thread(target=_serve, args=(self.tasks,), name=name, daemon=True).start()


def _serve(tasks: SimpleQueue[_Task]) -> None:
    while True:
        work, start, stop, done = tasks.get()
        failed: BaseException | None = None
        try:
            work(start, stop)
        except BaseException as error:  # noqa: BLE001  whatever it is, the caller raises it
            failed = error
        # While it waits for more, a thread holds no arrays.
        del work
        done.put(failed)
        del done, failed


_pool = _Pool()


def team_for(size: int, least: int) -> Team | None:
    """The team that work on so many elements goes to, or None where that does not pay.

    Each thread gets at least `least` elements, or a part of that where the team is awake or there
    is such work again and again.
    """
    if size < 2 * least // _AWAKE or _pool.size == 1:
        return None
    crew: Team | None = _modules()[0].current()
    if crew is not None and (size >= 2 * least or crew.awake or _often()):
        return crew
    return None


def _often() -> bool:
    """Whether this has been asked a moment ago: a first call wakes nobody."""
    global _last
    now, before = time.perf_counter_ns(), _last
    _last = now
    return now - before < _OFTEN


def lent(habits: Habits, size: int, least: int) -> Team | None:
    """The team, where work on so many elements goes there without more ado; else None."""
    if not habits.lends(size):
        return None
    crew: Team | None = _modules()[0].current()
    return crew if crew is not None and (crew.awake or size >= 2 * least) else None


def launch(
    kernel: Callable[..., Any], parts: Sequence[Any], rest: Sequence[Any], size: int, least: int
) -> None:
    """`kernel(*parts, *rest)`, on several threads if it pays: arrays `parts` cut along axis 0.

    They are equally long, and their rows have `size` elements; `least` is as in `team_for`.
    """
    if size < 2 * least // _AWAKE:
        kernel(*parts, *rest)
        return
    habits = habits_of(kernel)
    crew = lent(habits, size, least)
    if crew is not None and len(parts[0]) >= crew.size:
        run(crew, kernel, parts, rest)
        return
    crew = None if habits.alone(size) else team_for(size, least)
    if crew is None or len(parts[0]) < crew.size:
        kernel(*parts, *rest)
        return
    shared = habits.choose(size)
    if shared:
        run(crew, kernel, parts, rest)
    else:
        kernel(*parts, *rest)
    habits.note(shared, size)


def run(crew: Team, kernel: Callable[..., Any], parts: Sequence[Any], rest: Sequence[Any]) -> None:
    """`kernel(*parts, *rest)` on a team, of which each thread takes its rows of `parts`."""
    _modules()[1].run(crew, kernel, parts, rest)


def either(
    work: Hashable, size: int, least: int, alone: Callable[[], T], together: Callable[[Team], T]
) -> T:
    """What both functions give for so many elements, by that which takes less of late.

    `work` is what they do, the same for each call that is like this one; `least` is as in
    `team_for`.
    """
    habits = habits_of(work)
    crew = lent(habits, size, least)
    if crew is not None:
        return together(crew)
    crew = None if habits.alone(size) else team_for(size, least)
    if crew is None:
        return alone()
    shared = habits.choose(size)
    result = together(crew) if shared else alone()
    habits.note(shared, size)
    return result


def free(work: Hashable) -> int:
    """Where the counts are of calls of `either` on that work that one thread is left alone with."""
    return int(habits_of(work).free.ctypes.data)


def habits_of(work: Hashable) -> Habits:
    """What is known of some work: one thing, whichever threads ask for the first time at once."""
    return _habits.get(work) or _habits.setdefault(work, Habits())


@cache
def _modules() -> tuple[Any, Any]:
    """What is above this file: an import in each call takes a microsecond."""
    from . import shared_kernel
    from .replay import team

    return team, shared_kernel


def share(work: Work, total: int, least: int, step: int = 1) -> None:
    """Run `work(start, stop)` over ranges that make up 0 ... total, on several threads if it pays.

    Each range has at least `least` items, and all but the last a multiple of `step`. Raises what
    the first failing range raises, when all have ended.
    """
    parts = min(_pool.size, total // max(least, 1))
    if parts < 2:
        work(0, total)
        return
    each = -(-total // (parts * step)) * step
    ranges = [(start, min(start + each, total)) for start in range(0, total, each)]
    _pool.ready(len(ranges) - 1)
    done: SimpleQueue[BaseException | None] = SimpleQueue()
    for start, stop in ranges[1:]:
        _pool.tasks.put((work, start, stop, done))
    errors: list[BaseException | None] = []
    try:
        work(*ranges[0])
    finally:
        errors = [done.get() for _ in ranges[1:]]
    for error in errors:
        if error is not None:
            raise error


def whole_rows(elements: int, columns: int) -> int:
    """How many rows have so many elements, at least one."""
    return elements // max(columns, 1) or 1
