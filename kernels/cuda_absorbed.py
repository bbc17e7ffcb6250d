"""Calls of a captured step that the kernel before or after them makes on its way.

scaled_losses  The gradient of cross-entropy is multiplied by a number, that of a loss scale.
summed_losses  The losses are added up, and the columns of their gradient: a last layer's bias.

Results are those of the calls one by one, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from gradnet import formulas
from gradnet.dtypes import is_half
from gradnet.program.calls import Call, Program, Value
from gradnet.program.plan import Uses

from .cuda_epilogues import overlap
from .cuda_layout import BITS, code_of
from .cuda_rows import sums_losses


def scaled_losses(program: Program) -> Program:
    """The program with gradients of cross-entropy multiplied by the call that makes them."""
    return joined(program, _multiplied)


def summed_losses(program: Program) -> Program:
    """The program with sums of losses, and of their gradient, made by the call that makes those."""
    return joined(joined(program, _total), _columns)


# A call and its place, and the calls that it makes too, which are left out.
Join = tuple[int, Call, tuple[int, ...]]


def joined(program: Program, join: Callable[[list[Call], Uses], Iterator[Join]]) -> Program:
    """The program with what `join` finds: each call takes part in one of these at most."""
    calls, uses = program.calls, Uses(program.calls)
    instead: dict[int, Call | None] = {}
    for place, call, gone in join(calls, uses):
        if instead.keys().isdisjoint((place, *gone)):
            instead |= {place: call, **dict.fromkeys(gone)}
    left = (instead.get(i, call) for i, call in enumerate(calls))
    return program.with_calls([call for call in left if call is not None])


def _losses(calls: list[Call], result: int) -> Iterator[tuple[int, Call, Value]]:
    """Calls of cross-entropy whose results are contiguous: number, call, and one of the two."""
    for i, call in enumerate(calls):
        if call.method != "softmax_cross_entropy" or not call.args[0].size:
            continue
        if all(out and out.contiguous for out in call.outs) and (x := call.outs[result]):
            yield i, call, x


def early(calls: list[Call], i: int, j: int, written: Value) -> bool:
    """Whether what the call `j` writes to a place may be there after the call `i` already."""
    return not any(overlap(written, x) for call in calls[i:j] for x in (*call.reads, *call.writes))


def sole(x: Value, uses: Uses, readers: int) -> bool:
    """Whether an array is all of a temporary piece of memory, written and read so often."""
    storage = x.storage
    written, read = uses.writes.get(storage, ()), uses.reads.get(storage, ())
    return storage.kind == "temporary" and x.whole and len(written) == 1 and len(read) == readers


def _multiplied(calls: list[Call], uses: Uses) -> Iterator[Join]:
    for i, call, dx in _losses(calls, 1):
        if not sole(dx, uses, 1) or "times" in call.kwargs or code_of(dx.dtype) not in BITS:
            continue
        (j,) = uses.reads[dx.storage]
        args, (out,) = calls[j].args, calls[j].outs or (None,)
        if calls[j].method != "map" or args[0] is not formulas.multiply or out is None:
            continue
        others = [x for x in args[1:] if x != dx]
        if (
            len(others) == 1
            and _one_number(number := others[0])
            and number.dtype == dx.dtype
            and number.storage.kind != "output"
            and not uses.written_within(number.storage, i - 1, j)
            and out.shape == dx.shape
            and out.contiguous
            and early(calls, i, j, out)
        ):
            times = Value(number.storage, number.offset, (), (), number.dtype)
            options, results = {**call.kwargs, "times": times}, call.outs
            if out.dtype == dx.dtype:
                results = (call.outs[0], out)
                writes = tuple(out if x == dx else x for x in call.writes)
            elif is_half(out.dtype) and "rounded" not in options:
                options["rounded"], writes = out, (*call.writes, out)
            else:
                continue
            yield i, Call(call.method, call.args, options, results, writes), (j,)


def _one_number(x: Any) -> bool:
    """Whether an operand is one element of memory, however often it is taken."""
    if not isinstance(x, Value) or not x.size:
        return False
    return all(n == 1 or not stride for n, stride in zip(x.shape, x.strides, strict=True))


def _total(calls: list[Call], uses: Uses) -> Iterator[Join]:
    for i, call, losses in _losses(calls, 0):
        for j in uses.reads.get(losses.storage, ()):
            yield from _sum(calls, i, j, call, losses, "total", 1)


def _columns(calls: list[Call], uses: Uses) -> Iterator[Join]:
    for i, call, dx in _losses(calls, 1):
        for j in uses.reads.get(dx.storage, ()):
            if dx.shape[1] > 1:
                yield from _sum(calls, i, j, call, dx, "columns", dx.shape[1])


def _sum(
    calls: list[Call], i: int, j: int, call: Call, x: Value, name: str, size: int
) -> Iterator[Join]:
    """The sum of a result along its first axis, where cross-entropy can make it."""
    summing = calls[j]
    if summing.method != "reduce" or len(summing.args) != 4 or j < i or name in call.kwargs:
        return
    kind, y, axes, _ = summing.args
    (out,) = summing.outs
    written = any(overlap(x, z) for other in calls[i + 1 : j] for z in other.writes)
    if (kind, y, axes) != ("sum", x, (0,)) or written or out is None or not out.contiguous:
        return
    fits = out.size == size and out.dtype == x.dtype and code_of(x.dtype) in BITS
    if fits and sums_losses(*call.args[0].shape) and early(calls, i, j, out):
        options, writes = {**call.kwargs, name: out}, (*call.writes, out)
        yield i, Call(call.method, call.args, options, call.outs, writes), (j,)
