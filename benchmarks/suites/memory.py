"""The suite `memory`: the most that a training step holds beside its data and its libraries."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import peers, text
from benchmarks.pool import Worker
from benchmarks.suites import Options
from benchmarks.workloads import STEPS, Workload

PARTS = tuple(STEPS)
STEPS_TAKEN = 3
CONTENDERS = tuple(name for name in peers.CONTENDERS if name != peers.FLOOR)
STRICT = ("big", "wide")
"""Where ours must be below PyTorch's, not only no more."""


def run(options: Options) -> dict[str, Any]:
    """Each contender in a fresh process: its peak over what it held with its data."""
    names, out = peers.chosen(options.peers, CONTENDERS)
    found: dict[str, Any] = {"left_out": out, "workloads": {}}
    for name, workload in STEPS.items():
        if not options.wants(name):
            continue
        options.say(f"memory {name}")
        rows, unfit = {}, {}
        for contender in names:
            with Worker(contender) as worker:
                answer = worker.ask(
                    "memory", work=workload.record(), device=options.device, steps=STEPS_TAKEN
                )
            if "unfit" in answer:
                unfit[contender] = answer["unfit"]
            else:
                rows[contender] = answer
        found["workloads"][name] = {
            "state_bytes": state(workload),
            "left_out": unfit,
            "contenders": rows,
            "verdict": verdict(name, rows),
        }
        options.keep(found)
    return found


def state(workload: Workload) -> int:
    """The bytes that must be there: weights, gradients, moments, and activations for backward."""
    copies = 4 if workload.optimizer == "adam" else 2
    values = copies * workload.parameters + workload.batch * sum(workload.sizes[1:])
    return values * np.dtype(workload.dtype).itemsize


def verdict(workload: str, rows: dict[str, dict[str, Any]]) -> dict[str, bool]:
    """Whether each mode of ours holds no more than the thriftiest mode of PyTorch."""
    torch = [r["step"] for name, r in rows.items() if name.startswith("torch")]
    if not torch:
        return {}
    least = min(torch)
    return {
        name: r["step"] < least if workload in STRICT else r["step"] <= least
        for name, r in rows.items()
        if peers.CONTENDERS[name].family == peers.OURS
    }


def table(found: dict[str, Any]) -> str:
    """Megabytes in a step, and in brackets until the first steps were done, compiling included."""
    seen = [
        name
        for name in CONTENDERS
        if any(name in part["contenders"] for part in found["workloads"].values())
    ]
    rows = []
    for name, part in found["workloads"].items():
        cells = [name, text.megabytes(part["state_bytes"])]
        for contender in seen:
            r = part["contenders"].get(contender)
            cells.append(
                "-" if r is None else f"{text.megabytes(r['step'])} ({text.megabytes(r['first'])})"
            )
        judged = part["verdict"].values()
        rows.append([*cells, "" if not judged else "passes" if all(judged) else "MISSES"])
    return text.table(["MB in a step (until its first)", "needed", *seen, ""], rows)
