"""Deep linear networks: however many layers, one says the same."""

from __future__ import annotations

from typing import Any

from gradnet import ops
from gradnet.nn import MLP, Linear, Module, Sequential
from gradnet.tensor import Tensor


def collapse(model: Module) -> Linear:
    """The one layer that computes what a chain of linear layers computes, a copy.

        x W_1 + b_1 -> (x W_1 + b_1) W_2 + b_2 = x (W_1 W_2) + (b_1 W_2 + b_2)

    Depth without a nonlinearity between the layers adds no function, only another way of descent
    to the same ones (Saxe et al. 2013, arXiv:1312.6120), and none of a rank above the narrowest
    layer's width. Takes an `nn.MLP` or `nn.Sequential` of `nn.Linear` without activations, or with
    the identity. Raises ValueError, naming the layer, where another stands between.
    """
    layers = list(_linear(model, type(model).__name__))
    if not layers:
        raise ValueError(f"{type(model).__name__} has no layer to collapse")
    weight: Any = None
    bias: Tensor | None = None
    for layer in layers:
        w = layer.weight.detach()
        own = None if layer.bias is None else layer.bias.detach()
        weight = w if weight is None else ops.matmul(weight, w)
        if bias is not None:
            bias = ops.matmul(bias, w)
            own = bias if own is None else bias + own
        bias = own
    inputs, outputs = weight.shape
    one = Linear(
        inputs,
        outputs,
        bias=bias is not None,
        init="zeros",
        dtype=weight.dtype,
        device=weight.device,
    )
    one.weight.assign_(weight)
    if one.bias is not None and bias is not None:
        one.bias.assign_(bias)
    return one


def _linear(module: Module, name: str) -> list[Linear]:
    """The linear layers of a chain, in order."""
    if isinstance(module, MLP):
        return _linear(module.layers, name)
    if isinstance(module, Sequential):
        parts = [_linear(part, f"{name}[{i}]") for i, part in enumerate(module)]
        return [layer for part in parts for layer in part]
    if isinstance(module, Linear) and module.activation in (None, "identity"):
        return [module]
    if getattr(module, "name", None) in ("identity", "linear"):
        return []
    raise ValueError(f"{name} is {module!r}, not linear: only linear layers collapse into one")
