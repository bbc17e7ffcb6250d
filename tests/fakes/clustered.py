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
from gradnet.numpy_backend import UFUNCS


def layers(training: Training, flat: Any) -> list[tuple[Any, Any]]:
    """(weights, bias) of each layer as views."""
    found, places = [], training.places
    for i, (n, m) in enumerate(pairwise(training.sizes)):
        w, b = places[2 * i : 2 * i + 2]
        found.append((flat[w : w + n * m].reshape(n, m), flat[b : b + m]))
    return found


def reference(training: Training, arguments: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Parameters, states and losses after all steps, in float64."""
    value, slope, keeps_input = fused.activation(Network(1, 16, 1, 1, training.activation))
    update = binding.bind(cluster_step.rule(training).formula, {**UFUNCS, "where": np.where})
    p, states = (np.array(arguments[name], np.float64) for name in ("p", "states"))
    losses = []
    for rows, scalars in zip(arguments["order"], arguments["scalars"], strict=True):
        a, classes = arguments["x"][rows].astype(np.float64), arguments["classes"][rows]
        kept, inputs = [], []
        for w, b in layers(training, p):
            z = a @ w + b
            inputs.append(a)
            a = value(z)
            kept.append(z if keeps_input else a)
        probabilities = np.exp(z - z.max(1, keepdims=True))
        probabilities /= probabilities.sum(1, keepdims=True)
        each = np.arange(len(rows))
        losses.append(-np.log(probabilities[each, classes]).mean())
        g = probabilities
        g[each, classes] -= 1
        g /= len(rows)
        gradient = np.zeros_like(p)
        for i, (dw, db) in reversed(list(enumerate(layers(training, gradient)))):
            dw[...], db[...] = inputs[i].T @ g, g.sum(0)
            g = g @ layers(training, p)[i][0].T
            if i:
                g = g * slope(kept[i - 1])
        used = np.zeros(p.shape, bool)
        for w, b in layers(training, used):
            w[...] = b[...] = True
        new = update(p, gradient, *states, *scalars.astype(np.float64))
        p[used] = new[0][used]
        for state, one in zip(states, new[1:], strict=True):
            state[used] = one[used]
    return p, states, np.array(losses)


def run(program: CudaProgram, arguments: Sequence[Any]) -> None:
    """A launch of the kernel."""
    names = ("x", "classes", "order", "scalars", "p", "states", "losses")
    given = dict(zip(names, arguments, strict=False))
    found = reference(Training(*program.choice), given)
    for name, values in zip(("p", "states", "losses"), found, strict=True):
        given[name][...] = values
