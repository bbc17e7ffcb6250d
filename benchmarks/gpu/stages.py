"""Running the stages: a process each, ended at its limit; what it wrote until then is kept."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.gpu.notes import Options

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(__file__).resolve().parent / "site"
TOOLKITS = ("/usr/local/cuda", "/opt/nvidia/cuda", "/opt/cuda")
TOTAL_SECONDS = 535.0


class Stage(NamedTuple):
    """A module that is run as a process, and the seconds it may take."""

    name: str
    module: str
    limit: float
    says: str


STAGES = (
    Stage("probe", "benchmarks.gpu.probe", 50, "the machine and its ceilings"),
    Stage("correctness", "benchmarks.gpu.correctness", 180, "results against float64 NumPy"),
    Stage("speed", "benchmarks.gpu.speed", 245, "training steps beside the peers"),
    Stage("sanitizers", "benchmarks.gpu.sanitizers", 60, "NVIDIA's checkers on small kernels"),
)


def environment(
    extra: Mapping[str, str] | None = None, wheels: str = "", kernels: str = ""
) -> dict[str, str]:
    """The environment of a process that imports gradnet, kernels included, from this checkout."""
    places = [str(SITE), str(ROOT), wheels, os.environ.get("PYTHONPATH", "")]
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places)), **(extra or {})}
    if kernels:
        found["GRADNET_KERNELS"] = kernels
    if home := toolkit():
        # Where libNVVM and headers are, if their wheels are not installed.
        found.setdefault("CUDA_HOME", home)
    return found


def toolkit() -> str:
    """The folder of an installed CUDA toolkit that has a compiler's library, or nothing."""
    compiler = shutil.which("nvcc")
    places = [Path(compiler).resolve().parents[1]] if compiler else []
    for place in (*places, *map(Path, TOOLKITS)):
        if any((place / "nvvm").glob("lib*/libnvvm.so*")):
            return str(place)
    return ""


def unpacked(wheels: str, into: str) -> str:
    """The folder into which the wheels of a folder have been unpacked; needs no pip."""
    files = sorted(Path(wheels).glob("*.whl"))
    if not files:
        raise FileNotFoundError(f"there are no wheels in {wheels}")
    for path in files:
        with zipfile.ZipFile(path) as wheel:
            wheel.extractall(into)
    return into


def unrun(dry: bool, ended: str, told: str) -> dict[str, Any]:
    """The report of a stage that left none."""
    return {"dry": dry, "parts": {}, "ended": ended, "told": told, "seconds": None, "limit": None}


def run(stage: Stage, options: Options, env: Mapping[str, str]) -> dict[str, Any]:
    """The report of a stage, whether it ended well or not.

    `ended` is "well", "died" or "killed"; `told` says more of the latter two.
    """
    path = Path(options.out) / f"{stage.name}.json"
    path.unlink(missing_ok=True)
    started = time.monotonic()
    ended, told = "well", ""
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", stage.module, options.said()],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            cwd=ROOT,
            env=dict(env),
            start_new_session=True,
        )
        try:
            status = process.wait(options.limit)
        except subprocess.TimeoutExpired:
            status = 0
            ended, told = "killed", f"over its limit of {options.limit:g} s"
        finally:
            # Its own children too.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            # One that waits in the driver may not end at all.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
        said.seek(0)
        text = said.read()
    (Path(options.out) / f"{stage.name}.log").write_text(text, "utf-8")
    if status:
        last = text.strip().splitlines()[-1:] or ["without a word"]
        how = f"by signal {-status}" if status < 0 else f"with exit status {status}"
        ended, told = "died", f"{how}: {last[0][:500]}"
    try:
        report = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        report = {"dry": options.dry, "parts": {}}
    seconds = None if options.dry else round(time.monotonic() - started, 1)
    return {**report, "ended": ended, "told": told, "seconds": seconds, "limit": options.limit}
