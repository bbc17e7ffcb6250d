"""Bind scalar formulas to targets.

Array targets (NumPy, Tensors) rebind a formula's names: `bind`. Compiled targets (Numba, CUDA, an
mpmath oracle) compile the text of `source`, where every literal c is typed, T(c), and
where(c, a, b) reads (a if c else b): an untyped literal would make a float32 kernel compute in
float64.
`combine`, `compose` and `vjp` make new formulas of old ones.
"""

from __future__ import annotations

import ast
import functools
import linecache
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import CellType, FunctionType
from typing import Any

from gradnet import formulas
from gradnet.formulas.rows import Formula, arguments

__all__ = [
    "FormulaError",
    "Source",
    "arguments",
    "bind",
    "combine",
    "compose",
    "is_primitive",
    "results",
    "source",
    "vjp",
]

_OPERATORS = (
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.USub, ast.UAdd),
    *(ast.BitAnd, ast.BitOr, ast.BitXor, ast.LShift, ast.RShift, ast.Invert),
    *(ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq),
)


class FormulaError(ValueError):
    """A formula uses something that binding does not understand."""


@dataclass(frozen=True)
class Source:
    """A formula as self-contained Python text for a compiled target.

    name        the function of `text` to call
    arguments   its arguments, in order
    results     number of values it returns
    text        definitions of it and of all formulas it calls, the called ones first
    functions   names of those definitions, in order
    primitives  names that the target supplies, sorted; the literal's type comes on top
    """

    name: str
    arguments: tuple[str, ...]
    results: int
    text: str
    functions: tuple[str, ...]
    primitives: tuple[str, ...]

    def define(
        self,
        namespace: Mapping[str, Any],
        decorate: Callable[[Callable[..., Any]], Any] | None = None,
    ) -> Any:
        """Run the text with the target's names and return the function called `name`.

        `decorate` (such as numba.njit) is applied to every definition.
        Raises FormulaError when the namespace lacks a primitive.
        """
        if missing := [name for name in self.primitives if name not in namespace]:
            raise FormulaError(
                f"formula {self.name!r} needs {', '.join(missing)}, which the target's namespace "
                "does not supply"
            )
        scope = dict(namespace)
        _execute(self.text, scope)
        if decorate is not None:
            for name in self.functions:
                scope[name] = decorate(scope[name])
        return scope[self.name]


def is_primitive(formula: Formula) -> bool:
    """Whether a formula names itself, def exp(x): return exp(x), so that the target supplies it."""
    definition = _definition(formula)
    match _body(definition):
        case [ast.Return(value=ast.Call(func=ast.Name(id=called), args=operands, keywords=[]))]:
            names = [operand.id for operand in operands if isinstance(operand, ast.Name)]
            return called == definition.name and names == list(arguments(formula))
    return False


def results(formula: Formula) -> int:
    """Number of values that a formula returns."""
    value = _returned(_definition(formula))
    return len(value.elts) if isinstance(value, ast.Tuple) else 1


_bound: dict[tuple[Formula, int], tuple[Mapping[str, Any], Any]] = {}


def bind(formula: Formula, namespace: Mapping[str, Any]) -> Any:
    """The formula with its names bound to a target's: first those of `namespace`, then formulas.

    `namespace` maps the catalogue's names to the target's functions; it must hold every primitive
    used and may hold more. Bindings are remembered per mapping, so keep one mapping per target.
    Raises FormulaError for what a formula may not contain and for a missing primitive.
    """
    key = (formula, id(namespace))
    if key not in _bound:
        _bound[key] = (namespace, _rebound(formula, namespace))
    return _bound[key][1]


def _rebound(formula: Formula, namespace: Mapping[str, Any]) -> Any:
    name = formula.__name__
    primitive = is_primitive(formula)
    # A user's formula that happens to be called like one of the catalogue stays the user's.
    if name in namespace and (primitive or formulas.FORMULAS.get(name) is formula):
        return namespace[name]
    if primitive:
        raise _problem(formula, f"is a primitive, and the target supplies no {name!r}")
    body = _inspect(formula)
    scope: dict[str, Any] = {"__builtins__": {}, **body.constants}
    scope |= {called: bind(callee, namespace) for called, callee in body.callees.items()}
    code = formula.__code__
    cells = tuple(CellType(scope[free]) for free in code.co_freevars)
    return FunctionType(code, scope, name, None, cells)


