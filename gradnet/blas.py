"""How many threads the BLAS under NumPy takes for a matrix product.

OpenBLAS wakes all its threads from some 260,000 multiply-adds on, about 10 microseconds of one
core's work. That gains little, and loses a hundredfold where another program holds a core: each
product then waits for it. So smaller products stay on the calling thread, by a rule that knows the
shapes alone, for the bits of a result may depend on the number of threads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

# Multiply-adds of a product that is worth more threads: some 150 microseconds of one core's work.
SHARED = 1 << 23

# OpenBLAS as NumPy's wheels carry it, with 64-bit or 32-bit integers, and as systems install it.
_SYMBOLS = tuple(
    f"{prefix}openblas_{{}}_num_threads{end}" for prefix in ("scipy_", "") for end in ("64_", "")
)


def _libraries() -> list[Path]:
    """Shared libraries that NumPy's wheel brings along."""
    package = Path(np.__file__).parent
    folders = (package.parent / "numpy.libs", package / ".dylibs")
    return [path for folder in folders if folder.is_dir() for path in folder.glob("*openblas*")]


class _Threads:
    """The number of threads of one OpenBLAS, which this process may set."""

    def __init__(self, get: Callable[[], int], put: Callable[[int], None]) -> None:
        self.get = get
        self.put = put
        self.limit = get()  # what the user, or the environment, allows
        self.current = self.limit

    def set(self, alone: bool) -> None:
        """One thread, or all that are allowed."""
        wanted = 1 if alone else self.limit
        if wanted != self.current:
            found = self.get()
            if found != self.current:
                # Somebody else has set the number since: that is the new limit.
                self.limit = found
                wanted = 1 if alone else found
            if wanted != found:
                self.put(wanted)
            self.current = wanted


@cache
def _threads() -> _Threads | None:
    """The OpenBLAS that NumPy uses; None where it uses another BLAS."""
    for path in _libraries():
        try:
            library = ctypes.PyDLL(str(path))
        except OSError:
            continue
        for symbol in _SYMBOLS:
            get = getattr(library, symbol.format("get"), None)
            put = getattr(library, symbol.format("set"), None)
            if get is not None and put is not None:
                put.argtypes, put.restype = [ctypes.c_int], None
                return _Threads(get, put)
    return None


def prepare(multiply_adds: int) -> None:
    """Choose the threads for a product of that many multiply-adds."""
    threads = _threads()
    if threads is not None:
        threads.set(multiply_adds < SHARED)


@cache
def address(function: str) -> int | None:
    """Where a function of NumPy's BLAS is, such as "cblas_sgemm", if its integers have 64 bits."""
    for path in _libraries():
        try:
            library = ctypes.PyDLL(str(path))
        except OSError:
            continue
        for prefix in ("scipy_", ""):
            found = getattr(library, f"{prefix}{function}64_", None)
            if found is not None:
                return ctypes.cast(found, ctypes.c_void_p).value
    return None


def alone() -> None:
    """Have every product that follows run on the thread that asks for it."""
    threads = _threads()
    if threads is not None:
        threads.set(True)
