"""The CUDA backend's fully fused MLP, which captured programs call in the place of their layers."""

from __future__ import annotations

from functools import cache

from gradnet.backends import Array

from . import fused_mlp
from .cuda_device import on_device
from .cuda_products import Products
from .fused_mlp import Kernels, Network

_kernels = cache(Kernels)


class FullyFused(Products):
    """What computes a whole MLP in one launch. Part of the CUDA backend."""

    @on_device
    def _fused_mlp_forward(
        self, network: Network, x: Array, parameters: Array, *, out: tuple[Array | None, Array]
    ) -> None:
        """`out` is what backward needs, or None, and y: see `fused_mlp.forward`."""
        kept, y = out
        fused_mlp.forward(self._device.launch, _kernels(network), x, parameters, kept, y)

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
            *(self._device.launch, _kernels(network)),
            *(x, parameters, kept, dy, dx, parts, gradient),
        )
