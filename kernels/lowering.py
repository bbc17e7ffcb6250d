"""Formulas as straight-line LLVM code, within the loops that call them.

All values of a formula are floats of one type, or conditions.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

from gradnet import binding
from gradnet.errors import DTypeError

from .templates import elementary, gaussian

Value = Any
Parsed = dict[str, ast.FunctionDef]


class LoweringError(DTypeError):
    """A formula that this target does not compile, such as one that shifts bits."""


# Functions of the platform's library, which has them for both types: sinf and sin.
_LIBRARY = {"exp2", "log2", "log10", "sin", "cos", "tan", "asin", "acos", "atan", "atan2"}
_LIBRARY |= {"sinh", "cosh", "asinh", "acosh", "atanh", "hypot", "nextafter", "pow"}
# LLVM's own operations, one instruction or a few.
_INSTRUCTIONS = {
    "sqrt": "sqrt",
    "floor": "floor",
    "ceil": "ceil",
    "trunc": "trunc",
    "round": "rint",
    "abs": "fabs",
    "copysign": "copysign",
}


class Target:
    """Where code goes, and the float type it computes in, or vectors of it with so many lanes."""

    def __init__(self, builder: ir.IRBuilder, bits: int, lanes: int = 0) -> None:
        self.builder = builder
        self.bits = bits
        self.lanes = lanes
        self.float = self.kind(ir.FloatType() if bits == 32 else ir.DoubleType())
        self.int = self.kind(ir.IntType(bits))
        self.condition = self.kind(ir.IntType(1))
        self.significand = 23 if bits == 32 else 52
        self.bias = 127 if bits == 32 else 1023
        # 1.5 * 2**significand pushes the fraction of a smaller number off its end: adding it and
        # taking it off rounds to nearest, and its sum with a whole k holds k in its lowest bits.
        self.magic = 1.5 * 2.0**self.significand
        self.magic_bits = (self.bias + self.significand) << self.significand
        self.magic_bits |= 1 << self.significand - 1

    def kind(self, element: ir.Type) -> ir.Type:
        """A type, or that of its vectors."""
        return ir.VectorType(element, self.lanes) if self.lanes else element

    def number(self, value: float) -> ir.Constant:
        return ir.Constant(self.float, [float(value)] * self.lanes if self.lanes else float(value))

    def integer(self, value: int) -> ir.Constant:
        return ir.Constant(self.int, [value] * self.lanes if self.lanes else value)

    def as_float(self, value: Value) -> Value:
        """A condition as 0 or 1; floats stay."""
        if value.type == self.condition:
            return self.builder.uitofp(value, self.float)
        return value

    def as_condition(self, value: Value) -> Value:
        """Whether a float is not 0; conditions stay."""
        if value.type == self.condition:
            return value
        return self.builder.fcmp_unordered("!=", value, self.number(0))

    def primitive(self, name: str, values: Sequence[Value]) -> Value:
        """The value of a primitive that is no formula on this target."""
        if name in _INSTRUCTIONS:
            return self.instruction(_INSTRUCTIONS[name], values)
        if name in _LIBRARY and not self.lanes:
            return self.called(name + ("f" if self.bits == 32 else ""), values)
        method = _OWN.get(name)
        if method is None:
            raise LoweringError(f"the compiled CPU target has no {name!r}")
        return method(self, *values)

    def instruction(self, name: str, values: Sequence[Value]) -> Value:
        """The result of one of LLVM's own operations on floats."""
        lanes = f"v{self.lanes}" if self.lanes else ""
        return self.called(f"llvm.{name}.{lanes}f{self.bits}", values)

    def called(self, symbol: str, values: Sequence[Value]) -> Value:
        """The result of a function from floats to a float."""
        found = self.builder.module.globals.get(symbol)
        kind = ir.FunctionType(self.float, [self.float] * len(values))
        declared = found or ir.Function(self.builder.module, kind, symbol)
        return self.builder.call(declared, values)


def _fma(target: Target, a: Value, b: Value, c: Value) -> Value:
    features = llvm.get_host_cpu_features()
    # Without the instruction, LLVM would call a library function a hundred times slower.
    if features.get("fma", False) or features.get("neon", False):
        return target.instruction("fma", [a, b, c])
    return target.builder.fadd(target.builder.fmul(a, b), c)


def _nearest(target: Target, x: Value) -> Value:
    magic = target.number(target.magic)
    return target.builder.fsub(target.builder.fadd(x, magic), magic)


def _power_of_two(target: Target, k: Value) -> Value:
    b = target.builder
    pushed = b.bitcast(b.fadd(k, target.number(target.magic)), target.int)
    biased = b.add(pushed, target.integer(target.bias))
    return b.bitcast(b.shl(biased, target.integer(target.significand)), target.float)


