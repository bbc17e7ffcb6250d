"""The stage `compiling`: the first steps of every contender, with all that they compile.

Nothing is timed but that, so other stages may run beside it. The compilers leave what they make in
their caches, where the stage `speed` finds it; and here alone launches are counted by profilers,
after which a process launches more slowly.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.gpu.field import BUILDING, LEAST, Library, field, runs
from benchmarks.gpu.notes import ABSENT, DONE, FAILED, LATE, Notebook, main
from benchmarks.gpu.races import DRY, RACES


def prepared(library: Library, notes: Notebook) -> None:
    """All races by one library, each written down at once."""
    found: dict[str, Any] = {}
    state = LATE
    for race in DRY[:1] if notes.options.dry else RACES:
        until = time.monotonic() + notes.left
        rows = library.build(race, until)
        for name, row in rows.items():
            # Which compiles ways to choose from, and graphs of several steps.
            left = min(BUILDING, until - time.monotonic())
            if not runs(row) or library.worker is None or left < LEAST:
                continue
            if library.add(row, "calibrate", name, left):
                library.add(row, "tell", name, counted=True)
        library.over()
        if library.missing:
            break
        if notes.left <= 0:
            break
        found[race.name] = rows
        wrong = [
            f"{title}, {name}: {row['error']}"
            for title, contenders in found.items()
            for name, row in contenders.items()
            if "error" in row
        ]
        state = FAILED if wrong else DONE
        counts = {"races": len(found), "starts": library.starts}
        entry = {"counts": counts, "races": found}
        notes.note(library.name, state, "; ".join(wrong)[:2000], entry)
    if library.missing:
        notes.note(library.name, ABSENT, library.missing)
    elif not found:
        notes.note(library.name, LATE, "no time was left")


def run(notes: Notebook) -> None:
    """All libraries side by side."""
    with field(notes.options) as libraries, ThreadPoolExecutor() as threads:
        for job in [
            threads.submit(prepared, library, notes) for library in libraries.libraries.values()
        ]:
            job.result()


if __name__ == "__main__":
    main("compiling", run)
