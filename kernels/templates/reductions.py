"""Loops that reduce rows, or sum columns.

The order of the terms depends on the shape alone. Sums go in blocks, a vector of terms at a time;
the blocks of a row are joined in float64, those of a column by the caller.
"""

from __future__ import annotations

from .elementwise import Text, extreme, head, helpers

# Terms of a row added at the precision of the row: 16 in each of a vector's 32 lanes.
BLOCK = 512
# Rows added at the precision of the rows.
ROWS = 128


def rows(bits: int, kind: str, wide: bool = True) -> Text:
    """The "sum" of each row, in float64 or where not `wide` rounded, or its "max" or "min"."""
    if kind in ("max", "min"):
        text = """
def kernel(x, y):
    for i in range(x.shape[0]):
        y[i] = extreme(x, i, x.shape[1])
"""
        return head(bits) + extreme(bits, kind) + text, "In(2), Out(1)"
    result = "Out(1, float64)" if wide else "Out(1)"
    return sums(bits, "x", "x[i, j]"), f"In(2), {result}"


def pieces(bits: int, kind: str) -> Text:
    """The "max" or "min" of a table of pieces and of what follows their own extremes in `found`."""
    text = """
def kernel(x, found, y):
    for i in range(x.shape[0]):
        found[0, i] = extreme(x, i, x.shape[1])
    for i in range(y.size):
        y[i] = extreme(found, i, found.shape[1])
"""
    return head(bits) + extreme(bits, kind) + text, "In(2), Out(2), Out(1)"


def products(bits: int) -> Text:
    """The product of each row with one of another table, in float64."""
    return sums(bits, "x, z", "x[i, j] * z[i, j]"), "In(2), In(2), Out(1, float64)"


def product_of_pieces(bits: int) -> Text:
    """The product of a vector with another, each in pieces, by way of the products of those."""
    text = sums(bits, "x, z, found", "x[i, j] * z[i, j]", into="found")
    text += """
    v = 0.0
    for i in range(found.size):
        v += found[i]
    y[0] = T(v)
"""
    return text, "In(2), In(2), Out(1, float64), Out(1)"


def sums(bits: int, tables: str, term: str, result: str = "v", into: str = "y") -> str:
    """The text of a kernel that sums a term of each row of tables, in blocks joined in float64.

    `result` is what it puts `into` an array of the sum `v`.
    """
    text = f"""
def kernel({tables}, y):
    for i in range(x.shape[0]):
        v = 0.0
        for start in range(0, x.shape[1], {BLOCK}):
            part = T(0)
            end = start + {BLOCK}
            for j in range(start, end if end < x.shape[1] else x.shape[1]):
                part = lane_add(part, {term})
            v += part
        {into}[i] = {result}
"""
    # Not of the widest vectors: NumPy's arrays begin within a line of the cache, and each of theirs
    # would be loaded from two.
    return head(bits) + helpers(bits, "lane_add") + text


def _summed(bits: int) -> str:
    """Definitions of what adds columns of m from one to another.

    `summed(x, sums, first, count, into, m, start, stop)` gives a row of sums from rows of x,
    `joined(sums, y, count, m, start, stop)` the sums of rows of those.
    """
    names = f"sums_{bits} as summed, joined_{bits} as joined"
    return f"wide = True\nfrom gradnet.kernels.templates.column_sums import {names}\n"


def columns(bits: int) -> Text:
    """`sums[a, b] = x[a, block b].sum(0)` for each block of rows, which are added one by one."""
    text = f"""
def kernel(x, sums):
    m = x.shape[2]
    for a in range(sums.shape[0]):
        for b in range(sums.shape[1]):
            left = x.shape[1] - b * {ROWS}
            count = left if left < {ROWS} else {ROWS}
            first = a * x.shape[1] + b * {ROWS}
            summed(x, sums, first, count, a * sums.shape[1] + b, m, int64(0), m)
"""
    return head(bits) + _summed(bits) + text, "In(3), Out(3)"


def whole_columns(bits: int) -> Text:
    """`y = x.sum(0)`, by way of the sums of blocks of rows, which are added in float64.

    Of strips of so many columns, those in `places`.
    """
    text = f"""
def kernel(places, x, sums, y, width):
    m = x.shape[1]
    for p in range(places.size):
        start = places[p] * width
        end = start + width
        stop = end if end < m else m
        for b in range(sums.shape[0]):
            left = x.shape[0] - b * {ROWS}
            summed(x, sums, b * {ROWS}, left if left < {ROWS} else {ROWS}, b, m, start, stop)
        joined(sums, y, sums.shape[0], m, start, stop)
"""
    return head(bits) + _summed(bits) + text, "In(1, int64), In(2), Out(2), Out(1), int64"
