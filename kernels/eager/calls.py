"""Elementwise ops as functions of words: `one`, `two` and `turned` of ops/direct.py.

They do what those closures do, for operands that are Tensors of NumPy's arrays (of no other class)
and numbers, on the backend that a plan is for. Anything else goes to the op in Python, as it came.
"""

from __future__ import annotations

from .layout import (
    BACKEND,
    COUNTER,
    DTYPE,
    EDGE,
    ITEMS,
    OUTPUTS,
    SEEN,
)
from .plans import call_one, call_two, plan_of
from .references import (
    BUILTIN,
    CHECKED,
    DIRECT,
    EMPTY,
    FLOAT,
    GIVEN,
    INT,
    MODE,
    NONE,
    OWNER,
    RECORDING,
    TRUE,
    VALUE_ERROR,
    ZERO,
    array_of,
    call_with_two,
    fresh,
    is_tensor,
    item,
    kind,
    listed,
    node_of,
    opened,
    pack,
    pack_two,
    spec_of,
    swap,
    taken,
)
from .words import c

ENTRIES = ("one", "two", "turned", "calling")

# Of what a function is given as its self.
KNOWN, SLOW, PLANS, ITSELF, NAME, DIFFERENTIABLE, SAVES = range(7)


def recording(k: int) -> int:
    """Whether this thread records: 1 or 0, or -1 with an exception."""
    found = c.PyObject_GetAttr(item(k, MODE), item(k, RECORDING))
    if found == 0:
        return -1
    on = c.PyObject_IsTrue(found)
    c.Py_DecRef(found)
    return on


def version_of(k: int, state: int, x: int) -> int:
    """The version of a Tensor that a graph may use now."""
    counter = c.load(x, COUNTER)
    version = taken(listed(counter, 0))
    if version != c.load(x, SEEN):
        done = call_with_two(item(k, CHECKED), x, item(state, NAME))
        c.Py_DecRef(done)
        if done == 0:
            c.Py_DecRef(version)
            return 0
    return version


def keep_output(k: int, node: int, result: int, backend: int, y: int) -> int:
    """Have a node keep its output."""
    known = c.PyTuple_New(5)
    if known == 0:
        return 0
    c.store(known, ITEMS, taken(result))
    c.store(known, ITEMS + 8, taken(backend))
    c.store(known, ITEMS + 16, taken(c.load(y, COUNTER)))
    c.store(known, ITEMS + 24, taken(item(k, ZERO)))
    c.store(known, ITEMS + 32, taken(item(k, NONE)))
    outputs = pack(known)
    if outputs == 0:
        return 0
    swap(node, OUTPUTS, outputs)
    return 1


def joined(k: int, state: int, plan: int, result: int, backend: int, node: int, last: int) -> int:
    """The Tensor of a result and its node, which it takes over."""
    y = fresh(k, taken(result), backend, pack_two(node, taken(item(k, ZERO))))
    if y == 0 or item(state, last) != item(k, TRUE):
        return y
    if keep_output(k, node, result, backend, y) == 0:
        c.Py_DecRef(y)
        return 0
    return y


def slow(state: int, given: int, count: int, names: int) -> int:
    return c.PyObject_Vectorcall(item(state, SLOW), given, count, names)


def recorded_one(k: int, state: int, x: int, array: int, plan: int, result: int) -> int:
    """The Tensor of the result for one operand."""
    none = item(k, NONE)
    backend = item(plan, OWNER)
    edge = taken(c.load(x, EDGE))
    on = 0
    if edge != none and item(state, DIFFERENTIABLE) == item(k, TRUE):
        on = recording(k)
    if on != 1:
        c.Py_DecRef(edge)
        if on < 0:
            return 0
        return fresh(k, taken(result), backend, taken(none))
    version = version_of(k, state, x)
    if version == 0:
        c.Py_DecRef(edge)
        return 0
    if item(state, SAVES) == item(k, TRUE):
        saved = taken(x)
        kept = pack(pack_two(taken(x), version))
    else:
        c.Py_DecRef(version)
        saved = spec_of(k, array)
        kept = taken(item(k, EMPTY))
    given = item(plan, GIVEN)
    node = node_of(k, item(state, ITSELF), pack(saved), kept, pack(edge), given, backend)
    return joined(k, state, plan, result, backend, node, SAVES + 1)


def one(state: int, given: int, count: int, names: int) -> int:
    """An op of one operand."""
    k = item(state, KNOWN)
    if count != 1 or names != 0:
        return slow(state, given, count, names)
    x = c.load(given, 0)
    if is_tensor(k, x) == 0 or opened(k) != 0:
        return slow(state, given, count, names)
    array = array_of(k, x)
    if array == 0:
        return slow(state, given, count, names)
    plan = plan_of(k, item(state, PLANS), array)
    if plan == 0 or item(plan, OWNER) != c.load(x, BACKEND):
        return slow(state, given, count, names)
    # While NumPy computes, another thread may change what these are of.
    c.Py_IncRef(array)
    c.Py_IncRef(plan)
    result = call_one(k, plan, array)
    y = 0
    if result != 0:
        y = recorded_one(k, state, x, array, plan, result)
    c.Py_DecRef(result)
    c.Py_DecRef(array)
    c.Py_DecRef(plan)
    return y


def both(state: int, a: int, b: int) -> int:
    """The op in Python on two operands."""
    return call_with_two(item(state, SLOW), a, b)


def number(k: int, x: int) -> int:
    """Whether an object is a number that stands beside floats as a float."""
    if kind(x) == item(k, FLOAT) or kind(x) == item(k, INT):
        return 1
    return 0


