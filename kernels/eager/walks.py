"""The walk over a graph as functions of words: the derivatives of elementwise ops, one by one.

`advance` is a turn of the loop in walk.py, and further turns for as long as one node alone waits.
What it leaves to Python: nodes with hooks, what has been freed or changed, ops whose derivatives
are not made here, and cotangents that are no arrays of floats.
"""

from __future__ import annotations

from .derivatives import (
    KNOWN,
    PARTS,
    drop,
    pull,
)
from .factors import factors_back
from .layers_back import layer_back, loss_back
from .layout import (
    COUNT,
    COUNTER,
    DTYPE,
    HOOKS,
    ID,
    INPUTS,
    KEPT,
    LIST_ITEMS,
    NODE_BACKEND,
    OP,
    OUTPUTS,
    PARENTS,
)
from .plans import call_two, plan_of
from .references import (
    BUILTIN,
    COLLECT,
    CROSS,
    EMPTY,
    FLOAT32,
    FLOAT64,
    LINEAR,
    LIST,
    MATMUL,
    NDARRAY,
    NODE,
    NONE,
    OWNER,
    PULL,
    SUM,
    SUMS,
    TRUE,
    TUPLE,
    ZERO,
    among,
    array_of,
    is_tensor,
    item,
    kind,
    listed,
    opened,
    pack,
    pack_two,
    swap,
    taken,
)
from .sums import spread
from .words import c

ENTRIES = ("advance",)


def unchanged(k: int, kept: int) -> int:
    """Whether Tensors that a node has kept are as they were."""
    if kind(kept) != item(k, TUPLE) and kind(kept) != item(k, LIST):
        return 0
    count = c.load(kept, COUNT)
    i = 0
    while i < count:
        known = among(k, kept, i)
        x = item(known, 0)
        if is_tensor(k, x) == 0 or array_of(k, x) == 0:
            return 0
        if listed(c.load(x, COUNTER), 0) != item(known, 1):
            return 0
        i = i + 1
    return 1


def ready(k: int, node: int, g: int) -> int:
    """Whether a node's derivative may be taken now, of a cotangent of floats."""
    if kind(node) != item(k, NODE) or opened(k) != 0 or kind(g) != item(k, NDARRAY):
        return 0
    op = c.load(node, OP)
    inputs = c.load(node, INPUTS)
    dtype = c.load(g, DTYPE)
    if dtype != item(k, FLOAT32) and dtype != item(k, FLOAT64):
        return 0
    if op == item(k, NONE) or c.load(node, HOOKS) != item(k, NONE):
        return 0
    if kind(inputs) != item(k, TUPLE):
        return 0
    return unchanged(k, c.load(node, KEPT))


def pull_of(k: int, op: int) -> int:
    """The self of an op's derivative, where that is one of these; else 0."""
    found = c.PyObject_GetAttr(op, item(k, PULL))
    if found == 0:
        c.PyErr_Clear()
        return 0
    state = 0
    if kind(found) == item(k, BUILTIN):
        state = c.PyCFunction_GetSelf(found)
    if state != 0 and (kind(state) != item(k, TUPLE) or c.load(state, COUNT) < PARTS + 1):
        state = 0
    if state != 0 and item(state, KNOWN) != k:
        state = 0
    c.Py_IncRef(state)
    c.Py_DecRef(found)
    return state


def spread_back(k: int, node: int, g: int, pairs: int) -> int:
    """`spread`, where what comes next is a leaf or done here too.

    Elsewhere the cotangent is a view of one number, as in Python, and makes the same bits.
    """
    parents = c.load(node, PARENTS)
    if c.load(parents, COUNT) != 1 or item(parents, 0) == item(k, NONE):
        return -1
    op = c.load(item(item(parents, 0), 0), OP)
    if op == item(k, CROSS):
        return spread(k, node, g, pairs, 1)
    if op != item(k, NONE):
        found = pull_of(k, op)
        if found == 0:
            return -1
        c.Py_DecRef(found)
    return spread(k, node, g, pairs, 0)


