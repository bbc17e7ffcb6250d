"""NumPy's functions on large arrays: by its own loop on several threads, where that pays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradnet.backends import Array
from gradnet.dtypes import DType
from gradnet.numpy_calls import WITHIN, empty, quiet

from . import numpy_loops, threads

# So many elements may be worth more than one thread.
LARGE = threads.SHARE // 2

_ndarray = np.ndarray


def where_large(ufunc: np.ufunc, common: DType, dtype: DType) -> Callable[..., Array]:
    """A function of NumPy's as `quietly` gives it."""

    def one(x: Any) -> Array:
        result = by_threads(ufunc, (x,), x, dtype) if x.size >= LARGE else None
        if result is None:
            result = quiet.call(ufunc, x)
        return result if isinstance(result, _ndarray) else np.asarray(result, dtype)

    def two(x: Any, y: Any) -> Array:
        result = None
        first = x if x.__class__ is _ndarray else y
        if first is x and y.__class__ is _ndarray and y.size > x.size:
            first = y
        if first.size >= LARGE and first.dtype is common:
            result = by_threads(ufunc, (x, y), first, dtype)
        if result is None:
            result = quiet.call(ufunc, x, y)
        return result if isinstance(result, _ndarray) else np.asarray(result, dtype)

    found = one if ufunc.nin == 1 else two
    WITHIN[found] = [ufunc, None]
    return found


def into(ufunc: np.ufunc, xs: tuple[Any, ...], dtype: DType, out: Array) -> Array:
    """A function of NumPy's on operands, in an array."""
    if out.size >= LARGE and out.dtype is dtype and out.flags.c_contiguous:
        first = next((x for x in xs if isinstance(x, _ndarray) and x.shape == out.shape), None)
        others = [x for x in xs if isinstance(x, _ndarray) and x is not out]
        if first is not None and not any(np.may_share_memory(x, out) for x in others):
            y = by_threads(ufunc, xs, first, dtype, out)
            if y is not None:
                return y
    return quiet.call(ufunc, *xs, out=out)


def by_threads(
    ufunc: np.ufunc, xs: tuple[Any, ...], first: Array, dtype: DType, out: Array | None = None
) -> Array | None:
    """A function of NumPy's on arrays like the first, single elements and numbers, by threads.

    None where that is not worth it, or not possible.
    """
    given, shape, pattern, size = first.dtype, first.shape, "", first.size
    habits = numpy_loops.habits(ufunc, given, dtype)
    if habits.alone(size):
        return None
    lines, others = [], []
    for x in xs:
        if not isinstance(x, _ndarray):
            pattern += "s"
            others.append(x)
            continue
        if x.dtype is not given:
            return None
        if x.shape == shape and x.flags.c_contiguous:
            pattern += "x"
            lines.append(x)
        elif x.size == 1 and x.ndim <= first.ndim:
            pattern += "e"
            others.append(x if x.ndim else x.reshape(1))  # without axes, there are no lengths
        else:
            return None
    crew = threads.lent(habits, size, threads.SHARE)
    untold = crew is not None
    if crew is None:
        crew = threads.team_for(size, threads.SHARE)
    kernel = None if crew is None else numpy_loops.kernel(ufunc, given, dtype, pattern)
    if crew is None or kernel is None:
        return None
    shared = untold or habits.choose(size)
    if shared:
        y = empty(shape, dtype) if out is None else out
        threads.run(crew, kernel, [y.reshape(-1), *lines], others)
    else:
        y = quiet.call(ufunc, *xs, out=out)
    if not untold:
        habits.note(shared, size)
    return y
