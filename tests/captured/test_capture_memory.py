"""What captured functions hold: while they are recorded, and between replays."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tracemalloc
import weakref
from pathlib import Path
from typing import Any

import pytest

import gradnet as gn
from benchmarks.workloads import STEPS, Workload
from gradnet.program.plan import Layout


def peak(function: Any, *arguments: Any) -> int:
    """The most bytes of arrays that a call holds beside those there before."""
    gc.collect()
    tracemalloc.start()
    try:
        function(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def step_of(work: Workload) -> Any:
    """A training step of a workload as a user writes it."""
    entropy = work.loss == "cross_entropy"
    model = gn.nn.MLP(
        work.sizes,
        activation=work.activation,
        output="softmax" if entropy else "linear",
        bias=work.bias,
        dtype=work.dtype,
        seed=0,
    )
    optimizer = (gn.optim.Adam if work.optimizer == "adam" else gn.optim.SGD)(
        model.parameters(), lr=work.lr
    )

    def step(x: Any, y: Any) -> Any:
        z = model(x)
        loss = gn.nn.cross_entropy(z, y) if entropy else gn.nn.mse(z, y, reduction="sum")
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


def batch_of(work: Workload) -> tuple[gn.Tensor, gn.Tensor]:
    """A batch of a workload."""
    if work.loss == "cross_entropy":
        y = gn.zeros((work.batch,), dtype=gn.int64)
    else:
        y = gn.zeros((work.batch, work.sizes[-1]), dtype=work.dtype)
    return gn.ones((work.batch, work.sizes[0]), dtype=work.dtype), y


def needed(work: Workload) -> int:
    """The bytes of a step's own arrays that must be there at one time, but for small ones.

    All outputs of hidden layers until backward has used them, and one more: the gradient of the
    layer below, or, in the last layer, of its own output.
    """
    *hidden, last = work.sizes[1:]
    itemsize = 8 if work.dtype == "float64" else 4
    below = [hidden[0], *hidden]
    most = max(
        sum(hidden) + max(hidden[-1], 2 * last),
        *(sum(hidden[: i + 1]) + below[i] for i in range(len(hidden))),
    )
    # Losses, logits and their gradient; the rounding of places.
    return itemsize * work.batch * (most + 2 * last + 2) + 64 * 8


@pytest.mark.parametrize("name", ["tiny", "tabular", "mnist", "mnist3", "lecture"])
def test_a_step_is_planned_into_little_more_than_it_must_hold(name: str) -> None:
    work = STEPS[name]
    with gn.backends.use("numpy"):
        step = gn.capture(step_of(work))
        step(*batch_of(work))
    (recording,) = step._known.values()
    assert Layout(recording.program.calls).nbytes <= needed(work)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_products_of_a_step_end_where_they_are_for(backend: str) -> None:
    if backend not in gn.backends.available():
        pytest.skip(f"the {backend} backend is not here")
    with gn.backends.use(backend):
        step = gn.capture(step_of(STEPS["mnist"]))
        step(*batch_of(STEPS["mnist"]))
    (recording,) = step._known.values()
    calls = recording.program.calls
    assert [call.method for call in calls if call.method in ("cast", "matmul")] == ["matmul"] * 5
    made = [value for call in calls for value in call.writes if value.storage.kind == "temporary"]
    assert made
    assert all(value.whole for value in made)


def test_a_recording_holds_no_more_than_a_plain_run_and_the_plan() -> None:
    with gn.backends.use("numpy"):
        weights = [gn.ones((256, 256)) for _ in range(12)]
        x = gn.ones((1024, 256))

        def forward(x: gn.Tensor) -> gn.Tensor:
            for w in weights:
                x = gn.tanh(x @ w)
            return x.sum()

        plain = peak(forward, x)
        assert plain >= 2 * x.nbytes
        captured = gn.capture(forward)
        assert peak(captured, x) <= plain + x.nbytes // 2
        assert captured.recordings == 1


def test_a_recording_frees_what_backward_frees() -> None:
    with gn.backends.use("numpy"):
        x = gn.ones((256, 512))
        model = gn.nn.MLP((512, *[512] * 8, 10), seed=0)
        parameters = list(model.parameters())
        for parameter in parameters[2:]:
            parameter.requires_grad = False

        def gradient(x: gn.Tensor) -> gn.Tensor:
            model(x).sum().backward()
            g = parameters[0].grad
            parameters[0].grad = parameters[1].grad = None
            return g

        plain, captured = peak(gradient, x), peak(gn.capture(gradient), x)
    assert plain >= 8 * x.nbytes
    assert captured <= plain + 4 * x.nbytes


def test_the_arguments_of_the_recorded_call_are_not_held() -> None:
    with gn.backends.use("numpy"):
        step = gn.capture(step_of(STEPS["tiny"]))
        batch = batch_of(STEPS["tiny"])
        arrays = [weakref.ref(x.array) for x in batch]
        step(*batch)
        del batch
        gc.collect()
        assert [array() for array in arrays] == [None, None]
        step(*batch_of(STEPS["tiny"]))
        assert step.recordings == 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_holds_a_steps_state_and_plan_and_little_else() -> None:
    program = """
import gradnet as gn
from benchmarks.resident import Peak, field
from captured.test_capture_memory import batch_of, needed, step_of
from benchmarks.workloads import Workload

def steps(work):
    step, batch = gn.capture(step_of(work)), batch_of(work)
    for _ in range(3):
        step(*batch)
    return step, batch

# What is loaded, compiled and packed into for products is not counted.
steps(Workload("small", (512, 512, 512, 10), 256))
peak = Peak()
work = Workload("large", (1024, 2048, 2048, 10), 256)
kept = steps(work)
state = 4 * 4 * work.parameters
print(field("VmRSS") - peak.baseline - state - needed(work), peak.bytes() - state)
"""
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root), str(root / "tests"), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    beyond, most = map(int, run.stdout.split())
    # A copy of all weights is 25 megabytes.
    assert beyond < 24 << 20
    assert most < 32 << 20
