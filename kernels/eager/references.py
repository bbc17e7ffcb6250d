"""Functions of words on Python's objects: what the others are written with.

One that gives an object gives a reference of its own, or 0 with an exception. `taken`, `pack` and
`swap` take over the references that they are given, 0 among them, and give 0 where there was one.
Every function is told `k`, a tuple of objects under the numbers below.
"""

from __future__ import annotations

from .layout import (
    ARRAY,
    BACKEND,
    COUNT,
    COUNTER,
    DTYPE,
    EDGE,
    GRAD,
    GRAD_BUFFER,
    HOOKS,
    ID,
    INPUTS,
    ITEMS,
    KEPT,
    LENGTHS,
    LIST_ITEMS,
    NDIM,
    NODE_BACKEND,
    OP,
    OUTPUTS,
    PARAMETERS,
    PARENTS,
    SEEN,
    TANGENTS,
    TYPE,
)
from .words import c

# The objects of `k`.
KNOWN = (
    *("TENSOR", "NODE", "SPEC", "NDARRAY", "FLOAT", "INT", "LIST", "TUPLE", "BUILTIN"),
    *("NONE", "TRUE", "ZERO", "ONE", "LAST", "EMPTY", "UNSAVED"),
    *("MODES", "OPEN_MODES", "MODE", "RECORDING", "SERIAL", "FLOAT32", "FLOAT64"),
    *("VALUE_ERROR", "QUIET", "SHAPE", "PULL", "SPECS", "CHECKED", "AS_ARRAY", "SUM_TO"),
    *("COLLECT", "SUMS", "DIRECT", "FALSE", "FIND", "SUM", "HOME", "RESUME"),
    *("ALIKE", "MATMUL", "LINEAR", "LAYERS", "ACTIVATION", "SCALARS", "CROSS"),
)
# fmt: off
(
    TENSOR, NODE, SPEC, NDARRAY, FLOAT, INT, LIST, TUPLE, BUILTIN, NONE, TRUE, ZERO, ONE, LAST,
    EMPTY, UNSAVED, MODES, OPEN_MODES, MODE, RECORDING, SERIAL, FLOAT32, FLOAT64, VALUE_ERROR,
    QUIET, SHAPE, PULL, SPECS, CHECKED, AS_ARRAY, SUM_TO, COLLECT, SUMS, DIRECT,
    FALSE, FIND, SUM, HOME, RESUME, ALIKE, MATMUL,
    LINEAR, LAYERS, ACTIVATION, SCALARS, CROSS,
) = range(len(KNOWN))
# fmt: on

# Of a plan, how a formula runs on a backend: that, the function, an op's parameters, what is
# within the function, and a list of the loop within that (None before it has been looked for, True
# where there is none) and of the operands' dtype.
OWNER, RUN, GIVEN, WITHIN, LOOP = range(5)


def item(row: int, i: int) -> int:
    """What a tuple holds, borrowed."""
    return c.load(row, ITEMS + 8 * i)


def listed(several: int, i: int) -> int:
    """What a list holds, borrowed."""
    return c.load(c.load(several, LIST_ITEMS), 8 * i)


def among(k: int, several: int, i: int) -> int:
    """What a list or a tuple holds, borrowed."""
    if kind(several) == item(k, LIST):
        return listed(several, i)
    return item(several, i)


def kind(x: int) -> int:
    return c.load(x, TYPE)


def is_tensor(k: int, x: int) -> int:
    """Whether an object is a Tensor, or of the class that is used as Tensor itself is."""
    if kind(x) == item(k, TENSOR) or kind(x) == listed(item(k, ALIKE), 0):
        return 1
    return 0


def taken(x: int) -> int:
    """An object, with a reference more."""
    c.Py_IncRef(x)
    return x


def swap(x: int, offset: int, new: int) -> int:
    """Put an object in the place of another."""
    old = c.load(x, offset)
    c.store(x, offset, new)
    c.Py_DecRef(old)
    return 0


def pack(a: int) -> int:
    """A tuple of one."""
    if a == 0:
        return 0
    row = c.PyTuple_New(1)
    if row == 0:
        c.Py_DecRef(a)
        return 0
    c.store(row, ITEMS, a)
    return row


def pack_two(a: int, b: int) -> int:
    """A tuple of two."""
    row = 0
    if a != 0 and b != 0:
        row = c.PyTuple_New(2)
    if row == 0:
        c.Py_DecRef(a)
        c.Py_DecRef(b)
        return 0
    c.store(row, ITEMS, a)
    c.store(row, ITEMS + 8, b)
    return row


def call_with_two(function: int, a: int, b: int) -> int:
    given = c.room(2)
    c.store(given, 0, a)
    c.store(given, 8, b)
    return c.PyObject_Vectorcall(function, given, 2, 0)


def opened(k: int) -> int:
    """Whether any mode is open."""
    return c.PyDict_GetItemWithError(item(k, MODES), item(k, OPEN_MODES)) - item(k, ZERO)


