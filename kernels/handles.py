"""Arrays as machine code finds them: by the object, where its memory is as NumPy's C API says."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from gradnet.numpy_calls import DATA as DATA
from gradnet.numpy_calls import address, told

# Where an array object has the address of its lengths; that of its elements is before it.
LENGTHS = DATA + 16


def _direct() -> bool:
    """Whether array objects are as NumPy's C API says.

    Reading them there takes a nanosecond, and asking the object a microsecond.
    """
    if address is told:
        return False
    for x in (np.zeros(3), np.zeros((2, 2), np.float32)[1:], np.zeros(())):
        place = ctypes.c_size_t.from_address(id(x) + LENGTHS).value
        if x.ndim and tuple((ctypes.c_ssize_t * x.ndim).from_address(place)) != x.shape:
            return False
    return True


DIRECT = _direct()
# What goes into a slot for an array.
handle: Callable[[Any], int] = id if DIRECT else told
