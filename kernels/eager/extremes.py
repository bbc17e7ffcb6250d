"""The largest and the smallest of an array's floats, as functions of words.

By the loops of tables.py, and in the pieces that those take long rows in.
"""

from __future__ import annotations

from ..tables import PIECES
from .arrays import counted, in_order, left, new
from .calls import KNOWN, slow
from .layout import BYTES, DATA, DTYPE
from .references import FLOAT64, NONE, fresh, item, opened, size_of, taken
from .wholes import HOST, is_float, plain
from .words import c

ENTRIES = ("extreme",)

# Of what the function is given as its self: that no axes stay, and what the backend tells.
STAY, TOLD = 3, 4
# What that tells of float32, and then of float64: where the code is for a row, and for a long one
# in pieces; where the counts are of calls that one thread is left alone with; and how many elements
# a long row has at least.
ROW, BY_PIECES, FREE, LONG, EACH = 0, 8, 16, 24, 32
# How often a number is halved for its part in each piece; they are a power of two.
HALVES = PIECES.bit_length() - 1


def in_pieces(code: int, source: int, size: int, itemsize: int, target: int) -> int:
    """Put the extreme of a long row into a place, by way of those of its pieces."""
    each = size >> HALVES
    found = c.room(32)
    whole = each * PIECES
    i = 0
    while i < size - whole:
        if itemsize == 4:
            c.store_half(found, 4 * (PIECES + i), c.half(source, 4 * (whole + i)))
        else:
            c.store(found, 8 * (PIECES + i), c.load(source, 8 * (whole + i)))
        i = i + 1
    c.run(code, source, PIECES, each, found, 1, PIECES + size - whole, target, 1)
    return 0


def extreme(state: int, given: int, count: int, names: int) -> int:
    """The extreme of all of an array: of that, the axes, and whether they are kept."""
    k = item(state, KNOWN)
    if count != 3 or names != 0 or opened(k) != 0 or c.load(given, 8) != item(k, NONE):
        return slow(state, given, count, names)
    x = plain(k, state, c.load(given, 0))
    if x == 0 or c.load(given, 16) != item(state, STAY) or is_float(k, x) == 0:
        return slow(state, given, count, names)
    size = size_of(x)
    told = item(state, TOLD) + BYTES
    itemsize = 4
    if c.load(x, DTYPE) == item(k, FLOAT64):
        told = told + EACH
        itemsize = 8
    if size == 0 or in_order(x) == 0:
        return slow(state, given, count, names)
    long = size >= c.load(told, LONG)
    if long != 0 and left(c.load(told, FREE), size) == 0:
        return slow(state, given, count, names)
    c.Py_IncRef(x)
    y = new(k, c.load(x, DTYPE), 0, 0)
    found = 0
    if y != 0:
        source = c.load(x, DATA)
        target = c.load(y, DATA)
        if long == 0:
            c.run(c.load(told, ROW), source, 1, size, target, 1)
        else:
            counted(c.load(told, FREE), size)
            thread = c.PyEval_SaveThread()
            in_pieces(c.load(told, BY_PIECES), source, size, itemsize, target)
            c.PyEval_RestoreThread(thread)
        found = fresh(k, y, item(state, HOST), taken(item(k, NONE)))
    c.Py_DecRef(x)
    return found
