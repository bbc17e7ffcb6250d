"""Where a step is captured: a stream and a pool of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

_NODE = re.compile(r'"(graph_\w*node_\d+)"')


class Room:
    """A non-blocking stream, and a pool from which the temporaries of captured methods come.

    What a captured method gives back to the pool, a later one of the same graph may take: they run
    in that order at every replay. Nobody else gets it as long as the pool lives.
    """

    def __init__(self, cupy: Any) -> None:
        self._cuda = cupy.cuda
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._pool = cupy.cuda.MemoryPool()
        self._last: Any = None

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Work goes to this stream: after all that the current one was given, before what comes."""
        event, current = self._cuda.Event, self._cuda.get_current_stream()
        self._stream.wait_event(current.record(event(disable_timing=True)))
        try:
            with self._stream, self._cuda.using_allocator(self._pool.malloc):
                yield
        finally:
            current.wait_event(self._stream.record(event(disable_timing=True)))

    def captured(self, work: Callable[[], None]) -> Any:
        """The work as a graph; it is not done. What it raises leaves the stream as it was."""
        with self._stream, self._cuda.using_allocator(self._pool.malloc):
            self._stream.begin_capture()
            try:
                work()
            except BaseException:
                # An error may have broken off the capture, which ending it reports once more.
                with suppress(RuntimeError):
                    self._stream.end_capture()
                raise
            return self._stream.end_capture()

    def order(self) -> None:
        """Keep a replay on another stream than the last from beginning before that has ended."""
        current = self._cuda.get_current_stream()
        if self._last is not None and current != self._last:
            current.wait_event(self._last.record(self._cuda.Event(disable_timing=True)))
        self._last = current


def nodes(graph: Any) -> int:
    """How many pieces of work a graph has."""
    return len(set(_NODE.findall(graph.debug_dot_str())))
