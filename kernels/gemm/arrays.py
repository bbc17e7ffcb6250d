"""Products of NumPy arrays by our own code, or None where they are not its work."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from gradnet import blas
from gradnet.backends import Array, Shape
from gradnet.dtypes import DType
from gradnet.numpy_calls import empty

from .. import handles
from . import choice, driver
from .build import code

# Multiply-adds from which a product runs without the interpreter's lock.
LONG = 1 << 18
# Bytes of a result from which on it begins with a line of the cache: what a tile writes of a small
# one takes less time than that.
ALIGNED = 1 << 15
_MOST = 1024
_ADDRESSES = (ctypes.c_void_p,) * 5
_Key = tuple[DType, DType, Shape, Shape, tuple[int, ...], tuple[int, ...]]


class _Kept(threading.local):
    """Memory for packing, each thread's own; it grows as needed."""

    def __init__(self) -> None:
        self.array = np.empty(0, np.uint8)
        self.place = 0

    def zone(self, nbytes: int) -> int:
        """The address of so many bytes, a multiple of 64."""
        if self.array.size < nbytes + 64:
            self.array = np.empty(nbytes + 64, np.uint8)
            self.place = -(-self.array.ctypes.data // 64) * 64
        return self.place


kept = _Kept()


@cache
def zones(threads: int) -> list[int]:
    """Memory in which each thread of the team may pack; the team makes one step at a time."""
    places = []
    for _ in range(threads):
        # One by one: NumPy asks for huge pages for a large array, which would be held whole.
        array = np.empty(choice.most_scratch() + 64, np.uint8)
        _held.append(array)
        places.append(-(-array.ctypes.data // 64) * 64)
    return places


@cache
def packed() -> int:
    """Memory in which the threads of the team pack together."""
    array = np.empty(choice.most_packed() + 64, np.uint8)
    _held.append(array)
    return -(-array.ctypes.data // 64) * 64


_held: list[Array] = []


class Way:
    """How a product of arrays of certain shapes and strides goes.

    dtype    of all three, and shape of the result
    sizes    n, k, m
    strides  of A and B
    work     of each product, in multiply-adds of float32
    splits   what shared_product.py makes of it, for so many threads
    large    whether it is worth waking more threads
    middling whether it is worth more threads where they are awake
    call     the code, with what to give it: handles of three arrays, words, scratch
    handle   what to give for an array
    empty    makes the result
    """

    def __init__(
        self, dtype: DType, shape: Shape, k: int, operands: list[choice.Operand], count: int
    ) -> None:
        n, m = shape[-2:]
        made = code(dtype, choice.large(dtype, n, k, m))
        assert made is not None
        self.made = made
        self.dtype, self.shape, self.sizes = dtype, shape, (n, k, m)
        self.strides = [x.strides for x in operands]
        self.splits: dict[int, Any] = {}
        plan = choice.plan(made.shape, n, k, m, *self.strides)
        self.work = n * k * m * dtype.itemsize // 4
        self.large = len(shape) == 2 and self.work >= blas.SHARED
        self.middling = len(shape) == 2 and self.work >= blas.SHARED // 2
        self.handle = handles.handle
        prototype = ctypes.PYFUNCTYPE if count * n * k * m < LONG else ctypes.CFUNCTYPE
        address = made.objects if handles.DIRECT else made.places
        self.call: Callable[..., None] = prototype(None, *_ADDRESSES)(address)
        size = dtype.itemsize
        given = {"count": count, "n": n, "m": m, "k": k, "mode": plan.mode}
        given |= dict(zip(("kc", "mc", "nc"), plan.blocks, strict=True))
        for name, x in zip("ab", operands, strict=True):
            given |= {f"r{name}": x.strides[0], f"c{name}": x.strides[1], f"z{name}": x.stack}
        given |= {"rc": m * size, "zc": n * m * size}
        self._words = (ctypes.c_int64 * len(driver.STACK))(*(given.get(x, 0) for x in driver.STACK))
        self.words = ctypes.addressof(self._words)
        self.scratch = plan.scratch
        self.empty = np.empty if count * n * m * size < ALIGNED else empty

    def alone(self, a: Array, b: Array, c: Array) -> None:
        """The product on this thread."""
        handle = self.handle
        zone = kept.zone(self.scratch) if self.scratch else None
        self.call(handle(a), handle(b), handle(c), self.words, zone)


_ways: dict[_Key, Way | None] = {}


def matmul(a: Array, b: Array, out: Array | None = None) -> Array | None:
    """`(n, k) @ (k, m) -> (n, m)`, or stacks of such, or None where it is not our own product."""
    key = a.dtype, b.dtype, a.shape, b.shape, a.strides, b.strides
    way: Any = _ways.get(key, key)
    if way is key:
        if len(_ways) >= _MOST:
            _ways.clear()
        way = _ways[key] = _found(*key)
    if way is None:
        return _many(a, b, out) if max(a.ndim, b.ndim) > 3 else None
    if out is None:
        c = way.empty(way.shape, a.dtype)
    elif _writable(out, way.shape, a, b):
        c = out
    else:
        return _put(matmul(a, b), out)
    if way.middling:
        from .. import shared_product

        shared_product.own(way, a, b, c)
    else:
        way.alone(a, b, c)
    return c


def _found(
    left: DType, right: DType, a: Shape, b: Shape, first: tuple[int, ...], second: tuple[int, ...]
) -> Way | None:
    if left != right or len(a) < 2 or len(b) < 2 or len(a) > 3 or len(b) > 3 or a[-1] != b[-2]:
        return None
    (n, k), m = a[-2:], b[-1]
    counts = {shape[0] for shape in (a, b) if len(shape) == 3}
    if not choice.own(left, n, k, m) or 0 in counts or len(counts - {1}) > 1:
        return None
    operands = [choice.operand(*x, left.itemsize) for x in ((a, first), (b, second))]
    taken = [x for x in operands if x is not None]
    if len(taken) < 2:
        return None
    count = max(counts, default=1)
    return Way(left, (count, n, m) if counts else (n, m), k, taken, count)


def _many(a: Array, b: Array, out: Array | None) -> Array | None:
    """Stacks of more axes than one, as several stacks."""
    least = min(a.ndim, b.ndim)
    if (
        least < 2
        or a.dtype != b.dtype
        or not choice.own(a.dtype, a.shape[-2], a.shape[-1], b.shape[-1])
    ):
        return None
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = (np.broadcast_to(x, (*stack, *x.shape[-2:])) for x in (a, b))
    c = empty((*stack, a.shape[-2], b.shape[-1]), a.dtype)
    for index in np.ndindex(stack[:-1]):
        if matmul(a[index], b[index], c[index]) is None:
            return None
    return c if out is None else _put(c, out)


def _writable(out: Array, shape: Shape, a: Array, b: Array) -> bool:
    """Whether the result can be written to an array at once."""
    if out.shape != shape or out.dtype != a.dtype or not out.flags.c_contiguous:
        return False
    if out.base is a.base is b.base is None:
        return out is not a and out is not b
    return not np.may_share_memory(out, a) and not np.may_share_memory(out, b)


def _put(result: Any, out: Array) -> Array:
    """A result that is elsewhere, in `out`."""
    np.copyto(out, result, casting="same_kind")
    return out
