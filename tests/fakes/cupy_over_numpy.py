"""As much of CuPy as the CUDA backend uses, over NumPy; and a device that notes what is done.

Arrays are boxes that NumPy cannot read without `get`. Memory comes from a pool that fills what it
takes back, and what it gives out, with bytes that make every float NaN.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
from gradnet.kernels.cuda_backend import CudaBackend
from gradnet.kernels.cuda_device import Device
from gradnet.kernels.cuda_templates.program import Program

from fakes import lockstep

POISON = 0xFF
# So that small tests run quickly, and cross the boundaries of blocks.
THREADS = 32
lockstep.use_blocks(THREADS)
Host = np.ndarray[Any, Any]


class CaptureError(AssertionError):
    """Something that a captured step must not do."""


class OutOfMemoryError(MemoryError):
    """The pool is at its limit."""


class CUDARuntimeError(RuntimeError):
    """The driver reports an error."""


class Memory:
    """A pool of blocks, of which those given back are used again."""

    def __init__(self, limit: int = 1 << 40) -> None:
        self.limit = limit
        self.used = 0
        self.total = 0
        self.free: dict[int, list[Any]] = {}

    def block(self, size: int) -> Host:
        """Bytes of that size; the array that they are in owns them."""
        if self.used + size > self.limit:
            raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes")
        waiting = self.free.setdefault(size, [])
        if waiting:
            raw = waiting.pop()
        else:
            raw = (ctypes.c_ubyte * size)()
            self.total += size
        ctypes.memset(raw, POISON, size)
        owner = np.frombuffer(raw, np.uint8)
        self.used += size
        weakref.finalize(owner, self._give_back, raw, size)
        return owner

    def _give_back(self, raw: Any, size: int) -> None:
        ctypes.memset(raw, POISON, size)
        self.used -= size
        self.free[size].append(raw)

    def used_bytes(self) -> int:
        return self.used

    def total_bytes(self) -> int:
        return self.total


class Data:
    """The pointer of an array."""

    def __init__(self, array: Ndarray, offset: int = 0) -> None:
        self.array = array
        self.offset = offset
        self.ptr = array.host.__array_interface__["data"][0] + offset

    def __add__(self, offset: int) -> Data:
        return Data(self.array, self.offset + offset)

    def window(self, shape: Any, dtype: Any, strides: Any) -> Host:
        """An array over this memory; NumPy refuses one that goes beyond the allocation."""
        owner = lockstep.owner(self.array.host)
        place = self.ptr - owner.__array_interface__["data"][0]
        return np.ndarray(shape, dtype, owner.reshape(-1).view(np.uint8), place, strides)

    def copy_from_device_async(self, source: Data, size: int) -> None:
        self.array.cupy.note("copy")
        target, values = self.array.host, source.array.host
        assert target.nbytes == values.nbytes == size
        target.reshape(-1).view(np.uint8)[:] = values.reshape(-1).view(np.uint8)


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
        self.shape, self.strides = host.shape, host.strides
        self.dtype, self.ndim, self.size = host.dtype, host.ndim, host.size
        self.nbytes, self.flags = host.nbytes, SimpleNamespace(c_contiguous=host.flags.c_contiguous)

    @property
    def data(self) -> Data:
        return Data(self)

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

    def get(self) -> Host:
        self.cupy.note("to host")
        return self.host.copy()

    def set(self, values: Host) -> None:
        self.cupy.note("from host")
        assert values.dtype == self.dtype
        assert values.shape == self.shape
        self.host[...] = values

    def fill(self, value: Any) -> None:
        self.cupy.note("fill")
        self.host.fill(value)

    def _number(self) -> Any:
        self.cupy.note("to host")
        return self.host.item()

    def __int__(self) -> int:
        return int(self._number())

    def __getitem__(self, index: Any) -> Any:
        opened = self.cupy.opened(index)
        plain = opened if isinstance(opened, tuple) else (opened,)
        if not any(i is Ellipsis for i in plain):
            plain = (*plain, ...)  # so that one element is a view, as it is on a GPU
        return self.cupy.wrapped(self.host[plain])

    def __setitem__(self, index: Any, value: Any) -> None:
        self.cupy.note("assign")
        self.host[self.cupy.opened(index)] = self.cupy.opened(value)


def _method(name: str) -> Callable[..., Any]:
    def call(self: Ndarray, *arguments: Any, **options: Any) -> Any:
        plain = [self.cupy.opened(value) for value in arguments]
        with np.errstate(all="ignore"):
            result = getattr(self.host, name)(*plain, **options)
        return self.cupy.wrapped(result)

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


class Cupy:
    """The module: its own functions below, NumPy's for the rest."""

    def __init__(self, devices: int = 1) -> None:
        self.memory = Memory()
        self.done: list[str] = []
        self.capturing = False
        self.devices = devices
        self.driver, self.runtime_version = 13000, 13000
        self.ndarray = type("ndarray", (Ndarray,), {"cupy": self})
        stream = SimpleNamespace(synchronize=lambda: self.note("synchronize"))
        runtime = SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            driverGetVersion=lambda: self.driver,
            runtimeGetVersion=lambda: self.runtime_version,
            getDeviceCount=lambda: self.devices,
            memGetInfo=lambda: (self.memory.limit - self.memory.used, self.memory.limit),
        )
        self.cuda = SimpleNamespace(
            runtime=runtime,
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            get_current_stream=lambda: stream,
            Device=self._device,
        )
        self.linalg = _Room(self, np.linalg)
        self.fft = _Room(self, np.fft)
        self.get_default_memory_pool = lambda: self.memory

    @contextmanager
    def _device(self, index: int) -> Iterator[None]:
        self.done.append(f"device {index}")
        yield

    def note(self, what: str) -> None:
        """Remember something done, and refuse what a step under capture must not do."""
        if self.capturing and what in ("allocate", "to host", "from host", "synchronize"):
            raise CaptureError(f"{what} while a step is captured")
        self.done.append(what)

    def opened(self, value: Any) -> Any:
        if isinstance(value, Ndarray):
            return value.host
        if isinstance(value, tuple | list):
            return type(value)(self.opened(item) for item in value)
        return value

    def wrapped(self, value: Any) -> Any:
        if isinstance(value, np.ndarray | np.generic):
            host = np.asarray(value)
            if lockstep.owner(host).base is None:
                # NumPy's own memory: what CuPy would have taken from its pool.
                host = self.empty(host.shape, host.dtype).host
                host[...] = value
            return self.ndarray(host)
        if isinstance(value, tuple | list):
            return tuple(self.wrapped(item) for item in value)
        return value

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Ndarray:
        self.note("allocate")
        dtype = np.dtype(dtype)
        block = self.memory.block(math.prod(shape) * dtype.itemsize)
        return self.ndarray(np.ndarray(shape, dtype, block) if block.size else _none(shape, dtype))

    def copyto(self, y: Ndarray, x: Any, casting: str = "same_kind") -> None:
        self.note("copyto")
        with np.errstate(all="ignore"):
            np.copyto(y.host, self.opened(x), casting=casting)  # type: ignore[arg-type]

    def from_dlpack(self, x: Any) -> Ndarray:
        return self.wrapped(np.from_dlpack(x))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not hasattr(np, name):
            raise AttributeError(f"module 'cupy' has no attribute {name!r}")
        return _function(self, getattr(np, name), name)


