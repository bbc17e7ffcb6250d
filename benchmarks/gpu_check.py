"""Everything there is to know of the CUDA backend on a real GPU, in nine minutes at most.

    python -m benchmarks.gpu_check --out DIR [--dry] [--brought FOLDER] [--stages LIST]

Runs from a bare checkout with the Python packages that the machine has; what is missing there, and
compiled kernels, can be brought in a folder as `python -m benchmarks.gpu.carry` makes one. DIR has
then gpu.json, gpu.md and details.zip, with what the stages wrote and said, anew every few seconds.
With --dry it needs no GPU: the same code runs on the device made of NumPy under tests/,
and no figure is taken.

    at most (s)  stages
    0 to 60      probe
    60 to 245    correctness, sanitizers and compiling, side by side
    to 535       speed; also what the others have left
Without time, what is worth least is left out, and the report says so: of `speed` the last races, of
`correctness` the last tests.

Exit status 0 where every stage ended well and no part failed; else 1; 2 for a bad call.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from benchmarks.gpu import report, stages
from benchmarks.gpu.notes import Options
from benchmarks.gpu.stages import STAGES, TOTAL_SECONDS, Stage

EVERY = 10.0  # seconds, in which the report is brought up to date


def check(
    chosen: Sequence[Stage],
    out: Path,
    *,
    dry: bool,
    wheels: str = "",
    kernels: str = "",
    commit: str = "",
    only: tuple[str, ...] = (),
    total: float = TOTAL_SECONDS,
) -> dict[str, Any]:
    """Run stages turn by turn; the report of all, which is also written to `out`.

    What stages leave besides is many files, and no partial one of a stage that runs: they are made
    elsewhere, and brought as one.
    """
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    found: dict[str, Any] = {"schema": report.SCHEMA, "dry": dry, "date": now, "commit": commit}
    found["stages"] = {}
    with contextlib.ExitStack() as stack:
        packages, details, kept = (
            stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            for _ in range(3)
        )
        where = stages.unpacked(wheels, packages) if wheels else ""
        env = stages.environment(wheels=where, kernels=kernels, kept=kept)
        turns = stages.turns(chosen)
        for turn in turns:
            left = total - (time.monotonic() - started)
            if left < 1:
                told = "the stages before took all the time"
                ended = stages.unrun(dry, "not started", told)
                found["stages"] |= {stage.name: ended for stage in turn}
            else:
                asked = {
                    stage: Options(
                        details, dry, left if turn is turns[-1] else min(stage.limit, left), only
                    )
                    for stage in turn
                }
                _taken(asked, env, found, out, Path(details))
            _written(found, out, Path(details))
    return found


def _taken(
    asked: dict[Stage, Options],
    env: dict[str, str],
    found: dict[str, Any],
    out: Path,
    details: Path,
) -> None:
    """Run stages side by side, and tell of them as far as they are while they run."""
    with ThreadPoolExecutor(len(asked)) as threads:
        running = {}
        for stage, options in asked.items():
            print(f"{stage.name}: {stage.says}", file=sys.stderr, flush=True)
            running[threads.submit(stages.run, stage, options, env)] = stage
        for stage, options in asked.items():
            found["stages"][stage.name] = stages.unrun(options.dry, "running", "")
        waiting = set(running)
        while waiting:
            done, waiting = wait(waiting, EVERY)
            for job in done:
                name = running[job].name
                try:
                    found["stages"][name] = job.result()
                except OSError as error:  # of a full disk, say
                    ended = stages.unrun(found["dry"], "died", f"it could not be run: {error}")
                    found["stages"][name] = {**ended, "parts": found["stages"][name]["parts"]}
            for job in waiting:
                stage = running[job]
                found["stages"][stage.name] |= stages.partial(stage, asked[stage])
            _written(found, out, details)


def _written(found: dict[str, Any], out: Path, details: Path) -> None:
    """Write the report, where that can be done: the stages go on all the same."""
    try:
        report.write(found, out, details)
    except OSError as error:
        print(f"the report cannot be written: {error}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check")
    names = [stage.name for stage in STAGES]
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the reports")
    parser.add_argument("--dry", action="store_true", help="without a GPU, and without figures")
    parser.add_argument("--stages", default=",".join(names), metavar="LIST", help=", ".join(names))
    parser.add_argument("--parts", default="", metavar="LIST", help="of stages; all, if empty: a;b")
    parser.add_argument(
        "--brought", type=Path, metavar="FOLDER", help="with wheels/ and kernels/, one or both"
    )
    parser.add_argument("--wheels", default="", metavar="FOLDER", help="packages to bring along")
    parser.add_argument("--kernels", default="", metavar="FOLDER", help="compiled elsewhere")
    parser.add_argument("--commit", default="", metavar="TEXT", help="where git cannot tell")
    parser.add_argument(
        "--seconds", type=float, default=TOTAL_SECONDS, help="in all; %(default)g if not said"
    )
    options = parser.parse_args(arguments)
    if options.brought:
        known = [n for n in ("wheels", "kernels") if any((options.brought / n).glob("*"))]
        if not known:
            parser.error(f"there are neither wheels nor kernels in {options.brought}")
        for name in known:
            setattr(options, name, getattr(options, name) or str(options.brought / name))
    wanted = options.stages.split(",")
    if unknown := [name for name in wanted if name not in names]:
        parser.error(f"there is no stage {unknown[0]!r}; there are {', '.join(names)}")
    if options.wheels and not any(Path(options.wheels).glob("*.whl")):
        parser.error(f"there are no wheels in {options.wheels}")
    if options.kernels and not any(Path(options.kernels).glob("gradnet_cuda_*")):
        parser.error(f"there are no kernels in {options.kernels}")
    found = check(
        [stage for stage in STAGES if stage.name in wanted],
        options.out.resolve(),
        dry=options.dry,
        wheels=options.wheels,
        kernels=options.kernels and str(Path(options.kernels).resolve()),
        commit=options.commit,
        only=tuple(filter(None, options.parts.split(";"))),
        total=options.seconds,
    )
    print("\n\n".join(["\n".join(report.verdicts(found)), report.summary(found)]))
    return 1 if report.troubles(found) else 0


if __name__ == "__main__":
    sys.exit(main())
