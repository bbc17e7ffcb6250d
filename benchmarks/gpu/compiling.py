"""The stage `compiling`: the first steps of every contender, with all that they compile.

Nothing is timed but that, so other stages may run beside it. The compilers leave what they make in
their caches, where the stage `speed` finds it; and here alone launches are counted by profilers,
after which a process launches more slowly.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks.gpu.field import LEAST, Library, Row, runs
from benchmarks.gpu.notes import ABSENT, DONE, FAILED, LATE, Notebook, main
from benchmarks.gpu.races import DRY, FAMILIES, RACES, Race

MOST = 90.0  # seconds that a contender may take for its first steps, or to choose its way
# A library whose compiler takes long is several processes, each with its share of the races.
PROCESSES = {"torch": 3}


class Found:
    """What has come of a library's races, in whichever of its processes."""

    def __init__(self, name: str, notes: Notebook) -> None:
        self.name = name
        self.notes = notes
        self.races: dict[str, dict[str, Row]] = {}
        self._lock = threading.Lock()

    def add(self, race: str, rows: dict[str, Row]) -> None:
        """Write down a race."""
        with self._lock:
            self.races[race] = rows
            wrong = [
                f"{title}, {name}: {row['error']}"
                for title, contenders in self.races.items()
                for name, row in contenders.items()
                if "error" in row
            ]
            entry = {"counts": {"races": len(self.races)}, "races": self.races}
            state = FAILED if wrong else DONE
            self.notes.note(self.name, state, "; ".join(wrong)[:2000], entry)


def prepared(library: Library, races: Sequence[Race], found: Found) -> None:
    """Races by one process of a library, each written down at once."""
    notes = found.notes
    for race in races:
        until = time.monotonic() + notes.left
        rows = library.build(race, until)
        if library.missing or notes.left <= 0:
            break
        for name, row in rows.items():
            # Which compiles ways to choose from, and graphs of several steps.
            left = min(MOST, until - time.monotonic())
            if not runs(row) or library.worker is None or left < LEAST:
                continue
            if library.add(row, "calibrate", name, left):
                library.add(row, "tell", name, counted=True)
        found.add(race.name, rows)
        library.over()
    library.close()


def run(notes: Notebook) -> None:
    """All libraries side by side."""
    races = DRY[:1] if notes.options.dry else RACES
    jobs = []
    with ThreadPoolExecutor() as threads:
        for name in FAMILIES:
            found, count = Found(name, notes), 1 if notes.options.dry else PROCESSES.get(name, 1)
            for i in range(count):
                library = Library(name, notes.options, MOST)
                job = threads.submit(prepared, library, races[i::count], found)
                jobs.append((library, found, job))
        for library, found, job in jobs:
            job.result()
            if library.missing:
                notes.note(library.name, ABSENT, library.missing)
            elif not found.races:
                notes.note(library.name, LATE, "no time was left")


if __name__ == "__main__":
    main("compiling", run)
