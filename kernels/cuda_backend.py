"""The Backend on a GPU: CuPy's arrays, the kernels of `cuda_templates`, and CuPy's libraries.

It is one class in storeys, a file each: elementwise work, work along axes, arrays, products.
Methods return when the work has been given to the device's current stream; only what brings
values to the host, or needs them there, waits: `to_host`, `nonzero` and masks. An index array is
not looked at first: what is out of range along the first axis reads as NaN, or 0 for integers, is
not written to, and raises IndexError at the next `to_host` or `synchronize`, where also checks of
values raise. Captured functions are CUDA graphs: see cuda_graph.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradnet.backends import Array, Replay, Shape
from gradnet.dtypes import DType

from .cuda_device import Device, on_device
from .cuda_graph import compiled
from .cuda_mlp import FullyFused

if TYPE_CHECKING:
    from gradnet.program.calls import Program


class CudaBackend(FullyFused):
    """Arrays in the memory of one GPU."""

    name: str = "cuda"

    def __init__(self, device: Device) -> None:
        self._device = device

    @property
    def device(self) -> str:
        """Where arrays live: "cuda:0"."""
        return f"cuda:{self._device.index}"

    @on_device
    def linalg(self, function: str, *xs: Array, **options: Any) -> Any:
        cupy = self._device.cupy
        room, _, name = function.partition(".")
        if room == "dlpack":
            array = cupy.from_dlpack(xs[0])
            return array.copy() if options.get("copy") else array
        if name == "pinv" and "rtol" in options:
            rtol = options.pop("rtol")
            if isinstance(rtol, np.ndarray):
                rtol = self.from_host(rtol, copy=True)
            options = options if rtol is None else {**options, "rcond": rtol}
        return getattr(getattr(cupy, room), name)(*xs, **options)

    def window(
        self, base: Array, offset: int, shape: Shape, strides: tuple[int, ...], dtype: DType
    ) -> Array:
        return self._device.cupy.ndarray(shape, dtype, memptr=base.data + offset, strides=strides)

    @on_device
    def compile(self, program: Program) -> Replay | None:
        return compiled(self, program)

    @on_device
    def synchronize(self) -> None:
        self._device.cupy.cuda.get_current_stream().synchronize()
        self._device.tell()
