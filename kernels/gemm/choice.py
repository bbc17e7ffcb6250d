"""Which products are our own, what they pack, and in which blocks they go.

Whether a product is our own depends on its sizes and dtype alone, and so does the block of k, so
that eager code, replays and any number of threads round alike. The rest changes no bits: a part of
a product may pack or not, as its sizes and strides are.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

from gradnet.backends import Shape
from gradnet.dtypes import DType

from . import build, deep, driver, tile

Strides = tuple[int, int]

# Below so many rows or columns, tiles are mostly empty.
LEAST = 4
# Bytes that the elements of a tile or a panel may spread over if they are not to be packed.
_SPREAD_A = 64 << 10
_SPREAD_B = 128 << 10
# A sum of so few products is soon done: what takes time is writing the result, row by row.
_SHALLOW = 32
_BLOCK_B = 2 << 20
# Of a large product, at least: multiply-adds, and n, k and m, of which n or m is as long as a side.
# The fewer rows and columns there are, the less what is packed is used.
_LARGE = 1 << 22
_ROWS, _SUMS, _COLUMNS, _SIDE = 128, 64, 96, 256
# Bytes of A that are packed at once, and k in a block and a stretch of them.
_BLOCK_A = 5 << 19
_DEPTH = 256
_STRETCH = 1024
# Bytes of A that several threads pack together; panels of C that make this worth it for each of
# them; and into how many pieces of rows the last panels are cut, one of them for each thread.
_JOINT_A = 4 << 20
_PANELS = 4
_PIECES = 4


class Blocks(NamedTuple):
    """Blocks of k, of rows and of columns."""

    k: int
    rows: int
    columns: int


class Plan(NamedTuple):
    """How a product goes: see driver.py. `scratch` is in bytes."""

    blocks: Blocks
    mode: int
    scratch: int


def own(dtype: DType, n: int, k: int, m: int) -> bool:
    """Whether the product `(n, k) @ (k, m)` is our own, not the BLAS's."""
    return n >= LEAST and m >= LEAST and k > 0 and build.code(dtype) is not None


def large(dtype: DType, n: int, k: int, m: int) -> bool:
    """Whether our own product goes as deep.py says, not as driver.py."""
    enough = n >= _ROWS and k >= _SUMS and m >= _COLUMNS and max(n, m) >= _SIDE
    return enough and n * k * m >= _LARGE and build.code(dtype, large=True) is not None


class Operand(NamedTuple):
    """An operand of a stack of products: strides of its matrices, and from one to the next."""

    strides: Strides
    stack: int


def operand(shape: Shape, given: tuple[int, ...], size: int) -> Operand | None:
    """A matrix, or a stack of matrices; a stack of one is repeated."""
    found = strides(shape[-2:], given[-2:], size)
    if found is None:
        return None
    return Operand(found, given[0] if len(shape) == 3 and shape[0] > 1 else 0)


def strides(shape: Shape, given: tuple[int, ...], size: int) -> Strides | None:
    """The strides of a matrix, set right where an axis is short.

    None for a matrix that is neither stored by rows nor by columns.
    """
    (n, m), (rows, columns) = shape, given
    if columns == size or m == 1:
        return rows if n > 1 else m * size, size
    return (size, columns) if rows == size or n == 1 else None


@cache
def caches() -> tuple[int, int]:
    """Bytes of the first two caches of data, as Linux tells them; else of most processors."""
    sizes = {1: 32 << 10, 2: 512 << 10}
    for folder in Path("/sys/devices/system/cpu/cpu0/cache").glob("index[0-9]"):
        try:
            level, kind, size = (
                (folder / name).read_text(encoding="ascii").strip()
                for name in ("level", "type", "size")
            )
        except OSError:
            continue
        if kind in ("Data", "Unified") and size.endswith("K") and int(level) in sizes:
            sizes[int(level)] = int(size[:-1]) << 10
    return sizes[1], sizes[2]


