"""Read a formula: check every construct of its text and resolve the names that are not its own."""

from __future__ import annotations

import ast
import functools
import linecache
from types import FunctionType
from typing import Any, NamedTuple

from gradnet import formulas
from gradnet.errors import GradnetError
from gradnet.formulas.rows import Formula, arguments

_OPERATORS = (
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.USub, ast.UAdd),
    *(ast.BitAnd, ast.BitOr, ast.BitXor, ast.LShift, ast.RShift, ast.Invert),
    *(ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq),
)


class FormulaError(GradnetError, ValueError):
    """A formula that uses something binding does not understand."""


def is_primitive(formula: Formula) -> bool:
    """Whether a formula names itself, def exp(x): return exp(x), so that the target supplies it."""
    definition = definition_of(formula)
    match statements(definition):
        case [ast.Return(value=ast.Call(func=ast.Name(id=called), args=operands, keywords=[]))]:
            names = [operand.id for operand in operands if isinstance(operand, ast.Name)]
            return called == definition.name and names == list(arguments(formula))
    return False


def results(formula: Formula) -> int:
    """Number of values that a formula returns."""
    value = returned(definition_of(formula))
    return len(value.elts) if isinstance(value, ast.Tuple) else 1


class Body(NamedTuple):
    """What a formula consists of, once checked."""

    definition: ast.FunctionDef
    callees: dict[str, Formula]
    constants: dict[str, float]
    own: frozenset[str]


