"""Fusion: a chain of elementwise calls as one, whose formula is made of theirs."""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import cache
from typing import Any

from gradnet import binding
from gradnet.backends import Formula
from gradnet.program.calls import Call, Storage, Value
from gradnet.program.plan import Uses, relocated

# Operands of a fused call at most: each takes a register or two of its loop.
_MOST = 8


# The text of a formula, in characters, that is rather computed for every element of a result, or
# in each of two calls, than by a call of its own.
_SHORT = 1000


def fused(
    calls: list[Call], compiles: Callable[[Formula], bool], *, again: bool = False
) -> list[Call]:
    """The calls, with every elementwise result that one later call alone uses put into that.

    `again` tells whether short formulas may be computed more than once: a number for each element
    that it is used for, and what two calls use in each, where that saves a call.
    """
    if again:
        calls = _twice(calls, compiles)
    uses = Uses(calls)
    makers: dict[Storage, int] = {}
    found: dict[int, Call] = {}
    for i, call in enumerate(calls):
        if call.method == "map" and compiles(call.args[0]):
            call = _joined(call, i, found, makers, uses, compiles, again)
        found[i] = call
        for value in call.writes:
            makers[value.storage] = i
    return [found[i] for i in sorted(found)]


def _joined(
    call: Call,
    i: int,
    found: dict[int, Call],
    makers: dict[Storage, int],
    uses: Uses,
    compiles: Callable[[Formula], bool],
    again: bool,
) -> Call:
    """A call that computes its operands too, where it can; those calls are dropped."""
    while True:
        for place, x in enumerate(call.args[1:]):
            maker = makers.get(x.storage, -1) if isinstance(x, Value) else -1
            if maker in found and _fits(call, i, x, found[maker], maker, uses, compiles, again):
                call = _merged(call, place, found.pop(maker))
                break
        else:
            return call


def _fits(
    call: Call,
    i: int,
    x: Value,
    inner: Call,
    maker: int,
    uses: Uses,
    compiles: Callable[[Formula], bool],
    again: bool,
) -> bool:
    """Whether an operand's own call can be made part of the call."""
    if inner.method != "map" or not compiles(inner.args[0]):
        return False
    out = inner.outs[0]
    readers = set(uses.reads.get(x.storage, ()))
    if (
        out is None
        or x != out
        or x.storage.kind != "temporary"
        or not out.whole
        or readers != {i}
        or len(uses.writes[x.storage]) != 1
        or call.outs[0] is None
        or not (call.outs[0].shape == out.shape or (again and out.size == 1 and _short(inner)))
        # Another view of the result needs it in memory.
        or any(v.storage is x.storage and v != x for v in call.reads)
    ):
        return False
    operands = {v for v in (*call.args[1:], *inner.args[1:]) if isinstance(v, Value)} - {x}
    floats = {v.dtype for v in operands if v.dtype.kind != "b"}
    if len(operands) > _MOST or len(floats) != 1 or (x.dtype.kind != "b" and x.dtype not in floats):
        return False
    # Everything the inner call reads must still be there, and of the shape of the result.
    return not any(
        uses.written_within(v.storage, maker, i - 1) for v in inner.reads
    ) and _broadcasts(call, inner)


def _short(call: Call) -> bool:
    return len(binding.source(call.args[0]).text) < _SHORT


def _twice(calls: list[Call], compiles: Callable[[Formula], bool]) -> list[Call]:
    """The calls, those of short formulas for two others made once for each, if both take them."""
    i = 0
    while i < len(calls):
        tried = _parted(calls, i, compiles)
        if tried is not None and len(fused(tried, compiles)) < len(fused(calls, compiles)):
            calls = tried
        i += 1
    return calls


