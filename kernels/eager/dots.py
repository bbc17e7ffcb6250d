"""Products of long vectors as functions of words, in the pieces that tables.py takes them in."""

from __future__ import annotations

from ..tables import PIECES
from .arrays import counted, in_order, left, new
from .extremes import HALVES
from .layout import BYTES, DATA, DTYPE, NDIM
from .references import FLOAT64, HOME, item, same_shape, size_of
from .sums import LONG_PRODUCTS
from .words import c

# What is told of float32, and then of float64: where the code is, where the counts are of calls
# that one thread is left alone with, and how many elements a long vector has at least.
OF_PIECES, ALONE_WITH, AT_LEAST, EACH_TOLD = 0, 8, 16, 24


def long_product(k: int, x: int, y: int) -> int:
    """The product of two arrays of floats that are vectors of many elements in whole pieces.

    0, also without an exception, where they are not, or Python is to see whether threads share it.
    """
    if c.half(x, NDIM) != 1 or c.half(y, NDIM) != 1 or c.load(x, DTYPE) != c.load(y, DTYPE):
        return 0
    place = item(item(k, HOME), LONG_PRODUCTS) + BYTES
    if c.load(x, DTYPE) == item(k, FLOAT64):
        place = place + EACH_TOLD
    size = size_of(x)
    if size < c.load(place, AT_LEAST) or (size & (PIECES - 1)) != 0:
        return 0
    free = c.load(place, ALONE_WITH)
    if same_shape(x, y) == 0 or in_order(x) == 0 or in_order(y) == 0 or left(free, size) == 0:
        return 0
    z = new(k, c.load(x, DTYPE), 0, 0)
    if z == 0:
        return 0
    counted(free, size)
    found = c.room(16)
    each = size >> HALVES
    first = c.load(x, DATA)
    second = c.load(y, DATA)
    code = c.load(place, OF_PIECES)
    target = c.load(z, DATA)
    n = PIECES
    thread = c.PyEval_SaveThread()
    c.run(code, first, n, each, second, n, each, found, n, target, 1)
    c.PyEval_RestoreThread(thread)
    return z
