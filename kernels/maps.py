"""Formulas on NumPy arrays, by NumPy's functions or by compiled loops.

A formula has one implementation per dtype, whatever the shape and layout of its operands: NumPy's
ufunc where there is one that is right, a loop elsewhere. Only where both give the same bits, as
they do where they but choose values, does the size decide.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from gradnet import binding, formulas
from gradnet.array_functions import CORRECTED
from gradnet.backends import Array, Formula, Scalar, Shape
from gradnet.dtypes import DType, bool_
from gradnet.numpy_backend import UFUNCS, NumpyBackend, quiet

from . import compiler, lowering, operands, threads
from .compiler import Kernel
from .operands import FLOATS
from .templates import elementwise

# So few elements are computed in less time than it takes to find out how.
_FEW = 4096

# NumPy's functions that but choose values, as loops do too: faster for few elements.
_CHOICES: dict[Formula, Callable[..., Any]] = {formulas.FORMULAS["where"]: np.where}

_ndarray, _empty = np.ndarray, np.empty


class Loops(dict[str, Kernel]):
    """The compiled loops of a formula for operands and results of given dtypes, by pattern."""

    def __init__(self, formula: Formula, common: DType, dtype: DType) -> None:
        super().__init__()
        self.formula, self.bits, self.condition = formula, FLOATS[common], dtype == bool_
        self.numpys = _CHOICES.get(formula)

    def __missing__(self, pattern: str) -> Kernel:
        self[pattern] = kernel = formula_kernel(
            elementwise.map_kernel, self.formula, self.bits, pattern, self.condition
        )
        return kernel

    def small(self, xs: tuple[Any, ...], dtype: DType) -> Array | None:
        """The formula on a few elements of arrays of one shape, in few steps; None for others."""
        first = xs[0]
        if not isinstance(first, _ndarray) or first.size > _FEW:
            return None
        if len(xs) == 1:
            y = _empty(first.shape, dtype)
            self["x"](first.ravel(), y.ravel())
            return y
        if len(xs) == 2:
            second = xs[1]
            if not isinstance(second, _ndarray) or second.dtype is not first.dtype:
                return None
            shape = first.shape
            if second.shape != shape:
                return None
            y = flat = _empty(shape, dtype)
            if len(shape) != 1:
                flat = y.ravel()
            if flat is not y or not first.flags.c_contiguous:
                first = first.ravel()
            if flat is not y or not second.flags.c_contiguous:
                second = second.ravel()
            self["xx"](first, second, flat)
            return y
        if self.numpys is not None:
            y = quiet.call(self.numpys, *xs)
            return y if y.dtype is dtype else None
        found = operands.alike(xs)
        if found is None:
            return None
        pattern, parts, rest, shape = found
        y = _empty(shape, dtype)
        self[pattern](*parts, y.ravel(), *rest)
        return y


class _Plans(dict[tuple[Formula, DType, DType], "np.ufunc | Loops | None"]):
    """How a formula gives a dtype from operands of a dtype: by NumPy's function, or by loops.

    None where it is neither's work but that of the NumPy backend.
    """

    def __missing__(self, key: tuple[Formula, DType, DType]) -> np.ufunc | Loops | None:
        formula, common, dtype = key
        if common == bool_ and formula in _CHOICES:
            common = dtype  # that of what is chosen from
        plan: np.ufunc | Loops | None = None
        if common in FLOATS and dtype in (common, bool_):
            plan = _ufunc(formula)
            if plan is None and compiles(formula):
                plan = Loops(formula, common, dtype)
        self[key] = plan
        return plan


_plans = _Plans()


def _ufunc(formula: Formula) -> np.ufunc | None:
    """NumPy's function that is a formula, where it is right."""
    name = formula.__name__
    known = formulas.FORMULAS.get(name) is formula or binding.is_primitive(formula)
    return UFUNCS[name] if known and name in UFUNCS and name not in CORRECTED else None


