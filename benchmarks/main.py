"""Running suites: what `gradnet bench` does."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import machine, peers, suites
from benchmarks.pool import WorkerError

SCHEMA = "gradnet-bench/1"


class BadRequest(Exception):
    """A request that cannot be carried out; the message is one line for the user."""


def check(
    names: tuple[str, ...],
    options: suites.Options,
    json_file: str | None,
    plots: str | None,
    update: bool,
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
    if update and json_file is None:
        raise BadRequest("--update needs --json FILE, whose other figures it keeps")
    if plots is not None and not peers.installed("matplotlib"):
        raise BadRequest('--plots needs matplotlib: run pip install ".[plot]" in the checkout')


def run(
    suite: str,
    options: suites.Options,
    json_file: str | None = None,
    plots: str | None = None,
    update: bool = False,
) -> int:
    """Run a suite, or "all": print its tables, write its files. Raises BadRequest.

    With `update`, what the file has of other suites, and of other parts of these, stays in it.
    """
    names = tuple(suites.SUITES) if suite == "all" else (suite,)
    check(names, options, json_file, plots, update)
    here = machine.describe()
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "machine": here,
        "options": {
            "peers": options.peers,
            "device": options.device,
            "rounds": options.rounds,
            "seconds": options.seconds,
            "workloads": options.workloads,
        },
        "suites": earlier(json_file, here) if update and json_file else {},
    }
    print(f"{machine.sentence(report['machine'])}\n", flush=True)
    for name in names:
        if options.workloads and not any(map(options.wants, suites.parts(name))):
            continue
        module = suites.load(name)
        before = report["suites"].get(name, {})
        start = time.perf_counter()

        def keep(found: dict[str, Any], name: str = name, before: dict[str, Any] = before) -> None:
            report["suites"][name] = joined(before, found)
            if json_file is not None:  # after each part, so that a long run leaves what it has
                write(report, Path(json_file))

        try:
            found = module.run(replace(options, keep=keep))
        except WorkerError as error:
            raise BadRequest(f"bench {name}: {error}") from error
        found["recorded"] = {key: here[key] for key in ("date", "commit", "load")}
        found["recorded"]["took"] = time.perf_counter() - start
        keep(found)
        print(f"## {name}: {suites.SUITES[name]}\n\n{module.table(found)}\n", flush=True)
    if plots is not None:
        from benchmarks import pictures

        for path in pictures.draw(report, Path(plots)):
            print(f"wrote {path}", file=sys.stderr)
    return 0


def earlier(json_file: str, here: dict[str, Any]) -> dict[str, Any]:
    """The suites in a file of results of this machine. Raises BadRequest for another file."""
    path = Path(json_file)
    if not path.exists():
        return {}
    try:
        report = json.loads(path.read_text("utf-8"))
        there = report["machine"]
        found: dict[str, Any] = report["suites"]
    except (ValueError, KeyError, TypeError) as error:
        raise BadRequest(f"--update: {json_file} is not a file of results: {error!r}") from error
    for key in ("cpu", "cores"):
        if there.get(key) != here[key]:
            raise BadRequest(
                f"--update: {json_file} was recorded on another machine ({key} {there.get(key)}, "
                f"here {here[key]}); name another file"
            )
    return found


def joined(before: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """What a suite found now, and of its parts those that were found before only."""
    return {
        key: {**before[key], **value}
        if key != "left_out" and isinstance(value, dict) and key in before
        else value
        for key, value in found.items()
    }


def write(report: dict[str, Any], path: Path) -> None:
    """Write the file whole or not at all."""
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", "utf-8")
    os.replace(beside, path)
