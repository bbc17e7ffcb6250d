"""Matrix products of our own, as machine code made for the processor.

tile.py     the innermost product, in registers
packing.py  lines of a matrix in the order in which tiles read them
driver.py   blocks, panels and tiles
deep.py     the same for large products
build.py    the machine code and where it is kept
choice.py   which products are our own, and how each goes
arrays.py   products of NumPy arrays

A native call is an address and its arguments, so that machine code can make it: `product` gives
that of one product, `shared` and `joint` those for some threads, and `batched` that of a stack.
Each value of the result is the sum of its products in order, fused, in blocks of k that depend on
its sizes alone.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from gradnet.dtypes import DType

from . import choice, deep, driver, tile
from .build import Code, code
from .choice import most_scratch, operand, own

__all__ = ["PARAMETERS", "Call", "Matrix", "Phase", "batched", "joint", "most_scratch", "operand",
           "own", "product", "shared"]  # fmt: skip


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


class Phase(NamedTuple):
    """Calls of all threads, and then others: none begins with those before all have ended these."""

    first: list[Call]
    then: list[Call]


def joint(
    dtype: DType,
    sizes: tuple[int, int, int],
    a: Matrix,
    b: Matrix,
    c: Matrix,
    packed: Callable[[], Any],
    counters: Callable[[int], Any],
    zones: Sequence[Any],
    moved: Moved = operator.add,
) -> list[Phase] | None:
    """The calls by which several threads, one with each of `zones`, make a product together.

    Each takes the next panel of C when it is done with one, so that one that is slower makes less.
    Their rows of A are in `packed()`, of so many bytes as `choice.most_packed()`; `counters` gives
    that many places for a word, far enough apart. None where `shared` is better.
    """
    made = _code(dtype, sizes)
    (n, k, m), shape = sizes, made.shape
    plan = choice.joint(shape, n, k, m, len(zones))
    if plan is None:
        return None
    (block, rows, stretch), place = plan.blocks, packed()
    lines = -(-min(n, rows) // (2 * shape.rows)) * 2 * shape.rows
    starts = [(q, i) for q in range(0, k, stretch) for i in range(0, n, rows)]
    phases = []
    for (q, i), counter in zip(starts, counters(len(starts)), strict=True):
        given: dict[str, Any] = {
            "n": min(n - i, rows), "m": m, "k": min(k - q, stretch), "kc": block,
            "ra": a.strides[0], "ca": a.strides[1], "rb": b.strides[0], "cb": b.strides[1],
            "rc": c.strides[0], "packed": place, "line": lines * shape.size, "more": q,
            "b": moved(b.place, q * b.strides[0]), "c": moved(c.place, i * c.strides[0]),
            "full": plan.full, "each": plan.each, "counter": counter,
        }  # fmt: skip
        corner = moved(a.place, i * a.strides[0] + q * a.strides[1])
        share = -(-given["n"] // (len(zones) * shape.width)) * shape.width
        first, then = [], []
        for rank, zone in enumerate(zones):
            start = min(rank * share, given["n"])
            part = {**given, "n": min(given["n"] - start, share), "first": start // shape.rows}
            part["a"] = moved(corner, start * a.strides[0])
            first.append(Call(made.pack, _typed(deep.PACK, part)))
            then.append(Call(made.panels, _typed(deep.PANELS, {**given, "scratch": zone})))
        phases.append(Phase(first, then))
    return phases


def _typed(names: Sequence[str], given: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple((kind, given[name]) for kind, name in driver.typed(names))


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
