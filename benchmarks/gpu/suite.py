"""The tests that face a backend, run on the device under test; and the plugin they run with."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.gpu.notes import NotThere, Options, Wrong

ROOT = Path(__file__).resolve().parents[2]
# Not tests of a device: of the fake one, of processes, of other libraries' figures.
IGNORED = (
    "benchmarks/",
    "cli/",
    "consumers/",
    "kernels/cuda/",
    "plots/",
    "estimators/",
    "explain/",
)
# The most telling first: what time is left for decides which are reached.
ORDER = ("test_formulas", "test_ops", "test_random", "test_tensor", "nn", "optim", "captured")
DRY = ("test_tensor_reduce.py",)
PROCESSES = 8
DEADLINE = "GRADNET_TESTS_DEADLINE"


def run(options: Options, seconds: float) -> dict[str, Any]:
    """Run them for so long at most; what was reached, failed and skipped."""
    if importlib.util.find_spec("pytest") is None:
        raise NotThere("pytest is not installed")
    out = Path(options.out)
    log = out / "tests.jsonl"
    log.unlink(missing_ok=True)
    tests = [f"tests/{name}" for name in DRY] if options.dry else facing()
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "benchmarks.gpu.suite", "-p"),
        *("no:cacheprovider", "--continue-on-collection-errors", f"--junitxml={out / 'tests.xml'}"),
        # What this machine's versions of other packages will not have for long says nothing here.
        *("-W", "ignore::DeprecationWarning", "-W", "ignore::PendingDeprecationWarning"),
        *tests,
    ]
    if options.dry:
        command += ["-k", "test_nan_wins or test_sorting_nothing"]
    elif importlib.util.find_spec("xdist") is not None:
        command += [
            "-p",
            "xdist",
            "-n",
            str(min(PROCESSES, os.cpu_count() or 1)),
            "--dist",
            "worksteal",
        ]
    env = {
        **os.environ,
        "GRADNET_TEST_BACKENDS": options.backend,
        "GRADNET_TESTS_LOG": str(log),
        DEADLINE: str(time.time() + seconds - min(10.0, seconds / 5)),
        "OPENBLAS_NUM_THREADS": "1",
        # Other packages' plugins may warn, which is an error here.
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    ended = "well"
    with (out / "tests.log").open("w") as said:
        try:
            status = subprocess.run(
                command, cwd=ROOT, env=env, stdout=said, stderr=said, check=False, timeout=seconds
            ).returncode
        except subprocess.TimeoutExpired:
            status, ended = -1, "killed at its limit"
    found = counted(log)
    last = (out / "tests.log").read_text("utf-8", "replace").strip().splitlines()[-1:]
    found |= {"exit_status": status, "ended": ended, "last_line": "".join(last)}
    if not found["counts"].get("passed"):
        raise Wrong(f"no test passed: {found['last_line']}", found)
    if found["failed"]:
        raise Wrong(f"{len(found['failed'])} tests failed: {', '.join(found['failed'][:3])}", found)
    return found


def facing() -> list[str]:
    """The files of tests that name a backend: to read all takes as long as to run some."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    names = {path: path.relative_to(ROOT / "tests").as_posix() for path in files}
    return [
        f"tests/{name}"
        for path, name in names.items()
        if not name.startswith(IGNORED) and "backend" in path.read_text("utf-8")
    ]


def counted(log: Path) -> dict[str, Any]:
    """The outcomes in the plugin's log."""
    outcomes: Counter[str] = Counter()
    failed, reasons = [], {}
    total = None
    lines = log.read_text("utf-8").splitlines() if log.exists() else []
    for line in lines:
        entry = json.loads(line)
        if "collected" in entry:
            total = entry["collected"]
            continue
        outcomes[entry["outcome"]] += 1
        if entry["outcome"] == "failed":
            failed.append(entry["test"])
            reasons[entry["test"]] = entry["reason"]
    counts = {**outcomes, **({} if total is None else {"chosen": total})}
    return {"counts": counts, "failed": failed, "reasons": dict(list(reasons.items())[:200])}


# The plugin


def _write(entry: dict[str, Any]) -> None:
    with Path(os.environ["GRADNET_TESTS_LOG"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def _worker(config: Any) -> bool:
    return hasattr(config, "workerinput")


def _place(item: Any) -> int:
    for i, name in enumerate(ORDER):
        if f"/{name}" in f"/{item.nodeid.removeprefix('tests/')}":
            return i
    return len(ORDER)


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """Keep the tests that face a backend, the most telling first."""
    chosen = [item for item in items if "backend" in getattr(item, "fixturenames", ())]
    kept = set(map(id, chosen))
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in kept])
    items[:] = sorted(chosen, key=_place)
    # With xdist every worker collects all of them: one tells.
    if getattr(config, "workerinput", {}).get("workerid", "gw0") == "gw0" and chosen:
        _write({"collected": len(chosen)})


def pytest_configure(config: Any) -> None:
    """Remember whether this process writes the log: with xdist it is the one over the workers."""
    global _writes
    _writes = not _worker(config)


def pytest_runtest_logreport(report: Any) -> None:
    """Write down the outcome of a test as soon as it is known."""
    if not _writes:
        return
    if report.when == "call" or report.outcome != "passed":
        reason = str(report.longrepr).strip().splitlines()[-1:] if report.failed else []
        _write({"test": report.nodeid, "outcome": report.outcome, "reason": "".join(reason)[:300]})


def pytest_collectreport(report: Any) -> None:
    """A file that cannot be collected counts as one skipped: a package of the tests is missing."""
    if _writes and report.failed:
        reason = str(report.longrepr).strip().splitlines()[-1:]
        _write({"test": report.nodeid, "outcome": "uncollected", "reason": "".join(reason)[:300]})


def pytest_runtest_logfinish(nodeid: str) -> None:
    """At the deadline, stop with the reports written."""
    if time.time() > float(os.environ[DEADLINE]) and _session:
        _session[0].shouldstop = "the time for the tests is over"


def pytest_sessionstart(session: Any) -> None:
    """Remember the session, which alone can be stopped."""
    _session[:] = [session]


_writes = True
_session: list[Any] = []
