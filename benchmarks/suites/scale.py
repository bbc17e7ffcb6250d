"""The suite `scale`: what a step costs as its batch, width, depth or the data's rows grow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from benchmarks import peers, rounds, text
from benchmarks.pool import Worker
from benchmarks.suites import Options
from benchmarks.workloads import Workload

AXES: dict[str, tuple[int, ...]] = {
    "batch": (1, 4, 16, 64, 256, 1024, 4096),
    "width": (16, 64, 256, 1024, 2048),
    "depth": (1, 2, 4, 8, 16),
    "rows": (1_000, 4_000, 16_000, 64_000),
}
PARTS = tuple(AXES)
CONTENDERS = (
    *(peers.FLOOR, peers.EAGER, peers.CAPTURED, peers.FIT),
    *("torch-fused", "jax-jit", "jax-scan"),
)
ROUNDS = 3
SECONDS = 0.08
INPUTS, CLASSES, WIDTH, BATCH = 256, 10, 256, 128
FEW_BYTES = 64 << 20  # of prepared batches, except where their number is what grows


def workload(axis: str, value: int) -> Workload:
    """A network of two hidden layers of 256 units, 128 rows a step, but for what grows."""
    width = value if axis == "width" else WIDTH
    depth = value if axis == "depth" else 2
    batch = value if axis == "batch" else BATCH
    sizes = (INPUTS, *(width,) * depth, CLASSES)
    most = max(1, FEW_BYTES // (batch * INPUTS * 4))
    batches = -(-value // BATCH) if axis == "rows" else min(16, most)
    return Workload(f"{axis}-{value}", sizes, batch, batches=batches)


def points(options: Options) -> Iterator[tuple[str, int]]:
    """The axes and values that are wanted."""
    for axis, values in AXES.items():
        if options.wants(axis):
            for value in values:
                yield axis, value


def run(options: Options) -> dict[str, Any]:
    """The times of the contenders at every point, on the way along each axis."""
    names, out = peers.chosen(options.peers, CONTENDERS)
    found: dict[str, Any] = {"left_out": out, "axes": {}}
    for axis, value in points(options):
        work = workload(axis, value)
        options.say(f"scale {axis} {value}")
        with ExitStack() as stack:
            workers = {name: stack.enter_context(Worker(name)) for name in names}
            measured = rounds.measure(
                names,
                work.record(),
                device=options.device,
                rounds=options.rounds or ROUNDS,
                seconds=min(options.seconds, SECONDS),
                workers=workers,
                tolerance=1e-2,  # deep and wide networks make rounding larger
            )
        flops, moved = work.cost()
        found["axes"].setdefault(axis, {})[str(value)] = {
            "workload": work.record(),
            "flops": flops,
            "bytes": moved,
            "contenders": {name: rounds.summary(s) for name, s in measured.seconds.items()},
        }
        options.keep(found)
    return found


def table(found: dict[str, Any]) -> str:
    """A table for each axis: medians of a step."""
    shown = []
    for axis, part in found["axes"].items():
        seen = [n for n in CONTENDERS if any(n in p["contenders"] for p in part.values())]
        rows = [
            [
                value,
                *(text.seconds(point["contenders"].get(n, {}).get("median")) for n in seen),
            ]
            for value, point in part.items()
        ]
        shown.append(text.table([axis, *seen], rows))
    return "\n\n".join(shown)