def saved_of(k: int, state: int, a: int, x: int, keeps: int, entry: int) -> int:
    """What a node holds of an operand; what it has kept of it goes to `entry`."""
    c.store(entry, 0, 0)
    if is_tensor(k, a) == 0:
        return taken(a)
    version = version_of(k, state, a)
    if version == 0:
        return 0
    if keeps != item(k, TRUE):
        c.Py_DecRef(version)
        return spec_of(k, x)
    known = pack_two(taken(a), version)
    if known == 0:
        return 0
    c.store(entry, 0, known)
    return taken(a)


def recorded_two(k: int, state: int, a: int, b: int, x: int, y: int, plan: int, result: int) -> int:
    """The Tensor of the result for two operands, of which x and y are the arrays."""
    none = item(k, NONE)
    backend = item(plan, OWNER)
    first = none
    second = none
    if is_tensor(k, a):
        first = c.load(a, EDGE)
    if is_tensor(k, b):
        second = c.load(b, EDGE)
    c.Py_IncRef(first)
    c.Py_IncRef(second)
    on = 0
    if (first != none or second != none) and item(state, DIFFERENTIABLE) == item(k, TRUE):
        on = recording(k)
    if on != 1:
        c.Py_DecRef(first)
        c.Py_DecRef(second)
        if on < 0:
            return 0
        return fresh(k, taken(result), backend, taken(none))
    # For the second operand, the first, and both: what is saved of each, and the output.
    saves = SAVES
    if first != none:
        saves = SAVES + 3
        if second != none:
            saves = SAVES + 6
    entries = c.room(2)
    c.store(entries, 8, 0)
    saved = saved_of(k, state, a, x, item(state, saves), entries)
    other = 0
    if saved != 0:
        other = saved_of(k, state, b, y, item(state, saves + 1), entries + 8)
    left = c.load(entries, 0)
    right = c.load(entries, 8)
    if left != 0 and right != 0:
        kept = pack_two(left, right)
    elif left != 0:
        kept = pack(left)
    elif right != 0:
        kept = pack(right)
    else:
        kept = taken(item(k, EMPTY))
    inputs = pack_two(saved, other)
    parents = pack_two(first, second)
    node = node_of(k, item(state, ITSELF), inputs, kept, parents, item(plan, GIVEN), backend)
    return joined(k, state, plan, result, backend, node, saves + 2)


def applied(state: int, a: int, b: int) -> int:
    """An op on two operands."""
    k = item(state, KNOWN)
    if opened(k) != 0:
        return both(state, a, b)
    x = 0
    y = 0
    backend = 0
    if is_tensor(k, a):
        x = array_of(k, a)
        backend = c.load(a, BACKEND)
        if x == 0:
            return both(state, a, b)
    elif number(k, a) == 0:
        return both(state, a, b)
    if is_tensor(k, b):
        y = array_of(k, b)
        if y == 0 or (x != 0 and c.load(b, BACKEND) != backend):
            return both(state, a, b)
        backend = c.load(b, BACKEND)
    elif number(k, b) == 0:
        return both(state, a, b)
    array = x
    if x == 0:
        array = y
    elif y != 0 and c.load(x, DTYPE) != c.load(y, DTYPE):
        return both(state, a, b)
    if array == 0:
        return both(state, a, b)
    plan = plan_of(k, item(state, PLANS), array)
    if plan == 0 or item(plan, OWNER) != backend:
        return both(state, a, b)
    # While NumPy computes, another thread may change what these are of.
    c.Py_IncRef(plan)
    c.Py_IncRef(x)
    c.Py_IncRef(y)
    p = x
    q = y
    if x == 0:
        p = c.PyNumber_Float(a)
    else:
        c.Py_IncRef(p)
    if y == 0:
        q = c.PyNumber_Float(b)
    else:
        c.Py_IncRef(q)
    result = 0
    made = 0
    if p != 0 and q != 0:
        result = call_two(k, plan, p, q)
    if result != 0:
        made = recorded_two(k, state, a, b, x, y, plan, result)
    elif c.PyErr_ExceptionMatches(item(k, VALUE_ERROR)) != 0:
        # Shapes that do not broadcast: the op in Python says so in its own words.
        c.PyErr_Clear()
        made = both(state, a, b)
    c.Py_DecRef(result)
    c.Py_DecRef(p)
    c.Py_DecRef(q)
    c.Py_DecRef(x)
    c.Py_DecRef(y)
    c.Py_DecRef(plan)
    return made


def two(state: int, given: int, count: int, names: int) -> int:
    """An op of two operands."""
    if count != 2 or names != 0:
        return slow(state, given, count, names)
    return applied(state, c.load(given, 0), c.load(given, 8))


def turned(state: int, given: int, count: int, names: int) -> int:
    """An op of two operands that come the other way round, as Python's operators give them."""
    if count != 2 or names != 0:
        return slow(state, given, count, names)
    return applied(state, c.load(given, 8), c.load(given, 0))


def calling(state: int, given: int, count: int, names: int) -> int:
    """An op, the first of what is given, on operands."""
    k = item(state, KNOWN)
    if names == 0 and count > 1:
        direct = c.PyObject_GetAttr(c.load(given, 0), item(k, DIRECT))
        if direct == 0:
            return 0
        if kind(direct) == item(k, BUILTIN):
            y = c.PyObject_Vectorcall(direct, given + 8, count - 1, 0)
            c.Py_DecRef(direct)
            return y
        c.Py_DecRef(direct)
    return slow(state, given, count, names)
