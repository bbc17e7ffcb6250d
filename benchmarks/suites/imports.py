"""The suite `import`: how long an import takes in a fresh process, and the memory it holds."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks import peers, rounds, text
from benchmarks.pool import environment
from benchmarks.suites import Options

BARE = "python"
CODE = {
    BARE: "pass",
    "numpy": "import numpy",
    "gradnet": "import gradnet",
    "gradnet.nn": "import gradnet.nn, gradnet.optim, gradnet.training",
    "jax": "import jax, jax.numpy",
    "torch": "import torch",
    "sklearn": "from sklearn.neural_network import MLPClassifier",
}
ALWAYS = (BARE, "numpy", "gradnet", "gradnet.nn")
PARTS = tuple(CODE)
ROUNDS = 9
BAR = 1.3


def run(options: Options) -> dict[str, Any]:
    """The seconds and bytes of each import over those of the bare interpreter, round by round."""
    out: dict[str, str] = {}
    names = []
    for name in CODE:
        if name not in ALWAYS and not (options.peers is None or name in options.peers):
            out[name] = "not chosen"
        elif name not in (BARE, *peers.FAMILIES, "gradnet", "gradnet.nn"):
            out[name] = "unknown"
        elif name != BARE and not peers.installed(name.partition(".")[0]):
            out[name] = f"{name} is not installed"
        elif name == BARE or options.wants(name):
            names.append(name)
    options.say(f"import {', '.join(names)}")
    for name in names:  # compiles what is not yet, and reads the files once
        once(name)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    held: dict[str, list[int]] = {name: [] for name in names}
    for _ in range(options.rounds or ROUNDS):
        for name in names:
            took, most = once(name)
            seconds[name].append(took)
            held[name].append(most)
    bare = statistics.median(held[BARE])
    rows: dict[str, Any] = {}
    for name in names:
        over = [a - b for a, b in zip(seconds[name], seconds[BARE], strict=True)]
        rows[name] = {
            **rounds.summary(seconds[name]),
            "rounds": seconds[name],
            "over_bare": statistics.median(over),
            "bytes_over_bare": statistics.median(held[name]) - bare,
        }
        if "numpy" in names:
            rows[name]["over_numpy"] = rounds.ratio(seconds[name], seconds["numpy"])
    return {"left_out": out, "modules": rows}


def once(name: str) -> tuple[float, int]:
    """The seconds of a fresh process, and the most bytes that it held."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-P", "-W", "ignore", "-c", CODE[name]], env=environment()
    )
    if not hasattr(os, "wait4"):
        process.wait()
        return time.perf_counter() - begun, 0
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, CODE[name])
    return seconds, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def table(found: dict[str, Any]) -> str:
    """Seconds, over the bare interpreter and over NumPy, and megabytes."""
    rows = [
        [
            CODE[name] if name != BARE else "the interpreter alone",
            text.seconds(r["median"]),
            text.seconds(r["over_bare"]) if name != BARE else "-",
            text.ratio(r.get("over_numpy")),
            text.megabytes(r["bytes_over_bare"]) if name != BARE else "-",
        ]
        for name, r in found["modules"].items()
    ]
    header = ["fresh process", "seconds", "over the interpreter", "÷ numpy's", "MB over it"]
    shown = text.table(header, rows)
    ours = found["modules"].get("gradnet", {}).get("over_numpy")
    if ours is None:
        return shown
    says = f"import gradnet takes {ours:.2f} times as long as import numpy, at most {BAR}"
    return f"{shown}\n\n{'passes' if ours <= BAR else 'MISSES'}: {says}"