def _parted(calls: list[Call], i: int, compiles: Callable[[Formula], bool]) -> list[Call] | None:
    """The calls with one that two others use made again before the second; None if it is not so."""
    call = calls[i]
    if call.method != "map" or not compiles(call.args[0]) or not _short(call):
        return None
    out, uses = call.outs[0], Uses(calls)
    readers = uses.reads.get(out.storage, []) if out is not None else []
    if out is None or out.storage.kind != "temporary" or not out.whole or len(readers) != 2:
        return None
    _, last = readers
    # Of two arrays, as a difference is: other calls' kernels take a map of one with them.
    plain = not binding.source(call.args[0]).primitives and readers[0] != last
    plain = plain and len(call.reads) == 2 and out.dtype.kind != "b"
    lasts = not any(uses.written_within(x.storage, i, last) for x in call.reads)
    if not (plain and lasts) or any(calls[j].method != "map" for j in readers):
        return None
    storage = Storage("temporary", out.storage.nbytes, None)
    places = {out.storage: Value(storage, 0, out.shape, out.strides, out.dtype)}
    options = {name: x for name, x in call.kwargs.items() if name != "out"}
    copy = Call("map", call.args, options, call.outs, call.writes)
    later = [relocated(copy, places), relocated(calls[last], places)]
    return [*calls[:last], *later, *calls[last + 1 :]]


def _broadcasts(call: Call, inner: Call) -> bool:
    """Whether some array operand of the two has the shape of the result."""
    (out,) = call.outs
    assert out is not None
    taken = [v for v in (*call.reads, *inner.reads) if v != inner.outs[0]]
    return any(v.shape == out.shape for v in taken)


def _merged(call: Call, place: int, inner: Call) -> Call:
    """The call with the operand at a place, and wherever it is used, computed within it."""
    formula, *operands = call.args
    value = operands[place]
    names: list[str] = []
    values: list[Any] = []

    def name(x: Any) -> str:
        """The argument for an operand; equal arrays share one."""
        if isinstance(x, Value) and x in values:
            return names[values.index(x)]
        values.append(x)
        names.append(f"x{len(names)}")
        return names[-1]

    first = [name(x) for x in inner.args[1:]]
    second = ["inner" if x is value or x == value else name(x) for x in operands]
    made = binding.combine(
        "chain",
        names,
        (("inner", inner.args[0], first), ("outer", formula, second)),
        ("outer",),
    )
    return Call("map", (made, *values), call.kwargs, call.outs, call.writes)


def without_bias(calls: list[Call], compiles: Callable[[Formula], bool]) -> list[Call]:
    """The calls with gradients of activations that have no bias as the maps that they are."""
    found = []
    for call in calls:
        if call.method == "bias_activation_backward" and not call.kwargs["with_bias"]:
            g, saved, derivative, parameters = call.args
            formula = binding.vjp(derivative)
            if compiles(formula) and call.outs[0] is not None:
                args, options = (formula, g, saved, *parameters), {"dtype": g.dtype}
                call = Call("map", args, options, call.outs[:1], call.writes)
        found.append(call)
    return found


def sparing(calls: list[Call], compiles: Callable[[Formula], bool]) -> list[Call]:
    """The calls with numbers in place of arrays that formulas do not look at."""
    return [_spared(x) if x.method == "map" and compiles(x.args[0]) else x for x in calls]


def _spared(call: Call) -> Call:
    formula, *operands = call.args
    looked = looks_at(formula)
    left = [
        0.0 if isinstance(x, Value) and not used else x
        for x, used in zip(operands, looked, strict=True)
    ]
    (out,) = call.outs
    taken = [x for x in left if isinstance(x, Value)]
    dtypes = {x.dtype for x in operands if isinstance(x, Value) and x.dtype.kind != "b"}
    same = {x.dtype for x in taken if x.dtype.kind != "b"} == dtypes
    if len(taken) == len([x for x in operands if isinstance(x, Value)]) or out is None:
        return call
    if not same or not any(x.shape == out.shape for x in taken):
        return call
    return Call("map", (formula, *left), call.kwargs, call.outs, call.writes)


@cache
def looks_at(formula: Formula) -> tuple[bool, ...]:
    """For each argument of a formula whether its value depends on it, by its text."""
    source = binding.source(formula)
    known: dict[str, tuple[bool, ...]] = {}
    for definition in ast.parse(source.text).body:
        assert isinstance(definition, ast.FunctionDef)
        idle = {
            id(given)
            for node in ast.walk(definition)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            for given, used in zip(node.args, known.get(node.func.id, ()), strict=False)
            if not used and isinstance(given, ast.Name)
        }
        names = {
            node.id
            for node in ast.walk(definition)
            if isinstance(node, ast.Name)
            and isinstance(node.ctx, ast.Load)
            and id(node) not in idle
        }
        known[definition.name] = tuple(x.arg in names for x in definition.args.args)
    return known[source.name]
