"""Plan: a shorter program that computes the same, and a place in one arena for what it makes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gradnet import binding, formulas
from gradnet.dtypes import DType
from gradnet.program.calls import Call, Live, Program, Storage, Value, mapped

_ALIGNMENT = 64
# Methods that write a result of theirs wherever they are told to.
_PLACEABLE = {"map", "reduce", "matmul", "take", "cast", "softmax", "bias_activation_backward"}
_PLACEABLE |= {"normalize", "normalize_backward"}
# Products of two operands; what gives the first operand of these back with 1 as the second.
_PRODUCTS = {formulas.multiply}
_PRODUCTS |= {binding.vjp(getattr(formulas, f"multiply_{x}")) for x in ("da", "db")}
_IDENTITIES = {(formula, 1.0) for formula in (*_PRODUCTS, formulas.divide)}


def simplified(program: Program) -> Program:
    """The program without what nobody needs: dead calls, copies, products with 1."""
    calls = program.calls
    for improve in (_without_constants, _without_copies, _without_moves):
        calls = _alive(improve(calls))
    return program.with_calls(calls)


class Uses:
    """Where each storage is read and written, by number of the call."""

    def __init__(self, calls: Iterable[Call]) -> None:
        self.reads: dict[Storage, list[int]] = {}
        self.writes: dict[Storage, list[int]] = {}
        for i, call in enumerate(calls):
            for value in call.reads:
                self.reads.setdefault(value.storage, []).append(i)
            for value in call.writes:
                self.writes.setdefault(value.storage, []).append(i)

    def written_within(self, storage: Storage, after: int, until: int) -> bool:
        """Whether a storage is written by a call after the first number, up to the second."""
        return any(after < i <= until for i in self.writes.get(storage, ()))

    def last(self, storage: Storage) -> int:
        """The last call that reads or writes a storage."""
        return max((*self.reads.get(storage, ()), *self.writes.get(storage, ())), default=-1)


def _alive(calls: list[Call]) -> list[Call]:
    """The calls whose results are used, or lie in memory that stays."""
    needed: set[Storage] = set()
    kept = []
    for call in reversed(calls):
        lasting = any(v.storage.kind != "temporary" or v.storage in needed for v in call.writes)
        if lasting or call.method in ("check", "flag"):
            kept.append(call)
            needed.update(value.storage for value in call.reads)
    return kept[::-1]


def _without_constants(calls: list[Call]) -> list[Call]:
    """Numbers in place of arrays that hold one value."""
    uses = Uses(calls)
    constants: dict[Storage, Any] = {}
    found = []
    for call in calls:
        if call.method == "full" and not call.kwargs.get("out"):
            (out,) = call.outs
            temporary = out is not None and out.storage.kind == "temporary"
            if out is not None and temporary and len(uses.writes[out.storage]) == 1:
                constants[out.storage] = _held(call.args[1], out.dtype)
        elif call.method == "map":
            call = _with_numbers(call, constants)
        found.append(call)
    return found


def _held(number: Any, dtype: DType) -> Any:
    """A number as an array of that dtype holds it: of bool or whole numbers, another one."""
    exact = dtype.kind in "biu" and not isinstance(number, Live)
    return dtype.type(number).item() if exact else number


def _with_numbers(call: Call, constants: dict[Storage, Any]) -> Call:
    formula, *operands = call.args
    changed = [
        constants[x.storage] if isinstance(x, Value) and x.storage in constants else x
        for x in operands
    ]
    left = [x for x in changed if isinstance(x, Value)]
    (out,) = call.outs
    assert out is not None
    dtypes = {x.dtype for x in operands if isinstance(x, Value)}
    if len(dtypes) > 1 or not any(x.shape == out.shape for x in left):
        return call
    return Call("map", (formula, *changed), call.kwargs, call.outs, call.writes)


def _copied(call: Call) -> tuple[Value, Value] | None:
    """(result, source) of a call that gives the same values anew."""
    source: Any = None
    if call.method == "cast":
        source = call.args[0]
    elif call.method == "map" and len(call.args) == 3:
        formula, a, b = call.args
        if isinstance(b, Value) and not isinstance(a, Value) and formula in _PRODUCTS:
            a, b = b, a
        if isinstance(a, Value) and not isinstance(b, Value) and (formula, b) in _IDENTITIES:
            source = a
    out = call.outs[0] if call.outs else None
    if source is None or out is None or source.dtype != out.dtype or source.shape != out.shape:
        return None
    return out, source


def _without_copies(calls: list[Call]) -> list[Call]:
    """The original in place of a copy, where neither is changed while the copy is in use."""
    uses = Uses(calls)
    places: dict[Storage, Value] = {}
    found = []
    for i, call in enumerate(calls):
        call = relocated(call, places)
        copy = _copied(call)
        if copy is not None:
            out, source = copy
            if (
                out.storage.kind == "temporary"
                and out.whole
                and source.contiguous
                and len(uses.writes[out.storage]) == 1
                and source.storage.kind != "output"
                and not uses.written_within(source.storage, i, uses.last(out.storage))
            ):
                places[out.storage] = source
                # The original lives as long as its copy would have.
                uses.reads.setdefault(source.storage, []).extend(uses.reads.get(out.storage, ()))
                continue
        found.append(call)
    return found


def relocated(call: Call, places: dict[Storage, Value]) -> Call:
    """The call with some storages replaced by places in others."""

    def move(x: Any) -> Any:
        if isinstance(x, Value) and x.storage in places:
            place = places[x.storage]
            return Value(place.storage, place.offset + x.offset, x.shape, x.strides, x.dtype)
        return x

    touched = any(value.storage in places for value in (*call.reads, *call.writes))
    if not touched:
        return call
    args, kwargs, outs, writes = (
        mapped(part, move) for part in (call.args, call.kwargs, call.outs, call.writes)
    )
    return Call(call.method, args, kwargs, outs, writes)


def _without_moves(calls: list[Call]) -> list[Call]:
    """Results written at once to where they are copied to later."""
    uses = Uses(calls)
    makers: dict[Storage, int] = {}
    places: dict[Storage, Value] = {}
    dropped: set[int] = set()
    for i, call in enumerate(calls):
        for value in call.writes:
            makers[value.storage] = i
        if call.method != "cast" or not isinstance(call.kwargs.get("out"), Value):
            continue
        source, target = call.args[0], call.kwargs["out"]
        if not isinstance(source, Value) or source.storage.kind != "temporary":
            continue
        maker = makers.get(source.storage, -1)
        if (
            maker >= 0
            and calls[maker].method in _PLACEABLE
            and source.whole
            and target.contiguous
            and source.dtype == target.dtype
            and source.storage not in places
            and len(uses.writes[source.storage]) == 1
            and uses.last(source.storage) == i
            and not _touched(calls[maker:i], target)
        ):
            places[source.storage] = target
            dropped.add(i)
    return [relocated(call, places) for i, call in enumerate(calls) if i not in dropped]


def _touched(calls: list[Call], target: Value) -> bool:
    """Whether any of the calls reads or writes the memory of a contiguous value."""
    begin, end = target.offset, target.offset + target.size * target.dtype.itemsize
    for call in calls:
        for value in (*call.reads, *call.writes):
            if value.storage is target.storage:
                low, high = extent(value)
                if low < end and begin < high:
                    return True
    return False


def extent(value: Value) -> tuple[int, int]:
    """The bytes of its storage, from and to, that a value lies within."""
    low = high = value.offset
    if not value.size:
        return low, high
    for n, stride in zip(value.shape, value.strides, strict=True):
        if stride < 0:
            low += (n - 1) * stride
        else:
            high += (n - 1) * stride
    return low, high + value.dtype.itemsize


class Layout:
    """Places for temporary storages in one arena of `nbytes` bytes.

    Two storages share memory where one is used only after the other. The result of an elementwise
    call may take the place of an operand that is not used again, and the gradient of what goes into
    an activation that of what came out.
    """

    def __init__(self, calls: list[Call]) -> None:
        self.offsets: dict[Storage, int] = {}
        self.nbytes = 0
        self._free: list[tuple[int, int]] = []
        uses = Uses(calls)
        dying: dict[int, list[Storage]] = {}
        for storage in {*uses.reads, *uses.writes}:
            if storage.kind == "temporary":
                dying.setdefault(uses.last(storage), []).append(storage)
        for i, call in enumerate(calls):
            ends = dying.get(i, [])
            for value in call.writes:
                storage = value.storage
                if storage.kind != "temporary" or storage in self.offsets:
                    continue
                heir = next((s for s in ends if self._passes_on(call, s, value)), None)
                if heir is None:
                    self.offsets[storage] = self._take(storage.nbytes)
                else:
                    self.offsets[storage] = self.offsets[heir]
                    ends.remove(heir)
            for storage in ends:
                if storage in self.offsets:
                    self._give(self.offsets[storage], storage.nbytes)

    def _passes_on(self, call: Call, dying: Storage, out: Value) -> bool:
        """Whether a result may take the memory of an operand."""
        operands = call.reads if call.method == "map" else call.reads[:1]
        return (
            call.method in ("map", "bias_activation_backward")
            and any(v.storage is dying for v in operands)
            and dying is not out.storage
            and dying.nbytes == out.storage.nbytes
            and out.whole
            and dying in self.offsets
            and all(
                v.whole and v.shape == out.shape and v.dtype == out.dtype
                for v in call.reads
                if v.storage is dying
            )
        )

    def _take(self, nbytes: int) -> int:
        size = _aligned(nbytes)
        fits = [block for block in self._free if block[1] >= size]
        if fits:
            block = min(fits, key=lambda block: block[1])
            self._free.remove(block)
            if block[1] > size:
                self._free.append((block[0] + size, block[1] - size))
            return block[0]
        # What is free at the end grows.
        for block in self._free:
            if block[0] + block[1] == self.nbytes:
                self._free.remove(block)
                self.nbytes = block[0] + size
                return block[0]
        start = self.nbytes
        self.nbytes += size
        return start

    def _give(self, start: int, nbytes: int) -> None:
        end = start + _aligned(nbytes)
        joined = []
        for block in self._free:
            if block[0] + block[1] == start:
                start = block[0]
            elif block[0] == end:
                end = block[0] + block[1]
            else:
                joined.append(block)
        self._free = [*joined, (start, end - start)]


def _aligned(nbytes: int) -> int:
    return max(_ALIGNMENT, -(-nbytes // _ALIGNMENT) * _ALIGNMENT)
