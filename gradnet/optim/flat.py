"""Flat buffers: the parameters of a group side by side, and their gradients, as one array each.

An update is then one pass over memory. Every parameter keeps its own Tensor, whose array becomes a
view of the buffer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakValueDictionary

from gradnet import host
from gradnet.errors import DeviceError, DTypeError, ShapeError
from gradnet.formulas import Update
from gradnet.tensor import Tensor

# How far an optimizer has come with a parameter: the count of its steps, and what else changes
# from step to step alike for all elements.
Progress = tuple[float, ...]
Run = tuple[int, int]

# Every parameter starts on a new line of the cache, and aligned for any vector instruction.
_ALIGNMENT = 64

# The Flat in which a parameter lives, by the parameter's id: the youngest one if there are several.
_homes: WeakValueDictionary[int, Flat] = WeakValueDictionary()


class Flat:
    """Parameters of one dtype on one backend, with their gradients, in one buffer each.

    parameters, order  in the order of the buffer, and the place of each by its id
    values, gradients  arrays of `size` elements; the gaps between parameters stay zero
    starts             where each parameter begins, and at the end `size`
    state              the optimizer's moments by name, arrays like `values`
    common             the progress of all parameters, or None where it differs: then `each`
    """

    __slots__ = (
        "__weakref__",
        "_arrays",
        "_arrays_of",
        "backend",
        "common",
        "dtype",
        "each",
        "gradients",
        "order",
        "parameters",
        "size",
        "slots",
        "starts",
        "state",
        "values",
    )

    def __init__(self, parameters: Sequence[Tensor], start: Progress) -> None:
        self.parameters = tuple(parameters)
        self.order = {id(parameter): i for i, parameter in enumerate(self.parameters)}
        self.backend = self.parameters[0].backend
        self.dtype = self.parameters[0].dtype
        step = max(1, _ALIGNMENT // self.dtype.itemsize)
        self.starts = [0]
        for parameter in self.parameters:
            self.starts.append(self.starts[-1] + math.ceil(parameter.size / step) * step)
        self.size = self.starts[-1]
        self.values = self.backend.full((self.size,), 0, self.dtype)
        self.gradients = self.backend.full((self.size,), 0, self.dtype)
        self.slots = [
            (parameter, self.part(self.values, i), self.part(self.gradients, i))
            for i, parameter in enumerate(self.parameters)
        ]
        self.state: dict[str, Any] = {}
        self._arrays: tuple[Any, ...] = ()
        self._arrays_of: Update | None = None
        self.common: Progress | None = start
        self.each = [start] * len(self.parameters)
        for i in range(len(self.parameters)):
            self._join(i)

    def part(self, buffer: Any, i: int) -> Any:
        """The view of a buffer that belongs to parameter i, in the parameter's shape."""
        parameter, start = self.parameters[i], self.starts[i]
        piece = self.backend.view(buffer, (slice(start, start + parameter.size),))
        return self.backend.reshape(piece, parameter.shape)

    def arrays(self, update: Update, initial: Callable[[str], float]) -> tuple[Any, ...]:
        """(values, gradients, *moments) for an update; new moments are full of `initial(name)`."""
        if self._arrays_of is not update:
            for name in update.state:
                if name not in self.state:
                    self.state[name] = host.once(self._moment, initial(name))
            moments = [self.state[name] for name in update.state]
            self._arrays = (self.values, self.gradients, *moments)
            self._arrays_of = update
        return self._arrays

    def holds(self, update: Update, arrays: tuple[Any, ...]) -> bool:
        """Whether these are still the arrays of that update."""
        return self._arrays is arrays and self._arrays_of is update

    def _moment(self, value: float) -> Any:
        return self.backend.full((self.size,), value, self.dtype)

    def restore(self, names: Sequence[str], each: Sequence[Progress]) -> None:
        """Start from that progress of every parameter, with moments of those names, all zero."""
        self.state = {name: self.backend.full((self.size,), 0, self.dtype) for name in names}
        self._arrays, self._arrays_of = (), None
        self.set_progress(each)

    def _join(self, i: int) -> None:
        """Take the values, and any gradient, of parameter i and make it a view of the buffer."""
        parameter, value, gradient = self.slots[i]
        if parameter.backend is not self.backend:
            raise DeviceError(
                f"a parameter of shape {parameter.shape} was on {self.backend.device} "
                f"({self.backend.name} backend) when the optimizer was made and is on "
                f"{parameter.device} ({parameter.backend.name} backend) now; move the model "
                "first, then make the optimizer"
            )
        if parameter.dtype != self.dtype:
            raise DTypeError(
                f"a parameter of shape {parameter.shape} was {self.dtype.name} when the optimizer "
                f"was made and is {parameter.dtype.name} now; cast the model first, then make the "
                "optimizer"
            )
        if parameter.shape != value.shape:
            raise ShapeError(
                f"a parameter had shape {tuple(value.shape)} when the optimizer was made and has "
                f"{parameter.shape} now; make a new optimizer"
            )
        self.backend.cast(parameter.array, self.dtype, out=value)
        parameter.array = value
        host.changed()
        parameter.use_grad_buffer(gradient)
        _homes[id(parameter)] = self

    def ready(self) -> bool:
        """Bring all parameters and gradients into the buffers; whether all have gradients.

        A parameter whose array was exchanged since, as by a second optimizer, is joined again.
        Raises DTypeError, DeviceError or ShapeError where it no longer fits.
        """
        complete = True
        for i, (parameter, value, gradient) in enumerate(self.slots):
            if parameter.array is not value:
                self._join(i)
            found = parameter.grad
            if found is None:
                complete = False
            elif found.array is not gradient:
                if found.requires_grad:
                    # It stays as it is for whoever differentiates it again.
                    self.backend.cast(found.array, self.dtype, out=gradient)
                else:
                    parameter.use_grad_buffer(gradient)
        return complete

    def gather(self) -> None:
        """As `ready`, with zeros for the gradients that are missing."""
        if not self.ready():
            for parameter, _, gradient in self.slots:
                if parameter.grad is None:
                    self.backend.full(parameter.shape, 0, self.dtype, out=gradient)

    def total(self) -> float:
        """The sum of all values."""
        total = self.backend.reduce("sum", self.values, (0,), False, dtype=self.dtype)
        return float(self.backend.to_host(total))

    def changed(self) -> None:
        """Note that all values were changed in place: graphs that saved them are then refused."""
        for parameter in self.parameters:
            counter = parameter.counter
            counter[0] += 1
            if parameter.tangents is None:
                # The change is its own: the next op need not look whether it still is what it was.
                parameter._seen = counter[0]

    def progress(self, i: int) -> Progress:
        """How far the optimizer has come with parameter i."""
        return self.each[i] if self.common is None else self.common

    def set_progress(self, each: Sequence[Progress]) -> None:
        """Set how far the optimizer has come with every parameter."""
        self.each = list(each)
        self.common = each[0] if all(item == each[0] for item in each) else None

    def runs(self) -> list[Run]:
        """Neighbours [i, j) that all have gradients and the same progress: one update each."""
        found: list[Run] = []
        for i, parameter in enumerate(self.parameters):
            if parameter.grad is None:
                continue
            if found and found[-1][1] == i and self.progress(i) == self.progress(i - 1):
                found[-1] = (found[-1][0], i + 1)
            else:
                found.append((i, i + 1))
        return found

    def span(self, buffer: Any, run: Run) -> Any:
        """The part of a buffer that holds the parameters of a run, as a 1-D view."""
        return self.backend.view(buffer, (slice(self.starts[run[0]], self.starts[run[1]]),))


def home(parameter: Tensor) -> Flat | None:
    """The Flat in which a parameter lives, if an optimizer has made one."""
    return _homes.get(id(parameter))
