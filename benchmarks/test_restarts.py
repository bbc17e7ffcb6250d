"""Random restarts side by side: 100 networks as one batched network against a loop of 100 fits.

    pytest benchmarks/test_restarts.py --benchmark-columns=min,median

Each row of the table is a whole training by `learners.Restarts`; `extra_info` has the seconds of
the loop, from a tenth of its fits, and how many times faster the batch is. It should be 10 or more.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

import gradnet as gn

MEMBERS, EPOCHS, BATCH = 100, 20, 32
LOOPED = 10
ROUNDS = 3


@pytest.mark.parametrize(
    ("data", "sizes", "output"),
    [
        ("xor", (2, 4, 1), "sigmoid"),
        ("spirals", (2, 16, 3), "softmax"),
        ("spirals", (2, 16, 16, 3), "softmax"),
    ],
)
def test_restarts(benchmark: Any, data: str, sizes: tuple[int, ...], output: str) -> None:
    """All restarts at once, and in `extra_info` the loop of fits and the ratio."""
    train = gn.data.load(data).split(seed=0).train
    options: dict[str, Any] = {"lr": 0.02, "epochs": EPOCHS, "batch_size": BATCH, "seed": 0}

    def together() -> gn.learners.Restarts:
        restarts = gn.learners.Restarts(sizes, "tanh", output, members=MEMBERS, **options)
        return restarts.fit(train.X, train.y)

    def alone(member: int) -> None:
        model = gn.nn.MLP(sizes, "tanh", output=output, seed=member)
        gn.fit(model, train.X, train.y, progress=False, **options)

    alone(0)
    restarts = benchmark.pedantic(together, rounds=ROUNDS, warmup_rounds=1)
    start = time.perf_counter()
    for member in range(LOOPED):
        alone(member)
    loop = (time.perf_counter() - start) * MEMBERS / LOOPED
    batched = benchmark.stats.stats.min
    benchmark.extra_info.update(
        members=MEMBERS,
        rows=train.X.shape[0],
        loop_seconds=loop,
        batched_seconds=batched,
        loop_over_batched=loop / batched,
        spread=restarts.spread()._asdict(),
    )
    print(f"{data} {sizes}: loop {loop:.2f} s, batched {batched:.2f} s, {loop / batched:.1f} times")
