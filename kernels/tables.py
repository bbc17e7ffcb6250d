"""Reductions of NumPy arrays over axes, by compiled loops over the rows or columns of tables."""

from __future__ import annotations

from functools import cache

import numpy as np

from gradnet import blas
from gradnet.backends import Array
from gradnet.dtypes import DType, float64
from gradnet.numpy_backend import NumpyBackend
from gradnet.numpy_calls import quiet

from . import compiler, operands, threads
from .compiler import Kernel
from .maps import placed
from .operands import FLOATS
from .templates import reductions, replayed

_JOIN = {"max": np.maximum, "min": np.minimum}
_KINDS = frozenset(("sum", *_JOIN))

# A row of so many elements is summed in blocks, whatever the number of threads.
LONG_ROW = 1 << 18
# Pieces that the extreme of such a row is taken of.
_PIECES = 16
# And those in one of which its place is.
_PARTS = 256
# Sums of blocks that are joined by a compiled loop: NumPy sets out slower, and is faster at more.
_FEW = 1 << 12


@cache
def _kernel(bits: int, kind: str, wide: bool = True) -> Kernel:
    if kind == "joined":
        build = replayed.joined(bits)
    elif kind == "total":
        build = replayed.total(bits)
    elif kind == "products":
        build = reductions.products(bits)
    elif kind == "columns":
        build = reductions.columns(bits) if wide else reductions.whole_columns(bits)
    else:
        build = reductions.rows(bits, kind, wide)
    return compiler.entry(compiler.compiled(*build))


def sum_of_row(bits: int) -> int:
    """Where the code is that `reduce` sums few elements by: of (x, 1, length, y, 1)."""
    return compiler.whole(_kernel(bits, "sum", False)).address


def sums_of_columns(bits: int) -> int:
    """Where the code is that sums up to ROWS rows of a table: of (x, 1, rows, m, y, 1, 1, m)."""
    return compiler.whole(_kernel(bits, "columns")).address


def of_rows(kind: str, table: Array, bits: int) -> Array:
    """The sum, maximum or minimum of each row; sums in float64."""
    n, m = table.shape
    if n == 1 and m >= LONG_ROW and kind != "sum":
        # A table of pieces, which threads can share.
        whole = m // _PIECES * _PIECES
        found = np.empty(_PIECES + m - whole, table.dtype)
        pieces = table[0, :whole].reshape(_PIECES, -1)
        threads.launch(_kernel(bits, kind), [pieces, found[:_PIECES]], (), whole, threads.SHARE)
        found[_PIECES:] = table[0, whole:]
        top = np.empty(1, table.dtype)
        _kernel(bits, kind)(found.reshape(1, -1), top)
        return top
    if n == 1 and m >= LONG_ROW:
        # It becomes a table of blocks.
        whole = m // reductions.BLOCK * reductions.BLOCK
        blocks = of_rows(kind, table[0, :whole].reshape(-1, reductions.BLOCK), bits)
        if whole < m:
            rest = of_rows(kind, np.ascontiguousarray(table[:, whole:]), bits)
            blocks = np.concatenate([blocks, rest])
        if blocks.size > _FEW:
            return quiet.call(np.add.reduce, blocks, keepdims=True)
        y = np.empty(1, table.dtype)
        _kernel(bits, "total")(blocks, y)
        return y
    result = np.empty(n, float64 if kind == "sum" else table.dtype)
    threads.launch(_kernel(bits, kind), [table, result], (), n * m, threads.SHARE)
    return result


