"""The backend for NVIDIA's GPUs. Importing it raises DeviceError where it cannot run, with why."""

from __future__ import annotations

from gradnet.backends import Backend

from . import cuda_driver


def backend(index: int) -> Backend:
    """The backend on the GPU of that index. Raises DeviceError where there is none."""
    cuda_driver.usable(index)
    # What follows takes as long to import as the rest of the library.
    from . import cublaslt, cuda_device
    from .cuda_backend import CudaBackend

    found = CudaBackend(cuda_device.found(index))
    found.multiply_by(cublaslt.found)
    return found


BACKEND: Backend = backend(0)
