"""Formulas as functions of NumPy arrays, and NumPy's functions called without warnings."""

from __future__ import annotations

import contextvars
import ctypes
import math
import sys
import threading
from collections.abc import Callable
from functools import cache
from sys import getrefcount
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from gradnet import binding, blas
from gradnet.array_functions import CORRECTED, ON_COMPLEX
from gradnet.backends import Array, Formula, Shape
from gradnet.dtypes import DType, float32, float64, is_half
from gradnet.spare import LARGE, Lease, spare

# The formulas that NumPy has as a ufunc, so that `out` is filled without a temporary.
_SAME_NAME = (
    *("add", "subtract", "multiply", "divide", "negative", "positive"),
    *("remainder", "square", "sqrt", "reciprocal", "maximum", "minimum", "sign", "hypot"),
    *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "logaddexp", "sin", "cos", "tan"),
    *("sinh", "cosh", "tanh", "equal", "not_equal", "less", "less_equal", "greater"),
    *("greater_equal", "logical_and", "logical_or", "logical_xor", "logical_not"),
    *("bitwise_and", "bitwise_or", "bitwise_xor", "isnan", "isinf", "isfinite", "signbit"),
    *("copysign", "nextafter", "floor", "ceil", "trunc", "frexp"),
)
_OTHER_NAME = {
    "abs": "absolute",
    "pow": "power",
    "round": "rint",
    "bitwise_invert": "invert",
    "bitwise_left_shift": "left_shift",
    "bitwise_right_shift": "right_shift",
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "atan2": "arctan2",
    "asinh": "arcsinh",
    "acosh": "arccosh",
    "atanh": "arctanh",
    "conj": "conjugate",
}
UFUNCS: dict[str, np.ufunc] = {
    ours: getattr(np, theirs)
    for ours, theirs in (*zip(_SAME_NAME, _SAME_NAME, strict=True), *_OTHER_NAME.items())
}

# Bytes of an array from which on it begins with a line of the cache.
_ALIGNED, LINE = 1 << 14, 64

# Elements of two matrices, at most, so few that no BLAS wakes threads for their product.
_BLAS, FACTORS = frozenset((float32, float64)), 32


# Where an array object has the address of its elements, as NumPy's C API says.
DATA = object.__basicsize__


def told(x: Array) -> int:
    """The address of an array's elements, as the array tells it."""
    return int(x.__array_interface__["data"][0])


def _read(x: Array) -> int:
    return _word(id(x) + DATA).value


_word = ctypes.c_size_t.from_address
_samples = np.zeros(3), np.zeros((2, 2), np.float32)[1:], np.zeros(())
# The same, read in the object where that has it, in a tenth of the time.
_is_read = sys.implementation.name == "cpython" and all(_read(x) == told(x) for x in _samples)
address: Callable[[Array], int] = _read if _is_read else told


def empty(shape: Shape, dtype: DType) -> Array:
    """An uninitialised array in C order; a large one begins at a multiple of 64 bytes.

    Where NumPy begins, every load of a vector of 64 bytes would take two lines of the cache. One
    that is larger yet is made where one of as many bytes has been before.
    """
    size = math.prod(shape) * dtype.itemsize if shape else 0
    if size < _ALIGNED:
        return np.empty(shape, dtype)
    try:
        if spare is not None and size >= LARGE:
            leased = spare.take(size + LINE)
            return np.ndarray(shape, dtype, leased, -ctypes.addressof(leased) % LINE)
        memory = np.empty(size + LINE, np.uint8)
    except (MemoryError, ValueError):
        return np.empty(shape, dtype)  # names what was asked for
    start = -address(memory) % LINE
    return np.ndarray(shape, dtype, memory, start)


def copied(x: Array) -> Array:
    """An array of the same values in memory of its own, in C order."""
    if x.nbytes < _ALIGNED:
        return x.copy()
    found = empty(x.shape, x.dtype)
    np.copyto(found, x)
    return found


