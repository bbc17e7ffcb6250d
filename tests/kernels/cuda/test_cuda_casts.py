"""Casts of neighbours are one launch, casts beside elementwise calls none; with the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes.steps import batch, bits, replay_of, training
from gradnet.kernels.cuda_backend import CudaBackend

import gradnet as gn
from gradnet.dtypes import bfloat16

HALVES = (gn.float16, bfloat16())


def rounded(captured: Any) -> list[tuple[int, ...]]:
    """The shapes of what a captured function casts to 16 bits."""
    calls = replay_of(captured)._program.calls
    copies = [c.outs for c in calls if c.method in ("cast", "moves")]
    return [out.shape for outs in copies for out in outs if out.dtype in HALVES]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize(("activation", "norm"), [("gelu", "layer"), ("prelu", None)])
def test_weights_are_rounded_at_once(
    graphs: CudaBackend, precision: str, activation: str, norm: str | None
) -> None:
    given: dict[str, Any] = {"activation": activation, "norm": norm, "precision": precision}
    model, _, step = training(**given)
    expected = bits(model, [step(*batch(i)) for i in range(3)])
    model, _, recorded = training(**given)
    captured = gn.capture(recorded)
    assert bits(model, [captured(*batch(i)) for i in range(3)]) == expected
    (flat,) = [shape for shape in rounded(captured) if len(shape) == 1]
    assert flat > (5 * 6 + 6 * 3,)


def buffer(length: int) -> gn.Tensor:
    return gn.asarray(np.random.default_rng(4).standard_normal(length).astype(np.float32))


def test_what_changes_between_is_rounded_again(graphs: CudaBackend) -> None:
    def run(wrap: Any) -> tuple[list[bytes], Any]:
        flat = buffer(24)

        def function(x: gn.Tensor) -> gn.Tensor:
            first = (flat[:6].astype(gn.float16), flat[18:].astype(gn.float16))
            flat.assign_(flat * x)
            last = (flat[:6].astype(gn.float16), flat[9:15].astype(gn.float16))
            return gn.stack([*first, *last]) * 2.0

        taken = wrap(function)
        xs = [gn.asarray(value, dtype=gn.float32) for value in (0.7, 1.3, -2.1)]
        return [taken(x).numpy().tobytes() for x in xs], taken

    found, captured = run(gn.capture)
    assert found == run(lambda function: function)[0]
    assert rounded(captured) == [(24,), (15,)]


def test_what_lies_far_apart_or_differs_is_rounded_by_itself(graphs: CudaBackend) -> None:
    flat, other = buffer(200_000), buffer(8)

    @gn.capture
    def function(x: gn.Tensor) -> gn.Tensor:
        near = (flat[:4].astype(gn.float16), flat[6:10].astype(gn.float16))
        far = (flat[-4:].astype(gn.float16), other[:4].astype(gn.float16))
        turned = flat[20:12:-2].astype(gn.float16)
        wide = flat[2:6].astype(bfloat16()).astype(gn.float32)
        return gn.stack([*near, *far, turned]).astype(gn.float32) + wide + x

    x = gn.zeros(())
    for _ in range(2):
        found = function(x).numpy()
    host, second = flat.numpy(), other.numpy()
    parts = (host[:4], host[6:10], host[-4:], second[:4], host[20:12:-2])
    right = np.stack([part.astype(np.float16).astype(np.float32) for part in parts])
    np.testing.assert_array_equal(found, right + host[2:6].astype(bfloat16()).astype(np.float32))
    assert sorted(rounded(function)) == [(4,), (4,), (4,), (4,), (10,)]


def methods(captured: Any) -> list[str]:
    return [call.method for call in replay_of(captured)._program.calls]


@pytest.mark.parametrize("half", HALVES, ids=str)
def test_maps_round_and_widen_by_themselves(graphs: CudaBackend, half: Any) -> None:
    def function(x: gn.Tensor, scale: gn.Tensor) -> gn.Tensor:
        wide = x.astype(gn.float32)
        y = (gn.tanh(wide * scale) + wide).astype(half)
        return gn.stack([y, (y.astype(gn.float32) > 0.25).astype(half)])

    captured = gn.capture(function)
    rng = np.random.default_rng(5)
    for _ in range(3):
        x = gn.asarray(rng.standard_normal((7, 9)).astype(np.float32)).astype(half)
        scale = gn.asarray(rng.standard_normal(9).astype(np.float32))
        assert captured(x, scale).numpy().tobytes() == function(x, scale).numpy().tobytes()
    # The cast is that of the comparison's result.
    assert methods(captured) == ["map", "map", "cast", "concatenate"]


def test_casts_that_others_need_too_stay(graphs: CudaBackend) -> None:
    def function(x: gn.Tensor) -> Any:
        wide = x.astype(gn.float32)
        y = gn.tanh(wide) * 2.0
        return gn.sum(wide), gn.sum(y), gn.max(y.astype(gn.float16))

    captured = gn.capture(function)
    for seed in range(3):
        host = np.random.default_rng(seed).standard_normal((5, 6)).astype(np.float16)
        x = gn.asarray(host)
        for found, right in zip(captured(x), function(x), strict=True):
            assert found.numpy().tobytes() == right.numpy().tobytes()
    assert methods(captured).count("cast") == 2


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("classes", [True, False])
def test_cross_entropy_rounds_its_gradient(
    graphs: CudaBackend, precision: str, classes: bool
) -> None:
    def trained(capture: Any) -> list[bytes]:
        model, _, step = training(precision=precision)
        run = capture(step)
        losses = []
        for seed in range(3):
            x, y = batch(seed)
            losses.append(run(x, y if classes else gn.one_hot(y, 3)))
        if capture is gn.capture:
            calls = replay_of(run)._program.calls
            (loss,) = (c for c in calls if c.method == "softmax_cross_entropy")
            assert loss.kwargs["rounded"].shape == (8, 3)
            # What is cast is the batch and the weights.
            assert len(rounded(run)) == 2
        return bits(model, losses)

    assert trained(gn.capture) == trained(lambda step: step)
