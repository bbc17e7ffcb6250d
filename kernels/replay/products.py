"""Products by our own code or the BLAS, random numbers, and checks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradnet.program.calls import Call, Live, Value

from .. import blas_entry, gemm
from ..gemm import arrays
from ..operands import FLOATS
from ..templates import philox
from .base import BARRIER, Base, Ranks, Unsupported
from .machine import Argument, Item, Native, Slot, kernel_call, moved
from .team import ranges

_CHECKED = {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "float32", "float64"}


class Products(Base):
    """Products by our own code or the BLAS, random numbers, and checks."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._zones: list[int] = []

    # Products

    def _matmul(
        self, call: Call, a: Value, b: Value, *, out: Any = None, tf32: bool = False
    ) -> Ranks:
        (c,) = call.outs
        assert c is not None
        own = None if tf32 else self._own(a, b, c)
        return self._by_blas(a, b, c, tf32) if own is None else own

    def _own(self, a: Value, b: Value, c: Value) -> Ranks | None:
        """A product or a stack of products by our own code, None where it is not its work."""
        shapes = a.shape, b.shape, c.shape
        if a.dtype != c.dtype or b.dtype != c.dtype or not 2 <= len(c.shape) <= 3:
            return None
        (n, m), k = c.shape[-2:], a.shape[-1]
        if min(map(len, shapes)) < 2 or not gemm.own(c.dtype, n, k, m) or not c.size:
            return None
        found = [gemm.operand(x.shape, x.strides, x.dtype.itemsize) for x in (a, b, c)]
        if not c.contiguous:
            return None
        first, second, third = [
            y and gemm.Matrix(self.place(x), *y) for x, y in zip((a, b, c), found, strict=True)
        ]
        if first is None or second is None or third is None:
            return None
        zones, least, sizes = self.zones(), self.SHARE_PRODUCT, (n, k, m)
        if len(c.shape) == 2:
            self.work += n * k * m / least
            parts = max(min(self.threads, n * k * m // least), 1)
            if 1 < parts == self.threads:
                phases = gemm.joint(
                    *(c.dtype, sizes, first, second, third),
                    *(arrays.packed, self._counters, zones, moved),
                )
                if phases is not None:
                    return self._in_phases(phases)
            calls = gemm.shared(c.dtype, sizes, first, second, third, zones[:parts], moved)
        else:
            count = c.shape[0]
            self.work += count * n * k * m / least
            parts = max(min(self.threads, count * n * k * m // least), 1)
            calls = []
            for (start, stop), zone in zip(ranges(count, parts), zones, strict=False):
                left, right, target = (
                    x._replace(place=moved(x.place, start * x.stack))
                    for x in (first, second, third)
                )
                calls.append(gemm.batched(c.dtype, stop - start, sizes, left, right, target, zone))
        ranks: Ranks = [[_native(x)] for x in calls]
        return [*ranks, *([] for _ in range(self.threads - parts))] if parts > 1 else ranks

    def _counters(self, count: int) -> list[int]:
        """Places for so many words, each in a line of the cache of its own."""
        block = self.scratch((count, 16), np.int64)
        assert not isinstance(block.place, Slot)
        return [block.place + 128 * i for i in range(count)]

    def _in_phases(self, phases: list[gemm.Phase]) -> Ranks:
        """Each thread's calls, with barriers between those that wait for others."""
        ranks: Ranks = [[] for _ in range(self.threads)]
        for phase in phases:
            for items, *calls in zip(ranks, phase.first, phase.then, strict=True):
                first, then = map(_native, calls)
                items += [*([BARRIER] if items else []), first, BARRIER, then]
        return ranks

    def zones(self) -> list[int]:
        """Memory in which each thread may pack what it multiplies."""
        if self.threads > 1:
            return arrays.zones(self.threads)
        if not self._zones:
            block = np.empty(gemm.most_scratch() + 64, np.uint8)
            self.kept.append(block)
            self._zones = [-(-block.ctypes.data // 64) * 64]
        return self._zones

    def _by_blas(self, a: Value, b: Value, c: Value, tf32: bool) -> Ranks:
        entry = None if tf32 or a.dtype != c.dtype else blas_entry.gemm(c.dtype)
        if entry is None or len(a.shape) != 2 or len(b.shape) != 2 or not c.size:
            raise Unsupported
        (n, k), m = a.shape, b.shape[1]
        left, right = _matrix(a), _matrix(b)
        if not c.contiguous or not k:
            raise Unsupported
        self.blas = True
        size = c.dtype.itemsize
        kind = "float" if size == 4 else "double"
        places = [self.place(x) for x in (a, b, c)]

        def product(rows: tuple[int, int], columns: tuple[int, int]) -> list[Item]:
            numbers = [rows[1] - rows[0], columns[1] - columns[0], k]
            first, second, target = places
            ahead = rows[0] * (size if left[0] else left[1] * size)
            first = moved(first, ahead)
            second = moved(second, columns[0] * (right[1] * size if right[0] else size))
            target = moved(target, (rows[0] * m + columns[0]) * size)
            return [
                Native(
                    entry,
                    "void",
                    (
                        Argument("i32", 101),
                        Argument("i32", 112 if left[0] else 111),
                        Argument("i32", 112 if right[0] else 111),
                        *(Argument("i64", number) for number in numbers),
                        Argument(kind, 1.0),
                        Argument("ptr", first),
                        Argument("i64", left[1]),
                        Argument("ptr", second),
                        Argument("i64", right[1]),
                        Argument(kind, 0.0),
                        Argument("ptr", target),
                        Argument("i64", m),
                    ),
                )
            ]

        work = n * k * m
        if n >= m:
            return self._split(lambda i, j: product((i, j), (0, m)), n, work, self.SHARE_PRODUCT, 8)
        return self._split(lambda i, j: product((0, n), (i, j)), m, work, self.SHARE_PRODUCT, 16)

    def _random(
        self,
        call: Call,
        kind: str,
        key: Any,
        counter: Any,
        shape: Any,
        dtype: Any,
        *,
        out: Any = None,
    ) -> Ranks:
        (y,) = call.outs
        assert y is not None
        if kind == "bits" or dtype not in FLOATS or not y.size:
            raise Unsupported
        size = dtype.itemsize
        kernel = self.kernel(philox.random, kind, 8 * size)
        target = self.block(y).reshaped(y.size)
        chunk = philox.CHUNK // size
        seed, first = self._word(key), self._word(counter).value
        assert not isinstance(first, float)

        def make(start: int, stop: int) -> list[Item]:
            words = self.scratch((chunk,), f"uint{8 * size}")
            begin = Argument("i64", moved(first, start * size // 16))
            part = target.part(start, stop)
            return [kernel_call(kernel, seed, begin, Argument("i64", 0), words, part)]

        return self._split(make, y.size, y.size, self.SHARE_HEAVY, chunk)

    def _word(self, x: Any) -> Argument:
        """A 64-bit integer that may differ from run to run."""
        if isinstance(x, Live):
            return Argument("i64", self.number(x))
        return Argument("i64", (x + 2**63) % 2**64 - 2**63)

    # Checks

    def _check(self, call: Call, values: Any, x: Any, *rest: Any, bounds: Any) -> Ranks:
        if bounds is None or not isinstance(x, Value) or x.dtype.name not in _CHECKED:
            raise Unsupported
        low, high = bounds
        whole = x.dtype.kind in "iu"
        if whole and not all(math.isfinite(bound) for bound in bounds):
            raise Unsupported
        limits = [int(low), int(high)] if whole else [float(low), float(high)]
        return self.guarded(call, x, limits)


def _native(call: gemm.Call) -> Native:
    return Native(call.address, "void", tuple(Argument(*x) for x in call.arguments))


def _matrix(x: Value) -> tuple[bool, int]:
    found = blas_entry.lines(x.shape, x.strides, x.dtype.itemsize)
    if found is None:
        raise Unsupported
    return found
