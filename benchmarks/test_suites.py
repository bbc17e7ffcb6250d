"""The suites `step` and `ops` for pytest-benchmark, made from the same definitions.

    python -m pytest benchmarks --benchmark-json=FILE
    python -m pytest benchmarks/test_suites.py -k "tiny and torch" --benchmark-autosave
    python -m pytest benchmarks/test_suites.py -k tiny --benchmark-compare

Contenders run in processes of their own, which tell what a step took; that is what a round lasts
here. A round is the mean of many steps, in turns with the floor's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks import peers
from benchmarks.cases import CASES, Case
from benchmarks.peers import CONTENDERS, Entry
from benchmarks.pool import Worker
from benchmarks.rounds import CHECKED, TOLERANCE, compare, ratio
from benchmarks.suites import ops
from benchmarks.workloads import STEPS, Workload

DEVICE = "cpu"
ROUNDS = 7
SECONDS = 0.1


class Clock:
    """A clock that goes on by what a worker says."""

    def __init__(self) -> None:
        self.now = 0.0

    def read(self) -> float:
        return self.now


CLOCK = Clock()


def need(entry: Entry) -> None:
    """Skip where a contender is not installed."""
    if not peers.installed(entry.package):
        pytest.skip(f"{entry.package} is not installed")


def build(worker: Worker, work: Any) -> None:
    """Make a worker ready for its turns; skip where it cannot take part."""
    answer = worker.ask("build", work=work.record(), device=DEVICE)
    if "unfit" in answer:
        pytest.skip(answer["unfit"])


def turns(benchmark: Any, worker: Worker, floor: Worker | None, rounds: int, seconds: float) -> Any:
    """Time a worker for some rounds, each after the floor: the seconds of both in each round."""
    own: list[float] = []
    below: list[float] = []

    def setup() -> None:
        if floor is not None:
            floor.go_on()
            below.append(floor.ask("time", seconds=seconds)["seconds"])
            floor.pause()

    def turn() -> None:
        own.append(worker.ask("time", seconds=seconds)["seconds"])
        CLOCK.now += own[-1]

    benchmark.pedantic(turn, setup=setup, rounds=rounds, iterations=1)
    return own, below


@pytest.fixture(scope="module")
def workload(request: pytest.FixtureRequest) -> Workload:
    return STEPS[request.param]


@pytest.fixture(scope="module")
def floor(workload: Workload) -> Iterator[Worker]:
    with Worker(peers.FLOOR) as worker:
        build(worker, workload)
        worker.ask("calibrate")
        worker.pause()
        yield worker


@pytest.fixture(scope="module")
def losses(workload: Workload) -> list[float]:
    """Our first losses, which all others must have."""
    with Worker(peers.EAGER) as worker:
        build(worker, workload)
        found: list[float] = worker.ask("losses", count=CHECKED)["losses"]
        return found


@pytest.mark.benchmark(timer=CLOCK.read)
@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("workload", STEPS, indirect=True, ids=str)
def test_step(
    benchmark: Any, workload: Workload, floor: Worker, losses: list[float], contender: str
) -> None:
    entry = CONTENDERS[contender]
    need(entry)
    benchmark.group = f"step {workload.name}: {workload.title}"
    with Worker(contender) as worker:
        build(worker, workload)
        first = worker.ask("losses", count=CHECKED)["losses"]
        first_losses = {contender: first, "reference": losses}
        odd = compare(first_losses, "reference", TOLERANCE[workload.dtype])
        if odd:
            pytest.skip(odd[contender])
        info = worker.ask("calibrate")["info"]
        own, below = turns(benchmark, worker, floor, ROUNDS, SECONDS)
    flops, moved = workload.cost()
    benchmark.extra_info.update(
        contender=contender,
        family=entry.family,
        flops=flops,
        bytes=moved,
        over_floor=ratio(own, below),
        **info,
    )


@pytest.fixture(scope="module")
def workers() -> Iterator[dict[str, Worker]]:
    """Workers of `ops`, started when they are needed."""
    found: dict[str, Worker] = {}
    yield found
    for worker in found.values():
        worker.close()


@pytest.mark.benchmark(timer=CLOCK.read)
@pytest.mark.parametrize("contender", [n for n in ops.CONTENDERS if n != ops.ARITHMETIC])
@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.name)
def test_op(benchmark: Any, case: Case, contender: str, workers: dict[str, Worker]) -> None:
    need(ops.CONTENDERS[contender])
    benchmark.group = f"ops {case.name}"
    for name in (ops.MEMORY, ops.ARITHMETIC, contender):
        if name not in workers:
            workers[name] = ops.start(name)
        workers[name].go_on()
        build(workers[name], case)
        workers[name].ask("calibrate")
        workers[name].pause()
    worker = workers[contender]
    worker.go_on()
    own, _ = turns(benchmark, worker, None, ops.ROUNDS, ops.SECONDS)
    worker.pause()
    seconds = {contender: own}
    for name in (ops.MEMORY, ops.ARITHMETIC):
        workers[name].go_on()
        seconds[name] = [workers[name].ask("time", seconds=ops.SECONDS)["seconds"] for _ in own]
        workers[name].pause()
    flops, moved = case.cost()
    found = ops.ceilings(flops, moved, seconds)
    benchmark.extra_info.update(
        contender=contender,
        flops=flops,
        bytes=moved,
        bound=found["bound"],
        of_ceiling=found["contenders"][contender].get("of_ceiling", 1.0),
    )
