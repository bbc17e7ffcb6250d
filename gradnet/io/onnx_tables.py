"""The preprocessing of tables and images as nodes of ONNX: raw cells in, features out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradnet.data.encoders import CLIP, Embedded, Encoder, OneHot, Pixels, Quantile
from gradnet.data.files import MISSING_WORDS
from gradnet.data.preprocessing import Preprocessing
from gradnet.errors import ExportError
from gradnet.io.onnx_graph import Graph, Value

ROWS = "rows"
"""The name of the length that is free."""


def features(graph: Graph, preprocessing: Preprocessing) -> Value:
    """The inputs of the graph, and the features (n, k) that are made of them.

    A column of numbers is float64 (n,), NaN where missing; one of categories text (n,), where
    missing "" or another of the words that stand for nothing in files. Images are
    (n, height, width[, channels]).
    """
    inputs = preprocessing.inputs
    if isinstance(inputs, Pixels):
        return _pixels(graph, inputs)
    parts = [_column(graph, encoder) for encoder in inputs if encoder.features]
    return graph.node("Concat", *parts, axis=1)


def _column(graph: Graph, encoder: Encoder) -> Value:
    """The features of one column, as the network's floats: (n, its features)."""
    if isinstance(encoder, OneHot):
        size, nowhere = len(encoder.categories), len(encoder.features)
        codes = _codes(
            graph,
            encoder,
            range(size),
            unknown=size if encoder.other else nowhere,
            gap=size + encoder.other if encoder.missing else nowhere,
        )
        return (codes == graph.constant(np.arange(nowhere), np.int64)).cast(graph.float)
    if isinstance(encoder, Embedded):
        places = range(1, len(encoder.categories) + 1)
        return _codes(graph, encoder, places, unknown=0, gap=0).cast(graph.float)
    x = graph.input(encoder.name, np.float64, (ROWS,)).reshape(-1, 1)
    gaps = x.do("IsNaN")
    zero = graph.constant(0, np.float64)
    y = gaps.do("Where", zero, _number(graph, encoder, x), rank=2).cast(graph.float)
    missing = getattr(encoder, "missing", False)
    return graph.node("Concat", y, gaps.cast(graph.float), axis=1) if missing else y


def _number(graph: Graph, encoder: Any, x: Value) -> Value:
    """A column's numbers (n, 1) standardised, in float64 as when the network was trained."""

    def double(value: Any) -> Value:
        return graph.constant(value, np.float64)

    if not isinstance(encoder, Quantile):
        z = (x - double(encoder.mean)) / double(encoder.scale)
        return z.do("Clip", double(-CLIP), double(CLIP), rank=2)
    knots, scores = np.array(encoder.knots), np.array(encoder.scores)
    x = x.do("Clip", double(knots[0]), double(knots[-1]), rank=2)
    # The piece that a value lies in: how many of the inner knots it has reached.
    inner = knots[1:-1] if len(knots) > 2 else np.array([np.inf])
    piece = (x >= double(inner)).cast(np.int64).over("ReduceSum", 1)
    slopes = np.diff(scores) / np.diff(knots) if len(knots) > 1 else np.zeros(1)
    slope, knot, score = (
        graph.node("Gather", double(values), piece, rank=2, axis=0)
        for values in (slopes, knots, scores)
    )
    return slope * (x - knot) + score


def _codes(
    graph: Graph, encoder: OneHot | Embedded, places: Sequence[int], *, unknown: int, gap: int
) -> Value:
    """The place of each cell's category: text (n,) -> int64 (n, 1)."""
    codes = dict.fromkeys(MISSING_WORDS, gap)
    codes.update(_spelled(dict(zip(encoder.categories, places, strict=True))))
    cells = graph.input(encoder.name, str, (ROWS,))
    found = cells.do(
        "LabelEncoder",
        domain="ai.onnx.ml",
        keys_strings=list(codes),
        values_int64s=list(codes.values()),
        default_int64=unknown,
    )
    return found.reshape(-1, 1)


def _spelled(codes: Mapping[str, int]) -> dict[str, int]:
    """With the spellings of true and false that readers take for one."""
    if not set(codes) <= {"true", "false"}:
        return dict(codes)
    return {
        form(text): code for text, code in codes.items() for form in (str, str.title, str.upper)
    }


def _pixels(graph: Graph, pixels: Pixels) -> Value:
    dtypes = {255.0: np.uint8, 65535.0: np.uint16, 1.0: np.float32}
    dtype = dtypes.get(pixels.top)
    if dtype is None:
        raise ExportError(
            f"ONNX export takes images of uint8, uint16 or floats, but the model's reach "
            f"{pixels.top:g}; export with preprocessing=False and give it features"
        )
    images = graph.input("images", dtype, (ROWS, *pixels.shape)).cast(np.float64)
    top, mean, scale = (
        graph.constant(v, np.float64) for v in (pixels.top, pixels.mean, pixels.scale)
    )
    rows = images.reshape(-1, int(np.prod(pixels.shape)))
    return ((rows / top - mean) / scale).cast(graph.float)


def predictions(
    graph: Graph, preprocessing: Preprocessing, found: Mapping[str, Value]
) -> dict[str, Any]:
    """Predictions in the target's own words and units: name -> (value, dtype, shape).

    Classes are text, numbers float64; "deviation" is the square root of a variance.
    """
    target = preprocessing.target
    if target.task == "classification":
        return _named(graph, target.classes, found["probabilities"])
    mean, scale = (graph.constant(v, np.float64) for v in (target.mean, target.scale))
    outputs: dict[str, Any] = {}
    for name, x in found.items():
        if name == "variance":
            deviation = x.do("Sqrt").cast(np.float64) * scale
            outputs["deviation"] = (deviation.reshape(-1), np.float64, (ROWS,))
        elif name == "quantiles":
            outputs[name] = (x.cast(np.float64) * scale + mean, np.float64, (ROWS, None))
        else:
            flat = (x.cast(np.float64) * scale + mean).reshape(-1)
            outputs[name] = (flat, np.float64, (ROWS,))
    return outputs


def _named(graph: Graph, classes: Sequence[str], probabilities: Value) -> dict[str, Any]:
    best = probabilities.do("ArgMax", axis=1, keepdims=0, rank=1)
    names = graph.node("Gather", graph.constant(classes, str), best, rank=1, axis=0)
    return {
        "prediction": (names, str, (ROWS,)),
        "probabilities": (probabilities, graph.float, (ROWS, len(classes))),
    }