def array_of(k: int, x: int) -> int:
    """The array of a Tensor, borrowed, where it is one of NumPy's and no slot is empty; else 0."""
    array = c.load(x, ARRAY)
    counter = c.load(x, COUNTER)
    if array == 0 or counter == 0 or c.load(x, EDGE) == 0 or c.load(x, SEEN) == 0:
        return 0
    if kind(array) != item(k, NDARRAY) or kind(counter) != item(k, LIST):
        return 0
    if c.load(counter, COUNT) != 2:
        return 0
    return array


def size_of(array: int) -> int:
    ndim = c.half(array, NDIM)
    lengths = c.load(array, LENGTHS)
    size = 1
    i = 0
    while i < ndim:
        size = size * c.load(lengths, 8 * i)
        i = i + 1
    return size


def same_shape(x: int, y: int) -> int:
    """Whether two arrays have one shape."""
    ndim = c.half(x, NDIM)
    if c.half(y, NDIM) != ndim:
        return 0
    ours = c.load(x, LENGTHS)
    theirs = c.load(y, LENGTHS)
    i = 0
    while i < ndim:
        if c.load(ours, 8 * i) != c.load(theirs, 8 * i):
            return 0
        i = i + 1
    return 1


def has_shape(array: int, shape: int) -> int:
    """Whether an array has a shape, a tuple of numbers."""
    ndim = c.half(array, NDIM)
    if c.load(shape, COUNT) != ndim:
        return 0
    lengths = c.load(array, LENGTHS)
    i = 0
    while i < ndim:
        if c.PyLong_AsSsize_t(item(shape, i)) != c.load(lengths, 8 * i):
            return 0
        i = i + 1
    return 1


def spec_of(k: int, array: int) -> int:
    """The Spec of an array: the last one once more, where it is equal."""
    specs = item(k, SPECS)
    last = listed(specs, 0)
    dtype = c.load(array, DTYPE)
    if last != item(k, NONE) and item(last, 1) == dtype:
        c.Py_IncRef(last)
        if has_shape(array, item(last, 0)):
            return last
        c.Py_DecRef(last)
    shape = c.PyObject_GetAttr(array, item(k, SHAPE))
    if shape == 0:
        return 0
    spec = c.PyType_GenericAlloc(item(k, SPEC), 2)
    if spec == 0:
        c.Py_DecRef(shape)
        return 0
    c.store(spec, ITEMS, shape)
    c.store(spec, ITEMS + 8, taken(dtype))
    swap(c.load(specs, LIST_ITEMS), 0, taken(spec))
    return spec


def fresh(k: int, array: int, backend: int, edge: int) -> int:
    """`tensor.fresh`; it takes over the array and the edge."""
    y = 0
    counter = 0
    if array != 0 and edge != 0:
        y = c.PyType_GenericAlloc(item(k, TENSOR), 0)
        counter = c.PyList_New(2)
    if y == 0 or counter == 0:
        c.Py_DecRef(y)
        c.Py_DecRef(counter)
        c.Py_DecRef(array)
        c.Py_DecRef(edge)
        return 0
    zero = item(k, ZERO)
    numbers = c.load(counter, LIST_ITEMS)
    c.store(numbers, 0, taken(zero))
    c.store(numbers, 8, taken(zero))
    none = item(k, NONE)
    c.store(y, ARRAY, array)
    c.store(y, BACKEND, taken(backend))
    c.store(y, EDGE, edge)
    c.store(y, COUNTER, counter)
    c.store(y, SEEN, taken(zero))
    c.store(y, TANGENTS, taken(none))
    c.store(y, GRAD, taken(none))
    c.store(y, GRAD_BUFFER, taken(none))
    return y


def node_of(k: int, op: int, inputs: int, kept: int, parents: int, given: int, backend: int) -> int:
    """`graph.node_of`; it takes over the inputs, what is kept and the parents."""
    node = 0
    number = 0
    if inputs != 0 and kept != 0 and parents != 0:
        node = c.PyType_GenericAlloc(item(k, NODE), 0)
        number = c.PyIter_Next(item(k, SERIAL))
    if node == 0 or number == 0:
        c.Py_DecRef(node)
        c.Py_DecRef(number)
        c.Py_DecRef(inputs)
        c.Py_DecRef(kept)
        c.Py_DecRef(parents)
        return 0
    c.store(node, ID, number)
    c.store(node, OP, taken(op))
    c.store(node, INPUTS, inputs)
    c.store(node, KEPT, kept)
    c.store(node, PARENTS, parents)
    c.store(node, PARAMETERS, taken(given))
    c.store(node, NODE_BACKEND, taken(backend))
    c.store(node, OUTPUTS, taken(item(k, UNSAVED)))
    c.store(node, HOOKS, taken(item(k, NONE)))
    return node
