"""Products of matrices and of vectors as functions of words.

Our own code does those that it does elsewhere too, and the loop within NumPy's `matmul` the others:
to the bits that the backend gives. Large ones are left to Python, beside which a call is nothing.
"""

from __future__ import annotations

from gradnet import blas

from ..gemm.arrays import ALIGNED, LONG
from ..gemm.choice import LEAST
from ..tables import LONG_ROW
from .arrays import new
from .dots import long_product
from .layout import (
    BYTES,
    DATA,
    DTYPE,
    FLAGS,
    ITEMS,
    LENGTHS,
    NDIM,
    STEPS,
)
from .references import (
    HOME,
    NONE,
    item,
    listed,
    taken,
)
from .sums import MATMULS, OWN, PREPARE, WAY, WAYS, float_of
from .ways import CODE, KEY, PLACES, SCRATCH, WORDS
from .words import c

# Of a product `(n, k) @ (k, m) -> (n, m)`, as words side by side: the sizes, the operands' places
# and the bytes from row to row and from column to column of each, and those of an element.
N, K, M, RA, CA, RB, CB, SIZE, A, B = range(0, 80, 8)

# Multiply-adds that no BLAS wakes threads for, so that it need not be told of them.
ALONE = 1 << 13
# Words (of float32, multiply-adds) of a product of ours that may be worth more than one thread.
MIDDLING = blas.SHARED >> 1
SHARED = blas.SHARED
# Bits of an array's flags: in C order, in Fortran's, and aligned.
ROWS, COLUMNS = 0x101, 0x102


def told(k: int, job: int, x: int, y: int) -> int:
    """Note what a product of two arrays of floats is; whether it is one that is made here."""
    ndim = c.half(x, NDIM)
    other = c.half(y, NDIM)
    left = c.load(x, LENGTHS)
    right = c.load(y, LENGTHS)
    steps = c.load(x, STEPS)
    beside = c.load(y, STEPS)
    size = 4 + 4 * float_of(k, x)
    c.store(job, SIZE, size)
    c.store(job, A, c.load(x, DATA))
    c.store(job, B, c.load(y, DATA))
    if ndim == 2 and other == 2:
        rows(job, N, K, RA, CA, left, steps)
        rows(job, K, M, RB, CB, right, beside)
        return c.load(left, 8) == c.load(right, 0)
    if ndim != 1 or other != 1 or (c.half(x, FLAGS) & c.half(y, FLAGS) & ROWS) != ROWS:
        return 0
    length = c.load(left, 0)
    c.store(job, N, 1)
    c.store(job, K, length)
    c.store(job, M, 1)
    c.store(job, RA, size * length)
    c.store(job, CA, size)
    c.store(job, RB, size)
    c.store(job, CB, size)
    if length >= LONG_ROW:
        return 0
    return c.load(right, 0) == length


def rows(job: int, n: int, m: int, down: int, across: int, lengths: int, steps: int) -> int:
    """Note the sizes of a matrix, and the bytes from row to row and from column to column."""
    c.store(job, n, c.load(lengths, 0))
    c.store(job, m, c.load(lengths, 8))
    c.store(job, down, c.load(steps, 0))
    c.store(job, across, c.load(steps, 8))
    return 0


def work(job: int) -> int:
    """The multiply-adds of a product."""
    return c.load(job, N) * c.load(job, K) * c.load(job, M)


def is_own(k: int, job: int) -> int:
    """Whether a product is our own."""
    if c.load(job, N) < LEAST or c.load(job, M) < LEAST:
        return 0
    return item(item(k, HOME), OWN) != item(k, NONE)


def brief(k: int, job: int) -> int:
    """Whether a product is neither empty nor one that more than a thread may be worth."""
    if c.load(job, N) * c.load(job, M) * c.load(job, SIZE) >= ALIGNED or work(job) == 0:
        return 0
    if is_own(k, job):
        return work(job) * c.load(job, SIZE) < 4 * MIDDLING
    return work(job) < SHARED


def way_of(k: int, job: int) -> int:
    """How our own product goes; 0 with an exception."""
    place = c.load(job, SIZE)
    i = 0
    while i < 56:
        place = 31 * place + c.load(job, i)
        i = i + 8
    place = place & (PLACES - 1)
    several = item(item(k, HOME), WAYS)
    found = listed(several, place)
    if found != item(k, NONE):
        same = 1
        i = 0
        while i < 64 and same:
            same = c.load(found + BYTES + KEY, i) == c.load(job, i)
            i = i + 8
        if same:
            return taken(found)
    key = c.PyTuple_New(9)
    if key == 0:
        return 0
    i = 0
    while i < 64:
        number = c.PyLong_FromSsize_t(c.load(job, i))
        c.store(key, ITEMS + i, number)
        if number == 0:
            c.Py_DecRef(key)
            return 0
        i = i + 8
    number = c.PyLong_FromSsize_t(place)
    c.store(key, ITEMS + 64, number)
    found = 0
    if number != 0:
        found = c.PyObject_Vectorcall(item(item(k, HOME), WAY), key + ITEMS, 9, 0)
    c.Py_DecRef(key)
    return found


