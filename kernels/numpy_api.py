"""NumPy's C API: where its functions are, by their places in its tables."""

from __future__ import annotations

import ctypes
from importlib import import_module
from typing import Any

import numpy as np

_numpy: Any = import_module("numpy._core._multiarray_umath")
# Where the table of arrays has their class.
_CLASS = 2


def address(table: str, place: int) -> int:
    """Where a function is that the table "array" or "ufunc" has at a place."""
    pointer: Any = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    capsule = _numpy._ARRAY_API if table == "array" else _numpy._UFUNC_API
    entries: Any = (ctypes.c_void_p * (place + 1)).from_address(pointer(capsule, None))
    return int(entries[place])


def known() -> bool:
    """Whether the table of arrays is as NumPy's C API says."""
    return hasattr(_numpy, "_ARRAY_API") and address("array", _CLASS) == id(np.ndarray)
