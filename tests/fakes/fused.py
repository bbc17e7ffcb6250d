"""The fused MLP in NumPy and float64, rounded to 16 bits where the kernels round.

Stands for the kernels in CUDA C++ on the fake device, which runs no C++; what they compute
themselves is compared with this in tests/kernels/cuda/test_fused_mlp.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
from gradnet.kernels import fused_mlp
from gradnet.kernels.fused_mlp import Network
from gradnet.kernels.nvrtc import CudaProgram

from gradnet import binding
from gradnet.numpy_calls import UFUNCS

SMALL = Network(5, 16, 3, 2, "relu", "float16")
_NUMPY = {**UFUNCS, "where": np.where}


def half(network: Network) -> Any:
    """NumPy's dtype of the factors."""
    return ml_dtypes.bfloat16 if network.dtype == "bfloat16" else np.float16


def rounded(network: Network, values: Any) -> Any:
    """Float64 values as the factors of products are: rounded to 16 bits."""
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(half(network)).astype(np.float64)


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
    row = fused_mlp.activations()[network.activation]
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


# What a lane has of 16 rows and columns. The lane says which row of 8 and which pair of columns; it
# has both halves of the columns, of each both of the rows, and of these both of the pair.
_LANES = (8, 4, 2, 2, 2)


def kept_as(network: Network, kept: Any, n: int) -> Any:
    """What was kept for backward, in float64 and of shape (depth, n, width)."""
    depth, down, across, *_ = kept.shape
    held = kept.view(half(network)).astype(np.float64).reshape(depth, down, across, *_LANES)
    # (depth, tile, tile's column, row, pair, half, half, one of the pair) as rows and columns.
    rows = held.transpose(0, 1, 6, 3, 2, 5, 4, 7).reshape(depth, 16 * down, network.width)
    return rows[:, :n]


def kept_of(network: Network, held: Any) -> Any:
    """What forward keeps, from values of shape (depth, n, width); zero beyond n."""
    depth, n, width = held.shape
    _, down, across, *_ = shape = network.kept(n)
    rows = np.zeros((depth, 16 * down, width), half(network))
    rows[:, :n] = held
    tiles = rows.reshape(depth, down, 2, 8, across, 2, 4, 2).transpose(0, 1, 4, 3, 6, 5, 2, 7)
    return np.ascontiguousarray(tiles).view(np.uint16).reshape(shape)


def run(program: CudaProgram, arguments: Sequence[Any]) -> None:
    """A launch of one of the three kernels. Parts of the gradient are the first block's alone."""
    width, activation_name, dtype, _ = program.choice
    *arrays, inputs, outputs, depth = arguments
    network = Network(int(inputs), width, int(outputs), int(depth), activation_name, dtype)
    if program.entry == "fused_mlp_forward":
        x, parameters, kept, y, _ = arrays
        y[...], held = reference_forward(network, x, parameters)
        if isinstance(kept, np.ndarray):
            kept[...] = kept_of(network, held)
    elif program.entry == "fused_mlp_backward":
        x, parameters, kept, dy, dx, parts, _ = arrays
        found, gradient = reference_backward(
            network, x, parameters, kept_as(network, kept, len(x)), dy
        )
        if isinstance(dx, np.ndarray):
            dx[...] = found
        parts[...] = 0
        parts.reshape(-1)[: gradient.size] = gradient
    else:
        parts, gradient, _ = arrays
        gradient[...] = parts.reshape(-1)[: gradient.size]


def values(network: Network, n: int, seed: int = 0) -> tuple[Any, Any, Any]:
    """x, the flat parameters and dy of a network."""
    rng = np.random.default_rng(seed)
    parts = []
    for rows, columns in network.shapes:
        parts.append(rng.normal(size=rows * columns) * (1.5 / rows) ** 0.5)
        parts.append(rng.normal(size=columns) * 0.3)
    x = rng.normal(size=(n, network.inputs))
    dy = rng.normal(size=(n, network.outputs))
    flat = np.concatenate(parts)
    return x.astype(np.float32), flat.astype(np.float32), dy.astype(np.float32)
