"""The backend for NVIDIA's GPUs. Importing it raises DeviceError where it cannot run, with why."""

from __future__ import annotations

from gradnet.backends import Backend

from . import cuda_device
from .cuda_backend import CudaBackend


def backend(index: int) -> Backend:
    """The backend on the GPU of that index. Raises DeviceError where there is none."""
    return CudaBackend(cuda_device.found(index))


BACKEND: Backend = backend(0)
