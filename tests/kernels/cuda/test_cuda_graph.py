"""Captured steps as CUDA graphs: what plain steps compute, whatever differs from run to run."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fakes.cublaslt_over_numpy import attach
from fakes.cupy_over_numpy import fake_backend
from fakes.steps import (
    CLASSES,
    FEATURES,
    REPLAY,
    ROWS,
    Step,
    batch,
    bits,
    cupy,
    replay_of,
    training,
)
from gradnet.kernels.cuda_backend import CudaBackend

import gradnet as gn
from gradnet import backends, host, nn, optim

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
    graphs: CudaBackend, options: dict[str, Any]
) -> None:
    batches = [batch(i) for i in range(5)]
    model, _, step = training(**options)
    expected = bits(model, [step(x, y) for x, y in batches])
    model, _, recorded = training(**options)
    captured = gn.capture(recorded)
    losses = []
    for x, y in batches:
        cupy(graphs).done.clear()
        losses.append(captured(x, y))
    assert cupy(graphs).done == REPLAY
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


def test_several_steps_are_one_graph(graphs: CudaBackend) -> None:
    # The numbers of Adam and of a mask are so many that a launch brings those of eight steps.
    count = 8 + 8 + 4 + 3
    x, y = batch(1, rows=(count + 1) * ROWS)
    plain, _, step = training(dropout=0.3, schedule="cosine")
    parts = [(x[i : i + ROWS], y[i : i + ROWS]) for i in range(0, len(x), ROWS)]
    # All rows, and all but the first eight once more.
    expected = [step(*part) for part in (*parts, *parts[1:])]
    right = bits(plain, expected)
    model, made, recorded = training(dropout=0.3, schedule="cosine")
    captured = gn.capture(recorded)
    first = captured(*parts[0])
    cupy(graphs).done.clear()
    losses = captured.each(x[ROWS:], y[ROWS:], rows=ROWS)
    done = cupy(graphs).done
    assert done.count("graph") == 3 + 3
    assert {what for what in done if what.startswith("launch")} == {"launch stage"}
    assert not {"to host", "from host", "synchronize"} & set(done)
    assert (captured.recordings, captured.replays) == (1, count)
    # By the graphs that are there now, from other memory.
    again = captured.each(gn.copy(x[ROWS:]), y[ROWS:], rows=ROWS)
    made_ = [first, *(found[i] for found in (losses, again) for i in range(count))]
    assert bits(model, made_) == right
    assert made.lr == pytest.approx(0.0)


def test_a_series_ends_where_the_host_has_changed(graphs: CudaBackend) -> None:
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


def test_numbers_of_the_host_take_effect(graphs: CudaBackend) -> None:
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


def test_a_loss_scale_on_the_device(graphs: CudaBackend) -> None:
    def run(wrap: Callable[[Step], Any]) -> list[bytes]:
        model = nn.MLP((FEATURES, 6, CLASSES), output="softmax", precision="float16", seed=0)
        made = optim.Adam(model.parameters(), lr=0.05)
        scale = optim.LossScale(made, initial=2.0**24, interval=2)

        def step(x: gn.Tensor, y: gn.Tensor) -> gn.Tensor:
            loss = nn.cross_entropy(model(x), y)
            scale(loss).backward()
            scale.step(scale.unscale())
            made.zero_grad()
            return loss

        taken, losses = wrap(step), []
        for i in range(8):
            made.lr = 0.05 / (i + 1)
            losses.append(taken(*batch(i)))
        if isinstance(taken, gn.captured.Captured):
            assert (taken.recordings, replay_of(taken).divided) == (1, False)
        return bits(model, [*losses, scale.scale, scale.good, scale.skipped])

    assert run(gn.capture) == run(lambda step: step)


def test_other_shapes_and_addresses(graphs: CudaBackend) -> None:
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


def test_strided_arguments_and_several_results(graphs: CudaBackend) -> None:
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


def test_no_memory_of_others_is_touched(graphs: CudaBackend) -> None:
    model, _, recorded = training(norm="batch")
    captured = gn.capture(recorded)
    captured(*batch(0))
    gc.collect()
    # All that was given back since is somebody else's now.
    others = [graphs.full((n,), 7, np.dtype(np.uint8)) for n in range(1, 600)]
    plain, _, step = training(norm="batch")
    expected = [float(step(*batch(i))) for i in range(3)]
    assert [float(captured(*batch(i))) for i in (1, 2)] == expected[1:]
    assert all((graphs.to_host(x) == 7).all() for x in others)
    del model, plain


# Whole runs


def test_fit_replays_its_steps(graphs: CudaBackend) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((30, FEATURES)).astype(np.float32)
    y = rng.integers(0, CLASSES, 30)

    def run(capture: bool) -> tuple[Any, list[bytes]]:
        gn.random.seed(1)
        model = nn.MLP((FEATURES, 6, CLASSES), output="softmax", dropout=0.2, seed=0)
        history = gn.fit(
            model, x, y, epochs=4, batch_size=4, validation=0.1, capture=capture, seed=3, lr=0.01,
            clip_norm=1.0, schedule="cosine", progress=False,
        )  # fmt: skip
        return history, bits(model, [])

    plain, expected = run(False)
    history, found = run(True)
    assert found == expected
    np.testing.assert_array_equal(history["loss"], plain["loss"])
    # A batch of each size is recorded, the rest are replays.
    assert history.captured == 4 * 7 - 2
    assert not history.notes