def _centred_exponent(target: Target, x: Value) -> Value:
    root_of_half = target.integer(0x3F3504F3 if target.bits == 32 else 0x3FE6A09E667F3BCD)
    b = target.builder
    return b.ashr(b.sub(b.bitcast(x, target.int), root_of_half), target.integer(target.significand))


def _exponent(target: Target, x: Value) -> Value:
    b = target.builder
    pushed = b.add(_centred_exponent(target, x), target.integer(target.magic_bits))
    return b.fsub(b.bitcast(pushed, target.float), target.number(target.magic))


def _significand(target: Target, x: Value) -> Value:
    b = target.builder
    e = b.shl(_centred_exponent(target, x), target.integer(target.significand))
    return b.bitcast(b.sub(b.bitcast(x, target.int), e), target.float)


def _extreme(target: Target, sign: str, a: Value, b: Value) -> Value:
    """The larger or smaller of two floats, NaN if either is."""
    if llvm.llvm_version_info[0] >= 17:
        # Loops that keep the largest vectorise; earlier versions have no such code for x86.
        return target.instruction("maximum" if sign == ">" else "minimum", [a, b])
    ahead = target.builder.fcmp_ordered(sign, a, b)
    missing = target.builder.fcmp_unordered("!=", a, a)
    return target.builder.select(target.builder.or_(ahead, missing), a, b)


_OWN: dict[str, Callable[..., Value]] = {
    "larger": lambda target, a, b: _extreme(target, ">", a, b),
    "smaller": lambda target, a, b: _extreme(target, "<", a, b),
    "fma": _fma,
    "nearest": _nearest,
    "power_of_two": _power_of_two,
    "exponent": _exponent,
    "significand": _significand,
    "isinf": lambda target, x: target.builder.fcmp_ordered(
        "==", target.primitive("abs", [x]), target.number(float("inf"))
    ),
    "isfinite": lambda target, x: target.builder.fcmp_ordered(
        "<", target.primitive("abs", [x]), target.number(float("inf"))
    ),
    # Terms of a sum or product whose order the compiler may choose: it adds a vector at a time.
    "lane_add": lambda target, a, b: target.builder.fadd(a, b, flags=("reassoc",)),
    "lane_multiply": lambda target, a, b: target.builder.fmul(a, b, flags=("reassoc",)),
}
# Formulas of this target: primitives, and what stands for formulas that a text defines.
_FORMULAS: dict[tuple[str, int], Any] = {
    **elementary.FORMULAS,
    **{(binding.defined(name), bits): f for (name, bits), f in gaussian.FORMULAS.items()},
}
_BOUNDS = {binding.defined("minimum"): "<", binding.defined("maximum"): ">"}
_ARITHMETIC = {ast.Add: "fadd", ast.Sub: "fsub", ast.Mult: "fmul", ast.Div: "fdiv"}
_LOGIC = {ast.BitAnd: "and_", ast.BitOr: "or_", ast.BitXor: "xor"}
COMPARISON = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "=="}


