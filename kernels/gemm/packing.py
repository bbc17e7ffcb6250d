"""Panels: lines of a matrix laid out in the order in which a tile reads them.

    transposed(place, stride, lines, k, panel, pitch)   lines one after the other
    copied(place, stride, lines, k, panel, pitch)       lines side by side

Both leave element (line, p) at `panel[p * pitch + line]`; strides and the pitch are in bytes. They
write whole vectors: beyond the lines up to the pitch, and `transposed` up to a vector's width of
rows beyond k, where nobody reads or the next panel is written later.
"""

from __future__ import annotations

from .text import Writer
from .tile import Shape, lanes_below, load, store

# How far ahead lines are asked for: rows that are copied, or cache lines of those transposed.
_AHEAD = 16
_LINES = 2


def functions(shape: Shape) -> str:
    """Both functions."""
    head = "(ptr noalias %place, i64 %stride, i64 %lines, i64 %k, ptr noalias %panel, i64 %pitch)"
    return "".join(
        f'define internal void @{name}{head} "prefer-vector-width"="512" {{\n{body}\nret void\n}}\n'
        for name, body in (("transposed", _transposed(shape)), ("copied", _copied(shape)))
    )


def _transposed(shape: Shape) -> str:
    text, width, size = Writer(), shape.width, shape.size
    last = text.binary("sub", "%lines", 1)
    with text.loop(0, "%lines", width) as group:
        places = []
        for i in range(width):
            # There is always a line to read: beyond the last it is the last again.
            line = text.less(text.binary("add", group, i), last)
            places.append(text.ahead("%place", text.binary("mul", line, "%stride")))
        target = text.ahead("%panel", text.binary("mul", group, size))
        whole = "0"
        if not shape.masks_freely:
            whole = text.binary("and", "%k", -width)
            with text.loop(0, whole, width) as p:
                _block(text, shape, places, target, p, None)
        with text.loop(whole, "%k", width) as p:
            left = text.binary("sub", "%k", p)
            _block(text, shape, places, target, p, lanes_below(text, shape, left))
    return "\n".join(text.lines)


def _block(
    text: Writer, shape: Shape, places: list[str], target: str, p: str, mask: str | None
) -> None:
    """So many lines and so many p as a vector has lanes."""
    ahead = text.binary("mul", p, shape.size)
    rows = []
    for place in places:
        at = text.ahead(place, ahead)
        rows.append(load(text, shape, at, mask))
        asked = text.ahead(at, 64 * _LINES)
        text.do(f"call void @llvm.prefetch.p0(ptr {asked}, i32 0, i32 3, i32 1)")
    place = text.ahead(target, text.binary("mul", p, "%pitch"))
    for column in turned(text, shape, rows):
        store(text, shape, column, place, None)
        place = text.ahead(place, "%pitch")


def turned(text: Writer, shape: Shape, rows: list[str]) -> list[str]:
    """Rows of a square as its columns: interleaving row i with row i + half turns it by halves."""
    width, half = shape.width, shape.width // 2
    low = [i // 2 + width * (i % 2) for i in range(width)]
    masks = [", ".join(f"i32 {i + start}" for i in low) for start in (0, half)]
    for _ in range(width.bit_length() - 1):
        rows = [
            text.new(
                f"shufflevector {shape.vector} {rows[i]}, {shape.vector} {rows[i + half]}, "
                f"<{width} x i32> <{mask}>"
            )
            for i in range(half)
            for mask in masks
        ]
    return rows


def _copied(shape: Shape) -> str:
    text, width, size = Writer(), shape.width, shape.size
    soon = text.binary("mul", "%stride", _AHEAD)
    with text.loop(0, "%lines", 2 * width) as line:
        places = [text.ahead(x, text.binary("mul", line, size)) for x in ("%place", "%panel")]
        left = text.binary("sub", "%lines", line)
        both = text.new(f"icmp sgt i64 {left}, {width}")
        masks = [lanes_below(text, shape, x) for x in (left, text.binary("sub", left, width))]
        for condition, count in ((both, 2), (text.new(f"xor i1 {both}, true"), 1)):
            with text.when(condition), text.loop(0, "%k") as p:
                source = text.ahead(places[0], text.binary("mul", p, "%stride"))
                target = text.ahead(places[1], text.binary("mul", p, "%pitch"))
                for part in range(count):
                    at = text.ahead(source, part * width * size)
                    asked = text.ahead(at, soon)
                    text.do(f"call void @llvm.prefetch.p0(ptr {asked}, i32 0, i32 3, i32 1)")
                    x = load(text, shape, at, masks[part])
                    store(text, shape, x, text.ahead(target, part * width * size), None)
    return "\n".join(text.lines)
