"""Layers and output units as nodes of ONNX: one function for each class, in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from gradnet import nn
from gradnet.errors import ExportError
from gradnet.io.onnx_graph import Graph, Value, compute
from gradnet.nn.activations import Activation, LogSoftmax, Softmax, elementwise
from gradnet.nn.likelihoods import VARIANCE_FLOOR
from gradnet.nn.mlp import TabularInput
from gradnet.nn.normalization import _Norm
from gradnet.nn.outputs import OutputUnit

M = TypeVar("M", bound=nn.Module)
Outputs = dict[str, Value]
_LAYERS: dict[type[nn.Module], Callable[[Graph, Any, Value], Value]] = {}
_UNITS: dict[str, Callable[[Graph, Any, Value, int], Outputs]] = {}


def layer(graph: Graph, module: Any, x: Value) -> Value:
    """What a module computes, added to the graph.

    Raises ExportError for a class that is not known here, and for one that changes a known one.
    """
    kind = type(module)
    if kind.forward is Activation.forward:
        return _elementwise(x, module.name, module.operands)
    found = _LAYERS.get(kind)
    if found is None:
        raise ExportError(
            f"ONNX export does not know the layer {kind.__name__}; it knows those of gradnet.nn: "
            f"{', '.join(sorted(cls.__name__ for cls in _LAYERS))} and the activations"
        )
    return found(graph, module, x)


def predictions(graph: Graph, unit: OutputUnit, z: Value, targets: int) -> Outputs:
    """What `unit.predict` makes of raw outputs for that many targets or classes, by name.

    Raises ExportError for units that are not known here.
    """
    found = _UNITS.get(unit.name)
    if found is None:
        raise ExportError(
            f"ONNX export does not know what the output unit {unit.name!r} predicts; it knows "
            f"{', '.join(_UNITS)}; export the raw outputs with predict=False"
        )
    return found(graph, unit, z, targets)


def _emits(kind: type[M]) -> Callable[[Callable[[Graph, M, Value], Value]], Any]:
    def keep(function: Callable[[Graph, M, Value], Value]) -> Any:
        _LAYERS[kind] = function
        return function

    return keep


def _predicts(name: str) -> Callable[[Callable[[Graph, Any, Value, int], Outputs]], Any]:
    def keep(function: Callable[[Graph, Any, Value, int], Outputs]) -> Any:
        _UNITS[name] = function
        return function

    return keep


def _values(x: Any) -> Any:
    return x.detach().numpy()


def _elementwise(x: Value, name: str, operands: dict[str, float]) -> Value:
    op = elementwise(name)
    return compute(op.row.formula, f"the activation {name!r}", x, *operands.values())


# Layers


@_emits(nn.Linear)
def _linear(graph: Graph, module: nn.Linear, x: Value) -> Value:
    y = x.do("MatMul", _values(module.weight), rank=x.rank)
    if module.bias is not None:
        y = y + _values(module.bias)
    if module.activation is not None:
        y = _elementwise(y, module.activation, module.operands)
    return y


@_emits(nn.MLP)
def _mlp(graph: Graph, module: nn.MLP, x: Value) -> Value:
    return layer(graph, module.layers, x)


@_emits(nn.Sequential)
def _sequential(graph: Graph, module: nn.Sequential, x: Value) -> Value:
    for member in module:
        x = layer(graph, member, x)
    return x


@_emits(nn.Residual)
def _residual(graph: Graph, module: nn.Residual, x: Value) -> Value:
    skipped = x if module.projection is None else layer(graph, module.projection, x)
    return skipped + layer(graph, module.block, x)


@_emits(nn.Dropout)
def _dropout(graph: Graph, module: nn.Dropout, x: Value) -> Value:
    return x


@_emits(nn.Embedding)
def _embedding(graph: Graph, module: nn.Embedding, codes: Value) -> Value:
    weight = graph.constant(_values(module.weight))
    return graph.node("Gather", weight, codes, rank=codes.rank + 1, axis=0)


@_emits(TabularInput)
def _table(graph: Graph, module: TabularInput, x: Value) -> Value:
    parts = []
    if module.others:
        others = graph.constant(module.others, np.int64)
        parts.append(x.do("Gather", others, rank=2, axis=1))
    for (column, _, _), embedding in zip(module.embeddings, module.vectors, strict=True):
        codes = x.columns(column, column + 1).cast(np.int64).reshape(-1)
        parts.append(layer(graph, embedding, codes))
    return graph.node("Concat", *parts, axis=1)


@_emits(nn.Flatten)
def _flatten(graph: Graph, module: nn.Flatten, x: Value) -> Value:
    if module.start > x.rank:
        raise ExportError(f"Flatten from axis {module.start} gets an input of {x.rank} axes")
    return x.reshape(*[0] * module.start, -1)


@_emits(nn.BatchNorm1d)
def _batch_norm(graph: Graph, module: nn.BatchNorm1d, x: Value) -> Value:
    scale, shift = _affine(module)
    rows = (scale, shift, _values(module.running_mean), _values(module.running_var))
    return x.do("BatchNormalization", *rows, epsilon=module.eps, rank=x.rank)


@_emits(nn.LayerNorm)
def _layer_norm(graph: Graph, module: nn.LayerNorm, x: Value) -> Value:
    return x.do("LayerNormalization", *_affine(module), axis=-1, epsilon=module.eps, rank=x.rank)


def _affine(module: _Norm) -> tuple[Any, Any]:
    if module.weight is None or module.bias is None:
        return np.ones(module.features), np.zeros(module.features)
    return _values(module.weight), _values(module.bias)


@_emits(nn.PReLU)
def _prelu(graph: Graph, module: nn.PReLU, x: Value) -> Value:
    alpha = graph.constant(_values(module.alpha))
    return compute(elementwise("leaky_relu").row.formula, "PReLU", x, alpha)


@_emits(nn.Maxout)
def _maxout(graph: Graph, module: nn.Maxout, x: Value) -> Value:
    # The last two lengths are not both known here: 0 keeps those before, -1 is what is left.
    groups = x.reshape(*[0] * (x.rank - 1), -1, module.groups)
    return groups.over("ReduceMax", -1, keepdims=False)


@_emits(Softmax)
def _softmax(graph: Graph, module: Softmax, x: Value) -> Value:
    return x.do("Softmax", axis=module.axis)


@_emits(LogSoftmax)
def _log_softmax(graph: Graph, module: LogSoftmax, x: Value) -> Value:
    return x.do("LogSoftmax", axis=module.axis)


# Output units


@_predicts("softmax")
def _classes(graph: Graph, unit: OutputUnit, z: Value, targets: int) -> Outputs:
    return {"probabilities": z.do("Softmax", axis=-1)}


@_predicts("sigmoid")
def _labels(graph: Graph, unit: OutputUnit, z: Value, targets: int) -> Outputs:
    return {"probabilities": z.do("Sigmoid")}


@_predicts("linear")
def _numbers(graph: Graph, unit: OutputUnit, z: Value, targets: int) -> Outputs:
    return {"prediction": z}


@_predicts("poisson")
def _counts(graph: Graph, unit: OutputUnit, z: Value, targets: int) -> Outputs:
    return {"prediction": z.do("Exp")}


def _variance(raw: Value) -> Value:
    return _elementwise(raw, "softplus", {}) + VARIANCE_FLOOR


@_predicts("gaussian")
def _gaussian(graph: Graph, unit: OutputUnit, z: Value, targets: int) -> Outputs:
    halves = graph.pair("Split", z, num_outputs=2, axis=1)
    return {"prediction": halves[0], "variance": _variance(halves[1])}


@_predicts("mixture")
def _mixture(graph: Graph, unit: Any, z: Value, targets: int) -> Outputs:
    k = unit.components
    weights = z.columns(0, k).do("Softmax", axis=1).reshape(0, k, 1)
    rest = z.columns(k, np.iinfo(np.int64).max)
    halves = graph.pair("Split", rest, num_outputs=2, axis=1)
    means, raw = (half.reshape(0, k, -1) for half in halves)
    mean = (weights * means).over("ReduceSum", 1)
    apart = (means - mean) * (means - mean)
    variance = (weights * (_variance(raw) + apart)).over("ReduceSum", 1, keepdims=False)
    return {"prediction": mean.reshape(0, -1), "variance": variance}


@_predicts("quantile")
def _quantiles(graph: Graph, unit: Any, z: Value, targets: int) -> Outputs:
    k = len(unit.q)
    z = z.reshape(0, -1, k) if targets > 1 else z
    rising, _ = graph.pair("TopK", z, graph.constant([k], np.int64), axis=-1, largest=0)
    return {"quantiles": rising}
