"""Data that is no Tensor yet: the dtype it brings along, and what a Tensor could not hold of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradnet import dtypes
from gradnet.dtypes import DType
from gradnet.errors import DTypeError
from gradnet.ops.shape import is_sequence


def unmasked(x: Any) -> Any:
    """The data. Raises DTypeError where it is, or lists, a NumPy array with masked elements."""
    if isinstance(x, list | tuple):
        # NumPy would take what is below the masks.
        for part in x:
            if not isinstance(part, int | float):
                unmasked(part)
    elif isinstance(x, np.ndarray) and type(x) is not np.ndarray:
        hidden = int(np.count_nonzero(getattr(x, "mask", False)))
        if hidden:
            raise DTypeError(
                f"asarray got a masked array, {hidden} of whose {x.size} elements are masked, and "
                "a tensor has no mask; give x.filled(value), with NaN for missing values, or use "
                "marray's masked arrays of tensors"
            )
    return x


def natural_dtype(x: Any, host: np.ndarray[Any, Any]) -> DType:
    """The dtype that data brings along: arrays their own, Python numbers the defaults."""
    if host.dtype.kind in "OUSMm":
        raise DTypeError(
            f"asarray got {type(x).__name__} with elements of dtype {host.dtype}; expected numbers "
            "or booleans (encode text and dates as numbers first)"
        )
    if isinstance(x, np.ndarray | np.generic) or hasattr(x, "__array__") or _is_buffer(x):
        return dtypes.canonical(host.dtype)
    if host.dtype.kind == "f":
        return dtypes.DEFAULT_FLOAT
    if host.dtype.kind == "c":
        return dtypes.DEFAULT_COMPLEX
    if host.size == 0 and is_sequence(x):
        return dtypes.DEFAULT_FLOAT
    return dtypes.canonical(host.dtype)


def whole(x: Any, host: np.ndarray[Any, Any], wanted: DType) -> np.ndarray[Any, Any]:
    """Python's integers exactly, where NumPy takes floats for some: [2**63, 1]."""
    try:
        return np.asarray(x, wanted) if isinstance(x, list | tuple) else host
    except (OverflowError, ValueError):
        return host


def _is_buffer(x: Any) -> bool:
    """Whether data is memory of Python's buffer protocol, which has a dtype."""
    try:
        memoryview(x).release()
    except TypeError:
        return False
    return True
