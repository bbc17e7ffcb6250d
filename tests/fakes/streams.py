"""Streams, events and graphs of the device made of NumPy.

Work is done when it is given, whichever stream it is given to. While a stream is captured it is
noted instead, and done at each launch of the graph, on addresses: memory that was given back since
is poisoned, or another's, as it would be on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from fakes import lockstep, repeats

if TYPE_CHECKING:
    from fakes.cupy_over_numpy import Cupy

Host = np.ndarray[Any, Any]
Work = tuple[str, Callable[..., Any], tuple[Host, ...]]


class CaptureError(AssertionError):
    """Something that a captured step must not do."""


class Event:
    """A mark in the work of a stream, and when it was reached."""

    def __init__(self, disable_timing: bool = False) -> None:
        self.stream: Stream | None = None
        self.at = 0


def elapsed(start: Event, end: Event) -> float:
    """As if each piece of work that was done in between had taken a millisecond."""
    return float(end.at - start.at)


class Graph:
    """Work that was captured."""

    def __init__(self, cupy: Cupy, work: list[Work]) -> None:
        self.cupy = cupy
        self.work = work

    def launch(self, stream: Stream | None = None) -> None:
        self.cupy.note("graph")
        if self.cupy.recorded is not None:
            raise CaptureError("a graph is launched while a step is captured")
        for _, function, hosts in self.work:
            function(*hosts)
        self.cupy.clock += len(self.work)

    def debug_dot_str(self) -> str:
        nodes = "\n".join(f'"graph_1_node_{i}"[label="{w[0]}"];' for i, w in enumerate(self.work))
        return f"digraph dot {{\n{nodes}\n}}"


class Stream:
    """An order of work, of which a test may read what it waits for."""

    def __init__(self, cupy: Cupy, non_blocking: bool = False) -> None:
        self.cupy = cupy
        self.non_blocking = non_blocking
        self.device = cupy.current
        self.tape = repeats.Tape()
        self.numbers = repeats.Others(cupy.actions)

    @property
    def ptr(self) -> int:
        return id(self)

    def __enter__(self) -> Stream:
        if self.device != self.cupy.current:
            raise RuntimeError("the stream was created on another device than the current one")
        self.cupy.streams.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.cupy.streams.pop() is self

    def record(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.stream, event.at = self, self.cupy.clock
        self.cupy.note("record")
        return event

    def wait_event(self, event: Event) -> None:
        assert event.stream is not None, "an event that was never recorded"
        self.cupy.note("wait")
        self.cupy.ordered.append((event.stream, self))

    def synchronize(self) -> None:
        self.cupy.note("synchronize")

    def begin_capture(self) -> None:
        if not self.non_blocking or self.cupy.recorded is not None:
            raise RuntimeError("cudaErrorStreamCaptureUnsupported")
        if self.cupy.streams[-1] is not self:
            raise CaptureError("a stream is captured which is not the current one")
        self.cupy.recorded = []
        self.tape.at = 0
        self.numbers.put()

    def end_capture(self) -> Graph:
        work, self.cupy.recorded = self.cupy.recorded, None
        self.numbers.back()
        if work is None:
            raise RuntimeError("cudaErrorStreamCaptureInvalidated")
        return Graph(self.cupy, work)


def unowned(host: Host) -> Host:
    """The same memory without a claim to it: whoever owns it may give it back."""
    owner = lockstep.owner(host)
    if owner.base is None:
        return host
    flat = np.frombuffer(owner.base, np.uint8)
    place = host.__array_interface__["data"][0] - owner.__array_interface__["data"][0]
    return np.ndarray(host.shape, host.dtype, flat, place, host.strides)


@contextmanager
def using(cupy: Cupy, allocator: Any) -> Iterator[None]:
    """Memory comes from that allocator's pool."""
    before, cupy.pool = cupy.pool, allocator.__self__
    try:
        yield
    finally:
        cupy.pool = before
