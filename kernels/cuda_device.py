"""The device under the CUDA backend: CuPy, memory, and one clear line for what is missing.

All memory comes from CuPy's current allocator, and all work goes to its current stream: who
captures a step puts a pool and a stream of its own in their place.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gradnet.backends import Array, Shape
from gradnet.dtypes import DType
from gradnet.errors import DeviceError

from . import cuda_driver
from .cache import cache_directory
from .cuda_flags import Flags
from .launch import Launcher

# The ops of indices by the numbers that kernels know them by.
_OPS = ("getitem", "setitem")
# Attributes of a device, as the runtime numbers them: what a block can be given if it asks, and the
# first number of the compute capability.
_SHARED_MEMORY, _CAPABILITY = 97, 75
# How CuPy's pool says what it was asked for; and how the runtime and the driver say that they lack
# memory.
_ASKED = re.compile(r"allocating ([\d,]+) bytes")
_NO_MEMORY = ("cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY")


class DeviceMemoryError(DeviceError, MemoryError):
    """The device has not the memory that was asked for."""


class Device:
    """One GPU: its memory, its launches, and the errors of both.

    `answers` gives the folder that what was found out about it is kept in; without, nothing is.
    """

    def __init__(
        self,
        cupy: Any,
        index: int,
        launch: Callable[..., None],
        answers: Callable[[], Path] | None = None,
    ) -> None:
        self.cupy = cupy
        self.answers = answers
        self.index = index
        self.launch = launch
        self.several = cupy.cuda.runtime.getDeviceCount() > 1
        self.flags = Flags(cupy)
        self._faults: Array | None = None
        self._suspected = False

    @property
    def shared(self) -> int:
        """The bytes of shared memory that a block can have."""
        return int(self.cupy.cuda.runtime.deviceGetAttribute(_SHARED_MEMORY, self.index))

    @property
    def capability(self) -> int:
        """The first number of the compute capability: 9 for 9.0."""
        return int(self.cupy.cuda.runtime.deviceGetAttribute(_CAPABILITY, self.index))

    def empty(self, shape: Shape, dtype: DType) -> Array:
        """An uninitialised contiguous array."""
        try:
            return self.cupy.empty(shape, dtype)
        except self.cupy.cuda.memory.OutOfMemoryError as error:
            raise self.out_of_memory(math.prod(shape) * dtype.itemsize) from error

    def trim(self) -> None:
        """Give the memory back that the pool keeps for later, after much of it was used once."""
        self.cupy.get_default_memory_pool().free_all_blocks()

    def out_of_memory(self, wanted: int | None) -> DeviceMemoryError:
        """What to raise when the device has no more memory, and what to do about it."""
        free, total = self.cupy.cuda.runtime.memGetInfo()
        pool = self.cupy.get_default_memory_pool()
        asked = f"{_size(wanted)} was asked for" if wanted is not None else "a work area"
        return DeviceMemoryError(
            f"cuda:{self.index} is out of memory: {asked}, with {_size(free)} of {_size(total)} "
            f"free and {_size(pool.used_bytes())} of the pool's {_size(pool.total_bytes())} in "
            "use; take a smaller batch, a narrower network or precision='bfloat16', or end other "
            "programs on this device"
        )

    # Indices out of range: noticed by kernels, told when the host waits for the device anyway

    def faults(self) -> Array:
        """What a kernel sets where an index is out of range: index, size, and the op's number."""
        if self._faults is None:
            self._faults = self.cupy.zeros(3, np.int64)
        self._suspected = True
        return self._faults

    def tell(self) -> None:
        """Raise what kernels have found since the last look: what a check refuses, which says more,
        else IndexError where one met an index out of range."""
        index, size, op = self._fault()
        self.flags.tell()
        if size:
            raise IndexError(
                f"{_OPS[op]}: index {index} is out of bounds for an axis of size {size}, in an "
                f"operation on cuda:{self.index} before this one"
            )

    def _fault(self) -> tuple[int, int, int]:
        """The last index out of range since the last look, as in `faults`; else zeros."""
        if not self._suspected or self._faults is None:
            return 0, 0, 0
        self._suspected = False
        index, size, op = (int(number) for number in self._faults.get())
        if size:
            self._faults.fill(0)
        return index, size, op


def _size(count: int) -> str:
    """Bytes for people: 1536 as "1.5 KiB"."""
    number, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if number < 1024:
            break
        number, unit = number / 1024, larger
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"


def found(index: int) -> Device:
    """The device of that index. Raises DeviceError with the reason where it cannot be used."""
    cupy = cuda_driver.usable(index)
    major, minor = divmod(int(cupy.cuda.Device(index).compute_capability), 10)
    return Device(cupy, index, Launcher(cupy, (major, minor)), cache_directory)


def on_device(method: Callable[..., Any]) -> Callable[..., Any]:
    """A backend's method that runs on the backend's own device and tells of memory that lacks."""

    @functools.wraps(method)
    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        device: Device = self._device
        try:
            if device.several:
                with device.cupy.cuda.Device(device.index):
                    return method(self, *arguments, **options)
            return method(self, *arguments, **options)
        except device.cupy.cuda.memory.OutOfMemoryError as error:
            asked = _ASKED.search(str(error))
            wanted = int(asked[1].replace(",", "")) if asked else None
            raise device.out_of_memory(wanted) from error
        except RuntimeError as error:
            # What the driver needs beside the pool: for kernels, graphs and libraries.
            if not any(name in str(error) for name in _NO_MEMORY):
                raise
            raise device.out_of_memory(None) from error

    return call
