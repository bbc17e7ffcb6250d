"""The fused MLP in CUDA C++, run on the CPU: g++ compiles the same text over the header in shim/.

The bounds of errors follow from the rounding to 16 bits: each number is carried with a bound of
what rounding may have done to it, through products and activations.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gradnet.kernels import c_formulas, fused_mlp
from gradnet.kernels.fused_mlp import Kernels, Network
from gradnet.kernels.launch import Launcher

from gradnet import binding, formulas
from gradnet.errors import DeviceError

SHIM = Path(__file__).parent / "shim"
# One executable runs them all: width, activation, type, warps.
TEXTS = (
    (16, "relu", "float16", 2),
    (32, "relu", "bfloat16", 1),
    (64, "tanh", "float16", 2),
    (128, "relu", "float16", 2),
    (16, "leaky_relu", "bfloat16", 2),
    (32, "softplus", "float16", 1),
    (16, "gelu", "float16", 1),
)
KINDS = ("fused_mlp_forward", "fused_mlp_backward", "fused_mlp_reduce")


def translation(texts: Sequence[str]) -> str:
    """One C++ text with the kernels of all `texts`, and a main that launches them."""
    lines = ['#include "serve.h"']
    for i, text in enumerate(texts):
        lines += [f"#define {kind} {kind.replace('fused_mlp', f'text{i}')}" for kind in KINDS]
        lines += [f"namespace space{i} {{", text, "}"]
        lines += [f"#undef {kind}" for kind in KINDS]
    lines.append("int main() { void (*all[])(Numbers, const Arrays&) = {")
    lines += [f"RUN(space{i}::text{i}, space{i}::Half)," for i in range(len(texts))]
    lines.append("}; return serve([&](Numbers h, const Arrays& p) { all[h[0]](h, p); }); }")
    return "\n".join(lines) + "\n"


def built(folder: Path, name: str, code: str, *options: str) -> Path:
    source, program = folder / f"{name}.cpp", folder / name
    source.write_text(code)
    command = ["g++", "-std=c++20", "-O1", "-g1", "-pthread", "-Wno-attributes", *options]
    command += [f"-I{SHIM}", str(source), "-o", str(program)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[:4000]
    return program


class Device:
    """CuPy's part in a launch, over a process that runs the kernels."""

    def __init__(self, program: Path, texts: Sequence[str]) -> None:
        self.texts = list(texts)
        self.errors = program.with_suffix(".log").open("w+")
        options = "halt_on_error=1 exitcode=66"
        self.process = subprocess.Popen(
            [str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env={**os.environ, "TSAN_OPTIONS": options, "ASAN_OPTIONS": "exitcode=67"},
        )
        self.launched: list[tuple[str, int]] = []
        cupy = SimpleNamespace(empty=self.empty, RawModule=self.module)
        self.launcher = Launcher(cupy, (9, 0))

    def empty(self, shape: tuple[int, ...], dtype: type) -> Any:
        """A poisoned array."""
        array = np.empty(shape, dtype)
        array.view(np.uint8)[...] = 0xFF
        return array

    def module(self, code: str, options: tuple[str, ...], backend: str) -> Any:
        assert backend == "nvrtc"
        assert "-std=c++17" in options
        which = self.texts.index(code)
        return SimpleNamespace(get_function=lambda name: Kernel(self, which, name))

    def close(self) -> str:
        """The exit status and what the process said."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        status = self.process.wait()
        self.errors.seek(0)
        said = self.errors.read()
        self.errors.close()
        return f"{status}\n{said}"


class Kernel:
    def __init__(self, device: Device, which: int, name: str) -> None:
        self.device, self.which, self.name = device, which, name
        self.max_dynamic_shared_size_bytes = 0

    def __call__(self, grid: Any, block: Any, arguments: Any, shared_mem: int) -> None:
        assert shared_mem == self.max_dynamic_shared_size_bytes
        arrays = [a for a in arguments if isinstance(a, np.ndarray | np.uint64)]
        numbers = [int(a) for a in arguments if not isinstance(a, np.ndarray | np.uint64)]
        head = [self.which, KINDS.index(self.name), *grid, *block, shared_mem, *numbers]
        message = struct.pack("<10q", *head, len(arrays))
        for one in arrays:
            null = isinstance(one, np.uint64)
            message += struct.pack("<q", -1) if null else struct.pack("<q", one.nbytes)
            message += b"" if null else one.tobytes()
        process = self.device.process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(message)
        process.stdin.flush()
        for one in arrays:
            if isinstance(one, np.ndarray):
                data = process.stdout.read(one.nbytes)
                assert len(data) == one.nbytes, "the kernel's process ended"
                one[...] = np.frombuffer(data, one.dtype).reshape(one.shape)
        self.device.launched.append((self.name, grid[0]))


@pytest.fixture(scope="module")
def compiler() -> None:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")


@pytest.fixture(scope="module")
def device(compiler: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """The kernels under AddressSanitizer."""
    folder = tmp_path_factory.mktemp("fused")
    texts = [fused_mlp.text(*chosen) for chosen in TEXTS]
    made = Device(built(folder, "address", translation(texts), "-fsanitize=address"), texts)
    yield made
    said = made.close()
    assert said == "0\n", said


def values(network: Network, n: int, seed: int = 0) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    parts = []
    for rows, columns in network.shapes:
        parts.append(rng.normal(size=rows * columns) * (1.5 / rows) ** 0.5)
        parts.append(rng.normal(size=columns) * 0.3)
    x = rng.normal(size=(n, network.inputs))
    dy = rng.normal(size=(n, network.outputs))
    flat = np.concatenate(parts)
    return x.astype(np.float32), flat.astype(np.float32), dy.astype(np.float32)


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
    value, _, keeps_input = fused_mlp.activation(network)
    held = widened(network, kept)
    a = x.astype(np.float64)
    bound = relative * np.abs(a) + smallest
    for at, (weights, bias) in enumerate(fused_mlp.layers(network, parameters.astype(np.float64))):
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


def widened(network: Network, kept: Any) -> Any:
    if network.dtype == "float16":
        return kept.view(np.float16).astype(np.float64)
    return (kept.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def check_backward(
    network: Network, x: Any, parameters: Any, kept: Any, dy: Any, dx: Any, gradient: Any
) -> None:
    """dx and the gradient against float64, from the activations that forward kept."""
    relative, smallest = unit(network)
    value, slope, keeps_input = fused_mlp.activation(network)
    held = widened(network, kept)
    layers = fused_mlp.layers(network, parameters.astype(np.float64))
    found = fused_mlp.layers(network, gradient)
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


def run(device: Device, network: Network, warps: int, n: int, seed: int = 0) -> tuple[Any, ...]:
    x, parameters, dy = values(network, n, seed)
    kernels = Kernels(network, warps)
    y, kept = fused_mlp.forward(device.launcher, kernels, x, parameters)
    dx, gradient = fused_mlp.backward(device.launcher, kernels, x, parameters, kept, dy)
    return x, parameters, dy, y, kept, dx, gradient


# inputs, outputs, depth and rows for each text: odd ones, more than a width, every depth.
SIZES = (
    ((5, 3, 1, 1), (16, 16, 2, 32), (37, 18, 3, 33), (1, 1, 8, 70)),
    ((33, 1, 4, 17), (7, 40, 5, 15), (32, 32, 6, 50)),
    ((70, 3, 2, 35), (3, 66, 7, 31)),
    ((130, 10, 1, 33), (20, 129, 2, 40)),
    ((5, 2, 3, 40),),
    ((5, 2, 3, 20),),
    ((5, 2, 2, 20),),
)
CASES = [
    (Network(i, text[0], o, depth, text[1], text[2]), text[3], n)
    for text, sizes in zip(TEXTS, SIZES, strict=True)
    for i, o, depth, n in sizes
]


@pytest.mark.parametrize(("network", "warps", "n"), CASES)
def test_against_float64(device: Device, network: Network, warps: int, n: int) -> None:
    x, parameters, dy, y, kept, dx, gradient = run(device, network, warps, n)
    check_forward(network, x, parameters, kept, y)
    check_backward(network, x, parameters, kept, dy, dx, gradient)
    # Nearer still to the same computation with the same roundings.
    again, _ = fused_mlp.reference_forward(network, x, parameters)
    assert np.linalg.norm(y - again) <= 4 * unit(network)[0] * np.linalg.norm(again)
    held = widened(network, kept)
    dx_again, gradient_again = fused_mlp.reference_backward(network, x, parameters, held, dy)
    for found, right in ((dx, dx_again), (gradient, gradient_again)):
        assert np.linalg.norm(found - right) <= 4 * unit(network)[0] * np.linalg.norm(right)


def test_the_cases_cover_what_there_is() -> None:
    assert {one.width for one, _, _ in CASES} == set(fused_mlp.WIDTHS)
    assert {one.depth for one, _, _ in CASES} == set(fused_mlp.DEPTHS)
    assert {one.dtype for one, _, _ in CASES} == set(fused_mlp.FLOATS)


def test_blocks_that_take_several_rounds(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(5, 16, 3, 2, "relu", "float16")
    one = run(device, network, 2, 150)
    monkeypatch.setattr(fused_mlp, "PARTS", 2)
    x, parameters, dy, y, kept, dx, gradient = run(device, network, 2, 150)
    assert device.launched[-2:] == [("fused_mlp_backward", 2), ("fused_mlp_reduce", 7)]
    check_backward(network, x, parameters, kept, dy, dx, gradient)
    assert np.array_equal(one[5], dx)
    assert np.array_equal(gradient, run(device, network, 2, 150)[6])
    kernels = Kernels(network, 2)
    monkeypatch.setattr(Kernels, "blocks", lambda self, n, most=0: 2)
    again, nothing = fused_mlp.forward(device.launcher, kernels, x, parameters, keep=False)
    assert nothing is None
    assert np.array_equal(again, y)
    no_dx, same = fused_mlp.backward(
        device.launcher, kernels, x, parameters, kept, dy, input_gradient=False
    )
    assert no_dx is None
    assert np.array_equal(same, gradient)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e6])
def test_numbers_that_are_not_finite_stay_in_their_row(device: Device, bad: float) -> None:
    network = Network(5, 16, 3, 2, "relu", "float16")
    x, parameters, _, y, *_ = run(device, network, 2, 40)
    x[7, 2] = bad
    kernels = Kernels(network, 2)
    found, _ = fused_mlp.forward(device.launcher, kernels, x, parameters)
    with np.errstate(invalid="ignore"):
        right, _ = fused_mlp.reference_forward(network, x, parameters)
    assert not np.isfinite(found[7]).any()
    assert np.array_equal(np.isnan(found), np.isnan(right))
    others = np.arange(40) != 7
    assert np.array_equal(found[others], y[others])


def test_no_rows(device: Device) -> None:
    network = Network(5, 16, 3, 2, "relu", "float16")
    *_, y, kept, dx, gradient = run(device, network, 2, 0)
    assert (y.shape, kept.shape, dx.shape) == ((0, 3), (2, 0, 16), (0, 5))
    assert np.array_equal(gradient, np.zeros(network.parameters))


# Races

BARRIERS = ("__syncthreads();  // FETCHED", "__syncwarp();")


@pytest.fixture(scope="module")
def raced(
    compiler: None, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[str, str]]:
    """Runs the kernels without a barrier under ThreadSanitizer: the status, what was said."""
    whole = fused_mlp.text(*TEXTS[0])
    texts = [whole, *(whole.replace(barrier, "") for barrier in BARRIERS)]
    assert len(set(texts)) == 3
    folder = tmp_path_factory.mktemp("raced")
    program = built(folder, "thread", translation(texts), "-fsanitize=thread")

    def run_without(barrier: str) -> tuple[str, str]:
        at = BARRIERS.index(barrier) + 1 if barrier else 0
        device = Device(program, texts)
        # The text that is asked for stands in the place of the one that was changed.
        device.texts = ["", "", ""]
        device.texts[at] = whole
        try:
            run(device, Network(19, 16, 3, 2, "relu", "float16"), 2, 40)
        except (AssertionError, BrokenPipeError):
            device.process.wait()
        status, _, said = device.close().partition("\n")
        if "unexpected memory mapping" in said:
            pytest.skip("ThreadSanitizer does not run on this system's kernel")
        return status, said

    return run_without


def test_no_races(raced: Callable[[str], tuple[str, str]]) -> None:
    assert raced("") == ("0", "")


@pytest.mark.parametrize("barrier", BARRIERS)
def test_a_missing_barrier_is_found(raced: Callable[[str], tuple[str, str]], barrier: str) -> None:
    status, said = raced(barrier)
    assert "ThreadSanitizer: data race" in said
    assert status == "66"


# What is compiled for the device: registers and shared memory of (width, kernel), upper bounds.

LIMITS = {
    (16, "forward"): (64, 48 * 1024),
    (16, "backward"): (96, 48 * 1024),
    (32, "forward"): (80, 48 * 1024),
    (32, "backward"): (96, 48 * 1024),
    (64, "forward"): (104, 48 * 1024),
    (64, "backward"): (128, 64 * 1024),
    (128, "forward"): (168, 80 * 1024),
    (128, "backward"): (192, 116 * 1024),
}


@pytest.mark.parametrize("architecture", [(8, 0), (9, 0)])
@pytest.mark.parametrize(
    ("width", "activation", "dtype"),
    [(16, "tanh", "float16"), (32, "relu", "bfloat16"), (64, "relu", "float16"),
     (128, "relu", "bfloat16")],
)  # fmt: skip
def test_machine_code(
    width: int, activation: str, dtype: str, architecture: tuple[int, int]
) -> None:
    pytest.importorskip("cuda.core")
    kernels = Kernels(Network(5, width, 3, 2, activation, dtype))
    try:
        code, log = fused_mlp.machine_code(kernels.forward, architecture)
    except DeviceError as error:
        pytest.skip(str(error))
    assert code[:4] == b"\x7fELF"
    found = dict(
        re.findall(r"entry function 'fused_mlp_(\w+)'.*?Used (\d+) registers", log, re.DOTALL)
    )
    assert set(found) == {"forward", "backward", "reduce"}
    assert log.count("0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads") == 3, log
    for kind in ("forward", "backward"):
        registers, shared = LIMITS[width, kind]
        assert int(found[kind]) <= registers, (kind, found)
        assert getattr(kernels, kind).shared <= shared
    assert kernels.reduce.shared == 0


# The host's side


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"width": 48}, "its width is 48, not one of 16, 32, 64, 128"),
        ({"depth": 9}, "it has 9 hidden layers, not 1 to 8"),
        ({"inputs": 0}, "it has 0 inputs and 3 outputs"),
        ({"dtype": "float32"}, "its products are in float32"),
        ({"activation": "add"}, "'add' is no activation"),
        ({"activation": "heaviside"}, "'heaviside' has no derivative"),
    ],
)
def test_networks_that_it_cannot_compute(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(DeviceError, match=reason):
        Kernels(Network(5, 16, 3, 2)._replace(**change))


def test_arrays_that_do_not_fit() -> None:
    network = Network(5, 16, 3, 2)
    x, parameters, dy = values(network, 4)
    launcher: Any = SimpleNamespace(cupy=np)
    kernels = Kernels(network)
    with pytest.raises(DeviceError, match=r"x has shape \(4, 4\)"):
        fused_mlp.forward(launcher, kernels, x[:, :4], parameters)
    with pytest.raises(DeviceError, match=r"x has .* dtype float64"):
        fused_mlp.forward(launcher, kernels, x.astype(np.float64), parameters)
    with pytest.raises(DeviceError, match="needs what its forward kept"):
        fused_mlp.backward(launcher, kernels, x, parameters, None, dy)


def test_every_activation_has_its_text() -> None:
    for row in formulas.ROWS:
        if row.activation and row.derivatives[0] is not None:
            written = fused_mlp.text(16, row.name, "float16")
            assert "float value(float x)" in written
            assert "float slope(float x)" in written


def test_formulas_in_c() -> None:
    written, name = c_formulas.define(formulas.FORMULAS["relu"])
    assert written.endswith(f"float {name}(float x) {{\n    return f_maximum(x, (0.0f));\n}}\n")
    assert "return (((a > b) | (a != a)) ? a : b);" in written

    def unknown(x: Any) -> Any:
        return x // 2

    with pytest.raises(binding.FormulaError, match="C\\+\\+ has no"):
        c_formulas.define(unknown)