class _Lowering:
    """Walks the text of a formula once, appending its code."""

    def __init__(self, target: Target, parsed: Parsed) -> None:
        self.target = target
        self.parsed = parsed

    def call(self, name: str, values: Sequence[Value]) -> list[Value]:
        """The results of a function of the text, or of what stands for it."""
        own = _FORMULAS.get((name, self.target.bits))
        if own is not None:
            return [lowered(self.target, own, [self.target.as_float(value) for value in values])]
        definition = self.parsed[name]
        local = {a.arg: v for a, v in zip(definition.args.args, values, strict=True)}
        for statement in definition.body:
            if isinstance(statement, ast.Assign):
                (variable,) = statement.targets
                assert isinstance(variable, ast.Name)
                local[variable.id] = self.value(statement.value, local)
            elif isinstance(statement, ast.Return):
                returned = statement.value
                parts = returned.elts if isinstance(returned, ast.Tuple) else [returned]
                return [self.value(part, local) for part in parts if part is not None]
        raise LoweringError(f"the formula {name!r} returns nothing")

    def value(self, node: ast.expr, local: dict[str, Value]) -> Value:
        target, build = self.target, self.target.builder
        match node:
            case ast.Name(id=name):
                return local[name]
            case ast.Call(func=ast.Name(id="T"), args=[literal]):
                return target.number(ast.literal_eval(literal))
            case ast.Call(func=ast.Name(id=name), args=operands):
                return self.called(name, [self.value(operand, local) for operand in operands])
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return self.select(*(self.value(part, local) for part in (test, body, orelse)))
            case ast.UnaryOp(op=sign, operand=operand):
                return self.unary(sign, self.value(operand, local))
            case ast.BinOp(left=left, op=sign, right=right):
                return self.binary(sign, self.value(left, local), self.value(right, local))
            case ast.Compare(left=left, ops=[sign], comparators=[right]):
                a = target.as_float(self.value(left, local))
                b = target.as_float(self.value(right, local))
                if isinstance(sign, ast.NotEq):
                    return build.fcmp_unordered("!=", a, b)
                return build.fcmp_ordered(COMPARISON[type(sign)], a, b)
        raise LoweringError(f"the compiled CPU target does not take `{ast.unparse(node)}`")

    def called(self, name: str, values: list[Value]) -> Value:
        if name == "where":
            return self.select(*values)
        if name in _BOUNDS and isinstance(values[1], ir.Constant):
            # No literal is NaN: one comparison does for both of the formula's, one instruction.
            beyond = self.target.builder.fcmp_unordered(_BOUNDS[name], *values)
            return self.select(beyond, *values)
        if name in self.parsed:
            return self.call(name, values)[0]
        values = [self.target.as_float(value) for value in values]
        formula = _FORMULAS.get((name, self.target.bits))
        if formula is None:
            return self.target.primitive(name, values)
        return lowered(self.target, formula, values)

    def select(self, condition: Value, a: Value, b: Value) -> Value:
        if a.type != b.type:
            a, b = self.target.as_float(a), self.target.as_float(b)
        return self.target.builder.select(self.target.as_condition(condition), a, b)

    def unary(self, sign: ast.unaryop, value: Value) -> Value:
        match sign:
            case ast.USub():
                return self.target.builder.fneg(self.target.as_float(value))
            case ast.UAdd():
                return self.target.as_float(value)
            case ast.Invert() if value.type == self.target.condition:
                return self.target.builder.not_(value)
        raise LoweringError("the compiled CPU target does not flip the bits of numbers")

    def binary(self, sign: ast.operator, a: Value, b: Value) -> Value:
        target, build = self.target, self.target.builder
        if type(sign) in _ARITHMETIC:
            emit = getattr(build, _ARITHMETIC[type(sign)])
            return emit(target.as_float(a), target.as_float(b))
        if isinstance(sign, ast.Pow):
            return target.primitive("pow", [target.as_float(a), target.as_float(b)])
        if type(sign) in _LOGIC and a.type == b.type == target.condition:
            return getattr(build, _LOGIC[type(sign)])(a, b)
        raise LoweringError(
            f"the compiled CPU target does not compute {type(sign).__name__} of floats"
        )


@cache
def _parse(text: str) -> Parsed:
    return {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}


def lowered(target: Target, formula: Any, values: Sequence[Value]) -> Value:
    """The value of a formula with one result."""
    source = binding.source(formula)
    return _Lowering(target, _parse(source.text)).call(source.name, values)[0]


# Operators that only integers have, or that NumPy rounds in its own way.
_REFUSED = (ast.FloorDiv, ast.Mod, ast.LShift, ast.RShift)


def refusal(source: binding.Source) -> str | None:
    """Why this target does not compile a formula, or None where it does."""
    for name in source.primitives:
        if not (
            name in _INSTRUCTIONS or name in _LIBRARY or name in _OWN or (name, 32) in _FORMULAS
        ):
            return f"it has no {name!r}"
    for node in ast.walk(ast.parse(source.text)):
        if isinstance(node, _REFUSED):
            return f"it does not compute {type(node).__name__} of floats"
    return None


class Function:
    """The function `name` of a formula's text, for kernels to call.

    Floats of that many bits or conditions in; floats out, or one condition where so asked.
    """

    def __init__(self, name: str, text: str, bits: int, *, condition: bool = False) -> None:
        self.name, self.text, self.bits, self.condition = name, text, bits, condition

    def emit(self, builder: ir.IRBuilder, values: Sequence[Value]) -> list[Value]:
        """The code of a call."""
        target = Target(builder, self.bits)
        found = _Lowering(target, _parse(self.text)).call(self.name, values)
        if self.condition:
            return [target.as_condition(found[0])]
        return [target.as_float(value) for value in found]


def primitive(name: str, bits: int) -> Function:
    """A primitive of one or two operands, such as exp, for kernels to call."""
    operands = "a, b" if name in ("larger", "smaller", "lane_add", "lane_multiply") else "a"
    text = f"def f_{name}({operands}):\n    return {name}({operands})\n"
    return Function(f"f_{name}", text, bits)
