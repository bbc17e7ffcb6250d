"""`gradnet devices`: which backends work on this machine, tried with a real operation."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys

from gradnet import backends
from gradnet.cli.report import Report

PASS, FAIL = "PASS", "FAIL"
MOST_SECONDS = 300.0


def run(options: argparse.Namespace, started: float) -> int:
    """Print a table of the backends, then the reason and the remedy of each failure."""
    report = Report()
    rows = []
    failures = {}
    for info in backends.device_info():
        reason = info.reason
        seconds = 0.0
        if not reason:
            seconds, reason = attempt(info.name)
        if reason:
            # Errors of devices say what is wrong, and after a semicolon what to do.
            reason, _, remedy = reason.partition("; ")
            remedy = remedy or info.remedy or "report it with this line, or use another backend"
            failures[info.name] = f"{reason}; remedy: {remedy}"
        versions = ", ".join(f"{package} {version}" for package, version in info.versions.items())
        took = "" if reason else f"{seconds:.2f} s"
        rows.append((info.name, FAIL if reason else PASS, info.device or "-", took, versions))
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    report.line(
        f"{platform.system()} {platform.machine()}, {count} CPU threads, "
        f"Python {platform.python_version()}; default backend: {backends.default().name}"
    )
    report.line()
    report.table(("backend", "", "device", "first use", "versions"), rows, "lllrl")
    if failures:
        report.line()
        report.facts({f"{name} {FAIL}": text for name, text in failures.items()})
    return 0


def attempt(name: str) -> tuple[float, str]:
    """The seconds that a trial took, and why it failed, or nothing."""
    places = os.pathsep.join(place for place in sys.path if place)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "gradnet.cli.trial", name],
            env={**os.environ, "PYTHONPATH": places},
            capture_output=True,
            text=True,
            timeout=MOST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 0.0, f"no result after {MOST_SECONDS:.0f} s"
    if done.returncode:
        return 0.0, _told(done.stderr) or f"exit status {done.returncode}"
    return float(done.stdout), ""


def _told(text: str) -> str:
    """What the last exception of a traceback says, in one line; else the text's last line."""
    lines = text.strip().splitlines()
    places = [i for i, line in enumerate(lines) if line.startswith("  File ")]
    after = lines[places[-1] + 1 :] if places else lines[-1:]
    told = next((line for line in after if line and not line.startswith(" ")), "")
    return told.partition(": ")[2] or told
