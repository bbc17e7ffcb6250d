"""Large products of eager code on the team of threads that replays run on.

The BLAS's own threads would spin for some 20 milliseconds after each product, on the processors
that the team needs for the next replay, as after each epoch of a captured run. Where no replay has
been made there is nobody to disturb, and the BLAS's threads wake sooner. The choice depends on what
the program does and not on time, for the two ways round differently. Our own products are always
made by the team: they round alike on any number of threads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from gradnet import blas
from gradnet.backends import Array
from gradnet.dtypes import DType
from gradnet.numpy_calls import address, empty

from . import blas_entry, gemm
from .gemm import arrays
from .replay import machine, team

# Multiply-adds of float32 from which threads make a product together: several times as long as it
# takes to give them another step.
_JOINT = 1 << 25
# What a thread reads of its part of a product of the BLAS: transposed or not, sizes, and places
# with their leading lengths.
_WORDS = ("i32 ta", "i32 tb", "i64 n", "i64 m", "i64 k", "ptr a", "i64 lda", "ptr b", "i64 ldb",
          "ptr c", "i64 ldc")  # fmt: skip
_BLAS_CALL = ("i32 101, i32 %ta, i32 %tb, i64 %n, i64 %m, i64 %k, {kind} 1.0, ptr %a, i64 %lda, "
              "ptr %b, i64 %ldb, {kind} 0.0, ptr %c, i64 %ldc")  # fmt: skip


class _Products:
    """Machine code for products: a function for each thread of the team, which reads its words."""

    def __init__(self, entry: int, words: Sequence[str], call: str, threads: int) -> None:
        text = "".join(_function(rank, entry, words, call) for rank in range(threads))
        self.code = machine.Code(text)
        names = (f"product{rank}" for rank in range(threads))
        self.functions = np.array([self.code.address(name) for name in names], np.int64)
        self.place = self.functions.ctypes.data

    def run(self, crew: team.Team, words: Sequence[int]) -> None:
        """Have each thread make its part."""
        given: Any = (ctypes.c_int64 * len(words))(*words)
        crew.run(self.place, ctypes.addressof(given))


def _function(rank: int, entry: int, words: Sequence[str], call: str) -> str:
    lines = []
    for i, word in enumerate(words):
        type_, name = word.split()
        at = rank * len(words) + i
        lines.append(f"%p{name} = getelementptr i64, ptr %words, i64 {at}")
        lines.append(f"%{name} = load {type_}, ptr %p{name}")
    body = "\n".join(lines)
    called = f"call void inttoptr (i64 {entry} to ptr)({call})"
    return f"define void @product{rank}(ptr %words) {{\n{body}\n{called}\nret void\n}}\n"


@cache
def _by_blas(dtype: DType, crew: team.Team) -> _Products | None:
    entry = blas_entry.gemm(dtype)
    if entry is None:
        return None
    call = _BLAS_CALL.format(kind="float" if dtype.itemsize == 4 else "double")
    return _Products(entry, _WORDS, call, crew.size)


def matmul(a: Array, b: Array, out: Array | None) -> Array | None:
    """`(n, k) @ (k, m) -> (n, m)` by the BLAS on all threads, or None where that is no use."""
    crew = team.current()
    if crew is not None and not crew.replayed:
        return None
    made = None if crew is None else _by_blas(a.dtype, crew)
    left, right = (
        blas_entry.lines(a.shape, a.strides, a.itemsize),
        blas_entry.lines(b.shape, b.strides, b.itemsize),
    )
    if crew is None or made is None or left is None or right is None:
        return None
    (n, k), m, size = a.shape, b.shape[1], a.itemsize
    c = empty((n, m), a.dtype) if out is None else out
    if not c.flags.c_contiguous or not k:
        return None
    at, bt, ct = map(address, (a, b, c))
    words: list[int] = []
    by_rows = n >= m
    for start, stop in team.ranges(n if by_rows else m, crew.size, 8 if by_rows else 16):
        rows, columns = (stop - start, m) if by_rows else (n, stop - start)
        i, j = (start, 0) if by_rows else (0, start)
        words += [112 if left[0] else 111, 112 if right[0] else 111, rows, columns, k]
        words += [at + i * size * (1 if left[0] else left[1]), left[1]]
        words += [bt + j * size * (right[1] if right[0] else 1), right[1]]
        words += [ct + (i * m + j) * size, m]
    blas.alone()
    made.run(crew, words)
    return c


@cache
def _by_own(address: int, kinds: tuple[str, ...], threads: int) -> _Products:
    """Calls of a function of our own code, whose arguments are of these types."""
    words = [f"{kind} w{i}" for i, kind in enumerate(kinds)]
    return _Products(
        address, words, ", ".join(f"{kind} %w{i}" for i, kind in enumerate(kinds)), threads
    )


class _Place(NamedTuple):
    """A place in an operand: its number, and how many bytes from its start."""

    operand: int
    ahead: int = 0

    def moved(self, nbytes: int) -> _Place:
        return _Place(self.operand, self.ahead + nbytes)


class _Step:
    """What each thread calls of a product, with places from the operands' starts."""

    def __init__(self, calls: Sequence[gemm.Call]) -> None:
        given = [x for call in calls for _, x in call.arguments]
        words = [0 if isinstance(x, _Place) else x for x in given]
        self.words = (ctypes.c_int64 * len(words))(*words)
        self.start = ctypes.addressof(self.words)
        self.places = [(i, *x) for i, x in enumerate(given) if isinstance(x, _Place)]
        kinds = tuple(kind for kind, _ in calls[0].arguments)
        self.code = _by_own(calls[0].address, kinds, len(calls))


class _Split:
    """The steps of a team for products of one way."""

    def __init__(self, way: arrays.Way, crew: team.Team) -> None:
        size = way.dtype.itemsize
        strides = (*way.strides, (way.sizes[2] * size, size))
        a, b, c = (gemm.Matrix(_Place(i), given) for i, given in enumerate(strides))
        given = way.dtype, way.sizes, a, b, c
        zones = arrays.zones(crew.size)
        phases = None
        if way.work >= _JOINT:
            phases = gemm.joint(*given, arrays.packed, self._counters, zones, _Place.moved)
        calls = [gemm.shared(*given, zones, _Place.moved)] if phases is None else sum(phases, ())
        self._steps = [_Step(x) for x in calls]

    def _counters(self, count: int) -> list[int]:
        """Places for so many words, each in lines of the cache of its own."""
        self._words = np.zeros((count, 16), np.int64)
        return [self._words.ctypes.data + 128 * i for i in range(count)]

    def run(self, crew: team.Team, *operands: Array) -> None:
        """The product of A and B, into C."""
        starts = [address(x) for x in operands]
        # The words, and what is packed together, are of one product at a time.
        with crew.lock:
            for step in self._steps:
                words = step.words
                for i, operand, ahead in step.places:
                    words[i] = starts[operand] + ahead
                crew.step(step.code.place, step.start)


def own(way: arrays.Way, a: Array, b: Array, c: Array) -> None:
    """`(n, k) @ (k, m) -> (n, m)` by our own code, into C: on all threads if it pays."""
    crew = team.current()
    if crew is not None and (way.large or crew.awake):
        split = way.splits.get(crew.size)
        if split is None:
            split = way.splits[crew.size] = _Split(way, crew)
        split.run(crew, a, b, c)
    else:
        way.alone(a, b, c)
