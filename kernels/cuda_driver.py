"""What must be there for the CUDA backend: CuPy, a driver, a device; one clear line where not.

Importing this loads nothing else: a machine without a GPU is told so at once.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
from typing import Any

from gradnet.errors import DeviceError

INSTALL = 'run pip install ".[cuda13]" in the checkout of gradnet'


def line_of(error: Exception, number: int = 0) -> str:
    """The first line of what an error says, or another one; lines without a word do not count."""
    lines = [line.strip() for line in str(error).splitlines() if re.search(r"\w", line)]
    return lines[number] if lines else repr(error)


def cupy_packages() -> list[str]:
    """The installed distributions that bring a `cupy` module, with their versions."""
    found = importlib.metadata.packages_distributions().get("cupy", [])
    return [f"{name} {importlib.metadata.version(name)}" for name in sorted(set(found))]


def load_cupy() -> Any:
    """The module `cupy`, where it can be used at all.

    Raises DeviceError where it is missing, is there twice, or does not fit this machine.
    """
    if importlib.util.find_spec("cupy") is None:
        raise DeviceError(
            f"CuPy is not installed; {INSTALL} (or [cuda12] for a driver older than 580)"
        )
    packages = cupy_packages()
    if len(packages) > 1:
        raise DeviceError(
            f"several CuPy packages share one folder ({', '.join(packages)}); run pip uninstall "
            f"{' '.join(name.partition(' ')[0] for name in packages)}, then install one of them"
        )
    try:
        import cupy
    except ImportError as error:
        raise DeviceError(
            f"CuPy ({', '.join(packages) or 'unknown version'}) cannot be imported: "
            f"{line_of(error, -1)}; {INSTALL}, or [cuda12]: the one for this machine's CUDA version"
        ) from error
    return cupy


def check(cupy: Any, index: int) -> None:
    """Raise DeviceError where there is no driver, no device, or none of that index."""
    runtime = cupy.cuda.runtime
    try:
        driver = runtime.driverGetVersion()
        if driver == 0:
            raise DeviceError(
                "there is no NVIDIA driver on this machine; install it, or use device='cpu'"
            )
        built = runtime.runtimeGetVersion()
        if built // 1000 > driver // 1000:
            here = " ".join(name.partition(" ")[0] for name in cupy_packages()) or "this CuPy"
            raise DeviceError(
                f"CuPy is for CUDA {_version(built)}, and the driver supports CUDA "
                f"{_version(driver)} at most; replace {here} by cupy-cuda{driver // 1000}x, or "
                "install a newer driver"
            )
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        if "cudaErrorNoDevice" in str(error):
            raise _no_device() from error
        raise DeviceError(
            f"the CUDA driver does not answer ({error}); check that nvidia-smi lists a GPU, and "
            "CUDA_VISIBLE_DEVICES"
        ) from error
    if count == 0:
        raise _no_device()
    if not 0 <= index < count:
        there = "cuda:0 alone" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise DeviceError(f"there is no device cuda:{index}; this machine has {there}")


def _no_device() -> DeviceError:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    among = "" if visible is None else f" among CUDA_VISIBLE_DEVICES={visible!r}"
    return DeviceError(
        f"there is no CUDA device{among}; check that nvidia-smi lists a GPU, and "
        "CUDA_VISIBLE_DEVICES"
    )


def _version(number: int) -> str:
    """12040 as "12.4"."""
    return f"{number // 1000}.{number % 1000 // 10}"


def usable(index: int) -> Any:
    """The module `cupy`, where the device of that index can be used. Raises DeviceError."""
    cupy = load_cupy()
    check(cupy, index)
    return cupy
