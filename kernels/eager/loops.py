"""The loops within NumPy's ufuncs, for machine code to call over elements that lie side by side.

A ufunc takes 600 nanoseconds to look at ten numbers, and its loop 20 to compute with them.
"""

from __future__ import annotations

import ctypes
import struct

import numpy as np

from gradnet.dtypes import DType, bool_

from .. import numpy_loops
from ..operands import FLOATS

# Of a block that tells of a loop: its code and what that is given with the rest, the bytes of an
# element that it takes and of one that it gives, those dtypes, whether it takes numbers, and where
# the counts are of calls on many elements that it is left alone with.
CODE, DATA_OF, TAKES, GIVES, TAKEN, GIVEN_BACK, NUMBERS, FREE = range(0, 64, 8)

_SAMPLE = 37


def block(ufunc: np.ufunc, given: DType, dtype: DType, *, numbers: bool) -> bytes | None:
    """What tells of the loop for operands and a result of dtypes, None where it is not to be seen.

    `numbers` says whether it may take one in the place of an array.
    """
    if given not in FLOATS or dtype not in (given, bool_) or ufunc.nin > 2 or ufunc.nout != 1:
        return None
    found = numpy_loops.loop(ufunc, f"{given.char * ufunc.nin}->{dtype.char}")
    if found is None or not _gives_the_same(ufunc, *found, given, dtype):
        return None
    sizes = given.itemsize, dtype.itemsize
    free = numpy_loops.habits(ufunc, given, dtype).free.ctypes.data
    return struct.pack("8q", *found, *sizes, id(given), id(dtype), numbers, free)


def _gives_the_same(ufunc: np.ufunc, code: int, data: int, given: DType, dtype: DType) -> bool:
    """Whether a loop gives the bits that the ufunc does."""
    generator = np.random.default_rng(0)
    xs = [generator.normal(size=_SAMPLE).astype(given) for _ in range(ufunc.nin)]
    with np.errstate(all="ignore"):
        expected = ufunc(*xs)
    found = np.zeros(_SAMPLE, dtype)
    arrays = [*xs, found]
    places = (ctypes.c_void_p * 3)(*[x.ctypes.data for x in arrays])
    steps = (ctypes.c_ssize_t * 3)(*[x.itemsize for x in arrays])
    loop = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)(code)
    loop(places, ctypes.byref(ctypes.c_ssize_t(_SAMPLE)), steps, data)
    return bool(expected.dtype is dtype and expected.tobytes() == found.tobytes())
