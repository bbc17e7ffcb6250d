"""A whole walk as a function of words: from a number to the gradients of the leaves.

What `walks.py` leaves to Python is walked on there, with the cotangents that leaves have by then.
"""

from __future__ import annotations

from gradnet.numpy_calls import FEW

from .arrays import OWN, copied, filled, in_order
from .layout import (
    BACKEND,
    BASE,
    COUNT,
    DTYPE,
    EDGE,
    FLAGS,
    GRAD,
    GRAD_BUFFER,
    HELD,
    HOOKS,
    LENGTHS,
    NDIM,
    NODE_BACKEND,
    OP,
    OUTPUTS,
    REFERENCES,
)
from .references import (
    EMPTY,
    FALSE,
    NDARRAY,
    NODE,
    NONE,
    RESUME,
    TRUE,
    TUPLE,
    ZERO,
    array_of,
    fresh,
    is_tensor,
    item,
    kind,
    listed,
    opened,
    pack,
    pack_two,
    same_shape,
    size_of,
    swap,
    taken,
)
from .sums import KNOWN, ONE_32, ONE_64, at_home, float_of
from .walks import forth
from .words import c

ENTRIES = ("walked",)


def resumed(k: int, pairs: int, leaves: int, keep: int) -> int:
    """The rest of a walk in Python: True, or 0 with an exception.

    The pairs of edges and cotangents are taken over.
    """
    given = c.room(3)
    c.store(given, 0, pairs)
    c.store(given, 8, leaves)
    c.store(given, 16, keep)
    done = c.PyObject_Vectorcall(item(k, RESUME), given, 3, 0)
    c.Py_DecRef(pairs)
    if done == 0:
        return 0
    c.Py_DecRef(done)
    return taken(item(k, TRUE))


def own(k: int, g: int) -> int:
    """A cotangent that a leaf's dictionary holds as an array of the leaf's own."""
    if c.half(g, REFERENCES) == 1 and c.load(g, BASE) == 0 and (c.half(g, FLAGS) & OWN) == OWN:
        return taken(g)
    return copied(k, g)


def fits(k: int, leaf: int, tensor: int, g: int) -> int:
    """Whether a cotangent may become the first gradient of a leaf's tensor here."""
    none = item(k, NONE)
    if is_tensor(k, tensor) == 0 or c.load(tensor, GRAD) != none:
        return 0
    backend = c.load(tensor, BACKEND)
    if c.load(tensor, GRAD_BUFFER) != none or c.load(leaf, NODE_BACKEND) != backend:
        return 0
    array = array_of(k, tensor)
    if array == 0 or kind(g) != item(k, NDARRAY) or in_order(g) == 0:
        return 0
    if float_of(k, g) < 0 or c.load(array, DTYPE) != c.load(g, DTYPE):
        return 0
    if same_shape(array, g) == 0 or size_of(g) > FEW:
        return 0
    return at_home(k, backend)


def put(k: int, leaf: int, g: int) -> int:
    """Make a cotangent the gradient of a leaf's tensor, as `Tensor.add_gradient`.

    1, or 0 with an exception, or -1 where Python is to do it.
    """
    held = c.load(leaf, HELD)
    if held == 0:
        return -1
    if held == item(k, NONE):
        return 1
    tensor = c.PyObject_Vectorcall(held, 0, 0, 0)
    if tensor == 0:
        return 0
    good = 1
    if tensor != item(k, NONE):
        good = -1
        if fits(k, leaf, tensor, g):
            good = 0
            y = fresh(k, own(k, g), c.load(tensor, BACKEND), taken(item(k, NONE)))
            if y != 0:
                swap(tensor, GRAD, y)
                good = 1
    c.Py_DecRef(tensor)
    return good


def settled(k: int, leaves: int, keep: int) -> int:
    """Give leaves their gradients: True, or 0 with an exception."""
    place = c.room(1)
    key = c.room(1)
    value = c.room(1)
    c.store(place, 0, 0)
    while c.PyDict_Next(leaves, place, key, value) != 0:
        if c.load(item(c.load(value, 0), 0), HOOKS) != item(k, NONE):
            # Hooks are called newest first, and see what gradients others have by then.
            return resumed(k, taken(item(k, EMPTY)), leaves, keep)
    rest = 0
    good = 1
    c.store(place, 0, 0)
    while good != 0 and c.PyDict_Next(leaves, place, key, value) != 0:
        entry = c.load(value, 0)
        good = put(k, item(entry, 0), listed(item(entry, 1), 0))
        if good < 0:
            if rest == 0:
                rest = c.PyDict_New()
            if rest == 0 or c.PyDict_SetItem(rest, c.load(key, 0), entry) != 0:
                good = 0
    if good != 0 and rest == 0:
        return taken(item(k, TRUE))
    done = 0
    if good != 0:
        done = resumed(k, taken(item(k, EMPTY)), rest, keep)
    c.Py_DecRef(rest)
    return done


def walked(state: int, given: int, count: int, names: int) -> int:
    """`backward` of a Tensor, given whether the graph stays: True; None where nothing was done."""
    k = item(state, KNOWN)
    none = item(k, NONE)
    x = c.load(given, 0)
    keep = c.load(given, 8)
    if keep != item(k, TRUE) and keep != item(k, FALSE):
        return taken(none)
    if is_tensor(k, x) == 0 or opened(k) != 0:
        return taken(none)
    array = array_of(k, x)
    edge = c.load(x, EDGE)
    if array == 0 or edge == none or float_of(k, array) < 0 or size_of(array) != 1:
        return taken(none)
    node = item(edge, 0)
    if kind(node) != item(k, NODE) or item(edge, 1) != item(k, ZERO):
        return taken(none)
    outputs = c.load(node, OUTPUTS)
    if c.load(node, OP) == none or kind(outputs) != item(k, TUPLE) or c.load(outputs, COUNT) > 1:
        return taken(none)
    if at_home(k, c.load(x, BACKEND)) == 0:
        return taken(none)
    bits = ONE_32
    if float_of(k, array) == 1:
        bits = ONE_64
    g = filled(k, c.load(array, DTYPE), c.half(array, NDIM), c.load(array, LENGTHS), 1, bits)
    leaves = c.PyDict_New()
    done = 0
    if g != 0 and leaves != 0:
        c.Py_IncRef(edge)
        pairs = forth(k, node, g, leaves, keep == item(k, TRUE), 1)
        if pairs == none:
            c.Py_DecRef(none)
            pairs = pack(pack_two(taken(edge), taken(g)))
        c.Py_DecRef(edge)
        if pairs != 0 and c.load(pairs, COUNT) > 0:
            done = resumed(k, pairs, leaves, keep)
        elif pairs != 0:
            c.Py_DecRef(pairs)
            done = settled(k, leaves, keep)
    c.Py_DecRef(g)
    c.Py_DecRef(leaves)
    return done
