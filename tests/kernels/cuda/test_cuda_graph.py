"""Captured steps as CUDA graphs: what plain steps compute, whatever differs from run to run."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fakes import cublaslt_over_numpy
from fakes.cublaslt_over_numpy import attach
from fakes.cupy_over_numpy import Cupy, fake_backend
from gradnet.kernels import cuda_graph
from gradnet.kernels.cuda_backend import CudaBackend
from gradnet.kernels.cuda_device import Device
from gradnet.kernels.cuda_graph import Graphs
from gradnet.kernels.cuda_templates.program import Program

import gradnet as gn
from gradnet import backends, host, nn, optim
from gradnet.errors import DataError

FEATURES, CLASSES, ROWS = 5, 3, 8
REPLAY = ["allocate", "launch stage", "graph", "launch stage"]
Step = Callable[..., Any]


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[CudaBackend]:
    """The CUDA backend with cublasLt, whose epilogues add up in another order than our kernels."""
    monkeypatch.setattr(cuda_graph, "paired", lambda program: program)
    found = fake_backend()
    attach(found)
    with backends.use(found):
        yield found


def cupy(cuda: CudaBackend) -> Cupy:
    found: Cupy = cuda._device.cupy
    return found


def batch(seed: int, rows: int = ROWS) -> tuple[gn.Tensor, gn.Tensor]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, FEATURES)).astype(np.float32)
    return gn.asarray(x), gn.asarray(rng.integers(0, CLASSES, rows))


def training(
    optimizer: str = "adam", *, schedule: str = "", clip: float = 0.0, **options: Any
) -> tuple[nn.MLP, Any, Step]:
    """A model, its optimizer, and a step as a user writes it."""
    gn.random.seed(3)
    model = nn.MLP((FEATURES, 6, CLASSES), output="softmax", seed=0, **options)
    made = optim.create(optimizer, model.parameters(), lr=0.05)
    falling = optim.schedule(schedule, made, total_steps=20) if schedule else None

    def step(x: gn.Tensor, y: gn.Tensor) -> gn.Tensor:
        loss = nn.cross_entropy(model(x), y)
        loss.backward()
        if clip:
            optim.clip_grad_norm(model.parameters(), clip)
        made.step()
        made.zero_grad()
        if falling is not None:
            falling.step()
        return loss

    return model, made, step


def bits(model: nn.Module, losses: list[gn.Tensor]) -> list[bytes]:
    found = [*model.state_dict().values(), *losses]
    return [x.numpy().tobytes() for x in found]


def replay_of(captured: Any) -> Graphs:
    found = captured._last._replay
    assert isinstance(found, Graphs)
    return found


FIRST_ORDER = [n for n in optim.names() if n not in ("lbfgs", "conjugate_gradient")]
OPTIONS: list[dict[str, Any]] = [
    *({"optimizer": name} for name in FIRST_ORDER),
    {"dropout": 0.4},
    {"norm": "batch", "clip": 0.1},
    {"norm": "layer", "activation": "gelu", "schedule": "one_cycle"},
    {"activation": "tanh", "schedule": "cosine", "clip": 1.0, "dropout": 0.1},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_replayed_steps_are_plain_steps_to_the_bit(
    cuda: CudaBackend, options: dict[str, Any]
) -> None:
    batches = [batch(i) for i in range(5)]
    model, _, step = training(**options)
    expected = bits(model, [step(x, y) for x, y in batches])
    model, _, recorded = training(**options)
    captured = gn.capture(recorded)
    losses = []
    for x, y in batches:
        cupy(cuda).done.clear()
        losses.append(captured(x, y))
    assert cupy(cuda).done == REPLAY
    assert bits(model, losses) == expected
    assert (captured.recordings, captured.replays) == (1, 4)


def test_a_step_in_pairs_of_product_and_epilogue() -> None:
    cuda = fake_backend()
    lt = attach(cuda)
    with backends.use(cuda):
        model, _, step = training()
        expected = [float(step(*batch(i))) for i in range(4)]
        other, _, recorded = training()
        captured = gn.capture(recorded)
        found = [float(captured(*batch(i))) for i in range(4)]
        assert found == pytest.approx(expected, rel=1e-5)
        for p, q in zip(model.parameters(), other.parameters(), strict=True):
            np.testing.assert_allclose(q.numpy(), p.numpy(), rtol=1e-4, atol=1e-6)
        assert max(lt.epilogues) > 1
        assert not replay_of(captured).divided


def test_several_steps_are_one_graph(cuda: CudaBackend) -> None:
    count = 16 + 4 + 3
    x, y = batch(1, rows=(count + 1) * ROWS)
    plain, _, step = training(dropout=0.3, schedule="cosine")
    parts = [(x[i : i + ROWS], y[i : i + ROWS]) for i in range(0, len(x), ROWS)]
    # All rows, and all but the first eight once more.
    expected = [step(*part) for part in (*parts, *parts[1:])]
    right = bits(plain, expected)
    model, made, recorded = training(dropout=0.3, schedule="cosine")
    captured = gn.capture(recorded)
    first = captured(*parts[0])
    cupy(cuda).done.clear()
    losses = captured.each(x[ROWS:], y[ROWS:], rows=ROWS)
    done = cupy(cuda).done
    assert done.count("graph") == 2 + 3
    assert {what for what in done if what.startswith("launch")} == {"launch stage"}
    assert not {"to host", "from host", "synchronize"} & set(done)
    assert (captured.recordings, captured.replays) == (1, count)
    # By the graphs that are there now, from other memory.
    again = captured.each(gn.copy(x[ROWS:]), y[ROWS:], rows=ROWS)
    made_ = [first, *(found[i] for found in (losses, again) for i in range(count))]
    assert bits(model, made_) == right
    assert made.lr == pytest.approx(0.0)


def test_a_series_ends_where_the_host_has_changed(cuda: CudaBackend) -> None:
    _, made, recorded = training()
    captured = gn.capture(recorded)
    x, y = batch(0, rows=6 * ROWS)
    captured(x[:ROWS], y[:ROWS])
    advances = []
    advance = type(made)._advance_all

    def limited(self: Any, *arguments: Any) -> Any:
        advances.append(1)
        if len(advances) == 4:
            raise host.Stale
        return advance(self, *arguments)

    action = captured._last._replay._program.actions[-1]  # type: ignore[union-attr]
    action.function = limited.__get__(made)
    losses = captured._last.series((x, y), ROWS, 0)  # type: ignore[union-attr]
    assert losses is not None
    assert losses.shape == (3,)
    _, _, step = training()
    step(x[:ROWS], y[:ROWS])
    plain = [float(step(x[i * ROWS :][:ROWS], y[i * ROWS :][:ROWS])) for i in range(3)]
    assert losses.numpy().tolist() == plain


def test_numbers_of_the_host_take_effect(cuda: CudaBackend) -> None:
    def run(wrap: Callable[[Step], Any]) -> list[bytes]:
        model, made, step = training(dropout=0.2)
        taken, losses = wrap(step), []
        for i in range(7):
            if i == 3:
                made.lr = 0.001
            if i == 5:
                gn.random.seed((1 << 63) + 5)
                gn.random.default_generator().set_state({"seed": 9, "counter": (1 << 64) - 2})
            losses.append(taken(*batch(i)))
        return bits(model, losses)

    assert run(gn.capture) == run(lambda step: step)


def test_other_shapes_and_addresses(cuda: CudaBackend) -> None:
    model, _, step = training()
    _, _, recorded = training()
    captured = gn.capture(recorded)
    wide, labels = batch(4, rows=2 * ROWS + 5)
    # Parts of one array, some of which begin where no wide load may.
    pieces = [slice(0, 8), slice(3, 11), slice(8, 16), slice(16, 21), slice(9, 14), slice(1, 9)]
    for piece in pieces:
        expected = float(step(wide[piece], labels[piece]))
        assert float(captured(wide[piece], labels[piece])) == expected
    assert captured.recordings == 2
    assert captured.replays == len(pieces) - 2
    del model


def test_strided_arguments_and_several_results(cuda: CudaBackend) -> None:
    def function(x: gn.Tensor, y: gn.Tensor) -> Any:
        z = gn.tanh(x) * y
        return z, gn.sum(z, axis=0), x

    captured = gn.capture(function)
    rng = np.random.default_rng(0)
    for _ in range(3):
        whole = gn.asarray(rng.standard_normal((6, 9)).astype(np.float32))
        x, y = whole[::-1, 1::2], whole[:1, :4]
        for found, right in zip(captured(x, y), function(x, y), strict=True):
            assert found.numpy().tobytes() == right.numpy().tobytes()
    assert captured.recordings == 1
    # An earlier result stays as it is when the next replay is made.
    first, *_ = captured(x, y)
    before = first.numpy()
    captured(y * 2.0 + gn.zeros_like(x), y)
    captured(x + 1.0, y)
    np.testing.assert_array_equal(first.numpy(), before)


def test_no_memory_of_others_is_touched(cuda: CudaBackend) -> None:
    model, _, recorded = training(norm="batch")
    captured = gn.capture(recorded)
    captured(*batch(0))
    gc.collect()
    # All that was given back since is somebody else's now.
    others = [cuda.full((n,), 7, np.dtype(np.uint8)) for n in range(1, 600)]
    plain, _, step = training(norm="batch")
    expected = [float(step(*batch(i))) for i in range(3)]
    assert [float(captured(*batch(i))) for i in (1, 2)] == expected[1:]
    assert all((cuda.to_host(x) == 7).all() for x in others)
    del model, plain


# Calls that no graph can hold


def test_products_that_cupy_refuses_to_capture(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gradnet")
    cuda = fake_backend()  # without cublasLt
    with backends.use(cuda):
        model, _, step = training(dropout=0.2)
        expected = bits(model, [step(*batch(i)) for i in range(3)])
        model, _, recorded = training(dropout=0.2)
        captured = gn.capture(recorded)
        assert bits(model, [captured(*batch(i)) for i in range(3)]) == expected
        replay = replay_of(captured)
        assert replay.divided
        assert "product" in caplog.text or "matmul" in caplog.text
        assert "cuBLAS" in caplog.text
        cupy(cuda).done.clear()
        captured(*batch(3))
        assert cupy(cuda).done.count("cupy.matmul") == 5
        assert 2 < cupy(cuda).done.count("graph") < 6
        # Steps are made one by one then, but made.
        x, y = batch(5, rows=3 * ROWS)
        assert captured.each(x, y, rows=ROWS).shape == (3,)


def test_calls_that_wait(cuda: CudaBackend) -> None:
    weight = gn.asarray(np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32))

    def function(x: gn.Tensor, rows: gn.Tensor) -> Any:
        taken = weight[rows] * 2.0
        order = gn.argsort(x, axis=0)
        return gn.sum(taken), gn.take_along_axis(x, order, axis=0) + 1.0

    captured = gn.capture(function)
    rng = np.random.default_rng(1)
    for _ in range(3):
        x = gn.asarray(rng.standard_normal((5, 2)).astype(np.float32))
        rows = gn.asarray(rng.integers(-7, 7, 6))
        for found, right in zip(captured(x, rows), function(x, rows), strict=True):
            assert found.numpy().tobytes() == right.numpy().tobytes()
    assert replay_of(captured).divided
    captured(x, gn.asarray([0, 1, 2, 3, 4, 7]))
    with pytest.raises(IndexError, match="index 7 is out of bounds for an axis of size 7"):
        cuda.synchronize()


def test_an_embedding_learns(cuda: CudaBackend) -> None:
    def run(wrap: Callable[[Step], Any]) -> list[bytes]:
        gn.random.seed(0)
        table = nn.Embedding(6, 3)
        made = optim.SGD(table.parameters(), lr=0.1)

        def step(codes: gn.Tensor) -> gn.Tensor:
            loss = gn.sum(table(codes) ** 2)
            loss.backward()
            made.step()
            made.zero_grad()
            return loss

        taken = wrap(step)
        codes = [gn.asarray(np.array(c)) for c in ([0, 5, 5], [1, 1, 2], [3, 0, 4])]
        return bits(table, [taken(c) for c in codes])

    assert run(gn.capture) == run(lambda step: step)


def test_checks_of_values_are_made_in_their_places(cuda: CudaBackend) -> None:
    def refuse(x: gn.Tensor, most: float) -> None:
        if x.numpy().max() > most:
            raise DataError("too much")

    def function(x: gn.Tensor) -> gn.Tensor:
        y = x * 2.0
        host.check(refuse, y, 5.0)
        return y + 1.0

    captured = gn.capture(function)
    for value in (1.0, 2.0):
        assert captured(gn.full((3,), value)).numpy().tolist() == [2 * value + 1] * 3
    with pytest.raises(DataError, match="too much"):
        captured(gn.full((3,), 3.0))
    assert captured(gn.full((3,), 2.0)).numpy().tolist() == [5.0] * 3


def test_arguments_that_are_changed_are_no_graph(
    cuda: CudaBackend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gradnet")

    @gn.capture
    def grow(x: gn.Tensor) -> None:
        x.assign_(x * 2.0)

    x = gn.ones((3,))
    for expected in (2.0, 4.0, 8.0):
        grow(x)
        assert x.numpy().tolist() == [expected] * 3
    assert "changes its arguments" in caplog.text


def test_an_error_in_capture_leaves_the_stream_usable(
    cuda: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = CudaBackend.softmax

    def softmax(self: CudaBackend, *arguments: Any, **options: Any) -> Any:
        if cupy(cuda).capturing:
            raise KeyError("a mistake")
        return plain(self, *arguments, **options)

    monkeypatch.setattr(CudaBackend, "softmax", softmax)
    captured = gn.capture(lambda x: gn.nn.softmax(x * 2.0))
    x = gn.ones((2, 3))
    with pytest.raises(KeyError, match="a mistake"):
        captured(x)
    assert not cupy(cuda).capturing
    assert len(cupy(cuda).streams) == 1
    assert cupy(cuda).pool is cupy(cuda).memory
    monkeypatch.setattr(CudaBackend, "softmax", plain)
    for _ in range(3):
        np.testing.assert_allclose(captured(x).numpy(), 1 / 3, rtol=1e-6)


# Streams


def test_what_waits_for_what(cuda: CudaBackend) -> None:
    device = cupy(cuda)
    captured = gn.capture(lambda x: gn.tanh(x) + 1.0)
    x = gn.ones((2, 3))
    captured(x)
    (first, inner), (last, outer) = device.ordered
    assert first is outer is device.streams[0]
    assert inner is last
    assert inner.non_blocking
    captured(x)
    assert len(device.ordered) == 2
    with device.cuda.Stream(non_blocking=True) as other:
        captured(x)
        captured(x)
    captured(x)
    assert device.ordered[2:] == [(first, other), (other, first)]


# How many pieces of work a step is: kernels and products op by op, and nodes of its graph


class Counted:
    """A launcher that runs nothing, for sizes at which it would take long."""

    def __init__(self, cupy: Cupy) -> None:
        self.cupy = cupy

    def __call__(self, program: Program, blocks: int, *arguments: Any) -> None:
        self.cupy.do(f"launch {program.kind}", lambda: None)


GOLDEN: dict[str, tuple[tuple[int, ...], int, int, int]] = {
    "tiny": ((64, 32, 10), 32, 18, 8),
    "tabular": ((14, 64, 64, 2), 256, 25, 11),
    "mnist": ((784, 128, 10), 128, 18, 8),
    "mnist3": ((784, 512, 512, 10), 128, 25, 11),
    "big": ((784, 1024, 1024, 10), 256, 25, 11),
    "wide": ((2048, 2048, 2048, 10), 1024, 28, 11),
    "lecture": ((1000, 100, 10), 64, 15, 12),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_pieces_of_work(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cublaslt_over_numpy, "_work", lambda *_: lambda *_: None)
    device = Cupy()
    cuda = CudaBackend(Device(device, 0, Counted(device)))
    attach(cuda)
    sizes, rows, launches, nodes = GOLDEN[name]
    lecture = name == "lecture"
    with backends.use(cuda):
        model = nn.MLP(
            sizes,
            activation="sigmoid" if lecture else "relu",
            output="linear" if lecture else "softmax",
            bias=not lecture,
        )
        x = gn.zeros((rows, sizes[0]))
        y = gn.zeros((rows, sizes[-1])) if lecture else gn.zeros((rows,), dtype=gn.int64)
        if lecture:
            model.to(gn.float64)
            x, y = gn.astype(x, gn.float64), gn.astype(y, gn.float64)
        made = (optim.SGD if lecture else optim.Adam)(model.parameters(), lr=0.1)

        def step(x: gn.Tensor, y: gn.Tensor) -> gn.Tensor:
            z = model(x)
            loss = nn.mse(z, y, reduction="sum") if lecture else nn.cross_entropy(z, y)
            loss.backward()
            made.step()
            made.zero_grad()
            return loss

        step(x, y)
        device.done.clear()
        step(x, y)
        eager = sum(
            what.split()[0] in ("launch", "cublaslt", "copy", "fill") for what in device.done
        )
        captured = gn.capture(step)
        captured(x, y)
        device.done.clear()
        captured(x, y)
        assert device.done == REPLAY
        assert (eager, replay_of(captured).nodes) == (launches, nodes)
