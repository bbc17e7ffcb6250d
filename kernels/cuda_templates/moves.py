"""Several arrays at once: rounded or widened, or their rows taken by index."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from .elementwise import brought, loop, put
from .program import Program, indented, loaded, stored


class Part(NamedTuple):
    """How one array is moved: the codes of what is read and written.

    width  how many elements a thread takes at a time
    rows   whether an array of indices tells which rows to take
    """

    source: str
    target: str
    width: int = 1
    rows: bool = False


def moves(parts: tuple[Part, ...]) -> Program:
    """Parameters: for each part x, y, n, and where rows are taken index, count, m; fault.

    n is the number of elements, m that of a row, and count that of rows which there are. An index
    out of range sets `fault`, as `gather.take_rows` does; its row is NaN, or where words are moved
    as they are the number that follows m.
    """
    taken: dict[str, str] = {}
    text = ""
    for k, part in enumerate(parts):
        taken |= {f"x{k}": f"{part.source}*", f"y{k}": f"{part.target}*", f"n{k}": "i8"}
        if part.rows:
            taken |= {f"index{k}": "i8*", f"count{k}": "i8", f"m{k}": "i8"}
            value, fill = f"x{k}[r * m{k} + i - row * m{k}]", f"fill{k}"
            if part.source == part.target:
                taken[fill] = part.target
            else:
                value = stored(part.target, loaded(part.source, value))
                fill = stored(part.target, "T(np.nan)")
            text += indented(_rows(k, value, fill), 1)
        else:
            text += loop(part.width, f"n{k}", partial(_rounding, part, k))
    if any(part.rows for part in parts):
        taken["fault"] = "i8*"
    text = f"def kernel({', '.join(taken)}):\n" + text
    return Program("moves", text, tuple(taken.values()), 32)


def _rounding(part: Part, k: int, lanes: int, place: str) -> list[str]:
    """Lines that move elements of the part of that number, so many at a time."""
    values = [f"x{k}_{lane}" for lane in range(lanes)]
    return [*brought(f"x{k}", part.source, lanes, place), put(f"y{k}", part.target, values, place)]


def _rows(k: int, value: str, fill: str) -> list[str]:
    """Lines that move rows of the part of that number."""
    return [
        "step = cuda.gridsize(1)",
        "i = cuda.grid(1)",
        f"while i < n{k}:",
        f"    row = I(U(i) // U(m{k}))",
        f"    r = index{k}[row]",
        "    if r < 0:",
        f"        r = r + count{k}",
        f"    if r < 0 or r >= count{k}:",
        f"        fault[0] = index{k}[row]",
        f"        fault[1] = count{k}",
        "        fault[2] = 0",
        f"        y{k}[i] = {fill}",
        "    else:",
        f"        y{k}[i] = {value}",
        "    i = i + step",
    ]
