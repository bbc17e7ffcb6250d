"""An instruction as lines of Python that compute it for a group of threads, in NumPy.

Registers are local names there. What else the lines use: `m` the machine, `i` the places of the
group's threads or None for all of them, `n` how many they are, `A` what is in `arithmetic`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from . import arithmetic
from .text import SIZES, Instruction, Kernel, Operand, UnknownError

# NumPy's name of a type, as what a register holds and as what an instruction takes it for.
HELD = {"pred": "bool_", "f32": "float32", "f64": "float64"}
HELD |= {f"{kind}{8 * k}": f"uint{8 * k}" for kind in "bus" for k in (1, 2, 4, 8)}
HELD |= {"f16": "uint16", "bf16": "uint16", "f16x2": "uint32", "bf16x2": "uint32"}
TAKEN = HELD | {f"s{8 * k}": f"int{8 * k}" for k in (1, 2, 4, 8)}
FLOATS = ("f32", "f64")
# Without a meaning here: how an access is cached, and that all threads of a warp take part.
_HINTS = frozenset(("uni", "nc", "volatile", "sync", "aligned", "weak"))
SPECIAL = re.compile(r"%(tid|ntid|ctaid|nctaid)\.[xyz]|%(laneid|warpid|cluster_ctarank)")


class Emitter:
    """Writes lines; holds the constants that they name."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        # The lines of an instruction, and of all before it in its stretch.
        self.lines: list[str] = []
        self.stretch: list[str] = []
        self.constants: dict[str, Any] = {}
        self._known: dict[tuple[str, bytes], str] = {}

    def constant(self, value: Any) -> str:
        """The name of a NumPy number."""
        key = (value.dtype.str, value.tobytes())
        name = self._known.get(key)
        if name is None:
            name = self._known[key] = f"K{len(self._known)}"
            self.constants[name] = value
        return name

    def immediate(self, text: str, type_: str) -> str:
        kind = np.dtype(HELD[type_])
        if text[:2] in ("0f", "0F"):
            value: Any = np.float32(struct.unpack(">f", bytes.fromhex(text[2:]))[0])
        elif text[:2] in ("0d", "0D"):
            value = np.float64(struct.unpack(">d", bytes.fromhex(text[2:]))[0])
        elif re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|\d+)U?", text):
            number = int(text.rstrip("U"), 0)
            if kind == np.bool_:
                return self.constant(np.bool_(number))
            if kind.kind == "f":
                raise UnknownError(f"an integer {text} as {type_}")
            value = kind.type(number % (1 << 8 * kind.itemsize))
        else:
            raise UnknownError(f"an operand {text}")
        if value.dtype != kind:
            value = np.frombuffer(value.tobytes(), kind)[0]
        return self.constant(value.view(TAKEN[type_]) if kind != np.bool_ else value)

    def take(self, operand: Operand, type_: str) -> str:
        """An operand as a value of a type."""
        if not isinstance(operand, str):
            raise UnknownError(f"a vector {operand} where {type_} is taken")
        if not operand.startswith("%"):
            return self.immediate(operand, type_)
        held, wanted = HELD[self.kernel.register(operand)], TAKEN[type_]
        name = local(operand)
        if held == wanted:
            return name
        sizes = np.dtype(held).itemsize, np.dtype(wanted).itemsize
        if "bool_" in (held, wanted) or sizes[0] < sizes[1]:
            raise UnknownError(f"a register {operand} of {held} taken for {type_}")
        if sizes[0] == sizes[1]:
            return f"{name}.view(np.{wanted})"
        if held.startswith("float"):
            raise UnknownError(f"a part of a float {operand}")
        return f"{name}.astype(np.{wanted})"

    def put(self, operand: Operand, text: str, type_: str) -> None:
        """Give a register a value of a type; one that is wider extends it."""
        if not isinstance(operand, str):
            raise UnknownError(f"a vector {operand} as a result")
        if operand == "_":
            return
        held, given = HELD[self.kernel.register(operand)], TAKEN[type_]
        if held != given:
            sizes = np.dtype(held).itemsize, np.dtype(given).itemsize
            if "bool_" in (held, given) or sizes[0] < sizes[1]:
                raise UnknownError(f"a {type_} for a register {operand} of {held}")
            how = "view" if sizes[0] == sizes[1] else "astype"
            text = f"({text}).{how}(np.{held})"
        self.lines.append(f"{local(operand)} = {text}")

    def address(self, operand: Operand) -> str:
        """`[register + number]` or `[name + number]` as uint64 addresses, or a number."""
        found = re.fullmatch(r"\[\s*([%\w$]+)\s*(?:\+\s*(-?\w+))?\s*\]", str(operand))
        if found is None:
            raise UnknownError(f"an address {operand}")
        base, more = found[1], int(found[2] or "0", 0)
        if base.startswith("%"):
            wide = SIZES.get(self.kernel.register(base), 0) == 8
            text = local(base) if wide else f"{local(base)}.astype(np.uint64)"
        else:
            text = f"m.place({base!r}, n)"
        return f"{text} + {self.constant(np.uint64(more % (1 << 64)))}" if more else text

    def emit(self, one: Instruction) -> None:
        """Write an instruction. Raises UnknownError for one that is not known."""
        known = _KNOWN.get(one.base)
        if known is None or one.guard:
            raise UnknownError(f"an instruction: {one.text}")
        try:
            known(self, one)
        except (UnknownError, KeyError, ValueError, IndexError) as error:
            raise UnknownError(f"an instruction: {one.text} ({error})") from error


