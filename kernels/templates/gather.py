"""The loop that adds to rows named by an index."""

from __future__ import annotations

from .elementwise import Text, head


def add_rows(bits: int) -> Text:
    """`x[index[i]] += values[i]`, one after the other, for valid, non-negative indices."""
    text = """
def kernel(x, index, values):
    for i in range(index.size):
        r = index[i]
        for j in range(x.shape[1]):
            x[r, j] += values[i, j]
"""
    return head(bits) + text, "Out(2), In(1, int64), In(2)"
