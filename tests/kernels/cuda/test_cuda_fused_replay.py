"""Captured steps whose stacks the fused MLP could compute: what is faster is taken, and remembered.

The device is made of NumPy, and so are the kernels. Its clock counts pieces of work unless a test
says what each way takes.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.cublaslt_over_numpy import attach
from fakes.cupy_over_numpy import fake_backend
from fakes.memory import CUDARuntimeError, OutOfMemoryError
from fakes.steps import FEATURES, REPLAY, ROWS, batch, bits, cupy, replay_of
from gradnet.kernels import cuda_graph, cuda_timing, fused_mlp
from gradnet.kernels.cuda_backend import CudaBackend
from gradnet.kernels.cuda_fused_replay import Undecided
from gradnet.kernels.cuda_graph import Graphs

import gradnet as gn
from gradnet import backends, nn, optim
from gradnet.errors import DeviceError

Ways = dict[bool, list[bytes]]


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(fused_mlp.SWITCH, raising=False)


def training(width: int = 16) -> tuple[nn.MLP, Any]:
    """A model, and a step of training it in bfloat16."""
    gn.random.seed(3)
    sizes = (FEATURES, width, width, 3)
    model = nn.MLP(sizes, output="softmax", seed=0, precision="bfloat16")
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    falling = optim.schedule("cosine", optimizer, total_steps=20)

    def step(x: gn.Tensor, y: gn.Tensor) -> gn.Tensor:
        loss = nn.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        falling.step()
        return loss

    return model, step


def trained(steps: int = 3) -> tuple[list[bytes], Graphs, Any]:
    """What is left of some captured steps, to the bit; the way that made them; and the function."""
    model, step = training()
    captured = gn.capture(step)
    losses = [captured(*batch(i)) for i in range(steps)]
    return bits(model, losses), replay_of(captured), captured


def fuses(replay: Graphs) -> bool:
    return any("fused_mlp" in call.method for call in replay._program.calls)


def timed(captured: Any) -> bool:
    return isinstance(captured._last._replay, Undecided)


@pytest.fixture(scope="module")
def switched() -> Ways:
    """What is left of the same steps with the fused MLP, and without it."""
    found = {}
    for switch in ("0", "1"):
        cuda = fake_backend()
        attach(cuda)
        with pytest.MonkeyPatch.context() as patch, backends.use(cuda):
            patch.setattr(cuda_graph, "paired", lambda program: program)
            patch.setenv(fused_mlp.SWITCH, switch)
            found[switch == "1"], replay, captured = trained()
        assert fuses(replay) is (switch == "1")
        assert not timed(captured)
    assert found[False] != found[True]
    return found


def clock(cuda: CudaBackend, monkeypatch: pytest.MonkeyPatch, *took: float) -> Iterator[float]:
    """Have events say that jobs take so long, in turns: the fused MLP, then what is without it."""
    times = cycle(took)
    monkeypatch.setattr(cupy(cuda).cuda, "get_elapsed_time", lambda start, end: next(times))
    return times


@pytest.mark.parametrize("expects", [True, False], ids=["expected", "not expected"])
@pytest.mark.parametrize(("took", "faster"), [((2.0, 3.0), True), ((3.0, 2.0), False)])
def test_the_faster_way_makes_every_step(
    graphs: CudaBackend,
    switched: Ways,
    monkeypatch: pytest.MonkeyPatch,
    took: tuple[float, float],
    faster: bool,
    expects: bool,
) -> None:
    """Also the first, as if there had been no other way: to the bit, optimizer's state included."""
    monkeypatch.setattr(fused_mlp, "expected", lambda *_: expects)
    clock(graphs, monkeypatch, *(took if expects else took[::-1]))
    found, replay, captured = trained()
    assert found == switched[faster]
    assert fuses(replay) is faster
    # Nothing is timed from there on, and nothing waits.
    x, y = batch(9)
    cupy(graphs).done.clear()
    captured(x, y)
    assert cupy(graphs).done == REPLAY


