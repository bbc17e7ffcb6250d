"""Replay: a program's calls made again one by one, on memory planned once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from gradnet import heap
from gradnet.backends import Array, Backend
from gradnet.dtypes import uint8
from gradnet.program.calls import Live, Program, Storage, Value, mapped
from gradnet.program.plan import Layout

# Bytes of an arena from which on it is worth a millisecond to make room for it.
_LARGE = 1 << 15


class Memory:
    """The arrays of a program: of one arena, of memory that stays, and of each run's own."""

    def __init__(self, backend: Backend, program: Program) -> None:
        self.backend = backend
        layout = Layout(program.calls)
        self.offsets = layout.offsets
        if layout.nbytes >= _LARGE:
            # A recorded run has come before, whose temporaries were many times as large.
            heap.trim()
        self.arena = backend.empty((max(1, layout.nbytes),), uint8)
        self._arrays: dict[Value, Array] = {}

    def array(self, value: Value) -> Array:
        """The array at a place in the arena, or in memory that stays."""
        found = self._arrays.get(value)
        if found is None:
            base, offset = value.storage.array, value.offset
            if value.storage.kind == "temporary":
                base, offset = self.arena, offset + self.offsets[value.storage]
            found = self.backend.window(base, offset, value.shape, value.strides, value.dtype)
            self._arrays[value] = found
        return found


def changing(value: Any) -> bool:
    """Whether an argument is another array, or another number, at every run."""
    return isinstance(value, Live) or (
        isinstance(value, Value) and value.storage.kind in ("input", "output")
    )


class Interpreted:
    """A replay that calls the backend's methods, with `out` in planned memory."""

    failed = False
    direct = None

    def __init__(self, backend: Backend, program: Program) -> None:
        memory = Memory(backend, program)
        self._steps = [step(backend, memory, call) for call in program.calls]
        self._places = program.places()

    def __call__(self, given: list[Array]) -> None:
        arrays = dict(zip(self._places, given, strict=True))
        for make in self._steps:
            make(arrays)

    def series(self, places: list[tuple[int, int]], count: int, advance: Callable[[], None]) -> int:
        """Nothing is gained: each run is on its own."""
        return 0

    def verify(self, given: list[Array]) -> None:
        """Nothing to repeat: every check was made in its place."""


Step = Callable[[dict[Storage, Array]], None]


def step(backend: Backend, memory: Memory, call: Any) -> Step:
    """One call, ready to be made."""

    def resolved(tree: Any, arrays: dict[Storage, Array]) -> Any:
        def found(x: Any) -> Any:
            if isinstance(x, Live):
                return x.action.result[x.index]
            if isinstance(x, Value):
                if x.storage.kind in ("input", "output"):
                    base = arrays[x.storage]
                    return backend.window(base, x.offset, x.shape, x.strides, x.dtype)
                return memory.array(x)
            return x

        return mapped(tree, found)

    flat: list[Any] = []
    mapped((call.args, call.kwargs, call.outs), flat.append)
    fixed = not any(changing(x) for x in flat)
    args, kwargs, outs = call.args, dict(call.kwargs), call.outs
    if call.method == "check":
        values, *operands = args

        def check(arrays: dict[Storage, Array]) -> None:
            values(*resolved(tuple(operands), arrays))

        return check
    method = getattr(backend, call.method)
    placed = len(outs) == 1 and "out" in _parameters(type(backend), call.method)
    if placed:
        kwargs["out"] = outs[0]
    if fixed:
        args, kwargs, outs = resolved((args, kwargs, outs), {})

    def make(arrays: dict[Storage, Array]) -> None:
        a, k, o = (args, kwargs, outs) if fixed else resolved((args, kwargs, outs), arrays)
        results = method(*a, **k)
        if placed or results is None:
            return
        for result, out in zip(results if len(o) > 1 else (results,), o, strict=True):
            if out is not None and result is not out:
                backend.cast(result, out.dtype, out=out)

    return make


@cache
def _parameters(backend: type, method: str) -> Sequence[str]:
    return tuple(inspect.signature(getattr(backend, method)).parameters)
