"""Training by one cluster of blocks in NumPy and float64: `gradnet.kernels.cluster_step`.

Stands for the kernel in CUDA C++ on the fake device, which runs no C++; what that computes itself
is compared with this in tests/kernels/cuda/test_cluster_step.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from gradnet.kernels import cluster_step
from gradnet.kernels.cluster_step import Training
from gradnet.kernels.fused_mlp import Network
from gradnet.kernels.nvrtc import CudaProgram

from fakes import fused
from gradnet import binding
from gradnet.numpy_calls import UFUNCS


def layers(training: Training, flat: Any) -> list[tuple[Any, Any]]:
    """(weights, bias) of each layer as views."""
    found, places = [], training.places
    for i, (n, m) in enumerate(pairwise(training.sizes)):
        w, b = places[2 * i : 2 * i + 2]
        found.append((flat[w : w + n * m].reshape(n, m), flat[b : b + m]))
    return found


def step(
    training: Training, p: Any, states: Any, x: Any, classes: Any, scalars: Any
) -> tuple[float, Any]:
    """A step in place, on p and states of float64: its loss, and the gradient of p."""
    value, slope, keeps_input = fused.activation(Network(1, 16, 1, 1, training.activation))
    update = binding.bind(cluster_step.rule(training).formula, {**UFUNCS, "where": np.where})
    a, kept, inputs = x.astype(np.float64), [], []
    for w, b in layers(training, p):
        z = a @ w + b
        inputs.append(a)
        a = value(z)
        kept.append(z if keeps_input else a)
    probabilities = np.exp(z - z.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    each = np.arange(len(x))
    loss = -np.log(probabilities[each, classes]).mean()
    g = probabilities
    g[each, classes] -= 1
    g /= len(x)
    gradient, used = np.zeros_like(p), np.zeros(p.shape, bool)
    for i, (dw, db) in reversed(list(enumerate(layers(training, gradient)))):
        dw[...], db[...] = inputs[i].T @ g, g.sum(0)
        g = g @ layers(training, p)[i][0].T
        if i:
            g = g * slope(kept[i - 1])
    for w, b in layers(training, used):
        w[...] = b[...] = True
    new = update(p, gradient, *states, *scalars.astype(np.float64))
    for old, one in zip((p, *states), new, strict=True):
        old[used] = one[used]
    return loss, gradient


def reference(training: Training, arguments: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Parameters, states and losses after all steps, in float64."""
    p, states = (np.array(arguments[name], np.float64) for name in ("p", "states"))
    losses = [
        step(training, p, states, arguments["x"][rows], arguments["classes"][rows], scalars)[0]
        for rows, scalars in zip(arguments["order"], arguments["scalars"], strict=True)
    ]
    return p, states, np.array(losses)


def run(program: CudaProgram, arguments: Sequence[Any]) -> None:
    """A launch of the kernel."""
    training = Training(*program.choice)
    *arrays, room, n, steps = (*arguments[:12], arguments[-1])
    x, classes, order, scalars, flat, first, second, gradient, losses, notes = arrays
    apart = dict(zip(("x", "classes", "scalars", "losses"), arguments[12:16], strict=True))
    assert room.shape == (cluster_step.room_of(training),)
    # As the kernel leaves it: the number of steps that were made.
    assert room.dtype == np.uint64
    room[0] += np.uint64(steps)
    moments = [one for one in (first, second) if isinstance(one, np.ndarray)]
    p, *states = (one.astype(np.float64) for one in (flat, *moments))
    count, k = len(cluster_step.rule(training).scalars), training.sizes[0]
    for t in range(int(steps)):
        rows = x.reshape(-1)[t * apart["x"] :][: n * k].reshape(n, k)
        targets = classes.reshape(-1)[t * apart["classes"] :][:n]
        chosen: Any = np.arange(n)
        if isinstance(order, np.ndarray):
            chosen = order.reshape(-1)[t * training.batch :][: training.batch]
        numbers = scalars.reshape(-1)[t * apart["scalars"] :][:count]
        wrong = np.flatnonzero((targets[chosen] < 0) | (targets[chosen] >= training.sizes[-1]))
        if wrong.size and isinstance(notes, np.ndarray) and not notes[0]:
            notes[0] = (wrong[0] << 32) + (targets[chosen][wrong[0]] & 0xFFFFFFFF) + 1
        targets = targets.clip(0, training.sizes[-1] - 1)  # and the loss is not NaN, as there
        loss, g = step(training, p, states, rows[chosen], targets[chosen], numbers)
        losses.reshape(-1)[t * apart["losses"]] = loss
    for old, new in zip((flat, *moments), (p, *states), strict=True):
        old[...] = new
    if isinstance(gradient, np.ndarray):
        for there, here in zip(layers(training, gradient), layers(training, g), strict=True):
            there[0][...], there[1][...] = here
