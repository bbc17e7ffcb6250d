"""`activation(x @ w + bias)` of Tensors, and its derivative, as functions of words.

As the op of that name and the backend do, for a few rows of floats in no mode; see ops/fused.py.
"""

from __future__ import annotations

from .arrays import in_order, loop_of, new
from .calls import KNOWN, recording, version_of
from .factors import unrounded
from .layout import (
    BACKEND,
    BYTES,
    COUNTER,
    DATA,
    DTYPE,
    EDGE,
    ITEMS,
    LENGTHS,
    LIST_ITEMS,
    NDIM,
    OUTPUTS,
)
from .loops import CODE, DATA_OF
from .plans import call_one, plan_of
from .products import product
from .references import (
    LAYERS,
    LINEAR,
    NONE,
    OWNER,
    SUMS,
    TRUE,
    ZERO,
    array_of,
    fresh,
    is_tensor,
    item,
    node_of,
    opened,
    pack_two,
    swap,
    taken,
)
from .sums import at_home, float_of
from .words import c

ENTRIES = ("layer",)

# Of what is known of an activation: the parameters of the op, whether the derivative takes what it
# gives, where its code is and that of its derivative, each behind a bias (as bytes; 0 for none),
# and the plans by which it is computed without such code.
GIVEN, BY_OUTPUT, CODES, PLANS = range(4)


def told_of(k: int, array: int, activation: int) -> int:
    """What is known of an activation beside an array; None where Python is to do it."""
    return c.PyObject_GetItem(item(item(k, LAYERS), float_of(k, array)), activation)


def shifted(k: int, z: int, bias: int) -> int:
    """Add a bias to the rows of an array by the loop within NumPy's `add`: whether it was."""
    plan = plan_of(k, item(k, SUMS), z)
    if plan == 0 or at_home(k, item(plan, OWNER)) == 0:
        return 0
    c.Py_IncRef(plan)
    block = loop_of(k, plan)
    if block != 0:
        lengths = c.load(z, LENGTHS)
        n = c.load(lengths, 0)
        size = 4 + 4 * float_of(k, z)
        places = c.room(3)
        steps = c.room(3)
        row = c.load(z, DATA)
        c.store(places, 8, c.load(bias, DATA))
        c.store(steps, 0, size)
        c.store(steps, 8, size)
        c.store(steps, 16, size)
        i = 0
        while i < n:
            c.store(places, 0, row)
            c.store(places, 16, row)
            c.run(c.load(block, CODE), places, lengths + 8, steps, c.load(block, DATA_OF))
            row = row + size * c.load(lengths, 8)
            i = i + 1
    c.Py_DecRef(plan)
    return block != 0


def activated(k: int, told: int, z: int, bias: int, held: int) -> int:
    """The result for a product, which is changed; what is saved beside it goes to `held`.

    0 as `filled_by`.
    """
    c.store(held, 0, 0)
    lengths = c.load(z, LENGTHS)
    n = c.load(lengths, 0)
    m = c.load(lengths, 8)
    y = 0
    code = 0
    if item(told, CODES) != item(k, NONE):
        code = c.load(item(told, CODES) + BYTES, 0)
    if code != 0 and item(told, BY_OUTPUT) == item(k, TRUE):
        c.run(code, c.load(z, DATA), n, m, c.load(bias, DATA), m)
        y = taken(z)
    elif code != 0:
        y = new(k, c.load(z, DTYPE), 2, lengths)
        if y == 0:
            return 0
        c.run(code, c.load(z, DATA), n, m, c.load(y, DATA), n, m, c.load(bias, DATA), m)
    else:
        if bias != 0 and shifted(k, z, bias) == 0:
            return 0
        y = z
        if item(told, PLANS) != item(k, NONE):
            plan = plan_of(k, item(told, PLANS), z)
            if plan == 0 or at_home(k, item(plan, OWNER)) == 0:
                return 0
            c.Py_IncRef(plan)
            y = call_one(k, plan, z)
            c.Py_DecRef(plan)
            if y == 0:
                return 0
        else:
            c.Py_IncRef(y)
    saved = z
    if item(told, BY_OUTPUT) == item(k, TRUE):
        saved = y
    c.store(held, 0, taken(saved))
    return y


def output(k: int, array: int, backend: int, counter: int) -> int:
    """What a node keeps of an output; it takes over the counter."""
    known = 0
    if counter != 0:
        known = c.PyTuple_New(5)
    if known == 0:
        c.Py_DecRef(counter)
        return 0
    c.store(known, ITEMS, taken(array))
    c.store(known, ITEMS + 8, taken(backend))
    c.store(known, ITEMS + 16, counter)
    c.store(known, ITEMS + 24, taken(item(k, ZERO)))
    c.store(known, ITEMS + 32, taken(item(k, NONE)))
    return known


def counter_of(k: int) -> int:
    """That of changes of memory that nobody has changed."""
    counter = c.PyList_New(2)
    if counter != 0:
        c.store(c.load(counter, LIST_ITEMS), 0, taken(item(k, ZERO)))
        c.store(c.load(counter, LIST_ITEMS), 8, taken(item(k, ZERO)))
    return counter