def turn(k: int, node: int, g: int, pairs: int) -> int:
    """The edges of a node's operands, each with its cotangent.

    1, or 0 with an exception, or -1 where Python is to do it.
    """
    if ready(k, node, g) == 0:
        return -1
    op = c.load(node, OP)
    if op == item(k, SUM):
        return spread_back(k, node, g, pairs)
    if op == item(k, MATMUL):
        return factors_back(k, node, g, pairs)
    if op == item(k, LINEAR):
        return layer_back(k, node, g, pairs)
    if op == item(k, CROSS):
        return loss_back(k, node, g, pairs)
    state = pull_of(k, op)
    if state == 0:
        return -1
    good = -1
    count = c.load(state, COUNT) - PARTS
    inputs = c.load(c.load(node, INPUTS), COUNT)
    if inputs == count and c.load(c.load(node, PARENTS), COUNT) == count:
        good = pull(k, state, node, g, pairs)
    c.Py_DecRef(state)
    return good


def added(k: int, node: int, earlier: int, g: int) -> int:
    """The sum of two cotangents of a node's; 0, also without an exception, where Python adds."""
    plan = plan_of(k, item(k, SUMS), g)
    if plan == 0 or kind(earlier) != item(k, NDARRAY) or kind(g) != item(k, NDARRAY):
        return 0
    if c.load(earlier, DTYPE) != c.load(g, DTYPE):
        return 0
    if item(plan, OWNER) != c.load(node, NODE_BACKEND):
        return 0
    c.Py_IncRef(plan)
    total = call_two(k, plan, earlier, g)
    c.Py_DecRef(plan)
    return total


def merge(k: int, pairs: int) -> int:
    """Make one edge of two that lead to one node, where that may be. 1, or 0 with an exception."""
    first = c.load(pairs, 0)
    second = c.load(pairs, 16)
    if first == 0 or second == 0 or item(first, 0) != item(second, 0):
        return 1
    if item(first, 1) != item(second, 1):
        return 1
    total = added(k, item(first, 0), c.load(pairs, 8), c.load(pairs, 24))
    if total == 0:
        return c.PyErr_Occurred() == 0
    swap(pairs, 8, total)
    c.Py_DecRef(second)
    c.Py_DecRef(c.load(pairs, 24))
    c.store(pairs, 16, 0)
    c.store(pairs, 24, 0)
    return 1


def collect(k: int, leaves: int, leaf: int, g: int) -> int:
    """Add a cotangent to those of a leaf. 1, or 0 with an exception."""
    number = c.load(leaf, ID)
    held = c.PyDict_GetItemWithError(leaves, number)
    if held == 0:
        if c.PyErr_Occurred() != 0:
            return 0
        slots = c.PyList_New(1)
        if slots == 0:
            return 0
        swap(c.load(slots, LIST_ITEMS), 0, taken(g))
        entry = pack_two(taken(leaf), slots)
        if entry == 0:
            return 0
        failed = c.PyDict_SetItem(leaves, number, entry)
        c.Py_DecRef(entry)
        return 1 + failed
    slots = taken(item(held, 1))
    earlier = taken(listed(slots, 0))
    total = added(k, leaf, earlier, g)
    if total != 0:
        swap(c.load(slots, LIST_ITEMS), 0, total)
    c.Py_DecRef(earlier)
    c.Py_DecRef(slots)
    if total != 0 or c.PyErr_Occurred() != 0:
        return total != 0
    given = c.room(5)
    c.store(given, 0, leaves)
    c.store(given, 8, number)
    c.store(given, 16, leaf)
    c.store(given, 24, item(k, ZERO))
    c.store(given, 32, g)
    done = c.PyObject_Vectorcall(item(k, COLLECT), given, 5, 0)
    c.Py_DecRef(done)
    if done == 0:
        return 0
    return 1


