"""The stage `speed`: training steps, ours and the peers', and chains of elementwise work.

Each library is a process of its own, one after another: `python -m benchmarks.gpu.race`. What it
has measured is in the report as soon as it is known.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gpu.device import ROOT, Bench
from benchmarks.gpu.notes import DONE, FAILED, Notebook, NotThere, main
from benchmarks.gpu.races import FAMILIES, Race
from benchmarks.workloads import Workload

TOLERANCE = {"float32": 1e-4, "tf32": 2e-3, "bfloat16": 2e-2, "float16": 5e-3, "float64": 1e-9}


def ceilings(out: str) -> tuple[dict[str, float | None], float | None]:
    """Flops per second by precision, and bytes per second, as the probe has measured them."""
    try:
        parts = json.loads((Path(out) / "probe.json").read_text("utf-8"))["parts"]
        products = {p: row["flops_per_second"] for p, row in parts["products"]["found"].items()}
        return products, parts["copies"]["found"]["bytes_per_second"]["copy"]
    except (OSError, ValueError, KeyError):
        return {}, None


class Results:
    """The contenders of all races, and what they come to."""

    def __init__(self, notes: Notebook) -> None:
        self.notes = notes
        self.products, _ = ceilings(notes.options.out)
        self.found: dict[str, dict[str, Any]] = {}

    def add(self, line: dict[str, Any]) -> None:
        """A line of a library's process."""
        race = Race(Workload.of(line["work"]), line["precision"])
        entry = self.found.setdefault(
            race.name,
            {
                "workload": line["work"],
                "precision": race.precision,
                "flops_of_products": race.flops,
                "contenders": {},
            },
        )
        row = line["row"]
        if "median" in row:
            ceiling, median = self.products.get(race.precision), row["median"]
            known = ceiling and median
            row["of_product_ceiling"] = race.flops / median / ceiling if known else None
        if "losses" in row:
            # Later losses tell little: Adam makes much of a rounding in wide networks.
            right = entry.setdefault("first_loss", row["losses"][0])
            row["first_loss_apart"] = abs(row["losses"][0] - right) / abs(right)
            if not row["first_loss_apart"] <= TOLERANCE[race.precision]:
                row["error"] = f"its first loss is {row['losses'][0]}, not {right}"
        entry["contenders"][line["contender"]] = row
        entry["verdict"] = verdict(entry["contenders"])
        wrong = [name for name, one in entry["contenders"].items() if "error" in one]
        reason = "; ".join(f"{name}: {entry['contenders'][name]['error']}" for name in wrong)
        self.notes.note(race.name, FAILED if wrong else DONE, reason, entry)


def verdict(contenders: dict[str, Any]) -> dict[str, Any]:
    """The best of ours against the best of the peers."""
    best: dict[bool, tuple[float, str]] = {}
    for name, row in contenders.items():
        if row.get("median") and "error" not in row:
            ours = name.startswith("gradnet")
            best[ours] = min(best.get(ours, (float("inf"), "")), (row["median"], name))
    if len(best) < 2:
        return {"times_faster": None}
    return {
        "ours": best[True][1],
        "peer": best[False][1],
        "times_faster": best[False][0] / best[True][0],
    }


def raced(family: str, notes: Notebook, results: Results, seconds: float) -> dict[str, Any]:
    """Run a library's process for so long at most."""
    if seconds < 1:
        raise NotThere("no time was left for it")
    command = [
        *(sys.executable, "-W", "ignore", "-m", "benchmarks.gpu.race", family),
        json.dumps({"dry": notes.options.dry, "seconds": seconds}),
    ]
    # JAX would take most of the device's memory at its start.
    env = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    late = threading.Timer(seconds, process.kill)
    late.start()
    lines = 0
    assert process.stdout is not None
    for text in process.stdout:
        if text.startswith("{"):
            results.add(json.loads(text))
            lines += 1
    status = process.wait()
    late.cancel()
    if status == 3:
        raise NotThere(f"{family} cannot be imported here")
    if status and not lines:
        raise RuntimeError(f"the process of {family} ended with {status} before its first result")
    return {"lines": lines, "exit_status": status, "counts": {"results": lines}}


def chains(bench: Bench, copy: float | None) -> dict[str, Any]:
    """Chains of elementwise ops over a large array: bytes read and written once, over the copy's.

    captured  the chain as gn.capture joins it
    eager     the same, op by op
    """
    import numpy as np

    import gradnet as gn

    count = 1 << 8 if bench.dry else 1 << 26
    found = {}
    with bench.inside():
        x = gn.asarray(np.random.default_rng().standard_normal(count).astype(np.float32))
        y = gn.asarray(np.ones(count, np.float32))

        def chain(x: Any, y: Any) -> Any:
            return gn.nn.gelu(x * y + 0.5) * y

        jobs: dict[str, Callable[[], Any]] = {"eager": lambda: chain(x, y)}
        if hasattr(x.array, "__cuda_array_interface__"):
            taken = gn.capture(chain)
            jobs["captured"] = lambda: taken(x, y)
        with gn.no_grad():
            for name, job in jobs.items():
                seconds = bench.seconds(job)
                rate = seconds and 3 * x.array.nbytes / seconds
                found[name] = {
                    "median": seconds,
                    "bytes": 3 * x.array.nbytes,
                    "of_copy_ceiling": rate / copy if rate and copy else None,
                }
    return found


def run(notes: Notebook) -> None:
    """Ours first, then the peers, each with its share of what time is left."""
    results = Results(notes)
    shares = {"gradnet": 0.35, "torch": 0.65, "jax": 0.9}
    for family in FAMILIES:
        seconds = notes.left * shares[family]
        notes.part(
            f"process of {family}",
            lambda family=family, seconds=seconds: raced(family, notes, results, seconds),
        )

    def chained() -> dict[str, Any]:
        return chains(Bench(notes.options.backend), ceilings(notes.options.out)[1])

    notes.part("chains", chained)


if __name__ == "__main__":
    main("speed", run)
