"""The contenders of a race side by side: a process for each library, made anew where one ends.

A contender that raises, crashes, or takes too long costs the others nothing but the time to make
them again. A device is timed by one contender at a time, in turns that go round.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.gpu.notes import Options
from benchmarks.gpu.races import FAMILIES, Race
from benchmarks.pool import Worker, WorkerError, WorkerGone
from benchmarks.rounds import summary

BUILDING = 45.0  # seconds that a contender may take for its first steps, or to choose its way
TIMING = 25.0  # and for anything else; a race's building leaves as many for its timing
LEAST = 3.0  # less is not worth to begin with
ROUNDS = 5
SLICE = 0.04  # seconds that a contender is timed for in a round
MOST_ENDS = 2  # how often a contender may take its process along before it is left out for good

Row = dict[str, Any]


class Library:
    """A library's process, and what has come of its contenders so far."""

    program = "benchmarks.gpu.race"

    def __init__(self, name: str, options: Options, most: float | None = None) -> None:
        """`most` are the seconds that a contender may take to build, if not BUILDING."""
        self.name = name
        self.most = most or BUILDING
        self.options = options
        self.worker: Worker | None = None
        self.missing = ""
        self.starts = 0
        self.ends: Counter[str] = Counter()

    def ask(self, do: str, contender: str, within: float = TIMING, **message: Any) -> Row:
        """Its answer. Raises WorkerError where there is none; `worker` is None if it had to end."""
        if self.worker is None:
            said = Path(self.options.out) / f"{self.name}.log"
            self.worker = Worker(self.name, self.name, program=self.program, said=said)
            self.starts += 1
        try:
            return self.worker.ask(do, within=max(within, 0.1), contender=contender, **message)
        except (WorkerError, ValueError) as error:
            if not self._well(error, contender):
                # Who was only given too little time is not to blame.
                late = isinstance(error, WorkerGone) and self.worker.alive
                self.ends[contender] += not late or within >= min(self.most, TIMING)
                self.close()
            raise error if isinstance(error, WorkerError) else WorkerGone(str(error)) from error

    def _well(self, error: Exception, contender: str) -> bool:
        """Whether a process that told of an error can go on."""
        if not isinstance(error, WorkerError) or isinstance(error, WorkerGone):
            return False
        assert self.worker is not None
        try:
            self.worker.ask("well", within=10.0, contender=contender)
        except (WorkerError, ValueError):
            return False
        return True

    def close(self) -> None:
        """End the process."""
        if self.worker is not None:
            self.worker.close()
            self.worker = None

    def build(self, race: Race, until: float, without: Sequence[str] = ()) -> dict[str, Row]:
        """A row for each contender but some, those that run with their first losses."""
        rows: dict[str, Row] = {}
        waiting = [name for name in FAMILIES[self.name] if name not in without]
        while waiting:
            name = waiting.pop(0)
            rows[name] = self._built(race, name, until)
            if self.worker is None:
                # Those built before are gone with it.
                lost = [other for other, row in rows.items() if runs(row)]
                waiting = lost + waiting
                rows = {other: row for other, row in rows.items() if other not in lost}
        return {name: rows[name] for name in FAMILIES[self.name] if name in rows}

    def _built(self, race: Race, name: str, until: float) -> Row:
        left = until - time.monotonic()
        if self.missing:
            return {"left_out": self.missing}
        if self.ends[name] >= MOST_ENDS:
            return {"left_out": "it has ended its process too often"}
        if left < LEAST:
            return {"left_out": "no time was left"}
        message = {"work": race.workload.record(), "precision": race.precision}
        try:
            answer = self.ask("build", name, min(left, self.most), dry=self.options.dry, **message)
        except WorkerError as error:
            return {"left_out": "failed", "error": str(error)[:500]}
        if "missing" in answer:
            self.missing = f"{self.name} cannot be imported here: {answer['missing']}"
            return {"left_out": self.missing}
        row: Row = answer["row"]
        return row

    def add(
        self, row: Row, do: str, contender: str, within: float = TIMING, **message: Any
    ) -> bool:
        """Add what it answers to a row, or why it does not; whether it does."""
        try:
            row |= self.ask(do, contender, within, dry=self.options.dry, **message)["row"]
        except WorkerError as error:
            row["error"] = str(error)[:500]
            return False
        return True

    def over(self) -> None:
        """Let the contenders of a race go."""
        if self.worker is not None:
            try:
                self.ask("over", next(iter(FAMILIES[self.name])))
            except WorkerError:
                self.close()


