"""Expressions as people type them, read without `eval`: numbers, names, operators, known functions.

The text is parsed by Python's `ast` and walked; a construct that is not listed here is refused.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from gradnet import formulas, ops
from gradnet.errors import GradnetError
from gradnet.ops.creation import asarray
from gradnet.ops.linear_algebra import dot, outer
from gradnet.tensor import Tensor

LONGEST = 2000
DEEPEST = 100

CONSTANTS = {"pi": math.pi, "e": math.e, "inf": math.inf}

_UNARY: dict[type[ast.unaryop], str] = {ast.USub: "negative", ast.UAdd: "positive"}
_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.Pow: "pow",
    ast.MatMult: "matmul",
    ast.FloorDiv: "floor_divide",
    ast.Mod: "remainder",
    ast.BitAnd: "logical_and",
    ast.BitOr: "logical_or",
}
_COMPARED: dict[type[ast.cmpop], str] = {
    ast.Lt: "less",
    ast.LtE: "less_equal",
    ast.Gt: "greater",
    ast.GtE: "greater_equal",
    ast.Eq: "equal",
    ast.NotEq: "not_equal",
}
_ALLOWED = (
    *(ast.Constant, ast.Name, ast.List, ast.Tuple, ast.UnaryOp, ast.BinOp, ast.Compare, ast.IfExp),
    *(ast.Attribute, ast.Subscript, ast.Slice, ast.Call, ast.keyword),
    *(ast.unaryop, ast.operator, ast.cmpop, ast.expr_context),
)
_PLAIN: dict[str, Callable[[float, float], float]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
}


class ExpressionError(GradnetError, ValueError):
    """An expression that cannot be read or computed; the message is one line for its author."""


def _extreme(reduce: Callable[..., Any], pair: str) -> Callable[..., Any]:
    """The largest of one array's values, or of two arrays element by element."""
    return lambda x, *rest: ops.elementwise(pair)(x, *rest) if rest else reduce(x)


def _length(x: Any) -> Any:
    """The Euclidean length, in the steps of its definition."""
    return ops.sqrt(ops.sum(ops.square(x)))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "ln": ops.elementwise("log"),
    "max": _extreme(ops.max, "maximum"),
    "min": _extreme(ops.min, "minimum"),
    "sum": ops.sum,
    "mean": ops.mean,
    "prod": ops.prod,
    "var": ops.var,
    "std": ops.std,
    "norm": _length,
    "dot": dot,
    "outer": outer,
    "matmul": ops.matmul,
    "transpose": ops.matrix_transpose,
    "softmax": ops.softmax,
    "log_softmax": ops.log_softmax,
    "logsumexp": ops.logsumexp,
}
"""Functions that are no row of the formulas; every such row is a function too."""


def _function(name: str) -> Callable[..., Any] | None:
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    try:
        row = formulas.row(name)
    except KeyError:
        return None
    return ops.elementwise(row.name)


def _known_functions() -> list[str]:
    names = (name for row in formulas.rows() for name in (row.name, *row.aliases))
    return [*FUNCTIONS, *names]


def parse(text: str, what: str = "the expression") -> ast.expr:
    """The tree of an expression. Raises ExpressionError for a syntax error, or one far too long."""
    if len(text) > LONGEST:
        raise ExpressionError(f"{what} has {len(text)} characters; at most {LONGEST} are read")
    if not text.strip():
        raise ExpressionError(f"{what} is empty; write something like -y*log(sigmoid(w*x))")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        where = f" at character {error.offset}" if error.offset else ""
        short = text if len(text) <= 40 else text[:37] + "..."
        hint = "; write 2*x for 2x" if error.msg == "invalid decimal literal" else ""
        raise ExpressionError(
            f"{what} {short!r} cannot be read{where}: {error.msg}{hint}"
        ) from None
    except (ValueError, MemoryError, RecursionError):
        raise ExpressionError(f"{what} cannot be read; write it in fewer brackets") from None
    level: list[ast.AST] = [tree]
    depth = 0
    while level:
        for node in level:
            if not isinstance(node, _ALLOWED):
                raise _refused(node)
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        depth += 1
    if depth > DEEPEST:
        raise ExpressionError(f"{what} is nested {depth} levels deep; at most {DEEPEST} are read")
    return tree


def variables(tree: ast.AST) -> list[str]:
    """The names that an expression reads, in the order in which it reads them."""
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and id(node) not in called and node.id not in CONSTANTS
    ]
    names.sort(key=lambda node: (node.lineno, node.col_offset))
    return list(dict.fromkeys(node.id for node in names))


