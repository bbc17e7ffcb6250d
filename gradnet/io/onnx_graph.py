"""ONNX as one more target of the formulas: values whose operators add nodes to a graph."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradnet import binding
from gradnet.errors import ExportError
from gradnet.formulas.rows import Formula

OPSET, ML_OPSET = 20, 3
"""The versions of ONNX's operators: the first that has Gelu, and one that maps text to codes."""


class Graph:
    """Nodes and constants as they are added; floats are of one dtype.

    float   the dtype of the network, float32 or float64
    """

    def __init__(self, float_dtype: np.dtype[Any]) -> None:
        import onnx

        self.onnx = onnx
        self.float = float_dtype
        self.nodes: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.constants: dict[str, Any] = {}
        self._known: dict[tuple[Any, ...], str] = {}
        self._taken: set[str] = set()

    def input(self, name: str, dtype: Any, shape: tuple[int | str, ...]) -> Value:
        """What the graph is given under a name."""
        self._taken.add(name)
        self.inputs.append(self._described(name, dtype, shape))
        return Value(self, name, len(shape))

    def output(self, name: str, x: Value, dtype: Any, shape: tuple[int | str | None, ...]) -> None:
        """Give a value away under a name."""
        self.nodes.append(self.onnx.helper.make_node("Identity", [x.name], [self._free(name)]))
        self.outputs.append(self._described(self.nodes[-1].output[0], dtype, shape))

    def _described(self, name: str, dtype: Any, shape: tuple[Any, ...]) -> Any:
        return self.onnx.helper.make_tensor_value_info(name, self.type_of(dtype), shape)

    def type_of(self, dtype: Any) -> int:
        """ONNX's number for a dtype; `str` is text."""
        if dtype is str:
            return int(self.onnx.TensorProto.STRING)
        return int(self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def _free(self, wanted: str) -> str:
        """The name itself, or with a number where it is taken."""
        name, i = wanted, 1
        while name in self._taken:
            i += 1
            name = f"{wanted}_{i}"
        self._taken.add(name)
        return name

    def constant(self, value: Any, dtype: Any = None) -> Value:
        """A constant: a number or an array, as the network's float unless a dtype is given."""
        if dtype is str:
            array: NDArray[Any] = np.asarray(value, dtype=object)
            key: tuple[Any, ...] = (str, tuple(value))
        else:
            array = np.ascontiguousarray(value, dtype=self.float if dtype is None else dtype)
            array = array.reshape(np.shape(value))  # which makes 0-d arrays 1-d
            key = (array.dtype, array.shape, array.tobytes())
        name = self._known.get(key)
        if name is None:
            name = self._known[key] = self._free("constant")
            self.constants[name] = self.onnx.numpy_helper.from_array(array, name)
        return Value(self, name, array.ndim)

    def node(
        self, op: str, *xs: Value, rank: int | None = None, domain: str = "", **attributes: Any
    ) -> Value:
        """Add a node of one output, of the rank of the first input unless another is given."""
        name = self._free(op.lower())
        made = self.onnx.helper.make_node(
            op, [x.name for x in xs], [name], domain=domain, **attributes
        )
        self.nodes.append(made)
        return Value(self, name, max(x.rank for x in xs) if rank is None else rank)

    def pair(self, op: str, x: Value, *others: Value, **attributes: Any) -> tuple[Value, Value]:
        """Add a node of two outputs, both of the rank of x."""
        names = [self._free(op.lower()), self._free(op.lower())]
        inputs = [x.name, *(other.name for other in others)]
        self.nodes.append(self.onnx.helper.make_node(op, inputs, names, **attributes))
        return Value(self, names[0], x.rank), Value(self, names[1], x.rank)

    def model(self, name: str, metadata: Mapping[str, str]) -> Any:
        """The whole as ONNX's model, checked by the onnx package itself."""
        from gradnet import __version__

        helper = self.onnx.helper
        graph = helper.make_graph(
            self.nodes, name, self.inputs, self.outputs, list(self.constants.values())
        )
        versions = [helper.make_opsetid("", OPSET)]
        if any(node.domain == "ai.onnx.ml" for node in self.nodes):
            versions.append(helper.make_opsetid("ai.onnx.ml", ML_OPSET))
        model = helper.make_model(graph, opset_imports=versions, producer_name="gradnet")
        model.producer_version = __version__
        # The oldest layout of files that has the operators, which most programs read.
        model.ir_version = helper.find_min_ir_version_for(versions)
        helper.set_model_props(model, dict(metadata))
        if model.ByteSize() >= 2**31:
            raise ExportError(
                f"the model has {model.ByteSize():,} bytes, but an ONNX file holds 2 GiB at most"
            )
        self.onnx.checker.check_model(model, full_check=True)
        return model


class Value:
    """A value of the graph under its name; operators with numbers and other values add nodes."""

    def __init__(self, graph: Graph, name: str, rank: int) -> None:
        self.graph, self.name, self.rank = graph, name, rank

    def do(self, op: str, *others: Any, **attributes: Any) -> Value:
        """op(self, *others), numbers made constants."""
        return self.graph.node(op, self, *(self.beside(x) for x in others), **attributes)

    def beside(self, x: Any) -> Value:
        return x if isinstance(x, Value) else self.graph.constant(x)

    def cast(self, dtype: Any) -> Value:
        return self.do("Cast", to=self.graph.type_of(dtype))

    def reshape(self, *shape: int) -> Value:
        """Of that shape: 0 stands for the length the axis has, -1 for what is left."""
        return self.do("Reshape", self.graph.constant(shape, np.int64), rank=len(shape))

    def columns(self, start: int, stop: int) -> Value:
        """x[:, start:stop]"""
        bounds = (self.graph.constant([n], np.int64) for n in (start, stop, 1))
        return self.do("Slice", *bounds, rank=2)

    def over(self, op: str, axis: int, *, keepdims: bool = True) -> Value:
        """A reduction along an axis: ReduceSum, ReduceMax."""
        axes = self.graph.constant([axis], np.int64)
        return self.do(op, axes, keepdims=int(keepdims), rank=self.rank - (not keepdims))

    def __add__(self, x: Any) -> Value:
        return self.do("Add", x)

    def __sub__(self, x: Any) -> Value:
        return self.do("Sub", x)

    def __mul__(self, x: Any) -> Value:
        return self.do("Mul", x)

    def __truediv__(self, x: Any) -> Value:
        return self.do("Div", x)

    def __pow__(self, x: Any) -> Value:
        return self.do("Pow", x)

    def __radd__(self, x: Any) -> Value:
        return self.beside(x) + self

    def __rsub__(self, x: Any) -> Value:
        return self.beside(x) - self

    def __rmul__(self, x: Any) -> Value:
        return self.beside(x) * self

    def __rtruediv__(self, x: Any) -> Value:
        return self.beside(x) / self

    def __neg__(self) -> Value:
        return self.do("Neg")

    def __lt__(self, x: Any) -> Value:
        return self.do("Less", x)

    def __le__(self, x: Any) -> Value:
        return self.do("LessOrEqual", x)

    def __gt__(self, x: Any) -> Value:
        return self.do("Greater", x)

    def __ge__(self, x: Any) -> Value:
        return self.do("GreaterOrEqual", x)

    def __eq__(self, x: object) -> Value:  # type: ignore[override]
        return self.do("Equal", x)

    def __ne__(self, x: object) -> Value:  # type: ignore[override]
        return ~(self == x)

    __hash__ = None  # type: ignore[assignment]

    def __and__(self, x: Value) -> Value:
        return self.do("And", x)

    def __or__(self, x: Value) -> Value:
        return self.do("Or", x)

    def __invert__(self) -> Value:
        return self.do("Not")


# What ONNX offers the formulas


def _where(c: Value, a: Any, b: Any) -> Value:
    return c.do("Where", a, b)


def _expm1(x: Value) -> Value:
    # Kahan: the rounding of exp(x) is the same in both factors, and goes away.
    u = x.do("Exp")
    near = (u - 1) * x / _where(u == 1, 1, u.do("Log"))
    return _where(u == 1, x, _where(x.do("Abs") < 0.5, near, u - 1))


def _log1p(x: Value) -> Value:
    u = x + 1
    near = u.do("Log") * x / _where(u == 1, 1, u - 1)
    return _where(u == 1, x, _where(x.do("Abs") < 0.5, near, u.do("Log")))


def _copysign(a: Value, b: Value) -> Value:
    return _where(b < 0, -(a.do("Abs")), a.do("Abs"))


def _larger(op: str, a: Any, b: Any) -> Value:
    first, second = (a, b) if isinstance(a, Value) else (b, a)
    return first.do(op, second)


def _leaky_relu(x: Value, alpha: Any) -> Value:
    if isinstance(alpha, Value):
        return x.do("PRelu", alpha)
    return x.do("LeakyRelu", alpha=float(alpha))


def _isfinite(x: Value) -> Value:
    return x.do("Abs") < float("inf")


def _native(name: str) -> Callable[..., Value]:
    op = {"isinf": "IsInf", "isnan": "IsNaN"}.get(name, name.capitalize())
    return lambda x: x.do(op)


_UNARY = """exp log sqrt sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh floor ceil
round abs sign sigmoid relu isinf isnan identity"""
_ANY: dict[str, Callable[..., Any]] = {
    **{name: _native(name) for name in _UNARY.split()},
    "copysign": _copysign,
    "exp2": lambda x: x.beside(2.0) ** x,
    "expm1": _expm1,
    "hypot": lambda a, b: (a * a + b * b).do("Sqrt"),
    "isfinite": _isfinite,
    "log10": lambda x: x.do("Log") * 0.4342944819032518,
    "log1p": _log1p,
    "log2": lambda x: x.do("Log") * 1.4426950408889634,
    "maximum": functools.partial(_larger, "Max"),
    "minimum": functools.partial(_larger, "Min"),
    "trunc": lambda x: _where(x < 0, x.do("Ceil"), x.do("Floor")),
    "where": _where,
}
# These run in float32 alone where ONNX's reference runtime has them: in float64 the formula is.
_FLOAT32: dict[str, Callable[..., Any]] = {
    "elu": lambda x, alpha: x.do("Elu", alpha=float(alpha)),
    "gelu": lambda x: x.do("Gelu"),
    "gelu_tanh": lambda x: x.do("Gelu", approximate="tanh"),
    "hard_sigmoid": lambda x: x.do("HardSigmoid", alpha=1 / 6, beta=0.5),
    "leaky_relu": _leaky_relu,
    "mish": lambda x: x.do("Mish"),
    "softplus": lambda x: x.do("Softplus"),
    "softsign": lambda x: x.do("Softsign"),
    "swish": lambda x: x * x.do("Sigmoid"),
}
_NAMESPACES = {"float32": {**_ANY, **_FLOAT32}, "float64": _ANY}


def compute(formula: Formula, name: str, x: Value, *operands: Any) -> Value:
    """A formula of the catalogue, or a user's, as nodes. Raises ExportError for what ONNX lacks."""
    try:
        function = binding.bind(formula, _NAMESPACES[x.graph.float.name])
    except binding.FormulaError as error:
        raise ExportError(f"ONNX has no way to compute {name}: {error}") from error
    return x.beside(function(x, *operands))
