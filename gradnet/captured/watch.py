"""Watch: the Python values that a function's recording relies on, and whether they still hold."""

from __future__ import annotations

import argparse
import sys
from array import array as Packed
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import cache, cached_property, partial
from pathlib import Path
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any

import numpy as np

from gradnet.host import Stateful
from gradnet.tensor import Tensor

_SCALARS = (bool, int, float, complex, str, bytes, type(None), np.dtype, np.generic)
# What is not looked into.
_OPAQUE = (BuiltinFunctionType, CodeType, ModuleType)
_FOREIGN = sys.stdlib_module_names | {"numpy", "gradnet"}
# Whose objects hold nothing that a function of tensors would read, but for those that hold values.
_CLOSED = (_FOREIGN - {"gradnet", "__main__"}) | {"numba", "llvmlite"}
_OPEN = (SimpleNamespace, argparse.Namespace)
# Backends, elementwise ops and what is looked up on them: how they compute changes, and what does
# not.
_LOOKED_UP = ("gradnet.kernels.", "gradnet.numpy_backend", "gradnet.ways", "gradnet.ops.element")
_MOST = 100_000
_PACKAGES = {"site-packages", "dist-packages"}  # folders of installed packages
# Bytes of a NumPy array up to which its values are compared.
_SMALL = 4096


