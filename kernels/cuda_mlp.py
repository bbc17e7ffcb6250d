"""The CUDA backend's fully fused MLP: of captured programs, and of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from gradnet.backends import Array, Layer
from gradnet.dtypes import DType

from . import fused_mlp
from .cuda_device import on_device
from .cuda_elementwise import aligned
from .cuda_products import Products
from .cuda_templates import staging
from .cuda_templates.program import blocks_for
from .fused_mlp import Kernels, Network

_together = cache(staging.copies)


class FullyFused(Products):
    """What computes a whole MLP in one launch. Part of the CUDA backend."""

    @on_device
    def perceptron(self, x: Array, layers: Sequence[Layer], dtype: DType) -> Array | None:
        network = network_of(x, layers, dtype)
        if self._device.capability < fused_mlp.CAPABILITY:
            return None
        if network is None or not fused_mlp.worthwhile(network, x.shape[0]):
            return None
        float32 = np.dtype(np.float32)
        parts = [self._dense(part) for layer in layers for part in layer[:2]]
        flat = self._device.empty((network.parameters,), float32)
        given: list[Any] = []
        place = flat.data.ptr
        for part in parts:
            given += [part, np.uintp(place), part.size]
            place += part.nbytes
        program = _together(("u4",) * len(parts), 0, False)
        self._launch(program, blocks_for(max(part.size for part in parts)), *given)
        x = self._dense(x)
        x = x if aligned(x) else self._cast(x, float32, None)
        y = self._device.empty((x.shape[0], network.outputs), float32)
        self._fused_mlp_forward(network, x, flat, out=(None, y))
        return y

    @on_device
    def _fused_mlp_forward(
        self, network: Network, x: Array, parameters: Array, *, out: tuple[Array | None, Array]
    ) -> None:
        """`out` is what backward needs, or None, and y: see `fused_mlp.forward`."""
        kept, y = out
        kernels = Kernels.of(network, x.shape[0], self._device.shared)
        fused_mlp.forward(self._device.launch, kernels, x, parameters, kept, y)

    @on_device
    def _fused_mlp_backward(
        self,
        network: Network,
        x: Array,
        parameters: Array,
        kept: Array,
        dy: Array,
        *,
        out: tuple[Array | None, Array, Array],
    ) -> None:
        """`out` is dx, or None, the blocks' parts and the gradient: see `fused_mlp.backward`."""
        dx, parts, gradient = out
        fused_mlp.backward(
            *(self._device.launch, Kernels.of(network, x.shape[0], self._device.shared)),
            *(x, parameters, kept, dy, dx, parts, gradient),
        )


def network_of(x: Array, layers: Sequence[Layer], dtype: DType) -> Network | None:
    """The network that layers are, or None where the kernels cannot compute it."""
    (first, _, formula, parameters), last = layers[0], layers[-1]
    width, hidden = first.shape[1], layers[:-1]
    names = fused_mlp.activations()
    name = next(
        (
            name
            for name, row in names.items()
            if row.formula is formula and tuple(row.defaults.values()) == parameters
        ),
        "",
    )
    alike = all(w.shape[1] == width and (f, s) == (formula, parameters) for w, _, f, s in hidden)
    if not hidden or not alike or last[2] is not None:
        return None
    network = Network(x.shape[1], width, last[0].shape[1], len(hidden), name, dtype.name)
    return None if fused_mlp.refusal(network) else network
