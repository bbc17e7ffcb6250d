"""Parts side by side: `python -m benchmarks.gpu.shards NAME PRECISION OPTIONS` does one.

Each has kernels of its own to compile, which takes longer than all else: on a GPU they are
processes, several at a time. So an error that leaves the device unusable to its process, or a
kernel without an end, is one part's alone. A dry run does them in its own.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu import comparisons, networks
from benchmarks.gpu.comparisons import FLOATS
from benchmarks.gpu.device import ROOT, Bench
from benchmarks.gpu.notes import FAILED, LATE, Notebook, Options

AT_A_TIME = 8
AT_THE_END = 3.0  # seconds in which it is written down that a part has none left
THIRDS = 3
WORK: dict[str, Callable[[Bench, str], dict[str, Any]]] = {
    "kernels": comparisons.kernels,
    **{
        f"formulas {i + 1} of {THIRDS}": partial(comparisons.formulas, share=(i, THIRDS))
        for i in range(THIRDS)
    },
    "ops": comparisons.ops,
    "layers": networks.layers,
    "optimizers": networks.optimizers,
}


def run(notes: Notebook, first: Mapping[str, Callable[[Bench], Any]]) -> None:
    """Those parts, and the comparisons in each precision."""
    if notes.options.dry:
        bench = Bench(notes.options.backend)
        for name, job in first.items():
            notes.part(name, partial(job, bench))
        for name, work in WORK.items():
            for precision in ("float32", "float64"):
                notes.part(f"{name}, {precision}", partial(work, bench, precision))
        return
    with ThreadPoolExecutor(AT_A_TIME) as threads:
        asked = [(name, "") for name in first]
        asked += [(name, precision) for precision in FLOATS for name in WORK]
        jobs = {threads.submit(one, notes, *which): titled(*which) for which in asked}
        for job, title in jobs.items():
            if error := job.exception():
                notes.note(title, FAILED, f"{type(error).__name__}: {error}"[:500])


def one(notes: Notebook, name: str, precision: str = "") -> None:
    """A part in a process of its own, and what it wrote into these notes."""
    title = titled(name, precision)
    if notes.options.only and title not in notes.options.only:
        return
    seconds = notes.left - AT_THE_END
    if seconds < 5:
        notes.note(title, LATE, "the parts before took the stage's time")
        return
    said = dataclasses.replace(notes.options, limit=seconds).said()
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu.shards", name, precision, said]
    told = ""
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False
        )
        told = (done.stderr.strip().splitlines() or ["without a word"])[-1]
    except subprocess.TimeoutExpired:
        told = f"no end after {seconds:.0f} s"
    path = Path(notes.options.out) / f"{notebook(name, precision)}.json"
    parts: dict[str, Any] = {}
    if path.exists():
        parts = json.loads(path.read_text("utf-8"))["parts"]
        path.unlink()
    if title in parts:
        notes.take(title, parts[title])
    else:
        notes.note(title, FAILED, told[:500])


def titled(name: str, precision: str) -> str:
    """A part's name in the report."""
    return f"{name}, {precision}" if precision else name


def notebook(name: str, precision: str) -> str:
    """The name of a part's notes."""
    return "_".join(["shard", *titled(name, precision).replace(",", "").split()])


def main() -> None:
    """One part."""
    from benchmarks.gpu.correctness import PARTS

    name, precision, text = sys.argv[1:]
    options = Options.of(text)
    notes = Notebook(notebook(name, precision), options)
    bench = Bench(options.backend)
    job = partial(WORK[name], bench, precision) if precision else partial(PARTS[name], bench)
    notes.part(titled(name, precision), job)


if __name__ == "__main__":
    main()
