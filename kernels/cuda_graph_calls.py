"""The calls of a program as a captured step makes them: every result in planned memory."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gradnet import binding
from gradnet.backends import Array
from gradnet.dtypes import uint8
from gradnet.program.calls import Call, Live, Program, Storage, Value, mapped
from gradnet.program.plan import extent
from gradnet.program.replay import Memory

from . import cuda_moves
from .cuda_checks import flags
from .cuda_computed import Made
from .cuda_elementwise import compiles
from .cuda_graph_numbers import Numbers, code_held
from .cuda_layout import BITS, code_of

if TYPE_CHECKING:
    from .cuda_backend import CudaBackend

# Calls that wait for the device, or whose libraries do. A check reads values; those of layers and
# losses are calls of `flag` on a GPU, which do not.
_WAITING = frozenset({"check", "linalg", "sort", "argsort", "searchsorted", "nonzero"})
_ALIGNMENT = 256
# Arrays of indices that a program has taken from the host: they are brought over at every run.
_HOST = np.ndarray


def capturable(call: Call) -> bool:
    """Whether a call can be part of a graph, as far as can be told before it is tried."""
    if call.method in _WAITING or any(isinstance(v.storage.array, _HOST) for v in call.reads):
        return False
    if call.method in ("take", "put"):
        index = call.args[1]
        arrays = [i for i in index if isinstance(i, Value)]
        if call.method == "put":
            # Places are sorted by a library that waits; a number would come from the host.
            return not arrays and isinstance(call.args[2], Value)
        return not arrays or (len(index) == 1 and arrays[0].dtype.kind in "iu")
    if code_held(call):
        return True
    flat: list[Any] = []
    mapped((call.args, call.kwargs), flat.append)
    return not any(isinstance(x, Live) for x in flat)


class Passage(NamedTuple):
    """Memory that each run brings: its number among those given, and the bytes that are used."""

    number: int
    storage: Storage
    low: int
    nbytes: int

    @property
    def stride(self) -> int:
        """How many bytes further the next run has its own."""
        return -(-self.nbytes // _ALIGNMENT) * _ALIGNMENT


def passages(program: Program) -> tuple[list[Passage], list[Passage]]:
    """The inputs, as far as they are read, and the outputs."""
    reach: dict[Storage, tuple[int, int]] = {}
    for call in program.calls:
        for value in (*call.reads, *call.writes):
            low, high = reach.get(value.storage, (value.offset, value.offset))
            first, last = extent(value)
            reach[value.storage] = min(low, first), max(high, last)
    ins: list[Passage] = []
    outs: list[Passage] = []
    for number, storage in enumerate(program.places()):
        low, high = reach.get(storage, (0, 0))
        if storage.kind == "output":
            low, high = 0, storage.nbytes
        found = outs if storage.kind == "output" else ins
        found.append(Passage(number, storage, low, high - low))
    return ins, outs


def changes(program: Program, given: Sequence[tuple[Passage, int]]) -> bool:
    """Whether a run writes to its inputs, which are at those addresses, by another name."""
    written = []
    for call in program.calls:
        for value in call.writes:
            if value.storage.kind == "external":
                start = value.storage.array.data.ptr
                written.append(tuple(start + end for end in extent(value)))
    return any(
        low < address + passage.low + passage.nbytes and address + passage.low < high
        for passage, address in given
        for low, high in written
    )


class Frame:
    """The memory of so many runs in a row: what each is given, what it gives, and its numbers.

    Inputs and outputs lie elsewhere at every run, and a graph's addresses are fixed. They are
    copied, by one launch before the graph and one after it: to exchange the addresses within the
    graph instead would take a call for each of its nodes, and the kernels of libraries do not tell
    which of their parameters is one.
    """

    def __init__(
        self,
        backend: CudaBackend,
        ins: Sequence[Passage],
        outs: Sequence[Passage],
        numbers: Numbers,
        count: int,
    ) -> None:
        self.count = count
        self.table = backend.empty((max(1, numbers.words * count),), np.dtype(np.uint64))
        self.places = {
            p.storage: (p, backend.empty((p.stride * count,), uint8)) for p in (*ins, *outs)
        }
        self.ins, self.outs = (
            [(p, np.uintp(self.places[p.storage][1].data.ptr)) for p in ways if p.nbytes]
            for ways in (ins, outs)
        )
        # Graphs, and between them calls that are in none.
        self.parts: list[Any] = []


class Calls:
    """Makes the calls of a program, on memory planned once.

    `checked` has checks of classes that calls of `softmax_cross_entropy` make on the way.
    """

    def __init__(
        self,
        backend: CudaBackend,
        program: Program,
        numbers: Numbers,
        checked: Mapping[Call, Call] | None = None,
    ) -> None:
        self.backend = backend
        self.numbers = numbers
        self.memory = Memory(backend, program)
        self.flags = {call: backend._own_flag(call) for call in program.calls if flags(call)}
        for losses, check in (checked or {}).items():
            self.flags[losses] = backend._own_flag(check, by_losses=True)

    def _array(self, value: Value, frame: Frame, run: int) -> Array:
        """The array at a place, in that run of a frame's."""
        storage = value.storage
        if isinstance(storage.array, _HOST):
            return np.ndarray(value.shape, value.dtype, storage.array, value.offset, value.strides)
        if storage.kind not in ("input", "output"):
            return self.memory.array(value)
        passage, base = frame.places[storage]
        place = run * passage.stride + value.offset - passage.low
        return self.backend.window(base, place, value.shape, value.strides, value.dtype)

    def _resolved(self, tree: Any, frame: Frame, run: int) -> Any:
        """Arguments with arrays and numbers in their places."""

        def found(x: Any) -> Any:
            if isinstance(x, Live):
                return x.action.result[x.index]
            return self._array(x, frame, run) if isinstance(x, Value) else x

        return mapped(tree, found)

    def make(self, call: Call, frame: Frame, run: int) -> None:
        """Make a call: now, or in a graph where the stream is being captured."""
        args, kwargs, outs = self._resolved((call.args, call.kwargs, call.outs), frame, run)
        backend = self.backend
        if call.method == "check":
            values, *operands = args
            values(*operands)
        elif flags(call):
            x, low, high, *_ = args
            backend._flagged(self.flags[call], x, low, high, kwargs["shown"])
        elif code_held(call):
            self._with_held(call, args, kwargs, outs, frame, run)
        elif call.method == "softmax_cross_entropy" and _contiguous(call):
            notes = flag.notes if (flag := self.flags.get(call)) else None
            backend._losses(*args, *outs, notes=notes, **kwargs)
        elif call.method == "moves":
            cuda_moves.make(backend, args, outs)
        elif call.method == "finite" and _contiguous(call):
            backend._are_finite(*args, *outs)
        elif call.method == "bias_activation_backward" and _slopes(call):
            backend._slope(*args, *outs)
        elif call.method == "reduce" and isinstance(call.args[1], Made):
            backend._reduced(args[1], args[2], outs[0])
        elif call.method == "normalize" and _contiguous(call):
            backend._normalized(*args, *outs, **kwargs)
        elif call.method == "normalize_backward" and _contiguous(call):
            backend._normalized_backward(*args, *outs)
        else:
            self._called(call, args, kwargs, outs)

    def _with_held(
        self, call: Call, args: Any, kwargs: Any, outs: Any, frame: Frame, run: int
    ) -> None:
        """A call whose numbers are in the table."""
        backend = self.backend
        held = self.numbers.array(backend, call, frame.table, run)
        if call.method == "update":
            backend._update(args[0], args[1], (held,), held=True)
        elif call.method == "scaled_update":
            formula, advance, arrays, finite, before, _ = args
            given = (formula, advance, arrays, finite, before, (held,), kwargs["out"])
            backend._scaled(*given, held=True)
        elif call.method == "drawn":
            backend._drawn((held,), args[4], args[5], outs)
        elif call.method == "random":
            kind, _, _, shape, dtype = args
            backend._random(kind, (held,), shape, dtype, outs[0], held=True)
        elif call.method == "full":
            backend.cast(backend.broadcast(held, args[0]), args[2], out=outs[0])
        else:
            places = iter(range(held.size))
            live = [
                backend.view(held, (next(places),)) if isinstance(x, Live) else arg
                for x, arg in zip(call.args, args, strict=True)
            ]
            self._called(call, live, kwargs, outs)

    def _called(self, call: Call, args: Any, kwargs: Any, outs: Any) -> None:
        method = getattr(self.backend, call.method)
        placed = len(outs) == 1 and _has_out(method.__func__)
        if placed:
            kwargs["out"] = outs[0]
        results = method(*args, **kwargs)
        if placed or not outs or results is None:
            return
        for result, out in zip(results if len(outs) > 1 else (results,), outs, strict=True):
            if out is not None and result is not out:
                self.backend.cast(result, out.dtype, out=out)


def _contiguous(call: Call) -> bool:
    return all(out is not None and out.contiguous for out in call.outs)


def _slopes(call: Call) -> bool:
    """Whether one kernel gives both results of `bias_activation_backward`."""
    g, _, derivative, _ = call.args
    dz = call.outs[0]
    both = call.kwargs["with_bias"] and _contiguous(call) and dz and dz.size
    return bool(both and code_of(g.dtype) in BITS and compiles(binding.vjp(derivative)))


@cache
def _has_out(method: Callable[..., Any]) -> bool:
    return "out" in inspect.signature(method).parameters
