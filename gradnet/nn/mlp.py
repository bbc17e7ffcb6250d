"""MLP: the multilayer perceptron with its output unit; and the embedding front of tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gradnet import dtypes, ops
from gradnet.errors import ShapeError
from gradnet.nn import init as initializers
from gradnet.nn.activations import Activation, Maxout
from gradnet.nn.activations import activation as activation_layer
from gradnet.nn.containers import Residual, Sequential
from gradnet.nn.layers import Dropout, Embedding, Linear, positive
from gradnet.nn.module import Module, register
from gradnet.nn.normalization import BatchNorm1d, LayerNorm
from gradnet.nn.outputs import OutputUnit, output_unit
from gradnet.precision import named, of_products, of_weights
from gradnet.random import Generator
from gradnet.tensor import Tensor

_NORMS = {"batch": BatchNorm1d, "layer": LayerNorm}


def embedding_width(count: int) -> int:
    """A usual width for that many categories: 1.6 count^0.56, at most 64 (the fastai rule)."""
    return min(64, max(1, round(1.6 * math.pow(count, 0.56))))


@register
class TabularInput(Module):
    """The front of a network on tables: columns of codes become learned vectors.

    `embeddings` lists (column, count) or (column, count, width) of the columns that hold codes
    0 ... count - 1, as floats or integers. The result is the other columns, in order, then the
    vectors: (n, features) -> (n, `width`). Raises IndexError for a code out of range.
    Guo and Berkhahn 2016, arXiv:1604.06737.
    """

    def __init__(
        self,
        features: int,
        embeddings: Sequence[Sequence[int]],
        *,
        generator: Generator | None = None,
        dtype: Any = None,
        device: str | None = None,
    ) -> None:
        positive("TabularInput", features=features)
        self.features = features
        self.embeddings = [_embedding(entry, features) for entry in embeddings]
        columns = [column for column, _, _ in self.embeddings]
        if len(set(columns)) != len(columns):
            raise ValueError(f"TabularInput got a column twice among {columns}")
        self.others = [i for i in range(features) if i not in columns]
        self.vectors = Sequential(
            *(
                Embedding(count, width, generator=generator, dtype=dtype, device=device)
                for _, count, width in self.embeddings
            )
        )

    @property
    def width(self) -> int:
        """How many values a row has after it."""
        return len(self.others) + sum(width for _, _, width in self.embeddings)

    def forward(self, x: Any) -> Tensor:
        """(n, features) -> (n, width)"""
        x = ops.asarray(x)
        if x.ndim != 2 or x.shape[1] != self.features:
            raise ShapeError(f"TabularInput takes (n, {self.features}), got shape {x.shape}")
        parts = [x[:, self.others]] if self.others else []
        for (column, _, _), embedding in zip(self.embeddings, self.vectors, strict=True):
            codes = ops.astype(x[:, column].detach(), dtypes.int64)
            parts.append(embedding(codes))
        return ops.concat(parts, axis=1)

    def example(self) -> Tensor | None:
        weight = next(self.vectors.parameters())
        return ops.zeros((1, self.features), dtype=weight.dtype, backend=weight.backend)

    def config(self) -> dict[str, Any]:
        return {
            "class": "TabularInput",
            "features": self.features,
            "embeddings": [list(entry) for entry in self.embeddings],
        }

    def details(self) -> str:
        return f"{self.features}, {self.embeddings}"


def _embedding(entry: Sequence[int], features: int) -> tuple[int, int, int]:
    """(column, count, width), the width by rule if it is not given."""
    if len(entry) not in (2, 3):
        raise ValueError(
            f"TabularInput takes (column, count) or (column, count, width), got {tuple(entry)}"
        )
    column, count = entry[:2]
    if not 0 <= column < features:
        raise ValueError(
            f"TabularInput has columns 0 to {features - 1}, got an embedding for column {column}"
        )
    positive("TabularInput", count=count)
    width = entry[2] if len(entry) == 3 else embedding_width(count)
    return column, count, width


@register
class MLP(Module):
    """A multilayer perceptron: (n, sizes[0]) -> (n, units), the raw values of its output unit.

    sizes          inputs, widths of the hidden layers, and targets: the classes of "softmax", else
                   the columns ("gaussian", "mixture" and "quantile" have several units for each)
    activation     of the hidden layers, by name; `activation_operands` are its settings, such as
                   {"alpha": 0.1} or, for "maxout", {"groups": 3}
    dropout        probability behind every hidden layer; `input_dropout` before the first
    output         "softmax", "sigmoid", "linear" or another of `nn.outputs.names()`; with settings
                   {"name": "mixture", "components": 5}; or an OutputUnit: `model.output`
    norm           "batch" or "layer": normalise before each hidden activation
    residual       skip each hidden layer whose input and output have one width: x + layer(x);
                   where the width changes there is no skip
    bias           batch norm has a shift of its own, so layers before one have no bias
    init           initialiser by name; without it by the activation: He for rectifiers, LeCun for
                   SELU, Glorot otherwise and for the output layer
    embeddings     columns of codes, as `TabularInput` takes them
    precision      "float32", "float64": that of the weights; "tf32", "bfloat16", "float16": float32
                   weights, and that of the factors of products, see `gradnet.precision`

    Weights are drawn from `generator`, from one of `seed`, or from the default generator.
    Raises ValueError and KeyError for settings that make no network.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str = "relu",
        dropout: float = 0.0,
        output: str | Mapping[str, Any] | OutputUnit = "linear",
        *,
        norm: str | None = None,
        residual: bool = False,
        bias: bool = True,
        input_dropout: float = 0.0,
        activation_operands: dict[str, Any] | None = None,
        init: str | initializers.Initializer | None = None,
        embeddings: Sequence[Sequence[int]] = (),
        seed: int | None = None,
        generator: Generator | None = None,
        dtype: Any = None,
        device: str | None = None,
        precision: Any = None,
    ) -> None:
        sizes = tuple(sizes)
        if len(sizes) < 2:
            raise ValueError(f"MLP needs sizes (inputs, ..., targets), at least two, got {sizes}")
        for i, size in enumerate(sizes):
            positive("MLP", **{f"sizes[{i}]": size})
        if norm is not None and norm not in _NORMS:
            raise ValueError(f"MLP has norm None, 'batch' or 'layer', got {norm!r}")
        if seed is not None and generator is not None:
            raise ValueError("MLP takes a seed or a generator, not both")
        self.sizes, self.activation = sizes, activation
        self.activation_operands = dict(activation_operands or {})
        self.dropout, self.input_dropout = dropout, input_dropout
        self.norm, self.residual, self.bias = norm, residual, bias
        self.init = init if isinstance(init, str) else None
        self.output = output_unit(output)
        if precision is not None:
            dtype = _weights(precision, dtype)
            self.product_precision = of_products(precision)
        source = Generator(seed) if seed is not None else generator
        place: dict[str, Any] = {"dtype": dtype, "device": device}
        layers: list[Module] = []
        width = sizes[0]
        self.embeddings = [list(entry) for entry in embeddings]
        if embeddings:
            front = TabularInput(sizes[0], embeddings, generator=source, **place)
            layers.append(front)
            width = front.width
        if input_dropout:
            layers.append(Dropout(input_dropout))
        for wide in sizes[1:-1]:
            block = self._hidden(width, wide, {"init": init, "generator": source, **place}, place)
            if residual and width == wide:
                layers.append(Residual(Sequential(*block)))
            else:
                layers.extend(block)
            width = wide
        units = self.output.units(sizes[-1])
        layers.append(Linear(width, units, bias=bias, init=init, generator=source, **place))
        self.layers = Sequential(*layers)

    def _hidden(
        self, inputs: int, outputs: int, drawn: dict[str, Any], place: dict[str, Any]
    ) -> list[Module]:
        """A hidden layer: product, norm, activation, dropout."""
        name, operands = self.activation, self.activation_operands
        if name == "prelu":
            act: Module = activation_layer(name, **{"count": outputs, **operands, **place})
        else:
            act = activation_layer(name, **operands)
        wide = outputs * act.groups if isinstance(act, Maxout) else outputs
        drawn = {**drawn, "init": drawn["init"] or initializers.for_activation(name)}
        bias = self.bias and self.norm != "batch"
        if self.norm is None and isinstance(act, Activation):
            layers: list[Module] = [
                Linear(inputs, wide, bias=bias, activation=name, operands=operands, **drawn)
            ]
        else:
            layers = [Linear(inputs, wide, bias=bias, **drawn)]
            if self.norm is not None:
                layers.append(_NORMS[self.norm](wide, **place))
            layers.append(act)
        return [*layers, Dropout(self.dropout)] if self.dropout else layers

    def details(self) -> str:
        return f"output={self.output.config()!r}"

    def forward(self, x: Any) -> Tensor:
        """(n, sizes[0]) -> (n, units), raw: `model.output.predict` makes predictions of them."""
        y: Tensor = self.layers(x)
        return y

    def config(self) -> dict[str, Any]:
        return {
            "class": "MLP",
            "sizes": list(self.sizes),
            "activation": self.activation,
            "dropout": self.dropout,
            "output": self.output.config(),
            "norm": self.norm,
            "residual": self.residual,
            "bias": self.bias,
            "input_dropout": self.input_dropout,
            "activation_operands": self.activation_operands,
            "init": self.init,
            "embeddings": self.embeddings,
            "precision": self.product_precision,
        }


def _weights(precision: Any, dtype: Any) -> str:
    """The dtype of weights in a precision. Raises ValueError beside another one."""
    found = of_weights(precision)
    if dtype is not None and dtypes.canonical(dtype).name != found:
        raise ValueError(
            f"MLP in precision {named(precision)!r} has {found} weights, got dtype "
            f"{dtypes.canonical(dtype).name}; leave the dtype out"
        )
    return found
