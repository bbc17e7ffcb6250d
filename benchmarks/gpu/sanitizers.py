"""The stage `sanitizers`: NVIDIA's compute-sanitizer over small kernels and captured steps."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.gpu.device import ROOT
from benchmarks.gpu.notes import Notebook, NotThere, Wrong, main
from benchmarks.gpu.probe import tool

TOOLS = ("memcheck", "racecheck", "initcheck")
SUMMARY = re.compile(r"(?:ERROR SUMMARY|RACECHECK SUMMARY): (\d+)")
# What the tool says where the machine lets it not look into the device.
REFUSED = ("Device not supported", "Unable to find injection library", "not permitted")


# What the program runs: kernels of each kind and steps, or those that hold many layers or steps.
FUSED = "fused"


def small(notes: Notebook, *which: str) -> dict[str, Any]:
    """The program alone, without a tool: what it runs works."""
    return _run(notes, [], "_".join(["small", *which]), *which)


def checked(notes: Notebook, name: str, *which: str) -> dict[str, Any]:
    """The program under a tool: the errors that it counts."""
    path = tool("compute-sanitizer")
    if path is None:
        raise NotThere("compute-sanitizer is not on this machine")
    if notes.options.dry:
        raise NotThere("a dry run has no device to look into")
    return _run(
        notes, [path, "--tool", name, "--print-limit", "20"], "_".join([name, *which]), *which
    )


def _run(notes: Notebook, before: list[str], name: str, *which: str) -> dict[str, Any]:
    command = [
        *(*before, sys.executable, "-W", "ignore", "-m", "benchmarks.gpu.small"),
        *(notes.options.backend, *which),
    ]
    path = Path(notes.options.out) / f"{name}.txt"
    with path.open("w") as said:
        try:
            status = subprocess.run(
                command,
                cwd=ROOT,
                stdout=said,
                stderr=subprocess.STDOUT,
                timeout=max(1.0, notes.left),
                check=False,
            ).returncode
        except subprocess.TimeoutExpired as error:
            did = ran(path.read_text("utf-8", "replace"))
            told = f"no end within the stage's time, after {', '.join(did) or 'nothing'}"
            raise Wrong(told, {"counts": {"steps": len(did)}, "ran": did}) from error
    return judged(path.read_text("utf-8", "replace"), status, bool(before))


def ran(output: str) -> list[str]:
    """What the program said to have run."""
    return re.findall(r"^ran (.+)$", output, re.MULTILINE)


def judged(output: str, status: int, by_tool: bool) -> dict[str, Any]:
    """The counts in a tool's output. Raises Wrong where there are any, or no end was reached."""
    if by_tool and (told := next((words for words in REFUSED if words in output), "")):
        raise NotThere(f"compute-sanitizer cannot look into this device: {told}")
    errors = SUMMARY.findall(output)
    did = ran(output)
    found: dict[str, Any] = {
        "counts": {"steps": len(did), **({"errors": int(errors[-1])} if errors else {})},
        "ran": did,
        "exit_status": status,
    }
    last = output.strip().splitlines()[-1:] or ["nothing was said"]
    if "all has run" not in output:
        raise Wrong(f"the program did not end well: {last[0][:300]}", found)
    if by_tool and not errors:
        raise Wrong(f"the tool gave no summary: {last[0][:300]}", found)
    if errors and int(errors[-1]):
        raise Wrong(f"{errors[-1]} errors", found)
    return found


def run(notes: Notebook) -> None:
    """Without a tool first; then with all, side by side."""
    with ThreadPoolExecutor() as threads:
        for job in [
            threads.submit(notes.part, "small", lambda: small(notes)),
            threads.submit(notes.part, f"small, {FUSED}", lambda: small(notes, FUSED)),
        ]:
            job.result()
        for name in TOOLS:
            threads.submit(notes.part, name, lambda name=name: checked(notes, name))
        threads.submit(notes.part, f"{TOOLS[0]}, {FUSED}", lambda: checked(notes, TOOLS[0], FUSED))


if __name__ == "__main__":
    main("sanitizers", run)
