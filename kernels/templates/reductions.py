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
    text = f"""
def kernel(x, y):
    for i in range(x.shape[0]):
        v = 0.0
        for start in range(0, x.shape[1], {BLOCK}):
            part = T(0)
            end = start + {BLOCK}
            for j in range(start, end if end < x.shape[1] else x.shape[1]):
                part = lane_add(part, x[i, j])
            v += part
        y[i] = v
"""
    return head(bits) + helpers(bits, "lane_add") + text, (
        "In(2), Out(1, float64)" if wide else "In(2), Out(1)"
    )


def columns(bits: int) -> Text:
    """`sums[a, b] = x[a, block b].sum(0)` for each block of rows, which are added one by one."""
    text = f"""
wide = True
from gradnet.kernels.templates.column_sums import sums_{bits} as summed


def kernel(x, sums):
    for a in range(sums.shape[0]):
        for b in range(sums.shape[1]):
            left = x.shape[1] - b * {ROWS}
            count = left if left < {ROWS} else {ROWS}
            summed(x, sums, a * x.shape[1] + b * {ROWS}, count, a * sums.shape[1] + b, x.shape[2])
"""
    return head(bits) + text, "In(3), Out(3)"
