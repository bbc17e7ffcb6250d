"""The Backend protocol, and the registry through which its implementations are found.

A backend is a small set of array primitives. Everything above this file (Tensors, layers, losses,
optimizers) is written once against the protocol and never asks which backend it runs on. A
backend's arrays are opaque to the rest: only `shape` and `dtype` are read from them.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from gradnet.errors import DeviceError
from gradnet.protocol import Array as Array
from gradnet.protocol import Backend as Backend
from gradnet.protocol import Formula as Formula
from gradnet.protocol import Index as Index
from gradnet.protocol import Layer as Layer
from gradnet.protocol import Replay as Replay
from gradnet.protocol import Scalar as Scalar
from gradnet.protocol import Shape as Shape

_MODULES = {
    "numpy": "gradnet.numpy_backend",
    "numba": "gradnet.kernels.numba_cpu",
    "cuda": "gradnet.kernels.cuda",
}
_PACKAGES = {
    "numpy": ("numpy",),
    "numba": ("numpy", "numba", "llvmlite"),
    "cuda": ("cupy-cuda13x", "cupy-cuda12x", "numba-cuda", "nvmath-python"),
}
_REMEDIES = {"numba": "pip install numba", "cuda": "use the CPU: it is the default"}
_loaded: dict[tuple[str, int], Backend] = {}
_lock = threading.RLock()


class _Chosen(threading.local):
    """The backend that this thread's `use` has chosen, if any."""

    backend: Backend | None = None


_chosen = _Chosen()


def register(name: str, module: str) -> None:
    """Make the module of that import path, which ends with `BACKEND`, known as a backend."""
    with _lock:
        _MODULES[name] = module
        for key in [key for key in _loaded if key[0] == name]:
            del _loaded[key]


def names() -> tuple[str, ...]:
    """The names of all registered backends, present on this machine or not."""
    return tuple(_MODULES)


def get(name: str, index: int = 0) -> Backend:
    """The backend of that name ("numpy", "numba", "cuda"), on the device of that index.

    Raises DeviceError where the name is unknown or the backend cannot run here, with the reason.
    """
    key = (name, index)
    found = _loaded.get(key)
    if found is not None:
        return found
    if name not in _MODULES:
        raise DeviceError(f"there is no backend {name!r}; there are {', '.join(_MODULES)}")
    with _lock:
        try:
            module = _module(_MODULES[name])
        except ImportError as error:
            absent = error.name == _MODULES[name]
            reason = "this version of gradnet does not have it yet" if absent else error
            raise DeviceError(f"the backend {name!r} cannot be loaded: {reason}") from error
        backend: Backend = module.BACKEND if index == 0 else module.backend(index)
        _loaded[key] = backend
    return backend


def _module(path: str) -> Any:
    """The module of that import path."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        # Run where a checkout lies, Python takes `gradnet` from there, whatever is installed.
        # The kernels stand beside it there, and not within.
        package = importlib.import_module("gradnet")
        root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        beside = os.path.isfile(os.path.join(root, "kernels", "numba_cpu.py"))
        if error.name != "gradnet.kernels" or not beside:
            raise
        package.__path__.append(root)
        try:
            importlib.import_module(error.name)
        finally:
            package.__path__.remove(root)
    return importlib.import_module(path)


def available() -> tuple[str, ...]:
    """The names of the backends that can be loaded on this machine."""
    return tuple(name for name in _MODULES if unavailable(name) is None)


def unavailable(name: str) -> str | None:
    """Why a backend cannot be used on this machine, or None where it can."""
    try:
        get(name)
    except DeviceError as error:
        return str(error)
    return None


class BackendInfo(NamedTuple):
    """What there is to know of a backend on this machine.

    `device` is empty where the backend cannot be used; `reason` says why, and `remedy` what to do.
    """

    name: str
    device: str
    versions: dict[str, str]
    reason: str
    remedy: str


def device_info() -> tuple[BackendInfo, ...]:
    """Every registered backend: its device, the versions it runs on, or why it cannot run here."""
    return tuple(_info(name) for name in _MODULES)


def _info(name: str) -> BackendInfo:
    import importlib.metadata as metadata

    versions = {}
    for package in _PACKAGES.get(name, ()):
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    # Errors of devices say what is wrong, and after a semicolon what to do.
    reason, _, remedy = (unavailable(name) or "").partition("; ")
    device = "" if reason else get(name).device
    remedy = remedy or _REMEDIES.get(name, "") if reason else ""
    return BackendInfo(name, device, versions, reason, remedy)


def default() -> Backend:
    """The backend for new tensors: the one in `use`, else GRADNET_BACKEND, else the CPU's."""
    if _chosen.backend is not None:
        return _chosen.backend
    name = os.environ.get("GRADNET_BACKEND", "")
    return get(name) if name else _cpu()


def _cpu() -> Backend:
    """The compiled backend for the CPU, or plain NumPy where Numba is missing."""
    found = _loaded.get(("numba", 0)) or _loaded.get(("cpu", 0))
    if found is not None:
        return found
    reason = unavailable("numba")
    if reason is None:
        return get("numba")
    import logging  # takes long to import, and here alone it has something to say

    log = logging.getLogger("gradnet")
    log.warning("%s; using the slower numpy backend (remedy: pip install numba)", reason)
    _loaded[("cpu", 0)] = get("numpy")
    return _loaded[("cpu", 0)]


def automatic() -> tuple[Backend, str]:
    """The backend for the device "auto", and why it is not a GPU's; empty where it is.

    What GRADNET_BACKEND or `use` names; else the first GPU where one works, and else the CPU.
    """
    if _chosen.backend is not None:
        return _chosen.backend, "this backend is in use"
    name = os.environ.get("GRADNET_BACKEND", "")
    if name:
        return get(name), f"GRADNET_BACKEND names {name!r}"
    try:
        return get("cuda"), ""
    except DeviceError as error:
        return _cpu(), str(error)


def for_device(device: str | None) -> Backend:
    """The backend of a device: "cpu", "cuda", "cuda:1", "auto", or None for the default.

    "auto" is a GPU where one works, and logs which device it is and why not a GPU. Raises
    DeviceError where there is no such device.
    """
    if device is None:
        return default()
    if device == "auto":
        chosen, reason = automatic()
        import logging

        why = f": {reason}" if reason else ""
        logging.getLogger("gradnet").info("device 'auto' is %s%s", chosen.device, why)
        return chosen
    if device == "cpu":
        chosen = default()
        return chosen if chosen.device == "cpu" else _cpu()
    kind, _, number = device.partition(":")
    if kind == "cuda" and (number.isdigit() or device == "cuda"):
        return get("cuda", int(number or 0))
    raise DeviceError(f"there is no device {device!r}; use 'cpu', 'cuda', 'cuda:N' or 'auto'")


@contextmanager
def use(backend: str | Backend) -> Iterator[Backend]:
    """Make a backend the default for new tensors in this thread, within a `with` block."""
    previous = _chosen.backend
    _chosen.backend = get(backend) if isinstance(backend, str) else backend
    try:
        yield _chosen.backend
    finally:
        _chosen.backend = previous
