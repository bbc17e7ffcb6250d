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
from typing import Any

import numpy as np

from gradnet import blas
from gradnet.backends import Array
from gradnet.dtypes import DType
from gradnet.numpy_calls import empty

from . import blas_entry, gemm
from .gemm import arrays, build
from .replay import machine, team

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
    at, bt, ct = (x.__array_interface__["data"][0] for x in (a, b, c))
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
def _by_own(made: build.Code, threads: int) -> _Products:
    words = [f"{kind} {name}" for kind, name in gemm.PARAMETERS]
    call = ", ".join(f"{kind} %{name}" for kind, name in gemm.PARAMETERS)
    return _Products(made.product, words, call, threads)


class _Split:
    """The words of all threads for products of one way, with places from the operands' starts."""

    def __init__(self, way: arrays.Way, crew: team.Team) -> None:
        size = way.dtype.itemsize
        strides = (*way.strides, (way.sizes[2] * size, size))
        a, b, c = (gemm.Matrix(0, given) for given in strides)
        calls = gemm.shared(way.dtype, way.sizes, a, b, c, arrays.zones(crew.size))
        words = [x for call in calls for _, x in call.arguments]
        names = [name for _, name in gemm.PARAMETERS]
        self._words = (ctypes.c_int64 * len(words))(*words)
        self._places = [
            tuple(names.index(name) + rank * len(names) for rank in range(crew.size))
            for name in "abc"
        ]
        self._code = _by_own(way.made, crew.size)

    def run(self, crew: team.Team, *operands: Array) -> None:
        """The product of A and B, into C."""
        words = type(self._words).from_buffer_copy(self._words)
        for x, places in zip(operands, self._places, strict=True):
            start = x.__array_interface__["data"][0]
            for i in places:
                words[i] += start
        crew.run(self._code.place, ctypes.addressof(words))


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
