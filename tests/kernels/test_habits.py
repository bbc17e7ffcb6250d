"""Kernels go to several threads where that takes less, and stay on one where it does not."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("numba")

from gradnet.kernels import habits, threads

SIZE = 1000
MAGNITUDE = SIZE.bit_length()


class Machine:
    """A clock, and what a call takes on it: on one thread, and on several."""

    def __init__(self, alone: int, shared: int) -> None:
        self.now = 0
        self.takes = {False: alone, True: shared}

    def clock(self) -> int:
        return self.now

    def run(self, known: habits.Habits, calls: int) -> float:
        """How many of the calls were shared, of 1."""
        shared = 0
        for _ in range(calls):
            if known.lends(SIZE):
                self.now += self.takes[True]
                shared += 1
                continue
            if known.alone(SIZE):
                self.now += self.takes[False]
                continue
            together = known.choose(SIZE)
            self.now += self.takes[together]
            shared += together
            known.note(together, SIZE)
        return shared / calls


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(300_000, 200_000)
    monkeypatch.setattr(habits, "clock", made.clock)
    return made


def test_what_takes_less_is_done(machine: Machine) -> None:
    known = habits.Habits()
    assert machine.run(known, 400) > 0.95
    machine.takes[True] = 400_000
    machine.run(known, 40)
    assert machine.run(known, 400) < 0.05
    machine.takes[True] = 150_000
    machine.run(known, 600)
    assert machine.run(known, 400) > 0.95


def test_the_other_way_is_tried_now_and_then(machine: Machine) -> None:
    for machine.takes[True] in (200_000, 400_000):
        known = habits.Habits()
        machine.run(known, 100)
        assert 0 < machine.run(known, 1000) < 1


def test_what_takes_as_long_either_way_is_not_changed_to_and_fro(machine: Machine) -> None:
    machine.takes = {False: 300_000, True: 300_000}
    assert machine.run(habits.Habits(), 400) > 0.9


def test_what_is_much_slower_is_tried_less_often(machine: Machine) -> None:
    found = []
    for machine.takes[True] in (330_000, 400_000, 900_000, 10**9):
        known = habits.Habits()
        machine.run(known, 400)
        found.append(machine.run(known, 4000))
    assert found == sorted(found, reverse=True)
    assert 0 < found[-1] < 0.01 < found[0] < 0.05


def test_a_clock_that_stands_still_is_borne(machine: Machine) -> None:
    machine.takes = {False: 0, True: 0}
    assert 0 < machine.run(habits.Habits(), 400) <= 1


def test_one_slow_call_changes_little(machine: Machine) -> None:
    known = habits.Habits()
    machine.run(known, 100)
    machine.takes[True] = 10**9
    machine.run(known, 1)
    machine.takes[True] = 200_000
    assert machine.run(known, 100) > 0.8


def test_the_first_call_which_compiles_does_not_count(machine: Machine) -> None:
    known = habits.Habits()
    machine.takes[True] = 10**9
    assert machine.run(known, 1) == 1
    machine.takes[True] = 200_000
    assert machine.run(known, 100) > 0.8


def test_calls_that_need_not_ask_are_those_before_the_next_trial(machine: Machine) -> None:
    machine.takes[True] = 900_000
    known = habits.Habits()
    while not known.free[MAGNITUDE]:
        machine.run(known, 1)
    count = int(known.free[MAGNITUDE])
    assert [known.alone(SIZE) for _ in range(count + 1)] == [True] * count + [False]
    assert not known.choose(SIZE)  # what one thread takes by then
    known.note(False, SIZE)
    assert known.choose(SIZE)
    assert not any(known.free[i] for i in range(64) if i != MAGNITUDE)


def test_of_short_calls_that_are_shared_only_some_are_told(machine: Machine) -> None:
    machine.takes = {False: 30_000, True: 20_000}
    known = habits.Habits()
    told = 0
    for _ in range(400):
        if known.lends(SIZE):
            machine.now += machine.takes[True]
        else:
            together = known.choose(SIZE)
            machine.now += machine.takes[together]
            known.note(together, SIZE)
            told += 1
    assert 400 / 6 < told < 400 / 3
    machine.takes[True] = 40_000
    machine.run(known, 40)
    assert not known.lends(SIZE)
    assert not known.lends(64 * SIZE)


def test_of_long_calls_all_are_told(machine: Machine) -> None:
    machine.takes = {False: 900_000, True: 300_000}
    known = habits.Habits()
    for _ in range(100):
        assert not known.lends(SIZE)
        machine.run(known, 1)
    assert machine.run(known, 100) > 0.9


def test_a_team_that_sleeps_is_lent_to_large_work_alone(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crew:
        awake = False

        @staticmethod
        def current() -> type[Crew]:
            return Crew

    monkeypatch.setattr(threads, "_modules", lambda: (Crew, None))
    machine.takes = {False: 30_000, True: 20_000}
    known = habits.Habits()
    assert threads.lent(known, SIZE, 1) is None
    machine.run(known, 2)
    assert threads.lent(known, SIZE, SIZE) is None
    found: Any = threads.lent(known, SIZE, 1)
    assert found is Crew
    Crew.awake = True
    found = threads.lent(known, SIZE, SIZE)
    assert found is Crew


def test_sizes_have_habits_of_their_own(machine: Machine) -> None:
    known = habits.Habits()
    machine.takes[True] = 900_000
    machine.run(known, 100)
    assert known.choose(64 * SIZE)


def test_either_way_gives_its_result(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    crew: Any = object()
    monkeypatch.setattr(threads, "team_for", lambda size, least: crew)
    monkeypatch.setattr(threads, "lent", lambda known, size, least: None)
    found: list[Any] = []

    def alone() -> str:
        machine.now += 300_000
        return "alone"

    def together(given: Any) -> str:
        assert given is crew
        machine.now += 900_000
        return "together"

    work = object()
    for _ in range(200):
        found.append(threads.either(work, SIZE, 1, alone, together))
    assert set(found) == {"alone", "together"}
    assert found[-150:].count("alone") > 140
    monkeypatch.setattr(threads, "team_for", lambda size, least: None)
    assert threads.either(work, SIZE, 1, alone, together) == "alone"
