"""Kernels as LLVM code: loops over arrays, written in a small part of Python.

A kernel's text ends with `def kernel(...)`: assignments, `for` over `range`, `if`, arithmetic,
comparisons, indices and calls. Numbers have the kinds of NumPy's names, which convert when called;
a name keeps the kind that it is given first. Literals take the kind of what they meet, but never
widen a float: 0.5 is a float64, and meets no float32. Indices are not negative, steps of ranges are
positive, both sides of `a if c else b` are computed, and so are those of `and` and `or`. Whatever
else is written raises LoweringError. A text that sets `wide` is worth the widest vectors: it
computes more than it loads.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import llvmlite.binding as llvm
from llvmlite import ir

from .kinds import KINDS, Argument, Array, Kind
from .lowering import COMPARISON, Function, LoweringError, primitive

Value = Any
Builder = ir.IRBuilder

_POINTER, _LONG = ir.PointerType(), ir.IntType(64)
_INT64, _FLOAT64, _CONDITION = KINDS["int64"], KINDS["float64"], KINDS["boolean"]


class Operand(NamedTuple):
    """A value and its kind; a literal of Python has none."""

    value: Value
    kind: Kind | None


class Parameter(NamedTuple):
    """An array that the kernel is given: where it is, its lengths and how many elements it has."""

    place: Value
    lengths: list[Value]
    size: Value
    kind: Kind


def type_of(kind: Kind) -> Value:
    """LLVM's type of a number."""
    if kind.sort == "float":
        return ir.FloatType() if kind.bits == 32 else ir.DoubleType()
    return ir.IntType(kind.bits)


@cache
def wide_vectors() -> bool:
    """Whether vectors of 512 bits are as fast as they are wide, though LLVM prefers 256.

    They are on the processors that have this set of instructions (Intel's Ice Lake, AMD's Zen 4);
    earlier ones with 512 bits ran at a lower clock for as long as they computed with them.
    """
    return bool(llvm.get_host_cpu_features().get("avx512vbmi2"))


def names() -> dict[str, Any]:
    """What a kernel's text may use beside its own definitions."""
    return {
        **KINDS,
        "nan": float("nan"),
        "Array": Array,
        "function": Function,
        "primitive": primitive,
    }


def lower(module: ir.Module, name: str, text: str, signature: str) -> tuple[Argument, ...]:
    """Put the function `kernel` of a text into a module; what it takes.

    It is `void name(place, lengths..., number)`, with the lengths of an array after its place.
    """
    scope = names()
    exec(compile(text, "<kernel>", "exec"), scope)
    arguments: tuple[Argument, ...] = eval(f"({signature},)", scope)
    (definition,) = (
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef) and node.name == "kernel"
    )
    taken: list[Value] = []
    for x in arguments:
        taken += [_POINTER, *[_LONG] * x.ndim] if isinstance(x, Array) else [type_of(x)]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), taken), name)
    for attribute in ("nounwind", "noinline"):
        function.attributes.add(attribute)
    if scope.get("wide") and wide_vectors():
        # LLVM's attributes in quotes are none of those that llvmlite knows.
        set.add(function.attributes, '"prefer-vector-width"="512"')
    _Loops(function, definition, arguments, scope)
    return arguments


