"""What stands in the table as a formula: steps as expressions, partial derivatives as formulas.

The partial of an elementwise op is the text of its formula in the catalogue, with the operands'
names in place of its arguments, simplified for reading. Guards such as where(b == 0, 1, a), and
clips that change nothing at the values at hand, are left out: the formula is that of this point.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gradnet.formulas import Formula
from gradnet.reader import definition_of, inspect, is_primitive, statements

LONGEST = 48
"""Characters of a formula that is written out; longer ones are called by their name."""
HUGE = 1e6
"""Bounds from here on guard against overflow; within them a formula reads without its guards."""

_INFIX: dict[str, type[ast.operator]] = {
    "add": ast.Add,
    "subtract": ast.Sub,
    "multiply": ast.Mult,
    "divide": ast.Div,
    "pow": ast.Pow,
    "matmul": ast.MatMult,
    "floor_divide": ast.FloorDiv,
    "remainder": ast.Mod,
}
# Formulas that others call, and that read better written out.
_HELPERS = ("other_leg",)
CALLED = {"minimum": "min", "maximum": "max"}
"""What people call some ops."""

# How a cotangent g comes through an op that no formula of one element describes.
_PASSING: dict[str, tuple[str, ...]] = {
    "matmul": ("g @ {1}.T", "{0}.T @ g"),
    "linear": ("dz @ {1}.T", "{0}.T @ dz", "sum(dz)"),
    "sum": ("1",),
    "max": ("1 at the largest, else 0",),
    "min": ("1 at the smallest, else 0",),
    "prod": ("product of the others",),
    "softmax": ("{y} * (g - sum(g * {y}))",),
    "log_softmax": ("g - exp({y}) * sum(g)",),
    "cross_entropy": ("(softmax({0}) - {1}) * scale",),
    "reshape": ("g reshaped",),
    "permute_dims": ("g permuted back",),
    "broadcast_to": ("g summed",),
    "getitem": ("g in its place",),
    "astype": ("1",),
    "to": ("1",),
}
_GATES = {
    "add": "distributes",
    "subtract": "distributes",
    "sum": "distributes",
    "positive": "passes",
    "identity": "passes",
    "reshape": "passes",
    "permute_dims": "passes",
    "getitem": "passes",
    "concat": "passes",
    "astype": "passes",
    "to": "passes",
    "broadcast_to": "adds",
    "negative": "flips",
    "multiply": "switches",
    "matmul": "switches",
    "linear": "switches",
    "prod": "switches",
    "max": "routes",
    "min": "routes",
    "maximum": "routes",
    "minimum": "routes",
    "relu": "routes",
    "relu6": "routes",
    "clip": "routes",
    "where": "routes",
}


def gate(name: str, variables: int) -> str:
    """What an op with so many variable operands does to gradients, in a word."""
    found = _GATES.get(name, "scales")
    return "scales" if found == "switches" and variables == 1 and name == "multiply" else found


def _node(text: str) -> ast.expr:
    """An operand's text as an expression: a name, or a number."""
    return ast.parse(text, mode="eval").body


def expression(name: str, operands: Sequence[str], notes: Mapping[str, Any]) -> str:
    """A step as people write it: u1 + u2, exp(u3), sum(u4, axis=0). `notes` follow the operands."""
    if name in _INFIX and len(operands) == 2:
        left, right = map(_node, operands)
        return ast.unparse(ast.BinOp(left, _INFIX[name](), right))
    if name == "getitem":
        return f"{operands[0]}[{notes['index']}]"
    if name == "negative":
        return ast.unparse(ast.UnaryOp(ast.USub(), _node(operands[0])))
    shown = [f"{key}={value}" for key, value in notes.items()]
    return f"{CALLED.get(name, name)}({', '.join([*operands, *shown])})"


def notes(parameters: Mapping[str, Any], axes: int) -> dict[str, Any]:
    """What an op's parameters add to its expression, for an operand with so many axes."""
    found: dict[str, Any] = {}
    for key, value in parameters.items():
        if key == "axes" and isinstance(value, tuple):
            if len(value) < axes:
                found["axis"] = value[0] if len(value) == 1 else value
        elif key == "index":
            found[key] = _index(value)
        elif key == "scale" and value != 1:
            found[key] = f"{value:.4g}"
        elif key in ("axis", "shape") and isinstance(value, int | tuple):
            found[key] = value
        elif key == "activation" and value is not None:
            found[key] = value.name
    return found


