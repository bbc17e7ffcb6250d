"""Captured: a function of tensors that is recorded once for each kind of call, then replayed."""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

import numpy as np

from gradnet import host, ops
from gradnet.captured.quick import NOTHING, Quick, never
from gradnet.captured.record import overlaps
from gradnet.captured.recording import Recording
from gradnet.errors import CaptureError, ShapeError
from gradnet.graph import mode
from gradnet.tensor import Tensor

P = ParamSpec("P")
R = TypeVar("R")

_SUSPENDS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
# Recordings of one function that are kept: one for each signature, the oldest go first.
_KEPT = 32


def capture(function: Callable[P, R]) -> Captured[P, R]:
    """`function`, whose backend calls are recorded once for each kind of call, then replayed.

        step = gradnet.capture(step)
        loss = step(x, y)

    The function may be any of tensors: a forward pass, a gradient, a whole training step with
    backward, clipping, schedule and optimizer. Its Python code runs once for each combination of
    the arguments' shapes, dtypes and other values; replays make the same calls on memory planned
    once, joined and compiled where the backend can. Numbers of optimizers, schedules and random
    generators go on from replay to replay as in plain runs. Values of Python that the function
    reads, such as globals, attributes and items, also of objects it is given, are looked at before
    each replay: where one has changed, the function is recorded anew. What it gets by a call of
    other libraries, such as the time or a random number of Python's, and elements of NumPy arrays
    of more than 4 KiB stay as they were recorded.

    On the CPU, plain runs take functions such as exp, log and tanh from NumPy, and recorded ones
    are compiled with what is around them. Both keep to the bound of the formula's row, its `ulp` in
    float32, but not to the same last bits.

    Raises CaptureError for what a replay could not follow: values of tensors that Python code
    reads, shapes that depend on values, Python values that the function itself changes, and
    results that still have a graph. TypeError for what is no function, or a generator's.
    """
    if not callable(function):
        hint = "; write @classmethod above it" if isinstance(function, classmethod) else ""
        raise TypeError(f"capture takes a function, got {type(function).__name__}{hint}")
    code = getattr(function, "__code__", None)
    if code is not None and code.co_flags & _SUSPENDS:
        raise TypeError(
            f"capture takes a function that runs to its end, and {function.__qualname__} is a "
            "generator's or a coroutine's; capture the function that makes one step"
        )
    return Captured(function)


