"""Casts of arrays that lie beside one another as one call.

In a precision of 16 bits every weight is rounded at each step. An optimizer keeps them side by side
in one buffer, so that one launch can round all of them, and what little lies between.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator
from operator import itemgetter

from gradnet.dtypes import DType
from gradnet.program.calls import Call, Program, Storage, Value
from gradnet.program.plan import Uses, extent, relocated

from .cuda_stacks import FLOAT32, cast

# Bytes between two arrays that are rounded for nothing rather than by a launch the fewer.
_GAP = 1 << 18
_Key = tuple[Storage, DType]


def together(program: Program) -> Program:
    """The program with the casts of neighbours in place of the first of them."""
    calls = program.calls
    instead: dict[int, Call | None] = {}
    places: dict[Storage, Value] = {}
    for group in _groups(calls):
        if len(group) > 1:
            _join(calls, group, instead, places)
    if not instead:
        return program
    left = (instead.get(i, call) for i, call in enumerate(calls))
    return program.with_calls([relocated(call, places) for call in left if call is not None])


def _groups(calls: list[Call]) -> Iterator[list[int]]:
    """Numbers of casts that can be one, in the order of what they read."""
    uses = Uses(calls)
    found: dict[_Key, list[int]] = {}
    for i, call in enumerate(calls):
        key = _key(call, uses)
        if key is not None:
            found.setdefault(key, []).append(i)
    for (storage, _), casts in found.items():
        # What is rounded must be the same from the first to the last.
        writes = sorted(uses.writes.get(storage, ()))
        runs: dict[int, list[int]] = {}
        for i in casts:
            runs.setdefault(bisect(writes, i), []).append(i)
        for run in runs.values():
            yield from _near(calls, sorted(run, key=lambda i: calls[i].args[0].offset))


def _key(call: Call, uses: Uses) -> _Key | None:
    """What casts have in common that can be one; None of other calls."""
    if not cast(call) or call.args[0].dtype != FLOAT32:
        return None
    source, out = call.args[0], call.outs[0]
    assert out is not None
    alone = out.storage.kind == "temporary" and len(uses.writes[out.storage]) == 1
    fits = source.contiguous and source.size and out.whole and out.dtype != FLOAT32
    return (source.storage, out.dtype) if alone and fits else None


def _near(calls: list[Call], casts: list[int]) -> Iterator[list[int]]:
    """Casts parted where too much lies between two of them."""
    group: list[int] = []
    end = 0
    for i in casts:
        low, high = extent(calls[i].args[0])
        if group and low > end + _GAP:
            yield group
            group = []
        group.append(i)
        end = max(end, high)
    yield group


def _join(
    calls: list[Call],
    casts: list[int],
    instead: dict[int, Call | None],
    places: dict[Storage, Value],
) -> None:
    """One cast for several, and where in its result each finds its own."""
    first = calls[min(casts)]
    dtype = first.args[1]
    storage = first.args[0].storage
    extents = [extent(calls[i].args[0]) for i in casts]
    low, high = min(map(itemgetter(0), extents)), max(map(itemgetter(1), extents))
    count = (high - low) // FLOAT32.itemsize
    source = Value(storage, low, (count,), (FLOAT32.itemsize,), FLOAT32)
    made = Storage("temporary", count * dtype.itemsize, None)
    whole = Value(made, 0, (count,), (dtype.itemsize,), dtype)
    for i in casts:
        (out,) = calls[i].outs
        assert out is not None
        start = (calls[i].args[0].offset - low) // FLOAT32.itemsize * dtype.itemsize
        places[out.storage] = Value(made, start, out.shape, out.strides, dtype)
        instead[i] = None
    instead[min(casts)] = Call("cast", (source, dtype), {}, (whole,), (whole,))