def by_own(k: int, job: int, y: int) -> int:
    """Fill an array by our own product. 1, or 0 with an exception, or -1 where there is no way."""
    way = way_of(k, job)
    if way == 0:
        return 0
    plan = way + BYTES
    code = c.load(plan, CODE)
    scratch = c.load(plan, SCRATCH)
    zone = 0
    if code != 0 and scratch != 0:
        zone = c.PyMem_RawMalloc(scratch + 64)
        if zone == 0:
            code = 0
    if code == 0:
        c.Py_DecRef(way)
        return -1
    start = (zone + 63) & -64
    if work(job) < LONG:
        c.run(code, c.load(job, A), c.load(job, B), c.load(y, DATA), plan + WORDS, start)
    else:
        state = c.PyEval_SaveThread()
        c.run(code, c.load(job, A), c.load(job, B), c.load(y, DATA), plan + WORDS, start)
        c.PyEval_RestoreThread(state)
    c.PyMem_RawFree(zone)
    c.Py_DecRef(way)
    return 1


def prepared(k: int, count: int) -> int:
    """Have the BLAS take the threads that so many multiply-adds are worth. 0 with an exception."""
    given = c.room(1)
    number = c.PyLong_FromSsize_t(count)
    if number == 0:
        return 0
    c.store(given, 0, number)
    done = c.PyObject_Vectorcall(item(item(k, HOME), PREPARE), given, 1, 0)
    c.Py_DecRef(number)
    c.Py_DecRef(done)
    return done != 0


def by_numpys(k: int, job: int, y: int) -> int:
    """The same by the loop within NumPy's `matmul`."""
    size = c.load(job, SIZE)
    which = 0
    if size == 8:
        which = 1
    block = item(item(k, HOME), MATMULS + which)
    if block == item(k, NONE):
        return -1
    if work(job) >= ALONE and prepared(k, work(job)) == 0:
        return 0
    places = c.room(3)
    lengths = c.room(4)
    steps = c.room(9)
    c.store(places, 0, c.load(job, A))
    c.store(places, 8, c.load(job, B))
    c.store(places, 16, c.load(y, DATA))
    c.store(lengths, 0, 1)
    c.store(steps, 0, 0)
    c.store(steps, 8, 0)
    c.store(steps, 16, 0)
    i = 0
    while i < 24:
        c.store(lengths, 8 + i, c.load(job, i))
        i = i + 8
    while i < 56:
        c.store(steps, i, c.load(job, i))
        i = i + 8
    c.store(steps, 56, size * c.load(job, M))
    c.store(steps, 64, size)
    code = c.load(block + BYTES, 0)
    data = c.load(block + BYTES, 8)
    if work(job) < LONG:
        c.run(code, places, lengths, steps, data)
    else:
        state = c.PyEval_SaveThread()
        c.run(code, places, lengths, steps, data)
        c.PyEval_RestoreThread(state)
    return 1


def filled_by(k: int, job: int, dtype: int, ndim: int, lengths: int) -> int:
    """The array of a product; 0, also without an exception, where Python is to make it."""
    y = new(k, dtype, ndim, lengths)
    if y == 0:
        return 0
    good = -1
    if is_own(k, job):
        good = by_own(k, job, y)
    if is_own(k, job) == 0:
        good = by_numpys(k, job, y)
    if good != 1:
        c.Py_DecRef(y)
        return 0
    return y


def plainly(x: int, y: int) -> int:
    """Whether NumPy multiplies two arrays in one way, whatever function of its is asked to."""
    if (c.half(x, FLAGS) & ROWS) != ROWS and (c.half(x, FLAGS) & COLUMNS) != COLUMNS:
        return 0
    if (c.half(y, FLAGS) & ROWS) != ROWS and (c.half(y, FLAGS) & COLUMNS) != COLUMNS:
        return 0
    return 1


def product(k: int, x: int, y: int) -> int:
    """The product of two arrays of one dtype; 0 as `filled_by`."""
    job = c.room(10)
    if told(k, job, x, y) == 0 or brief(k, job) == 0:
        return long_product(k, x, y)
    if is_own(k, job) == 0 and plainly(x, y) == 0:
        return 0
    lengths = c.room(2)
    c.store(lengths, 0, c.load(job, N))
    c.store(lengths, 8, c.load(job, M))
    ndim = c.half(x, NDIM)
    if ndim == 1:
        ndim = 0
    return filled_by(k, job, c.load(x, DTYPE), ndim, lengths)