def of_columns(table: Array, bits: int) -> Array:
    """`table.sum(1)`: (a, n, m) -> (a, m)."""
    a, n, m = table.shape
    block = reductions.ROWS
    sums = np.empty((a, -(-n // block), m), table.dtype)
    kernel = _kernel(bits, "columns")
    if a > 1:
        threads.launch(kernel, [table, sums], (), table.size, threads.SHARE)
    else:
        blocks = n // block
        whole = table[0, : blocks * block].reshape(blocks, block, m)
        if blocks:
            into = sums[0, :blocks, None]
            threads.launch(kernel, [whole, into], (), whole.size, threads.SHARE)
        if blocks * block < n:
            kernel(table[:, blocks * block :], sums[:, blocks:])
    return joined(sums)


def joined(sums: Array) -> Array:
    """The sums of blocks of rows, (a, blocks, m) -> (a, m), added in float64."""
    a, blocks, m = sums.shape
    if blocks == 1:
        return sums[:, 0]
    if a == 1 < m and blocks * m <= _FEW:
        y = np.empty((1, m), sums.dtype)
        _kernel(FLOATS[sums.dtype], "joined")(sums[0], y[0])
        return y
    total = quiet.call(np.add.reduce, sums, axis=1, dtype=float64)
    return quiet.call(total.astype, sums.dtype)


def vectors(a: Array, b: Array) -> Array | None:
    """`(n,) @ (n,) -> ()` for long vectors, in pieces that threads can share; else None."""
    bits, size = FLOATS.get(a.dtype), a.size
    if bits is None or size < LONG_ROW or b.shape != a.shape or b.dtype is not a.dtype:
        return None
    if not a.flags.c_contiguous or not b.flags.c_contiguous:
        return None
    whole = size // _PIECES * _PIECES
    x, z = (part[:whole].reshape(_PIECES, -1) for part in (a, b))
    found = np.empty(_PIECES)
    blas.alone()  # its threads would spin on the processors that ours need
    threads.launch(_kernel(bits, "products"), [x, z, found], (), whole, threads.SHARE)
    total = sum(found.tolist())
    if whole < size:
        total += float(quiet.call(a[whole:].dot, b[whole:]))
    y: Array = quiet.call(np.array, total, a.dtype)
    return y


class Reductions(NumpyBackend):
    """What reduces the arrays of the NumPy backend over axes."""

    def argreduce(self, kind: str, x: Array, axis: int, *, out: Array | None = None) -> Array:
        bits = FLOATS.get(x.dtype)
        if bits is None or x.ndim != 1 or x.size < LONG_ROW or not x.flags.c_contiguous:
            return super().argreduce(kind, x, axis, out=out)
        # The piece that reaches the extreme first, then where in it.
        whole = x.size // _PARTS * _PARTS
        pieces = x[:whole].reshape(_PARTS, -1)
        tops = of_rows(kind, pieces, bits)
        if whole < x.size:
            tops = np.concatenate([tops, x[whole:]])
        find = np.ndarray.argmax if kind == "max" else np.ndarray.argmin
        place = int(find(tops))
        if place < _PARTS:
            place = place * pieces.shape[1] + int(find(pieces[place]))
        else:
            place += whole - _PARTS
        found: Array = np.array(place, np.int64)
        return found if out is None else placed(found, (), found.dtype, out)

    def reduce(
        self,
        kind: str,
        x: Array,
        axes: tuple[int, ...],
        keepdims: bool,
        *,
        dtype: DType,
        out: Array | None = None,
    ) -> Array:
        bits = FLOATS.get(x.dtype)
        if bits is None or kind not in _KINDS or not x.size or x.dtype != dtype:
            return super().reduce(kind, x, axes, keepdims, dtype=dtype, out=out)
        order, (outer, count, inner), shape = operands.fold(x.shape, axes, keepdims)
        if order is not None:
            x = x.transpose(order)
        if not x.flags.c_contiguous:
            x = np.ascontiguousarray(x)
        if out is None and 2 * x.size < threads.SHARE:
            # As below, in few steps.
            if inner == 1:
                y = np.empty(shape, dtype)
                _kernel(bits, kind, False)(x.reshape(outer, count), y.ravel())
                return y
            if kind == "sum" and count <= reductions.ROWS:
                y = np.empty(shape, dtype)
                _kernel(bits, "columns")(x.reshape(outer, count, inner), y.reshape(outer, 1, inner))
                return y
        alone = 2 * x.size < threads.SHARE or count < 2 * reductions.ROWS
        if out is None and kind == "sum" and outer == 1 < inner and alone:
            # What `of_columns` would not share.
            blocks = -(-count // reductions.ROWS)
            y, sums = np.empty(shape, dtype), np.empty((blocks, inner), dtype)
            _kernel(bits, "columns", False)(x.reshape(count, inner), sums, y.ravel())
            return y
        if inner == 1:
            result = of_rows(kind, x.reshape(outer, count), bits)
        elif kind == "sum":
            result = of_columns(x.reshape(outer, count, inner), bits)
        else:
            result = _JOIN[kind].reduce(x.reshape(outer, count, inner), axis=1)
        return placed(result, shape, dtype, out)
