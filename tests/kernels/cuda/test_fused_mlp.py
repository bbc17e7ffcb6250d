"""The fused MLP in CUDA C++, run on the CPU: g++ compiles the same text over the header in shim/.

The bounds of errors follow from the rounding to 16 bits: each number is carried with a bound of
what rounding may have done to it, through products and activations.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fakes import fused
from fakes.fused import SMALL, values
from fakes.shim import Shim, altered, built, poisoned
from gradnet.kernels import fused_mlp
from gradnet.kernels.fused_mlp import Kernels, Network

# One executable runs them all: width, activation, type, warps.
TEXTS = (
    (16, "relu", "float16", 2),
    (32, "relu", "bfloat16", 1),
    (64, "tanh", "float16", 1),
    (128, "relu", "float16", 1),
    (16, "leaky_relu", "bfloat16", 1),
    (16, "gelu", "float16", 1),
)


def kernels_of(width: int, activation: str, dtype: str, warps: int) -> Kernels:
    return Kernels(Network(1, width, 1, 1, activation, dtype), warps)


def programs(kernels: Kernels) -> tuple[Any, ...]:
    return kernels.forward, kernels.backward, kernels.reduce


@pytest.fixture(scope="module")
def compiler() -> None:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")


@pytest.fixture(scope="module")
def device(compiler: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shim]:
    """The kernels under AddressSanitizer."""
    folder = tmp_path_factory.mktemp("fused")
    all_of_them = [one for text in TEXTS for one in programs(kernels_of(*text))]
    made = Shim(built(folder, "address", all_of_them, "-fsanitize=address"), all_of_them)
    yield made
    assert made.close() == (0, "")


def unit(network: Network) -> tuple[float, float]:
    """The relative error of a rounding to 16 bits, and the absolute one of the smallest."""
    return (2**-11, 2**-25) if network.dtype == "float16" else (2**-8, 0.0)


def product(a: Any, a_bound: Any, b: Any, b_bound: Any) -> Any:
    """A bound of the error of a @ b in float32 sums, plus that of its factors."""
    size = np.abs(a) + a_bound
    float32 = (a.shape[1] + 4) * 2.0**-23
    return a_bound @ np.abs(b) + size @ b_bound + float32 * (size @ (np.abs(b) + b_bound))


def close(found: Any, exact: Any, bound: Any, sharp: bool = True) -> None:
    assert found.shape == exact.shape
    assert np.all(np.abs(found - exact) <= bound + 1e-30), np.max(np.abs(found - exact) / bound)
    if sharp:  # far below the values, so that it says something
        assert np.median(bound) <= 0.2 * np.max(np.abs(exact))


def check_forward(network: Network, x: Any, parameters: Any, kept: Any, y: Any) -> None:
    """Each layer against float64 without rounding, from what the layer before it kept."""
    relative, smallest = unit(network)
    value, _, keeps_input = fused.activation(network)
    held = fused.kept_as(network, kept, len(x))
    a = x.astype(np.float64)
    bound = relative * np.abs(a) + smallest
    for at, (weights, bias) in enumerate(fused.layers(network, parameters.astype(np.float64))):
        error = product(a, bound, weights, relative * np.abs(weights) + smallest)
        z = a @ weights + bias
        error = error + 2.0**-22 * np.abs(z)
        if at == network.depth:
            close(y, z, error)
        elif keeps_input:
            close(held[at], z, error + relative * (np.abs(z) + error) + smallest)
            a = value(held[at])
            bound = (relative + 2.0**-20) * np.abs(a) + smallest
        else:
            a = value(z)
            # These activations rise by 1 at most, and float32 computes them to 2^-20.
            error = error + 2.0**-20 * np.abs(a)
            close(held[at], a, error + relative * (np.abs(a) + error) + smallest)
            a = held[at]
            bound = np.zeros_like(a)


def check_backward(
    network: Network, x: Any, parameters: Any, kept: Any, dy: Any, dx: Any, gradient: Any
) -> None:
    """dx and the gradient against float64, from the activations that forward kept."""
    relative, smallest = unit(network)
    value, slope, keeps_input = fused.activation(network)
    held = fused.kept_as(network, kept, len(x))
    layers = fused.layers(network, parameters.astype(np.float64))
    found = fused.layers(network, gradient)
    g = dy.astype(np.float64)
    bound = relative * np.abs(g) + smallest
    for at in reversed(range(network.depth + 1)):
        a = x.astype(np.float64) if at == 0 else held[at - 1]
        a_bound = relative * np.abs(a) + smallest
        if at and keeps_input:
            a = value(a)
            a_bound = (relative + 2.0**-20) * np.abs(a) + smallest
        elif at:
            a_bound = np.zeros_like(a)
        dw, db = found[at]
        dw_bound = product(a.T, a_bound.T, g, bound)
        # The worst case grows with each layer; see the comparison with the rounded one.
        close(dw, a.T @ g, dw_bound, sharp=at == network.depth)
        ones = np.ones((1, len(x)))
        close(db, g.sum(0), product(ones, 0 * ones, g, bound)[0], sharp=at == network.depth)
        weights = layers[at][0].T
        error = product(g, bound, weights, relative * np.abs(weights) + smallest)
        g = g @ weights
        if at:
            steep = slope(held[at - 1])
            error = error * np.abs(steep) + 2.0**-19 * (np.abs(g) + error)
            g = g * steep
            bound = error + relative * (np.abs(g) + error) + smallest
    close(dx, g, error, sharp=False)


def forward(device: Shim, kernels: Kernels, x: Any, parameters: Any) -> tuple[Any, Any]:
    """y and what is kept."""
    network, n = kernels.network, len(x)
    y = poisoned((n, network.outputs))
    kept = poisoned(network.kept(n), np.uint16)
    fused_mlp.forward(device, kernels, x, parameters, kept, y)
    return y, kept


def backward(
    device: Shim, kernels: Kernels, x: Any, parameters: Any, kept: Any, dy: Any
) -> tuple[Any, Any]:
    """dx and the gradient."""
    dx, gradient = poisoned(x.shape), poisoned(parameters.shape)
    parts = poisoned(kernels.parts(len(x)))
    fused_mlp.backward(device, kernels, x, parameters, kept, dy, dx, parts, gradient)
    return dx, gradient


def run(device: Shim, kernels: Kernels, n: int, seed: int = 0) -> tuple[Any, ...]:
    x, parameters, dy = values(kernels.network, n, seed)
    y, kept = forward(device, kernels, x, parameters)
    dx, gradient = backward(device, kernels, x, parameters, kept, dy)
    return x, parameters, dy, y, kept, dx, gradient


# inputs, outputs, depth and rows for each text: odd ones, more than a width, every depth.
SIZES = (
    ((5, 3, 1, 1), (16, 16, 2, 32), (37, 18, 3, 33), (1, 1, 8, 17), (3, 20, 7, 5)),
    ((33, 40, 4, 17),),
    ((70, 3, 2, 13),),
    ((3, 10, 1, 13),),
    ((5, 2, 5, 20),),
    ((5, 2, 6, 18),),
)
CASES = [
    (Network(i, text[0], o, depth, text[1], text[2]), text[3], n)
    for text, sizes in zip(TEXTS, SIZES, strict=True)
    for i, o, depth, n in sizes
]


@pytest.mark.parametrize(("network", "warps", "n"), CASES)
def test_against_float64(device: Shim, network: Network, warps: int, n: int) -> None:
    x, parameters, dy, y, kept, dx, gradient = run(device, Kernels(network, warps), n)
    check_forward(network, x, parameters, kept, y)
    check_backward(network, x, parameters, kept, dy, dx, gradient)
    # Nearer still to the same computation with the same roundings.
    again, _ = fused.reference_forward(network, x, parameters)
    assert np.linalg.norm(y - again) <= 4 * unit(network)[0] * np.linalg.norm(again)
    held = fused.kept_as(network, kept, len(x))
    dx_again, gradient_again = fused.reference_backward(network, x, parameters, held, dy)
    for found, right in ((dx, dx_again), (gradient, gradient_again)):
        assert np.linalg.norm(found - right) <= 4 * unit(network)[0] * np.linalg.norm(right)


def test_the_cases_cover_what_there_is() -> None:
    assert {one.width for one, _, _ in CASES} == set(fused_mlp.WIDTHS)
    assert {one.depth for one, _, _ in CASES} == set(fused_mlp.DEPTHS)
    assert {one.dtype for one, _, _ in CASES} == set(fused_mlp.FLOATS)


def test_blocks_that_take_several_rounds(device: Shim, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = Kernels(SMALL, 2)
    one = run(device, kernels, 100)
    monkeypatch.setattr(fused_mlp, "PARTS", 2)
    monkeypatch.setattr(fused_mlp, "_MOST_SUMMING", 2)
    x, parameters, dy, y, kept, dx, gradient = run(device, kernels, 100)
    blocks = dict(zip(fused_mlp.KINDS, (4, 2, 2), strict=True))
    assert device.launched[-3:] == [(f"fused_mlp_{kind}", n) for kind, n in blocks.items()]
    check_backward(SMALL, x, parameters, kept, dy, dx, gradient)
    for first, second in zip(one[3:6], (y, kept, dx), strict=True):
        assert np.array_equal(first, second)
    # The same to the bit again; and without what nobody asks for.
    again, same = poisoned(y.shape), poisoned(gradient.shape)
    fused_mlp.forward(device, kernels, x, parameters, None, again)
    assert np.array_equal(again, y)
    parts = poisoned(kernels.parts(100))
    fused_mlp.backward(device, kernels, x, parameters, kept, dy, None, parts, same)
    assert np.array_equal(same, gradient)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e6])
def test_numbers_that_are_not_finite_stay_in_their_row(device: Shim, bad: float) -> None:
    kernels = Kernels(SMALL, 2)
    x, parameters, _ = values(SMALL, 20)
    y, _ = forward(device, kernels, x, parameters)
    x[7, 2] = bad
    found, _ = forward(device, kernels, x, parameters)
    with np.errstate(invalid="ignore"):
        right, _ = fused.reference_forward(SMALL, x, parameters)
    assert not np.isfinite(found[7]).any()
    assert np.array_equal(np.isnan(found), np.isnan(right))
    others = np.arange(20) != 7
    assert np.array_equal(found[others], y[others])


def test_no_rows(device: Shim) -> None:
    *_, dx, gradient = run(device, Kernels(SMALL, 2), 0)
    assert dx.shape == (0, 5)
    assert np.array_equal(gradient, np.zeros(SMALL.parameters))


# Races

BARRIERS = ("__syncthreads();  // FETCHED", "__syncwarp();")


def without(kernels: Kernels, barrier: str) -> Kernels:
    """The kernels without a barrier; all of them for an empty one."""
    text = kernels.text.replace(barrier, "") if barrier else kernels.text
    assert (text == kernels.text) is not bool(barrier)
    changed = Kernels(kernels.network, kernels.rows // 16)
    kinds = fused_mlp.KINDS
    for kind, program in zip(kinds, programs(kernels), strict=True):
        setattr(changed, kind, altered(program, text))
    return changed


@pytest.fixture(scope="module")
def raced(
    compiler: None, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[int, str]]:
    """Runs the kernels without a barrier under ThreadSanitizer: the status, what was said."""
    kernels = Kernels(Network(17, 16, 20, 2, "relu", "float16"), 2)
    chosen = {barrier: without(kernels, barrier) for barrier in ("", *BARRIERS)}
    folder = tmp_path_factory.mktemp("raced")
    all_of_them = [one for each in chosen.values() for one in programs(each)]
    executable = built(folder, "thread", all_of_them, "-O0", "-fsanitize=thread")

    def run_without(barrier: str) -> tuple[int, str]:
        device = Shim(executable, all_of_them)
        try:
            run(device, chosen[barrier], 20)
        except (AssertionError, BrokenPipeError):
            device.process.wait()
        status, said = device.close()
        if "unexpected memory mapping" in said:
            pytest.skip("ThreadSanitizer does not run on this system's kernel")
        return status, said

    return run_without


def test_no_races(raced: Callable[[str], tuple[int, str]]) -> None:
    assert raced("") == (0, "")


@pytest.mark.parametrize("barrier", BARRIERS)
def test_a_missing_barrier_is_found(raced: Callable[[str], tuple[int, str]], barrier: str) -> None:
    status, said = raced(barrier)
    assert "ThreadSanitizer: data race" in said
    assert status == 66
