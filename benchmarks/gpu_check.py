"""Everything there is to know of the CUDA backend on a real GPU, in nine minutes at most.

    python -m benchmarks.gpu_check --out DIR [--dry] [--stages LIST] [--wheels FOLDER]
                                   [--kernels FOLDER]

Runs from a bare checkout with the Python packages that the machine has; what is missing there can
be brought as wheels, and kernels as `python -m benchmarks.gpu.prebuilt` compiles them. DIR has then
gpu.json, gpu.md and details.zip, which holds what the stages wrote and said, anew after each stage.
With --dry it needs no GPU: the same code runs on the device made of NumPy under tests/,
and no figure is taken.

Exit status 0 where every stage ended well and no part failed; else 1; 2 for a bad call.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu import report, stages
from benchmarks.gpu.notes import Options
from benchmarks.gpu.stages import STAGES, TOTAL_SECONDS, Stage


def check(
    chosen: Sequence[Stage],
    out: Path,
    *,
    dry: bool,
    wheels: str = "",
    kernels: str = "",
    only: tuple[str, ...] = (),
    total: float = TOTAL_SECONDS,
) -> dict[str, Any]:
    """Run stages one after another; the report of all, which is also written to `out`.

    What stages leave besides is many files, and no partial one of a stage that runs: they are made
    elsewhere, and brought as one.
    """
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    found: dict[str, Any] = {"schema": report.SCHEMA, "dry": dry, "date": now, "stages": {}}
    with (
        tempfile.TemporaryDirectory() as packages,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as details,
    ):
        where = stages.unpacked(wheels, packages) if wheels else ""
        env = stages.environment(wheels=where, kernels=kernels)
        for stage in chosen:
            left = total - (time.monotonic() - started)
            if left < 1:
                told = "the stages before took all the time"
                found["stages"][stage.name] = stages.unrun(dry, "not started", told)
            else:
                print(f"{stage.name}: {stage.says}", file=sys.stderr, flush=True)
                options = Options(details, dry, min(stage.limit, left), only)
                found["stages"][stage.name] = stages.run(stage, options, env)
            report.write(found, out, Path(details))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check")
    names = [stage.name for stage in STAGES]
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the reports")
    parser.add_argument("--dry", action="store_true", help="without a GPU, and without figures")
    parser.add_argument("--stages", default=",".join(names), metavar="LIST", help=", ".join(names))
    parser.add_argument("--parts", default="", metavar="LIST", help="of the stages; all, if empty")
    parser.add_argument("--wheels", default="", metavar="FOLDER", help="packages to bring along")
    parser.add_argument("--kernels", default="", metavar="FOLDER", help="compiled elsewhere")
    options = parser.parse_args(arguments)
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
        only=tuple(filter(None, options.parts.split(","))),
    )
    print(report.summary(found))
    return 1 if report.troubles(found) else 0


if __name__ == "__main__":
    sys.exit(main())
