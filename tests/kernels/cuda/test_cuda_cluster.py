"""Captured training steps that are given to a cluster of blocks, on the device made of NumPy.

The kernel is NumPy there too; what it computes itself is tested in test_cluster_step.py.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.steps import CLASSES, FEATURES, ROWS, batch, cupy, replay_of, training
from gradnet.kernels import cluster_step, cuda_cluster, cuda_cluster_replay
from gradnet.kernels.cluster_step import Training
from gradnet.kernels.cuda_backend import CudaBackend
from gradnet.kernels.cuda_cluster import Step, whole_step
from gradnet.kernels.cuda_cluster_replay import Clustered

import gradnet as gn
from gradnet import backends, nn, optim
from gradnet.errors import DeviceError
from gradnet.numpy_backend import NumpyBackend
from gradnet.program import Program
from gradnet.program.replay import Interpreted

# What a run by the cluster asks of the device: numbers are brought, then all is one launch.
LAUNCHES = ["launch stage", "launch cluster_step"]


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cuda_cluster.SWITCH, raising=False)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cuda_cluster.SWITCH, cuda_cluster.AT_ONCE)


def clustered(captured: Any) -> Clustered:
    found = replay_of(captured)
    assert isinstance(found, Clustered)
    return found


def close(model: nn.Module, other: nn.Module) -> None:
    """The same parameters, but for rounding."""
    for name, x in model.state_dict().items():
        y = other.state_dict()[name].numpy()
        assert np.allclose(x.numpy(), y, rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        ("adam", {}),
        ("sgd", {"activation": "gelu"}),
        ("nadam", {"activation": "tanh"}),
    ],
)
def test_steps_are_the_same(
    graphs: CudaBackend, at_once: None, optimizer: str, options: dict[str, Any]
) -> None:
    model, _, step = training(optimizer, schedule="cosine", **options)
    captured = gn.capture(step)
    losses = []
    for i in range(4):
        x, y = batch(i)
        cupy(graphs).done.clear()
        losses.append(captured(x, y))
        # The first launch makes room for what blocks exchange.
        room = [] if i > 1 else ["cupy.zeros", "allocate"]
        assert i == 0 or cupy(graphs).done == ["allocate", *room, *LAUNCHES]
    found = clustered(captured).step.training
    name = options.get("activation", "relu")
    assert found[:4] == ((FEATURES, 6, CLASSES), ROWS, name, optimizer)
    other, _, plain = training(optimizer, schedule="cosine", **options)
    expected = [plain(*batch(i)) for i in range(4)]
    assert np.allclose([x.item() for x in losses], [x.item() for x in expected], rtol=1e-4)
    close(model, other)


def test_several_steps_in_one_launch(graphs: CudaBackend, at_once: None) -> None:
    """After the first: 16 steps in a launch, then 4, then what is left one by one."""
    model, _, step = training()
    captured = gn.capture(step)
    x, y = batch(0, 23 * ROWS)
    cupy(graphs).done.clear()
    losses = captured.each(x, y, rows=ROWS)
    launches = [one for one in cupy(graphs).done if "launch" in one]
    assert launches[-8:] == LAUNCHES * 4
    other, _, plain = training()
    for i in range(23):
        part = slice(i * ROWS, (i + 1) * ROWS)
        assert np.isclose(plain(x[part], y[part]).item(), losses.numpy()[i], rtol=1e-4)
    close(model, other)


def test_gradients_that_are_left_are_the_last_steps(graphs: CudaBackend, at_once: None) -> None:
    def run(wrap: Callable[[Any], Any]) -> list[Any]:
        model = nn.MLP((FEATURES, 6, CLASSES), output="softmax", seed=0)
        optimizer = optim.Adam(model.parameters(), lr=0.05)

        def step(x: gn.Tensor, y: gn.Tensor) -> gn.Tensor:
            optimizer.zero_grad()
            loss = nn.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        made = wrap(step)
        for i in range(3):
            made(*batch(i))
        assert wrap is not gn.capture or clustered(made)
        return [p.grad.numpy() for p in model.parameters()]

    for found, right in zip(run(gn.capture), run(lambda step: step), strict=True):
        assert np.allclose(found, right, rtol=1e-3, atol=1e-6)
        assert np.abs(right).max() > 0


def test_one_layer_alone(graphs: CudaBackend, at_once: None) -> None:
    model = nn.MLP((FEATURES, CLASSES), output="softmax", seed=0)
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    def step(x: gn.Tensor, y: gn.Tensor) -> gn.Tensor:
        loss = nn.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    captured = gn.capture(step)
    first, second = (captured(*batch(0)).item() for _ in range(2))
    assert second < first
    assert clustered(captured).step.training == Training(
        (FEATURES, CLASSES), ROWS, update="sgd", offsets=(0, 16)
    )


# Which way is taken


def used(cuda: CudaBackend, captured: Any, steps: int) -> list[bool]:
    """Which of some steps the cluster made, all of the first's kind."""
    found = []
    for i in range(steps):
        cupy(cuda).done.clear()
        captured(*batch(i))
        found.append("launch cluster_step" in cupy(cuda).done)
    return found


