"""Bind scalar formulas to targets.

Array targets (NumPy, Tensors) rebind a formula's names: `bind`. Compiled targets (Numba, CUDA, an
mpmath oracle) compile the text of `source`, where every literal c is typed, T(c), and
where(c, a, b) reads (a if c else b): an untyped literal would make a float32 kernel compute in
float64. `combine`, `compose` and `vjp` make new formulas
of old ones.
"""

from __future__ import annotations

import ast
import functools
import linecache
import re
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from types import CellType, FunctionType
from typing import Any, NamedTuple

from gradnet import formulas
from gradnet.formulas.rows import Formula, arguments
from gradnet.reader import (
    Body,
    FormulaError,
    inspect,
    is_primitive,
    problem,
    results,
    statements,
)

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


class Source(NamedTuple):
    """A formula as self-contained Python text for a compiled target.

    name        the function of `text` to call
    arguments   its arguments, in order
    results     number of values it returns
    text        definitions of it and of all formulas it calls, the called ones first
    functions   names of those definitions, in order
    primitives  names that the target supplies, sorted
    literal     the name of the type of its literals; None where it has none
    """

    name: str
    arguments: tuple[str, ...]
    results: int
    text: str
    functions: tuple[str, ...]
    primitives: tuple[str, ...]
    literal: str | None

    def define(
        self,
        namespace: Mapping[str, Any],
        decorate: Callable[[Callable[..., Any]], Any] | None = None,
    ) -> Any:
        """Run the text with the target's names and return the function called `name`.

        `decorate` (such as numba.njit) is applied to every definition.
        Raises FormulaError when the namespace lacks a primitive or the literals' type.
        """
        needed = self.primitives if self.literal is None else (*self.primitives, self.literal)
        if missing := [name for name in needed if name not in namespace]:
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


_bound: dict[tuple[Formula, int], tuple[Mapping[str, Any], Any]] = {}


def bind(formula: Formula, namespace: Mapping[str, Any]) -> Any:
    """The formula with its names bound to a target's: first those of `namespace`, then formulas.

    `namespace` maps the catalogue's names to the target's functions; it must hold every primitive
    used and may hold more. Bindings are remembered per mapping, so keep one mapping per target.
    Raises FormulaError for what a formula may not contain and for a missing primitive.
    """
    return _bind(formula, namespace, ())


def _bind(formula: Formula, namespace: Mapping[str, Any], callers: tuple[Formula, ...]) -> Any:
    # The namespace is kept with its id, which another mapping could have after it.
    key = (formula, id(namespace))
    if key not in _bound:
        _bound[key] = (namespace, _rebound(formula, namespace, callers))
    return _bound[key][1]


def _rebound(formula: Formula, namespace: Mapping[str, Any], callers: tuple[Formula, ...]) -> Any:
    name = formula.__name__
    primitive = is_primitive(formula)
    # A user's formula that happens to be called like one of the catalogue stays the user's.
    if name in namespace and (primitive or formulas.FORMULAS.get(name) is formula):
        return namespace[name]
    if primitive:
        raise problem(formula, f"is a primitive, and the target supplies no {name!r}")
    body = inspect(formula, callers)
    scope: dict[str, Any] = {"__builtins__": {}, **body.constants}
    for called, callee in body.callees.items():
        scope[called] = _bind(callee, namespace, (*callers, formula))
    code = formula.__code__
    cells = tuple(CellType(scope[free]) for free in code.co_freevars)
    return FunctionType(code, scope, name, None, cells)


@functools.cache
def source(formula: Formula, literal: str = "T") -> Source:
    """The text of a formula for a compiled target, the same on every call and in every process.

    `literal` is the name of the type that literals are cast to. Raises FormulaError.
    """
    bodies: dict[Formula, Body] = {}
    primitives: set[str] = set()

    def collect(one: Formula, callers: tuple[Formula, ...]) -> None:
        body = inspect(one, callers)
        for callee in body.callees.values():
            if is_primitive(callee):
                primitives.add(callee.__name__)
            elif callee not in bodies:
                collect(callee, (*callers, one))
        bodies[one] = body

    collect(formula, ())
    supplied = {literal, *primitives}
    taken = supplied.union(*(body.own for body in bodies.values()))
    names: dict[Formula, str] = {}
    texts: list[str] = []
    for one, body in bodies.items():
        definition = _copy(body.definition)
        definition.body, definition.returns = statements(definition), None
        own = {name: _fresh(name, taken) for name in body.own & supplied}
        _Typed(body, names, own, literal).visit(definition)
        definition.name = names[one] = _fresh(defined(one.__name__), taken | _not_its(one))
        taken.add(definition.name)
        texts.append(ast.unparse(definition))
    return Source(
        name=names[formula],
        arguments=arguments(formula),
        results=results(formula),
        text="\n\n\n".join(texts) + "\n",
        functions=tuple(names.values()),
        # `where` is written out.
        primitives=tuple(sorted(primitives - {"where"})),
        literal=literal if re.search(rf"\b{literal}\(", "".join(texts)) else None,
    )


