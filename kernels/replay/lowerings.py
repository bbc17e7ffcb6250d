"""How each call of a program becomes calls of kernels, for one thread or split between several."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradnet import binding, formulas
from gradnet.dtypes import float32, float64
from gradnet.program.calls import Call, Live, Value
from gradnet.program.replay import Memory, Step, step

from .. import blas_entry, lowering, operands
from ..templates import elementwise, philox, reductions, replayed, softmax
from .machine import Argument, Barrier, Block, Guard, Item, Native, Slot, kernel_call, moved
from .team import ranges

_FLOATS = {float32: 32, float64: 64}
# Elements, or multiply-adds, that are worth a second thread: some four microseconds of work.
_SHARE = 1 << 14
_SHARE_HEAVY = 1 << 11
_SHARE_PRODUCT = 1 << 18
# A whole program that is: with less, a team loses more to a busy processor than it gains.
_SHARED_PROGRAM = 12

# A vector of so many elements is summed by several threads.
_LONG = 1 << 15

_ADD: Any = formulas.add
_BARRIER = Barrier()

# A thread's calls, for each of the team; one list where the first does it alone.
Ranks = list[list[Item]]


class Unsupported(Exception):
    """A call that has no machine code: its method is called instead."""


class Lowering:
    """Makes the calls of a program's machine code, and holds what they refer to.

    threads   how many threads a call may be split between
    work      how much there is, in what one thread should have at least of a call
    checks    the checks of values, to be repeated where one has found something
    place     where an array is: an address, or a slot
    number    the slot of a number that differs from run to run
    """

    def __init__(
        self,
        memory: Memory,
        threads: int,
        place: Callable[[Value], int | Slot],
        number: Callable[[Live], Slot],
        compiled: Callable[..., Any],
    ) -> None:
        self.memory = memory
        self.threads = threads
        self.place = place
        self.number = number
        self.kernel = compiled
        self.kept: list[Any] = []
        self.work = 0.0
        self.checks: list[Step] = []
        self.status = np.zeros(8, np.int64)

    def lower(self, call: Call) -> Ranks:
        """The native calls of each thread. Raises Unsupported."""
        method = getattr(self, f"_{call.method}", None)
        if method is None:
            raise Unsupported
        ranks: Ranks = method(call, *call.args, **call.kwargs)
        return ranks

    @property
    def shares(self) -> bool:
        """Whether there is enough work for several threads."""
        return self.work >= _SHARED_PROGRAM

    # Helpers

    def block(self, value: Any) -> Block:
        """An array in row-major order, as kernels take it."""
        if not isinstance(value, Value) or not value.contiguous:
            raise Unsupported
        return Block(self.place(value), value.shape, value.dtype.itemsize)

    def scratch(self, shape: tuple[int, ...], dtype: Any) -> Block:
        """Memory of this program alone."""
        array = np.zeros(shape, dtype)
        self.kept.append(array)
        return Block(array.ctypes.data, shape, array.dtype.itemsize)

    def scalar(self, x: Any) -> float | Slot:
        return self.number(x) if isinstance(x, Live) else float(x)

    def _split(
        self, make: Callable[[int, int], list[Item]], total: int, work: int, least: int, step: int
    ) -> Ranks:
        """The calls that `make` gives for a range of rows, for each thread if there is enough."""
        self.work += work / max(least, 1)
        parts = min(self.threads, work // max(least, 1))
        if parts < 2:
            return [make(0, total)]
        cut = ranges(total, parts, step)
        ranks: Ranks = [make(start, stop) if stop > start else [] for start, stop in cut]
        return [*ranks, *([] for _ in range(self.threads - parts))]

    def _rowwise(
        self, kernel: Any, parts: Sequence[Block], rest: Sequence[Any], work: int, least: int
    ) -> Ranks:
        def make(start: int, stop: int) -> list[Item]:
            return [kernel_call(kernel, *(part.part(start, stop) for part in parts), *rest)]

        return self._split(make, parts[0].shape[0], work, least, 1)

    # Elementwise

    def _map(self, call: Call, formula: Any, *xs: Any, dtype: Any, out: Any = None) -> Ranks:
        y = call.outs[0]
        assert y is not None
        values = [x for x in xs if isinstance(x, Value)]
        common = next((x.dtype for x in values if x.dtype != np.bool_), None)
        bits = _FLOATS.get(common) if common is not None else None
        condition = dtype == np.bool_
        if bits is None or not (condition or dtype == common) or not y.contiguous:
            raise Unsupported
        source = binding.source(formula)
        if lowering.refusal(source) is not None or source.results != 1:
            raise Unsupported
        taken = [_unrepeated(x, y.shape) if isinstance(x, Value) else x for x in xs]
        kinds = [operands.repeats(x.shape, y.shape) if isinstance(x, Value) else "s" for x in taken]
        columns = 0
        for x, kind in zip(taken, kinds, strict=True):
            if not columns and kind in ("r", "c"):
                columns = x.size if kind == "r" else y.size // x.size
        loop = (y.size // columns, columns) if columns else (y.size,)
        pattern = ""
        parts: list[Block] = []
        rest: list[Block | float | Slot] = []
        target = self.block(y).reshaped(*loop)
        for x, kind in zip(taken, kinds, strict=True):
            if kind == "s":
                pattern += "s"
                rest.append(self.scalar(x))
                continue
            block = self.block(x)
            fits = {
                "x": x.shape == y.shape,  # and not repeated along an axis between others
                "r": x.size == columns,
                "c": x.size * columns == y.size,
                "e": True,
            }
            if not fits[kind]:
                raise Unsupported
            if kind == "x" and block.place == target.place and x.dtype == y.dtype:
                pattern += "y"
                continue
            pattern += kind.upper() if x.dtype == np.bool_ else kind
            flat = block.reshaped(*loop) if kind == "x" else block.reshaped(x.size)
            if kind in "xc":
                parts.append(flat)
            else:
                rest.append(flat)
        kernel = self.kernel(elementwise.map_kernel, formula, bits, pattern, condition)
        return self._rowwise(kernel, [*parts, target], rest, y.size, _SHARE)

    def _bias_activation(
        self, call: Call, z: Value, bias: Any, formula: Any, parameters: Any, *, out: Value
    ) -> Ranks:
        bits = _FLOATS.get(z.dtype)
        if bits is None:
            raise Unsupported
        if formula is None or bias is None:
            if out != z and formula is None:
                raise Unsupported
            if formula is None:
                formula = _ADD
            xs = (z, *parameters) if bias is None else (z, bias)
            return self._map(call, formula, *xs, dtype=z.dtype, out=out)
        if lowering.refusal(binding.source(formula)) is not None:
            raise Unsupported
        kernel = self.kernel(elementwise.bias_activation, formula, bits, out == z)
        rest = [self.block(bias), *map(self.scalar, parameters)]
        parts = [self.block(z)] if out == z else [self.block(z), self.block(out)]
        return self._rowwise(kernel, parts, rest, z.size, _SHARE)

    def _bias_activation_backward(
        self,
        call: Call,
        g: Value,
        saved: Value,
        derivative: Any,
        parameters: Any,
        *,
        with_bias: bool,
        out: Any = None,
    ) -> Ranks:
        bits = _FLOATS.get(g.dtype)
        formula = binding.vjp(derivative)
        dz, dbias = call.outs
        if bits is None or not with_bias or dz is None or dbias is None:
            raise Unsupported
        if lowering.refusal(binding.source(formula)) is not None:
            raise Unsupported
        kernel = self.kernel(elementwise.bias_activation_backward, formula, bits)
        block, (n, m) = reductions.ROWS, g.shape
        count = -(-n // block)
        result = self.block(dbias)
        sums = self.scratch((count, m), g.dtype) if count > 1 else result.reshaped(1, m)
        gs, ss, ds = (self.block(x) for x in (g, saved, dz))
        scalars = [self.scalar(x) for x in parameters]

        def make(start: int, stop: int) -> list[Item]:
            first, last = start * block, min(stop * block, n)
            rows = [x.part(first, last) for x in (gs, ss, ds)]
            return [kernel_call(kernel, *rows, sums.part(start, stop), block, *scalars)]

        ranks = self._split(make, count, g.size, _SHARE, 1)
        return ranks if count == 1 else self._then(ranks, self._join(sums, result, bits))

    def _join(self, sums: Block, result: Block, bits: int) -> Item:
        """The sums of blocks of rows, added."""
        kernel = self.kernel(replayed.joined, bits)
        return kernel_call(kernel, sums, result.reshaped(sums.shape[1]))

    def _then(self, ranks: Ranks, *last: Item) -> Ranks:
        """What the first thread does when all have ended."""
        if len(ranks) > 1:
            ranks = [[*items, _BARRIER] for items in ranks]
        ranks[0] = [*ranks[0], *last]
        return ranks

    # Along axes

    def _reduce(
        self, call: Call, kind: str, x: Value, axes: Any, keepdims: bool, *, dtype: Any, **_: Any
    ) -> Ranks:
        bits = _FLOATS.get(x.dtype)
        if kind != "sum" or bits is None or dtype != x.dtype or not x.size:
            raise Unsupported
        order, (outer, count, inner), _shape = operands.fold(x.shape, axes, keepdims)
        (y,) = call.outs
        assert y is not None
        result = self.block(y)
        if order is not None:
            raise Unsupported
        source = self.block(x)
        if inner == 1 and outer == 1 and count >= _LONG:
            return self._long_sum(source, count, result, bits)
        if inner == 1:
            kernel = self.kernel(replayed.row_sums, bits, False)
            parts = [source.reshaped(outer, count), result.reshaped(outer)]
            return self._rowwise(kernel, parts, (), x.size, _SHARE)
        if outer != 1:
            raise Unsupported
        blocks = -(-count // reductions.ROWS)
        sums = self.scratch((blocks, inner), x.dtype) if blocks > 1 else result
        table = source.reshaped(count, inner)
        kernel = self.kernel(reductions.columns, bits)

        def make(start: int, stop: int) -> list[Item]:
            rows = table.part(start * reductions.ROWS, min(stop * reductions.ROWS, count))
            into = sums.reshaped(blocks, inner).part(start, stop)
            return [
                kernel_call(kernel, rows.reshaped(1, *rows.shape), into.reshaped(1, *into.shape))
            ]

        ranks = self._split(make, blocks, x.size, _SHARE, 1)
        return ranks if blocks == 1 else self._then(ranks, self._join(sums, result, bits))

    def _long_sum(self, x: Block, count: int, result: Block, bits: int) -> Ranks:
        """The sum of a vector, whose blocks the threads share."""
        rows = -(-count // reductions.BLOCK)
        sums = self.scratch((rows,), np.float64)
        kernel = self.kernel(replayed.row_sums, bits, True)
        whole = count // reductions.BLOCK
        table = x.reshaped(count)

        def make(start: int, stop: int) -> list[Item]:
            part = table.part(start * reductions.BLOCK, stop * reductions.BLOCK)
            return [
                kernel_call(
                    kernel, part.reshaped(stop - start, reductions.BLOCK), sums.part(start, stop)
                )
            ]

        last: list[Item] = []
        if whole < rows:
            rest = table.part(whole * reductions.BLOCK, count)
            last.append(
                kernel_call(kernel, rest.reshaped(1, rest.shape[0]), sums.part(whole, rows))
            )
        last.append(kernel_call(self.kernel(replayed.total, bits), sums, result.reshaped(1)))
        return self._then(self._split(make, whole, count, _SHARE, 1), *last)

    # Products

    def _matmul(self, call: Call, a: Value, b: Value, *, out: Any = None) -> Ranks:
        (c,) = call.outs
        assert c is not None
        entry = blas_entry.gemm(c.dtype)
        if entry is None or len(a.shape) != 2 or len(b.shape) != 2 or not c.size:
            raise Unsupported
        (n, k), m = a.shape, b.shape[1]
        left, right = _matrix(a), _matrix(b)
        if not c.contiguous or not k:
            raise Unsupported
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
            return self._split(lambda i, j: product((i, j), (0, m)), n, work, _SHARE_PRODUCT, 8)
        return self._split(lambda i, j: product((0, n), (i, j)), m, work, _SHARE_PRODUCT, 16)

    # Training kernels

    def _softmax(self, call: Call, x: Value, log: bool, *, out: Any = None) -> Ranks:
        bits = _FLOATS.get(x.dtype)
        if bits is None or not x.size:
            raise Unsupported
        kernel = self.kernel(softmax.softmax, bits, log=log)
        parts = [self.block(x), self.block(call.outs[0])]
        return self._rowwise(kernel, parts, (), x.size, _SHARE_HEAVY)

    def _softmax_cross_entropy(
        self, call: Call, logits: Value, targets: Value, scale: Any, smoothing: float
    ) -> Ranks:
        bits = _FLOATS.get(logits.dtype)
        classes = len(targets.shape) == 1
        if bits is None or not logits.size:
            raise Unsupported
        if targets.dtype != (np.int64 if classes else logits.dtype):
            raise Unsupported
        n = logits.shape[0]
        if isinstance(scale, Value):
            scales = self.block(scale)
        else:
            array = np.full(n, scale, logits.dtype)
            self.kept.append(array)
            scales = Block(array.ctypes.data, (n,), array.dtype.itemsize)
        kernel = self.kernel(softmax.cross_entropy, bits, classes=classes, smooth=smoothing != 0)
        parts = [self.block(x) for x in (logits, targets)]
        parts += [scales, *(self.block(x) for x in call.outs)]
        return self._rowwise(kernel, parts, [float(smoothing)], logits.size, _SHARE_HEAVY)

    def _update(self, call: Call, formula: Any, arrays: Any, scalars: Any) -> Ranks:
        bits = _FLOATS.get(arrays[0].dtype)
        if bits is None or lowering.refusal(binding.source(formula)) is not None:
            raise Unsupported
        kernel = self.kernel(elementwise.update, formula, bits, len(arrays))
        parts = [self.block(x).reshaped(x.size) for x in arrays]
        rest = [self.scalar(x) for x in scalars]

        def make(start: int, stop: int) -> list[Item]:
            return [kernel_call(kernel, *(part.part(start, stop) for part in parts), *rest)]

        return self._split(make, arrays[0].size, arrays[0].size, _SHARE, 64)

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
        if kind == "bits" or dtype not in _FLOATS or not y.size:
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

        return self._split(make, y.size, y.size, _SHARE_HEAVY, chunk)

    def _word(self, x: Any) -> Argument:
        """A 64-bit integer that may differ from run to run."""
        if isinstance(x, Live):
            return Argument("i64", self.number(x))
        return Argument("i64", (x + 2**63) % 2**64 - 2**63)

    # Copies and checks

    def _cast(self, call: Call, x: Value, dtype: Any, *, out: Any = None) -> Ranks:
        y = call.outs[0]
        assert y is not None
        if x.dtype != y.dtype:
            raise Unsupported
        source, target = self.block(x), self.block(y)
        total = x.size * x.dtype.itemsize

        def make(start: int, stop: int) -> list[Item]:
            pointers = [Argument("ptr", moved(b.place, start)) for b in (target, source)]
            length = Argument("i64", stop - start)
            return [Native(blas_entry.memmove(), "ptr", (*pointers, length))]

        return self._split(make, total, total, 4 * _SHARE, 64)

    def _check(self, call: Call, values: Any, x: Any, *rest: Any, bounds: Any) -> Ranks:
        if bounds is None or not isinstance(x, Value) or x.dtype.name not in _CHECKED:
            raise Unsupported
        low, high = bounds
        whole = x.dtype.kind in "iu"
        if whole and not all(math.isfinite(bound) for bound in bounds):
            raise Unsupported
        kernel = self.kernel(replayed.within, x.dtype.name, whole)
        self.checks.append(step(self.memory.backend, self.memory, call))
        block = self.block(x).reshaped(x.size)
        found = Block(self.status.ctypes.data, (1,), 8)
        limits = [int(low), int(high)] if whole else [float(low), float(high)]
        ranks: Ranks = [[kernel_call(kernel, block, found, *limits)]]
        ranks += [[] for _ in range(self.threads - 1)]
        return [[*items, _BARRIER, Guard(self.status.ctypes.data)] for items in ranks]


_CHECKED = {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "float32", "float64"}


def _unrepeated(x: Value, into: tuple[int, ...]) -> Value:
    """An operand without the repetition that a broadcast view gave it."""
    shape = tuple(1 if stride == 0 else n for n, stride in zip(x.shape, x.strides, strict=True))
    return x if shape == x.shape else Value(x.storage, x.offset, shape, x.strides, x.dtype)


def _matrix(x: Value) -> tuple[bool, int]:
    """Whether a matrix is stored by columns, and the elements from one line to the next."""
    size = x.dtype.itemsize
    (n, m), (rows, columns) = x.shape, x.strides
    if (columns == size or m == 1) and (rows >= m * size or n == 1) and rows % size == 0:
        return False, max(rows // size, m, 1) if n > 1 else m
    if (rows == size or n == 1) and columns >= n * size and columns % size == 0:
        return True, max(columns // size, n, 1)
    raise Unsupported