def release(k: int, node: int) -> int:
    """`Node.release`."""
    swap(node, INPUTS, taken(item(k, NONE)))
    swap(node, KEPT, taken(item(k, EMPTY)))
    swap(node, OUTPUTS, taken(item(k, EMPTY)))
    swap(node, PARENTS, taken(item(k, EMPTY)))
    return 0


def collect_leaves(k: int, leaves: int, pairs: int) -> int:
    """Take the edges that lead to leaves out of three. 1, or 0 with an exception."""
    i = 0
    while i < 3:
        edge = c.load(pairs, 16 * i)
        if edge != 0 and c.load(item(edge, 0), OP) == item(k, NONE):
            g = c.load(pairs, 16 * i + 8)
            c.store(pairs, 16 * i, 0)
            c.store(pairs, 16 * i + 8, 0)
            good = collect(k, leaves, item(edge, 0), g)
            c.Py_DecRef(edge)
            c.Py_DecRef(g)
            if good == 0:
                return 0
        i = i + 1
    return 1


def rest(k: int, pairs: int) -> int:
    """A tuple of the edges that are left, each with its cotangent; both are taken over."""
    first = c.load(pairs, 0)
    second = c.load(pairs, 16)
    if first == 0 and second == 0:
        return taken(item(k, EMPTY))
    if second == 0:
        return pack(pack_two(first, c.load(pairs, 8)))
    if first == 0:
        return pack(pack_two(second, c.load(pairs, 24)))
    left = pack_two(first, c.load(pairs, 8))
    return pack_two(left, pack_two(second, c.load(pairs, 24)))


def only(k: int, pairs: int) -> int:
    """Where the one edge is that is left, if it leads to a node's first output; else -1.

    Where that is alone, no cotangent of another output is still to come.
    """
    place = -1
    if c.load(pairs, 16) == 0:
        place = 0
    elif c.load(pairs, 0) == 0:
        place = 16
    if place >= 0:
        edge = c.load(pairs, place)
        if edge == 0 or item(edge, 1) != item(k, ZERO):
            return -1
    return place


def advance(state: int, given: int, count: int, names: int) -> int:
    """Of a node, the cotangent of its output, the leaves, whether the graph stays, and whether no
    other node waits: pairs of edges and cotangents that are left; None where nothing was done.
    """
    k = item(state, KNOWN)
    keep = c.load(given, 24) == item(k, TRUE)
    alone = c.load(given, 32) == item(k, TRUE)
    return forth(k, c.load(given, 0), c.load(given, 8), c.load(given, 16), keep, alone)


def forth(k: int, node: int, g: int, leaves: int, keep: int, alone: int) -> int:
    """`advance`, told one by one."""
    c.Py_IncRef(node)
    c.Py_IncRef(g)
    edge = 0
    # Up to three; the third is a leaf's.
    pairs = c.room(6)
    i = 0
    while i < 48:
        c.store(pairs, i, 0)
        i = i + 8
    while 1:
        good = turn(k, node, g, pairs)
        if good < 0:
            c.Py_DecRef(node)
            if edge != 0:
                return pack(pack_two(edge, g))
            c.Py_DecRef(g)
            return taken(item(k, NONE))
        if good and keep == 0:
            release(k, node)
        c.Py_DecRef(node)
        c.Py_DecRef(g)
        c.Py_DecRef(edge)
        if good:
            good = collect_leaves(k, leaves, pairs)
        if good and alone:
            # Where another waits, it may be this node, with a cotangent to be added to first.
            good = merge(k, pairs)
        if good == 0:
            drop(pairs)
            return 0
        place = only(k, pairs)
        if place < 0 or alone == 0:
            return rest(k, pairs)
        edge = c.load(pairs, place)
        g = c.load(pairs, place + 8)
        c.store(pairs, place, 0)
        c.store(pairs, place + 8, 0)
        node = taken(item(edge, 0))
    return 0
