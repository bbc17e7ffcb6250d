"""Captured: a function of tensors that is recorded once for each kind of call, then replayed."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

import numpy as np

from gradnet import host
from gradnet.backends import Array, Backend, Replay
from gradnet.captured.plan import simplified
from gradnet.captured.program import Action, Call, Program, Storage, Value, mapped
from gradnet.captured.record import Recorder
from gradnet.captured.replay import interpreted
from gradnet.captured.watch import Watch
from gradnet.dtypes import uint8 as _BYTE
from gradnet.errors import CaptureError
from gradnet.graph import mode
from gradnet.tensor import Tensor

P = ParamSpec("P")
R = TypeVar("R")

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
    reads, such as globals and attributes, are looked at before each replay: where one has changed,
    the function is recorded anew.

    Raises CaptureError for what a replay could not follow: values of tensors that Python code
    reads, shapes that depend on values, Python values that the function itself changes, and
    results that still have a graph.
    """
    return Captured(function)


class Captured(Generic[P, R]):
    """A function that records and replays; see `capture`.

    recordings  how often it has been recorded
    replays     how often a recording was replayed
    """

    def __init__(self, function: Callable[P, R]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._known: dict[Any, Recording] = {}
        self._lock = threading.RLock()
        self.recordings = 0
        self.replays = 0

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if mode.levels or host.state.recorder is not None:
            return self._function(*args, **kwargs)
        tensors: list[Tensor] = []
        key = [mode.recording]
        for x in args:
            if type(x) is Tensor:
                key.append((x.array.shape, x.array.dtype, x.array.strides, id(x.backend)))
                tensors.append(x)
            else:
                key.append(_described(x, tensors))
        if kwargs:
            key.append(_described(kwargs, tensors))
        for x in tensors:
            if x.node is not None and mode.recording:
                return self._function(*args, **kwargs)
        with self._lock:
            signature = tuple(key)
            found = self._known.get(signature)
            if found is not None and found.holds():
                try:
                    result = found.replay(tensors)
                except host.Stale:
                    pass
                else:
                    self.replays += 1
                    return result
            return self._record(signature, args, kwargs, tensors)

    def _record(self, signature: Any, args: Any, kwargs: Any, tensors: list[Tensor]) -> R:
        self._known.pop(signature, None)
        recording = Recording(self._function, args, kwargs, tensors)
        self.recordings += 1
        while len(self._known) >= _KEPT:
            self._known.pop(next(iter(self._known)))
        self._known[signature] = recording
        return recording.first()

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        # A method has recordings for each object.
        bound: Any = Captured(self._function.__get__(instance, owner))
        instance.__dict__.setdefault(self.__name__, bound)
        return instance.__dict__[self.__name__]


def _described(x: Any, tensors: list[Tensor]) -> Any:
    """What of an argument a recording depends on; tensors within it are collected."""
    if isinstance(x, Tensor):
        tensors.append(x)
        array = x.array
        return (array.shape, array.dtype, array.strides, id(x.backend))
    if isinstance(x, tuple | list):
        return (type(x), *(_described(item, tensors) for item in x))
    if isinstance(x, dict):
        return (dict, *((key, _described(item, tensors)) for key, item in x.items()))
    if isinstance(x, np.ndarray):
        raise CaptureError(
            f"a captured function got a NumPy array of shape {x.shape}, whose values a replay "
            "would not see; pass gradnet.asarray(array)"
        )
    try:
        hash(x)
    except TypeError:
        raise CaptureError(
            f"a captured function got a {type(x).__name__}, which cannot be compared from call to "
            "call; pass tensors, numbers, texts, or tuples, lists and dicts of them"
        ) from None
    return (type(x), x)


class Recording:
    """One recorded run, ready to be replayed for arguments like those it was made with."""

    def __init__(
        self, function: Callable[..., Any], args: Any, kwargs: Any, tensors: list[Tensor]
    ) -> None:
        self.watch = Watch(function)
        watched = list({id(x): x for x in (*self.watch.tensors, *tensors)}.values())
        backend = _backend(function, tensors, watched)
        self.backend = backend
        self._version = host.version[0]
        self._absent = tuple(x._grad is None for x in watched)
        self._watched = watched
        grads = [x._grad for x in watched]
        counts = [x.counter[0] for x in watched]
        arrays = [x.array for x in tensors]
        recorder = Recorder(backend, arrays, self.watch.arrays)
        with recorder.recording():
            result = function(*args, **kwargs)
        if not self.watch.holds_all() and (name := self.watch.difference()):
            raise CaptureError(
                f"a captured function changes the Python value {name!r}, which its replays would "
                "not; return the value, or change it outside"
            )
        self._program = recorder.program
        self._inputs = [recorder.value(x).storage for x in arrays]
        self._result = mapped(result, lambda x: self._output(x, recorder))
        # Gradients that the run leaves behind.
        self._grads = [
            (x, None if x._grad is None else recorder.value(x._grad.array, "temporary"))
            for x, before in zip(watched, grads, strict=True)
            if x._grad is not before
        ]
        self._counted = [
            (x.counter, x.counter[0] - before)
            for x, before in zip(watched, counts, strict=True)
            if x.counter[0] != before
        ]
        self._outputs = self._returned()
        recorder.restore()
        self._version = host.version[0]
        program = simplified(self._program)
        self.program = program
        for storage in recorder.temporaries():
            storage.array = None
        self._replay: Replay = backend.compile(program) or interpreted(backend, program)
        self._actions = program.actions
        self._first = tensors

    def _output(self, x: Any, recorder: Recorder) -> Any:
        if not isinstance(x, Tensor):
            return x
        if x.backend is not self.backend:
            raise CaptureError(
                f"a captured function on the {self.backend.name} backend returns a tensor on the "
                f"{x.backend.name} backend"
            )
        if x.node is not None and not x.is_leaf and x.node[0].inputs is not None:
            raise CaptureError(
                f"a captured function returns a tensor of shape {x.shape} with its graph, through "
                "which a replay could not be differentiated; return x.detach(), call the function "
                "under gradnet.no_grad(), or capture the backward too"
            )
        return recorder.value(x.array, "temporary")

    def _returned(self) -> list[tuple[Storage, int]]:
        """The storages that each run makes anew, for they are the caller's then."""
        values: list[Any] = []
        mapped(self._result, values.append)
        values += [value for _, value in self._grads]
        found: dict[Storage, int] = {}
        for value in values:
            if isinstance(value, Value) and value.storage.kind == "temporary":
                found[value.storage] = value.storage.nbytes
        for storage in found:
            storage.kind = "output"
        return list(found.items())

    def holds(self) -> bool:
        """Whether the Python values, tensors and gradients it relies on are as they were."""
        for x, absent in zip(self._watched, self._absent, strict=True):
            if (x._grad is None) is not absent:
                return False
        if host.version[0] == self._version:
            return self.watch.holds()
        if not self.watch.holds_all():
            return False
        self._version = host.version[0]
        return True

    def first(self) -> Any:
        """The recorded run itself, by a replay with the numbers that its actions gave."""
        tensors, self._first = self._first, []
        return self._run(tensors)

    def replay(self, tensors: list[Tensor]) -> Any:
        """The function's result for these tensors. Raises Stale where it must be recorded anew."""
        for action in self._actions:
            action.result = action.function(*action.arguments)
        for counter, count in self._counted:
            counter[0] += count
        return self._run(tensors)

    def _run(self, tensors: list[Tensor]) -> Any:
        arrays: dict[Storage, Array] = {
            storage: x.array for storage, x in zip(self._inputs, tensors, strict=True)
        }
        for storage, nbytes in self._outputs:
            arrays[storage] = self.backend.empty((nbytes,), _BYTE)
        self._replay(arrays)
        for x, value in self._grads:
            x._grad = None if value is None else self._tensor(value, arrays)
        return mapped(self._result, lambda v: self._tensor(v, arrays))

    def _tensor(self, value: Any, arrays: dict[Storage, Array]) -> Any:
        """A result as a Tensor."""
        if not isinstance(value, Value):
            return value
        base = arrays.get(value.storage, value.storage.array)
        window = self.backend.window(base, value.offset, value.shape, value.strides, value.dtype)
        return Tensor.wrap(window, self.backend)


def _backend(
    function: Callable[..., Any], tensors: list[Tensor], watched: list[Tensor]
) -> Backend:
    """The one backend that a function's tensors are on."""
    for x in (*tensors, *watched):
        return x.backend
    name = getattr(function, "__name__", "the function")
    raise CaptureError(
        f"{name} takes no tensor and has none within reach of its names, so there is nothing to "
        "capture; pass its tensors as arguments"
    )
