"""The derivatives of a layer and of cross-entropy as functions of words; see layers.py."""

from __future__ import annotations

from ..templates.reductions import ROWS
from .arrays import first, in_order, new, read_only
from .derivatives import drop
from .factors import back
from .layers import CODES, told_of
from .layout import (
    BYTES,
    COUNT,
    DATA,
    DTYPE,
    HOOKS,
    INPUTS,
    LENGTHS,
    NDIM,
    NODE_BACKEND,
    OP,
    OUTPUTS,
    PARAMETERS,
    PARENTS,
    STEPS,
)
from .references import (
    ACTIVATION,
    EMPTY,
    NONE,
    SCALARS,
    TUPLE,
    item,
    kind,
    listed,
    same_shape,
    size_of,
    taken,
)
from .sums import ONE_32, ONE_64, at_home, float_of, sums_of_rows
from .words import c


def saved_beside(k: int, node: int, g: int) -> int:
    """What a node saved for its activation's derivative, borrowed, if it is as it was; else 0."""
    outputs = c.load(node, OUTPUTS)
    if kind(outputs) != item(k, TUPLE) or c.load(outputs, COUNT) != 2:
        return 0
    known = item(outputs, 1)
    if kind(known) != item(k, TUPLE) or c.load(known, COUNT) != 5:
        return 0
    saved = item(known, 0)
    if listed(item(known, 2), 0) != item(known, 3) or in_order(saved) == 0:
        return 0
    if c.load(saved, DTYPE) != c.load(g, DTYPE) or same_shape(saved, g) == 0:
        return 0
    return saved


def bent(k: int, told: int, node: int, g: int, results: int) -> int:
    """Behind an activation, the cotangent of its operand, and that of the bias.

    Whether there is one; it goes to `results`, both with a reference of their own.
    """
    code = c.load(item(told, CODES) + BYTES, 8)
    saved = saved_beside(k, node, g)
    if code == 0 or saved == 0:
        return 0
    lengths = c.load(g, LENGTHS)
    n = c.load(lengths, 0)
    m = c.load(lengths, 8)
    dz = new(k, c.load(g, DTYPE), 2, lengths)
    c.store(results, 0, dz)
    if dz == 0:
        return 0
    sums = new(k, c.load(g, DTYPE), 1, lengths + 8)
    c.store(results, 8, sums)
    if sums == 0:
        return 0
    place = c.load(dz, DATA)
    end = c.load(sums, DATA)
    beside = c.load(saved, DATA)
    c.run(code, c.load(g, DATA), n, m, beside, n, m, place, n, m, end, 1, m, ROWS)
    return 1


def cotangents(k: int, told: int, node: int, g: int, pairs: int) -> int:
    """Put a layer's edges, each with its cotangent, into `pairs`: whether all are there."""
    inputs = c.load(node, INPUTS)
    parents = c.load(node, PARENTS)
    none = item(k, NONE)
    biased = 0
    if c.load(parents, COUNT) == 3 and item(parents, 2) != none:
        biased = 1
    results = c.room(2)
    c.store(results, 0, 0)
    c.store(results, 8, 0)
    good = 1
    if item(told, CODES) != none:
        good = bent(k, told, node, g, results)
    else:
        c.store(results, 0, taken(g))
        if biased:
            c.store(results, 8, sums_of_rows(k, g))
            good = c.load(results, 8) != 0
    dz = c.load(results, 0)
    i = 0
    while i < 2 and good:
        if item(parents, i) != none:
            y = back(k, item(inputs, 1 - i), dz, 1 - i)
            good = y != 0
            if good:
                c.store(pairs, 16 * i, taken(item(parents, i)))
                c.store(pairs, 16 * i + 8, y)
        i = i + 1
    if good and biased:
        c.store(pairs, 32, taken(item(parents, 2)))
        c.store(pairs, 40, taken(c.load(results, 8)))
    c.Py_DecRef(dz)
    c.Py_DecRef(c.load(results, 8))
    return good


def layer_back(k: int, node: int, g: int, pairs: int) -> int:
    """The edges of a layer's operands, each with its cotangent; that of the bias is a leaf's.

    1, or 0 with an exception, or -1 where Python is to do it.
    """
    inputs = c.load(node, INPUTS)
    parents = c.load(node, PARENTS)
    count = c.load(parents, COUNT)
    if c.load(inputs, COUNT) != count or count < 2 or count > 3 or c.half(g, NDIM) != 2:
        return -1
    if in_order(g) == 0 or at_home(k, c.load(node, NODE_BACKEND)) == 0:
        return -1
    biased = 0
    if count == 3 and item(parents, 2) != item(k, NONE):
        biased = 1
    if biased and c.load(item(item(parents, 2), 0), OP) != item(k, NONE):
        return -1
    parameters = c.load(node, PARAMETERS)
    rows = c.load(c.load(g, LENGTHS), 0)
    if rows == 0 or rows > ROWS or c.PyDict_Size(parameters) != 2:
        return -1
    if c.PyDict_GetItemWithError(parameters, item(k, SCALARS)) != item(k, EMPTY):
        return -1
    activation = c.PyDict_GetItemWithError(parameters, item(k, ACTIVATION))
    if activation == 0:
        return -1
    c.Py_IncRef(inputs)
    c.Py_IncRef(parents)
    told = told_of(k, g, activation)
    good = 0
    if told != 0 and told != item(k, NONE):
        good = cotangents(k, told, node, g, pairs)
    c.Py_DecRef(told)
    c.Py_DecRef(inputs)
    c.Py_DecRef(parents)
    if good:
        return 1
    drop(pairs)
    if c.PyErr_Occurred() != 0:
        return 0
    return -1


def loss_back(k: int, node: int, g: int, pairs: int) -> int:
    """The edge of logits with the gradient that came with their cross-entropy, where `g` is one 1.

    1, or 0 with an exception, or -1 where Python is to do it.
    """
    parents = c.load(node, PARENTS)
    outputs = c.load(node, OUTPUTS)
    count = c.load(parents, COUNT)
    none = item(k, NONE)
    if c.half(g, NDIM) != 1 or kind(outputs) != item(k, TUPLE) or c.load(outputs, COUNT) != 2:
        return -1
    bits = ONE_32
    if float_of(k, g) == 1:
        bits = ONE_64
    if size_of(g) == 0 or c.load(c.load(g, STEPS), 0) != 0 or first(k, g) != bits:
        return -1
    if at_home(k, c.load(node, NODE_BACKEND)) == 0 or count == 0 or item(parents, 0) == none:
        return -1
    i = 1
    while i < count:
        if item(parents, i) != none:
            return -1
        i = i + 1
    known = item(outputs, 1)
    if kind(known) != item(k, TUPLE) or listed(item(known, 2), 0) != item(known, 3):
        return -1
    y = taken(item(known, 0))
    edge = taken(item(parents, 0))
    leaf = item(edge, 0)
    if c.load(leaf, OP) != none or c.load(leaf, HOOKS) != none:
        # Whoever changes it in place is to hear of it: the graph may be kept.
        x = y
        y = read_only(k, x, c.half(x, NDIM), c.load(x, LENGTHS), c.load(x, STEPS))
        c.Py_DecRef(x)
        if y == 0:
            c.Py_DecRef(edge)
            return 0
    c.store(pairs, 0, edge)
    c.store(pairs, 8, y)
    return 1
