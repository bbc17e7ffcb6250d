"""Modules made of modules: Sequential and Residual."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

from gradnet import ops, precision
from gradnet.errors import ShapeError
from gradnet.nn.activations import Activation, Maxout, PReLU
from gradnet.nn.layers import Dropout, Linear
from gradnet.nn.module import Module, register
from gradnet.nn.normalization import BatchNorm1d, LayerNorm
from gradnet.ops.stacked import linear_stack
from gradnet.tensor import Tensor

# What takes floats of 16 bits in a precision of so many.
_TAKE_16_BITS = (Maxout, PReLU, BatchNorm1d, LayerNorm)


@register
class Sequential(Module):
    """Modules called one after the other: Sequential(Linear(2, 8), ReLU(), Linear(8, 1)).

    A Linear and the elementwise activation behind it run as one fused op, with the same results.
    """

    def __init__(self, *layers: Module) -> None:
        for layer in layers:
            self.append(layer)

    def append(self, layer: Module) -> None:
        """Add a module at the end.

        Raises TypeError for what is no module.
        """
        if not isinstance(layer, Module):
            raise TypeError(
                f"Sequential takes modules, got {type(layer).__name__}; an activation is a module "
                'with capitals (nn.ReLU()) or by name (nn.activation("relu"))'
            )
        setattr(self, str(len(self)), layer)

    def forward(self, x: Any) -> Any:
        """Through all modules in order."""
        layers = tuple(self)
        if precision.current() is not None:
            whole = linear_stack(x, lambda: _linear(layers))
            if whole is not None:
                return whole
        i, count = 0, len(layers)
        while i < count:
            layer = layers[i]
            if i + 1 < count and _fuses(layer, layers[i + 1]):
                act = layers[i + 1]
                x = ops.linear(x, layer.weight, layer.bias, activation=act.name, **act.operands)
                i += 2
                continue
            if i + 1 < count and _narrows(layer, layers[i + 1]):
                x = ops.linear(x, layer.weight, layer.bias, narrow=True)
            else:
                x = layer(x)
            i += 1
        return x

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Any]:
        members = self.__dict__
        return iter([members[name] for name in self._members])

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> Sequential: ...

    def __getitem__(self, index: int | slice) -> Any:
        picked = list(self)[index]
        return Sequential(*picked) if isinstance(index, slice) else picked

    def config(self) -> dict[str, Any]:
        return {"class": "Sequential", "layers": [layer.config() for layer in self]}

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> Module:
        return cls(*arguments["layers"])


def _fuses(layer: Module, following: Module) -> bool:
    """Whether two modules are a plain Linear and an elementwise activation that nobody watches."""
    return (
        type(layer) is Linear
        and layer.activation is None
        and type(following).forward is Activation.forward
        and not layer._hooks
        and not following._hooks
    )


def _narrows(layer: Module, following: Module) -> bool:
    """Whether a plain Linear that nobody watches is followed by what takes floats of 16 bits."""
    plain = type(layer) is Linear and layer.activation is None and not layer._hooks
    return plain and type(following) in _TAKE_16_BITS and layer.product_precision is None


def _linear(layers: Sequence[Module]) -> list[Any] | None:
    """Modules as `linear_stack` takes them, if they are plain layers that nobody watches."""
    found: list[Any] = []
    i = 0
    while i < len(layers):
        layer: Any = layers[i]
        if i + 1 < len(layers) and _fuses(layer, layers[i + 1]):
            act: Any = layers[i + 1]
            found.append((layer.weight, layer.bias, act.name, act.operands))
            i += 1
        elif type(layer) is Linear and not layer._hooks:
            found.append((layer.weight, layer.bias, layer.activation, layer.operands))
        elif type(layer) is not Dropout or layer.training or layer._hooks:
            return None
        i += 1
    own = any(layer.product_precision is not None for layer in layers)
    return None if own or any(bias is None for _, bias, *_ in found) else found


@register
class Residual(Module):
    """x + block(x), or projection(x) + block(x). He et al. 2015, arXiv:1512.03385.

    Raises ShapeError where the two do not have one shape: then a `projection`, such as
    Linear(inputs, outputs, bias=False), is needed.
    """

    projection: Module | None

    def __init__(self, block: Module, projection: Module | None = None) -> None:
        self.block = block
        self.projection = projection

    def forward(self, x: Any) -> Tensor:
        """The shape of what the block returns.

        Raises ShapeError where the block's output has another shape than what is added to it.
        """
        skipped = ops.asarray(x) if self.projection is None else self.projection(x)
        y: Tensor = self.block(x)
        if y.shape != skipped.shape:
            raise ShapeError(
                f"Residual cannot add its block's output, shape {y.shape}, to the skipped values, "
                f"shape {skipped.shape}; give it a projection to that width"
            )
        return skipped + y

    def config(self) -> dict[str, Any]:
        return {
            "class": "Residual",
            "block": self.block.config(),
            "projection": None if self.projection is None else self.projection.config(),
        }
