"""The sum of a few floats to one number, and its derivative, as functions of words."""

from __future__ import annotations

from gradnet.numpy_calls import FEW

from ..templates.reductions import ROWS
from .arrays import filled, first, in_order, new, read_only
from .calls import recorded_one
from .layout import (
    BACKEND,
    BYTES,
    COUNT,
    DATA,
    DTYPE,
    INPUTS,
    LENGTHS,
    NDIM,
    NODE_BACKEND,
    PARENTS,
)
from .references import (
    FLOAT32,
    FLOAT64,
    HOME,
    NDARRAY,
    NONE,
    SPEC,
    array_of,
    is_tensor,
    item,
    kind,
    opened,
    size_of,
    taken,
)
from .words import c

ENTRIES = ("total",)

KNOWN = 0  # of what a function is given as its self

# What is known of a backend: that, how it sums float32 and float64, as bytes that tell where the
# code is, and the plans of `sum` for arrays of either, by how many axes they have; how it sums the
# rows of tables, and a plan of what has no parameters. Of products: the loops within NumPy's
# `matmul`, whether there is code of our own and how that goes, what tells the BLAS of threads, and
# what is told of products of long vectors: see dots.py.
OF, CODES, PLANS, COLUMNS, PLAIN, MATMULS = 0, 1, 3, 5, 7, 8
OWN, WAYS, WAY, PREPARE, LONG_PRODUCTS = range(10, 15)
MOST = 4  # axes
# The bits of 1 in float32 and float64.
ONE_32, ONE_64 = 0x3F800000, 0x3FF0000000000000
MANY = 1 << 13  # elements of a table whose rows are summed here


def at_home(k: int, backend: int) -> int:
    """Whether a backend's arrays are made here as it makes them."""
    return item(item(k, HOME), OF) == backend


def float_of(k: int, array: int) -> int:
    """0 for an array of float32, 1 for float64, else -1."""
    dtype = c.load(array, DTYPE)
    if dtype == item(k, FLOAT32):
        return 0
    if dtype == item(k, FLOAT64):
        return 1
    return -1


def total(state: int, given: int, count: int, names: int) -> int:
    """The sum of a Tensor over all axes; None where Python is to do it."""
    k = item(state, KNOWN)
    x = c.load(given, 0)
    if is_tensor(k, x) == 0 or opened(k) != 0:
        return taken(item(k, NONE))
    array = array_of(k, x)
    if array == 0 or float_of(k, array) < 0:
        return taken(item(k, NONE))
    size = size_of(array)
    ndim = c.half(array, NDIM)
    if size == 0 or size > FEW or ndim > MOST or in_order(array) == 0:
        return taken(item(k, NONE))
    if at_home(k, c.load(x, BACKEND)) == 0:
        return taken(item(k, NONE))
    home = item(k, HOME)
    which = float_of(k, array)
    c.Py_IncRef(array)
    result = new(k, c.load(array, DTYPE), 0, 0)
    y = 0
    if result != 0:
        code = c.load(item(home, CODES + which) + BYTES, 0)
        c.run(code, c.load(array, DATA), 1, size, c.load(result, DATA), 1)
        plan = item(item(home, PLANS + which), ndim)
        y = recorded_one(k, state, x, array, plan, result)
        c.Py_DecRef(result)
    c.Py_DecRef(array)
    return y


def by_columns(k: int, node: int, g: int, shape: int) -> int:
    """The sums of a few rows, for an operand of a shape that is a row; 0 where Python is to do it.

    `node` is that of which `g` is a cotangent.
    """
    if kind(g) != item(k, NDARRAY) or c.half(g, NDIM) != 2 or c.load(shape, COUNT) != 1:
        return 0
    if c.PyLong_AsSsize_t(item(shape, 0)) != c.load(c.load(g, LENGTHS), 8):
        return 0
    if float_of(k, g) < 0 or in_order(g) == 0 or at_home(k, c.load(node, NODE_BACKEND)) == 0:
        return 0
    return sums_of_rows(k, g)


def sums_of_rows(k: int, g: int) -> int:
    """The sums of a few rows of floats, which are in order; 0 where Python is to do it."""
    lengths = c.load(g, LENGTHS)
    n = c.load(lengths, 0)
    m = c.load(lengths, 8)
    if n == 0 or n > ROWS or m < 2 or n * m > MANY:
        return 0
    y = new(k, c.load(g, DTYPE), 1, lengths + 8)
    if y != 0:
        code = c.load(item(item(k, HOME), COLUMNS + float_of(k, g)) + BYTES, 0)
        c.run(code, c.load(g, DATA), 1, n, m, c.load(y, DATA), 1, 1, m)
    return y


def spread(k: int, node: int, g: int, pairs: int, seen: int) -> int:
    """The edge of a sum's operand with its cotangent, one number everywhere: if `seen`, as a view.

    1, or 0 with an exception, or -1 where Python is to do it.
    """
    inputs = c.load(node, INPUTS)
    parents = c.load(node, PARENTS)
    if c.load(inputs, COUNT) != 1 or c.load(parents, COUNT) != 1:
        return -1
    spec = item(inputs, 0)
    edge = item(parents, 0)
    if kind(spec) != item(k, SPEC) or edge == item(k, NONE):
        return -1
    dtype = c.load(g, DTYPE)
    shape = item(spec, 0)
    ndim = c.load(shape, COUNT)
    if item(spec, 1) != dtype or ndim > MOST or size_of(g) != 1 or in_order(g) == 0:
        return -1
    lengths = c.room(4)
    size = 1
    i = 0
    while i < ndim:
        length = c.PyLong_AsSsize_t(item(shape, i))
        c.store(lengths, 8 * i, length)
        size = size * length
        i = i + 1
    if size == 0 or at_home(k, c.load(node, NODE_BACKEND)) == 0:
        return -1
    if seen:
        steps = c.room(4)
        i = 0
        while i < ndim:
            c.store(steps, 8 * i, 0)
            i = i + 1
        y = read_only(k, g, ndim, lengths, steps)
    else:
        if size > FEW:
            return -1
        y = filled(k, dtype, ndim, lengths, size, first(k, g))
    if y == 0:
        return 0
    c.store(pairs, 0, taken(edge))
    c.store(pairs, 8, y)
    return 1
