"""What Python does between the calls of a backend, told to a recorder so that a replay does it too.

A captured function's Python code runs once. What it changes on the host in each run, such as an
optimizer's count of steps or a generator's counter, is done through `run`; a check of values goes
through `check`; and whoever changes what a recording relied on says `changed`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np


class Stale(Exception):
    """Raised by an action of a replay that no longer goes with what was recorded."""


class Recorder(Protocol):
    """What records the host's part of a captured function."""

    def act(
        self,
        action: Callable[..., Any],
        arguments: tuple[Any, ...],
        several: Callable[..., Any] | None,
    ) -> Any:
        """Run an action whose numbers later calls use, and note it."""

    def check(
        self,
        values: Callable[..., None],
        arguments: tuple[Any, ...],
        bounds: tuple[float, float] | None,
    ) -> None:
        """Run a check that reads values, and note it."""

    def once(self, make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Make what stays, without noting how."""


class _State(threading.local):
    """The recorder of this thread, if it records."""

    recorder: Recorder | None = None


state = _State()

# How often anything has changed that recordings look at: attributes of modules, places of arrays.
version = [0]


def changed() -> None:
    """Have recordings look again at what they rely on."""
    version[0] += 1


def run(
    action: Callable[..., Any], *arguments: Any, several: Callable[..., Any] | None = None
) -> Any:
    """`action(*arguments)`, which a replay runs again and takes its numbers from.

    The action changes and reads the host's state alone, no tensor's values. Its result is a tuple
    of numbers, or None; pass each on to a backend as it is, for what is computed from it would be
    a constant of the recording.

    `several(count, *arguments)` does what so many runs of the action in a row would, and gives for
    each number of the result one number or a sequence of `count`. It is for actions that read
    nothing which another one changes, but for one of the same object, or one without `several`.
    """
    recorder = state.recorder
    if recorder is None:
        return action(*arguments)
    return recorder.act(action, arguments, several)


def check(
    values: Callable[..., None], *arguments: Any, bounds: tuple[float, float] | None = None
) -> None:
    """`values(*arguments)`, which reads values of tensors and raises; a replay checks again.

    Where `bounds` are given, the check passes if all values of the first argument, a tensor, lie
    within them, and raises otherwise.
    """
    recorder = state.recorder
    if recorder is None:
        values(*arguments)
    else:
        recorder.check(values, arguments, bounds)


def once(make: Callable[..., Any], *arguments: Any) -> Any:
    """`make(*arguments)`, arrays that are made now and stay: a replay does not make them again."""
    recorder = state.recorder
    return make(*arguments) if recorder is None else recorder.once(make, arguments)


def row(numbers: Sequence[float]) -> Any:
    """Numbers side by side, with which a formula computes as it does with each of them."""
    return np.array(numbers, np.float64)


class Stateful:
    """An object whose own numbers change by actions of the host, such as an optimizer."""

    def watched(self) -> Iterable[Any]:
        """What a recording is to look into: the objects and tensors that it works on."""
        return ()

    def snapshot(self) -> Any:
        """Its numbers now, for a recording that fails to go back to."""
        return dict(vars(self))

    def rewind(self, snapshot: Any) -> None:
        """Go back to the numbers of a snapshot."""
        vars(self).update(snapshot)
