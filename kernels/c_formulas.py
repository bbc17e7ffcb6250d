"""Formulas as C++ device functions of float32, from the typed text of `binding.source`."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from gradnet import binding
from gradnet.binding import FormulaError
from gradnet.formulas.rows import Formula, Row

_OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.USub: "-",
    ast.Invert: "!",  # of a condition
}
# CUDA's float32 functions for the primitives that activations call.
_FUNCTIONS = {"abs": "fabsf"} | {
    name: f"{name}f"
    for name in (
        "copysign",
        "cos",
        "exp",
        "expm1",
        "floor",
        "log",
        "log1p",
        "sin",
        "sqrt",
        "tanh",
        "trunc",
    )
}


def define(formula: Formula) -> tuple[str, str]:
    """The definitions of a formula and all that it calls, and the name of the one to call.

    One that returns several values, such as an optimizer's update, takes the array that they are
    written to before its arguments. Raises FormulaError for what has no counterpart in C++ here.
    """
    source = binding.source(formula)
    names = {**_FUNCTIONS, **{name: name for name in source.functions}}
    texts = []
    for node in ast.parse(source.text).body:
        assert isinstance(node, ast.FunctionDef)
        known = {argument.arg for argument in node.args.args}
        parameters = ", ".join(f"float {argument.arg}" for argument in node.args.args)
        several = isinstance(node.body[-1], ast.Return) and isinstance(
            node.body[-1].value, ast.Tuple
        )
        result = "void" if several else "float"
        parameters = f"float* results, {parameters}" if several else parameters
        lines = [f"static __device__ {result} {node.name}({parameters}) {{"]
        for statement in node.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    lines.append(
                        f"    {'' if name in known else 'auto '}{name} = {_text(value, names)};"
                    )
                    known.add(name)
                case ast.Return(value=ast.Tuple(elts=values)):
                    for i, value in enumerate(values):
                        lines.append(f"    results[{i}] = {_text(value, names)};")
                case ast.Return(value=ast.expr() as value):
                    lines.append(f"    return {_text(value, names)};")
                case _:
                    raise FormulaError(f"C++ has no {ast.unparse(statement)!r} of a formula here")
        texts.append("\n".join([*lines, "}"]))
    return "\n".join(texts) + "\n", source.name


def activation(row: Row) -> tuple[str, bool]:
    """Functions of one float `value` and `slope`, and whether `slope` takes the input of `value`.

    Otherwise it takes its output. Further operands are as the row's defaults have them. Raises
    FormulaError for an activation without a derivative.
    """
    slope = row.derivatives[0]
    if slope is None:
        raise FormulaError(f"{row.name} has no derivative")
    of_output = "x" not in binding.arguments(slope) and "y" in binding.arguments(slope)
    defaults = {name: literal(value) for name, value in row.defaults.items()}

    def written(space: str, formula: Formula, known: Mapping[str, str]) -> tuple[str, str]:
        definitions, name = define(formula)
        given = ", ".join({**defaults, **known}[one] for one in binding.arguments(formula))
        return f"namespace {space} {{\n{definitions}}}\n", f"{space}::{name}({given})"

    texts, value = written("value_", row.formula, {"x": "x"})
    known = {"y": "x"} if of_output else {"x": "x", "y": "value(x)"}
    more, derived = written("slope_", slope, known)
    functions = (
        f"static __device__ float value(float x) {{ return {value}; }}\n"
        f"static __device__ float slope(float x) {{ return {derived}; }}\n"
    )
    return texts + more + functions, not of_output


def literal(value: float) -> str:
    """A number as a float32 of C++."""
    return f"{float(value)!r}f"


def _text(node: ast.expr, names: dict[str, str]) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Call(func=ast.Name(id="T"), args=[ast.expr() as number]):
            return f"({literal(ast.literal_eval(number))})"
        case ast.Call(func=ast.Name(id=name), args=operands) if name in names:
            return f"{names[name]}({', '.join(_text(one, names) for one in operands)})"
        case ast.IfExp(test=test, body=body, orelse=other):
            return f"({_text(test, names)} ? {_text(body, names)} : {_text(other, names)})"
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            return f"({_OPERATORS[type(op)]}{_text(operand, names)})"
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return f"({_text(left, names)} {_OPERATORS[type(op)]} {_text(right, names)})"
        case ast.Compare(left=left, ops=[sign], comparators=[right]) if type(sign) in _OPERATORS:
            return f"({_text(left, names)} {_OPERATORS[type(sign)]} {_text(right, names)})"
    raise FormulaError(f"C++ has no {ast.unparse(node)!r} of a formula here")
