"""Casts between floats of 16 and 32 bits, of which a captured step makes few calls.

together        In a precision of 16 bits every weight is rounded at each step. An optimizer keeps
                them side by side in one buffer, so that one launch can round all of them, and what
                little lies between.
within_maps     What an elementwise call gives it can round itself, and widen what it takes: both
                are computed in 32 bits, so the bits are the same.
rounded_losses  The kernel of cross-entropy writes its gradient in 16 bits too where it is rounded.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator
from operator import itemgetter

from gradnet.dtypes import DType, bool_, is_half
from gradnet.program.calls import Call, Program, Storage, Value
from gradnet.program.plan import Uses, extent, relocated

from .cuda_elementwise import compiles
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


def within_maps(program: Program) -> Program:
    """The program with casts made by the elementwise calls before or after them."""
    calls = _widened(_rounded(program.calls))
    return program.with_calls(calls)


def rounded_losses(program: Program) -> Program:
    """The program with gradients of cross-entropy rounded by the call that makes them."""
    calls = program.calls
    uses = Uses(calls)
    instead: dict[int, Call | None] = {}
    for i, x, out in _casts(calls, uses):
        if not is_half(out.dtype) or not out.contiguous or not x.size or not _own(x, uses):
            continue
        (made,) = uses.writes[x.storage]
        maker = calls[made]
        fits = maker.method == "softmax_cross_entropy" and made not in instead
        if fits and maker.outs[1] == x and all(y and y.contiguous for y in maker.outs):
            writes = (*maker.writes, out)
            options = {**maker.kwargs, "rounded": out}
            instead[made] = Call(maker.method, maker.args, options, maker.outs, writes)
            instead[i] = None
    return program.with_calls(_replaced(calls, instead))


def _rounded(calls: list[Call]) -> list[Call]:
    """Maps whose result is only rounded, with that as their result."""
    uses = Uses(calls)
    instead: dict[int, Call | None] = {}
    for i, x, out in _casts(calls, uses):
        if not is_half(out.dtype) or uses.reads[x.storage] != [i] or not _own(x, uses):
            continue
        (made,) = uses.writes[x.storage]
        maker = calls[made]
        if _mixes(maker) and maker.outs == (x,) and x.dtype == FLOAT32:
            options = {**maker.kwargs, "dtype": out.dtype}
            instead[made] = Call("map", maker.args, options, (out,), (out,))
            instead[i] = None
    return _replaced(calls, instead)


def _widened(calls: list[Call]) -> list[Call]:
    """Maps that alone take a widened array, with the array itself."""
    uses = Uses(calls)
    sources: dict[Storage, Value] = {}
    instead: dict[int, Call | None] = {}
    for i, x, out in _casts(calls, uses):
        readers = uses.reads.get(out.storage, [])
        alone = all(_mixes(calls[j]) for j in readers)
        same = all(v == out for j in readers for v in calls[j].reads if v.storage is out.storage)
        lasts = not uses.written_within(x.storage, i, max(readers, default=i))
        widens = is_half(x.dtype) and out.dtype == FLOAT32
        if readers and widens and alone and same and lasts:
            sources[out.storage] = x
            instead[i] = None
    for i, call in enumerate(calls):
        if instead.get(i, call) is not None and any(v.storage in sources for v in call.reads):
            args = tuple(
                sources.get(x.storage, x) if isinstance(x, Value) else x for x in call.args
            )
            instead[i] = Call("map", args, call.kwargs, call.outs, call.writes)
    return _replaced(calls, instead)


def _casts(calls: list[Call], uses: Uses) -> Iterator[tuple[int, Value, Value]]:
    """The casts of floats into memory of their own: number, operand, result."""
    for i, call in enumerate(calls):
        if cast(call) and (out := call.outs[0]) is not None and _own(out, uses):
            yield i, call.args[0], out


def _own(x: Value, uses: Uses) -> bool:
    """Whether an array is all of a temporary piece of memory that one call writes."""
    temporary = x.storage.kind == "temporary"
    return temporary and x.whole and len(uses.writes.get(x.storage, ())) == 1


def _mixes(call: Call) -> bool:
    """Whether a call is a kernel of its own that computes in 32 bits, into memory of its own."""
    if call.method != "map" or "out" in call.kwargs or not compiles(call.args[0]):
        return False
    return all(x.dtype in (FLOAT32, bool_) or is_half(x.dtype) for x in (*call.reads, *call.writes))


def _replaced(calls: list[Call], instead: dict[int, Call | None]) -> list[Call]:
    found = (instead.get(i, call) for i, call in enumerate(calls))
    return [call for call in found if call is not None]
