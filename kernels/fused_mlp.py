"""The fully fused MLP: forward in one kernel, backward in one and the sum of its parts.

The network is inputs -> width -> ... -> width -> outputs, with one activation after each of its 1
to 8 hidden layers and none after the last. `fused_mlp.cu` says how it computes; here is when it
applies, what it is compiled for, and how it is launched. Its 16-bit factors are rounded from
float32, so x, y, the parameters and all gradients are float32 arrays. Whoever trains in float16
scales the gradient it gives to `backward`.

    network = Network(inputs=784, width=128, outputs=10, depth=1, activation="relu")
    kernels = Kernels(network)
    y, kept = forward(launcher, kernels, x, parameters)
    dx, gradient = backward(launcher, kernels, x, parameters, kept, dy)
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gradnet import binding, formulas
from gradnet.errors import DeviceError
from gradnet.formulas.rows import Row
from gradnet.numpy_backend import UFUNCS

from . import c_formulas
from .cuda_templates.program import Program
from .launch import Launcher

WIDTHS = (16, 32, 64, 128)
DEPTHS = range(1, 9)
WARPS = 8
# Blocks of the backward, each with a part of the gradient of its own; a function of the batch
# alone, so that results are the same on every device. Forward has no such parts.
PARTS = 132
BLOCKS = 132 * 8

FLOATS = {"float16": "f2", "bfloat16": "b2"}
_KEPT = "u2*"
_SIGNATURES = {
    "forward": ("f4*", "f4*", _KEPT, "f4*", "i8", "i4", "i4", "i4"),
    "backward": ("f4*", "f4*", _KEPT, "f4*", "f4*", "f4*", "i8", "i4", "i4", "i4"),
    "reduce": ("f4*", "f4*", "i4", "i4", "i4", "i4"),
}


class Network(NamedTuple):
    """The sizes, the activation and the float type of the factors of a fused network."""

    inputs: int
    width: int
    outputs: int
    depth: int
    activation: str = "relu"
    dtype: str = "bfloat16"

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """(in, out) of each layer, the first to the last."""
        sizes = (self.inputs, *(self.width,) * self.depth, self.outputs)
        return tuple(pairwise(sizes))

    @property
    def parameters(self) -> int:
        """How many parameters there are: each layer's weights, then its bias."""
        return sum(n * m + m for n, m in self.shapes)

    @property
    def part(self) -> int:
        """How many float32 a block's part of the gradient takes: weights in whole tiles."""
        last = _padded(self.outputs)
        weights = self.width * (_padded(self.inputs) + (self.depth - 1) * self.width + last)
        return weights + self.depth * self.width + last


def refusal(network: Network) -> str:
    """Why the fused kernels cannot compute a network; empty where they can."""
    if network.width not in WIDTHS:
        return f"its width is {network.width}, not one of {', '.join(map(str, WIDTHS))}"
    if network.depth not in DEPTHS:
        return f"it has {network.depth} hidden layers, not 1 to {DEPTHS[-1]}"
    if min(network.inputs, network.outputs) < 1:
        return f"it has {network.inputs} inputs and {network.outputs} outputs, not 1 or more"
    if network.dtype not in FLOATS:
        return f"its products are in {network.dtype}, not in float16 or bfloat16"
    row = _rows().get(network.activation)
    if row is None or not row.activation:
        return f"{network.activation!r} is no activation"
    if row.derivatives[0] is None:
        return f"{network.activation!r} has no derivative"
    return ""


