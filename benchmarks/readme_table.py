"""The table of the README, made from a file of results.

    python -m benchmarks.readme_table [FILE] [--check]

Writes it between the markers in README.md; with --check it only says whether it is up to date.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import machine, overhead, peers, text
from benchmarks.fitting.jobs import SCRIPTS
from benchmarks.suites import fit

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results" / "cpu.json"
CALLS = RESULTS.with_name("overhead.json")
BEGIN = "<!-- made by python -m benchmarks.readme_table; do not edit -->"
END = "<!-- end of the table -->"


def section(report: dict[str, Any], file: str, calls: dict[str, Any] | None = None) -> str:
    """The tables of the steps and of whole processes, what calls cost, and how it was measured."""
    rows = []
    for name, part in report["suites"]["step"]["workloads"].items():
        contenders, verdict = part["contenders"], part["verdict"]
        modes = {mode: contenders.get(mode) for mode in (peers.CAPTURED, peers.FIT, peers.EAGER)}
        best = verdict["best_peer"]
        fastest = verdict["modes"].get(peers.CAPTURED) or verdict["modes"].get(peers.EAGER, {})
        rows.append(
            [
                name,
                title(part["workload"]),
                text.seconds(contenders[peers.FLOOR]["median"]),
                *(
                    "-"
                    if row is None
                    else f"{text.seconds(row['median'])} ({text.ratio(row['over_floor'])})"
                    for row in modes.values()
                ),
                f"{best} {text.seconds(contenders[best]['median'])}" if best else "-",
                text.times(fastest.get("times_faster")),
            ]
        )
    header = [
        *("workload", "network, rows", "own products", "captured", "gn.fit", "eager"),
        *("best peer", "captured faster"),
    ]
    about = machine.sentence(report["machine"])
    shown = [
        text.table(header, rows),
        "A step's median time, in brackets over its own matrix products in the same round "
        f"([all figures]({file})).",
    ]
    if "fit" in report["suites"]:
        shown += [
            processes(report["suites"]["fit"]["jobs"]),
            "Whole processes from a cold start, imports included, the best mode of each: seconds "
            "to the goal, or for all epochs. In brackets the test accuracy or, of california, the "
            "RMSE of the standardised target.",
        ]
    if calls is not None:
        shown.append(overhead.summary(calls))
    return "\n\n".join([*shown, f"Measured on {about}."])


def recorded(path: Path) -> str:
    """The section of a file of results, and of that of calls where there is one."""
    name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
    calls = json.loads(CALLS.read_text("utf-8")) if CALLS.exists() else None
    return section(json.loads(path.read_text("utf-8")), name, calls)


def processes(jobs: dict[str, Any]) -> str:
    """The table of whole processes: each package's fastest on each job."""
    packages = (fit.OURS, "torch", "jax", "sklearn")
    rows = []
    for name, part in jobs.items():
        job = part["job"]
        key = "median" if job["goal"] is None else "to_goal"
        end = f"{job['epochs']} epochs" if job["goal"] is None else f"to {job['goal']}"
        row = [name, f"{title(job)}, {end}"]
        for package in packages:
            found = [
                contender
                for script, contender in part["contenders"].items()
                if SCRIPTS[script][2] == package
                and script != fit.COMMAND
                and contender["epochs"]
                and contender[key] is not None
            ]
            best = min(found, key=lambda contender: float(contender[key]), default=None)
            score = "" if best is None else f" ({abs(best['score']):.3f})"
            row.append("-" if best is None else text.seconds(best[key]) + score)
        rows.append(row)
    return text.table(["job", "network, rows", "gradnet", "PyTorch", "JAX", "scikit-learn"], rows)


def title(record: dict[str, Any]) -> str:
    """What a recorded workload is, in a few characters."""
    return f"{'-'.join(map(str, record['sizes']))}, {record['batch']}"


def replaced(readme: str, table: str) -> str:
    """The README's text with another table. Raises ValueError where the markers are missing."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md has no lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main() -> int:
    """Write or check the table: 0, or 1 where it is not up to date."""
    parser = argparse.ArgumentParser(description="Make the README's table from results.")
    parser.add_argument("file", nargs="?", type=Path, default=RESULTS)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    old = README.read_text("utf-8")
    new = replaced(old, recorded(options.file.resolve()))
    if options.check:
        print("README.md is up to date" if new == old else "README.md has another table")
        return int(new != old)
    README.write_text(new, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
