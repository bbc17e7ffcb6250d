"""Elementwise calls of a captured step that the kernel before or after them makes on its way.

    a map, and a sum of it                                     a norm of gradients, a squared error
    a map, and the gradient of a bias and activation, or norm  dropout's gradient, an activation's
    a norm, and a map of its result                            its activation
    uniform numbers, and one or two maps of them               a mask, and dropout

Each value is rounded where its array would have been stored, so that results are those of the calls
one by one, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gradnet import binding, dtypes
from gradnet.backends import Formula
from gradnet.program.calls import Call, Live, Program, Value
from gradnet.program.plan import Uses

from .cuda_absorbed import Join, early, joined, sole
from .cuda_computed import Following, Made
from .cuda_elementwise import compiles
from .cuda_epilogues import overlap
from .cuda_layout import BITS, code_of
from .cuda_templates.computed import agree
from .cuda_templates.norms import formulas_used
from .operands import fold

# Arrays that a kernel takes in the place of one at most.
_MOST = 6
# Methods that compute an operand, and its place among their arguments.
_COMPUTING = {"reduce": 1, "bias_activation_backward": 0, "normalize_backward": 0}


def in_one(program: Program) -> Program:
    """The program with maps made by the calls before or after them, where kernels can."""
    for join in (_activated, _dropped, _computed):
        program = joined(program, join)
    return program


def _map(call: Call) -> tuple[Formula, tuple[Any, ...], Value] | None:
    """Formula, operands and result of a map that a kernel can make; None of other calls."""
    if call.method != "map" or not compiles(call.args[0]):
        return None
    (out,) = call.outs
    formula, *operands = call.args
    if out is None or not out.contiguous or not out.size:
        return None
    if any(isinstance(x, Live) or not isinstance(x, Value | bool | int | float) for x in operands):
        return None
    return formula, tuple(operands), out


def _alike(operands: tuple[Any, ...], out: Value, bits: int) -> bool:
    """Whether all arrays among operands lie as the result does, and are such as kernels compute."""
    arrays = [x for x in operands if isinstance(x, Value)]
    return len(arrays) <= _MOST and all(
        x.shape == out.shape
        and x.contiguous
        and (x.dtype == dtypes.bool_ or BITS.get(code_of(x.dtype)) == bits)
        for x in arrays
    )


# A map of a norm's result


def _activated(calls: list[Call], uses: Uses) -> Iterator[Join]:
    for i, call in enumerate(calls):
        if call.method != "normalize" or not all(out and out.contiguous for out in call.outs):
            continue
        y = call.outs[0]
        assert y is not None
        for j in uses.reads.get(y.storage, ()):
            one = _map(calls[j])
            if one is None:
                continue
            formula, operands, z = one
            fits = operands[0] == y and not any(isinstance(x, Value) for x in operands[1:])
            if (
                fits
                and (z.shape, z.dtype) == (y.shape, y.dtype)
                and len(uses.writes[y.storage]) == 1
                and early(calls, i, j, z)
                and agree(binding.source(formula), *formulas_used())
            ):
                alone = sole(y, uses, 1)
                following = Following(formula, operands[1:], None if alone else z)
                writes = tuple(z if alone and x == y else x for x in call.writes)
                outs = (z if alone else y, *call.outs[1:])
                options = {**call.kwargs, "following": following}
                writes = writes if alone else (*writes, z)
                yield i, Call(call.method, call.args, options, outs, writes), (j,)
                break


# Maps of uniform numbers


def _dropped(calls: list[Call], uses: Uses) -> Iterator[Join]:
    for i, call in enumerate(calls):
        (drawn,) = call.outs if call.method == "random" else (None,)
        if drawn is None or call.args[0] != "uniform" or not sole(drawn, uses, 1):
            continue
        (j,) = uses.reads[drawn.storage]
        one, bits = _map(calls[j]), BITS.get(code_of(drawn.dtype), 0)
        if one is None:
            continue
        formula, operands, mask = one
        if (
            operands[0] != drawn
            or any(isinstance(x, Value) for x in operands[1:])
            or mask.shape != drawn.shape
            or not _alike((mask,), mask, bits)
        ):
            continue
        first = Made(formula, operands[1:], mask.dtype)
        then = _then(calls, uses, j, mask, bits, formula)
        if then is None:
            yield j, Call("drawn", (*call.args, (first,)), {}, (mask,), (mask,)), (i,)
        else:
            k, second, out = then
            both = (mask, out)
            yield k, Call("drawn", (*call.args, (first, second)), {}, both, both), (i, j)


def _then(
    calls: list[Call], uses: Uses, j: int, mask: Value, bits: int, before: Formula
) -> tuple[int, Made, Value] | None:
    """The first call that reads a mask, if it is a map: its number, formula and result."""
    readers = [k for k in uses.reads.get(mask.storage, ()) if k > j]
    if not readers or not sole(mask, uses, len(uses.reads[mask.storage])):
        return None
    k = min(readers)
    one = _map(calls[k])
    if one is None:
        return None
    formula, operands, out = one
    fits = out.shape == mask.shape and mask in operands and _alike((*operands, out), out, bits)
    if not fits or not agree(binding.source(before), binding.source(formula)):
        return None
    given = tuple(None if isinstance(x, Value) and x == mask else x for x in operands)
    return k, Made(formula, given, out.dtype), out


# A map whose result is an operand


def _computed(calls: list[Call], uses: Uses) -> Iterator[Join]:
    for j, call in enumerate(calls):
        place = _COMPUTING.get(call.method)
        if place is None or not all(out and out.contiguous and out.size for out in call.outs):
            continue
        x = call.args[place]
        if not isinstance(x, Value) or not sole(x, uses, 1) or not _able(call, x):
            continue
        (i,) = uses.writes[x.storage]
        one = _map(calls[i])
        if one is None or i > j:
            continue
        formula, operands, out = one
        arrays = [v for v in operands if isinstance(v, Value)]
        lasts = not any(uses.written_within(v.storage, i, j - 1) for v in arrays)
        apart = not any(overlap(v, w) for v in arrays for w in call.writes)
        bits = BITS.get(code_of(out.dtype), 0)
        if out == x and lasts and apart and arrays and _alike(operands, out, bits):
            used = binding.source(formula), *_sources(call)
            if agree(*used):
                args = list(call.args)
                args[place] = Made(formula, operands, out.dtype)
                yield j, Call(call.method, tuple(args), call.kwargs, call.outs, call.writes), (i,)


def _able(call: Call, x: Value) -> bool:
    """Whether the kernel of a call can compute that operand."""
    code = code_of(x.dtype)
    if code not in BITS:
        return False
    if call.method == "reduce":
        kind, _, axes, keepdims = call.args
        (out,) = call.outs
        assert out is not None
        return (
            kind == "sum"
            and code_of(out.dtype) in BITS
            and fold(x.shape, axes, keepdims)[0] is None
        )
    if call.method == "bias_activation_backward":
        g, saved, derivative, _ = call.args
        biased = bool(call.kwargs["with_bias"]) and compiles(binding.vjp(derivative))
        return biased and saved != g and saved.dtype == g.dtype
    return bool(call.args[1] != x and call.args[1].dtype == x.dtype)


def _sources(call: Call) -> tuple[binding.Source, ...]:
    """The formulas that a call's kernel has already."""
    if call.method == "bias_activation_backward":
        return (binding.source(binding.vjp(call.args[2])),)
    return formulas_used() if call.method == "normalize_backward" else ()