@functools.cache
def source(formula: Formula, literal: str = "T") -> Source:
    """The text of a formula for a compiled target, the same on every call.

    `literal` is the name of the type that literals are cast to. Raises FormulaError.
    """
    names: dict[Formula, str] = {}
    texts: list[str] = []
    primitives: set[str] = set()

    def emit(one: Formula) -> None:
        body = _inspect(one)
        for callee in body.callees.values():
            if callee in names or callee is formulas.where:
                continue
            if is_primitive(callee):
                primitives.add(callee.__name__)
            else:
                emit(callee)
        definition = _copy(body.definition)
        definition.body = _body(definition)
        _Typed(body, names, literal).visit(definition)
        definition.name = names[one] = _fresh(f"f_{one.__name__}", names.values())
        texts.append(ast.unparse(definition))

    if is_primitive(formula) and formula is not formulas.where:
        primitives.add(formula.__name__)
    emit(formula)
    return Source(
        name=names[formula],
        arguments=arguments(formula),
        results=results(formula),
        text="\n\n\n".join(texts) + "\n",
        functions=tuple(names.values()),
        primitives=tuple(sorted(primitives)),
    )


def combine(
    name: str,
    arguments: Sequence[str],
    steps: Sequence[tuple[str, Formula, Sequence[str]]],
    returned: Sequence[str],
) -> Formula:
    """A new formula that computes each step (local, formula, operands) and returns some locals.

    Operands are names of arguments or of earlier locals; several returned names make a tuple.
    """
    scope: dict[str, Any] = {}
    lines = [f"def {name}({', '.join(arguments)}):"]
    for local, formula, operands in steps:
        called = next((key for key, value in scope.items() if value is formula), None)
        if called is None:
            called = _fresh(
                formula.__name__, [*scope, *arguments, *(step[0] for step in steps), name]
            )
            scope[called] = formula
        lines.append(f"    {local} = {called}({', '.join(operands)})")
    lines.append(f"    return {', '.join(returned)}")
    _execute("\n".join(lines) + "\n", scope)
    made: Formula = scope[name]
    return made


@functools.cache
def vjp(derivative: Formula) -> Formula:
    """g times a derivative, as a formula of (g, *arguments of the derivative)."""
    names = arguments(derivative)
    name = f"vjp_{derivative.__name__}"
    steps = (("slope", derivative, names), ("product", formulas.multiply, ("g", "slope")))
    return combine(name, ("g", *names), steps, ("product",))


@functools.cache
def compose(outer: Formula, inner: Formula) -> Formula:
    """outer(inner(...), ...): the inner value becomes the first argument of the outer formula.

    Arguments are inner's, then the rest of outer's; one that inner has too gets a trailing `_`.
    compose(relu, add) is bias + activation, relu(a + b).
    """
    head = arguments(inner)
    rest: list[str] = []
    for operand in arguments(outer)[1:]:
        rest.append(_fresh(operand, (*head, *rest), "_"))
    steps = (("inner_value", inner, head), ("value", outer, ("inner_value", *rest)))
    return combine(f"{outer.__name__}_{inner.__name__}", (*head, *rest), steps, ("value",))


# -- Reading a formula ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Body:
    """What a formula consists of, once checked."""

    formula: Formula
    definition: ast.FunctionDef
    callees: dict[str, Formula]
    constants: dict[str, float]


