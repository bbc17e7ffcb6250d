"""Captured: a function of tensors that is recorded once for each kind of call, then replayed."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, ParamSpec, TypeVar

import numpy as np

from gradnet import host, ops
from gradnet.backends import Array, Backend, Replay
from gradnet.captured.record import Recorder, address
from gradnet.captured.watch import Watch
from gradnet.dtypes import uint8
from gradnet.errors import CaptureError, ShapeError
from gradnet.graph import mode
from gradnet.program.calls import Storage, Value, mapped
from gradnet.program.plan import simplified
from gradnet.program.replay import Interpreted
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
        self._quick: Callable[[tuple[Any, ...]], Any] = _never
        self._lock = threading.RLock()
        self.recordings = 0
        self.replays = 0

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if mode.levels or host.state.recorder is not None:
            return self._function(*args, **kwargs)
        with self._lock:
            if self._last is not None and not kwargs:
                try:
                    result: R | None = self._quick(args)
                except host.Stale:
                    self._last = None
                else:
                    if result is not None:
                        self.replays += 1
                        return result
            return self._found(args, kwargs)

    def _found(self, args: Any, kwargs: Any) -> R:
        """The result by a recording that is known, or by a new one."""
        tensors: list[Tensor] = []
        signature = (mode.recording, _described((args, kwargs), tensors))
        if mode.recording and any(x.node is not None for x in tensors):
            return self._function(*args, **kwargs)
        found = self._known.get(signature)
        if found is not None and found.holds():
            try:
                result: R = found.replay(tensors)
            except host.Stale:
                pass
            else:
                self.replays += 1
                self._use(found)
                return result
        return self._record(signature, args, kwargs, tensors)

    def _use(self, recording: Recording) -> None:
        """Try this recording first from now on."""
        self._last = recording
        self._quick = recording.quick()

    def each(self, *args: Tensor, rows: int) -> Tensor:
        """The function on one part of so many rows after the other, of all arguments.

        `(count * rows, ...)` for each argument; the results, one tensor of each call, stacked:
        `(count, ...)`. Replays follow one another without Python in between where they can.
        Raises ShapeError where the arguments have other numbers of rows.
        """
        total = args[0].shape[0]
        if rows < 1 or total % rows or any(x.shape[0] != total for x in args):
            raise ShapeError(
                f"each takes tensors of equally many rows, a multiple of {rows}, got shapes "
                f"{', '.join(str(x.shape) for x in args)}"
            )
        function: Any = self
        made: list[Tensor] = []
        done = 0
        while done < total // rows:
            parts = tuple([x[done * rows : (done + 1) * rows] for x in args])
            with self._lock:
                last = self._last
                ready = last is not None and not mode.levels and last.fits(parts)
                series = last.series(args, rows, done) if last and ready else None
            if series is None:
                made.append(ops.expand_dims(function(*parts), 0))
                done += 1
            else:
                made.append(series)
                done += series.shape[0]
                self.replays += series.shape[0]
        return made[0] if len(made) == 1 else ops.concat(made)

    def _record(self, signature: Any, args: Any, kwargs: Any, tensors: list[Tensor]) -> R:
        self._known.pop(signature, None)
        self._last = None
        recording = Recording(self._function, args, kwargs, tensors)
        self.recordings += 1
        while len(self._known) >= _KEPT:
            self._known.pop(next(iter(self._known)))
        self._known[signature] = recording
        self._use(recording)
        result: R = recording.first()
        return result

    def watched(self) -> Any:
        """The function, for another recording that comes upon this one."""
        return (self._function,)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        # A method has recordings for each object.
        bound: Any = Captured(self._function.__get__(instance, owner))
        name = self._function.__name__
        instance.__dict__.setdefault(name, bound)
        return instance.__dict__[name]


def _never(args: tuple[Any, ...]) -> None:
    """What a function does that has no recording yet."""


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
        self._watched = [(x, x._grad is None) for x in watched]
        self._recording = mode.recording
        # What `fits` compares, where all arguments are tensors.
        self._flat = not kwargs and len(args) == len(tensors)
        self._expected = [(x.shape, x.dtype, x.array.strides) for x in tensors]
        grads = [x._grad for x in watched]
        counts = [x.counter[0] for x in watched]
        arrays = [x.array for x in tensors]
        recorder = Recorder(backend, arrays, self.watch.arrays)
        try:
            with recorder.recording():
                result = function(*args, **kwargs)
            if not self.watch.holds_all() and (name := self.watch.difference()):
                raise CaptureError(
                    f"a captured function changes the Python value {name!r}, which its replays "
                    "would not; return the value, or change it outside"
                )
            self._result = mapped(result, lambda x: self._output(x, recorder))
        except BaseException:
            recorder.undo()
            for x, before in zip(watched, grads, strict=True):
                x._grad = before
            raise
        self._program = recorder.program
        self._program.inputs = [recorder.value(x).storage for x in arrays]
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
        self._program.outputs = self._outputs = self._returned()
        self._version = host.version[0]
        program = simplified(self._program)
        self.program = program
        for storage in recorder.temporaries():
            storage.array = None
        self._replay: Replay = backend.compile(program) or Interpreted(backend, program)
        self._actions = program.actions
        self._first: Sequence[Tensor] = tensors
        # Nothing but one new tensor comes of a run.
        self._single = self._result is self._outputs[-1] if len(self._outputs) == 1 else False
        self._single = self._single and not self._grads and self._outputs[0].whole

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

    def _returned(self) -> list[Value]:
        """The memory that each run makes anew, for it is the caller's then."""
        values: list[Any] = []
        mapped(self._result, values.append)
        values += [value for _, value in self._grads]
        found: dict[Storage, Value] = {}
        for value in values:
            if isinstance(value, Value) and value.storage.kind in ("temporary", "output"):
                storage = value.storage
                storage.kind = "output"
                # As the array that is returned, if that is all of it.
                whole = Value(storage, 0, (storage.nbytes,), (1,), uint8)
                found.setdefault(storage, value if value.whole else whole)
        return list(found.values())

    def fits(self, args: tuple[Any, ...]) -> bool:
        """Whether the arguments are tensors like those recorded, and all else is as it was."""
        if len(args) != len(self._expected) or mode.recording is not self._recording:
            return False
        if not self._flat:
            return False
        backend = self.backend
        for x, (shape, dtype, strides) in zip(args, self._expected, strict=False):
            if type(x) is not Tensor or x.backend is not backend:
                return False
            array = x.array
            if array.shape != shape or array.dtype is not dtype or array.strides != strides:
                return False
            if x.node is not None and self._recording:
                return False
        return self.holds()

    def holds(self) -> bool:
        """Whether the Python values, tensors and gradients it relies on are as they were."""
        for x, absent in self._watched:
            if (x._grad is None) is not absent:
                return False
        if host.version[0] == self._version:
            return self.watch.holds()
        if not self.watch.holds_all():
            return False
        self._version = host.version[0]
        return True

    def quick(self) -> Callable[[tuple[Any, ...]], Any]:
        """A replay with as little Python as there can be, for what most calls are.

        Takes the arguments; gives None where they are not such as were recorded, or something
        else has changed. Of a small step, the rest of the way takes as long as its arithmetic.
        """
        if not (self._flat and self._single):
            return _never
        backend, recording, expected = self.backend, self._recording, self._expected
        count, watched, holds = len(expected), self._watched, self.watch.holds
        actions = [(action, action.function, action.arguments) for action in self._actions]
        counted, replay, version = self._counted, self._replay, host.version
        (output,) = self._outputs
        shape_made, dtype_made = output.shape, output.dtype

        def run(args: tuple[Any, ...]) -> Any:
            if len(args) != count or mode.recording is not recording:
                return None
            arrays = []
            for x, (shape, dtype, strides) in zip(args, expected, strict=False):
                if type(x) is not Tensor or x.backend is not backend:
                    return None
                array = x.array
                if array.shape != shape or array.dtype is not dtype or array.strides != strides:
                    return None
                if recording and x.node is not None:
                    return None
                arrays.append(array)
            for parameter, absent in watched:
                if (parameter._grad is None) is not absent:
                    return None
            if version[0] != self._version or not holds():
                return None
            for action, function, arguments in actions:
                action.result = function(*arguments)
            for counter, more in counted:
                counter[0] += more
            made = backend.empty(shape_made, dtype_made)
            arrays.append(made)
            replay(arrays)
            return Tensor.wrap(made, backend)

        return run

    def first(self) -> Any:
        """The recorded run itself, by a replay with the numbers that its actions gave."""
        tensors, self._first = self._first, ()
        return self._run(tensors)

    def series(self, tensors: Sequence[Tensor], rows: int, begin: int) -> Tensor | None:
        """The results for the parts of so many rows from the number `begin` on, or for some.

        None where runs cannot be joined; an argument's rows must follow one another in memory.
        """
        count = tensors[0].shape[0] // rows - begin
        if not self._single or count < 2:
            return None
        places = []
        for x in tensors:
            row = x.array.strides[0] if x.ndim else 0
            places.append((address(x.array) + begin * rows * row, rows * row))
        (value,) = self._outputs
        made = self.backend.empty((count, *value.shape), value.dtype)
        places.append((address(made), value.storage.nbytes))
        try:
            self._advance()
        except host.Stale:
            return None
        done = self._replay.series(places, count, self._advance)
        if self._replay.failed:
            for i in range(begin, begin + count):
                parts = [x[i * rows : (i + 1) * rows].array for x in tensors]
                self._replay.verify([*parts, made[0]])
        if not done:
            # The numbers have gone on: use them.
            part = [x[begin * rows : (begin + 1) * rows] for x in tensors]
            return ops.expand_dims(self._run(part), 0)
        result = Tensor.wrap(made, self.backend)
        return result if done == count else result[:done]

    def _advance(self) -> None:
        """Move all that changes on the host on to the next run."""
        for action in self._actions:
            action.result = action.function(*action.arguments)
        for counter, more in self._counted:
            counter[0] += more

    def replay(self, tensors: Sequence[Tensor]) -> Any:
        """The function's result for these tensors. Raises Stale where it must be recorded anew."""
        self._advance()
        return self._run(tensors)

    def _run(self, tensors: Sequence[Tensor]) -> Any:
        arrays: list[Array] = [x.array for x in tensors]
        for output in self._outputs:
            arrays.append(self.backend.empty(output.shape, output.dtype))
        self._replay(arrays)
        if self._single:
            return Tensor.wrap(arrays[-1], self.backend)
        made = dict(zip(self.program.places(), arrays, strict=True))
        for x, value in self._grads:
            x._grad = None if value is None else self._tensor(value, made)
        return mapped(self._result, lambda v: self._tensor(v, made))

    def _tensor(self, value: Any, arrays: dict[Storage, Array]) -> Any:
        """A result as a Tensor."""
        if not isinstance(value, Value):
            return value
        base = arrays.get(value.storage, value.storage.array)
        window = self.backend.window(base, value.offset, value.shape, value.strides, value.dtype)
        return Tensor.wrap(window, self.backend)


def _backend(function: Callable[..., Any], tensors: list[Tensor], watched: list[Tensor]) -> Backend:
    """The one backend that a function's tensors are on."""
    for x in (*tensors, *watched):
        return x.backend
    name = getattr(function, "__name__", "the function")
    raise CaptureError(
        f"{name} takes no tensor and has none within reach of its names, so there is nothing to "
        "capture; pass its tensors as arguments"
    )