@cache
def compiles(formula: Formula) -> bool:
    """Whether a formula is a loop of its own here."""
    return _ufunc(formula) is None and lowering.refusal(binding.source(formula)) is None


@cache
def formula_kernel(
    build: Callable[..., elementwise.Text], formula: Formula, *arguments: Any, **options: Any
) -> Kernel:
    """The kernel that a template builds from a formula."""
    return compiler.entry(compiler.compiled(*build(binding.source(formula), *arguments, **options)))


class Maps(NumpyBackend):
    """What maps formulas over the arrays of the NumPy backend."""

    def map(
        self, formula: Formula, *xs: Array | Scalar, dtype: DType, out: Array | None = None
    ) -> Array:
        first = xs[0]
        plan = _plans[formula, first.dtype if isinstance(first, _ndarray) else bool_, dtype]
        if plan is None:
            # The first operand is a number or a condition: the others tell the dtype.
            kinds = [x.dtype for x in xs if isinstance(x, _ndarray) and x.dtype != bool_]
            plan = _plans[formula, kinds[0], dtype] if kinds else None
            if plan is None:
                return super().map(formula, *xs, dtype=dtype, out=out)
        if isinstance(plan, Loops):
            y = plan.small(xs, dtype) if out is None else None
            return _by_loop(plan, xs, dtype, out) if y is None else y
        if not isinstance(first, _ndarray):
            return _by_ufunc(plan, xs, dtype, out)
        if len(xs) > 1:
            second = xs[1]
            # A Python float is weak, and rounded as the kernels round it.
            if not isinstance(second, _ndarray) and type(second) is not float:
                return _by_ufunc(plan, xs, dtype, out)
        result = quiet.call(plan, *xs) if out is None else quiet.call(plan, *xs, out=out)
        return result if isinstance(result, _ndarray) else np.asarray(result, dtype)


def _by_loop(loops: Loops, xs: tuple[Any, ...], dtype: DType, out: Array | None) -> Array:
    """A formula on any operands, by the loop compiled for their pattern."""
    if out is None:
        found = operands.alike(xs)
        if found is not None:
            pattern, parts, rest, shape = found
            y = np.empty(shape, dtype)
            parts.append(y.ravel())
            size = y.size
            if size < 2 * threads.SHARE:
                loops[pattern](*parts, *rest)
            else:
                threads.launch(loops[pattern], parts, rest, size, threads.SHARE)
            return y
    shape = operands.joined(*(x.shape for x in xs if isinstance(x, np.ndarray)))
    y = out if out is not None and out.flags.c_contiguous else np.empty(shape, dtype)
    if y is out and any(
        x is not y and isinstance(x, np.ndarray) and np.may_share_memory(x, y) for x in xs
    ):
        # An operand in memory that the loop writes to, other than element for element.
        xs = tuple(x.copy() if isinstance(x, np.ndarray) and x is not y else x for x in xs)
    if y.size:
        pattern, parts, rest = operands.broadcast(xs, shape, y)
        threads.launch(loops[pattern], parts, rest, y.size, threads.SHARE)
    return y if out is None else placed(y, shape, dtype, out)


def _by_ufunc(ufunc: Any, xs: tuple[Any, ...], dtype: DType, out: Array | None) -> Array:
    """A formula that is a ufunc of NumPy's, of operands that may be numbers.

    On one thread, however large: memory is the limit, and a second thread was of no use.
    """
    xs = tuple([x if isinstance(x, np.ndarray) else float(x) for x in xs])
    result = quiet.call(ufunc, *xs, out=out)
    return result if isinstance(result, np.ndarray) else np.asarray(result, dtype)


def placed(result: Array, shape: Shape, dtype: DType, out: Array | None) -> Array:
    """A result under its shape and dtype, or in `out`."""
    if result is out:
        return result
    if result.shape != shape:
        result = result.reshape(shape)
    if out is None:
        return result if result.dtype == dtype else quiet.call(result.astype, dtype)
    quiet.call(np.copyto, out, result, casting="same_kind")
    return out