def unshared(held: list[Any], i: int) -> bool:
    """Whether a list's element is an array to write to, of whose memory nobody else knows."""
    if spare is None or type(held[i]) is not np.ndarray:
        return False
    # Two references each: the one that is known, and the call's.
    if getrefcount(held[i]) > 2 or not (held[i].flags.writeable and held[i].flags.c_contiguous):
        return False
    if held[i].base is None:
        return bool(held[i].flags.owndata)
    if isinstance(held[i].base, Lease):
        size = len(held[i].base)
    elif type(held[i].base) is np.ndarray and held[i].base.flags.owndata:
        size = held[i].base.nbytes
    else:
        return False
    # Of a small part of an array the rest would be kept.
    return getrefcount(held[i].base) == 2 and size <= held[i].nbytes + LINE


def is_one(x: Any) -> bool:
    """Whether an array is a single 1, repeated: the cotangent of what is only summed."""
    return isinstance(x, np.ndarray) and x.size > 0 and not any(x.strides) and x.item(0) == 1


@cache
def _namespace(dtype: DType) -> dict[str, Any]:
    """What formulas call, for a dtype of the computation, which literals in `where` take."""

    def where(condition: Any, a: Any, b: Any) -> Any:
        if not isinstance(a, np.ndarray | np.generic) and not isinstance(
            b, np.ndarray | np.generic
        ):
            a = dtype.type(a)
        return np.where(condition, a, b)

    names = {**UFUNCS, **CORRECTED, "where": where}
    return {**names, **ON_COMPLEX} if dtype.kind == "c" else names


def bound(formula: Formula, dtype: DType) -> Callable[..., Any]:
    """The formula on NumPy arrays: a ufunc where NumPy has it."""
    function: Callable[..., Any] = binding.bind(formula, _namespace(dtype))
    return function


@cache
def direct(formula: Formula, dtype: DType) -> np.ufunc | None:
    """The ufunc that is the whole formula, for a dtype that NumPy computes in itself."""
    function = bound(formula, dtype)
    return function if isinstance(function, np.ufunc) and not is_half(dtype) else None


def order_of_distinct(x: Array) -> Array | None:
    """The order (n,) int64 of integers (n,), several times as fast as a stable sort finds it.

    None where two of them are equal, or may be: numbers that differ have only one order.
    """
    order: Array
    if x.dtype == np.uint64:
        # Random keys, as a permutation has: where their high bits differ, the low ones may say
        # where each has been, and a sort moves both.
        bits = x.size.bit_length()
        low = np.uint64((1 << bits) - 1)
        keyed = x | low
        keyed ^= low
        keyed |= np.arange(x.size, dtype=np.uint64)
        keyed.sort()
        found = keyed >> np.uint64(bits)
        keyed &= low
        order = keyed.view(np.int64)
    else:
        order = np.argsort(x)
        found = x[order]
    return None if (found[1:] == found[:-1]).any() else order


def filled(result: Any, shape: Shape, dtype: DType, out: Array | None) -> Array:
    """The result as a new array of that shape and dtype, or in `out`."""
    if out is not None:
        quiet.call(np.copyto, out, result, casting="unsafe")
        return out
    result = np.asarray(result)
    if result.dtype != dtype:
        result = quiet.call(result.astype, dtype)
    return result if result.shape == shape else np.broadcast_to(result, shape).copy()


class _Quiet(threading.local):
    """Calls functions where NumPy gives no floating-point warnings.

    A context of this thread that has been told so once: entering np.errstate at every call takes
    longer than a small array's sum.
    """

    def __init__(self) -> None:
        self.call = quiet_context().run


def quiet_context() -> contextvars.Context:
    """A context in which NumPy gives no floating-point warnings."""
    context = contextvars.Context()
    context.run(np.seterr, all="ignore")
    return context


quiet = _Quiet()

# Of functions on arrays and floats, what machine code may call in their place where NumPy gives no
# warnings: a ufunc, None before there is one; and for what: any operands (False), those of few
# elements each (None), or few elements of arrays of one shape and dtype (True).
WITHIN: WeakKeyDictionary[Callable[..., Array], list[Any]] = WeakKeyDictionary()
FEW = 4096  # elements
# What makes ops on such arrays machine code, from the classes of tensors and of nodes; a backend's.
machine_code: Callable[[type, type], Any] | None = None


