"""Functions on whole arrays as functions of words: those of `Whole` in ops/direct.py.

Each calls one function of NumPy's on the arrays of Tensors that nobody differentiates, in no mode
and on one backend, and makes a Tensor of what that gives: as the backend and the function in Python
do for few elements. Anything else goes to the function in Python, as it came.
"""

from __future__ import annotations

from gradnet.numpy_calls import FEW

from .arrays import counted, in_order, left
from .calls import KNOWN, slow
from .layout import (
    BACKEND,
    BYTES,
    COUNT,
    DTYPE,
    EDGE,
    ITEMS,
    NDIM,
    TANGENTS,
)
from .references import (
    FLOAT32,
    FLOAT64,
    LAST,
    LIST,
    NDARRAY,
    NONE,
    QUIET,
    TRUE,
    TUPLE,
    ZERO,
    among,
    array_of,
    call_with_two,
    fresh,
    is_tensor,
    item,
    kind,
    opened,
    same_shape,
    size_of,
    taken,
)
from .words import c

ENTRIES = ("choose", "find", "order", "convert", "join")

# Of what a function is given as its self, after KNOWN and SLOW: the backend, NumPy's function, and
# what else it needs, in the order of the function's own names.
HOST, FUNCTION, FIRST, SECOND, THIRD = range(2, 7)


def plain(k: int, state: int, x: int) -> int:
    """The array of a Tensor that nobody differentiates, borrowed; 0 for what is none."""
    none = item(k, NONE)
    if is_tensor(k, x) == 0 or c.load(x, BACKEND) != item(state, HOST):
        return 0
    if c.load(x, EDGE) != none or c.load(x, TANGENTS) != none:
        return 0
    return array_of(k, x)


def is_float(k: int, x: int) -> int:
    """Whether an array is one of float32 or float64."""
    dtype = c.load(x, DTYPE)
    if dtype == item(k, FLOAT32) or dtype == item(k, FLOAT64):
        return 1
    return 0


def call_with_one(function: int, a: int) -> int:
    given = c.room(1)
    c.store(given, 0, a)
    return c.PyObject_Vectorcall(function, given, 1, 0)


def made(k: int, state: int, y: int) -> int:
    """The Tensor of what NumPy gave, which is taken over: an array, or a number for one without
    axes, which the first of a function's own makes an array of.
    """
    if y != 0 and kind(y) != item(k, NDARRAY):
        number = y
        y = call_with_one(item(state, FIRST), number)
        c.Py_DecRef(number)
    return fresh(k, y, item(state, HOST), taken(item(k, NONE)))


def choose(state: int, given: int, count: int, names: int) -> int:
    """Values of one array or another, by an array of the dtype FIRST."""
    k = item(state, KNOWN)
    if count != 3 or names != 0 or opened(k) != 0:
        return slow(state, given, count, names)
    condition = plain(k, state, c.load(given, 0))
    x = plain(k, state, c.load(given, 8))
    y = plain(k, state, c.load(given, 16))
    if condition == 0 or x == 0 or y == 0 or is_float(k, x) == 0:
        return slow(state, given, count, names)
    if c.load(condition, DTYPE) != item(state, FIRST) or c.load(x, DTYPE) != c.load(y, DTYPE):
        return slow(state, given, count, names)
    if same_shape(condition, x) == 0 or same_shape(x, y) == 0 or size_of(x) > FEW:
        return slow(state, given, count, names)
    arrays = c.room(3)
    c.store(arrays, 0, taken(condition))
    c.store(arrays, 8, taken(x))
    c.store(arrays, 16, taken(y))
    found = made(k, state, c.PyObject_Vectorcall(item(state, FUNCTION), arrays, 3, 0))
    c.Py_DecRef(condition)
    c.Py_DecRef(x)
    c.Py_DecRef(y)
    return found


def within(k: int, function: int, given: int, count: int) -> int:
    """What a function of NumPy's gives where it gives no warnings; 0 without an exception where a
    thread that waits within NumPy is there.
    """
    if c.PyContext_Enter(item(k, QUIET)) != 0:
        c.PyErr_Clear()
        return 0
    y = c.PyObject_Vectorcall(function, given, count, 0)
    if c.PyContext_Exit(item(k, QUIET)) != 0:
        c.Py_DecRef(y)
        return 0
    return y


def alone(k: int, told: int, x: int) -> int:
    """Whether an array has few elements, or one thread is left alone with as many.

    Bytes tell where the counts are of calls of which that is so, for float32 and for float64.
    """
    size = size_of(x)
    if size <= FEW:
        return 1
    place = told + BYTES
    if c.load(x, DTYPE) == item(k, FLOAT64):
        place = place + 8
    free = c.load(place, 0)
    if in_order(x) == 0 or left(free, size) == 0:
        return 0
    counted(free, size)
    return 1