def _index(index: Any) -> str:
    """An index as people write it: 0, 1:3, ..., or the word for one that is an array."""
    if isinstance(index, tuple):
        return ", ".join(map(_index, index))
    if isinstance(index, slice):
        ends = ("" if end is None else str(end) for end in (index.start, index.stop))
        return ":".join(ends) + ("" if index.step is None else f":{index.step}")
    if index is Ellipsis:
        return "..."
    return str(index) if isinstance(index, int) or index is None else "indices"


def passing(name: str, operands: Sequence[str], output: str, i: int) -> str:
    """How a cotangent reaches operand i of an op without a formula; the derivative's name else."""
    known = _PASSING.get(name, ())
    if i < len(known):
        return known[i].format(*operands, y=output)
    return f"d {output} / d {operands[i]}"


def partial(
    derivative: Formula, operands: Mapping[str, str], decide: Callable[[ast.expr], bool | None]
) -> str:
    """A derivative's formula over the names of operands, simplified.

    `operands` maps the formula's arguments (`y` is the output) to variables or numbers. `decide`
    says whether a comparison of them holds now: for all elements, for none (False), or None.
    """
    tree = _Reading(decide).visit(_inlined(derivative, {k: _node(v) for k, v in operands.items()}))
    text = ast.unparse(ast.fix_missing_locations(tree))
    if len(text) <= LONGEST:
        return _conditional(text, tree)
    names = (operands[name] for name in definition_arguments(derivative))
    return f"{derivative.__name__}({', '.join(names)})"


def definition_arguments(formula: Formula) -> list[str]:
    return [argument.arg for argument in definition_of(formula).args.args]


def _conditional(text: str, tree: ast.expr) -> str:
    """Text in which where(c, a, b) reads a if c else b."""

    class Choice(ast.NodeTransformer):
        def visit_Call(self, node: ast.Call) -> ast.AST:
            self.generic_visit(node)
            if isinstance(node.func, ast.Name) and node.func.id == "where":
                return ast.IfExp(node.args[0], node.args[1], node.args[2])
            return node

    return ast.unparse(ast.fix_missing_locations(Choice().visit(tree)))


class _Names(ast.NodeTransformer):
    """Names and constants of a formula replaced by expressions."""

    def __init__(self, known: dict[str, ast.expr]) -> None:
        self.known = known

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.known.get(node.id, node)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        return ast.Call(node.func, [self.visit(operand) for operand in node.args], [])


def _inlined(formula: Formula, operands: dict[str, ast.expr]) -> ast.expr:
    """A formula as one expression of its operands: local values written out."""
    definition = definition_of(formula)
    body = inspect(formula, ())
    known = dict(operands)
    known.update({name: ast.Constant(value) for name, value in body.constants.items()})
    *assignments, last = statements(definition)
    for statement in assignments:
        assert isinstance(statement, ast.Assign)
        assert isinstance(statement.targets[0], ast.Name)
        known[statement.targets[0].id] = _Names(known).visit(_copy(statement.value))
    assert isinstance(last, ast.Return)
    assert last.value is not None
    found: ast.expr = _Callees(body.callees).visit(_Names(known).visit(_copy(last.value)))
    return found


class _Callees(ast.NodeTransformer):
    """Calls of helpers that are no functions that people know, written out: constants, slopes."""

    def __init__(self, callees: Mapping[str, Formula]) -> None:
        self.callees = callees

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        called = self.callees.get(node.func.id) if isinstance(node.func, ast.Name) else None
        if called is not None and not is_primitive(called):
            value = statements(definition_of(called))[-1]
            if isinstance(value, ast.Return) and isinstance(value.value, ast.Constant):
                return value.value
            if called.__name__.endswith(("_dx", "_da", "_db")) or called.__name__ in _HELPERS:
                return _inlined(
                    called, dict(zip(definition_arguments(called), node.args, strict=True))
                )
        return node


def _copy(node: ast.expr) -> ast.expr:
    return ast.parse(ast.unparse(node), mode="eval").body


def _number(node: ast.expr) -> float | int | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _number(node.operand)
        return None if inner is None else -inner
    return None