def defined(name: str) -> str:
    """What a text calls its definition of a formula of the catalogue; no other is called so."""
    return f"f_{name}"


def _not_its(formula: Formula) -> set[str]:
    """The name of a definition that a formula must not have, for it is the catalogue's."""
    name = formula.__name__
    return set() if formulas.FORMULAS.get(name, formula) is formula else {defined(name)}


def combine(
    name: str,
    arguments: Sequence[str],
    steps: Sequence[tuple[str, Formula, Sequence[str]]],
    returned: Sequence[str],
) -> Formula:
    """A new formula that computes each step (local, formula, operands) and returns some locals.

    Operands are names of arguments or of earlier locals; several returned names make a tuple.
    Raises FormulaError for an operand that is neither.
    """
    known = set(arguments)
    taken = {name, *arguments, *(local for local, _, _ in steps)}
    called: dict[Formula, str] = {}
    lines = [f"def {name}({', '.join(arguments)}):"]
    for local, formula, operands in (*steps, ("return", None, returned)):
        if missing := [operand for operand in operands if operand not in known]:
            raise FormulaError(f"formula {name!r} has no value {', '.join(missing)} in {local!r}")
        if formula is None:
            lines.append(f"    return {', '.join(operands)}")
        else:
            if formula not in called:
                called[formula] = _fresh(formula.__name__, taken)
                taken.add(called[formula])
            lines.append(f"    {local} = {called[formula]}({', '.join(operands)})")
            known.add(local)
    scope: dict[str, Any] = {word: formula for formula, word in called.items()}
    _execute("\n".join(lines) + "\n", scope)
    made: Formula = scope[name]
    return made


@functools.cache
def vjp(derivative: Formula) -> Formula:
    """g times a derivative, as a formula of (g, *arguments of the derivative)."""
    names = arguments(derivative)
    if "g" in names:
        raise problem(derivative, "takes 'g', which is the cotangent's name")
    steps = (("slope", derivative, names), ("product", formulas.multiply, ("g", "slope")))
    return combine(f"vjp_{derivative.__name__}", ("g", *names), steps, ("product",))


@functools.cache
def compose(outer: Formula, inner: Formula) -> Formula:
    """outer(inner(...), ...): the inner value becomes the first argument of the outer formula.

    Arguments are inner's, then the rest of outer's; one that inner has too gets a trailing `_`.
    compose(relu, add) is bias + activation, relu(a + b).
    """
    names = list(arguments(inner))
    for operand in arguments(outer)[1:]:
        names.append(_fresh(operand, names))
    count = len(arguments(inner))
    between, value = _fresh("between", names), _fresh("value", names)
    steps = (
        (between, inner, names[:count]),
        (value, outer, (between, *names[count:])),
    )
    return combine(f"{outer.__name__}_{inner.__name__}", names, steps, (value,))


class _Typed(ast.NodeTransformer):
    """Type every literal, spell `where` as a conditional and call formulas by their given names.

    Values called like something that the target supplies get another name.
    """

    def __init__(
        self, body: Body, names: Mapping[Formula, str], own: Mapping[str, str], literal: str
    ) -> None:
        self.body = body
        self.names = names
        self.own = own
        self.literal = literal

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        assert isinstance(node.value, int | float)
        return self.typed(node.value)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        constant = self.body.constants.get(node.id)
        if constant is not None:
            return self.typed(constant)
        node.id = self.own.get(node.id, node.id)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.arg = self.own.get(node.arg, node.arg)
        node.annotation = None
        return node

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
        name = self.names.get(callee, callee.__name__)
        if name == "where":
            return ast.IfExp(test=operands[0], body=operands[1], orelse=operands[2])
        return ast.Call(func=ast.Name(id=name), args=operands, keywords=[])

    def typed(self, value: float) -> ast.expr:
        return ast.Call(
            func=ast.Name(id=self.literal), args=[ast.Constant(value=value)], keywords=[]
        )


def _copy(definition: ast.FunctionDef) -> ast.FunctionDef:
    copied = ast.parse(ast.unparse(definition)).body[0]
    assert isinstance(copied, ast.FunctionDef)
    return copied


def _fresh(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _execute(text: str, scope: dict[str, Any]) -> None:
    """Run generated text so that tracebacks, and binding itself, can read it."""
    filename = f"<gradnet formula {zlib.crc32(text.encode()):08x} {len(text)}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    exec(compile(text, filename, "exec"), scope)
