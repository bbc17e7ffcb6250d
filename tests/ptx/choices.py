"""Instructions of bits, comparisons and choices, as Python."""

from __future__ import annotations

import numpy as np

from .emit import FLOATS, TAKEN, Emits, Emitter, flags, known
from .text import SIZES, Instruction, UnknownError


def _bitwise(sign: str) -> Emits:
    def emit(e: Emitter, one: Instruction) -> None:
        flags(one)
        target, *given = one.operands
        e.put(target, f" {sign} ".join(e.take(x, one.type) for x in given), one.type)

    return emit


@known("not")
def _not(e: Emitter, one: Instruction) -> None:
    flags(one)
    e.put(one.operands[0], f"~{e.take(one.operands[1], one.type)}", one.type)


@known("shl", "shr")
def _shift(e: Emitter, one: Instruction) -> None:
    flags(one)
    target, a, count = one.operands
    value, name = e.take(a, one.type), "left" if one.base == "shl" else "right"
    if str(count).isdigit() and int(str(count)) < 8 * SIZES[one.type]:
        by = e.constant(np.dtype(TAKEN[one.type]).type(int(str(count))))
        e.put(target, f"{value} {'<<' if name == 'left' else '>>'} {by}", one.type)
    else:
        e.put(target, f"A.shifted_{name}({value}, {e.take(count, 'u32')})", one.type)


def _bits(function: str, *types: str) -> Emits:
    """Functions of words and places in them; "" stands for the instruction's type."""

    def emit(e: Emitter, one: Instruction) -> None:
        how = flags(one, "l", "r", "wrap", "clamp")
        if function == "extracted" and one.type[0] == "s":
            raise UnknownError("signed fields")
        target, *given = one.operands
        terms = [e.take(x, type_ or one.type) for x, type_ in zip(given, types, strict=True)]
        if function == "funnel":
            terms += [str("l" in how), str("wrap" in how)]
        e.put(target, f"A.{function}({', '.join(terms)})", one.type)

    return emit


@known("lop3")
def _lop3(e: Emitter, one: Instruction) -> None:
    target, *given, table = one.operands
    terms = ", ".join(e.take(x, "b32") for x in given)
    e.put(target, f"A.logic(*np.broadcast_arrays({terms}), {int(str(table), 0)})", "b32")


@known("selp")
def _selp(e: Emitter, one: Instruction) -> None:
    target, a, b, choice = one.operands
    flags(one)
    a, b, choice = e.take(a, one.type), e.take(b, one.type), e.take(choice, "pred")
    e.put(target, f"np.where({choice}, {a}, {b})", one.type)


_COMPARED = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_OPPOSITE = {"equ": "eq", "neu": "ne", "ltu": "ge", "leu": "gt", "gtu": "le", "geu": "lt"}


@known("setp")
def _setp(e: Emitter, one: Instruction) -> None:
    target, left, right, *more = one.operands
    kind, *rest = one.parts[1:-1]
    joined = [x for x in rest if x in ("and", "or", "xor")]
    a, b = e.take(left, one.type), e.take(right, one.type)
    if set(rest) - set(joined) or len(joined) != len(more):
        raise UnknownError(f"{rest}")
    apart = f"(({a} < {b}) | ({a} > {b}))"
    if one.type in FLOATS and kind in ("ne", "equ"):
        text = apart if kind == "ne" else f"~{apart}"
    elif one.type in FLOATS and kind in ("nan", "num"):
        text = f"({a} {'!=' if kind == 'nan' else '=='} {a})"
        text += f"{' | ' if kind == 'nan' else ' & '}({b} {'!=' if kind == 'nan' else '=='} {b})"
    elif one.type in FLOATS and kind == "neu":
        text = f"{a} != {b}"
    elif one.type in FLOATS and kind in _OPPOSITE:
        text = f"~({a} {_COMPARED[_OPPOSITE[kind]]} {b})"
    else:
        text = f"{a} {_COMPARED[kind]} {b}"
    if joined:
        sign = {"and": "&", "or": "|", "xor": "^"}[joined[0]]
        text = f"({text}) {sign} {e.take(more[0], 'pred')}"
    e.put(target, text, "pred")


for _name, _sign in (("and", "&"), ("or", "|"), ("xor", "^")):
    known(_name)(_bitwise(_sign))
known("bfi")(_bits("inserted", "", "", "u32", "u32"))
known("bfe")(_bits("extracted", "", "u32", "u32"))
known("shf")(_bits("funnel", "b32", "b32", "u32"))
known("prmt")(_bits("permuted", "b32", "b32", "b32"))
