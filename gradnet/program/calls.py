"""A program: the backend calls of one run of a function, over memory still to be planned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from gradnet.backends import Shape
from gradnet.dtypes import DType


@dataclass(eq=False, slots=True)
class Storage:
    """A piece of memory that arrays are views of.

    kind    "temporary": made and used within a run; "external": there before, like a parameter;
            "input": an argument, another array at every run; "output": returned, made anew
    array   the whole of an external piece; None of others, which a recording does not hold
    """

    kind: str
    nbytes: int
    array: Any


@dataclass(frozen=True, slots=True)
class Value:
    """An array: a place in a storage, `offset` bytes from its beginning, and `strides` in bytes."""

    storage: Storage
    offset: int
    shape: Shape
    strides: tuple[int, ...]
    dtype: DType

    @property
    def size(self) -> int:
        """The number of elements."""
        size = 1
        for n in self.shape:
            size *= n
        return size

    @property
    def contiguous(self) -> bool:
        """Whether its elements lie in row-major order without gaps."""
        expected = self.dtype.itemsize
        for n, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if n != 1 and stride != expected:
                return False
            expected *= n
        return True

    @property
    def whole(self) -> bool:
        """Whether it is all of its storage, in order."""
        return (
            self.offset == 0
            and self.contiguous
            and self.size * self.dtype.itemsize == self.storage.nbytes
        )


@dataclass(frozen=True, slots=True)
class Live:
    """A number that an action gives at every run: item `index` of the result of `action`."""

    action: Action
    index: int


@dataclass(eq=False, slots=True)
class Action:
    """A piece of the host's work, run before the calls of each replay; `result` is its latest.

    `several` gives the results of so many runs in a row, number by number; see `host.run`.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    result: Any
    several: Callable[..., Any] | None = None


@dataclass(eq=False, slots=True)
class Call:
    """One call of a backend's method, or a check ("check"), with Values in place of arrays.

    Arguments are Values, Lives, and plain Python values, also within tuples and lists. `outs` are
    the arrays that the method returns or, for an `out` argument, writes; `writes` all those whose
    memory it changes.
    """

    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outs: tuple[Value | None, ...]
    writes: tuple[Value, ...]
    reads: tuple[Value, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.note_reads()

    def note_reads(self) -> None:
        """Find the Values among the arguments, but for `out`."""
        kept = {name: value for name, value in self.kwargs.items() if name != "out"}
        self.reads = tuple(values_in((self.args, kept)))


def values_in(tree: Any) -> Iterator[Value]:
    """All Values within tuples, lists and dicts."""
    if isinstance(tree, Value):
        yield tree
    elif isinstance(tree, tuple | list):
        for item in tree:
            yield from values_in(item)
    elif isinstance(tree, dict):
        for item in tree.values():
            yield from values_in(item)


def mapped(tree: Any, change: Callable[[Any], Any]) -> Any:
    """The same tuples, lists and dicts with every other item changed."""
    if isinstance(tree, tuple):
        items = [mapped(item, change) for item in tree]
        # A named tuple, or a plain one.
        return type(tree)(*items) if hasattr(tree, "_fields") else tuple(items)
    if isinstance(tree, list):
        return [mapped(item, change) for item in tree]
    if isinstance(tree, dict):
        return {key: mapped(item, change) for key, item in tree.items()}
    return change(tree)


@dataclass(eq=False, slots=True)
class Program:
    """Calls in order, the actions whose numbers they use, and the memory that each run brings.

    `inputs` are arrays of the caller; `outputs` are made for each run, with that shape and dtype.
    """

    calls: list[Call]
    actions: list[Action]
    inputs: list[Storage] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)

    def with_calls(self, calls: list[Call]) -> Program:
        """The same program with other calls."""
        return Program(calls, self.actions, self.inputs, self.outputs)

    def places(self) -> list[Storage]:
        """The storages of the arrays that a replay is given, in that order."""
        return [*self.inputs, *(value.storage for value in self.outputs)]