def runs(row: Row) -> bool:
    """Whether a contender takes part."""
    return "losses" in row and "error" not in row


class Field:
    """All libraries. Made by `field`, which ends them."""

    def __init__(self, options: Options, threads: ThreadPoolExecutor) -> None:
        self.options = options
        self.threads = threads
        self.libraries = {name: Library(name, options) for name in FAMILIES}

    def race(self, race: Race, until: float) -> dict[str, Row]:
        """A row for each contender: built side by side, then timed in turns."""
        built = until - min(TIMING, (until - time.monotonic()) / 3)
        jobs = [
            self.threads.submit(library.build, race, built) for library in self.libraries.values()
        ]
        rows: dict[str, Row] = {}
        for job in jobs:
            rows |= job.result()
        of = {name: self.libraries[family] for family in FAMILIES for name in FAMILIES[family]}
        for library in self.libraries.values():
            self._calibrated(race, library, rows, built, until - LEAST)
        self._timed(rows, of, until)
        for name, row in rows.items():
            if "median" in row and of[name].worker is not None:
                # What it cannot tell is no reason to doubt its time.
                told: Row = {}
                of[name].add(told, "tell", name, counted=False)
                row |= {"untold" if key == "error" else key: told[key] for key in told}
        for library in self.libraries.values():
            library.over()
        return rows

    def _calibrated(
        self, race: Race, library: Library, rows: dict[str, Row], until: float, last: float
    ) -> None:
        """Warm up; who takes its process along does so once, and the others are built again.

        until  when all should be warm
        last   when those that are built again must be built
        """
        waiting = list(FAMILIES[library.name])
        while waiting:
            name = waiting.pop(0)
            if not runs(rows[name]):
                continue
            # It takes less than a second, but where there are ways to choose from.
            left = max(LEAST, until - time.monotonic())
            library.add(rows[name], "calibrate", name, min(BUILDING, left))
            if library.worker is None:
                waiting = [other for other in FAMILIES[library.name] if runs(rows[other])]
                wrong = [other for other in FAMILIES[library.name] if other not in waiting]
                rows |= library.build(race, last, wrong)

    def _timed(self, rows: dict[str, Row], of: dict[str, Library], until: float) -> None:
        """Time all that run, in turns."""
        seconds: dict[str, list[float]] = {name: [] for name, row in rows.items() if runs(row)}
        for turn in range(1 if self.options.dry else ROUNDS):
            start = turn % max(1, len(seconds))
            for name in (*list(seconds)[start:], *list(seconds)[:start]):
                if time.monotonic() < until and runs(rows[name]) and of[name].worker is not None:
                    self._turn(rows[name], of[name], name, seconds[name])
        for name, found in seconds.items():
            row = rows[name]
            if found and runs(row):
                figures = dict.fromkeys(("median", "q1", "q3", "min"))
                row |= figures if self.options.dry else summary(found)
                row["rounds"] = len(found)
            elif runs(row) and of[name].worker is None:
                row["error"] = "its process ended with another contender"
            elif runs(row):
                row["left_out"] = "no time was left"

    def _turn(self, row: Row, library: Library, name: str, seconds: list[float]) -> None:
        try:
            slice_ = 0.0 if self.options.dry else SLICE
            seconds.append(library.ask("time", name, seconds=slice_)["seconds"])
        except WorkerError as error:
            row["error"] = str(error)[:500]


@contextmanager
def field(options: Options) -> Iterator[Field]:
    """All libraries, for as long as this lasts."""
    # The processes end with the threads that have started them.
    with ThreadPoolExecutor(len(FAMILIES)) as threads:
        found = Field(options, threads)
        try:
            yield found
        finally:
            for library in found.libraries.values():
                library.close()
