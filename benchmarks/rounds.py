"""Timing contenders side by side, round by round, and the figures that come of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from benchmarks.peers import EAGER
from benchmarks.pool import Worker, WorkerError

CHECKED = 3
TOLERANCE = {"float32": 2e-4, "float64": 1e-9}
"""How far the first losses may be from ours: rounding, which Adam's first steps make larger."""
AT_A_TIME = 2  # workers that start side by side


@dataclass
class Measured:
    """The seconds of a step in each round, by contender, and who was left out and why."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    info: dict[str, dict[str, Any]] = field(default_factory=dict)
    losses: dict[str, list[float]] = field(default_factory=dict)


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Median, quartiles and minimum."""
    low, middle, high = quartiles(seconds)
    return {"median": middle, "q1": low, "q3": high, "min": min(seconds)}


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The first quartile, the median and the third quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median over rounds of one contender's time over another's in the same round."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def together(jobs: Iterable[Callable[[], None]]) -> None:
    """Run jobs a few at a time; raise what the first failing one raises."""
    with ThreadPoolExecutor(AT_A_TIME) as threads:
        for done in [threads.submit(job) for job in jobs]:
            done.result()


def differing(losses: Sequence[float], reference: Sequence[float], tolerance: float) -> bool:
    """Whether the first losses of a contender differ from ours by more than rounding."""
    if len(losses) == 1 and len(reference) > 1:  # the mean, all that `fit` tells
        reference = [statistics.fmean(reference)]
    return len(losses) != len(reference) or any(
        not abs(a - b) <= tolerance * abs(b) for a, b in zip(losses, reference, strict=True)
    )


def measure(
    names: Sequence[str],
    record: dict[str, Any],
    *,
    device: str,
    rounds: int,
    seconds: float,
    workers: dict[str, Worker] | None = None,
    reference: str = EAGER,
    tolerance: float | None = None,
) -> Measured:
    """Time these contenders on one workload.

    Every round times every contender for about `seconds`, in an order that turns from round to
    round. `workers`, where given, are used and kept; else each is started here and ended.
    A peer whose first losses are not the reference's is left out, and said so. Raises WorkerError
    where a contender fails, or where that is so of one of our own ways.
    """
    found = Measured()
    with ExitStack() as stack:
        if workers is None:
            workers = {name: stack.enter_context(Worker(name)) for name in names}
        present = {name: workers[name] for name in names}
        for worker in present.values():
            worker.go_on()

        def build(name: str) -> None:
            answer = present[name].ask("build", work=record, device=device)
            if "unfit" in answer:
                found.left_out[name] = answer["unfit"]
            else:
                found.losses[name] = present[name].ask("losses", count=CHECKED)["losses"]
            present[name].pause()

        together(lambda name=name: build(name) for name in names)  # type: ignore[misc]
        found.left_out |= compare(found.losses, reference, tolerance or TOLERANCE[record["dtype"]])
        runs = [name for name in names if name not in found.left_out]
        for name in runs:
            present[name].go_on()
            found.info[name] = present[name].ask("calibrate")["info"]
            present[name].pause()
        found.seconds = {name: [] for name in runs}
        for turn in range(rounds):
            start = turn % len(runs)
            for name in (*runs[start:], *runs[:start]):
                present[name].go_on()
                answer = present[name].ask("time", seconds=seconds)
                present[name].pause()
                found.seconds[name].append(answer["seconds"])
    return found


def compare(losses: dict[str, list[float]], reference: str, tolerance: float) -> dict[str, str]:
    """The peers, with what to say of them, whose first losses are not the reference's.

    Raises WorkerError where that is so of one of our own ways.
    """
    expected = losses.get(reference, [])
    odd = {}
    for name, values in losses.items():
        if expected and values and differing(values, expected, tolerance):
            odd[name] = (
                f"{name} computes something else: its first losses (or their mean) are {values}, "
                f"those of {reference} {expected}"
            )
            if name.startswith("gradnet"):
                raise WorkerError(odd[name])
    return odd
