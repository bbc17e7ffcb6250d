"""A backend that behaves like a far device without float64.

It is NumPy's, with every array in a box that shows its shape and dtype and nothing else: code that
takes a tensor's array for NumPy's, or lets a float64 in, fails. Made by reflection over the
protocol, so that a method added there is covered. Where array-api-strict would serve, its arrays
still allow arithmetic and iteration; a box allows neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from gradnet import backends
from gradnet.backends import Backend

WIDE = (np.dtype(np.float64), np.dtype(np.complex128))


class Forbidden(AssertionError):
    """Something that no code above a backend may do with its arrays."""


class Box:
    """An array of the strict backend."""

    __array_ufunc__ = None
    __slots__ = ("_hidden",)

    def __init__(self, hidden: np.ndarray[Any, Any]) -> None:
        self._hidden = hidden

    @property
    def shape(self) -> tuple[int, ...]:
        return self._hidden.shape

    @property
    def dtype(self) -> Any:
        return self._hidden.dtype

    def __getattr__(self, name: str) -> Any:
        if name in ("__array_interface__", "__array_struct__"):
            raise Forbidden("NumPy asked for the memory of an array on another device")
        raise AttributeError(f"an array shows its shape and dtype only, not {name!r}")


def _refusal(name: str) -> Any:
    def refuse(self: Box, *arguments: Any, **options: Any) -> Any:
        raise Forbidden(f"an array is not to be used by {name}; go through its backend")

    return refuse


for _name in (
    *("__array__", "__len__", "__iter__", "__getitem__", "__setitem__", "__bool__", "__float__"),
    *("__int__", "__index__", "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"),
    *("__add__", "__radd__", "__iadd__", "__mul__", "__rmul__", "__sub__", "__rsub__", "__neg__"),
    *("__truediv__", "__rtruediv__", "__pow__", "__rpow__", "__matmul__", "__rmatmul__"),
    *("__contains__", "__copy__", "__deepcopy__", "__reduce__"),
):
    setattr(Box, _name, _refusal(_name))


class StrictBackend:
    """Every method of the protocol over boxes; made below."""

    name = "strict"
    device = "cpu"
    defers = False
    float64 = False

    def __init__(self) -> None:
        self.inner = backends.get("numpy")
        self.calls: dict[str, int] = {}

    def boxed(self, value: Any, method: str) -> Any:
        if isinstance(value, np.ndarray):
            if value.dtype in WIDE and not self.float64:
                raise Forbidden(f"{method} made {value.dtype}, which this device does not have")
            return Box(value)
        if isinstance(value, tuple | list):
            return tuple(self.boxed(item, method) for item in value)
        return value

    def opened(self, value: Any, method: str) -> Any:
        if isinstance(value, Box):
            return value._hidden
        if isinstance(value, np.ndarray | np.generic):
            raise Forbidden(f"{method} got {type(value)} of NumPy's, not an array of its own")
        if isinstance(value, np.dtype) and value in WIDE and not self.float64:
            raise Forbidden(f"{method} was asked for {value}, which this device does not have")
        if isinstance(value, tuple | list):
            return type(value)(self.opened(item, method) for item in value)
        return value

    def mapper(self, formula: Any, given: Any, dtype: Any) -> Any:
        return partial(self.map, formula, dtype=dtype)  # type: ignore[attr-defined]

    @contextmanager
    def allowing_float64(self) -> Iterator[None]:
        self.float64 = True
        try:
            yield
        finally:
            self.float64 = False


def _method(name: str) -> Any:
    def call(self: StrictBackend, *arguments: Any, **options: Any) -> Any:
        self.calls[name] = self.calls.get(name, 0) + 1
        if name == "from_host":
            (host,) = arguments
            return self.boxed(host.copy(), name)
        plain = [self.opened(value, name) for value in arguments]
        named = {key: self.opened(value, name) for key, value in options.items()}
        result = getattr(self.inner, name)(*plain, **named)
        if name == "to_host":
            # What comes over is a copy: writing to it changes nothing there.
            return result.copy()
        if options.get("out") is not None and result is named["out"]:
            return options["out"]
        return self.boxed(result, name)

    return call


for _name, _declared in vars(Backend).items():
    if (
        _name not in vars(StrictBackend)
        and not _name.startswith("_")
        and not isinstance(_declared, property)
    ):
        setattr(StrictBackend, _name, _method(_name))
