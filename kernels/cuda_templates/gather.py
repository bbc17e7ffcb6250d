"""Rows taken by index, and added or written to places whose order is known.

Nothing is added atomically: places are sorted first, equal ones keeping their order, and one
thread adds what belongs to a place, in that order.
"""

from __future__ import annotations

from .program import Program, indented, loaded, stored


def take_rows(code: str) -> Program:
    """`y[i] = x[index[i]]` for rows of m elements.

    Parameters: x, index, y, fault, n, count, m, fill.
    Indices count from the end where negative. One out of range fills its row and sets `fault` to
    what it was, the count, and 0. Elements are moved as they are; `code` says how wide they are.
    """
    lines = [
        "step = cuda.gridsize(1)",
        "i = cuda.grid(1)",
        "while i < n * m:",
        "    row = I(U(i) // U(m))",
        "    j = i - row * m",
        "    r = index[row]",
        "    if r < 0:",
        "        r = r + count",
        "    if r < 0 or r >= count:",
        "        fault[0] = index[row]",
        "        fault[1] = count",
        "        fault[2] = 0",
        "        y[i] = fill",
        "    else:",
        "        y[i] = x[r * m + j]",
        "    i = i + step",
    ]
    text = "def kernel(x, index, y, fault, n, count, m, fill):\n" + indented(lines, 1)
    signature = (f"{code}*", "i8*", f"{code}*", "i8*", "i8", "i8", "i8", code)
    return Program("take", text, signature, 32)


def place_rows(code: str, bits: int, add: bool) -> Program:
    """`x[places[i]] = values[order[i]]` for rows of m elements, or a sum in which they add up.

    `places` are sorted, equal ones in the order in which they count: without `add` the last wins.
    One below 0 or from `count` on is skipped and noted in `fault`: the index, the count, and 1.
    Parameters: x, places, order, values, fault, n, count, m.
    """
    if add:
        work = [
            "if s == 0 or places[s - 1] != p:",
            f"    total = {loaded(code, 'x[p * m + j]')}",
            "    e = s",
            "    while e < n and places[e] == p:",
            f"        total = total + {loaded(code, 'values[order[e] * m + j]')}",
            "        e = e + 1",
            f"    x[p * m + j] = {stored(code, 'total')}",
        ]
    else:
        work = [
            "if s == n - 1 or places[s + 1] != p:",
            "    x[p * m + j] = values[order[s] * m + j]",
        ]
    lines = [
        "step = cuda.gridsize(1)",
        "i = cuda.grid(1)",
        "while i < n * m:",
        "    s = I(U(i) // U(m))",
        "    j = i - s * m",
        "    p = places[s]",
        "    if p < 0 or p >= count:",
        "        fault[0] = p if p > 0 else p - count",
        "        fault[1] = count",
        "        fault[2] = 1",
        "    else:",
        *(f"        {line}" for line in work),
        "    i = i + step",
    ]
    text = "def kernel(x, places, order, values, fault, n, count, m):\n" + indented(lines, 1)
    signature = (f"{code}*", "i8*", "i8*", f"{code}*", "i8*", "i8", "i8", "i8")
    return Program("add_rows" if add else "set_rows", text, signature, bits)
