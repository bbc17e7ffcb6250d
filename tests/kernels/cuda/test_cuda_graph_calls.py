"""What no CUDA graph can hold is done between graphs; and how many pieces of work a step is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fakes import cublaslt_over_numpy, lockstep
from fakes.cublaslt_over_numpy import attach
from fakes.cupy_over_numpy import THREADS, Cupy, fake_backend
from fakes.steps import REPLAY, ROWS, Step, batch, bits, cupy, replay_of, training
from gradnet.kernels.cuda_backend import CudaBackend
from gradnet.kernels.cuda_device import Device
from gradnet.kernels.cuda_templates.program import Program

import gradnet as gn
from gradnet import backends, host, nn, optim
from gradnet.errors import DataError

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


def test_calls_that_wait(graphs: CudaBackend) -> None:
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
        graphs.synchronize()


def test_an_embedding_learns(graphs: CudaBackend) -> None:
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


def test_checks_of_values_are_made_in_their_places(graphs: CudaBackend) -> None:
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
    graphs: CudaBackend, caplog: pytest.LogCaptureFixture
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
    caplog.clear()
    w = gn.asarray([1.0, 1.0, 1.0], requires_grad=True)
    made = optim.SGD([w], lr=0.25)

    @gn.capture
    def step(x: gn.Tensor) -> gn.Tensor:
        gn.sum(w * x).backward()
        made.step()
        made.zero_grad()
        return gn.sum(x.detach())

    assert [step(w.detach()).item() for _ in range(3)] == [2.25, 1.6875, 1.265625]
    assert "changes its arguments" in caplog.text


def test_classes_are_checked_where_arguments_are_changed(graphs: CudaBackend) -> None:
    w = gn.asarray(np.eye(3, dtype=np.float32), requires_grad=True)
    made = optim.SGD([w], lr=0.25)

    @gn.capture
    def step(x: gn.Tensor, y: gn.Tensor) -> gn.Tensor:
        loss = nn.cross_entropy(w * x, y)
        loss.backward()
        made.step()
        made.zero_grad()
        return loss

    for _ in range(2):
        assert np.isfinite(step(w.detach(), gn.asarray([0, 1, 2])).item())
    with pytest.raises(DataError, match="got class 3 in row 1"):
        step(w.detach(), gn.asarray([0, 3, 2])).item()


def test_an_error_in_capture_leaves_the_stream_usable(
    graphs: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = CudaBackend.softmax

    def softmax(self: CudaBackend, *arguments: Any, **options: Any) -> Any:
        if cupy(graphs).capturing:
            raise KeyError("a mistake")
        return plain(self, *arguments, **options)

    monkeypatch.setattr(CudaBackend, "softmax", softmax)
    captured = gn.capture(lambda x: gn.nn.softmax(x * 2.0))
    x = gn.ones((2, 3))
    with pytest.raises(KeyError, match="a mistake"):
        captured(x)
    assert not cupy(graphs).capturing
    assert len(cupy(graphs).streams) == 1
    assert cupy(graphs).pool is cupy(graphs).memory
    monkeypatch.setattr(CudaBackend, "softmax", plain)
    for _ in range(3):
        np.testing.assert_allclose(captured(x).numpy(), 1 / 3, rtol=1e-6)


# Streams


def test_what_waits_for_what(graphs: CudaBackend) -> None:
    device = cupy(graphs)
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
    "tiny": ((64, 32, 10), 32, 17, 7),
    "tiny, float16": ((64, 32, 10), 32, 26, 6),
    "tabular": ((14, 64, 64, 2), 256, 23, 10),
    "tabular, bfloat16": ((14, 64, 64, 2), 256, 32, 5),
    "mnist": ((784, 128, 10), 128, 17, 7),
    "mnist, clipped": ((784, 128, 10), 128, 26, 10),
    "mnist3": ((784, 512, 512, 10), 128, 23, 10),
    "mnist3, dropout": ((784, 512, 512, 10), 128, 37, 14),
    "mnist3, dropout, bfloat16": ((784, 512, 512, 10), 128, 46, 15),
    "mnist3, bfloat16": ((784, 512, 512, 10), 128, 32, 11),
    "mnist3, float16": ((784, 512, 512, 10), 128, 35, 12),
    "big": ((784, 1024, 1024, 10), 256, 23, 10),
    "wide": ((2048, 2048, 2048, 10), 1024, 26, 11),
    "mnist3, batch norm": ((784, 512, 512, 10), 128, 29, 14),
    "mnist3, batch norm, dropout": ((784, 512, 512, 10), 128, 43, 16),
    "mnist3, batch norm, bfloat16": ((784, 512, 512, 10), 128, 34, 15),
    "mnist3, layer norm": ((784, 512, 512, 10), 128, 37, 16),
    "wide, batch norm": ((2048, 2048, 2048, 10), 1024, 34, 19),
    "wide, layer norm": ((2048, 2048, 2048, 10), 1024, 40, 17),
    "lecture": ((1000, 100, 10), 64, 14, 11),
}


@pytest.fixture
def full_blocks() -> Iterator[None]:
    """Programs with blocks of the size that a GPU is given."""
    lockstep.use_blocks(256)
    yield
    lockstep.use_blocks(THREADS)


@pytest.mark.parametrize("name", GOLDEN)
def test_pieces_of_work(name: str, monkeypatch: pytest.MonkeyPatch, full_blocks: None) -> None:
    monkeypatch.setattr(cublaslt_over_numpy, "_work", lambda *_: lambda *_: None)
    device = Cupy()
    cuda = CudaBackend(Device(device, 0, Counted(device)))
    attach(cuda)
    sizes, rows, launches, nodes = GOLDEN[name]
    lecture = name == "lecture"
    settings = name.split(", ")
    norms = [word.partition(" ")[0] for word in settings if word.endswith(" norm")]
    precisions = [word for word in settings if word.endswith("float16")]
    with backends.use(cuda):
        model = nn.MLP(
            sizes,
            activation="sigmoid" if lecture else "relu",
            output="linear" if lecture else "softmax",
            bias=not lecture,
            norm=norms[0] if norms else None,
            dropout=0.2 if "dropout" in settings else 0.0,
            precision=precisions[0] if precisions else None,
        )
        x = gn.zeros((rows, sizes[0]))
        y = gn.zeros((rows, sizes[-1])) if lecture else gn.zeros((rows,), dtype=gn.int64)
        if lecture:
            model.to(gn.float64)
            x, y = gn.astype(x, gn.float64), gn.astype(y, gn.float64)
        made = (optim.SGD if lecture else optim.Adam)(model.parameters(), lr=0.1)
        scale = optim.LossScale(made) if "float16" in precisions else None

        def step(x: gn.Tensor, y: gn.Tensor) -> gn.Tensor:
            z = model(x)
            loss = nn.mse(z, y, reduction="sum") if lecture else nn.cross_entropy(z, y)
            (scale(loss) if scale else loss).backward()
            if "clipped" in settings:
                optim.clip_grad_norm(made, 1.0)
            (scale or made).step()
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
