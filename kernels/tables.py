"""Reductions of NumPy arrays over axes, by compiled loops over the rows or columns of tables."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from .replay.team import Team

EXTREMES = {"max": np.maximum, "min": np.minimum}
_KINDS = frozenset(("sum", *EXTREMES))

# A row of so many elements is summed in blocks, whatever the number of threads.
LONG_ROW = 1 << 18
# Pieces that the extreme of such a row is taken of.
PIECES = 16
# And those in one of which its place is.
_PARTS = 256
# Columns of a strip at least, and how many strips there are of more; where there are fewer blocks
# of rows than these, a team shares strips.
STRIP, STRIPS = 128, 16
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
    elif kind == "products of pieces":
        build = reductions.product_of_pieces(bits)
    elif kind.endswith("of pieces"):
        build = reductions.pieces(bits, kind.split()[0])
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


def of_rows(kind: str, table: Array, bits: int, crew: Team | None = None) -> Array:
    """The sum, maximum or minimum of each row; sums in float64. By a team, or where that pays."""
    n, m = table.shape
    if n == 1 and m >= LONG_ROW and kind != "sum":
        # A table of pieces, which threads can share, and then of their extremes.
        whole = m // PIECES * PIECES
        found, top = np.empty((1, PIECES + m - whole), table.dtype), np.empty(1, table.dtype)
        found[0, PIECES:] = table[0, whole:]
        pieces = table[0, :whole].reshape(PIECES, -1)

        def together(crew: Team) -> None:
            threads.run(crew, _kernel(bits, kind), [pieces, found[0, :PIECES]], ())
            _kernel(bits, kind)(found, top)

        threads.either(
            (kind, bits),
            m,
            threads.SHARE,
            lambda: _kernel(bits, f"{kind} of pieces")(pieces, found, top),
            together,
        )
        return top
    if n == 1 and m >= LONG_ROW:
        return _of_blocks(table, bits)
    result = np.empty(n, float64 if kind == "sum" else table.dtype)
    _launch(crew, _kernel(bits, kind), [table, result], n * m)
    return result


def _of_blocks(row: Array, bits: int) -> Array:
    """The sum of a long row, (1, m), in one pass over blocks of it, and one over their sums."""
    block, kernel = reductions.BLOCK, _kernel(bits, "sum")
    count, rest = divmod(row.size, block)
    sums = np.empty(count + (rest > 0))
    if rest:
        kernel(row[:, count * block :], sums[count:])
        row = row[:, : count * block]
    parts = [row.reshape(count, block), sums[:count] if rest else sums]
    threads.launch(kernel, parts, (), row.size, threads.SHARE)
    if sums.size > _FEW:
        return quiet.call(np.add.reduce, sums, keepdims=True)
    y = np.empty(1, row.dtype)
    _kernel(bits, "total")(sums, y)
    return y


def _launch(crew: Team | None, kernel: Kernel, parts: list[Array], size: int) -> None:
    """A kernel on so many elements of arrays, by a team, or where that pays."""
    if crew is None:
        threads.launch(kernel, parts, (), size, threads.SHARE)
    else:
        threads.run(crew, kernel, parts, ())


def of_columns(table: Array, bits: int, crew: Team | None = None) -> Array:
    """`table.sum(1)`: (a, n, m) -> (a, m). By a team, or where that pays."""
    a, n, m = table.shape
    block = reductions.ROWS
    sums = np.empty((a, -(-n // block), m), table.dtype)
    kernel = _kernel(bits, "columns")
    if a > 1:
        _launch(crew, kernel, [table, sums], table.size)
    else:
        blocks = n // block
        whole = table[0, : blocks * block].reshape(blocks, block, m)
        if blocks:
            _launch(crew, kernel, [whole, sums[0, :blocks, None]], whole.size)
        if blocks * block < n:
            kernel(table[:, blocks * block :], sums[:, blocks:])
    return joined(sums)


def _of_long_columns(table: Array, bits: int, crew: Team | None = None) -> Array:
    """`table.sum(0)`: (n, m) -> (m,), as `of_columns` gives it; a team shares strips of columns."""
    n, m = table.shape
    y, sums = np.empty(m, table.dtype), np.empty((-(-n // reductions.ROWS), m), table.dtype)
    kernel = _kernel(bits, "columns", False)
    if crew is None:
        kernel(_places(1), table, sums, y, m)
        return y
    width = max(m // (STRIPS * STRIP), 1) * STRIP
    threads.run(crew, kernel, [_places(-(-m // width))], [table, sums, y, width])
    return y


def _of_columns_by_team(table: Array, bits: int, crew: Team) -> Array:
    """The same by a team: of many rows blocks of them, which lie side by side in memory."""
    n, m = table.shape
    if n < STRIPS * reductions.ROWS and m >= STRIP * crew.size:
        return _of_long_columns(table, bits, crew)
    return of_columns(table[None], bits, crew)[0]


@cache
def _places(count: int) -> Array:
    """The numbers below a count."""
    return np.arange(count, dtype=np.int64)


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
    whole = size // PIECES * PIECES
    x, z = (part[:whole].reshape(PIECES, -1) for part in (a, b))
    found, y = np.empty(PIECES), np.empty((), a.dtype)
    blas.alone()  # its threads would spin on the processors that ours need

    def together(crew: Team) -> None:
        threads.run(crew, _kernel(bits, "products"), [x, z, found], ())
        _kernel(bits, "total")(found, y.ravel())

    threads.either(
        ("products", bits),
        size,
        threads.SHARE,
        lambda: _kernel(bits, "products of pieces")(x, z, found, y.ravel()),
        together,
    )
    if whole < size:
        rest = float(quiet.call(a[whole:].dot, b[whole:]))
        y[...] = quiet.call(np.array, sum(found.tolist(), rest), a.dtype)
    return y


def told(kind: str, bits: int) -> tuple[int, int, int, int]:
    """Of "max" or "min": where the code is for rows, and for pieces of a long one; where the counts
    are of calls that one thread is left alone with; and how many elements a long row has.
    """
    names = (kind, False), (f"{kind} of pieces", True)
    codes = [compiler.whole(_kernel(bits, *x)).address for x in names]
    return codes[0], codes[1], threads.free((kind, bits)), LONG_ROW


def told_of_products(bits: int) -> tuple[int, int, int]:
    """The same of the product of two long vectors, without the code for rows."""
    code = compiler.whole(_kernel(bits, "products of pieces")).address
    return code, threads.free(("products", bits)), LONG_ROW


def _place(kind: str, x: Array, bits: int, crew: Team) -> Array:
    """Where a long row has its "max" or "min" first: in the piece that first reaches it."""
    whole = x.size // _PARTS * _PARTS
    pieces = x[:whole].reshape(_PARTS, -1)
    tops = of_rows(kind, pieces, bits, crew)
    if whole < x.size:
        tops = np.concatenate([tops, x[whole:]])
    find = np.ndarray.argmax if kind == "max" else np.ndarray.argmin
    place = int(find(tops))
    if place < _PARTS:
        place = place * pieces.shape[1] + int(find(pieces[place]))
    else:
        place += whole - _PARTS
    return np.array(place, np.int64)


class Reductions(NumpyBackend):
    """What reduces the arrays of the NumPy backend over axes."""

    def argreduce(self, kind: str, x: Array, axis: int, *, out: Array | None = None) -> Array:
        bits = FLOATS.get(x.dtype)
        if bits is None or x.ndim != 1 or x.size < LONG_ROW or not x.flags.c_contiguous:
            return super().argreduce(kind, x, axis, out=out)
        found = threads.either(
            (f"arg{kind}", bits),
            x.size,
            threads.SHARE,
            lambda: NumpyBackend.argreduce(self, kind, x, 0),
            lambda crew: _place(kind, x, bits, crew),
        )
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
        if out is None and kind == "sum" and outer == 1 < inner:
            table = x.reshape(count, inner)
            if 2 * x.size < threads.SHARE or count < 2 * reductions.ROWS:
                return _of_long_columns(table, bits).reshape(shape)
            return threads.either(
                ("columns", bits),
                x.size,
                threads.SHARE,
                lambda: _of_long_columns(table, bits),
                lambda crew: _of_columns_by_team(table, bits, crew),
            ).reshape(shape)
        if inner == 1:
            result = of_rows(kind, x.reshape(outer, count), bits)
        elif kind == "sum":
            result = of_columns(x.reshape(outer, count, inner), bits)
        else:
            result = EXTREMES[kind].reduce(x.reshape(outer, count, inner), axis=1)
        return placed(result, shape, dtype, out)
