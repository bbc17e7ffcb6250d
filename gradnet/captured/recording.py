"""Recording: one recorded run of a function, planned and ready to be replayed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradnet import host, ops
from gradnet.backends import Array, Backend, Replay
from gradnet.captured.quick import Quick, never, quickly
from gradnet.captured.record import Recorder, address, overlaps
from gradnet.captured.watch import Watch
from gradnet.dtypes import uint8
from gradnet.errors import CaptureError
from gradnet.graph import mode
from gradnet.program.calls import Storage, Value, mapped
from gradnet.program.plan import simplified
from gradnet.program.replay import Interpreted
from gradnet.tensor import Tensor


class Recording:
    """One recorded run, ready to be replayed for arguments like those it was made with."""

    def __init__(
        self,
        function: Callable[..., Any],
        args: Any,
        kwargs: Any,
        tensors: list[Tensor],
        objects: list[Any],
    ) -> None:
        self.watch = Watch(function, objects)
        watched = list({id(x): x for x in (*self.watch.tensors, *tensors)}.values())
        backend = _backend(function, tensors, watched)
        self.backend = backend
        self.version = host.version[0]
        self.watched = [(x, x._grad is None) for x in self.watch.tensors]
        self.recording = mode.recording
        grads = [x._grad for x in watched]
        counts = [x.counter[0] for x in watched]
        # Gradients within reach are other arrays in later runs, but for those in a buffer.
        self.held = [
            x for x in self.watch.tensors if x._grad is not None and not x.grad_is_in_buffer
        ]
        arrays = self._given(tensors)
        self.expected = [(x.shape, x.dtype, x.strides) for x in arrays]
        # An argument that is also within reach by name was recorded as the argument it was.
        shared = overlaps(arrays, [x.array for x in self.watch.tensors])
        self._fixed = [(i, address(arrays[i])) for i, _, _ in shared]
        self._overlaps = overlaps(arrays)
        recorder = Recorder(backend, arrays, self.watch.arrays)
        try:
            with recorder.recording():
                result = function(*args, **kwargs)
            if not self.watch.holds_all() and (name := self.watch.difference()):
                raise CaptureError(
                    f"a captured function changes the Python value {name!r}, which its replays "
                    "would not; return the value, or change it outside"
                )
            self.result = mapped(result, lambda x: self._output(x, recorder))
            del result
        except BaseException:
            recorder.undo()
            for x, before in zip(watched, grads, strict=True):
                x._grad = before
            raise
        self._program = recorder.program
        self._program.inputs = recorder.inputs
        # Gradients that the run leaves behind: in an optimizer's buffer (...), or where else.
        self.grads = [
            (x, _left(x, recorder))
            for x, before in zip(watched, grads, strict=True)
            if x._grad is not before
        ]
        self.counted = [
            (x.counter, x.counter[0] - before)
            for x, before in zip(watched, counts, strict=True)
            if x.counter[0] != before
        ]
        self._program.outputs = self.outputs = self._returned()
        # A run that has moved tensors, as back into an optimizer's buffer, is not to be repeated.
        self.once = not self.watch.in_place()
        self.version = -1 if self.once else host.version[0]
        program = simplified(self._program)
        self.program = program
        # What `fits` compares, where all arguments are tensors, each with memory of its own.
        written = any(v.storage.kind == "input" for call in program.calls for v in call.writes)
        apart = not (self._overlaps or self._fixed or (written and len(arrays) > 1))
        plain = not kwargs and len(args) == len(tensors) and not self.held
        self._flat = plain and apart
        self._quick: Quick | None = None if apart else never
        self._replay: Replay = backend.compile(program) or Interpreted(backend, program)
        self.actions = program.actions
        self._first: Sequence[Array] = arrays
        # Nothing but one new tensor comes of a run.
        self._single = self.result is self.outputs[-1] if len(self.outputs) == 1 else False
        self._single = self._single and not self.grads and self.outputs[0].whole

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
        return recorder.value(x.array)

    def _returned(self) -> list[Value]:
        """The memory that each run makes anew, for it is the caller's then."""
        values: list[Any] = []
        mapped(self.result, values.append)
        values += [value for _, value in self.grads]
        found: dict[Storage, Value] = {}
        for value in values:
            if isinstance(value, Value) and value.storage.kind in ("temporary", "output"):
                storage = value.storage
                storage.kind = "output"
                # As the array that is returned, if that is all of it.
                whole = Value(storage, 0, (storage.nbytes,), (1,), uint8)
                found.setdefault(storage, value if value.whole else whole)
        return list(found.values())

    def fits(self, args: Sequence[Tensor], rows: int) -> bool:
        """Whether parts of so many rows are like what was recorded, and all else is as it was."""
        if (
            not self._flat
            or len(args) != len(self.expected)
            or mode.recording is not self.recording
        ):
            return False
        for x, (shape, dtype, strides) in zip(args, self.expected, strict=True):
            array = x.array
            if x.backend is not self.backend or array.dtype != dtype or array.strides != strides:
                return False
            if (rows, *array.shape[1:]) != shape or (self.recording and x.node is not None):
                return False
        return host.state.recorder is None and self.holds()

    def _given(self, tensors: Sequence[Tensor]) -> list[Array]:
        """The arrays that differ from run to run: of arguments, and of gradients within reach."""
        held: Any = [x._grad for x in self.held]
        return [x.array for x in (*tensors, *held)]

    def takes(self, tensors: Sequence[Tensor]) -> bool:
        """Whether arguments that were known by other names are still those, and gradients alike."""
        arrays = self._given(tensors)
        return (
            all(address(arrays[i]) == place for i, place in self._fixed)
            and [(x.shape, x.dtype, x.strides) for x in arrays] == self.expected
            and (not self.held or overlaps(arrays) == self._overlaps)
        )

    def holds(self) -> bool:
        """Whether the Python values, tensors and gradients it relies on are as they were."""
        if self.once:
            return False
        for x, absent in self.watched:
            if (x._grad is None) is not absent:
                return False
        if host.version[0] == self.version:
            return self.watch.holds()
        if not self.watch.holds_all():
            return False
        self.version = host.version[0]
        return True

    def quick(self, args: Any, kwargs: Any) -> Quick:
        """A replay with as little Python as there can be, for calls with arguments like those."""
        if self._quick is None:
            self._quick = quickly(self, self._replay, args, kwargs)
        return self._quick

    def first(self) -> Any:
        """The recorded run itself, by a replay with the numbers that its actions gave."""
        arrays, self._first = self._first, ()
        return self._run(arrays)

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
        (value,) = self.outputs
        made = self.backend.empty((count, *value.shape), value.dtype)
        places.append((address(made), value.storage.nbytes))
        try:
            self._advance()
        except host.Stale:
            return None
        done = self._replay.series(places, count, self._act)
        for counter, more in self.counted:
            counter[0] += more * max(done - 1, 0)
        if self._replay.failed:
            for i in range(begin, begin + count):
                parts = [x[i * rows : (i + 1) * rows].array for x in tensors]
                self._replay.verify([*parts, made[0]])
        if not done:
            # The numbers have gone on: use them.
            part = [x[begin * rows : (begin + 1) * rows] for x in tensors]
            return ops.expand_dims(self._run(self._given(part)), 0)
        result = Tensor.wrap(made, self.backend)
        return result if done == count else result[:done]

    def _advance(self) -> None:
        """Move all that changes on the host on to the next run."""
        self._act()
        for counter, more in self.counted:
            counter[0] += more

    def _act(self) -> None:
        """Run the actions, whose numbers are the next run's."""
        for action in self.actions:
            action.result = action.function(*action.arguments)

    def replay(self, tensors: Sequence[Tensor]) -> Any:
        """The function's result for these tensors. Raises Stale where it must be recorded anew."""
        self._advance()
        return self._run(self._given(tensors))

    def _run(self, given: Sequence[Array]) -> Any:
        arrays = [*given]
        for output in self.outputs:
            arrays.append(self.backend.empty(output.shape, output.dtype))
        for x, _ in self.grads:
            x.keep_grad()
        self._replay(arrays)
        if self._single:
            return Tensor.wrap(arrays[-1], self.backend)
        made = dict(zip(self.program.places(), arrays, strict=True))
        for x, value in self.grads:
            x._grad = x.grad_in_buffer() if value is ... else self._tensor(value, made)
        return mapped(self.result, lambda v: self._tensor(v, made))

    def _tensor(self, value: Any, arrays: dict[Storage, Array]) -> Any:
        """A result as a Tensor."""
        if not isinstance(value, Value):
            return value
        base = arrays.get(value.storage, value.storage.array)
        window = self.backend.window(base, value.offset, value.shape, value.strides, value.dtype)
        return Tensor.wrap(window, self.backend)


def _left(x: Tensor, recorder: Recorder) -> Any:
    """Where a run leaves a gradient: a Value, or `...` for the buffer; None where there is none."""
    if x.grad is None:
        return None
    return ... if x.grad_is_in_buffer else recorder.value(x.grad.array)


def _backend(function: Callable[..., Any], tensors: list[Tensor], watched: list[Tensor]) -> Backend:
    """The one backend that a function's tensors are on."""
    for x in (*tensors, *watched):
        return x.backend
    name = getattr(function, "__name__", "the function")
    raise CaptureError(
        f"{name} takes no tensor and has none within reach of its names, so there is nothing to "
        "capture; pass its tensors as arguments"
    )
