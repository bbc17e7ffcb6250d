"""Matrix products of our own, as machine code made for the processor.

tile.py     the innermost product, in registers
packing.py  lines of a matrix in the order in which tiles read them
driver.py   blocks, panels and tiles
deep.py     the same for large products
build.py    the machine code and where it is kept
choice.py   which products are our own, and how each goes
arrays.py   products of NumPy arrays

A native call is an address and its arguments, so that machine code can make it: `product` gives
that of one product, `shared` those of its parts for some threads, and `batched` that of a stack.
Each value of the result is the sum of its products in order, fused, in blocks of k that depend on
its sizes alone.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gradnet.dtypes import DType

from . import choice, driver, tile
from .build import Code, code
from .choice import most_scratch, operand, own

__all__ = ["PARAMETERS", "Call", "Matrix", "batched", "most_scratch", "operand", "own", "product",
           "shared"]  # fmt: skip


class Matrix(NamedTuple):
    """An operand: its place, whatever the caller writes for it, and its strides in bytes.

    `stack` is the stride from matrix to matrix; 0 for one that all have in common.
    """

    place: Any
    strides: choice.Strides
    stack: int = 0


class Call(NamedTuple):
    """A native function without a result: its address and (type, value) of each argument."""

    address: int
    arguments: tuple[tuple[str, Any], ...]


# Where a place is so many bytes on.
Moved = Callable[[Any, int], Any]
# The arguments of a product's call: (type, name) of each.
PARAMETERS = driver.typed(driver.ARGUMENTS)


def product(
    dtype: DType, sizes: tuple[int, int, int], a: Matrix, b: Matrix, c: Matrix, zone: Any
) -> Call:
    """The call that computes `C = A @ B`, (n, k) @ (k, m) -> (n, m), on one thread.

    `sizes` are n, k and m; the rows of C are contiguous; `own` holds of the product. `zone` is
    where `most_scratch()` bytes may be written, a multiple of 64.
    """
    made = _code(dtype, sizes)
    return Call(made.product, _arguments(made.shape, sizes, a, b, c, zone))


def batched(
    dtype: DType,
    count: int,
    sizes: tuple[int, int, int],
    a: Matrix,
    b: Matrix,
    c: Matrix,
    zone: Any,
) -> Call:
    """The call that computes a stack of products, (count, n, k) @ (count, k, m), on one thread."""
    made = _code(dtype, sizes)
    ahead = (("i64", count), *(("i64", x.stack) for x in (a, b, c)))
    return Call(made.stack, (*ahead, *_arguments(made.shape, sizes, a, b, c, zone)))


def shared(
    dtype: DType,
    sizes: tuple[int, int, int],
    a: Matrix,
    b: Matrix,
    c: Matrix,
    zones: Sequence[Any],
    moved: Moved = operator.add,
) -> list[Call]:
    """The calls that compute a product on several threads, one with each of `zones`.

    The longer side of C is split, so that the operand that all have to pack is the smaller one.
    """
    made = _code(dtype, sizes)
    n, k, m = sizes
    by_rows = n >= m
    # Parts as even as can be: whole tiles' width would leave some of the threads less.
    step = (made.shape.rows if made.shape.deep else 2) if by_rows else made.shape.width
    total = n if by_rows else m
    each = -(-total // (len(zones) * step)) * step
    calls = []
    for i, zone in enumerate(zones):
        start, stop = min(i * each, total), min((i + 1) * each, total)
        if by_rows:
            part = (stop - start, k, m)
            first = a._replace(place=moved(a.place, start * a.strides[0]))
            ahead, second = start * c.strides[0], b
        else:
            part = (n, k, stop - start)
            second = b._replace(place=moved(b.place, start * b.strides[1]))
            ahead, first = start * c.strides[1], a
        if stop == start:
            part = (0, k, 0)
        target = c._replace(place=moved(c.place, ahead))
        arguments = _arguments(made.shape, part, first, second, target, zone)
        calls.append(Call(made.product, arguments))
    return calls


def _code(dtype: DType, sizes: tuple[int, int, int]) -> Code:
    """The machine code of a whole product, which that of its parts is too."""
    made = code(dtype, choice.large(dtype, *sizes))
    assert made is not None
    return made


def _arguments(
    shape: tile.Shape,
    sizes: tuple[int, int, int],
    a: Matrix,
    b: Matrix,
    c: Matrix,
    zone: Any,
) -> tuple[tuple[str, Any], ...]:
    n, k, m = sizes
    plan = choice.plan(shape, n, k, m, a.strides, b.strides)
    values = (n, m, k, a.place, *a.strides, b.place, *b.strides, c.place, c.strides[0],
              *plan.blocks, plan.mode, zone)  # fmt: skip
    return tuple((kind, x) for (kind, _), x in zip(PARAMETERS, values, strict=True))
