"""The suite `import`: how long an import takes in a fresh process, and the memory it holds."""

from __future__ import annotations

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
        elif name != BARE and not peers.installed(name.partition(".")[0]):
            out[name] = f"{name} is not installed"
        elif name == BARE or options.wants(name):
            names.append(name)
    options.say(f"import {', '.join(names)}")
    # Compiles what is not yet, and reads the files once; its time is not measured.
    most = {name: held(name) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(options.rounds or ROUNDS):
        for name in names:
            seconds[name].append(once(name))
    rows: dict[str, Any] = {}
    for name in names:
        over = [a - b for a, b in zip(seconds[name], seconds[BARE], strict=True)]
        rows[name] = {
            **rounds.summary(seconds[name]),
            "rounds": seconds[name],
            "over_bare": statistics.median(over),
            "bytes_over_bare": most[name] - most[BARE],
        }
        if "numpy" in names:
            rows[name]["over_numpy"] = rounds.ratio(seconds[name], seconds["numpy"])
    return {"left_out": out, "modules": rows}


def command(code: str) -> list[str]:
    """A fresh interpreter that runs this."""
    return [sys.executable, "-P", "-W", "ignore", "-c", code]


def once(name: str) -> float:
    """The seconds of a fresh process."""
    begun = time.perf_counter()
    subprocess.run(command(CODE[name]), env=environment(), check=True)
    return time.perf_counter() - begun


def held(name: str) -> int:
    """The most bytes that a fresh process has held by the end."""
    code = f"{CODE[name]}\nfrom benchmarks.resident import most\nprint(most())"
    done = subprocess.run(
        command(code), env=environment(), check=True, capture_output=True, text=True
    )
    return int(done.stdout)


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