def _constant(value: float) -> ast.expr:
    if value == int(value) if math.isfinite(value) else False:
        value = int(value)
    return ast.Constant(value) if value >= 0 else ast.UnaryOp(ast.USub(), ast.Constant(-value))


def _negated(node: ast.expr) -> ast.expr:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return node.operand
    value = _number(node)
    return ast.UnaryOp(ast.USub(), node) if value is None else _constant(-value)


# The comparisons that hold where an op does nothing to its first operand.
_KEPT_BY: dict[str, tuple[type[ast.cmpop], ...]] = {
    "minimum": (ast.LtE,),
    "maximum": (ast.GtE,),
    "clip": (ast.GtE, ast.LtE),
}


class _Reading(ast.NodeTransformer):
    """What a reader would strike out: units, guards that do not hold, arithmetic of numbers."""

    def __init__(self, decide: Callable[[ast.expr], bool | None]) -> None:
        self.decide = decide

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        value = _number(node)
        return node if value is None or not math.isfinite(value) else _constant(value)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        operand: ast.expr = self.visit(node.operand)
        if isinstance(node.op, ast.USub):
            return _negated(operand)
        return operand if isinstance(node.op, ast.UAdd) else ast.UnaryOp(node.op, operand)

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        left: ast.expr = self.visit(node.left)
        right: ast.expr = self.visit(node.right)
        a, b = _number(left), _number(right)
        if a is not None and b is not None:
            folded = _folded(node.op, a, b)
            if folded is not None:
                return _constant(folded)
        match node.op:
            case ast.Mult():
                if a == 1 or b == 1:
                    return right if a == 1 else left
                if a == 0 or b == 0:
                    return _constant(0)
                if a == -1 or b == -1:
                    return _negated(right if a == -1 else left)
                if a is None and ast.dump(left) == ast.dump(right):
                    return ast.BinOp(left, ast.Pow(), _constant(2))
            case ast.Add():
                if a == 0 or b == 0:
                    return right if a == 0 else left
            case ast.Sub():
                if a == 0 or b == 0:
                    return _negated(right) if a == 0 else left
            case ast.Div():
                if b == 1:
                    return left
            case ast.Pow():
                if b == 1:
                    return left
                if b == 0:
                    return _constant(1)
        return ast.BinOp(left, node.op, right)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        assert isinstance(node.func, ast.Name)
        name = node.func.id
        operands: list[ast.expr] = [self.visit(operand) for operand in node.args]
        if name == "where":
            return self._choice(*operands)
        if name in ("minimum", "maximum", "clip"):
            x, *bounds = operands
            if all(_number(bound) is not None for bound in bounds) and all(
                self.decide(ast.Compare(x, [sign()], [bound]))
                for sign, bound in zip(_KEPT_BY[name], bounds, strict=True)
            ):
                return x
        return ast.Call(ast.Name(CALLED.get(name, name)), operands, [])

    def _choice(self, condition: ast.expr, a: ast.expr, b: ast.expr) -> ast.expr:
        if ast.dump(a) == ast.dump(b):
            return a
        holds = self.decide(condition)
        parts = (part for part in ast.iter_child_nodes(condition) if isinstance(part, ast.expr))
        plain = all(_number(part) is not None for part in parts)
        if plain and holds is not None:
            return a if holds else b
        # A special point that the operands are at is told of, where that is short to read.
        told = holds and _number(a) is not None and _number(b) is not None
        if holds is not None and not told and any(map(_guards, ast.walk(condition))):
            return a if holds else b
        return ast.Call(ast.Name("where"), [condition, a, b], [])


def _guards(part: ast.AST) -> bool:
    """Whether a condition only guards a special point: equality, or a bound that is huge."""
    if not isinstance(part, ast.Compare):
        return False
    bound = _number(part.comparators[0])
    return isinstance(part.ops[0], ast.Eq) or (bound is not None and abs(bound) >= HUGE)


def _folded(op: ast.operator, a: float, b: float) -> float | None:
    """The value of an operator between two numbers, where it is as short to read."""
    match op:
        case ast.Add():
            return a + b
        case ast.Sub():
            return a - b
        case ast.Mult():
            return a * b
        case ast.Div() if b != 0 and a % b == 0:
            return a / b
        case ast.Pow() if abs(b) <= 8 and abs(a) <= 100 and (a != 0 or b >= 0):
            return float(a**b)
    return None
