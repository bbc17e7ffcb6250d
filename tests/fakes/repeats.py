"""What a captured step is told must be what its warm-up was told: numbers too.

A graph keeps the numbers that its launches were given. One that is another whenever the step is
made, such as a learning rate or a counter, has to be in the device's memory; so while a stream is
captured all numbers that the host's actions gave are others, and a launch that shows a difference
to the warm-up's is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from numbers import Number
from typing import Any, NamedTuple

import numpy as np
from gradnet.kernels.cuda_templates.program import Program

from gradnet.program.calls import Action

_PARAMETERS = re.compile(r"def kernel\(([^)]*)\)")


class ChangingNumberError(AssertionError):
    """A number that changes is given to a launch under capture by itself."""


class Told(NamedTuple):
    """A piece of work: its name, its kernel, the shapes of its arrays, and its numbers."""

    what: str
    kernel: Program | None
    shapes: tuple[tuple[int, ...], ...]
    numbers: dict[str, str]

    def alike(self, other: Told) -> bool:
        """Whether it is the same work, on the same numbers or on others."""
        return self[:3] == other[:3] and self.numbers.keys() == other.numbers.keys()


def told(what: str, kernel: Program | None, arguments: Any, options: dict[str, Any]) -> Told:
    """The work as it is given."""
    names: list[str] = []
    if kernel is not None and (found := _PARAMETERS.search(kernel.text)):
        names = [name.strip() for name in found[1].split(",")]
    if len(names) != len(arguments):
        names = [str(i) for i in range(len(arguments))]
    flat = [
        leaf
        for name, value in (*zip(names, arguments, strict=True), *options.items())
        for leaf in _leaves(name, value)
    ]
    numbers = {name: repr(value) for name, value in flat if isinstance(value, Number | np.generic)}
    shapes = tuple(x.shape for name, x in flat if name not in numbers and hasattr(x, "shape"))
    return Told(what, kernel, shapes, numbers)


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, tuple | list):
        for i, item in enumerate(value):
            yield from _leaves(f"{name}[{i}]", item)
    else:
        yield name, value


class Tape:
    """The work of a stream before it was captured, in order, with which the capture is compared."""

    def __init__(self) -> None:
        self.work: list[Told] = []
        self.at = 0
        self.compared = 0

    def note(self, one: Told) -> None:
        """Work that was done."""
        self.work.append(one)

    def compare(self, one: Told) -> None:
        """Work under capture: some that was done, in the same order, once or several times."""
        count = len(self.work)
        places = [i % count for i in range(self.at, self.at + count)]
        alike = [i for i in places if self.work[i].alike(one)]
        if not alike:
            self.work.append(one)
            return
        self.compared += 1
        same = next((i for i in alike if self.work[i].numbers == one.numbers), None)
        if same is not None:
            self.at = same + 1
            return
        before = self.work[alike[0]].numbers
        name = next(name for name in one.numbers if one.numbers[name] != before[name])
        raise ChangingNumberError(
            f"{one.what}, argument {name}: it was {before[name]} in the warm-up and is "
            f"{one.numbers[name]} in the capture; a number that changes has to be in the device's "
            "memory, where gradnet.kernels.cuda_graph_numbers writes those of gradnet.host"
        )


class Others:
    """Other numbers in the place of those that actions gave, and back."""

    def __init__(self, actions: Iterable[Action]) -> None:
        self.actions = list(actions)
        self.before: list[Any] = []

    def put(self) -> None:
        """Have others for a while."""
        self.before = [action.result for action in self.actions]
        for action in self.actions:
            if action.result is not None:
                action.result = tuple(map(_other, action.result))

    def back(self) -> None:
        """Have those from before."""
        for action, result in zip(self.actions, self.before, strict=False):
            action.result = result
        self.before = []


def _other(number: Any) -> Any:
    return number + 1 if isinstance(number, int) else number * 1.5 + 1