Emits = Callable[[Emitter, Instruction], None]


def local(register: str) -> str:
    """The name of a register in Python."""
    return "r_" + register[1:].replace("$", "_S")


def flags(one: Instruction, *known: str) -> set[str]:
    """What stands between an instruction's name and its type. Raises for what is not known."""
    found = set(one.parts[1:-1]) - _HINTS
    if not found <= set(known):
        raise UnknownError(f"{sorted(found - set(known))}")
    return found


def _unsigned(type_: str) -> str:
    return "u" + type_[1:]


def _binary(sign: str, function: str = "") -> Emits:
    """Sums, differences and products of floats; of integers, those that no sign changes."""

    def emit(e: Emitter, one: Instruction) -> None:
        target, *given = one.operands
        type_ = one.type
        if type_ not in FLOATS:
            flags(one, "lo")
            a, b = (e.take(x, _unsigned(type_)) for x in given)
            e.put(target, f"{a} {sign} {b}", _unsigned(type_))
            return
        how = flags(one, "rn", "rz", "rm", "rp", "ftz", "sat")
        a, b = (e.take(x, type_) for x in given)
        if "ftz" in how:
            a, b = f"A.flushed({a})", f"A.flushed({b})"
        directed = how & {"rz", "rm", "rp"}
        text = f"{a} {sign} {b}"
        if directed:
            if type_ != "f32" or sign not in "+*":
                raise UnknownError(f"{directed} of {sign}")
            one_, zero = (e.constant(np.float32(x)) for x in (1, -0.0))
            terms = f"{a}, {one_}, {b}" if sign == "+" else f"{a}, {b}, {zero}"
            text = f"A.FMA4[{directed.pop()!r}]({terms})"
        e.put(target, _finished(text, how), type_)

    return emit


def _finished(text: str, how: set[str]) -> str:
    text = f"A.flushed({text})" if "ftz" in how else text
    return f"A.saturated({text})" if "sat" in how else text


def _mul(e: Emitter, one: Instruction) -> None:
    if one.type in FLOATS or "lo" in one.parts:
        _binary("*")(e, one)
        return
    target, a, b = one.operands
    text, type_ = _product(e, one, a, b)
    e.put(target, text, type_)


def _product(e: Emitter, one: Instruction, a: Operand, b: Operand) -> tuple[str, str]:
    """A product of integers and its type: its lower half, its upper one, or all of it."""
    how, type_ = flags(one, "lo", "hi", "wide"), one.type
    x, y = e.take(a, type_), e.take(b, type_)
    bits = 8 * SIZES[type_]
    if how == {"lo"}:
        return f"({e.take(a, _unsigned(type_))} * {e.take(b, _unsigned(type_))})", _unsigned(type_)
    if how == {"hi"} and bits == 64:
        return f"A.high8({x}, {y}, {type_[0] == 's'})", "u64"
    wide = f"{type_[0]}{2 * bits}"
    kind = TAKEN[wide]
    text = f"({x}.astype(np.{kind}) * {y}.astype(np.{kind}))"
    if how == {"wide"}:
        return text, wide
    return f"({text} >> np.{kind}({bits})).astype(np.{TAKEN[type_]})", type_