def multiplied(a: Array, b: Array) -> Array:
    """`np.matmul` of matrices, stacks of them or two vectors, by the threads it is worth."""
    ndim, size = a.ndim, a.size
    if 1 < size < FACTORS and 1 < b.size < FACTORS and b.ndim == ndim < 3 and a.dtype in _BLAS:
        # It calls the same function of the BLAS, in half the time. (But a single element it takes
        # for a factor, and leaves out the product where that is 0.)
        product = quiet.call(a.dot, b)
        return product if ndim == 2 else np.asarray(product)
    blas.prepare(size * b.shape[-1] if ndim > 1 else size)
    product = quiet.call(np.matmul, a, b)
    return product if ndim > 1 else np.asarray(product)


def quietly(ufunc: np.ufunc, dtype: DType) -> Callable[..., Array]:
    """A function of NumPy's on arrays and floats that gives no warnings, and always an array."""
    ndarray = np.ndarray

    def one(x: Any) -> Array:
        result = quiet.call(ufunc, x)
        return result if isinstance(result, ndarray) else np.asarray(result, dtype)

    def two(x: Any, y: Any) -> Array:
        result = quiet.call(ufunc, x, y)
        return result if isinstance(result, ndarray) else np.asarray(result, dtype)

    found = one if ufunc.nin == 1 else two
    WITHIN[found] = [ufunc, False]
    return found


def windowed(
    base: Array, offset: int, shape: Shape, strides: tuple[int, ...], dtype: DType
) -> Array:
    """An array over the memory of another, `offset` and `strides` in bytes."""
    if base.flags.c_contiguous:
        return np.ndarray(shape, dtype, base.reshape(-1).view(np.uint8), offset, strides)
    address, read_only = base.__array_interface__["data"]
    window = np.asarray(_Window(base, address + offset, read_only, shape, strides, dtype))
    # NumPy has no letter of its own for bfloat16.
    return window if window.dtype == dtype else window.view(dtype)


class _Window:
    """Memory of an array, as NumPy reads it."""

    def __init__(
        self,
        base: Array,
        address: int,
        read_only: bool,
        shape: Shape,
        strides: tuple[int, ...],
        dtype: DType,
    ) -> None:
        self.base = base
        self.__array_interface__ = {
            "version": 3,
            "data": (address, read_only),
            "shape": shape,
            "strides": strides,
            "typestr": dtype.str,
        }


def softmax_parts(x: Array) -> tuple[Array, Array, Array]:
    """Rows with their maximum taken off, their exponentials, and the sums of those."""
    if x.shape[1] == 0:
        return x, x, np.ones((x.shape[0], 1), x.dtype)
    with np.errstate(all="ignore"):
        highest = x.max(axis=1, keepdims=True)
        # The limit at +inf: entries that reach it share the mass, the others have none.
        shifted = np.where((x == highest) & (highest > 0), x.dtype.type(0), x - highest)
        exponentials = np.exp(shifted)
        return shifted, exponentials, exponentials.sum(axis=1, keepdims=True)


# Rows summed one after the other before their sums are added: bounds the rounding error of a sum
# over a leading axis, which NumPy adds row by row, as its pairwise sum does for the last axis.
_BLOCK = 128


def partial_sums(x: Array, axes: tuple[int, ...], dtype: DType) -> Array:
    """`x` with long summed axes other than the last folded into blocks, each block summed."""
    for axis in axes:
        count = x.shape[axis]
        if axis != x.ndim - 1 and count > 2 * _BLOCK:
            whole = count // _BLOCK * _BLOCK
            head = x[(slice(None),) * axis + (slice(0, whole),)]
            blocks = head.reshape(
                *x.shape[:axis], whole // _BLOCK, _BLOCK, *x.shape[axis + 1 :]
            ).sum(axis=axis + 1, dtype=dtype)
            rest = x[(slice(None),) * axis + (slice(whole, None),)]
            tail = rest.sum(axis=axis, keepdims=True, dtype=dtype)
            x = partial_sums(np.concatenate([blocks, tail], axis=axis), (axis,), dtype)
    return x
