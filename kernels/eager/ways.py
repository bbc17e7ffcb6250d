"""How our own products go, for machine code, which looks them up by sizes and strides."""

from __future__ import annotations

import ctypes
import struct
from itertools import product

import numpy as np

from gradnet.dtypes import DType, float32, float64

from .. import numpy_loops
from ..gemm import choice, driver
from ..gemm.arrays import Way

# How many are kept, and of each what is where, in bytes: the sizes and strides that it is for, the
# code (0 where there is none), the scratch that this needs, and what it is told.
PLACES = 256
KEY, CODE, SCRATCH, WORDS = 0, 64, 72, 80

# What the loop within NumPy's `matmul` is tried on: n, k and m.
_SIZES = ((3, 40, 5), (5, 40, 3), (1, 40, 9), (9, 40, 1), (2, 1, 3), (1, 40, 1))
# Bytes of scratch that are had from the system in no time.
_MOST = 1 << 17


class Ways(list[bytes | None]):
    """The ways that were asked for last, by a place that their sizes and strides make."""

    def __init__(self) -> None:
        super().__init__([None] * PLACES)

    def look(
        self, n: int, k: int, m: int, ra: int, ca: int, rb: int, cb: int, size: int, place: int
    ) -> bytes:
        """The way of `(n, k) @ (k, m)`, by rows and columns so many bytes apart."""
        key = struct.pack("8q", n, k, m, ra, ca, rb, cb, size)
        found = self[place] = key + _told(n, k, m, (ra, ca), (rb, cb), size)
        return found


def _told(n: int, k: int, m: int, a: choice.Strides, b: choice.Strides, size: int) -> bytes:
    dtype = float32 if size == 4 else float64
    parts = [choice.operand((n, k), a, size), choice.operand((k, m), b, size)]
    operands = [x for x in parts if x is not None]
    if len(operands) == 2:
        way = Way(dtype, (n, m), k, operands, 1)
        if way.scratch <= _MOST:
            words = ctypes.string_at(way.words, 8 * len(driver.STACK))
            return struct.pack("2q", way.made.places, way.scratch) + words
    return struct.pack("2q", 0, 0)


def numpys(dtype: DType) -> bytes | None:
    """The loop within NumPy's `matmul`, as its code and what that is given with the rest.

    None where it is not to be seen, or gives other bits than NumPy does.
    """
    found = numpy_loops.loop(np.matmul, f"{dtype.char * 2}->{dtype.char}")
    if found is None:
        return None
    generator = np.random.default_rng(0)
    for (n, k, m), left, right in product(_SIZES, (False, True), (False, True)):
        x, y = (generator.normal(size=size).astype(dtype) for size in ((n, k), (k, m)))
        a, b = (np.asfortranarray(z) if turn else z for z, turn in ((x, left), (y, right)))
        c = np.zeros((n, m), dtype)
        places = (ctypes.c_void_p * 3)(*[x.ctypes.data for x in (a, b, c)])
        steps = (ctypes.c_ssize_t * 9)(0, 0, 0, *a.strides, *b.strides, *c.strides)
        lengths = (ctypes.c_ssize_t * 4)(1, n, k, m)
        ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)(found[0])(places, lengths, steps, found[1])
        if c.tobytes() != np.matmul(a, b).tobytes():
            return None
    return struct.pack("2q", *found)
