"""Copies of a captured step that one launch makes: rows taken by index, and casts.

A batch of features and of classes is gathered by the same indices, and in a precision of 16 bits
both the features and the weights are rounded. What a cast alone reads is rounded where its rows are
taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from gradnet.backends import Array
from gradnet.dtypes import int64, is_half
from gradnet.program.calls import Call, Program, Value
from gradnet.program.plan import Uses

from .cuda_absorbed import Join, early, joined, sole
from .cuda_arrays import fill_of, moved_as
from .cuda_elementwise import width_of
from .cuda_epilogues import overlap
from .cuda_layout import code_of
from .cuda_stacks import FLOAT32, cast
from .cuda_templates import moves
from .cuda_templates.elementwise import FEW
from .cuda_templates.program import blocks_for

if TYPE_CHECKING:
    from .cuda_backend import CudaBackend

# Copies that one launch makes at most.
_MOST = 4
_moves = cache(moves.moves)


class Move(NamedTuple):
    """One of the copies: of an array, or of the rows of it at an array of indices."""

    x: Any
    index: Any = None


_Moves = dict[Call, Move]


def gathered(program: Program, capturable: Callable[[Call], bool]) -> Program:
    """The program with copies in one call "moves" where a graph can make them at once."""
    found = {call: move for call in program.calls if (move := _move(call)) and capturable(call)}
    program = joined(program, partial(_rounded, found))
    return joined(program, partial(_one, found))


def _move(call: Call) -> Move | None:
    """A call as one of several copies; None of other calls."""
    out = call.outs[0] if len(call.outs) == 1 else None
    if out is None or not out.contiguous or not out.size:
        return None
    x = call.args[0]
    if cast(call):
        return Move(x) if x.contiguous and x.dtype != out.dtype else None
    if call.method != "take" or len(call.args[1]) != 1:
        return None
    (index,) = call.args[1]
    fits = isinstance(index, Value) and index.dtype == int64 and index.contiguous and x.contiguous
    return Move(x, index) if fits and x.dtype == out.dtype else None


def _rounded(found: _Moves, calls: list[Call], uses: Uses) -> Iterator[Join]:
    """Rows that are taken and then only rounded."""
    for i, call in enumerate(calls):
        move, x = found.get(call), call.outs[0] if call.outs else None
        if call.method != "take" or move is None or x is None or not sole(x, uses, 1):
            continue
        (j,) = uses.reads[x.storage]
        if found.get(calls[j]) != Move(x) or x.dtype != FLOAT32:
            continue
        (out,) = calls[j].outs
        if out is not None and is_half(out.dtype) and early(calls, i, j, out):
            made = Call("moves", (move,), {}, (out,), (out,))
            found[made] = move
            yield i, made, (j,)


def _one(found: _Moves, calls: list[Call], uses: Uses) -> Iterator[Join]:
    """Copies that can be made where the first of them is."""
    for i, call in enumerate(calls):
        first = found.get(call)
        if first is None:
            continue
        group, gone = [first], []
        outs: list[Value] = [x for x in call.outs if x is not None]
        for j in range(i + 1, len(calls)):
            move = found.get(calls[j]) if len(group) < _MOST else None
            if move is None or not _ready(calls, i, j, move):
                continue
            (out,) = calls[j].outs
            assert out is not None
            group.append(move)
            gone.append(j)
            outs.append(out)
        if gone:
            yield i, Call("moves", tuple(group), {}, tuple(outs), tuple(outs)), tuple(gone)


def _ready(calls: list[Call], i: int, j: int, move: Move) -> bool:
    """Whether a copy of the call `j` can be made where the call `i` is."""
    (out,) = calls[j].outs
    assert out is not None
    given = [x for x in move if isinstance(x, Value)]
    written = any(overlap(x, w) for call in calls[i:j] for w in call.writes for x in given)
    return not written and early(calls, i, j, out)


def make(backend: CudaBackend, group: tuple[Move, ...], outs: tuple[Array, ...]) -> None:
    """The copies, of contiguous arrays into others."""
    parts, arguments, most = [], [], 1
    for (x, index), y in zip(group, outs, strict=True):
        if index is None:
            width = min(width_of(x, y), FEW)
            parts.append(moves.Part(code_of(x.dtype), code_of(y.dtype), width))
            arguments += [x, y, y.size]
            most = max(most, -(-y.size // width))
            continue
        own: list[Any] = [index, x.shape[0], prod(x.shape[1:])]
        code, target, size, wide = code_of(x.dtype), code_of(y.dtype), y.size, 1
        if x.dtype == y.dtype:
            code, wide = moved_as(x.dtype)
            target, size = code, y.size * wide
            own = [*own[:2], own[2] * wide, fill_of(x.dtype)]
        parts.append(moves.Part(code, target, 1, True))
        arguments += [x, y, size, *own]
        most = max(most, size)
    if any(part.rows for part in parts):
        arguments.append(backend._device.faults())
    backend._launch(_moves(tuple(parts)), blocks_for(most), *arguments)