class Kernels:
    """The three programs of a network. `warps` of 16 rows each make a block.

    Networks of the same width, activation and type share them. Raises DeviceError where the
    network is not one that the kernels can compute.
    """

    def __init__(self, network: Network, warps: int = WARPS) -> None:
        if reason := refusal(network):
            raise DeviceError(f"the fused MLP kernels cannot compute this network: {reason}")
        self.network = network
        self.rows = 16 * warps
        self.text = text(network.width, network.activation, network.dtype, warps)
        self.forward, self.backward, self.reduce = (
            _program(kind, network.width, network.activation, network.dtype, warps)
            for kind in _SIGNATURES
        )

    def blocks(self, n: int, most: int = BLOCKS) -> int:
        """How many blocks take the rows of a batch."""
        return max(1, min(-(-n // self.rows), most))


class CudaProgram(Program):
    """A kernel in CUDA C++, which NVRTC compiles, and the shared memory that it is given."""

    __slots__ = ("entry", "shared")

    def __init__(self, kind: str, text: str, warps: int, shared: int) -> None:
        super().__init__(f"fused_mlp_{kind}", text, _SIGNATURES[kind], 32, 32 * warps)
        self.entry = self.kind
        self.shared = shared


def shared_bytes(kind: str, width: int, warps: int = WARPS) -> int:
    """The shared memory of a block: one layer's weights, its rows, and a tile for each warp."""
    stored = width + 8  # as LD in the text
    activations = {"forward": 1, "backward": 2, "reduce": 0}[kind]
    if not activations:
        return 0
    return 2 * stored * (width + activations * 16 * warps) + 4 * 16 * 20 * warps


@cache
def text(width: int, activation: str, dtype: str, warps: int = WARPS) -> str:
    """The CUDA C++ of the three kernels: what is chosen, the formulas, then `fused_mlp.cu`."""
    row = _rows()[activation]
    slope = row.derivatives[0]
    assert slope is not None
    of_output = "x" not in binding.arguments(slope) and "y" in binding.arguments(slope)
    texts, calls = [], []
    for space, formula in (("value_", row.formula), ("slope_", slope)):
        definitions, name = c_formulas.define(formula)
        texts.append(f"namespace {space} {{\n{definitions}}}\n")
        calls.append((f"{space}::{name}", binding.arguments(formula)))
    defaults = {name: c_formulas.literal(value) for name, value in row.defaults.items()}

    def call(which: int, known: Mapping[str, str]) -> str:
        name, arguments = calls[which]
        return f"{name}({', '.join({**defaults, **known}[one] for one in arguments)})"

    value = call(0, {"x": "x"})
    derived = call(1, {"y": "x"} if of_output else {"x": "x", "y": "value(x)"})
    return "".join(
        (
            f"constexpr int WIDTH = {width};\n",
            f"constexpr int WARPS = {warps};\n",
            f"constexpr bool BFLOAT16 = {str(dtype == 'bfloat16').lower()};\n",
            f"constexpr bool KEEPS_INPUT = {str(not of_output).lower()};\n",
            *texts,
            f"static __device__ float value(float x) {{ return {value}; }}\n",
            f"static __device__ float slope(float x) {{ return {derived}; }}\n",
            _body(),
        )
    )


def forward(
    launcher: Launcher, kernels: Kernels, x: Any, parameters: Any, keep: bool = True
) -> tuple[Any, Any]:
    """y (n, outputs) of x (n, inputs), and what backward needs, or None without `keep`.

    `parameters` is flat: each layer's weights (in, out), then its bias. Raises DeviceError for
    arrays that are not float32, contiguous and of these sizes.
    """
    network, empty = kernels.network, launcher.cupy.empty
    n = _checked(network, parameters=parameters, x=x)
    y = empty((n, network.outputs), np.float32)
    kept = empty((network.depth, n, network.width), np.uint16) if keep else None
    if n:
        program = _loaded(launcher, kernels.forward)
        launcher(program, kernels.blocks(n), x, parameters, _pointer(kept), y, n, *_sizes(network))
    return y, kept


def backward(
    launcher: Launcher,
    kernels: Kernels,
    x: Any,
    parameters: Any,
    kept: Any,
    dy: Any,
    input_gradient: bool = True,
) -> tuple[Any, Any]:
    """The gradients of x (None without `input_gradient`) and of the flat parameters.

    Raises DeviceError for arrays that are not float32, contiguous and of these sizes.
    """
    network, empty = kernels.network, launcher.cupy.empty
    n = _checked(network, parameters=parameters, x=x, dy=dy)
    if kept is None or kept.shape != (network.depth, n, network.width):
        raise DeviceError("the fused MLP's backward needs what its forward kept of the same batch")
    dx = empty((n, network.inputs), np.float32) if input_gradient else None
    gradient = empty((network.parameters,), np.float32)
    if not n:
        gradient.fill(0)
        return dx, gradient
    blocks = kernels.blocks(n, PARTS)
    parts = empty((blocks, network.part), np.float32)
    sizes = _sizes(network)
    program = _loaded(launcher, kernels.backward)
    launcher(program, blocks, x, parameters, kept, dy, _pointer(dx), parts, n, *sizes)
    program = _loaded(launcher, kernels.reduce)
    over = max(1, min(-(-network.parameters // program.threads), BLOCKS))
    launcher(program, over, parts, gradient, blocks, *sizes)
    return dx, gradient


def machine_code(program: CudaProgram, architecture: tuple[int, int]) -> tuple[bytes, str]:
    """The machine code of all kernels of a program's text, and the compiler's log of registers.

    Needs no device. Raises DeviceError where cuda-core or NVIDIA's headers are missing.
    """
    try:
        from cuda.core import Program as Compiled
        from cuda.core import ProgramOptions
    except ImportError as error:
        raise DeviceError(
            f"NVRTC without a device needs cuda-core, which is not installed ({error}); run pip "
            "install 'gradnet-backend[cuda13]'"
        ) from error
    major, minor = architecture
    options = ProgramOptions(
        arch=f"sm_{major}{minor}", std="c++17", include_path=headers(), ptxas_options="-v"
    )
    log = io.StringIO()
    code = Compiled(program.text, "c++", options).compile("cubin", logs=log).code
    return bytes(code), log.getvalue()


def headers() -> list[str]:
    """The folders of CUDA's headers from its wheels. Raises DeviceError without them."""
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for folder in (*sorted(Path(root).glob("cu1*/include")), *Path(root).glob("*/include")):
            if (folder / "mma.h").exists():
                return [str(folder), str(folder / "cccl")]
    raise DeviceError(
        "CUDA's headers (mma.h) are not installed; run pip install 'gradnet-backend[cuda13]'"
    )


def rounded(network: Network, values: Any) -> Any:
    """Float64 values as the factors of products are: rounded to 16 bits."""
    if network.dtype == "bfloat16":
        from ml_dtypes import bfloat16 as half
    else:
        half = np.float16
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(half).astype(np.float64)


def layers(network: Network, parameters: Any) -> list[tuple[Any, Any]]:
    """(weights, bias) of each layer, as views of the flat parameters or their gradient."""
    found, start = [], 0
    for n, m in network.shapes:
        weights = parameters[start : start + n * m].reshape(n, m)
        start += n * m + m
        found.append((weights, parameters[start - m : start]))
    return found


def activation(network: Network) -> tuple[Any, Any, bool]:
    """value(x) and slope(kept) in NumPy, and whether it is the input that is kept."""
    row = _rows()[network.activation]
    (derivative, *_) = row.derivatives
    assert derivative is not None
    names = binding.arguments(derivative)
    value_of = binding.bind(row.formula, _NUMPY)
    slope_of = binding.bind(derivative, _NUMPY)
    operands = [row.defaults[name] for name in binding.arguments(row.formula)[1:]]

    def value(x: Any) -> Any:
        return value_of(x, *operands)

    def slope(kept: Any) -> Any:
        known = {"x": kept, "y": value(kept) if "x" in names else kept, **row.defaults}
        return slope_of(*(known[name] for name in names)) + np.zeros_like(kept)

    return value, slope, "x" in names or "y" not in names


def reference_forward(network: Network, x: Any, parameters: Any) -> tuple[Any, Any]:
    """y and what is kept in NumPy and float64, rounded to 16 bits where the kernel rounds."""
    value, _, keeps_input = activation(network)
    *hidden, (last, last_bias) = layers(network, np.asarray(parameters, np.float64))
    a, kept = rounded(network, x), []
    for weights, bias in hidden:
        z = a @ rounded(network, weights) + bias
        if keeps_input:
            z = rounded(network, z)
        a = rounded(network, value(z))
        kept.append(z if keeps_input else a)
    return a @ rounded(network, last) + last_bias, np.stack(kept)


def reference_backward(
    network: Network, x: Any, parameters: Any, kept: Any, dy: Any
) -> tuple[Any, Any]:
    """The gradients of x and of the flat parameters, likewise; `kept` in float64."""
    value, slope, keeps_input = activation(network)
    all_layers = layers(network, np.asarray(parameters, np.float64))
    gradient = np.zeros(network.parameters)
    g = rounded(network, dy)
    for at, (dw, db) in reversed(list(enumerate(layers(network, gradient)))):
        if at == 0:
            a = rounded(network, x)
        else:
            a = rounded(network, value(kept[at - 1])) if keeps_input else kept[at - 1]
        dw[...] = a.T @ g
        db[...] = g.sum(0)
        g = g @ rounded(network, all_layers[at][0]).T
        if at:
            g = rounded(network, g * slope(kept[at - 1]))
    return g, gradient


_NUMPY = {**UFUNCS, "where": np.where}


@cache
def _rows() -> dict[str, Row]:
    return {name: row for row in formulas.ROWS for name in (row.name, *row.aliases)}


@cache
def _body() -> str:
    return (Path(__file__).parent / "fused_mlp.cu").read_text(encoding="utf-8")


def _padded(size: int) -> int:
    return -(-size // 16) * 16


@cache
def _program(kind: str, width: int, activation: str, dtype: str, warps: int) -> CudaProgram:
    # A launcher keeps what it loaded by program: there is one for all networks that share it.
    shared = shared_bytes(kind, width, warps)
    return CudaProgram(kind, text(width, activation, dtype, warps), warps, shared)


def _loaded(launcher: Launcher, program: CudaProgram) -> CudaProgram:
    """The program, after the launcher has it: compiled by CuPy's NVRTC, kept on disk by CuPy."""
    if program not in launcher.loaded:
        try:
            folders = headers()
        except DeviceError:
            folders = []  # CuPy looks in the installed toolkit
        options = ("-std=c++17", *(f"-I{folder}" for folder in folders))
        module = launcher.cupy.RawModule(code=program.text, options=options, backend="nvrtc")
        kernel = module.get_function(program.entry)
        # Above 48 KB it must be asked for.
        kernel.max_dynamic_shared_size_bytes = program.shared
        launcher.loaded[program] = partial(kernel, shared_mem=program.shared)
    return program


def _pointer(array: Any) -> Any:
    return np.uint64(0) if array is None else array


def _checked(network: Network, **arrays: Any) -> int:
    """The rows of the batch, after a look at what is given."""
    n = len(arrays["x"])
    shapes = {
        "x": (n, network.inputs),
        "parameters": (network.parameters,),
        "dy": (n, network.outputs),
    }
    for name, array in arrays.items():
        right = array.dtype == np.float32 and array.flags.c_contiguous
        if array.shape != shapes[name] or not right:
            raise DeviceError(
                f"the fused MLP's {name} has shape {array.shape} and dtype {array.dtype} where it "
                f"needs a contiguous float32 array of shape {shapes[name]}"
            )
    return n


def _sizes(network: Network) -> tuple[int, int, int]:
    return network.inputs, network.outputs, network.depth