def test_a_median_of_rounds_decides(graphs: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round that something else on the device has disturbed changes nothing."""
    clock(graphs, monkeypatch, 1.0, 2.0, 9.0, 2.0, 1.0, 2.0)
    assert fuses(trained(1)[1])


def test_several_steps_at_once(
    graphs: CudaBackend, switched: Ways, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> list[bytes]:
        model, step = training()
        losses = gn.capture(step).each(*batch(0, 9 * ROWS), rows=ROWS)
        return bits(model, [losses])

    clock(graphs, monkeypatch, 3.0, 2.0)
    found = run()
    monkeypatch.setenv(fused_mlp.SWITCH, "0")
    assert found == run()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("faster", [True, False])
def test_a_fit_with_its_counters(
    graphs: CudaBackend, monkeypatch: pytest.MonkeyPatch, precision: str, faster: bool
) -> None:
    """float16 has a scale of the loss, and the number of steps that it was right for."""
    x = np.random.default_rng(0).normal(size=(24, FEATURES)).astype(np.float32)

    def fitted() -> list[bytes]:
        model = nn.MLP((FEATURES, 16, 2), output="softmax", seed=0)
        history = gn.fit(
            *(model, x * 1e3, x[:, 0] > 0),
            epochs=2,
            batch_size=8,
            precision=precision,
            capture=True,
            seed=1,
        )
        return [*bits(model, []), repr(history["loss"]).encode()]

    clock(graphs, monkeypatch, *((1.0, 2.0) if faster else (2.0, 1.0)))
    found = fitted()
    monkeypatch.setenv(fused_mlp.SWITCH, str(int(faster)))
    assert found == fitted()


def test_indices_out_of_range_are_told_once(graphs: CudaBackend) -> None:
    """Those of before too; and those that only runs for the clock have met, not at all."""
    table = gn.asarray(np.zeros((4, FEATURES), np.float32))
    model = training()[0]

    @gn.capture
    def predict(rows: gn.Tensor) -> gn.Tensor:
        with gn.no_grad():
            return model(table[rows])

    table[gn.asarray([7])]
    y = predict(gn.asarray([0, 1]))
    with pytest.raises(IndexError, match="index 7 "):
        y.numpy()
    assert y.numpy().shape == (2, 3)
    with pytest.raises(IndexError, match="index 5 "):
        predict(gn.asarray([0, 5])).numpy()


def test_checks_are_told_once(graphs: CudaBackend) -> None:
    step = gn.capture(training()[1])
    x, _ = batch(0)
    loss = step(x, gn.asarray([7] * ROWS))
    with pytest.raises(ValueError, match="7"):
        loss.numpy()
    step(*batch(1)).numpy()


# What is remembered


def answers(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("faster", [True, False])
def test_answers_are_kept(
    graphs: CudaBackend, folder: Path, monkeypatch: pytest.MonkeyPatch, faster: bool
) -> None:
    took = (1.0, 2.0) if faster else (2.0, 1.0)
    clock(graphs, monkeypatch, *took)
    first, _, captured = trained()
    assert timed(captured)
    ((path, said),) = answers(folder).items()
    assert path.name.startswith("gradnet_fused_")
    assert said == (b"faster" if faster else b"slower")
    # The next one knows, whatever would be measured now.
    clock(graphs, monkeypatch, *took[::-1])
    again, replay, captured = trained()
    assert again == first
    assert fuses(replay) is faster
    assert not timed(captured)


def test_what_answers_are_for(graphs: CudaBackend, folder: Path) -> None:
    """A network, up to a power of two of rows, on a device and its driver."""

    def asked(width: int, rows: int) -> bool:
        captured = gn.capture(training(width)[1])
        captured(*batch(0, rows))
        return timed(captured)

    assert [asked(16, rows) for rows in (5, 8, 9, 4)] == [True, False, True, True]
    assert asked(32, 8)
    cupy(graphs).driver = 13010
    assert asked(16, 8)
    assert len(answers(folder)) == 5


@pytest.mark.parametrize("kept", [b"fast", b"\xff\xfe", None], ids=repr)
def test_an_answer_that_cannot_be_read(
    graphs: CudaBackend, folder: Path, switched: Ways, kept: bytes | None
) -> None:
    trained(1)
    (path,) = answers(folder)
    path.unlink()
    path.mkdir() if kept is None else path.write_bytes(kept)
    found, _, captured = trained()
    assert timed(captured)
    assert found == switched[True]
    assert kept is None or path.read_bytes() == b"faster"


# Ways that cannot be taken


def test_a_kernel_that_cannot_be_compiled(
    graphs: CudaBackend,
    folder: Path,
    switched: Ways,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*_: Any) -> None:
        raise DeviceError("NVRTC cannot compile it")

    monkeypatch.setattr(fused_mlp, "backward", refuse)
    with caplog.at_level(logging.INFO, "gradnet"):
        found, replay, _ = trained()
    assert found == switched[False]
    assert not fuses(replay)
    assert "cannot be made with the fused MLP: NVRTC cannot compile it" in caplog.text
    assert not answers(folder)


@pytest.mark.parametrize("switch", ["", "1"])
def test_a_device_before_bfloat16(
    graphs: CudaBackend, switched: Ways, monkeypatch: pytest.MonkeyPatch, switch: str
) -> None:
    monkeypatch.setenv(fused_mlp.SWITCH, switch)
    cupy(graphs).attributes[75] = 7
    found, _, captured = trained()
    assert found == switched[False]
    assert not timed(captured)


def failing(function: Callable[..., Any], error: Exception, at: int) -> Callable[..., Any]:
    """A function that raises at one of its calls."""
    calls = iter(range(1 << 30))

    def call(*arguments: Any, **options: Any) -> Any:
        if next(calls) == at:
            raise error
        return function(*arguments, **options)

    return call


@pytest.mark.parametrize("at", [0, 1], ids=["first", "second"])
def test_no_room_for_one_of_both(
    graphs: CudaBackend, folder: Path, switched: Ways, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    error = OutOfMemoryError("no room for another arena")
    monkeypatch.setattr(Graphs, "prepare", failing(Graphs.prepare, error, at))
    found, replay, _ = trained()
    assert found == switched[at == 1]
    assert fuses(replay) is (at == 1)
    assert not answers(folder)


@pytest.mark.parametrize("at", range(3))
def test_no_room_to_save_what_runs_change(
    graphs: CudaBackend, folder: Path, switched: Ways, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    error = OutOfMemoryError("no room for copies")
    monkeypatch.setattr(cuda_timing, "undone", failing(cuda_timing.undone, error, at))
    assert trained()[0] == switched[at != 0]
    assert not answers(folder)


def test_a_device_that_has_no_events(
    graphs: CudaBackend, folder: Path, switched: Ways, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elapsed(*_: Any) -> float:
        raise CUDARuntimeError("cudaErrorNotSupported: operation not supported")

    monkeypatch.setattr(cupy(graphs).cuda, "get_elapsed_time", elapsed)
    for expects in (True, False):
        monkeypatch.setattr(fused_mlp, "expected", lambda *_, way=expects: way)
        assert trained()[0] == switched[expects]
    assert not answers(folder)


def test_nothing_can_be_made(graphs: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step says why, and the next one tries again."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise DeviceError("no kernels at all")

    model, step = training()
    captured = gn.capture(step)
    before = bits(model, [])
    with monkeypatch.context() as patch:
        patch.setattr(cuda_graph.Graphs, "_run", refuse)
        with pytest.raises(DeviceError, match="no kernels at all"):
            captured(*batch(0))
    assert bits(model, []) == before
    assert captured(*batch(0)).numpy() > 0


def test_products_that_cannot_be_captured(tmp_path: Path) -> None:
    """Without cublasLt they are calls between graphs, and what is expected is taken."""
    cuda = fake_backend()
    cuda._device.answers = lambda: tmp_path
    with backends.use(cuda):
        _, replay, _ = trained(2)
    assert fuses(replay)
    assert not answers(tmp_path)


def test_arguments_that_are_changed(graphs: CudaBackend) -> None:
    """There are no graphs then: calls are made one by one."""
    model, _ = training()
    weight = next(iter(model.parameters()))

    @gn.capture
    def step(w: gn.Tensor, x: gn.Tensor) -> gn.Tensor:
        with gn.no_grad():
            y = model(x)
            weight.assign_(weight * 0.5)
            return gn.sum(y) + gn.sum(w)

    step(gn.zeros((2,)), batch(0)[0])
    before = weight.numpy()
    step(weight.detach(), batch(0)[0])
    np.testing.assert_array_equal(weight.numpy(), before * 0.5)


# Memory


def test_nothing_is_left_of_the_other_way(
    graphs: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[Graphs]] = []
    prepare = Graphs.prepare

    def noted(self: Graphs, places: Any) -> None:
        made.append(weakref.ref(self))
        prepare(self, places)

    monkeypatch.setattr(Graphs, "prepare", noted)
    captured = gn.capture(training()[1])
    captured(*batch(0))
    assert [one() is not None for one in made] == [True, False]
    memory = cupy(graphs).memory
    assert memory.total - memory.used < 1 << 10  # the batch
