"""`matmul` of Tensors, and its derivative, as functions of words."""

from __future__ import annotations

from .calls import KNOWN, recorded_two, slow
from .derivatives import drop
from .layout import (
    BACKEND,
    COUNT,
    DATA,
    DTYPE,
    INPUTS,
    LENGTHS,
    NDIM,
    NODE_BACKEND,
    PARAMETERS,
    PARENTS,
    STEPS,
)
from .products import (
    CA,
    CB,
    RA,
    RB,
    SIZE,
    A,
    B,
    K,
    M,
    N,
    brief,
    filled_by,
    is_own,
    plainly,
    product,
    rows,
)
from .references import (
    HOME,
    NONE,
    array_of,
    is_tensor,
    item,
    opened,
    taken,
)
from .sums import PLAIN, at_home, float_of
from .words import c

ENTRIES = ("multiply",)

# Of what a function is given as its self, after KNOWN and SLOW: what factors are rounded by, under
# which name, and what `two` is told of an op, of that of matrices and that of vectors.
STATE, ROUNDING, OF_MATRICES, OF_VECTORS = range(2, 6)


def unrounded(k: int, state: int) -> int:
    """Whether this thread rounds no factors: 1 or 0, or -1 with an exception.

    STATE is what it rounds them by, under the name ROUNDING.
    """
    rounding = c.PyObject_GetAttr(item(state, STATE), item(state, ROUNDING))
    if rounding == 0:
        return -1
    c.Py_DecRef(rounding)
    return rounding == item(k, NONE)


def multiply(state: int, given: int, count: int, names: int) -> int:
    """The product of two matrices or two vectors."""
    k = item(state, KNOWN)
    if count != 2 or names != 0 or opened(k) != 0:
        return slow(state, given, count, names)
    on = unrounded(k, state)
    if on < 0:
        return 0
    a = c.load(given, 0)
    b = c.load(given, 8)
    if on == 0 or is_tensor(k, a) == 0 or is_tensor(k, b) == 0:
        return slow(state, given, count, names)
    if at_home(k, c.load(a, BACKEND)) == 0 or at_home(k, c.load(b, BACKEND)) == 0:
        return slow(state, given, count, names)
    x = array_of(k, a)
    y = array_of(k, b)
    if x == 0 or y == 0 or float_of(k, x) < 0 or c.load(x, DTYPE) != c.load(y, DTYPE):
        return slow(state, given, count, names)
    # While it is computed, another thread may change what these are of.
    c.Py_IncRef(x)
    c.Py_IncRef(y)
    result = product(k, x, y)
    made = 0
    if result != 0:
        op = item(state, OF_MATRICES)
        if c.half(x, NDIM) == 1:
            op = item(state, OF_VECTORS)
        made = recorded_two(k, op, a, b, x, y, item(item(k, HOME), PLAIN), result)
        c.Py_DecRef(result)
    elif c.PyErr_Occurred() == 0:
        made = slow(state, given, count, names)
    c.Py_DecRef(x)
    c.Py_DecRef(y)
    return made


def back(k: int, factor: int, g: int, first: int) -> int:
    """The cotangent of a factor of a product from that of the result and the other factor.

    That of the first is `g @ factor.T`, else it is `factor.T @ g`. 0 as `filled_by`.
    """
    if is_tensor(k, factor) == 0:
        return 0
    x = array_of(k, factor)
    if x == 0 or c.load(x, DTYPE) != c.load(g, DTYPE) or c.half(x, NDIM) != 2:
        return 0
    job = c.room(10)
    c.store(job, SIZE, 4 + 4 * float_of(k, g))
    if first:
        rows(job, N, K, RA, CA, c.load(g, LENGTHS), c.load(g, STEPS))
        length = c.load(job, K)
        rows(job, M, K, CB, RB, c.load(x, LENGTHS), c.load(x, STEPS))
        c.store(job, A, c.load(g, DATA))
        c.store(job, B, c.load(x, DATA))
    else:
        rows(job, K, N, CA, RA, c.load(x, LENGTHS), c.load(x, STEPS))
        length = c.load(job, K)
        rows(job, K, M, RB, CB, c.load(g, LENGTHS), c.load(g, STEPS))
        c.store(job, A, c.load(x, DATA))
        c.store(job, B, c.load(g, DATA))
    if length != c.load(job, K) or brief(k, job) == 0:
        return 0
    if is_own(k, job) == 0 and plainly(g, x) == 0:
        return 0
    lengths = c.room(2)
    c.store(lengths, 0, c.load(job, N))
    c.store(lengths, 8, c.load(job, M))
    c.Py_IncRef(x)
    y = filled_by(k, job, c.load(g, DTYPE), 2, lengths)
    c.Py_DecRef(x)
    return y


def factors_back(k: int, node: int, g: int, pairs: int) -> int:
    """The edges of a product's factors, each with its cotangent.

    1, or 0 with an exception, or -1 where Python is to do it.
    """
    inputs = c.load(node, INPUTS)
    parents = c.load(node, PARENTS)
    if c.load(inputs, COUNT) != 2 or c.load(parents, COUNT) != 2 or c.half(g, NDIM) != 2:
        return -1
    if at_home(k, c.load(node, NODE_BACKEND)) == 0:
        return -1
    if c.PyDict_Size(c.load(node, PARAMETERS)) != 0:
        return -1
    c.Py_IncRef(inputs)
    c.Py_IncRef(parents)
    good = 1
    i = 0
    while i < 2 and good == 1:
        edge = item(parents, i)
        if edge != item(k, NONE):
            y = back(k, item(inputs, 1 - i), g, 1 - i)
            if y != 0:
                c.store(pairs, 16 * i, taken(edge))
                c.store(pairs, 16 * i + 8, y)
            elif c.PyErr_Occurred() != 0:
                good = 0
            else:
                good = -1
        i = i + 1
    c.Py_DecRef(inputs)
    c.Py_DecRef(parents)
    if good != 1:
        drop(pairs)
    return good
