"""The fully fused MLP: forward in one kernel, backward in one and the sum of its parts.

The network is inputs -> width -> ... -> width -> outputs, with one activation after each of its 1
to 8 hidden layers and none after the last. `fused_mlp.cu` says how it computes; here is when it
applies, what it is compiled for, and how it is launched. Its 16-bit factors are rounded from
float32, so x, y, the parameters and all gradients are float32 arrays. Whoever trains in float16
scales the gradient it gives to `backward`.

    network = Network(inputs=784, width=128, outputs=10, depth=1, activation="relu")
    kernels = Kernels(network)
    forward(launch, kernels, x, parameters, kept, y)
    backward(launch, kernels, x, parameters, kept, dy, dx, parts, gradient)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gradnet import formulas
from gradnet.errors import DeviceError
from gradnet.formulas.rows import Row

from . import c_formulas
from .nvrtc import CudaProgram

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
KINDS = tuple(_SIGNATURES)


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
    row = activations().get(network.activation)
    if row is None or not row.activation:
        return f"{network.activation!r} is no activation"
    if row.derivatives[0] is None:
        return f"{network.activation!r} has no derivative"
    return ""


class Bound(NamedTuple):
    """The fewest rows that networks of a width gain by, and the most inputs or outputs at any."""

    rows: int
    ends: int


# Where the fused kernels are expected to be faster than one product after the other. These are
# estimates, which a measurement replaces: of a captured step, a layer is four or five nodes, 2-3 us
# each, and takes a block about 1-3 us of each kernel, so that the fewest rows already gain. Large
# batches gain what activations do not move through memory. But a block adds every tile of the
# weights' gradient to its part of it in the cache, once for its 128 rows: that costs 8 * WIDTH
# bytes for each input, where the products one after the other read 2 * 128. So many inputs gain as
# long as every block has one round of rows, and lose with more.
WORTH = {16: Bound(1, 512), 32: Bound(1, 256), 64: Bound(1, 256), 128: Bound(1, 256)}
# With more inputs or outputs, the most rows: one round of every block.
ONE_ROUND = 16 * WARPS * PARTS

# The environment variable that switches it, looked at when a function is captured: "0" never, "1"
# wherever the kernels can, and otherwise where WORTH expects a gain.
SWITCH = "GRADNET_FUSED_MLP"


def worthwhile(network: Network, n: int) -> bool:
    """Whether a network that the kernels can compute is given to them, for a batch of n rows."""
    switch = os.environ.get(SWITCH, "")
    if switch in ("0", "1"):
        return switch == "1"
    bound = WORTH[network.width]
    few = max(network.inputs, network.outputs) <= bound.ends
    return n >= bound.rows and (few or n <= ONE_ROUND)


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
            for kind in KINDS
        )

    def blocks(self, n: int, most: int) -> int:
        """How many blocks take the rows of a batch."""
        return max(1, min(-(-n // self.rows), most))

    def parts(self, n: int) -> tuple[int, int]:
        """The shape of the float32 array that backward needs for its blocks' parts."""
        return self.blocks(n, PARTS), self.network.part


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
    functions, keeps_input = c_formulas.activation(activations()[activation])
    return "".join(
        (
            f"constexpr int WIDTH = {width};\n",
            f"constexpr int WARPS = {warps};\n",
            f"constexpr bool BFLOAT16 = {str(dtype == 'bfloat16').lower()};\n",
            f"constexpr bool KEEPS_INPUT = {str(keeps_input).lower()};\n",
            functions,
            _body(),
        )
    )


def forward(
    launch: Launch, kernels: Kernels, x: Any, parameters: Any, kept: Any | None, y: Any
) -> None:
    """y (n, outputs) of x (n, inputs), and what backward needs in `kept`, where it is given.

    `parameters` is flat: each layer's weights (in, out), then its bias. `kept` is uint16 of shape
    (depth, n, width), all else float32. Raises DeviceError for other arrays.
    """
    network = kernels.network
    n = _checked(network, parameters=parameters, x=x, y=y, kept=kept)
    if n:
        blocks = kernels.blocks(n, BLOCKS)
        arrays = (x, parameters, _pointer(kept), y)
        launch(kernels.forward, blocks, *arrays, n, *_sizes(network))


def backward(
    launch: Launch,
    kernels: Kernels,
    x: Any,
    parameters: Any,
    kept: Any,
    dy: Any,
    dx: Any | None,
    parts: Any,
    gradient: Any,
) -> None:
    """The gradients of x, where `dx` is given, and of the flat parameters.

    `parts` is of the shape that `kernels.parts` gives. Raises DeviceError as forward does.
    """
    network = kernels.network
    n = _checked(network, parameters=parameters, x=x, y=dy, kept=kept, inputs=dx, gradient=gradient)
    if not n:
        gradient.fill(0)
        return
    blocks, sizes = kernels.blocks(n, PARTS), _sizes(network)
    launch(kernels.backward, blocks, x, parameters, kept, dy, _pointer(dx), parts, n, *sizes)
    over = max(1, min(-(-network.parameters // kernels.reduce.threads), BLOCKS))
    launch(kernels.reduce, over, parts, gradient, blocks, *sizes)


Launch = Callable[..., None]


@cache
def activations() -> dict[str, Row]:
    """The formulas' rows by name and alias."""
    return {name: row for row in formulas.ROWS for name in (row.name, *row.aliases)}


@cache
def _body() -> str:
    return (Path(__file__).parent / "fused_mlp.cu").read_text(encoding="utf-8")


def _padded(size: int) -> int:
    return -(-size // 16) * 16


@cache
def _program(kind: str, width: int, activation: str, dtype: str, warps: int) -> CudaProgram:
    # A launcher keeps what it loaded by program: there is one for all networks that share it.
    return CudaProgram(
        f"fused_mlp_{kind}",
        text(width, activation, dtype, warps),
        _SIGNATURES[kind],
        32 * warps,
        shared_bytes(kind, width, warps),
        (width, activation, dtype, warps),
    )


def _pointer(array: Any) -> Any:
    return np.uint64(0) if array is None else array


def _checked(network: Network, **arrays: Any) -> int:
    """The rows of the batch, after a look at what is given."""
    n: int = arrays["x"].shape[0]
    flat, rows = (network.parameters,), (n, network.inputs)
    shapes = {
        "x": rows,
        "inputs": rows,
        "y": (n, network.outputs),
        "kept": (network.depth, n, network.width),
        "parameters": flat,
        "gradient": flat,
    }
    for name, array in arrays.items():
        if array is None:
            continue
        dtype = np.dtype(np.uint16 if name == "kept" else np.float32)
        right = array.dtype == dtype and array.flags.c_contiguous
        if array.shape != shapes[name] or not right:
            raise DeviceError(
                f"the fused MLP's {name} has shape {array.shape} and dtype {array.dtype} where it "
                f"needs a contiguous {dtype} array of shape {shapes[name]}"
            )
    return n


def _sizes(network: Network) -> tuple[int, int, int]:
    return network.inputs, network.outputs, network.depth
