"""One library's process: `python -m benchmarks.gpu.race FAMILY SETTINGS` takes all races.

A line of JSON on standard output for each race and contender. Exit status 3 where the library
cannot be imported.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import statistics
import sys
import time
import traceback
from typing import Any

from benchmarks.gpu.notes import NotThere, finite
from benchmarks.gpu.races import DRY, FAMILIES, RACES, Kept, Race

SLICE = 0.06  # seconds of a timed run
ROUNDS = 7


def timed(contender: Any) -> dict[str, float]:
    """The median seconds of a step over some runs, waiting for the device at the end of each."""
    contender.tune()
    stride = contender.stride
    steps = stride
    while True:
        start = time.perf_counter()
        contender.run(steps)
        elapsed = time.perf_counter() - start
        if elapsed > SLICE / 4:
            break
        steps *= 2
    steps = max(1, round(SLICE * steps / elapsed / stride)) * stride
    found = []
    for _ in range(ROUNDS):
        contender.reset()
        contender.run(max(stride, steps // 8 // stride * stride))
        start = time.perf_counter()
        contender.run(steps)
        found.append((time.perf_counter() - start) / steps)
    low, middle, high = statistics.quantiles(found, n=4, method="inclusive")
    return {"median": middle, "q1": low, "q3": high, "min": min(found), "steps": steps}


def measured(kind: Any, race: Race, dry: bool) -> dict[str, Any]:
    """The row of a contender."""
    reason = kind.cannot(race, dry)
    if reason:
        return {"left_out": reason}
    contender = kind.racing(race, dry)
    contender.prepare()
    contender.build()
    contender.start_memory()
    start = time.perf_counter()
    losses = contender.losses(3)
    first = time.perf_counter() - start  # with all that is compiled at first use
    row: dict[str, Any] = {"losses": losses, "first_step_seconds": None if dry else first}
    if dry:
        contender.run(contender.stride)
        row |= dict.fromkeys(("median", "q1", "q3", "min", "steps"))
    else:
        row |= timed(contender)
    row["peak_bytes"] = None if dry else contender.peak_memory()
    return {**row, **contender.told()}


def main() -> int:
    """Take the races of the process in turn, until all are taken or time is over."""
    family, settings = sys.argv[1], json.loads(sys.argv[2])
    dry, end = settings["dry"], time.monotonic() + settings["seconds"]
    # What libraries print, and processes that they start, goes to standard error.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for race in DRY if dry else RACES:
        race = Race(Kept.of(race.workload.record()), race.precision)
        for name, entry in FAMILIES[family].items():
            row: dict[str, Any]
            if time.monotonic() > end - 2:
                row = {"left_out": "no time was left"}
            elif dry and not entry.dry:
                row = {"left_out": "not in a dry run"}
            else:
                try:
                    kind = getattr(importlib.import_module(entry.module), entry.kind)
                except ImportError as error:
                    print(f"{family}: {error}", file=sys.stderr)
                    return 3
                try:
                    row = measured(kind, race, dry)
                except NotThere as error:
                    row = {"left_out": f"not there: {error}"}
                except Exception as error:  # noqa: BLE001  the other contenders are measured still
                    traceback.print_exc()
                    row = {"left_out": "failed", "error": f"{type(error).__name__}: {error}"[:500]}
            said = {"work": race.workload.record(), "precision": race.precision}
            line = json.dumps(finite({**said, "contender": name, "row": row}))
            print(line, file=answers, flush=True)
            gc.collect()
    return 0


if __name__ == "__main__":
    sys.exit(main())
