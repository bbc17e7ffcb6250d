"""The arrays of the device: boxes that NumPy cannot read without `get`."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from fakes import lockstep, surface

if TYPE_CHECKING:
    from fakes.cupy_over_numpy import Cupy

Host = np.ndarray[Any, Any]


def in_tf32(x: Host) -> Host:
    """float32 rounded to the bits that TF32 has of it."""
    bits = np.ascontiguousarray(x).view(np.uint32).astype(np.uint64) + 0x1000
    return (bits & 0xFFFFE000).astype(np.uint32).view(np.float32)


class Data:
    """The pointer of an array."""

    def __init__(self, array: Ndarray, offset: int = 0) -> None:
        self.array = array
        self.offset = offset
        self.place = array.host.__array_interface__["data"][0] + offset
        # Where there is no memory there is no address.
        self.ptr = self.place if self.mem.size else 0

    @property
    def mem(self) -> Host:
        return lockstep.owner(self.array.host)

    def __add__(self, offset: int) -> Data:
        return Data(self.array, self.offset + offset)

    def window(self, shape: Any, dtype: Any, strides: Any) -> Host:
        """An array over this memory; NumPy refuses one that goes beyond the allocation."""
        owner = lockstep.owner(self.array.host)
        place = self.place - owner.__array_interface__["data"][0]
        return np.ndarray(shape, dtype, owner.reshape(-1).view(np.uint8), place, strides)

    def copy_from_device_async(self, source: Data, size: int) -> None:
        assert self.array.nbytes == source.array.nbytes == size
        self.array.cupy.do("copy", _copy_bytes, self.array, source.array)


def _copy_bytes(y: Host, x: Host) -> None:
    if np.may_share_memory(x, y):
        raise ValueError("a device does not say what a copy between places that overlap gives")
    y.reshape(-1).view(np.uint8)[:] = x.reshape(-1).view(np.uint8)


class Ndarray:
    """An array on the device. Its memory is NumPy's, which no test may look at but by `get`."""

    __array_ufunc__ = None
    cupy: Cupy

    def __init__(
        self, host: Any, dtype: Any = None, memptr: Data | None = None, strides: Any = None
    ) -> None:
        if memptr is not None:
            host = memptr.window(host, dtype, strides)
        self.host = host
        self.parent: Ndarray | None = None
        self.shape, self.strides = host.shape, host.strides
        self.dtype, self.ndim, self.size = host.dtype, host.ndim, host.size
        self.nbytes, self.flags = host.nbytes, SimpleNamespace(c_contiguous=host.flags.c_contiguous)

    @property
    def data(self) -> Data:
        return Data(self)

    @property
    def base(self) -> Ndarray | None:
        """What it is a view of, as far as CuPy tells: one made of a pointer is of nothing."""
        return self.parent

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "strides": self.strides,
            "data": (self.data.ptr if self.size else 0, False),
            "version": 3,
        }

    @property
    def real(self) -> Ndarray:
        return type(self)(self.host.real)

    @real.setter
    def real(self, value: Ndarray) -> None:
        self.host.real = value.host

    @property
    def imag(self) -> Ndarray:
        return type(self)(self.host.imag)

    @imag.setter
    def imag(self, value: Ndarray) -> None:
        self.host.imag = value.host

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed; use .get()")

    def __array_function__(self, function: Any, types: Any, given: Any, options: Any) -> Any:
        """NumPy's function as CuPy has it."""
        return getattr(self.cupy, function.__name__)(*given, **options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, **_: Any) -> Any:
        raise BufferError("no other library knows this device")

    def get(self) -> Host:
        self.cupy.note("to host")
        return self.host.copy()

    def set(self, values: Host) -> None:
        self.cupy.note("from host")
        assert values.dtype == self.dtype
        assert values.shape == self.shape
        self.host[...] = values

    def fill(self, value: Any) -> None:
        self.cupy.do("fill", np.ndarray.fill, self, value)

    def _number(self) -> Any:
        self.cupy.note("to host")
        return self.host.item()

    def __int__(self) -> int:
        return int(self._number())

    def __float__(self) -> float:
        return float(self._number())

    def __getitem__(self, index: Any) -> Any:
        plain = index if isinstance(index, tuple) else (index,)
        surface.refuse_host(plain)
        if not any(i is Ellipsis for i in plain):
            plain = (*plain, ...)  # so that one element is a view, as it is on a GPU
        return self.cupy.made("", lambda x, i: x[_wrapped(x, i)], self, plain)

    def __setitem__(self, index: Any, value: Any) -> None:
        plain = index if isinstance(index, tuple) else (index,)
        surface.refuse_host((plain, value))
        self.cupy.do("assign", _assign, self, plain, value)


def _assign(x: Host, index: tuple[Any, ...], value: Any) -> None:
    x[_wrapped(x, index)] = value


def _wrapped(x: Host, index: tuple[Any, ...]) -> tuple[Any, ...]:
    """An index as CuPy takes it: out of range, an array of integers begins anew."""

    def axes(i: Any) -> int:
        masks = isinstance(i, np.ndarray) and i.dtype == np.bool_
        return 0 if i is None or i is Ellipsis else i.ndim if masks else 1

    found, axis = [], 0
    for i in index:
        if isinstance(i, np.ndarray) and i.dtype.kind in "iu":
            i = i % max(x.shape[axis], 1)
        found.append(i)
        axis += x.ndim - sum(map(axes, index)) if i is Ellipsis else axes(i)
    return tuple(found)


def _method(name: str) -> Callable[..., Any]:
    def call(self: Ndarray, *arguments: Any, **options: Any) -> Any:
        surface.refuse_host((arguments, tuple(options.values())))
        return self.cupy.made("", getattr(np.ndarray, name), self, *arguments, **options)

    return call


for _name in (
    *("reshape", "transpose", "view", "copy", "sum", "min", "max", "astype"),
    *("__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__mod__"),
    *("__truediv__", "__floordiv__", "__pow__", "__neg__", "__pos__", "__and__", "__or__"),
    *("__xor__", "__lshift__", "__rshift__", "__lt__", "__le__", "__gt__", "__ge__", "__eq__"),
    *("__ne__", "__rtruediv__", "__rpow__", "__rand__", "__ror__", "__rxor__", "__invert__"),
    *("__abs__", "__rmod__", "__rfloordiv__", "__rlshift__", "__rrshift__"),
):
    setattr(Ndarray, _name, _method(_name))
