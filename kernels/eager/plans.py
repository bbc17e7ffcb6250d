"""Functions of words that run a formula on arrays: by the loop within a ufunc, that, or Python."""

from __future__ import annotations

from gradnet.numpy_calls import FEW

from .arrays import by_loop
from .layout import DTYPE
from .references import (
    AS_ARRAY,
    FLOAT32,
    FLOAT64,
    GIVEN,
    NDARRAY,
    NONE,
    QUIET,
    RUN,
    TRUE,
    WITHIN,
    call_with_two,
    item,
    kind,
    listed,
    same_shape,
    size_of,
)
from .words import c


def plan_of(k: int, plans: int, array: int) -> int:
    """The plan for the dtype of an array, borrowed; 0 where there is none."""
    dtype = c.load(array, DTYPE)
    plan = 0
    if dtype == item(k, FLOAT32):
        plan = listed(plans, 0)
    elif dtype == item(k, FLOAT64):
        plan = listed(plans, 1)
    if plan == item(k, NONE):
        return 0
    return plan


def called(k: int, plan: int, given: int, count: int, within: int) -> int:
    """A plan's function on operands: by what is within it, if that may be called."""
    ufunc = listed(item(plan, WITHIN), 0)
    if within == 0 or ufunc == item(k, NONE):
        return c.PyObject_Vectorcall(item(plan, RUN), given, count, 0)
    if c.PyContext_Enter(item(k, QUIET)) != 0:
        # It is in use, by a thread that waits within NumPy.
        c.PyErr_Clear()
        return c.PyObject_Vectorcall(item(plan, RUN), given, count, 0)
    y = c.PyObject_Vectorcall(ufunc, given, count, 0)
    if c.PyContext_Exit(item(k, QUIET)) != 0:
        c.Py_DecRef(y)
        return 0
    if y != 0 and kind(y) != item(k, NDARRAY):
        # A number, which NumPy gives for arrays without axes.
        array = call_with_two(item(k, AS_ARRAY), y, item(plan, GIVEN))
        c.Py_DecRef(y)
        return array
    return y


def small(k: int, which: int, x: int) -> int:
    """Whether an array has few elements, or a function takes any; numbers always do."""
    if which != item(k, TRUE) and which != item(k, NONE):
        return 1
    if kind(x) != item(k, NDARRAY):
        return 1
    return size_of(x) <= FEW


def call_one(k: int, plan: int, x: int) -> int:
    """A plan's function on an array."""
    y = by_loop(k, plan, x, 0)
    if y != 0 or c.PyErr_Occurred() != 0:
        return y
    given = c.room(1)
    c.store(given, 0, x)
    return called(k, plan, given, 1, small(k, listed(item(plan, WITHIN), 1), x))


def alike(k: int, x: int, y: int) -> int:
    """Whether both are arrays of one dtype and shape, with few elements."""
    ndarray = item(k, NDARRAY)
    if kind(x) != ndarray or kind(y) != ndarray or c.load(x, DTYPE) != c.load(y, DTYPE):
        return 0
    if same_shape(x, y) == 0:
        return 0
    return size_of(x) <= FEW


def call_two(k: int, plan: int, x: int, y: int) -> int:
    """A plan's function on two arrays, or on an array and a number."""
    z = by_loop(k, plan, x, y)
    if z != 0 or c.PyErr_Occurred() != 0:
        return z
    given = c.room(2)
    c.store(given, 0, x)
    c.store(given, 8, y)
    which = listed(item(plan, WITHIN), 1)
    within = small(k, which, x) * small(k, which, y)
    if which == item(k, TRUE):
        within = alike(k, x, y)
    return called(k, plan, given, 2, within)