class Watch:
    """What can be reached from a function, and what it is given, by names, attributes and items.

    The names are those of closures, globals and defaults, and those of modules and of classes that
    are not of installed packages as far as functions look them up.

    tensors     those found
    arrays      NumPy arrays found, by id
    holds       whether all is as it was, but for attributes of modules
    holds_all   whether all is as it was
    """

    def __init__(self, function: Callable[..., Any], given: Iterable[Any] = ()) -> None:
        self.tensors: list[Tensor] = []
        self.arrays: dict[int, Any] = {}
        self._cells: list[tuple[CellType, Any, str]] = []
        self._items: list[tuple[Any, Any, Any, str]] = []
        self._settings: list[tuple[Any, Any, Any, str]] = []
        self._lengths: list[tuple[Any, int, str]] = []
        self._contents: list[tuple[Callable[[], Any], Any, str]] = []
        self._places: list[tuple[Tensor, Any, bool]] = []
        self._seen: dict[int, Any] = {}
        self._attributes: list[tuple[Any, str, Any, str]] = []
        self._names: set[str] = set()
        self._classes: dict[type, set[str]] = {}
        stack = [(x, type(x).__name__) for x in given]
        stack.append((function, getattr(function, "__name__", "function")))
        while stack:
            while stack and len(self._seen) < _MOST:
                x, path = stack.pop()
                if id(x) not in self._seen and not isinstance(x, _SCALARS):
                    self._seen[id(x)] = x
                    stack.extend(self._look_into(x, path))
            stack = [part for x in self._classes for part in self._in_class(x)]
        self._collections = [collection for collection, _, _ in self._lengths]
        self._counts = [count for _, count, _ in self._lengths]

    def _look_into(self, x: Any, path: str) -> Iterator[tuple[Any, str]]:
        """The parts of an object and their names; each part that may change is noted."""
        if isinstance(x, Tensor):
            self.tensors.append(x)
            self._places.append((x, x.array, x.node is None))
        elif isinstance(x, np.ndarray):
            self.arrays[id(x)] = x
            if x.nbytes <= _SMALL and x.dtype.kind != "O":
                self._note(x.tobytes, path)
        elif isinstance(x, _OPAQUE) or type(x).__module__.startswith(_LOOKED_UP):
            return
        elif isinstance(x, type):
            if _own(x):
                self._classes[x] = set()
        elif isinstance(x, FunctionType):
            yield from self._in_function(x, path)
        elif isinstance(x, MethodType):
            yield x.__func__, path
            yield x.__self__, path
        elif isinstance(x, partial):
            yield from ((part, path) for part in (x.func, x.args, x.keywords))
        elif isinstance(x, tuple | frozenset):
            yield from ((item, f"{path}[{i}]") for i, item in enumerate(x))
        elif isinstance(x, set):
            self._note(partial(frozenset, x), path)
            yield from ((item, path) for item in x)
        elif isinstance(x, bytearray | Packed):
            self._note(partial(bytes, x), path)
        elif isinstance(x, list | deque):
            self._lengths.append((x, len(x), path))
            for i, item in enumerate(x):
                self._items.append((x, i, item, f"{path}[{i}]"))
                yield item, f"{path}[{i}]"
        elif isinstance(x, dict | MappingProxyType):
            yield from self._in_dict(x, path)
        elif isinstance(x, Stateful):
            yield from ((item, path) for item in x.watched())
        elif isinstance(x, _OPEN) or _top(type(x)) not in _CLOSED:
            name = type(x).__name__ if path == "self" else path
            yield from self._in_attributes(x, name)

    def _note(self, read: Callable[[], Any], path: str) -> None:
        self._contents.append((read, read(), path))

    def _in_function(self, x: FunctionType, path: str) -> Iterator[tuple[Any, str]]:
        if _top(x) in _FOREIGN:
            if x.__closure__ is None:
                return
        else:
            names = set(_names(x.__code__))
            if _own(x):
                self._names |= names
            yield from self._looked_up(names, x.__globals__, "")
            for name in ("__code__", "__defaults__"):
                self._attributes.append((x, name, getattr(x, name), path))
        for name, cell in zip(x.__code__.co_freevars, x.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # a name that is not bound yet
                continue
            self._cells.append((cell, value, name))
            yield value, name
        yield x.__defaults__, path
        yield x.__kwdefaults__, path

    def _looked_up(
        self, names: set[str], found: dict[str, Any], path: str, seen: tuple[Any, ...] = ()
    ) -> Iterator[tuple[Any, str]]:
        """What names are of globals, of modules among those, and of own modules in own ones."""
        for name in sorted(names & found.keys()):
            value = found[name]
            self._items.append((found, name, value, path + name))
            yield value, path + name
            if not isinstance(value, ModuleType) or value in seen:
                continue
            top = value.__name__.partition(".")[0]
            if top not in _FOREIGN and not (seen and _installed(top)):
                inner = (*seen, value)
                yield from self._looked_up(names, vars(value), f"{path}{name}.", inner)

    def _in_dict(self, x: Any, path: str) -> Iterator[tuple[Any, str]]:
        self._lengths.append((x, len(x), path))
        if len(x) > 1:
            self._note(partial(tuple, x), path)
        for key, value in x.items():
            self._items.append((x, key, value, f"{path}[{key!r}]"))
            yield value, f"{path}[{key!r}]"

    def _in_attributes(self, x: Any, path: str) -> Iterator[tuple[Any, str]]:
        attributes = getattr(x, "__dict__", {})
        # Modules tell of every change.
        notes = self._settings if hasattr(type(x), "register_forward_hook") else self._items
        for name, value in attributes.items():
            if name == "_members" and notes is self._settings:
                continue
            notes.append((attributes, name, value, f"{path}.{name}"))
            yield value, f"{path}.{name}"
        for base in filter(_own, type(x).__mro__):
            yield base, base.__name__
            for name, member in vars(base).items():
                if isinstance(member, MemberDescriptorType):
                    value = getattr(x, name, None)
                    self._attributes.append((x, name, value, f"{path}.{name}"))
                    yield value, f"{path}.{name}"
                elif name not in attributes and not (_dunder(name) or hasattr(member, "__get__")):
                    # An attribute of the object would hide that of its class.
                    self._note(partial(_has, attributes, name), f"{path}.{name}")

    def _in_class(self, x: type) -> Iterator[tuple[Any, str]]:
        """The members of a class that functions look up, or that are called without their name."""
        members, done = vars(x), self._classes[x]
        inherited = {name for base in x.__mro__[1:-1] for name in vars(base)}
        for name, value in members.items():
            unnamed = isinstance(value, FunctionType) and (_dunder(name) or name in inherited)
            if name not in done and (name in self._names or unnamed):
                done.add(name)
                path = f"{x.__name__}.{name}"
                self._items.append((members, name, value, path))
                yield from ((part, path) for part in _functions(value))

    # Whether it holds

    def holds(self) -> bool:
        """Whether nothing has changed but, perhaps, what `host.changed` tells of."""
        try:
            for cell, value, _ in self._cells:
                if cell.cell_contents is not value and not _same(cell.cell_contents, value):
                    return False
            for items, key, value, _ in self._items:
                if items[key] is not value and not _same(items[key], value):
                    return False
        except (LookupError, ValueError):  # no such item, or a name that is bound no longer
            return False
        if [*map(len, self._collections)] != self._counts:
            return False
        return all(
            _same(getattr(x, name, None), value) for x, name, value, _ in self._attributes
        ) and (all(read() == value for read, value, _ in self._contents))

    def within(self, name: Callable[[Any], str]) -> str:
        """A condition, as text, under which `holds` is sure to; `name` gives objects names.

        It may raise LookupError, AttributeError or, of names bound no longer, ValueError.
        """
        return " and ".join(
            [f"{name(cell)}.cell_contents is {name(value)}" for cell, value, _ in self._cells]
            + [f"{name(x)}[{name(key)}] is {name(value)}" for x, key, value, _ in self._items]
            + [f"{name(x)}.{key} is {name(value)}" for x, key, value, _ in self._attributes]
            + [f"len({name(x)}) == {count}" for x, count, _ in self._lengths]
            + [f"{name(read)}() == {name(value)}" for read, value, _ in self._contents]
        )

    def holds_all(self) -> bool:
        """Whether nothing has changed, attributes of modules and places of tensors included."""
        for attributes, name, value, _ in self._settings:
            if attributes.get(name) is not value and not _same(attributes.get(name), value):
                return False
        return self.holds() and self.in_place()

    def in_place(self) -> bool:
        """Whether all tensors are where they were in memory."""
        return all(
            x.array is array and (x.node is None) is plain for x, array, plain in self._places
        )

    def difference(self) -> str:
        """The name of something that has changed, or nothing."""
        for cell, value, path in self._cells:
            try:
                if not _same(cell.cell_contents, value):
                    return path
            except ValueError:
                return path
        for x, name, value, path in self._attributes:
            if not _same(getattr(x, name, None), value):
                return path
        for items, key, value, path in (*self._items, *self._settings):
            try:
                if not _same(items[key], value):
                    return path
            except LookupError:
                return path
        for read, value, path in self._contents:
            if read() != value:
                return path
        return next((path for x, count, path in self._lengths if len(x) != count), "")


def _same(a: Any, b: Any) -> bool:
    """Whether two values are one object, or equal numbers, texts or dtypes of one type."""
    if a is b:
        return True
    if not isinstance(a, _SCALARS) or type(a) is not type(b):
        return False
    # By their text: 0.0 equals -0.0, and NaN not itself.
    return repr(a) == repr(b) if isinstance(a, float | complex | np.inexact) else bool(a == b)


def _has(attributes: dict[str, Any], name: str) -> bool:
    return name in attributes


def _top(x: Any) -> str:
    """The name of the package that a class or function is from."""
    return (x.__module__ or "").partition(".")[0]


def _own(x: Any) -> bool:
    """Whether a class or function is from no installed package: from a script, or a checkout."""
    return _top(x) not in _FOREIGN and not _installed(_top(x))


@cache
def _installed(package: str) -> bool:
    module = sys.modules.get(package)
    places = (getattr(module, "__file__", None) or "", *getattr(module, "__path__", ()))
    return any(not _PACKAGES.isdisjoint(Path(place).parts) for place in places)


def _dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _functions(member: Any) -> tuple[Any, ...]:
    """The functions of a member of a class, or the member itself."""
    if isinstance(member, property):
        return (member.fget, member.fset)
    if isinstance(member, staticmethod | classmethod):
        return (member.__func__,)
    return (member.func,) if isinstance(member, cached_property) else (member,)


def _names(code: CodeType) -> Iterator[str]:
    """All names that a function, and those defined in it, looks up."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