def note(k: int, state: int, given: int, i: int, inputs: int, kept: int, parents: int) -> int:
    """Note an operand among those of a node. 1, or 0 with an exception."""
    x = c.load(given, 8 * i)
    version = version_of(k, state, x)
    if version == 0:
        return 0
    entry = pack_two(taken(x), version)
    if entry == 0:
        return 0
    c.store(kept, ITEMS + 8 * i, entry)
    c.store(inputs, ITEMS + 8 * i, taken(x))
    c.store(parents, ITEMS + 8 * i, taken(c.load(x, EDGE)))
    return 1


def noted(k: int, state: int, given: int, count: int, told: int, backend: int) -> int:
    """The node of a call; 0 with an exception."""
    inputs = c.PyTuple_New(count)
    kept = c.PyTuple_New(count)
    parents = c.PyTuple_New(count)
    good = 0
    if inputs != 0 and kept != 0 and parents != 0:
        good = 1
    i = 0
    while i < count and good:
        good = note(k, state, given, i, inputs, kept, parents)
        i = i + 1
    if good == 0:
        c.Py_DecRef(inputs)
        c.Py_DecRef(kept)
        c.Py_DecRef(parents)
        return 0
    return node_of(k, item(k, LINEAR), inputs, kept, parents, item(told, GIVEN), backend)


def placed(k: int, state: int, given: int, count: int, told: int, y: int, saved: int) -> int:
    """The Tensor of a result, for so many operands, and its place in the graph."""
    backend = c.load(c.load(given, 0), BACKEND)
    none = item(k, NONE)
    on = 0
    i = 0
    while i < count:
        if c.load(c.load(given, 8 * i), EDGE) != none:
            on = 1
        i = i + 1
    if on == 1:
        on = recording(k)
        if on < 0:
            return 0
    if on == 0:
        return fresh(k, taken(y), backend, taken(none))
    node = noted(k, state, given, count, told, backend)
    if node == 0:
        return 0
    result = fresh(k, taken(y), backend, pack_two(taken(node), taken(item(k, ZERO))))
    if result != 0:
        counter = c.load(result, COUNTER)
        first = output(k, y, backend, taken(counter))
        if saved == y:
            c.Py_IncRef(counter)
        else:
            counter = counter_of(k)
        outputs = pack_two(first, output(k, saved, backend, counter))
        if outputs == 0:
            c.Py_DecRef(result)
            result = 0
        else:
            swap(node, OUTPUTS, outputs)
    c.Py_DecRef(node)
    return result


def computed(k: int, state: int, given: int, a: int, b: int, bias: int) -> int:
    """A layer of arrays, as a Tensor; None where Python is to do it."""
    told = told_of(k, a, c.load(given, 24))
    if told == 0:
        # In Python, which says in its own words what is wrong.
        c.PyErr_Clear()
        return taken(item(k, NONE))
    result = 0
    z = 0
    if told != item(k, NONE):
        z = product(k, a, b)
    if z != 0:
        held = c.room(1)
        y = activated(k, told, z, bias, held)
        if y != 0:
            count = 2
            if bias != 0:
                count = 3
            result = placed(k, state, given, count, told, y, c.load(held, 0))
        c.Py_DecRef(c.load(held, 0))
        c.Py_DecRef(y)
        c.Py_DecRef(z)
    c.Py_DecRef(told)
    if result == 0 and c.PyErr_Occurred() == 0:
        return taken(item(k, NONE))
    return result


def table(k: int, x: int) -> int:
    """The array of a Tensor on the backend that is known here; 0 for anything else."""
    if is_tensor(k, x) == 0 or at_home(k, c.load(x, BACKEND)) == 0:
        return 0
    return array_of(k, x)


def layer(state: int, given: int, count: int, names: int) -> int:
    """Of x, w, a bias or None, and an activation's op or None; None where Python is to do it."""
    k = item(state, KNOWN)
    none = item(k, NONE)
    if opened(k) != 0:
        return taken(none)
    on = unrounded(k, state)
    if on < 0:
        return 0
    a = table(k, c.load(given, 0))
    b = table(k, c.load(given, 8))
    if on == 0 or a == 0 or b == 0 or float_of(k, a) < 0 or c.load(a, DTYPE) != c.load(b, DTYPE):
        return taken(none)
    if c.half(a, NDIM) != 2 or c.half(b, NDIM) != 2:
        return taken(none)
    bias = 0
    if c.load(given, 16) != none:
        bias = table(k, c.load(given, 16))
        if bias == 0 or c.load(bias, DTYPE) != c.load(a, DTYPE) or c.half(bias, NDIM) != 1:
            return taken(none)
        width = c.load(c.load(b, LENGTHS), 8)
        if in_order(bias) == 0 or c.load(c.load(bias, LENGTHS), 0) != width:
            return taken(none)
    elif c.load(given, 24) != none:
        return taken(none)
    # While it is computed, another thread may change what these are of.
    c.Py_IncRef(a)
    c.Py_IncRef(b)
    c.Py_IncRef(bias)
    y = computed(k, state, given, a, b, bias)
    c.Py_DecRef(a)
    c.Py_DecRef(b)
    c.Py_DecRef(bias)
    return y