def compute(node: ast.AST, values: Mapping[str, Any]) -> Any:
    """The value of a tree, as a Tensor, or a number where it has no variables.

    Raises ExpressionError for an undefined variable, an unknown function, or what is not allowed.
    """
    match node:
        case ast.Constant(value=bool() | complex() | str() | bytes() | None):
            raise ExpressionError(f"{ast.unparse(node)} is no number")
        case ast.Constant(value=int() | float() as value):
            return _finite(value)
        case ast.Name(id=name):
            return _variable(name, values)
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return _stacked([compute(element, values) for element in elements])
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _UNARY:
            x = compute(operand, values)
            if isinstance(x, Tensor):
                return ops.elementwise(_UNARY[type(sign)])(x)
            return -x if isinstance(sign, ast.USub) else x
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
            return _operator(_BINARY[type(sign)], compute(left, values), compute(right, values))
        case ast.BinOp(op=ast.BitXor()):
            raise ExpressionError("^ is no power here; write ** for it")
        case ast.Compare(left=left, ops=[sign], comparators=[right]) if type(sign) in _COMPARED:
            a, b = compute(left, values), compute(right, values)
            return ops.elementwise(_COMPARED[type(sign)])(_tensor(a), b)
        case ast.IfExp(test=test, body=body, orelse=other):
            condition = _tensor(compute(test, values))
            return ops.where(condition, _tensor(compute(body, values)), compute(other, values))
        case ast.Attribute(value=of, attr="T"):
            return ops.matrix_transpose(_tensor(compute(of, values)))
        case ast.Subscript(value=of, slice=index):
            try:
                return _tensor(compute(of, values))[_index(index)]
            except IndexError as error:
                raise ExpressionError(str(error)) from None
        case ast.Call(func=ast.Name(id=name), args=operands, keywords=[]):
            function = _function(name)
            if function is None:
                near = get_close_matches(name, _known_functions())
                hint = f"; did you mean {' or '.join(near)}?" if near else ""
                raise ExpressionError(f"there is no function {name!r}{hint}")
            given = [compute(operand, values) for operand in operands]
            if not any(isinstance(x, Tensor) for x in given):
                given = [_tensor(x) for x in given]
            return _called(name, function, given)
    raise _refused(node)


def _refused(node: ast.AST) -> ExpressionError:
    return ExpressionError(
        f"`{_brief(node)}` is not allowed; write numbers, variables, + - * / ** @, comparisons, "
        "[lists], x[0], x.T and functions such as exp(x)"
    )


def _brief(node: ast.AST) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 40 else text[:37] + "..."


def _finite(value: float) -> float:
    """Whole numbers as floats from 2**53 on: powers of exact ones would never end."""
    try:
        return value if abs(value) < 2**53 else float(value)
    except OverflowError:
        raise ExpressionError("a number is too large; numbers go up to about 1.8e308") from None


def _variable(name: str, values: Mapping[str, Any]) -> Any:
    if name in values:
        return values[name]
    if name in CONSTANTS:
        return CONSTANTS[name]
    given = f"; given are {', '.join(values)}" if values else ""
    raise ExpressionError(f"there is no value for {name!r}{given}; pass it with --at {name}=...")


def _tensor(x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else asarray(x, dtype="float64")


def _operator(name: str, a: Any, b: Any) -> Any:
    if isinstance(a, Tensor) or isinstance(b, Tensor) or name not in _PLAIN:
        return _called(
            name, FUNCTIONS.get(name) or ops.elementwise(name), [_tensor_beside(a, b), b]
        )
    try:
        # Floats: a power of whole numbers could fill the memory.
        found = _PLAIN[name](float(a), float(b))
    except ZeroDivisionError:
        raise ExpressionError(f"{_sign(name, a, b)} divides by zero") from None
    except OverflowError:
        found = math.inf
    if isinstance(found, complex) or not math.isfinite(found):
        raise ExpressionError(f"{_sign(name, a, b)} is no finite real number")
    return found


def _tensor_beside(a: Any, b: Any) -> Any:
    return a if isinstance(a, Tensor) or isinstance(b, Tensor) else _tensor(a)


def _sign(name: str, a: Any, b: Any) -> str:
    signs = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "pow": "**"}
    return f"{a:g} {signs[name]} {b:g}"


def _called(name: str, function: Callable[..., Any], operands: list[Any]) -> Any:
    try:
        return function(*operands)
    except TypeError as error:
        raise ExpressionError(f"{name} cannot be called so: {error}") from None


def _stacked(elements: list[Any]) -> Tensor:
    if not elements:
        raise ExpressionError("an empty list has no values")
    return ops.stack([_tensor(x) for x in elements])


def _index(node: ast.expr) -> Any:
    """A whole number, a slice of them, or several of these."""
    match node:
        case ast.Tuple(elts=elements):
            return tuple(_index(element) for element in elements)
        case ast.Slice(lower=lower, upper=upper, step=step):
            return slice(*(None if part is None else _index(part) for part in (lower, upper, step)))
        case ast.Constant(value=int() as value) if not isinstance(value, bool):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_index(operand)
    raise ExpressionError(f"[{_brief(node)}] is no index; write whole numbers or slices")


def assignments(text: str) -> dict[str, Tensor]:
    """The values of "x=3, w=[[1, 2], [3, 4]]" as float64 tensors.

    Raises ExpressionError for what is no assignment, no value, or assigned twice.
    """
    try:
        call: ast.AST | None = parse(f"at({text})")
    except ExpressionError:
        call = None
    named = call.keywords if isinstance(call, ast.Call) and not call.args else []
    if not named or any(keyword.arg is None for keyword in named):
        raise ExpressionError(f"--at takes NAME=VALUE,..., such as x=3,w=[1,2], not {text!r}")
    found: dict[str, Tensor] = {}
    for keyword in named:
        name = str(keyword.arg)
        if name in found:
            raise ExpressionError(f"--at gives {name} twice")
        if name in CONSTANTS or _function(name) is not None:
            raise ExpressionError(
                f"--at cannot set {name!r}: it is the name of a constant or function"
            )
        try:
            found[name] = _tensor(compute(keyword.value, {}))
        except ExpressionError as error:
            raise ExpressionError(f"the value of {name} in --at: {error}") from None
    return found


class Expression:
    """A function of its variables, from text: `Expression("x * y")(x, y)`."""

    def __init__(self, text: str) -> None:
        self.text = text.strip()
        self.tree = parse(text)
        self.variables = variables(self.tree)

    def __call__(self, *values: Any) -> Any:
        return compute(self.tree, dict(zip(self.variables, values, strict=True)))
