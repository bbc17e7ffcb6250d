"""Derivatives of elementwise ops as functions of words: `pull` of ops/direct.py.

What has more operands beside the cotangent than one, or other arrays than NumPy's, is left to the
parts in Python, which each of them knows.
"""

from __future__ import annotations

from .layout import (
    COUNT,
    INPUTS,
    NODE_BACKEND,
    OUTPUTS,
    PARENTS,
)
from .plans import call_one, call_two, plan_of
from .references import (
    FLOAT,
    LAST,
    NONE,
    ONE,
    OWNER,
    SHAPE,
    SPEC,
    SUM_TO,
    TRUE,
    TUPLE,
    ZERO,
    array_of,
    call_with_two,
    has_shape,
    is_tensor,
    item,
    kind,
    listed,
    same_shape,
    taken,
)
from .sums import by_columns
from .words import c

ENTRIES = ("pulled",)

# Of what a derivative is given as its self; from PARTS on one for each operand: None for zero,
# True for one, or else a tuple.
KNOWN, SLOW, PARTS = range(3)
# Of that: the part in Python, plans of its formula, and what the formula takes beside the cotangent
# (nothing for None, an operand for 0 or 1, the output for -1, or a number).
IN_PYTHON, PLANS, BESIDE = range(3)


def pulled(state: int, given: int, count: int, names: int) -> int:
    """An op's `pull`, for who calls it in Python: as it is there."""
    return c.PyObject_Vectorcall(item(state, SLOW), given, count, names)


def output_of(k: int, node: int) -> int:
    """The array of a node's output, if it is as it was; else 0."""
    outputs = c.load(node, OUTPUTS)
    if kind(outputs) != item(k, TUPLE) or c.load(outputs, COUNT) != 1:
        return 0
    known = item(outputs, 0)
    if kind(known) != item(k, TUPLE) or c.load(known, COUNT) != 5:
        return 0
    if listed(item(known, 2), 0) != item(known, 3):
        return 0
    return taken(item(known, 0))


def beside(k: int, node: int, inputs: int, which: int) -> int:
    """What a formula takes beside the cotangent; 0 where Python is to find it."""
    if which == item(k, LAST):
        return output_of(k, node)
    place = 0
    if which == item(k, ONE):
        place = 1
    elif which != item(k, ZERO):
        return taken(which)
    x = item(inputs, place)
    if is_tensor(k, x):
        return taken(array_of(k, x))
    if kind(x) == item(k, FLOAT):
        return taken(x)
    return 0


def derivative(k: int, part: int, node: int, inputs: int, g: int) -> int:
    """The cotangent of an operand, of the result's shape."""
    if part == item(k, TRUE):
        return taken(g)
    plan = plan_of(k, item(part, PLANS), g)
    if plan == 0 or item(plan, OWNER) != c.load(node, NODE_BACKEND):
        return call_with_two(item(part, IN_PYTHON), node, g)
    c.Py_IncRef(plan)
    which = item(part, BESIDE)
    if which == item(k, NONE):
        y = call_one(k, plan, g)
    else:
        x = beside(k, node, inputs, which)
        if x == 0:
            y = call_with_two(item(part, IN_PYTHON), node, g)
        else:
            y = call_two(k, plan, g, x)
            c.Py_DecRef(x)
    c.Py_DecRef(plan)
    return y


def fitted(k: int, node: int, x: int, g: int, y: int) -> int:
    """A cotangent, which is taken over, summed to the shape of its operand, if that was broadcast.

    `g` is that of the result, and has its shape.
    """
    shape = 0
    if kind(x) == item(k, SPEC):
        shape = taken(item(x, 0))
        if has_shape(g, shape):
            c.Py_DecRef(shape)
            return y
    elif is_tensor(k, x):
        array = array_of(k, x)
        if array != 0:
            if same_shape(g, array):
                return y
        else:
            array = x
        shape = c.PyObject_GetAttr(array, item(k, SHAPE))
    else:
        shape = c.PyObject_GetAttr(x, item(k, SHAPE))
    if shape == 0:
        c.Py_DecRef(y)
        return 0
    summed = by_columns(k, node, y, shape)
    if summed == 0 and c.PyErr_Occurred() == 0:
        given = c.room(3)
        c.store(given, 0, node)
        c.store(given, 8, y)
        c.store(given, 16, shape)
        summed = c.PyObject_Vectorcall(item(k, SUM_TO), given, 3, 0)
    c.Py_DecRef(shape)
    c.Py_DecRef(y)
    return summed


def drop(pairs: int) -> int:
    """Give up what three edges with their cotangents hold."""
    i = 0
    while i < 6:
        c.Py_DecRef(c.load(pairs, 8 * i))
        c.store(pairs, 8 * i, 0)
        i = i + 1
    return 0


def pull(k: int, state: int, node: int, g: int, pairs: int) -> int:
    """The edges of a node's operands, each with its cotangent. 1, or 0 with an exception."""
    inputs = taken(c.load(node, INPUTS))
    parents = taken(c.load(node, PARENTS))
    count = c.load(parents, COUNT)
    good = 1
    i = 0
    while i < count and good:
        edge = item(parents, i)
        part = item(state, PARTS + i)
        if edge != item(k, NONE) and part != item(k, NONE):
            y = derivative(k, part, node, inputs, g)
            if y != 0 and count > 1:
                y = fitted(k, node, item(inputs, i), g, y)
            if y == 0:
                good = 0
            else:
                c.store(pairs, 16 * i, taken(edge))
                c.store(pairs, 16 * i + 8, y)
        i = i + 1
    c.Py_DecRef(inputs)
    c.Py_DecRef(parents)
    if good == 0:
        drop(pairs)
    return good
