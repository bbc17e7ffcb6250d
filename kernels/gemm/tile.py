"""The innermost product: a tile of the result that stays in registers while k goes by.

    tile(k, a, sa, b, sb, c, sc, lanes, more)

A tile has some rows and one or two vectors of columns. For each p < k, row p of B is loaded as
vectors and each row's element of A is broadcast; their products go into the tile's accumulators,
fused, in the order of p. So a value depends on its row of A and its column of B alone, not on the
tile that it falls in. Strides are in bytes. Of the last vector only so many lanes are read and
written. With `more`, the sums are added to what C holds.
"""

from __future__ import annotations

from typing import NamedTuple

from .text import Typed, Writer

# How many turns ahead a panel of A is asked for.
_AHEAD = 8


class Shape(NamedTuple):
    """The registers' part of the design.

    width    lanes of a vector
    rows     of a tile
    bits     of an element
    vectors  side by side in a tile
    """

    width: int
    rows: int
    bits: int
    vectors: int = 2

    @property
    def size(self) -> int:
        """Bytes of an element."""
        return self.bits // 8

    @property
    def element(self) -> str:
        return "float" if self.bits == 32 else "double"

    @property
    def vector(self) -> str:
        return f"<{self.width} x {self.element}>"

    @property
    def mask(self) -> str:
        return f"<{self.width} x i1>"

    @property
    def columns(self) -> int:
        """Of a whole tile."""
        return self.vectors * self.width

    @property
    def pitch(self) -> int:
        """Elements from one p to the next in a packed panel of A: whole vectors."""
        return -(-self.rows // self.width) * self.width

    @property
    def masks_freely(self) -> bool:
        """Whether a masked load costs no more than a plain one: AVX-512's."""
        return self.width * self.bits == 512

    @property
    def deep(self) -> bool:
        """Whether it is for large products: see deep.py."""
        return self.vectors > 2

    @property
    def suffix(self) -> str:
        return f"v{self.width}f{self.bits}"


def declarations(shape: Shape) -> str:
    """What the code calls of LLVM."""
    v, s, mask = shape.vector, shape.suffix, shape.mask
    return f"""
declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.smax.i64(i64, i64)
declare {v} @llvm.fma.{s}({v}, {v}, {v})
declare {v} @llvm.masked.load.{s}.p0(ptr, i32, {mask}, {v})
declare void @llvm.masked.store.{s}.p0({v}, ptr, i32, {mask})
declare void @llvm.prefetch.p0(ptr, i32, i32, i32)
"""


def splat(text: Writer, kind: str, width: int, value: str) -> str:
    """A vector of one value."""
    one = text.new(f"insertelement <{width} x {kind}> poison, {kind} {value}, i32 0")
    return text.new(
        f"shufflevector <{width} x {kind}> {one}, <{width} x {kind}> poison, "
        f"<{width} x i32> zeroinitializer"
    )


def lanes_below(text: Writer, shape: Shape, count: str) -> str:
    """A mask of the first lanes."""
    whole = f"i{shape.bits}"
    if shape.bits == 32:
        count = text.new(f"trunc i64 {count} to i32")
    numbers = ", ".join(f"{whole} {i}" for i in range(shape.width))
    every = splat(text, whole, shape.width, count)
    return text.new(f"icmp slt <{shape.width} x {whole}> <{numbers}>, {every}")


def load(text: Writer, shape: Shape, place: str, mask: str | None) -> str:
    """A vector of memory, 0 where a mask is off."""
    if mask is None:
        return text.new(f"load {shape.vector}, ptr {place}, align {shape.size}")
    return text.new(
        f"call {shape.vector} @llvm.masked.load.{shape.suffix}.p0(ptr {place}, "
        f"i32 {shape.size}, {shape.mask} {mask}, {shape.vector} zeroinitializer)"
    )


def store(text: Writer, shape: Shape, value: str, place: str, mask: str | None) -> None:
    """Put a vector into memory, but for lanes where a mask is off."""
    if mask is None:
        text.do(f"store {shape.vector} {value}, ptr {place}, align {shape.size}")
        return
    text.do(
        f"call void @llvm.masked.store.{shape.suffix}.p0({shape.vector} {value}, ptr {place}, "
        f"i32 {shape.size}, {shape.mask} {mask})"
    )


class Tile:
    """Writes one tile's function."""

    def __init__(self, shape: Shape, rows: int, vectors: int, masked: bool, by_rows: bool) -> None:
        self.shape, self.rows, self.vectors, self.by_rows = shape, rows, vectors, by_rows
        self.text = Writer()
        mask = lanes_below(self.text, shape, "%lanes") if masked else None
        self.masks: list[str | None] = [*([None] * (vectors - 1)), mask]

    def step(self, a: list[str], b: str, sums: list[str]) -> list[str]:
        """The accumulators with the products of one p."""
        text, shape = self.text, self.shape
        step_bytes = shape.width * shape.size
        row = [
            load(text, shape, text.ahead(b, v * step_bytes) if v else b, mask)
            for v, mask in enumerate(self.masks)
        ]
        result = []
        for i in range(self.rows):
            x = text.new(f"load {shape.element}, ptr {self.element(a, i)}, align {shape.size}")
            every = splat(text, shape.element, shape.width, x)
            for v in range(self.vectors):
                result.append(
                    text.new(
                        f"call {shape.vector} @llvm.fma.{shape.suffix}({shape.vector} {every}, "
                        f"{shape.vector} {row[v]}, {shape.vector} {sums[i * self.vectors + v]})"
                    )
                )
        return result

    def element(self, a: list[str], i: int) -> str:
        """Where row i's element is: rows that lie apart are reached from every third one."""
        if not self.by_rows:
            return self.text.ahead(a[0], i * self.shape.size) if i else a[0]
        if i % 3 == 0:
            return a[i // 3]
        return self.text.ahead(a[i // 3], "%sa" if i % 3 == 1 else "%sa2")

    def body(self) -> str:
        text, shape = self.text, self.shape
        places = ["%a"]
        if self.by_rows:
            text.do("%sa2 = shl i64 %sa, 1")
            for i in range(3, self.rows, 3):
                place = text.ahead("%a", text.binary("mul", "%sa", i))
                # Hidden from the compiler, which would compute each row's place from the last's.
                places.append(text.new(f'call ptr asm "", "=r,0"(ptr {place})'))
        else:
            text.do(f"%soon = mul i64 %sa, {_AHEAD}")
        text.do(f"%later = mul i64 %sb, {_AHEAD}")
        targets = ["%c"]
        for _ in range(1, self.rows):
            targets.append(text.ahead(targets[-1], "%sc"))
        for target in targets:
            text.do(f"call void @llvm.prefetch.p0(ptr {target}, i32 1, i32 3, i32 1)")
            if self.vectors > 1:
                other = text.ahead(target, shape.width * shape.size)
                text.do(f"call void @llvm.prefetch.p0(ptr {other}, i32 1, i32 3, i32 1)")
        values: list[Typed] = [("ptr", place) for place in (*places, "%b")]
        values += [(shape.vector, "zeroinitializer")] * (self.rows * self.vectors)
        loop = text.carrying("%k", values)
        a, b, sums = loop.now[: len(places)], loop.now[len(places)], loop.now[len(places) + 1 :]
        if not self.by_rows:
            # The panel comes from the second cache, some lines of it each turn.
            for line in range(0, self.rows * shape.size, 64):
                place = text.ahead(text.ahead(a[0], "%soon"), line)
                text.do(f"call void @llvm.prefetch.p0(ptr {place}, i32 0, i32 3, i32 1)")
        for v in range(self.vectors):
            place = text.ahead(text.ahead(b, "%later"), v * shape.width * shape.size)
            text.do(f"call void @llvm.prefetch.p0(ptr {place}, i32 0, i32 3, i32 1)")
        following = self.step(a, b, sums)
        advance = shape.size if self.by_rows else "%sa"
        loop.close(1, [*(text.ahead(x, advance) for x in a), text.ahead(b, "%sb"), *following])
        kept = [
            (text.ahead(target, v * shape.width * shape.size), mask)
            for target in targets
            for v, mask in enumerate(self.masks)
        ]
        plain, added = text.name(), text.name()
        text.do(f"br i1 %more, label %{added}, label %{plain}")
        text.begin(added)
        # All are loaded before any is stored: a load waits for a masked store that is near it.
        totals = [
            text.new(f"fadd {shape.vector} {load(text, shape, place, mask)}, {x}")
            for (place, mask), x in zip(kept, sums, strict=True)
        ]
        self.leave(kept, totals)
        text.begin(plain)
        self.leave(kept, sums)
        return "\n".join(text.lines)

    def leave(self, places: list[tuple[str, str | None]], values: list[str]) -> None:
        """Put vectors into C, and return."""
        for (place, mask), x in zip(places, values, strict=True):
            store(self.text, self.shape, x, place, mask)
        self.text.do("ret void")


def name(rows: int, vectors: int, masked: bool, by_rows: bool) -> str:
    """The function of a tile."""
    return f"tile_{'rows' if by_rows else 'panel'}_{vectors}{'m' if masked else ''}_{rows}"


def function(shape: Shape, rows: int, vectors: int, masked: bool, by_rows: bool) -> str:
    """A tile's function; A is stored `by_rows`, or each p's elements lie side by side."""
    body = Tile(shape, rows, vectors, masked, by_rows).body()
    return (
        f"define internal void @{name(rows, vectors, masked, by_rows)}(i64 %k, ptr noalias %a, "
        "i64 %sa, ptr noalias %b, i64 %sb, ptr noalias %c, i64 %sc, i64 %lanes, i1 %more) "
        f'"prefer-vector-width"="512" {{\n{body}\n}}\n'
    )
