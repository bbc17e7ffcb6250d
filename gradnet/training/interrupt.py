"""Ctrl-C ends a run between two steps, where its state is whole and can be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradnet.training.history import History


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C ended a run after a whole step; `history` is what was measured until then."""

    def __init__(self, message: str, history: History) -> None:
        super().__init__(message)
        self.history = history


class Interrupt:
    """Whether Ctrl-C was pressed."""

    requested: bool = False


@contextmanager
def deferred() -> Iterator[Interrupt]:
    """Note Ctrl-C instead of raising within a `with` block; a second one raises at once.

    Signals belong to the main thread and to whoever has set a handler of their own: elsewhere
    nothing is changed.
    """
    interrupt = Interrupt()

    def note(number: int, frame: Any) -> None:
        if interrupt.requested:
            raise KeyboardInterrupt
        interrupt.requested = True

    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield interrupt
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