def _mad(e: Emitter, one: Instruction) -> None:
    """A product of integers and a sum, which may leave a carry, or take one that is left."""
    target, a, b, c = one.operands
    if one.type in FLOATS:
        raise UnknownError("mad of floats")
    carries = "cc" in one.parts
    if carries:
        one = one._replace(parts=tuple(x for x in one.parts if x != "cc"))
    text, type_ = _product(e, one, a, b)
    type_ = _unsigned(type_)
    text = f"{text}.view(np.{HELD[type_]}) + {e.take(c, type_)}"
    if one.base == "madc":
        if carries or not any(line.startswith("carry =") for line in e.stretch):
            raise UnknownError("a carry of what")
        text = f"{text} + carry"
    elif carries:
        if one.parts[1:] != ("lo", "u32"):
            raise UnknownError("the carry of this")
        wide = [f"{e.take(x, type_)}.astype(np.uint64)" for x in (a, b, c)]
        low = f"({wide[0]} * {wide[1]} & np.uint64(0xFFFFFFFF))"
        e.lines.append(f"carry = ({low} + {wide[2]} >> np.uint64(32)).astype(np.uint32)")
    e.put(target, text, type_)


def _fma(e: Emitter, one: Instruction) -> None:
    target, *given = one.operands
    how = flags(one, "rn", "rz", "rm", "rp", "ftz", "sat")
    terms = [e.take(x, one.type) for x in given]
    if "ftz" in how:
        terms = [f"A.flushed({x})" for x in terms]
    name = f"fma{SIZES[one.type]}"
    directed = how & {"rz", "rm", "rp"}
    if directed:
        name = f"{name.upper()}[{directed.pop()!r}]"
    e.put(target, _finished(f"A.{name}({', '.join(terms)})", how), one.type)


def _div(e: Emitter, one: Instruction) -> None:
    target, *given = one.operands
    a, b = (e.take(x, one.type) for x in given)
    if one.type in FLOATS:
        how = flags(one, "rn", "approx", "ftz")
        text = f"m.approximate('div', {'ftz' in how}, {a}, {b})"
        if how == {"rn"}:
            text = f"{a} / {b}"
        elif "approx" not in how or one.type != "f32":
            raise UnknownError("how it is rounded")
        e.put(target, text, one.type)
    else:
        flags(one)
        e.put(target, f"A.divided({a}, {b})[{int(one.base == 'rem')}]", one.type)


def _extreme(e: Emitter, one: Instruction) -> None:
    target, *given = one.operands
    a, b = (e.take(x, one.type) for x in given)
    how = flags(one, "NaN")
    if one.type not in FLOATS:
        name = {"min": "np.minimum", "max": "np.maximum"}[one.base]
        e.put(target, f"{name}({a}, {b})", one.type)
        return
    text = f"A.{ {'min': 'least', 'max': 'largest'}[one.base] }({a}, {b})"
    missing = e.constant(np.dtype(HELD[one.type]).type(np.nan))
    if how:
        text = f"np.where(({a} != {a}) | ({b} != {b}), {missing}, {text})"
    e.put(target, text, one.type)


def _unary(text: str) -> Emits:
    def emit(e: Emitter, one: Instruction) -> None:
        target, source = one.operands
        how = flags(one, "ftz") if one.type in FLOATS else flags(one)
        value = e.take(source, one.type)
        e.put(target, text.format(f"A.flushed({value})" if how else value), one.type)

    return emit


def _root(e: Emitter, one: Instruction) -> None:
    """Functions that are rounded to nearest, or approximate."""
    target, source = one.operands
    how = flags(one, "rn", "approx", "ftz")
    value = e.take(source, one.type)
    if "approx" in how:
        text = f"m.approximate({one.base!r}, {'ftz' in how}, {value})"
    elif "rn" in how and one.base in ("sqrt", "rcp") and "ftz" not in how:
        unit = e.constant(np.dtype(HELD[one.type]).type(1))
        text = f"np.sqrt({value})" if one.base == "sqrt" else f"{unit} / {value}"
    else:
        raise UnknownError("how it is rounded")
    e.put(target, text, one.type)


_KNOWN: dict[str, Emits] = {
    "add": _binary("+"),
    "sub": _binary("-"),
    "mul": _mul,
    "mad": _mad,
    "madc": _mad,
    "fma": _fma,
    "div": _div,
    "rem": _div,
    "min": _extreme,
    "max": _extreme,
    "neg": _unary("-{}"),
    "abs": _unary("np.abs({})"),
    **dict.fromkeys(("sqrt", "rcp", "rsqrt", "ex2", "lg2", "sin", "cos", "tanh"), _root),
    "copysign": lambda e, one: e.put(
        one.operands[0],
        f"np.copysign({e.take(one.operands[2], one.type)}, {e.take(one.operands[1], one.type)})",
        one.type,
    ),
}


def known(*names: str) -> Callable[[Emits], Emits]:
    """Make a function what writes the instructions of these names."""

    def add(function: Emits) -> Emits:
        _KNOWN.update(dict.fromkeys(names, function))
        return function

    return add


NAMES = {"np": np, "A": arithmetic}