def test_long_trainings_take_what_is_faster(
    graphs: CudaBackend, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_cluster_replay, "AFTER", 3)
    model, _, step = training()
    captured = gn.capture(step)
    assert used(graphs, captured, 6) == [False, False, False, True, True, True]
    # Trying it out has changed nothing: all steps are as they would have been.
    other, _, plain = training()
    for i in range(6):
        plain(*batch(i))
    close(model, other)
    (kept,) = folder.glob("gradnet_cluster_*.txt")
    assert kept.read_text() == "faster"
    # It is remembered, whatever is measured later.
    kept.write_text("slower")
    again = gn.capture(training()[2])
    assert used(graphs, again, 6) == [False] * 6
    assert clustered(again).faster == {False: False}


def test_a_slower_cluster_is_not_used(graphs: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_cluster_replay, "AFTER", 2)
    took = cycle([1.0, 2.0])
    monkeypatch.setattr(cupy(graphs).cuda, "get_elapsed_time", lambda start, end: next(took))
    captured = gn.capture(training()[2])
    # It is tried out at the third step.
    assert used(graphs, captured, 5) == [False, False, True, False, False]
    assert clustered(captured).faster == {False: False}


def test_a_cluster_that_cannot_be_launched(
    graphs: CudaBackend, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parameters are put back, graphs go on, and nothing is remembered: it may be there later."""
    monkeypatch.setattr(cuda_cluster_replay, "AFTER", 2)

    def refuse(*_: Any) -> None:
        raise DeviceError("no room for a cluster")

    monkeypatch.setattr(cuda_cluster_replay.cluster_step, "give", refuse)
    model, _, step = training()
    assert used(graphs, gn.capture(step), 4) == [False] * 4
    other, _, plain = training()
    for i in range(4):
        plain(*batch(i))
    close(model, other)
    assert not any(folder.iterdir())


@pytest.mark.parametrize(
    ("attribute", "found"),
    [(16, 0), (75, 7), (95, 0), (97, 64)],
    ids=["processors", "capability", "cooperative", "memory"],
)
def test_a_device_that_lacks_something(
    graphs: CudaBackend, at_once: None, attribute: int, found: int
) -> None:
    cupy(graphs).attributes[attribute] = found
    captured = gn.capture(training()[2])
    assert used(graphs, captured, 2) == [False, False]


def test_switched_off(graphs: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cuda_cluster.SWITCH, cuda_cluster.NEVER)
    captured = gn.capture(training()[2])
    captured(*batch(0))
    assert not isinstance(replay_of(captured), Clustered)


# What is left to graphs


class Noting(NumpyBackend):
    """NumPy's backend, which notes whether a captured program is a whole step."""

    def __init__(self) -> None:
        self.steps: list[Step | None] = []

    def compile(self, program: Program) -> Interpreted:
        # On a GPU a loss does not look at its classes.
        calls = [call for call in program.calls if call.method != "check"]
        self.steps.append(whole_step(program.with_calls(calls)))
        return Interpreted(self, program)


def noted(change: Callable[[Any, Any, Any], Any], clip: float = 0.0, **options: Any) -> Step | None:
    """What a step is taken for that has another loss, or more to it."""
    made = Noting()
    with backends.use(made):
        model = nn.MLP((FEATURES, 6, CLASSES), output="softmax", seed=0, **options)
        optimizer = optim.Adam(model.parameters(), lr=0.05)

        def step(x: gn.Tensor, y: gn.Tensor) -> Any:
            loss = change(model, x, y)
            loss = loss if isinstance(loss, tuple) else (loss,)
            loss[0].backward()
            if clip:
                optim.clip_grad_norm(model.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()
            return tuple(one.detach() for one in loss) if len(loss) > 1 else loss[0]

        x, y = batch(0)
        gn.capture(step)(gn.astype(x, options.get("dtype", "float32")), y)
    (found,) = made.steps
    return found


def plain_loss(model: Any, x: Any, y: Any) -> Any:
    return nn.cross_entropy(model(x), y)


def with_logits(model: Any, x: Any, y: Any) -> Any:
    z = model(x)
    return nn.cross_entropy(z, y), z


def squared(model: Any, x: Any, y: Any) -> Any:
    z = model(x)
    return nn.mse(z, gn.zeros_like(z))


def of_both(model: Any, x: Any, y: Any) -> Any:
    return nn.cross_entropy(model(x * 2.0), y)


def frozen(model: Any, x: Any, y: Any) -> Any:
    first, last = model.layers
    return nn.cross_entropy(last(first(x).detach()), y)


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (with_logits, {}),
        (squared, {}),
        (of_both, {}),
        (frozen, {}),
        (lambda m, x, y: nn.cross_entropy(m(x), y, label_smoothing=0.1), {}),
        (lambda m, x, y: nn.cross_entropy(m(x), y, reduction="sum"), {}),
        (lambda m, x, y: nn.cross_entropy(m(x), y) + nn.cross_entropy(m(x), y), {}),
        (plain_loss, {"clip": 1.0}),
        (plain_loss, {"dropout": 0.5}),
        (plain_loss, {"bias": False}),
        (plain_loss, {"norm": "layer"}),
        (plain_loss, {"precision": "bfloat16"}),
        (plain_loss, {"dtype": "float64"}),
        (plain_loss, {"activation": "leaky_relu", "activation_operands": {"alpha": 0.3}}),
    ],
    ids=[
        *("logits too", "squared", "scaled rows", "a frozen layer", "smoothed", "sum", "twice"),
        *("clipped", "dropout", "no bias", "norm", "bfloat16", "float64", "another slope"),
    ],
)
def test_other_steps(change: Any, options: dict[str, Any]) -> None:
    assert noted(change, **options) is None


def test_the_plain_step_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    found = noted(plain_loss)
    assert found is not None
    assert found.training.sizes == (FEATURES, 6, CLASSES)
    monkeypatch.setattr(cluster_step, "refusal", lambda training: "too large")
    assert noted(plain_loss) is None


def test_fit_uses_it(graphs: CudaBackend, at_once: None) -> None:
    x = np.random.default_rng(0).normal(size=(80, FEATURES)).astype(np.float32)

    def fitted() -> nn.Module:
        model = nn.MLP((FEATURES, 6, 2), output="softmax", seed=0)
        gn.fit(model, x, x[:, 0] > 0, epochs=2, batch_size=ROWS, seed=0, capture=True, lr=0.05)
        return model

    cupy(graphs).done.clear()
    model = fitted()
    assert "launch cluster_step" in cupy(graphs).done
    with backends.use("numpy"):
        other = fitted()
    close(model, other)
