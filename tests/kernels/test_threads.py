"""Sharing work among threads: every item once, errors raised, forked processes served."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import sys
import threading
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

threads = pytest.importorskip("gradnet.kernels.threads")


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads._pool, "size", 4)


@pytest.mark.usefixtures("pool")
@pytest.mark.parametrize(
    ("total", "least", "step"),
    [(0, 1, 1), (1, 1, 1), (7, 2, 1), (100, 1, 1), (100, 25, 8), (101, 10, 64), (5, 0, 1)],
)
def test_every_item_once(total: int, least: int, step: int) -> None:
    ranges: list[tuple[int, int]] = []
    threads.share(lambda start, stop: ranges.append((start, stop)), total, least, step)
    ranges.sort()
    assert [i for start, stop in ranges for i in range(start, stop)] == list(range(total))
    assert len(ranges) <= 4
    assert all(start % step == 0 for start, _ in ranges)
    if len(ranges) > 1:
        assert all(stop - start >= min(least, step) for start, stop in ranges[:-1])


@pytest.mark.usefixtures("pool")
def test_work_is_done_side_by_side() -> None:
    together = threading.Barrier(4)
    threads.share(lambda start, stop: together.wait(30), 4, 1)


@pytest.mark.usefixtures("pool")
@pytest.mark.parametrize("bad", [0, 3])
def test_an_error_is_raised_when_all_have_ended(bad: int) -> None:
    ended: list[int] = []

    def work(start: int, stop: int) -> None:
        if start == bad:
            raise ZeroDivisionError(f"part {start}")
        ended.append(start)

    with pytest.raises(ZeroDivisionError, match=f"part {bad}"):
        threads.share(work, 4, 1)
    assert sorted([*ended, bad]) == [0, 1, 2, 3]
    threads.share(work, 1, 9) if bad else None


@pytest.mark.usefixtures("pool")
def test_callers_do_not_mix() -> None:
    def total(seed: int) -> int:
        seen: list[int] = []
        threads.share(lambda start, stop: seen.extend(range(start, stop)), 50 + seed, 1)
        return sum(seen)

    with ThreadPoolExecutor(8) as callers:
        found = list(callers.map(total, range(40)))
    assert found == [sum(range(50 + seed)) for seed in range(40)]


@pytest.mark.parametrize(("value", "expected"), [("3", 3), ("1", 1)])
def test_the_number_of_threads_can_be_chosen(
    monkeypatch: pytest.MonkeyPatch, value: str, expected: int
) -> None:
    monkeypatch.setenv("GRADNET_NUM_THREADS", value)
    assert threads.processors() == expected
    monkeypatch.setenv("GRADNET_NUM_THREADS", "many")
    assert threads.processors() >= 1


def _in_child() -> None:
    ranges: list[tuple[int, int]] = []
    threads._pool.size = 3
    threads.share(lambda start, stop: ranges.append((start, stop)), 30, 1)
    sys.exit(0 if sorted(ranges) == [(0, 10), (10, 20), (20, 30)] else 1)


@pytest.mark.usefixtures("pool")
@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this platform"
)
def test_a_forked_process_has_threads_of_its_own() -> None:
    threads.share(lambda start, stop: None, 8, 1)
    with warnings.catch_warnings():
        # Python 3.12 and later warn of forks in a process with threads: that is the case tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = multiprocessing.get_context("fork").Process(target=_in_child)
        child.start()
    child.join(60)
    assert child.exitcode == 0


@pytest.mark.usefixtures("pool")
@pytest.mark.parametrize("fails", [False, True])
def test_threads_that_wait_hold_no_work(fails: bool) -> None:
    class Rows:
        """Stands for the arrays of a job."""

    rows = Rows()
    gone = weakref.ref(rows)

    def work(start: int, stop: int, rows: Rows = rows) -> None:
        if fails and start:
            raise IndexError(start)

    with pytest.raises(IndexError) if fails else contextlib.nullcontext():
        threads.share(work, 8, 2)
    del work, rows
    gc.collect()
    assert gone() is None
