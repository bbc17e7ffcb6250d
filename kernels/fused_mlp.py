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

`kept` and `parts` have layouts of their own, those in which the kernels' lanes hold them.
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

# The first compute capability whose tensor cores take bfloat16, as 8 for 8.0.
CAPABILITY = 8
WIDTHS = (16, 32, 64, 128)
DEPTHS = range(1, 9)
# Warps of a block; more where there are rows for them, and registers.
WARPS, MORE_WARPS = 8, 16
# Blocks of the backward, each with a part of the gradient of its own; a function of the batch
# alone, so that results are the same on every device. Forward has as many as there is room for,
# one or two on a multiprocessor, for each of them rounds all weights.
PARTS = 132
# The shared memory that a block of compute capability 9.0 can have.
SHARED = 227 * 1024

FLOATS = {"float16": "f2", "bfloat16": "b2"}
_KEPT = "u2*"
_SIGNATURES = {
    "forward": ("f4*", "f4*", _KEPT, "f4*", "i8", "i4", "i4", "i4"),
    "backward": ("f4*", "f4*", _KEPT, "f4*", "f4*", "f4*", "i8", "i4", "i4", "i4"),
    "reduce": ("f4*", "f4*", "i4", "i4", "i4", "i4"),
}
KINDS = tuple(_SIGNATURES)
# Parts of WIDTH rows and columns that the weights of most networks have: those of 8 hidden layers,
# of four times as many inputs, and of as many outputs.
_CHUNKS = 12
# Blocks that add up the parts of the gradient, at most.
_MOST_SUMMING = 132 * 8


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
        """How many float32 a block's part of the gradient takes: weights in whole chunks."""
        before, after = (-(-size // self.width) for size in (self.inputs, self.outputs))
        return self.width * (self.width * (before + self.depth - 1 + after) + self.depth + after)

    def kept(self, n: int) -> tuple[int, ...]:
        """The shape of the uint16 array of what backward needs, for n rows.

        By layers, 16 rows, 16 columns, and lanes: see `Factor` in the kernels' text.
        """
        return self.depth, -(-n // 16), self.width // 16, 32, 8


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
    if row is None:
        return f"{network.activation!r} is no activation"
    if row.derivatives[0] is None:
        return f"{network.activation!r} has no derivative"
    return ""


class Bound(NamedTuple):
    """The fewest rows that networks of a width gain by, and the most inputs or outputs at any."""

    rows: int
    ends: int


# Where the fused kernels are expected to be faster than one product after the other, for whoever
# cannot time them. These are estimates: of a captured step, a layer is four or five nodes, 2-3 us
# each, and takes a block about 1-3 us of each kernel, so that the fewest rows already gain. Large
# batches gain what activations do not move through memory. But where a block's shared memory has
# no room for it, the gradient of the weights is in the cache, and a block adds to every tile of it
# once for its 128 rows: that costs 8 * WIDTH bytes for each input, where the products one after
# the other read 2 * 128. So many inputs gain as long as every block has one round of rows, and
# lose with more.
WORTH = {16: Bound(1, 512), 32: Bound(1, 256), 64: Bound(1, 256), 128: Bound(1, 256)}
# With more inputs or outputs, the most rows: one round of every block.
ONE_ROUND = 16 * WARPS * PARTS

# The environment variable that switches it, looked at when a function is captured: "0" never, "1"
# wherever the kernels can, and otherwise where it turns out to be faster.
SWITCH = "GRADNET_FUSED_MLP"
NEVER, ALWAYS = "0", "1"


def switched() -> str:
    """How it is switched now."""
    return os.environ.get(SWITCH, "")


def expected(network: Network, n: int) -> bool:
    """Whether the kernels are expected to be faster at a network, for a batch of n rows."""
    bound = WORTH[network.width]
    few = max(network.inputs, network.outputs) <= bound.ends
    return n >= bound.rows and (few or n <= ONE_ROUND)


def worthwhile(network: Network, n: int) -> bool:
    """Whether a network that is computed but once is given to the kernels: nothing is timed."""
    switch = switched()
    return switch == ALWAYS if switch in (NEVER, ALWAYS) else expected(network, n)


class Kernels:
    """The three programs of a network. `warps` of 16 rows each make a block.

    Networks of the same width, activation and type share them. `shared` is how many bytes of shared
    memory a block can have. Raises DeviceError where the network is not one that the kernels can
    compute.
    """

    def __init__(self, network: Network, warps: int = WARPS, shared: int = SHARED) -> None:
        if reason := refusal(network):
            raise DeviceError(f"the fused MLP kernels cannot compute this network: {reason}")
        self.network = network
        self.rows = 16 * warps
        self.text = text(network.width, network.activation, network.dtype, warps, shared)
        self.forward, self.backward, self.reduce = (
            _program(kind, network.width, network.activation, network.dtype, warps, shared)
            for kind in KINDS
        )

    @classmethod
    def of(cls, network: Network, n: int, shared: int = SHARED) -> Kernels:
        """The programs for a batch of n rows."""
        more = n > ONE_ROUND and network.width < WIDTHS[-1]
        return cls(network, MORE_WARPS if more else WARPS, shared)

    def blocks(self, n: int, most: int) -> int:
        """How many blocks take the rows of a batch."""
        return max(1, min(-(-n // self.rows), most))

    def parts(self, n: int) -> tuple[int, int]:
        """The shape of the float32 array that backward needs for its blocks' parts."""
        return self.blocks(n, PARTS), self.network.part


def two(width: int, warps: int) -> bool:
    """Whether two blocks of forward have room on a multiprocessor, by their registers."""
    return width < WIDTHS[-1] and warps <= WARPS


def shared_bytes(kind: str, width: int, warps: int = WARPS, shared: int = SHARED) -> int:
    """The shared memory of a block: the weights, if there is room for all, or else of one layer.

    Backward has its rows there too, and what it has room for of the weights' gradient. It is what
    the largest networks can make use of, or as much as there is; half of it where there are `two`.
    """
    chunk, rows = 2 * width * (width + 8), 2 * 16 * warps * (width + 8)
    if kind == "reduce":
        return 16 * 32 * warps
    if kind == "forward":
        return min(_CHUNKS * chunk, (shared - 1024) // 2 if two(width, warps) else shared)
    return min(rows + _CHUNKS * (chunk + 4 * width * width), shared)


@cache
def text(width: int, activation: str, dtype: str, warps: int = WARPS, shared: int = SHARED) -> str:
    """The CUDA C++ of the three kernels: what is chosen, the formulas, then the files."""
    functions, keeps_input = c_formulas.activation(activations()[activation])
    return "".join(
        (
            f"constexpr int WIDTH = {width};\n",
            f"constexpr int WARPS = {warps};\n",
            *(
                f"constexpr int SHARED_{kind.upper()} = "
                f"{shared_bytes(kind, width, warps, shared)};\n"
                for kind in ("forward", "backward")
            ),
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

    `parameters` is flat: each layer's weights (in, out), then its bias. `kept` is uint16 of the
    shape that `network.kept` gives, all else float32. Raises DeviceError for other arrays.
    """
    network = kernels.network
    n = _checked(network, parameters=parameters, x=x, y=y, kept=kept)
    if n:
        most = PARTS * (2 if two(network.width, kernels.rows // 16) else 1)
        blocks = kernels.blocks(n, most)
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
    over = max(1, min(-(-network.part // kernels.reduce.threads), _MOST_SUMMING))
    launch(kernels.reduce, over, parts, gradient, blocks, *sizes)


Launch = Callable[..., None]


@cache
def activations() -> dict[str, Row]:
    """The rows of activations by name and alias."""
    rows = [row for row in formulas.ROWS if row.activation]
    return {name: row for row in rows for name in (row.name, *row.aliases)}


@cache
def _body() -> str:
    here = Path(__file__).parent
    return "".join((here / name).read_text("utf-8") for name in ("warp_tiles.cu", "fused_mlp.cu"))


@cache
def _program(
    kind: str, width: int, activation: str, dtype: str, warps: int, shared: int
) -> CudaProgram:
    # A launcher keeps what it loaded by program: there is one for all networks that share it.
    return CudaProgram(
        f"fused_mlp_{kind}",
        text(width, activation, dtype, warps, shared),
        _SIGNATURES[kind],
        32 * warps,
        shared_bytes(kind, width, warps, shared),
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
        "kept": network.kept(n),
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
