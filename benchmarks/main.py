"""Running suites: what `gradnet bench` does."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import machine, peers, suites
from benchmarks.pool import WorkerError

SCHEMA = "gradnet-bench/1"


class BadRequest(Exception):
    """A request that cannot be carried out; the message is one line for the user."""


def check(
    names: tuple[str, ...], options: suites.Options, json_file: str | None, plots: str | None
) -> None:
    """Raise BadRequest, before anything is measured, for what would fail at the end."""
    wrong = peers.unknown(options.peers or ())
    if wrong:
        raise BadRequest(
            f"--peers: there is no peer {wrong[0]!r}; there are {', '.join(peers.FAMILIES)}, "
            f"and by mode {', '.join(peers.CONTENDERS)}"
        )
    for name in options.workloads or ():
        if not any(name in suites.parts(suite) for suite in names):
            known = [part for suite in names for part in suites.parts(suite)]
            raise BadRequest(
                f"--workloads: there is no {name!r} in {', '.join(names)}; "
                f"there are {', '.join(dict.fromkeys(known))}"
            )
    if json_file is not None and not Path(json_file).resolve().parent.is_dir():
        raise BadRequest(f"--json: there is no folder {Path(json_file).resolve().parent}")
    if json_file is not None and Path(json_file).is_dir():
        raise BadRequest(f"--json: {json_file} is a folder; name a file in it")
    if plots is not None and not peers.installed("matplotlib"):
        raise BadRequest('--plots needs matplotlib: run pip install ".[plot]" in the checkout')


def run(
    suite: str,
    options: suites.Options,
    json_file: str | None = None,
    plots: str | None = None,
) -> int:
    """Run a suite, or "all": print its tables, write its files. Raises BadRequest."""
    names = tuple(suites.SUITES) if suite == "all" else (suite,)
    check(names, options, json_file, plots)
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "machine": machine.describe(),
        "options": {
            "peers": options.peers,
            "device": options.device,
            "rounds": options.rounds,
            "seconds": options.seconds,
            "workloads": options.workloads,
        },
        "suites": {},
    }
    print(f"{machine.sentence(report['machine'])}\n", flush=True)
    for name in names:
        if options.workloads and not any(map(options.wants, suites.parts(name))):
            continue
        module = suites.load(name)
        start = time.perf_counter()
        try:
            found = module.run(options)
        except WorkerError as error:
            raise BadRequest(f"bench {name}: {error}") from error
        found["took"] = time.perf_counter() - start
        report["suites"][name] = found
        print(f"## {name}: {suites.SUITES[name]}\n\n{module.table(found)}\n", flush=True)
        if json_file is not None:  # after each suite, so that a long run leaves what it has
            Path(json_file).write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    if plots is not None:
        from benchmarks import pictures

        for path in pictures.draw(report, Path(plots)):
            print(f"wrote {path}", file=sys.stderr)
    return 0
