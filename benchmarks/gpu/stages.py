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
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.gpu.notes import Options

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(__file__).resolve().parent / "site"
TOOLKITS = ("/usr/local/cuda", "/opt/nvidia/cuda", "/opt/cuda")
TOTAL_SECONDS = 535.0
# How much of what a stage said is kept: its beginning and its end.
_SAID = 1 << 20


class Stage(NamedTuple):
    """A module that is run as a process, and the seconds it may take.

    turn  stages of the same turn run side by side; the last turn has all time that is left
    """

    name: str
    module: str
    limit: float
    says: str
    turn: int


# Only the second turn's stages bear company: they time nothing that the bars are about.
STAGES = (
    Stage("probe", "benchmarks.gpu.probe", 60, "the machine and its ceilings", 1),
    Stage("correctness", "benchmarks.gpu.correctness", 185, "results against float64 NumPy", 2),
    Stage("sanitizers", "benchmarks.gpu.sanitizers", 185, "NVIDIA's checkers on small kernels", 2),
    Stage("compiling", "benchmarks.gpu.compiling", 185, "first steps, ours and the peers'", 2),
    Stage("speed", "benchmarks.gpu.speed", 290, "training steps beside the peers", 3),
)


def turns(chosen: Sequence[Stage]) -> list[list[Stage]]:
    """Stages that run side by side, turn by turn."""
    return [list(found) for _, found in groupby(chosen, lambda stage: stage.turn)]


def environment(
    extra: Mapping[str, str] | None = None, wheels: str = "", kernels: str = "", kept: str = ""
) -> dict[str, str]:
    """The environment of a process that imports gradnet, kernels included, from this checkout.

    wheels   the folder of packages that come before those of the machine
    kernels  the folder of kernels that were compiled elsewhere
    kept     the folder of what compilers, ours and the peers', keep from one process to the next
    """
    places = [str(SITE), str(ROOT), wheels, os.environ.get("PYTHONPATH", "")]
    found = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, places)),
        # JAX would take most of the device's memory at its start.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        **(extra or {}),
    }
    if kernels:
        found["GRADNET_KERNELS"] = kernels
    if kept:
        found["GRADNET_CACHE_DIR"] = str(Path(kept) / "gradnet")
        found["TORCHINDUCTOR_CACHE_DIR"] = str(Path(kept) / "torch")
        # Several of its processes compile at a time.
        found.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "4")
        found["TRITON_CACHE_DIR"] = str(Path(kept) / "triton")
        found["JAX_COMPILATION_CACHE_DIR"] = str(Path(kept) / "jax")
        found["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    if home := toolkit():
        # Where libNVVM is, if its wheel is not installed.
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


def partial(stage: Stage, options: Options) -> dict[str, Any]:
    """The report of a stage as it stands, whether it is whole, or there is none yet."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((Path(options.out) / f"{stage.name}.json").read_text("utf-8"))
        if isinstance(found, dict) and isinstance(found.get("parts"), dict):
            return found
    return {"dry": options.dry, "parts": {}}


def run(stage: Stage, options: Options, env: Mapping[str, str]) -> dict[str, Any]:
    """The report of a stage, whether it ended well or not.

    `ended` is "well", "died" or "killed"; `told` says more of the latter two.
    """
    path = Path(options.out) / f"{stage.name}.json"
    path.unlink(missing_ok=True)
    started = time.monotonic()
    ended, told = "well", ""
    with tempfile.TemporaryFile("w+b") as said:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", stage.module, options.said()],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            cwd=ROOT,
            env=dict(env),
            start_new_session=True,
        )
        status: int | None = 0
        try:
            status = process.wait(options.limit)
        except subprocess.TimeoutExpired:
            ended, told = "killed", f"over its limit of {options.limit:g} s"
        finally:
            # Its own children too.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            # One that waits in the driver may not end at all.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
        text = _said(said)
    with contextlib.suppress(OSError):  # a full disk: the report is worth more
        (Path(options.out) / f"{stage.name}.log").write_text(text, "utf-8")
    report = partial(stage, options)
    last = (text.strip().splitlines()[-1:] or ["without a word"])[0][:500]
    if status:
        how = f"by signal {-status}" if status < 0 else f"with exit status {status}"
        ended, told = "died", f"{how}: {last}"
    elif ended == "well" and not path.exists():
        ended, told = "died", f"it left no report: {last}"
    elif ended == "well" and not report["parts"]:
        ended, told = "died", f"its report has no part: {last}"
    seconds = None if options.dry else round(time.monotonic() - started, 1)
    return {**report, "ended": ended, "told": told, "seconds": seconds, "limit": options.limit}


def _said(file: Any) -> str:
    """What a file has, without the middle where it has too much."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    found = file.read(_SAID)
    if size > 2 * _SAID:
        found += b"\n[...]\n"
        file.seek(-_SAID, os.SEEK_END)
    return bytes(found + file.read()).decode(errors="replace")