def blocks(shape: tile.Shape, k: int) -> Blocks:
    """Blocks for the caches: a panel of B fits the first, a block of A most of the second."""
    first, second = caches()
    most = min(max(first // (shape.columns * shape.size), 128), 512)
    parts = max(-(-k // most), 1)
    depth = max(-(-k // (16 * parts)) * 16, 16)
    tile = shape.pitch * depth * shape.size
    rows = (4 if k <= _SHALLOW else max(3 * second // (4 * tile), 1)) * shape.rows
    return Blocks(depth, rows, max(_BLOCK_B // (depth * shape.size) // 64, 1) * 64)


def most_scratch() -> int:
    """The bytes that no product needs more than beside its arrays."""
    return max(_BLOCK_B + (-(-caches()[1] // 4096) + 64) * 4096, _BLOCK_A + (1 << 20))


def plan(shape: tile.Shape, n: int, k: int, m: int, a: Strides, b: Strides) -> Plan:
    """How to compute a product, or a part of one, of operands with these strides."""
    if shape.deep:
        return _deep(shape, n, k)
    made = blocks(shape, k)
    return planned(shape, made, n, k, m, a, b, _packs(shape, made, n, k, m, a, b))


def _deep(shape: tile.Shape, n: int, k: int, most: int = _BLOCK_A) -> Plan:
    """Blocks of k as even as can be, and of rows that fill the memory there is for A."""
    block = _even(k, _DEPTH, 16)
    stretch = _STRETCH // block * block
    depth = min(stretch, -(-max(k, 1) // block) * block)
    rows = _even(n, min(most // (depth * shape.size), _STRETCH), shape.rows)
    return Plan(Blocks(block, rows, stretch), 0, deep.scratch(shape, rows, depth, block))


class Joint(NamedTuple):
    """A product by several threads: blocks, the bytes of packed A, and of each thread's scratch.

    Of the panels of C `full` are one piece, the others as many as have so many rows as `each`.
    """

    blocks: Blocks
    packed: int
    scratch: int
    full: int
    each: int


def joint(shape: tile.Shape, n: int, k: int, m: int, threads: int) -> Joint | None:
    """How several threads make a large product together; None where parts of it are better."""
    panels = -(-m // shape.columns)
    if not shape.deep or threads < 2 or panels < _PANELS * threads:
        return None
    made = _deep(shape, n, k, _JOINT_A).blocks
    depth = min(made.columns, -(-k // made.k) * made.k)
    whole = deep.scratch(shape, made.rows, depth, made.k)
    scratch = deep.scratch(shape, made.rows, 0, made.k)
    each = -(-min(n, made.rows) // (_PIECES * shape.rows)) * shape.rows
    return Joint(made, whole - scratch, scratch, panels - threads, each)


def most_packed() -> int:
    """The bytes that no threads need more than to pack A together."""
    return _JOINT_A + (1 << 18)


def _even(total: int, most: int, step: int) -> int:
    """The size of blocks that a total is cut into evenly: a multiple of a step, at most so much."""
    parts = max(-(-total // (most // step * step)), 1)
    return max(-(-total // (parts * step)), 1) * step


def _packs(
    shape: tile.Shape, made: Blocks, n: int, k: int, m: int, a: Strides, b: Strides
) -> tuple[bool, bool]:
    size, depth = shape.size, min(made.k, k)
    columns_a, columns_b = a[1] != size, b[1] != size
    if columns_a:
        pack_a = depth * abs(a[1]) > _SPREAD_A and m > 2 * shape.columns
    else:
        # Rows that begin at the same place in their pages push one another out of the cache.
        pack_a = m >= 8 * shape.columns or (a[0] % 2048 == 0 and m >= 3 * shape.columns)
    # The more rows of A there are, the more a packed panel is used.
    spread = depth * abs(b[0])
    some, many = n > 2 * shape.rows, n > 6 * shape.rows
    pack_b = (some and spread > 2 * _SPREAD_B) or (many and spread > _SPREAD_B)
    return pack_a, columns_b or pack_b


def planned(
    shape: tile.Shape,
    made: Blocks,
    n: int,
    k: int,
    m: int,
    a: Strides,
    b: Strides,
    packs: tuple[bool, bool],
) -> Plan:
    """A product in given blocks that packs A, B, or both; B stored by columns must be packed."""
    pack_a, pack_b = packs
    rows = made.rows if pack_a or k <= _SHALLOW else n
    # Where A is one block, panels of B are packed into one place, however many there are.
    columns = made.columns if pack_b and n > rows else m
    mode = pack_a << driver.PACK_A | pack_b << driver.PACK_B
    mode |= (a[1] != shape.size) << driver.COLUMNS_A | (b[1] != shape.size) << driver.COLUMNS_B
    depth = -(-min(made.k, max(k, 1)) // shape.width) * shape.width
    need = 64
    if pack_b:
        panels = 1 if n <= rows else -(-min(m, columns) // shape.columns)
        need += panels * shape.columns * depth * shape.size + 64
    if pack_a:
        # A tile has at least half of its rows, but for one that is alone and an odd last one.
        tiles = -(-min(n, rows) // shape.rows) + 1
        need += tiles * shape.pitch * depth * shape.size
    fitted = Blocks(min(made.k, depth), max(rows, 1), max(columns, 1))
    return Plan(fitted, mode, need if any(packs) else 0)
