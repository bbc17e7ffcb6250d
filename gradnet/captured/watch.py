"""Watch: the Python values that a function's recording relies on, and whether they still hold."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from gradnet.host import Stateful
from gradnet.tensor import Tensor

_SCALARS = (bool, int, float, complex, str, bytes, type(None), np.dtype, np.generic)
# What is not looked into: classes, and what the standard library and NumPy provide.
_OPAQUE = (type, BuiltinFunctionType, CodeType)
_FOREIGN = sys.stdlib_module_names | {"numpy", "gradnet"}
# Whose objects hold nothing that a function of tensors would read.
_CLOSED = (_FOREIGN - {"gradnet", "__main__"}) | {"numba", "llvmlite"}
# Backends, elementwise ops and what is looked up on them: how they compute changes, and what does
# not.
_LOOKED_UP = ("gradnet.kernels.", "gradnet.numpy_backend", "gradnet.ways", "gradnet.ops.element")
_MOST = 100_000


class Watch:
    """What can be reached from a function by its names: closures, globals, attributes, items.

    tensors     those found
    arrays      NumPy arrays found, by id
    holds       whether all is as it was, but for attributes of modules
    holds_all   whether all is as it was
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.tensors: list[Tensor] = []
        self.arrays: dict[int, Any] = {}
        self._cells: list[tuple[CellType, Any, str]] = []
        self._items: list[tuple[Any, Any, Any, str]] = []
        self._settings: list[tuple[Any, Any, Any, str]] = []
        self._lengths: list[tuple[Any, int, str]] = []
        self._places: list[tuple[Tensor, Any, bool]] = []
        self._seen: dict[int, Any] = {}
        stack: list[tuple[Any, str]] = [(function, getattr(function, "__name__", "function"))]
        while stack and len(self._seen) < _MOST:
            x, path = stack.pop()
            if id(x) not in self._seen and not isinstance(x, _SCALARS):
                self._seen[id(x)] = x
                stack.extend(self._look_into(x, path))
        self._collections = [collection for collection, _, _ in self._lengths]
        self._counts = [count for _, count, _ in self._lengths]

    def _look_into(self, x: Any, path: str) -> Iterator[tuple[Any, str]]:
        """The parts of an object and their names; each part that may change is noted."""
        if isinstance(x, Tensor):
            self.tensors.append(x)
            self._places.append((x, x.array, x.node is None))
        elif isinstance(x, np.ndarray):
            self.arrays[id(x)] = x
        elif isinstance(x, _OPAQUE) or type(x).__module__.startswith(_LOOKED_UP):
            return
        elif isinstance(x, FunctionType):
            yield from self._in_function(x, path)
        elif isinstance(x, MethodType):
            yield x.__func__, path
            yield x.__self__, path
        elif isinstance(x, partial):
            yield from ((part, path) for part in (x.func, x.args, x.keywords))
        elif isinstance(x, ModuleType):
            return
        elif isinstance(x, tuple | frozenset):
            yield from ((item, f"{path}[{i}]") for i, item in enumerate(x))
        elif isinstance(x, list | set):
            self._lengths.append((x, len(x), path))
            if isinstance(x, list):
                for i, item in enumerate(x):
                    self._items.append((x, i, item, f"{path}[{i}]"))
                    yield item, f"{path}[{i}]"
        elif isinstance(x, dict):
            yield from self._in_dict(x, path)
        elif isinstance(x, Stateful):
            yield from ((item, path) for item in x.watched())
        elif hasattr(x, "__dict__") and type(x).__module__.partition(".")[0] not in _CLOSED:
            name = type(x).__name__ if path == "self" else path
            yield from self._in_attributes(x, name)

    def _in_function(self, x: FunctionType, path: str) -> Iterator[tuple[Any, str]]:
        if (x.__module__ or "").partition(".")[0] in _FOREIGN:
            if x.__closure__ is None:
                return
        else:
            yield from self._in_globals(x)
        for name, cell in zip(x.__code__.co_freevars, x.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # a name that is not bound yet
                continue
            self._cells.append((cell, value, name))
            yield value, name
        yield x.__defaults__, path
        yield x.__kwdefaults__, path

    def _in_globals(self, x: FunctionType) -> Iterator[tuple[Any, str]]:
        names = set(_names(x.__code__))
        for name in sorted(names & x.__globals__.keys()):
            value = x.__globals__[name]
            self._items.append((x.__globals__, name, value, name))
            if isinstance(value, ModuleType):
                if value.__name__.partition(".")[0] in _FOREIGN:
                    continue
                for inner in sorted(names & vars(value).keys()):
                    found = vars(value)[inner]
                    self._items.append((vars(value), inner, found, f"{name}.{inner}"))
                    yield found, f"{name}.{inner}"
            yield value, name

    def _in_dict(self, x: dict[Any, Any], path: str) -> Iterator[tuple[Any, str]]:
        self._lengths.append((x, len(x), path))
        for key, value in x.items():
            self._items.append((x, key, value, f"{path}[{key!r}]"))
            yield value, f"{path}[{key!r}]"

    def _in_attributes(self, x: Any, path: str) -> Iterator[tuple[Any, str]]:
        attributes = vars(x)
        # Modules tell of every change.
        notes = self._settings if hasattr(type(x), "register_forward_hook") else self._items
        for name, value in attributes.items():
            if name == "_members" and notes is self._settings:
                continue
            notes.append((attributes, name, value, f"{path}.{name}"))
            yield value, f"{path}.{name}"

    # Whether it holds

    def holds(self) -> bool:
        """Whether nothing has changed but, perhaps, what `host.changed` tells of."""
        for cell, value, _ in self._cells:
            if cell.cell_contents is not value and not _same(cell.cell_contents, value):
                return False
        try:
            for items, key, value, _ in self._items:
                if items[key] is not value and not _same(items[key], value):
                    return False
        except LookupError:
            return False
        return [*map(len, self._collections)] == self._counts

    def within(self, name: Callable[[Any], str]) -> str:
        """A condition, as text, under which `holds` is sure to; `name` gives objects names.

        It may raise LookupError.
        """
        return " and ".join(
            [f"{name(cell)}.cell_contents is {name(value)}" for cell, value, _ in self._cells]
            + [f"{name(x)}[{name(key)}] is {name(value)}" for x, key, value, _ in self._items]
            + [f"len({name(x)}) == {count}" for x, count, _ in self._lengths]
        )

    def holds_all(self) -> bool:
        """Whether nothing has changed, attributes of modules and places of tensors included."""
        for attributes, name, value, _ in self._settings:
            if attributes.get(name) is not value and not _same(attributes.get(name), value):
                return False
        return self.holds() and all(
            x.array is array and (x.node is None) is plain for x, array, plain in self._places
        )

    def difference(self) -> str:
        """The name of something that has changed, or nothing."""
        for cell, value, path in self._cells:
            if not _same(cell.cell_contents, value):
                return path
        for items, key, value, path in (*self._items, *self._settings):
            try:
                if not _same(items[key], value):
                    return path
            except LookupError:
                return path
        return next((path for x, count, path in self._lengths if len(x) != count), "")


def _same(a: Any, b: Any) -> bool:
    """Whether two values are one object, or equal numbers, texts or dtypes of one type."""
    if a is b:
        return True
    return isinstance(a, _SCALARS) and type(a) is type(b) and bool(a == b or (a != a and b != b))


def _names(code: CodeType) -> Iterator[str]:
    """All names that a function, and those defined in it, looks up."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