class _Reader(ast.NodeVisitor):
    """Check every construct of a formula, and resolve the names that are not its own."""

    def __init__(self, formula: Formula, definition: ast.FunctionDef) -> None:
        self.formula = formula
        self.callees: dict[str, Formula] = {}
        self.constants: dict[str, float] = {}
        self.own = set(arguments(formula))
        spec = definition.args
        if spec.defaults or spec.kw_defaults:
            raise _problem(
                formula, "has default values; pass every argument, and state defaults in a Row"
            )
        if spec.vararg or spec.kwarg or spec.kwonlyargs:
            raise _problem(formula, "must take positional arguments only, no *args, ** or keywords")
        if definition.decorator_list:
            raise _problem(formula, "is decorated; a formula is a plain function")
        statements = _body(definition)
        for statement in statements[:-1]:
            self.visit(statement)
        last = statements[-1]
        if not isinstance(last, ast.Return) or last.value is None:
            raise _problem(formula, "must end with `return` of an expression", last)
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
                raise _problem(self.formula, "assigns to something other than one plain name", node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if type(node.value) not in (int, float):
            raise _problem(
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
            raise _problem(
                self.formula, "chains comparisons; write (a < x) & (x < b) for a < x < b", node
            )
        self.operator(node.ops[0], node)
        self.visit(node.left)
        self.visit(node.comparators[0])

    def operator(self, sign: ast.AST, node: ast.AST) -> None:
        if not isinstance(sign, _OPERATORS):
            raise _problem(self.formula, f"uses the operator {type(sign).__name__}", node)

    def visit_Call(self, node: ast.Call) -> None:
        if node.keywords or any(isinstance(operand, ast.Starred) for operand in node.args):
            raise _problem(self.formula, "calls with keyword or starred arguments", node)
        if not isinstance(node.func, ast.Name):
            raise _problem(self.formula, "calls something other than a bare name", node)
        name = node.func.id
        if name in self.own:
            raise _problem(self.formula, f"calls {name!r}, which is a value of its own", node)
        callee = self.callees[name] = self.formula_called(name, node)
        if len(node.args) != len(arguments(callee)):
            raise _problem(
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
        raise _problem(
            self.formula, f"calls {name!r}, which is neither a primitive nor a formula", node
        )

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in self.own:
            return
        value: Any = _outside(self.formula).get(node.id)
        if type(value) not in (int, float) or value != value:
            raise _problem(
                self.formula,
                f"reads {node.id!r}, which is not an argument, a local name or a numeric constant",
                node,
            )
        self.constants[node.id] = value

    def generic_visit(self, node: ast.AST) -> None:
        hint = "; use where(condition, a, b)" if isinstance(node, ast.If | ast.IfExp) else ""
        raise _problem(
            self.formula, f"contains {type(node).__name__}, which is not allowed{hint}", node
        )


class _Typed(ast.NodeTransformer):
    """Type every literal, spell `where` as a conditional and call formulas by their given names."""

    def __init__(self, body: _Body, names: Mapping[Formula, str], literal: str) -> None:
        self.body = body
        self.names = names
        self.literal = literal

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        assert isinstance(node.value, int | float)
        return self.typed(node.value)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        constant = self.body.constants.get(node.id)
        return node if constant is None else self.typed(constant)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        match node:
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return self.typed(-value)
        node.operand = self.visit(node.operand)
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        assert isinstance(node.func, ast.Name)
        callee = self.body.callees[node.func.id]
        operands = [self.visit(operand) for operand in node.args]
        if callee is formulas.where:
            return ast.IfExp(test=operands[0], body=operands[1], orelse=operands[2])
        name = self.names.get(callee, callee.__name__)
        return ast.Call(func=ast.Name(id=name), args=operands, keywords=[])

    def typed(self, value: float) -> ast.expr:
        return ast.Call(
            func=ast.Name(id=self.literal), args=[ast.Constant(value=value)], keywords=[]
        )


@functools.cache
def _inspect(formula: Formula) -> _Body:
    definition = _definition(formula)
    reader = _Reader(formula, definition)
    return _Body(formula, definition, reader.callees, reader.constants)


@functools.cache
def _definition(formula: Formula) -> ast.FunctionDef:
    if not isinstance(formula, FunctionType) or formula.__name__ == "<lambda>":
        raise FormulaError(f"{formula!r} is not a formula; define one with `def name(x): ...`")
    code = formula.__code__
    for found in _definitions(code.co_filename, "".join(_lines(formula))):
        first = min([found.lineno, *(mark.lineno for mark in found.decorator_list)])
        if found.name == code.co_name and first == code.co_firstlineno:
            return found
    raise _problem(
        formula, f"has no readable source in {code.co_filename}; define it in a file or a cell"
    )


def _lines(formula: FunctionType) -> list[str]:
    return linecache.getlines(formula.__code__.co_filename, formula.__globals__)


@functools.lru_cache(maxsize=64)
def _definitions(filename: str, text: str) -> list[ast.FunctionDef]:
    tree = ast.parse(text, filename)
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def _body(definition: ast.FunctionDef) -> list[ast.stmt]:
    """The statements of a function without its docstring."""
    match definition.body:
        case [ast.Expr(value=ast.Constant(value=str())), _, *_]:
            return definition.body[1:]
    return definition.body


def _returned(definition: ast.FunctionDef) -> ast.expr | None:
    last = definition.body[-1]
    return last.value if isinstance(last, ast.Return) else None


def _outside(formula: Formula) -> dict[str, Any]:
    """The names that a formula sees beyond its own: its module's, then its closure's."""
    code = formula.__code__
    cells = formula.__closure__ or ()
    held = dict(zip(code.co_freevars, (cell.cell_contents for cell in cells), strict=True))
    return {**formula.__globals__, **held}


def _copy(definition: ast.FunctionDef) -> ast.FunctionDef:
    copied = ast.parse(ast.unparse(definition)).body[0]
    assert isinstance(copied, ast.FunctionDef)
    return copied


def _fresh(name: str, taken: Sequence[str] | Any, mark: str = "_2") -> str:
    while name in taken:
        name += mark
    return name


def _execute(text: str, scope: dict[str, Any]) -> None:
    """Run generated text so that tracebacks, and binding itself, can read it."""
    filename = f"<gradnet formula {hash(text):x}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    exec(compile(text, filename, "exec"), scope)


def _problem(formula: Formula, problem: str, node: ast.AST | None = None) -> FormulaError:
    text = f": `{ast.unparse(node)}`" if node is not None else ""
    return FormulaError(f"formula {formula.__name__!r} {problem}{text}")
