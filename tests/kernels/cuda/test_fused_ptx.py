"""The fused MLP as NVRTC compiles it, run: its PTX against float64 with the same roundings.

Needs NVRTC; skipped without them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from fakes import fused
from fakes.fused import SMALL, values
from fakes.shim import poisoned
from gradnet.kernels import fused_mlp, launch
from gradnet.kernels.fused_mlp import Kernels, Network
from ptx import launching
from ptx.launching import Loaded
from ptx.memory import Fault

pytestmark = [pytest.mark.untraced, pytest.mark.usefixtures("nvrtc")]

# inputs, outputs and depth of each text, warps, and rows: odd ones, and several blocks.
CASES: list[tuple[Network, int, Sequence[int]]] = [
    (SMALL, 2, (100, 1)),
    (Network(37, 16, 18, 3, "relu", "float16"), 2, (33,)),
]
# Compiled by hand alone, of some seconds each.
WIDER: list[tuple[Network, int, Sequence[int]]] = [
    (Network(5, 16, 3, 2, "gelu", "bfloat16"), 1, (70,)),
    (Network(33, 32, 40, 4, "relu", "bfloat16"), 1, (17,)),
    (Network(70, 64, 3, 2, "tanh", "float16"), 1, (13,)),
    (Network(3, 64, 10, 3, "relu", "float16"), 4, (1300,)),
    (Network(3, 128, 10, 1, "relu", "float16"), 1, (13,)),
]
if os.environ.get("GRADNET_COMPILE_EVERY_KERNEL"):
    CASES += WIDER


def run(give: Any, kernels: Kernels, x: Any, parameters: Any, dy: Any) -> None:
    """Forward and backward."""
    network, n = kernels.network, len(x)
    y, kept = poisoned((n, network.outputs)), poisoned(network.kept(n), np.uint16)
    fused_mlp.forward(give, kernels, x, parameters, kept, y)
    dx, gradient = poisoned(x.shape), poisoned(parameters.shape)
    fused_mlp.backward(
        give, kernels, x, parameters, kept, dy, dx, poisoned(kernels.parts(n)), gradient
    )


def forward(kernels: Kernels, x: Any, parameters: Any) -> tuple[Any, Any]:
    """y and what is kept."""
    y, kept = (
        poisoned((len(x), kernels.network.outputs)),
        poisoned(kernels.network.kept(len(x)), np.uint16),
    )
    fused_mlp.forward(launching.give, kernels, x, parameters, kept, y)
    return y, kept


def backward(kernels: Kernels, x: Any, parameters: Any, kept: Any, dy: Any) -> tuple[Any, Any]:
    """dx and the gradient."""
    dx, gradient = poisoned(x.shape), poisoned(parameters.shape)
    parts = poisoned(kernels.parts(len(x)))
    fused_mlp.backward(launching.give, kernels, x, parameters, kept, dy, dx, parts, gradient)
    return dx, gradient


@pytest.mark.parametrize(
    ("network", "warps", "sizes"), CASES, ids=lambda one: str(one).replace("Network", "")
)
def test_against_float64(network: Network, warps: int, sizes: Sequence[int]) -> None:
    unit = 2**-8 if network.dtype == "bfloat16" else 2**-11
    kernels = Kernels(network, warps)
    for n in sizes:
        x, parameters, dy = values(network, n, seed=n)
        y, kept = forward(kernels, x, parameters)
        held = fused.kept_as(network, kept, n)
        dx, gradient = backward(kernels, x, parameters, kept, dy)
        right = (
            *fused.reference_forward(network, x, parameters),
            *fused.reference_backward(network, x, parameters, held, dy),
        )
        for found, exact in zip((y, held, dx, gradient), right, strict=True):
            assert np.linalg.norm(found - exact) <= unit * np.linalg.norm(exact)


def test_blocks_that_take_several_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = Kernels(SMALL, 2)
    x, parameters, dy = values(SMALL, 100)
    y, kept = forward(kernels, x, parameters)
    dx, gradient = backward(kernels, x, parameters, kept, dy)
    monkeypatch.setattr(fused_mlp, "PARTS", 2)
    monkeypatch.setattr(fused_mlp, "_MOST_SUMMING", 2)
    again, same = forward(kernels, x, parameters)
    assert np.array_equal(again, y)
    assert np.array_equal(same, kept)
    dx_again, others = backward(kernels, x, parameters, kept, dy)
    assert np.array_equal(dx_again, dx)
    assert np.linalg.norm(others - gradient) <= 1e-5 * np.linalg.norm(gradient)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e6])
def test_numbers_that_are_not_finite_stay_in_their_row(bad: float) -> None:
    kernels = Kernels(SMALL, 2)
    x, parameters, _ = values(SMALL, 20)
    y, _ = forward(kernels, x, parameters)
    x[7, 2] = bad
    found, _ = forward(kernels, x, parameters)
    with np.errstate(invalid="ignore"):
        right, _ = fused.reference_forward(SMALL, x, parameters)
    assert not np.isfinite(found[7]).any()
    assert np.array_equal(np.isnan(found), np.isnan(right))
    others = np.arange(20) != 7
    assert np.array_equal(found[others], y[others])


# A kernel, and which of its barriers is taken away.
BARRIERS = [("forward", "bar.sync", 0), ("backward", "bar.warp.sync", 0), ("reduce", "bar.sync", 1)]


@pytest.mark.parametrize(("kind", "barrier", "number"), BARRIERS, ids=str)
def test_a_missing_barrier_is_found(kind: str, barrier: str, number: int) -> None:
    network = Network(17, 16, 20, 2, "relu", "float16")
    kernels, entry = Kernels(network, 2), f"fused_mlp_{kind}"
    text = launching.of_cuda(kernels.text, launching.ARCHITECTURE)
    start = text.index(f".entry {entry}(")
    places = [x.span() for x in re.finditer(re.escape(barrier) + r"[^;]*;", text[start:])]
    begin, end = (start + x for x in places[number])
    without = Loaded(text[:begin] + text[end:], entry)

    def give(program: Any, blocks: int, *arguments: Any) -> None:
        loaded = without if program.entry == entry else launching.loaded(program)
        typed = launch.numbers(program, arguments)
        loaded(blocks, program.threads, typed, program.shared)

    x, parameters, dy = values(network, 20)
    with pytest.raises(Fault, match="a race: thread"):
        run(give, kernels, x, parameters, dy)
    run(launching.give, kernels, x, parameters, dy)


def test_arrays_that_are_too_short_are_found() -> None:
    """The kernel reaches to the last element of each array, and no further."""
    kernels = Kernels(SMALL, 2)
    x, parameters, _ = values(SMALL, 37)
    y, kept = poisoned((37, SMALL.outputs)), poisoned(SMALL.kept(37), np.uint16)
    blocks = kernels.blocks(37, fused_mlp.PARTS)
    sizes = 37, *fused_mlp._sizes(SMALL)
    given = [x.reshape(-1), parameters, kept.reshape(-1), y.reshape(-1)]
    for k in range(4):
        short = [one[:-1] if i == k else one for i, one in enumerate(given)]
        with pytest.raises(Fault, match=r"(reads|writes) bytes .* which has"):
            launching.give(kernels.forward, blocks, *short, *sizes)
    launching.give(kernels.forward, blocks, *given, *sizes)