class _Loops:
    """Walks a kernel once, appending its code."""

    def __init__(
        self,
        function: ir.Function,
        definition: ast.FunctionDef,
        arguments: tuple[Argument, ...],
        scope: dict[str, Any],
    ) -> None:
        self.entry = ir.IRBuilder(function.append_basic_block())
        body = function.append_basic_block()
        self.entry.position_before(self.entry.branch(body))
        self.b = ir.IRBuilder(body)
        self.scope = scope
        self.arrays: dict[str, Parameter] = {}
        self.variables: dict[str, tuple[Value, Kind]] = {}
        given = iter(function.args)
        for x, parameter in zip(arguments, definition.args.args, strict=True):
            if isinstance(x, Array):
                place, lengths = next(given), [next(given) for _ in range(x.ndim)]
                size = lengths[0]
                for n in lengths[1:]:
                    size = self.entry.mul(size, n)
                self.arrays[parameter.arg] = Parameter(place, lengths, size, x.kind)
            else:
                self.assign(parameter.arg, Operand(next(given), x))
        self.block(definition.body)
        self.b.ret_void()

    # Statements

    def block(self, statements: Sequence[ast.stmt]) -> None:
        for statement in statements:
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Call() as call):
                for target, value in zip(targets, self.call(call), strict=True):
                    self.put(target, value)
            case ast.Assign(targets=[target], value=value):
                self.put(target, self.value(value))
            case ast.AugAssign(target=target, op=sign, value=value):
                self.put(target, self.binary(sign, self.value(target), self.value(value)))
            case ast.For(
                target=ast.Name(id=name),
                iter=ast.Call(func=ast.Name(id="range"), args=limits),
                body=body,
            ):
                self.loop(name, [self.number(self.value(x), _INT64) for x in limits], body)
            case ast.If(test=test, body=body, orelse=orelse):
                with self.b.if_else(self.condition(self.value(test))) as (then, otherwise):
                    with then:
                        self.block(body)
                    with otherwise:
                        self.block(orelse)
            case ast.Expr(value=ast.Call() as call):
                self.call(call)
            case _:
                raise LoweringError(f"a kernel has no `{ast.unparse(node)}`")

    def put(self, target: ast.expr, value: Operand) -> None:
        """Assign to a name, or to an element, which is rounded to what the array takes."""
        if isinstance(target, ast.Name):
            self.assign(target.id, value)
            return
        place, kind = self.element(target)
        stored = self.number(value, kind)
        self.b.store(self.b.zext(stored, ir.IntType(8)) if kind == _CONDITION else stored, place)

    def assign(self, name: str, value: Operand) -> None:
        if name not in self.variables:
            kind = value.kind or (_FLOAT64 if isinstance(value.value, float) else _INT64)
            self.variables[name] = self.slot(kind), kind
        place, kind = self.variables[name]
        if value.kind not in (kind, None):
            raise LoweringError(f"{name!r} is {kind.name}, and is given {value.kind}")
        self.b.store(self.number(value, kind), place)

    def slot(self, kind: Kind) -> Value:
        """Memory for a variable, which becomes a register."""
        place = self.entry.alloca(type_of(kind))
        place.type = _POINTER
        return place

    def loop(self, name: str, limits: list[Value], body: Sequence[ast.stmt]) -> None:
        step = limits[2] if len(limits) == 3 else _LONG(1)
        start, stop = limits[:2] if len(limits) > 1 else (_LONG(0), limits[0])
        turn = self.slot(_INT64)
        self.b.store(start, turn)
        look, go, end = (self.b.append_basic_block() for _ in range(3))
        self.b.branch(look)
        self.b.position_at_end(look)
        i = self.b.load(turn, typ=_LONG)
        self.b.cbranch(self.b.icmp_signed("<", i, stop), go, end)
        self.b.position_at_end(go)
        self.assign(name, Operand(i, _INT64))
        self.block(body)
        self.b.store(self.b.add(i, step, flags=("nsw",)), turn)
        self.b.branch(look)
        self.b.position_at_end(end)

    # Expressions

    def value(self, node: ast.expr) -> Operand:
        match node:
            case ast.Constant(value=bool() | int() | float() as literal):
                return Operand(literal, None)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as literal)):
                return Operand(-literal, None)
            case ast.Name(id=name) if name in self.variables:
                place, kind = self.variables[name]
                return Operand(self.b.load(place, typ=type_of(kind)), kind)
            case ast.Name(id=name) if isinstance(self.scope.get(name), int | float):
                return Operand(self.scope[name], None)
            case ast.Attribute(value=ast.Name(id=name), attr="size"):
                return Operand(self.arrays[name].size, _INT64)
            case ast.Subscript(
                value=ast.Attribute(value=ast.Name(id=name), attr="shape"),
                slice=ast.Constant(value=int() as axis),
            ):
                return Operand(self.arrays[name].lengths[axis], _INT64)
            case ast.Subscript():
                place, kind = self.element(node)
                if kind == _CONDITION:
                    byte = self.b.load(place, typ=ir.IntType(8))
                    return Operand(self.b.icmp_unsigned("!=", byte, ir.IntType(8)(0)), kind)
                return Operand(self.b.load(place, typ=type_of(kind)), kind)
            case ast.Call():
                (result,) = self.call(node)
                return result
            case ast.IfExp(test=test, body=body, orelse=orelse):
                chosen = self.condition(self.value(test))
                (a, b), kind = self.met(self.value(body), self.value(orelse))
                return Operand(self.b.select(chosen, a, b), kind)
            case ast.BinOp(left=left, op=sign, right=right):
                return self.binary(sign, self.value(left), self.value(right))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return Operand(self.b.not_(self.condition(self.value(operand))), _CONDITION)
            case ast.BoolOp(op=sign, values=parts):
                combine = self.b.and_ if isinstance(sign, ast.And) else self.b.or_
                found = [self.condition(self.value(part)) for part in parts]
                for part in found[1:]:
                    found[0] = combine(found[0], part)
                return Operand(found[0], _CONDITION)
            case ast.Compare(left=left, ops=[sign], comparators=[right]):
                return self.compare(sign, self.value(left), self.value(right))
        raise LoweringError(f"a kernel has no `{ast.unparse(node)}`")

    def call(self, node: ast.Call) -> list[Operand]:
        """The results of a conversion, of a formula, or of code that a template writes itself.

        That gives a float, or nothing.
        """
        called = self.scope.get(node.func.id) if isinstance(node.func, ast.Name) else None
        if isinstance(called, Kind):
            (operand,) = node.args
            return [Operand(self.number(self.value(operand), called), called)]
        if isinstance(called, Function):
            kind = KINDS[f"float{called.bits}"]
            given = [self.value(x) for x in node.args]
            wrong = [x for x in given if x.kind not in (kind, _CONDITION, None)]
            if wrong:
                raise LoweringError(f"{ast.unparse(node)} takes {kind.name}, not {wrong[0].kind}")
            values = [x.value if x.kind == _CONDITION else self.number(x, kind) for x in given]
            result = _CONDITION if called.condition else kind
            return [Operand(x, result) for x in called.emit(self.b, values)]
        if callable(called):
            taken = [
                self.arrays[x.id].place
                if isinstance(x, ast.Name) and x.id in self.arrays
                else self.value(x).value
                for x in node.args
            ]
            made = called(self.b, *taken)
            if made is None:
                return []
            bits = 32 if made.type == ir.FloatType() else 64
            return [Operand(made, KINDS[f"float{bits}"])]
        raise LoweringError(f"a kernel cannot call `{ast.unparse(node.func)}`")

    def element(self, node: ast.expr) -> tuple[Value, Kind]:
        """The place of an array's element, and its kind."""
        match node:
            case ast.Subscript(value=ast.Name(id=name), slice=index) if name in self.arrays:
                array = self.arrays[name]
                indices = index.elts if isinstance(index, ast.Tuple) else [index]
                place: Value = None
                for i, n in zip(indices, array.lengths, strict=True):
                    number = self.number(self.value(i), _INT64)
                    place = number if place is None else self.b.add(self.b.mul(place, n), number)
                kind = array.kind
                type_ = ir.IntType(8) if kind == _CONDITION else type_of(kind)
                return self.b.gep(array.place, [place], inbounds=True, source_etype=type_), kind
        raise LoweringError(f"a kernel has no `{ast.unparse(node)}`")

    def binary(self, sign: ast.operator, a: Operand, b: Operand) -> Operand:
        if a.kind is None and b.kind is None:
            whole = ast.Expression(ast.BinOp(ast.Constant(a.value), sign, ast.Constant(b.value)))
            return Operand(eval(compile(ast.fix_missing_locations(whole), "", "eval")), None)
        (x, y), kind = self.met(a, b, _FLOAT64 if isinstance(sign, ast.Div) else None)
        found = _SIGNS.get((type(sign), kind.sort))
        if found is None:
            raise LoweringError(f"a kernel has no {type(sign).__name__} of {kind.name}")
        return Operand(getattr(self.b, found)(x, y), kind)

    def compare(self, sign: ast.cmpop, a: Operand, b: Operand) -> Operand:
        (x, y), kind = self.met(a, b)
        if kind.sort == "float":
            unordered = isinstance(sign, ast.NotEq)
            emit = self.b.fcmp_unordered if unordered else self.b.fcmp_ordered
        else:
            emit = self.b.icmp_signed if kind.sort == "signed" else self.b.icmp_unsigned
        return Operand(emit(_COMPARISON[type(sign)], x, y), _CONDITION)

    def met(
        self, a: Operand, b: Operand, whole: Kind | None = None
    ) -> tuple[tuple[Value, Value], Kind]:
        """Two operands as the kind in which both are computed; integers as `whole`, if given."""
        kinds = [x.kind for x in (a, b) if x.kind is not None]
        floats = [x for x in kinds if x.sort == "float"]
        if any(x.kind is None and isinstance(x.value, float) for x in (a, b)):
            if KINDS["float32"] in floats:
                raise LoweringError("a literal float meets a float32; write T(...)")
            floats.append(_FLOAT64)
        if floats:
            integers = any(x.sort in ("signed", "unsigned") for x in kinds)
            kind = _FLOAT64 if integers else max(floats, key=lambda x: x.bits)
        elif whole is not None:
            kind = whole
        else:
            kind = max(kinds or [_INT64], key=lambda x: x.bits)
            if len({x.sort for x in kinds} - {"condition"}) > 1:
                # What is narrower than 64 bits fits into a signed integer.
                if any(x.sort == "unsigned" and x.bits == 64 for x in kinds):
                    raise LoweringError("signed and unsigned integers meet; convert one")
                kind = _INT64
        return (self.number(a, kind), self.number(b, kind)), kind

    def condition(self, x: Operand) -> Value:
        if x.kind != _CONDITION:
            raise LoweringError("a condition is a comparison, or made of such")
        return x.value

    def number(self, x: Operand, kind: Kind) -> Value:
        """A value converted to a kind, as NumPy converts it."""
        value, given, type_ = x.value, x.kind, type_of(kind)
        if given is None:
            return type_(float(value) if kind.sort == "float" else int(value))
        if given == kind:
            return value
        if kind.sort == "float":
            if given.sort == "float":
                return (self.b.fpext if kind.bits > given.bits else self.b.fptrunc)(value, type_)
            signed = given.sort == "signed"
            return (self.b.sitofp if signed else self.b.uitofp)(value, type_)
        if given.sort == "float" or kind == _CONDITION:
            raise LoweringError(f"a kernel does not make {kind.name} of {given.name}")
        if kind.bits <= given.bits:
            return value if kind.bits == given.bits else self.b.trunc(value, type_)
        return (self.b.sext if given.sort == "signed" else self.b.zext)(value, type_)


_COMPARISON = {**COMPARISON, ast.NotEq: "!="}
_SIGNS: dict[tuple[type[ast.operator], str], str] = {
    **{
        (sign, "float"): name
        for sign, name in (
            (ast.Add, "fadd"), (ast.Sub, "fsub"), (ast.Mult, "fmul"), (ast.Div, "fdiv"),
        )
    },
    **{
        (sign, sort): name
        for sort in ("signed", "unsigned")
        for sign, name in (
            (ast.Add, "add"), (ast.Sub, "sub"), (ast.Mult, "mul"), (ast.LShift, "shl"),
            (ast.BitAnd, "and_"), (ast.BitOr, "or_"), (ast.BitXor, "xor"),
        )
    },
    (ast.RShift, "signed"): "ashr",
    (ast.RShift, "unsigned"): "lshr",
    **{
        (sign, "condition"): name
        for sign, name in ((ast.BitAnd, "and_"), (ast.BitOr, "or_"), (ast.BitXor, "xor"))
    },
}  # fmt: skip
