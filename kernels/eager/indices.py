"""`Tensor.__getitem__` as a function of words: views, and copies by an array of integers.

As in wholes.py: of Tensors that nobody differentiates, in no mode and on one backend.
"""

from __future__ import annotations

from .calls import KNOWN, slow
from .layout import (
    ARRAY,
    BACKEND,
    BASE,
    COUNTER,
    DTYPE,
    EDGE,
    GRAD,
    GRAD_BUFFER,
    ITEMS,
    NDIM,
    ORIGIN,
    SEEN,
    START,
    TANGENTS,
)
from .references import (
    INT,
    NDARRAY,
    NONE,
    TENSOR,
    item,
    kind,
    listed,
    opened,
    pack_two,
    taken,
)
from .wholes import FIRST, SECOND, THIRD, made, plain
from .words import c

ENTRIES = ("pick",)


def is_bound(k: int, x: int) -> int:
    """Whether a bound of a slice is one of Python's integers, or none."""
    if kind(x) == item(k, INT) or x == item(k, NONE):
        return 1
    return 0


def is_basic(k: int, state: int, index: int) -> int:
    """Whether an index is one of Python's integers, or a slice of such (of the class FIRST)."""
    if kind(index) == item(k, INT):
        return 1
    if kind(index) != item(state, FIRST):
        return 0
    stop = is_bound(k, c.load(index, START + 8))
    return is_bound(k, c.load(index, START)) * stop * is_bound(k, c.load(index, START + 16))


def view_of(k: int, x: int, y: int, known: int) -> int:
    """The Tensor of a view, with what is known of its origin but when; both are taken over.

    `x` is the Tensor that it is a view of.
    """
    view = 0
    if y != 0 and known != 0:
        view = c.PyType_GenericAlloc(item(k, TENSOR), 0)
    if view == 0:
        c.Py_DecRef(y)
        c.Py_DecRef(known)
        return 0
    counter = taken(c.load(x, COUNTER))
    version = taken(listed(counter, 0))
    none = item(k, NONE)
    c.store(known, ITEMS + 16, taken(version))
    c.store(view, ARRAY, y)
    c.store(view, BACKEND, taken(c.load(x, BACKEND)))
    c.store(view, EDGE, taken(none))
    c.store(view, COUNTER, counter)
    c.store(view, SEEN, version)
    c.store(view, TANGENTS, taken(none))
    c.store(view, GRAD, taken(none))
    c.store(view, GRAD_BUFFER, taken(none))
    c.store(view, ORIGIN, known)
    return view


def pick_view(k: int, state: int, x: int, array: int, index: int) -> int:
    """A view of an array by a basic index; 0 where there is none. SECOND is `...`."""
    key = pack_two(taken(index), taken(item(state, SECOND)))
    y = 0
    if key != 0:
        y = c.PyObject_GetItem(array, key)
        c.Py_DecRef(key)
    if y == 0 or kind(y) != item(k, NDARRAY):
        c.Py_DecRef(y)
        return 0
    known = c.PyTuple_New(3)
    parsed = c.PyTuple_New(1)
    if known == 0 or parsed == 0:
        c.Py_DecRef(known)
        c.Py_DecRef(parsed)
        c.Py_DecRef(y)
        return 0
    c.store(parsed, ITEMS, taken(index))
    c.store(known, ITEMS, taken(array))
    c.store(known, ITEMS + 8, parsed)
    return view_of(k, x, y, known)


def pick_copy(k: int, state: int, array: int, places: int) -> int:
    """Elements of an array by an array of the dtype THIRD; 0 where that is no array of its own."""
    y = c.PyObject_GetItem(array, places)
    if y == 0 or kind(y) != item(k, NDARRAY) or c.load(y, BASE) != 0:
        c.Py_DecRef(y)
        return 0
    return made(k, state, y)


def pick(state: int, given: int, count: int, names: int) -> int:
    """A Tensor's elements by an integer, a slice, or a Tensor of integers."""
    k = item(state, KNOWN)
    if count != 2 or names != 0 or opened(k) != 0:
        return slow(state, given, count, names)
    x = c.load(given, 0)
    index = c.load(given, 8)
    array = plain(k, state, x)
    if array == 0 or c.half(array, NDIM) == 0:
        return slow(state, given, count, names)
    c.Py_IncRef(array)
    y = 0
    if is_basic(k, state, index):
        y = pick_view(k, state, x, array, index)
    else:
        places = plain(k, state, index)
        if places != 0 and c.load(places, DTYPE) == item(state, THIRD) and c.half(places, NDIM):
            c.Py_IncRef(places)
            y = pick_copy(k, state, array, places)
            c.Py_DecRef(places)
    c.Py_DecRef(array)
    if y != 0:
        return y
    # In Python, which says in its own words what is wrong.
    c.PyErr_Clear()
    return slow(state, given, count, names)
