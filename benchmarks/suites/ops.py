"""The suite `ops`: single operations against what memory and arithmetic of the machine allow."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from benchmarks import peers, rounds, text
from benchmarks.cases import CASES
from benchmarks.peers import Entry
from benchmarks.peers.ops_numpy import PRODUCT
from benchmarks.pool import Worker
from benchmarks.suites import Options

PARTS = tuple(CASES)
ROUNDS = 5
SECONDS = 0.04
TOLERANCE = 1e-3

OURS, MEMORY, ARITHMETIC = "gradnet", "memory", "arithmetic"
CONTENDERS = {
    MEMORY: Entry("ops_numpy", "Memory", "floor", "numpy", "a copy of as many bytes"),
    ARITHMETIC: Entry("ops_numpy", "Arithmetic", "floor", "numpy", "a large matrix product"),
    OURS: Entry("ops_ours", "Gradnet", peers.OURS, "gradnet", "gradnet"),
    "numpy": Entry("ops_numpy", "NumPy", "numpy", "numpy", "NumPy"),
    "torch": Entry("ops_torch", "Torch", "torch", "torch", "PyTorch"),
    "torch-compile": Entry("ops_torch", "Compiled", "torch", "torch", "PyTorch, compiled"),
    "jax": Entry("ops_jax", "Jax", "jax", "jax", "JAX, jitted"),
}


def start(name: str) -> Worker:
    """A worker of this suite."""
    entry = CONTENDERS[name]
    return Worker(name, f"benchmarks.peers.{entry.module}:{entry.kind}")


def run(options: Options) -> dict[str, Any]:
    """The times of each operation, and the fraction of its ceiling that each contender reaches."""
    names, out = peers.chosen(options.peers, CONTENDERS, CONTENDERS)
    found: dict[str, Any] = {"left_out": out, "cases": {}}
    with ExitStack() as stack:
        workers = {name: stack.enter_context(start(name)) for name in names}
        for name, case in CASES.items():
            if not options.wants(name):
                continue
            options.say(f"ops {name}")
            measured = rounds.measure(
                names,
                case.record(),
                device=options.device,
                rounds=options.rounds or ROUNDS,
                seconds=min(options.seconds, SECONDS),
                workers=workers,
                reference=OURS,
                tolerance=TOLERANCE,
            )
            flops, moved = case.cost()
            found["cases"][name] = {
                "case": case.record(),
                "flops": flops,
                "bytes": moved,
                "left_out": measured.left_out,
                **ceilings(flops, moved, measured.seconds),
            }
            options.keep(found)
    return found


def ceilings(flops: float, moved: float, seconds: dict[str, list[float]]) -> dict[str, Any]:
    """What bounds an operation, and each contender's median with its fraction of that bound.

    The least time is the longer of two: the bytes at the speed of a copy, the operations at that
    of a large product, both measured in the same rounds.
    """
    peak = 2.0 * PRODUCT**3
    least = {
        MEMORY: seconds.get(MEMORY),
        ARITHMETIC: [s * flops / peak for s in seconds[ARITHMETIC]]
        if ARITHMETIC in seconds
        else None,
    }
    medians = {k: rounds.summary(v)["median"] for k, v in least.items() if v is not None}
    bound = max(medians, key=medians.__getitem__) if medians else None
    rows = {}
    for name, values in seconds.items():
        rows[name] = {**rounds.summary(values), "rounds": values}
        if bound is not None and name not in (MEMORY, ARITHMETIC):
            limit = least[bound]
            assert limit is not None
            rows[name]["of_ceiling"] = rounds.ratio(limit, values)
    return {"bound": bound, "contenders": rows}


def table(found: dict[str, Any]) -> str:
    """Each operation: its bound, our time, and the fraction of the bound of ours and the peers'."""
    shown = [name for name in CONTENDERS if name not in (MEMORY, ARITHMETIC, OURS)]
    rows = []
    for name, part in found["cases"].items():
        contenders = part["contenders"]
        ours = contenders[OURS]
        others = {k: contenders[k]["median"] for k in shown if k in contenders}
        best = min(others, key=others.__getitem__) if others else None
        rows.append(
            [
                name,
                part["bound"] or "-",
                text.seconds(ours["median"]),
                text.percent(ours.get("of_ceiling")),
                *(text.percent(contenders.get(k, {}).get("of_ceiling")) for k in shown),
                f"{best} {text.times(others[best] / ours['median'])}" if best else "-",
            ]
        )
    header = ["op", "bound by", "ours", "of the ceiling", *shown, "best peer, ours faster"]
    return text.table(header, rows)
