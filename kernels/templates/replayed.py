"""Loops that replays need: sums that end in the array they are for, checks of values."""

from __future__ import annotations

from .elementwise import Text, head
from .reductions import sums


def row_sums(bits: int, wide: bool) -> Text:
    """The sum of each row, in blocks joined in float64; `wide` results are float64."""
    text = sums(bits, "x", "x[i, j]", "v" if wide else "T(v)")
    return text, "In(2), Out(1, float64)" if wide else "In(2), Out(1)"


def total(bits: int) -> Text:
    """The sum of float64 terms, in order, as one element."""
    text = """
def kernel(x, y):
    v = 0.0
    for i in range(x.size):
        v += x[i]
    y[0] = T(v)
"""
    return head(bits) + text, "In(1, float64), Out(1)"


def joined(bits: int) -> Text:
    """The sums of the columns of `x (n, m)`, added in float64."""
    text = """
def kernel(x, y):
    for j in range(y.size):
        v = 0.0
        for i in range(x.shape[0]):
            v += x[i, j]
        y[j] = T(v)
"""
    return head(bits) + text, "In(2), Out(1)"


def within(kind: str, whole: bool) -> Text:
    """Set `found[0]` to 1 where a value of that NumPy type is not in low ... high."""
    bound = "int64" if whole else "scalar"
    text = """
def kernel(x, found, low, high):
    out = 0
    for i in range(x.size):
        out |= not (x[i] >= low and x[i] <= high)
    if out != 0:
        found[0] = 1
"""
    signature = f"In(1, {kind}), Out(1, int64), {bound}, {bound}"
    return head(64) + text, signature


def strided(kind: str, dense: bool) -> Text:
    """Elements in steps along four axes, in row-major order; `dense`: the last step is 1."""
    last = "l" if dense else "l * sl"
    text = f"""
def kernel(x, y, ni, nj, nk, nl, si, sj, sk, sl):
    at = 0
    for i in range(ni):
        for j in range(nj):
            for k in range(nk):
                start = i * si + j * sj + k * sk
                for l in range(nl):
                    y[at + l] = x[start + {last}]
                at += nl
"""
    counts = ", ".join(["int64"] * 8)
    return head(64) + text, f"In(1, {kind}), Out(1, {kind}), {counts}"


def filled(bits: int) -> Text:
    """One number in every element."""
    text = """
def kernel(y, value):
    v = T(value)
    for i in range(y.size):
        y[i] = v
"""
    return head(bits) + text, "Out(1), scalar"