class _Reader(ast.NodeVisitor):
    """Check every construct of a formula, and resolve the names that are not its own."""

    def __init__(self, formula: Formula, definition: ast.FunctionDef) -> None:
        self.formula = formula
        self.callees: dict[str, Formula] = {}
        self.constants: dict[str, float] = {}
        self.own = set(arguments(formula))
        spec = definition.args
        if spec.vararg or spec.kwarg or spec.kwonlyargs:
            raise problem(formula, "must take positional arguments only, no *args, ** or keywords")
        if spec.defaults:
            raise problem(
                formula, "has default values; pass every argument, and state defaults in a Row"
            )
        if definition.decorator_list:
            raise problem(formula, "is decorated; a formula is a plain function")
        body = statements(definition)
        for statement in body[:-1]:
            self.visit(statement)
        last = body[-1]
        if not isinstance(last, ast.Return) or last.value is None:
            raise problem(formula, "must end with `return` of an expression", last)
        if isinstance(last.value, ast.Tuple):
            for value in last.value.elts:
                self.visit(value)
        else:
            self.visit(last.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        match node.targets:
            case [ast.Name(id=local)]:
                self.visit(node.value)
                self.own.add(local)
            case _:
                raise problem(self.formula, "assigns to something other than one plain name", node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if type(node.value) not in (int, float):
            raise problem(
                self.formula, f"has the literal {node.value!r}; only numbers are allowed", node
            )

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        self.operator(node.op, node)
        self.visit(node.operand)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        self.operator(node.op, node)
        self.visit(node.left)
        self.visit(node.right)

    def visit_Compare(self, node: ast.Compare) -> None:
        if len(node.ops) > 1:
            raise problem(
                self.formula, "chains comparisons; write (a < x) & (x < b) for a < x < b", node
            )
        self.operator(node.ops[0], node)
        self.visit(node.left)
        self.visit(node.comparators[0])

    def operator(self, sign: ast.AST, node: ast.AST) -> None:
        if not isinstance(sign, _OPERATORS):
            raise problem(self.formula, f"uses the operator {type(sign).__name__}", node)

    def visit_Call(self, node: ast.Call) -> None:
        if node.keywords or any(isinstance(operand, ast.Starred) for operand in node.args):
            raise problem(self.formula, "calls with keyword or starred arguments", node)
        if not isinstance(node.func, ast.Name):
            raise problem(self.formula, "calls something other than a bare name", node)
        name = node.func.id
        if name in self.own:
            raise problem(self.formula, f"calls {name!r}, which is a value of its own", node)
        callee = self.callees[name] = self.formula_called(name, node)
        if len(node.args) != len(arguments(callee)):
            raise problem(
                self.formula,
                f"passes {len(node.args)} arguments to {name}({', '.join(arguments(callee))})",
                node,
            )
        for operand in node.args:
            self.visit(operand)

    def formula_called(self, name: str, node: ast.AST) -> Formula:
        for found in (_outside(self.formula).get(name), formulas.FORMULAS.get(name)):
            if isinstance(found, FunctionType):
                return found
        raise problem(
            self.formula, f"calls {name!r}, which is neither a primitive nor a formula", node
        )

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in self.own:
            return
        value: Any = _outside(self.formula).get(node.id)
        if type(value) not in (int, float) or value != value:
            raise problem(
                self.formula,
                f"reads {node.id!r}, which is not an argument, a local name or a numeric constant",
                node,
            )
        self.constants[node.id] = value

    def generic_visit(self, node: ast.AST) -> None:
        hint = "; use where(condition, a, b)" if isinstance(node, ast.If | ast.IfExp) else ""
        raise problem(
            self.formula, f"contains {type(node).__name__}, which is not allowed{hint}", node
        )


def inspect(formula: Formula, callers: tuple[Formula, ...]) -> Body:
    """The checked body of a formula that those others lead to."""
    if formula in callers:
        path = " -> ".join(one.__name__ for one in (*callers, formula))
        raise problem(formula, f"calls itself: {path}")
    return _checked(formula)


@functools.cache
def _checked(formula: Formula) -> Body:
    definition = definition_of(formula)
    reader = _Reader(formula, definition)
    return Body(definition, reader.callees, reader.constants, frozenset(reader.own))


def _declares(decorator: ast.expr) -> bool:
    """Whether a decorator is `elementwise`, which takes the function as it is written."""
    named = decorator.func if isinstance(decorator, ast.Call) else decorator
    name = named.attr if isinstance(named, ast.Attribute) else getattr(named, "id", None)
    return name == "elementwise"


@functools.cache
def definition_of(formula: Formula) -> ast.FunctionDef:
    if not isinstance(formula, FunctionType) or formula.__name__ == "<lambda>":
        raise FormulaError(f"{formula!r} is not a formula; define one with `def name(x): ...`")
    code = formula.__code__
    for found in _definitions(code.co_filename, "".join(_lines(formula))):
        first = min([found.lineno, *(mark.lineno for mark in found.decorator_list)])
        if found.name == code.co_name and first == code.co_firstlineno:
            if all(map(_declares, found.decorator_list)):
                return ast.FunctionDef(**{**vars(found), "decorator_list": []})
            return found
    raise problem(
        formula, f"has no readable source in {code.co_filename}; define it in a file or a cell"
    )


def _lines(formula: FunctionType) -> list[str]:
    return linecache.getlines(formula.__code__.co_filename, formula.__globals__)


@functools.lru_cache(maxsize=64)
def _definitions(filename: str, text: str) -> list[ast.FunctionDef]:
    tree = ast.parse(text, filename)
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def statements(definition: ast.FunctionDef) -> list[ast.stmt]:
    """The statements of a function without its docstring."""
    match definition.body:
        case [ast.Expr(value=ast.Constant(value=str())), _, *_]:
            return definition.body[1:]
    return definition.body


def returned(definition: ast.FunctionDef) -> ast.expr | None:
    last = definition.body[-1]
    return last.value if isinstance(last, ast.Return) else None


def _outside(formula: Formula) -> dict[str, Any]:
    """The names that a formula sees beyond its own: its module's, then its closure's."""
    code = formula.__code__
    cells = formula.__closure__ or ()
    held = dict(zip(code.co_freevars, (cell.cell_contents for cell in cells), strict=True))
    return {**formula.__globals__, **held}


def problem(formula: Formula, problem: str, node: ast.AST | None = None) -> FormulaError:
    text = f": `{ast.unparse(node)}`" if node is not None else ""
    return FormulaError(f"formula {formula.__name__!r} {problem}{text}")
