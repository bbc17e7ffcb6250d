"""Models as ONNX files, which other programs run: one call, checked by the onnx package."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from gradnet import dtypes
from gradnet.errors import ExportError
from gradnet.io.files import replacing
from gradnet.nn import MLP, Module
from gradnet.tensor import Tensor


def to_onnx(
    model: Module,
    path: str | os.PathLike[str],
    *,
    example: Any = None,
    predict: bool = True,
    preprocessing: bool = True,
) -> None:
    """Write a model, as it is in evaluation, to an ONNX file (operators of version 20).

    A model with the preprocessing of its table, as `gradnet train` saves it, takes the raw
    columns: an input (n,) by the name of each, float64 with NaN where missing, or text with ""
    where missing; images are one input, "images". It puts out "prediction", the class's name or
    the number in the target's units, with "probabilities" (n, classes) or "deviation" (n,).

    Any other model takes "x" and puts out what its output unit predicts: "probabilities", or
    "prediction" with "variance", or "quantiles"; the raw values "z" with `predict=False`, and
    "y" where it has no output unit. `example` is an input of the shape and dtype to take, where the
    model does not tell; its first axis is left free.
    With `preprocessing=False` the features are the input.

    Raises ExportError for what ONNX cannot express, ImportError where the onnx package is missing,
    FileNotFoundError where the folder does not exist.
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError(
            "ONNX files need the onnx package; install it with: pip install onnx"
        ) from error
    made = _built(model, example, predict, preprocessing)
    with replacing(path) as temporary:
        onnx.save_model(made, os.fspath(temporary), format="protobuf")


def _built(model: Module, example: Any, predict: bool, preprocessing: bool) -> Any:
    from gradnet.io import onnx_layers, onnx_tables
    from gradnet.io.onnx_graph import Graph

    like = _array(example)
    graph = Graph(_float(model, like))
    rows = onnx_tables.ROWS
    metadata = {"classes": "[]"}
    fitted = _fitted(model) if preprocessing and predict else None
    if fitted is not None:
        x = onnx_tables.features(graph, fitted)
        metadata["classes"] = json.dumps(list(fitted.classes), ensure_ascii=False)
    else:
        like = _array(model.example()) if like is None else like
        if like is None:
            raise ExportError(
                f"{type(model).__name__} takes inputs of any shape: give one as example=x"
            )
        if not like.ndim:
            raise ExportError("example is a single number; give rows of inputs, (n, ...)")
        dtype = graph.float if like.dtype.kind == "f" else np.dtype(np.int64)
        x = graph.input("x", dtype, (rows, *like.shape[1:]))
    y = onnx_layers.layer(graph, model, x)
    outputs: dict[str, Any]
    unit = getattr(model, "output", None)
    if isinstance(model, MLP) and predict:
        found = onnx_layers.predictions(graph, model.output, y, model.sizes[-1])
        if fitted is not None:
            outputs = onnx_tables.predictions(graph, fitted, found)
        else:
            outputs = {name: (v, graph.float, _shape(v.rank)) for name, v in found.items()}
    else:
        outputs = {"y" if unit is None else "z": (y, graph.float, _shape(y.rank))}
    for name, (value, kind, shape) in outputs.items():
        graph.output(name, value, kind, shape)
    return graph.model(type(model).__name__, {} if fitted is None else metadata)


def _shape(rank: int) -> tuple[str | None, ...]:
    from gradnet.io.onnx_tables import ROWS

    return (ROWS, *[None] * (rank - 1)) if rank else ()


def _fitted(model: Module) -> Any:
    """The preprocessing that came with a model, or None. Raises ExportError for no MLP."""
    text = model.extra.get("preprocessing")
    if text is None:
        return None
    from gradnet.data import Preprocessing

    if not isinstance(model, MLP):
        raise ExportError(
            f"{type(model).__name__} has the preprocessing of a table, but no output unit to make "
            "predictions; export it with preprocessing=False"
        )
    found = Preprocessing.from_json(text)
    if found.task == "classification" and model.output.name != "softmax":
        raise ExportError(
            f"the output unit {model.output.name!r} does not choose among the classes of its "
            "table; export it with preprocessing=False"
        )
    return found


def _array(x: Any) -> np.ndarray[Any, Any] | None:
    if x is None:
        return None
    return x.detach().numpy() if isinstance(x, Tensor) else np.asarray(x)


def _float(model: Module, example: np.ndarray[Any, Any] | None) -> np.dtype[Any]:
    """The dtype of parameters and buffers, else of the example.

    Raises ExportError for several, or 16 bits.
    """
    found = {x.dtype for x in model.state_dict().values() if dtypes.is_floating(x.dtype)}
    if not found and example is not None and example.dtype.kind == "f":
        found = {example.dtype}
    if not found:
        return dtypes.DEFAULT_FLOAT
    if len(found) > 1 or not found <= {dtypes.float32, dtypes.float64}:
        names = ", ".join(sorted(dtype.name for dtype in found))
        raise ExportError(
            f"ONNX export takes a model of float32 or of float64 alone, but this one has {names}; "
            'cast it: model.to("float32")'
        )
    return found.pop()