def _none(shape: tuple[int, ...], dtype: Any) -> Host:
    return np.empty(shape, dtype)


def _function(cupy: Cupy, function: Callable[..., Any], name: str) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        cupy.note(f"cupy.{name}")
        plain = [cupy.opened(value) for value in arguments]
        named = {key: cupy.opened(value) for key, value in options.items()}
        with np.errstate(all="ignore"):
            result = function(*plain, **named)
        given = options.get("out")
        return given if given is not None else cupy.wrapped(result)

    return call


class _Room:
    def __init__(self, cupy: Cupy, module: Any) -> None:
        self.cupy, self.module = cupy, module

    def __getattr__(self, name: str) -> Any:
        return _function(self.cupy, getattr(self.module, name), name)


class Launches:
    """The launcher: runs kernels in step on the CPU, and counts them."""

    def __init__(self, cupy: Cupy) -> None:
        self.cupy = cupy
        self.programs: Counter[Program] = Counter()
        self.backwards = False

    def __call__(self, program: Program, blocks: int, *arguments: Any) -> None:
        self.cupy.note(f"launch {program.kind}")
        self.programs[program] += 1
        plain = [self.cupy.opened(value) for value in arguments]
        lockstep.run(program, blocks, plain, backwards=self.backwards)


def fake_backend(index: int = 0, devices: int = 1) -> CudaBackend:
    """The CUDA backend over this device."""
    cupy = Cupy(devices)
    return CudaBackend(Device(cupy, index, Launches(cupy)))


def backend(index: int) -> CudaBackend:
    """The backend on one of two such devices."""
    return fake_backend(index, devices=2)


BACKEND = fake_backend()
