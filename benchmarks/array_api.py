"""Run the array API conformance suite on the CPU backends and record the outcome.

    python benchmarks/array_api.py CHECKOUT [--examples 100]

CHECKOUT is a clone of data-apis/array-api-tests with its submodule; of a copy without git's data,
say of which commits it is. Writes results/array_api.json.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

OUTCOME = Path(__file__).parent / "results" / "array_api.json"


# What is run: the backend, and whether its eager ops are machine code from the first call on.
RUNS = {
    "numpy": {"GRADNET_BACKEND": "numpy"},
    "numba": {"GRADNET_BACKEND": "numba"},
    "numba, eager machine code": {"GRADNET_BACKEND": "numba", "GRADNET_EAGER": "1"},
}


def run(checkout: Path, settings: dict[str, str], examples: int) -> dict[str, Any]:
    """The counts of a run, and the tests that fail."""
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "array_api_tests", "-q", "-p", "no:cacheprovider"),
            *("-W", "ignore", "--disable-deadline", "--max-examples", str(examples)),
        ],
        cwd=checkout,
        env={**os.environ, "ARRAY_API_TESTS_MODULE": "gradnet", **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    last = (result.stdout.strip().splitlines() or [""])[-1]
    counts = {
        word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|skipped|xfailed)", last)
    }
    if "passed" not in counts:
        raise SystemExit(f"the suite did not run:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
    failures = [
        line.removeprefix("FAILED ").split(" - ")[0]
        for line in result.stdout.splitlines()
        if line.startswith(("FAILED", "ERROR"))
    ]
    return {"passed": 0, "failed": 0, "skipped": 0, **counts, "failures": failures}


def commit(folder: Path, option: str) -> str:
    """The commit that is checked out in a folder."""
    if not (folder / ".git").exists():
        raise SystemExit(f"{folder} has no data of git; say with {option} which commit it is")
    return subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--suite-commit", help="where the checkout is no git repository")
    parser.add_argument("--standard-commit", help="that of its array-api folder")
    options = parser.parse_args()
    checkout = options.checkout
    found = {
        "suite": "https://github.com/data-apis/array-api-tests",
        "suite_commit": options.suite_commit or commit(checkout, "--suite-commit"),
        "standard_commit": options.standard_commit
        or commit(checkout / "array-api", "--standard-commit"),
        "standard": "2025.12",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "examples": options.examples,
        "python": platform.python_version(),
        "versions": {
            name: importlib.metadata.version(name) for name in ("numpy", "numba", "hypothesis")
        },
        "backends": {
            name: run(checkout, settings, options.examples) for name, settings in RUNS.items()
        },
        "notes": {
            "test_can_cast": "an error of the suite: where promotion is undefined it asks "
            "`None == to`, which NumPy says is true of numpy.dtype('float64'), and so expects "
            "can_cast(complex64, float64) to be true, which by the standard's rules it is not",
            "skipped": "by the suite itself, whatever the library: test_remainder, as 'flaky'",
        },
    }
    OUTCOME.parent.mkdir(exist_ok=True)
    OUTCOME.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found["backends"], indent=2))


if __name__ == "__main__":
    main()
