"""Casts of neighbours are one launch, and give what each gave by itself."""

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
    return [c.outs[0].shape for c in calls if c.method == "cast" and c.outs[0].dtype in HALVES]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_weights_are_rounded_at_once(graphs: CudaBackend, precision: str) -> None:
    model, _, step = training(activation="gelu", norm="layer", precision=precision)
    expected = bits(model, [step(*batch(i)) for i in range(3)])
    model, _, recorded = training(activation="gelu", norm="layer", precision=precision)
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