class Captured(host.Stateful, Generic[P, R]):
    """A function that records and replays; see `capture`.

    recordings  how often it has been recorded
    replays     how often a recording was replayed
    """

    def __init__(self, function: Callable[P, R]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._known: dict[Any, Recording] = {}
        self._last: Recording | None = None
        self._quick: Quick = never
        self._by_class: dict[Any, Captured[..., Any]] = {}
        self._lock = threading.RLock()
        self.recordings = 0
        self.replays = 0

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._lock:
            try:
                result: R = self._quick(args, kwargs)
            except host.Stale:
                self._quick = never
            else:
                if result is not NOTHING:
                    self.replays += 1
                    return result
        if mode.levels or host.state.recorder is not None:
            return self._function(*args, **kwargs)
        with self._lock:
            return self._found(args, kwargs)

    def _found(self, args: Any, kwargs: Any) -> R:
        """The result by a recording that is known, or by a new one."""
        tensors: list[Tensor] = []
        objects: list[Any] = []
        signature: Any = (mode.recording, _described((args, kwargs), tensors, objects))
        signature = (*signature, overlaps([x.array for x in tensors]))
        if mode.recording and any(x.node is not None for x in tensors):
            return self._function(*args, **kwargs)
        found = self._known.get(signature)
        if found is not None and found.holds() and found.takes(tensors):
            try:
                result: R = found.replay(tensors)
            except host.Stale:
                pass
            else:
                self.replays += 1
                self._use(found, args, kwargs)
                return result
        return self._record(signature, args, kwargs, tensors, objects)

    def _use(self, recording: Recording, args: Any, kwargs: Any) -> None:
        """Try this recording first from now on; it was made, or found, for these arguments."""
        self._last = recording
        self._quick = recording.quick(args, kwargs)

    def each(self, *args: Tensor, rows: int) -> Tensor:
        """The function on one part of so many rows after the other, of all arguments.

        `(count * rows, ...)` for each argument; the results, one tensor of each call, stacked:
        `(count, ...)`. Replays follow one another without Python in between where they can.
        Raises ShapeError where the arguments have other numbers of rows.
        """
        total = args[0].shape[0]
        if rows < 1 or total % rows or [x for x in args if x.shape[0] != total]:
            raise ShapeError(
                f"each takes tensors of equally many rows, a multiple of {rows}, got shapes "
                f"{', '.join(str(x.shape) for x in args)}"
            )
        function: Any = self
        made: list[Tensor] = []
        done = 0
        while done < total // rows:
            with self._lock:
                last = self._last
                ready = last is not None and not mode.levels and last.fits(args, rows)
                series = last.series(args, rows, done) if last and ready else None
            if series is None:
                parts = tuple([x[done * rows : (done + 1) * rows] for x in args])
                made.append(ops.expand_dims(function(*parts), 0))
                done += 1
            else:
                made.append(series)
                done += series.shape[0]
                self.replays += series.shape[0]
        return made[0] if len(made) == 1 else ops.concat(made)

    def _record(
        self, signature: Any, args: Any, kwargs: Any, tensors: list[Tensor], objects: list[Any]
    ) -> R:
        self._known.pop(signature, None)
        self._last, self._quick = None, never
        recording = Recording(self._function, args, kwargs, tensors, objects)
        self.recordings += 1
        while len(self._known) >= _KEPT:
            self._known.pop(next(iter(self._known)))
        self._known[signature] = recording
        self._use(recording, args, kwargs)
        result: R = recording.first()
        return result

    def watched(self) -> Any:
        """The function, for another recording that comes upon this one."""
        return (self._function,)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        if host.state.recorder is not None:  # what is being recorded runs it as it is
            return self._function.__get__(instance, owner)
        # A method has recordings for each object, and one of a class for each class.
        kept = self._by_class if isinstance(instance, type) else getattr(instance, "__dict__", None)
        if kept is None:
            raise CaptureError(
                f"{self._function.__qualname__} is captured, and objects of its class have "
                '__slots__ and no place for their recordings; add "__dict__" to the slots'
            )
        # By the class that it is written in, for `super()` may ask for the one of a class above.
        name: Any = instance
        if kept is not self._by_class:
            name = f"captured {self._function.__qualname__}"
        bound = kept.get(name)
        if bound is None or not bound.belongs(self._function, instance):
            # Anew in a copy of an object, which comes with those of the other.
            bound = kept[name] = Captured(self._function.__get__(instance, owner))
        return bound

    def belongs(self, function: Any, instance: Any) -> bool:
        """Whether this is the method `function` of that very object."""
        own = self._function
        same: bool = getattr(own, "__func__", None) is function
        return same and getattr(own, "__self__", None) is instance

    def __reduce__(self) -> Any:
        """Copied and pickled as functions are: by name, and methods by their object."""
        function: Any = self._function
        owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
        if any(isinstance(vars(c).get(name), Captured) for c in type(owner).__mro__):
            return getattr, (owner, name)
        found: Any = sys.modules.get(getattr(function, "__module__", None) or "")
        for part in getattr(function, "__qualname__", "").split("."):
            found = getattr(found, part, None)
        return function.__qualname__ if found is self else (capture, (function,))


def _described(x: Any, tensors: list[Tensor], objects: list[Any]) -> Any:
    """What of an argument a recording depends on; tensors and other objects in it are collected."""
    if isinstance(x, Tensor):
        tensors.append(x)
        array, grad = x.array, None
        if x._grad is not None and not x.grad_is_in_buffer:
            grad = _described(x._grad, tensors, objects)
        return (array.shape, array.dtype, array.strides, id(x.backend), grad)
    if isinstance(x, tuple | list):
        return (type(x), *(_described(item, tensors, objects) for item in x))
    if isinstance(x, dict):
        return (dict, *((key, _described(item, tensors, objects)) for key, item in x.items()))
    if isinstance(x, np.ndarray):
        raise CaptureError(
            f"a captured function got a NumPy array of shape {x.shape}, whose values a replay "
            "would not see; pass gradnet.asarray(array)"
        )
    if isinstance(x, float | complex | np.inexact):
        return (type(x), repr(x))  # 0.0 equals -0.0, and NaN not itself
    try:
        hash(x)
    except TypeError:
        raise CaptureError(
            f"a captured function got a {type(x).__name__}, which cannot be compared from call to "
            "call; pass tensors, numbers, texts, or tuples, lists and dicts of them"
        ) from None
    objects.append(x)
    return (type(x), x)