def find(state: int, given: int, count: int, names: int) -> int:
    """The place of a value of a vector: of an array, an axis, and whether that is kept.

    THIRD is what `alone` is told.
    """
    k = item(state, KNOWN)
    if count != 3 or names != 0 or opened(k) != 0 or c.load(given, 8) != item(k, NONE):
        return slow(state, given, count, names)
    x = plain(k, state, c.load(given, 0))
    if x == 0 or c.load(given, 16) != item(state, SECOND) or is_float(k, x) == 0:
        return slow(state, given, count, names)
    size = size_of(x)
    if c.half(x, NDIM) != 1 or size == 0:
        return slow(state, given, count, names)
    if alone(k, item(state, THIRD), x) == 0:
        return slow(state, given, count, names)
    c.Py_IncRef(x)
    found = made(k, state, call_with_one(item(state, FUNCTION), x))
    c.Py_DecRef(x)
    return found


def order(state: int, given: int, count: int, names: int) -> int:
    """The values in order along the last axis: of an array, an axis, and whether they go down.

    FIRST is a function that copies an array, THIRD the name of what the sort is told to be.
    """
    k = item(state, KNOWN)
    if count != 3 or names != 0 or opened(k) != 0 or c.load(given, 8) != item(k, LAST):
        return slow(state, given, count, names)
    x = plain(k, state, c.load(given, 0))
    if x == 0 or c.load(given, 16) != item(state, SECOND) or is_float(k, x) == 0:
        return slow(state, given, count, names)
    if c.half(x, NDIM) == 0:
        return slow(state, given, count, names)
    c.Py_IncRef(x)
    y = call_with_one(item(state, FIRST), x)
    c.Py_DecRef(x)
    if y == 0:
        return 0
    told = c.room(3)
    c.store(told, 0, y)
    c.store(told, 8, item(k, LAST))
    c.store(told, 16, item(k, TRUE))
    done = c.PyObject_Vectorcall(item(state, FUNCTION), told, 2, item(state, THIRD))
    c.Py_DecRef(done)
    if done == 0:
        c.Py_DecRef(y)
        return 0
    return made(k, state, y)


def convert(state: int, given: int, count: int, names: int) -> int:
    """An array of floats as another dtype: of an array, a dtype, whether it is to be another array
    in any case, and a device. SECOND is the order of the elements; THIRD is as in `find`.
    """
    k = item(state, KNOWN)
    if count != 4 or names != 0 or opened(k) != 0 or c.load(given, 24) != item(k, NONE):
        return slow(state, given, count, names)
    x = plain(k, state, c.load(given, 0))
    dtype = c.load(given, 8)
    if x == 0 or c.load(given, 16) != item(k, TRUE) or is_float(k, x) == 0:
        return slow(state, given, count, names)
    if dtype != item(k, FLOAT32) and dtype != item(k, FLOAT64):
        return slow(state, given, count, names)
    if alone(k, item(state, THIRD), x) == 0:
        return slow(state, given, count, names)
    told = c.room(3)
    c.store(told, 0, taken(x))
    c.store(told, 8, dtype)
    c.store(told, 16, item(state, SECOND))
    found = within(k, item(state, FUNCTION), told, 3)
    c.Py_DecRef(x)
    if found == 0 and c.PyErr_Occurred() == 0:
        return slow(state, given, count, names)
    return made(k, state, found)


def arrays_of(k: int, state: int, several: int, count: int, row: int) -> int:
    """Put the arrays of so many Tensors into a tuple. Whether they are alike, and have an axis."""
    i = 0
    while i < count:
        x = plain(k, state, among(k, several, i))
        if x == 0:
            return 0
        c.store(row, ITEMS + 8 * i, taken(x))
        first = item(row, 0)
        if c.load(x, DTYPE) != c.load(first, DTYPE) or same_shape(x, first) == 0:
            return 0
        if c.half(x, NDIM) == 0:
            return 0
        i = i + 1
    return 1


def join(state: int, given: int, count: int, names: int) -> int:
    """Arrays one after the other: of a list or a tuple of them, and the first axis.

    SECOND is what `alone` is told.
    """
    k = item(state, KNOWN)
    if count != 2 or names != 0 or opened(k) != 0 or c.load(given, 8) != item(k, ZERO):
        return slow(state, given, count, names)
    several = c.load(given, 0)
    if kind(several) != item(k, LIST) and kind(several) != item(k, TUPLE):
        return slow(state, given, count, names)
    size = c.load(several, COUNT)
    row = c.PyTuple_New(size)
    if row == 0:
        return 0
    # As many as before? Where Python made room for the tuple, it may have run anything.
    alike = 0
    if size > 0 and c.load(several, COUNT) == size:
        alike = arrays_of(k, state, several, size, row)
    if alike and is_float(k, item(row, 0)):
        alike = alone(k, item(state, SECOND), item(row, 0))
    if alike:
        y = made(k, state, call_with_two(item(state, FUNCTION), row, item(k, ZERO)))
    else:
        y = slow(state, given, count, names)
    c.Py_DecRef(row)
    return y
