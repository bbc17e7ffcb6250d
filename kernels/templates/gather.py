"""Loops over rows named by an index: rows that are copied, and rows that are added to."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .elementwise import Text, head


def moved(b: ir.IRBuilder, x: Any, source: Any, y: Any, target: Any, count: int) -> None:
    """Code that copies so many bytes, a power of 2 up to 32, from a place in x to one in y."""
    kind: Any = ir.IntType(8 * count) if count <= 8 else ir.VectorType(ir.IntType(8), count)
    byte = ir.IntType(8)
    found = b.load(b.gep(x, [source], source_etype=byte), typ=kind, align=1)
    b.store(found, b.gep(y, [target], source_etype=byte), align=1)


def picked(width: int) -> Text:
    """Rows of so many bytes of a table at valid indices; negative ones count from the end.

    A row's last bytes are copied together with some before them, a second time. So the code depends
    on little of the width.
    """
    count = min(1 << width.bit_length() - 1, 32)
    whole = f"""
        for j in range(0, x.shape[1] - {count}, {count}):
            moved(x, source + j, y, target + j, {count})"""
    if width < 64:
        whole = f"moved(x, source, y, target, {count})"
    text = f"""
from gradnet.kernels.templates.gather import moved


def kernel(x, rows, y):
    for i in range(rows.size):
        r = rows[i]
        if r < 0:
            r += x.shape[0]
        source = r * x.shape[1]
        target = i * x.shape[1]
        {whole.lstrip()}
        last = x.shape[1] - {count}
        moved(x, source + last, y, target + last, {count})
"""
    return head(64) + text, "In(2, uint8), In(1, int64), Out(2, uint8)"


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
