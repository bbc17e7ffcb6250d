"""Functions of words on NumPy's arrays: new ones, and loops over their elements.

A loop over a few runs while no other thread of Python does, as within NumPy for as few.
"""

from __future__ import annotations

from gradnet.numpy_calls import FEW

from .layout import (
    BYTES,
    DATA,
    DTYPE,
    FLAGS,
    LENGTHS,
    NDIM,
    VALUE,
)
from .loops import (
    CODE,
    DATA_OF,
    FREE,
    GIVEN_BACK,
    GIVES,
    NUMBERS,
    TAKEN,
    TAKES,
)
from .references import (
    FIND,
    FLOAT,
    FLOAT32,
    LOOP,
    NDARRAY,
    NONE,
    TRUE,
    WITHIN,
    item,
    kind,
    listed,
    same_shape,
    size_of,
    taken,
)
from .words import c

SHORT = 512  # elements that other threads of Python wait for

# Flags of an array: in C order and aligned; and such that it owns and may write.
IN_ORDER, OWN = 0x101, 0x505
ALIGNED = 0x100
# The bits of a C int, in a word.
C_INT = 0xFFFFFFFF


def in_order(x: int) -> int:
    """Whether an array's elements lie side by side, in C order."""
    return (c.half(x, FLAGS) & IN_ORDER) == IN_ORDER


def new(k: int, dtype: int, ndim: int, lengths: int) -> int:
    """An array whose elements nobody has set."""
    return c.PyArray_NewFromDescr(item(k, NDARRAY), taken(dtype), ndim, lengths, 0, 0, 0, 0)


def read_only(k: int, x: int, ndim: int, lengths: int, steps: int) -> int:
    """An array over the memory of another, which is to be read only."""
    place = c.load(x, DATA)
    dtype = taken(c.load(x, DTYPE))
    y = c.PyArray_NewFromDescr(item(k, NDARRAY), dtype, ndim, lengths, steps, place, ALIGNED, 0)
    if y != 0 and (c.PyArray_SetBaseObject(y, taken(x)) & C_INT) != 0:
        c.Py_DecRef(y)
        return 0
    return y


def first(k: int, x: int) -> int:
    """The bits of an array's first element."""
    if c.load(x, DTYPE) == item(k, FLOAT32):
        return c.half(c.load(x, DATA), 0)
    return c.load(c.load(x, DATA), 0)


def filled(k: int, dtype: int, ndim: int, lengths: int, size: int, bits: int) -> int:
    """An array of so many elements, each with the same bits."""
    y = new(k, dtype, ndim, lengths)
    if y == 0:
        return 0
    place = c.load(y, DATA)
    i = 0
    if dtype == item(k, FLOAT32):
        while i < size:
            c.store_half(place, 4 * i, bits)
            i = i + 1
    else:
        while i < size:
            c.store(place, 8 * i, bits)
            i = i + 1
    return y


def copied(k: int, x: int) -> int:
    """An array of the same elements, which are in order."""
    size = size_of(x)
    y = new(k, c.load(x, DTYPE), c.half(x, NDIM), c.load(x, LENGTHS))
    if y == 0:
        return 0
    source = c.load(x, DATA)
    place = c.load(y, DATA)
    i = 0
    if c.load(x, DTYPE) == item(k, FLOAT32):
        while i < size:
            c.store_half(place, 4 * i, c.half(source, 4 * i))
            i = i + 1
    else:
        while i < size:
            c.store(place, 8 * i, c.load(source, 8 * i))
            i = i + 1
    return y


def loop_of(k: int, plan: int) -> int:
    """The block that tells of the loop within a plan's function; 0 where there is none."""
    slot = item(plan, LOOP)
    block = listed(slot, 0)
    if block == item(k, NONE):
        if listed(item(plan, WITHIN), 0) == item(k, NONE):
            return 0
        given = c.room(1)
        c.store(given, 0, plan)
        done = c.PyObject_Vectorcall(item(k, FIND), given, 1, 0)
        if done == 0:
            return 0
        c.Py_DecRef(done)
        block = listed(slot, 0)
    if block == item(k, TRUE):
        return 0
    return block + BYTES


def laid(k: int, block: int, x: int, like: int, i: int, places: int, steps: int, bits: int) -> int:
    """Whether a loop takes an operand beside an array; it is then put among the others."""
    size = c.load(block, TAKES)
    step = 0
    place = bits + 8 * i
    if kind(x) == item(k, FLOAT):
        if c.load(block, NUMBERS) == 0:
            return 0
        if size == 4:
            c.store(place, 0, c.single(c.load(x, VALUE)))
        else:
            c.store(place, 0, c.load(x, VALUE))
    else:
        if kind(x) != item(k, NDARRAY) or c.load(x, DTYPE) != c.load(block, TAKEN):
            return 0
        if in_order(x) == 0 or same_shape(x, like) == 0:
            return 0
        place = c.load(x, DATA)
        if c.half(x, NDIM) > 0:
            step = size
    c.store(places, 8 * i, place)
    c.store(steps, 8 * i, step)
    return 1


def magnitude(size: int) -> int:
    """Where the count of calls on so many elements is among those of all magnitudes."""
    place = 0
    power = 1
    while power <= size:
        power = power + power
        place = place + 8
    return place


def left(free: int, size: int) -> int:
    """How many calls on so many elements one thread is left alone with: see habits.py."""
    return c.load(free, magnitude(size))


def counted(free: int, size: int) -> int:
    """Count one of these calls."""
    place = free + magnitude(size)
    c.store(place, 0, c.load(place, 0) - 1)
    return 0


def by_loop(k: int, plan: int, x: int, y: int) -> int:
    """A plan's function on an operand or two by the loop within it; 0 where that takes them not."""
    block = loop_of(k, plan)
    if block == 0:
        return 0
    like = x
    if kind(x) != item(k, NDARRAY):
        like = y
    if like == 0 or kind(like) != item(k, NDARRAY):
        return 0
    size = size_of(like)
    if size == 0 or (size > FEW and left(c.load(block, FREE), size) == 0):
        return 0
    places = c.room(3)
    steps = c.room(3)
    bits = c.room(2)
    count = c.room(1)
    if laid(k, block, x, like, 0, places, steps, bits) == 0:
        return 0
    last = 1
    if y != 0:
        last = 2
        if laid(k, block, y, like, 1, places, steps, bits) == 0:
            return 0
    made = new(k, c.load(block, GIVEN_BACK), c.half(like, NDIM), c.load(like, LENGTHS))
    if made == 0:
        return 0
    c.store(places, 8 * last, c.load(made, DATA))
    c.store(steps, 8 * last, c.load(block, GIVES))
    c.store(count, 0, size)
    if size <= SHORT:
        c.run(c.load(block, CODE), places, count, steps, c.load(block, DATA_OF))
    else:
        if size > FEW:
            counted(c.load(block, FREE), size)
        thread = c.PyEval_SaveThread()
        c.run(c.load(block, CODE), places, count, steps, c.load(block, DATA_OF))
        c.PyEval_RestoreThread(thread)
    return made
