"""Formulas on NumPy arrays, by NumPy's functions or by compiled loops.

A formula has one implementation per dtype, whatever the shape and layout of its operands: NumPy's
ufunc where there is one that is right, a loop elsewhere. Only where both give the same bits, as
they do where they but choose values, does the size decide.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from gradnet import binding, formulas
from gradnet.array_functions import CORRECTED
from gradnet.backends import Array, Formula, Scalar, Shape
from gradnet.dtypes import DType, bool_
from gradnet.numpy_backend import NumpyBackend
from gradnet.numpy_calls import FEW, UFUNCS, WITHIN, empty, quiet

from . import compiler, large, lowering, operands, threads
from .compiler import Kernel
from .operands import FLOATS
from .templates import elementary, elementwise

if TYPE_CHECKING:
    from .replay.team import Team

# So many calls of a loop are worth the 15 milliseconds that its ufunc takes to be made.
_OFTEN = 64

# So few elements are never shared by threads, nor is it told where they lie in the cache.
_ALONE = 1 << 14
# Formulas of so many operations take several times as long as memory does; and those of a function
# such as exp.
_MANY, _FUNCTION = 40, 20
# NumPy's functions that but choose values, as loops do too: faster for few elements.
_CHOICES: dict[Formula, Callable[..., Any]] = {formulas.FORMULAS["where"]: np.where}

_ndarray = np.ndarray


class Loops(dict[str, Kernel]):
    """The compiled loops of a formula for operands and results of given dtypes, by pattern.

    `run` is the formula on operands: arrays and numbers.
    """

    def __init__(self, formula: Formula, common: DType, dtype: DType) -> None:
        super().__init__()
        self.formula, self.bits, self.condition = formula, FLOATS[common], dtype == bool_
        self.run = _in_few_steps(self, common, dtype)

    @cached_property
    def heft(self) -> int:
        """By how much fewer elements are worth a thread than where memory is the limit."""
        count = 0
        for node in ast.walk(ast.parse(binding.source(self.formula).text)):
            if isinstance(node, ast.BinOp):
                count += 1
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                count += _FUNCTION if (node.func.id, self.bits) in elementary.FORMULAS else 0
        return 4 if count > _MANY else 1

    def __missing__(self, pattern: str) -> Kernel:
        self[pattern] = kernel = formula_kernel(
            elementwise.map_kernel, self.formula, self.bits, pattern, self.condition
        )
        return kernel


def _in_few_steps(loops: Loops, given: DType, dtype: DType) -> Callable[..., Array]:
    """The formula on operands, in few steps for few elements where that is done often."""
    count = len(binding.arguments(loops.formula))
    numpys = _CHOICES.get(loops.formula)
    ufunc: np.ufunc | None = None
    within: list[Any] = [None, True]
    calls = 0

    def by_loop(*xs: Any) -> Array:
        nonlocal ufunc, calls
        if numpys is not None:
            for x in xs:
                if isinstance(x, _ndarray) and x.size > FEW:
                    break
            else:
                y = quiet.call(numpys, *xs)
                if y.dtype is dtype:
                    return y
        calls += 1
        if calls == _OFTEN and count < 3:
            from . import ufuncs

            ufunc = within[0] = ufuncs.made(loops["x" * count], given, count, dtype)
        return _by_loop(loops, xs, dtype, None)

    def one(x: Any) -> Array:
        if ufunc is None or x.size > FEW:
            return by_loop(x)
        y = quiet.call(ufunc, x)
        return y if isinstance(y, _ndarray) else np.asarray(y, dtype)

    def two(x: Any, z: Any) -> Array:
        if ufunc is None or not isinstance(x, _ndarray) or not isinstance(z, _ndarray):
            return by_loop(x, z)
        if x.size * z.size > FEW and (x.size > FEW or x.shape != z.shape):
            return by_loop(x, z)
        y = quiet.call(ufunc, x, z)
        return y if isinstance(y, _ndarray) else np.asarray(y, dtype)

    def chosen(c: Any, x: Any, z: Any) -> Array:
        alike = isinstance(x, _ndarray) and isinstance(z, _ndarray) and isinstance(c, _ndarray)
        if not alike or c.size > FEW or not c.shape == x.shape == z.shape:
            return by_loop(c, x, z)
        # Values that only move give no warnings.
        return np.where(c, x, z) if x.dtype is z.dtype is dtype else by_loop(c, x, z)

    found = one if count == 1 else two if count == 2 else by_loop
    if numpys is np.where:
        found = chosen
    WITHIN[found] = within
    return found


class Functions:
    """A formula by a function of NumPy's; `run` is that on operands: arrays and floats.

    Large ones are shared by threads where that pays, by NumPy's own loop.
    """

    def __init__(self, ufunc: np.ufunc, common: DType, dtype: DType) -> None:
        self.ufunc = ufunc
        self.run = large.where_large(ufunc, common, dtype)


class _Plans(dict[tuple[Formula, DType, DType], "Functions | Loops | None"]):
    """How a formula gives a dtype from operands of a dtype: by NumPy's function, or by loops.

    None where it is neither's work but that of the NumPy backend.
    """

    def __missing__(self, key: tuple[Formula, DType, DType]) -> Functions | Loops | None:
        formula, common, dtype = key
        if common == bool_ and formula in _CHOICES:
            common = dtype  # that of what is chosen from
        plan: Functions | Loops | None = None
        if common in FLOATS and dtype in (common, bool_):
            ufunc = _ufunc(formula)
            if ufunc is not None:
                plan = Functions(ufunc, common, dtype)
            elif compiles(formula):
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
            return plan.run(*xs) if out is None else _by_loop(plan, xs, dtype, out)
        # A Python float is weak, and rounded as the kernels round it.
        xs = tuple([x if isinstance(x, _ndarray) else float(x) for x in xs])  # type: ignore[arg-type]
        return plan.run(*xs) if out is None else large.into(plan.ufunc, xs, dtype, out)

    def cast(self, x: Array, dtype: DType, *, out: Array | None = None) -> Array:
        if x.size < large.LARGE or x.dtype not in FLOATS or dtype not in FLOATS:
            return NumpyBackend.cast(self, x, dtype, out=out)
        if not x.flags.c_contiguous or (out is not None and not _apart(x, out)):
            return super().cast(x, dtype, out=out)

        def together(crew: Team) -> Array:
            y = empty(x.shape, dtype) if out is None else out
            _copy(crew, x, y)
            return y

        return threads.either(
            ("astype", FLOATS[x.dtype]),
            x.size,
            threads.SHARE,
            lambda: NumpyBackend.cast(self, x, dtype, out=out),
            together,
        )

    def concatenate(self, xs: Sequence[Array], axis: int, *, out: Array | None = None) -> Array:
        first = xs[0]
        whole = axis == 0 and out is None and first.size >= large.LARGE and first.dtype in FLOATS
        for x in xs if whole else ():
            alike = x.dtype is first.dtype and x.shape == first.shape
            if not alike or not x.flags.c_contiguous:
                whole = False
                break
        if not whole:
            return super().concatenate(xs, axis, out=out)

        def together(crew: Team) -> Array:
            n, *rest = first.shape
            y = empty((n * len(xs), *rest), first.dtype)
            for i, x in enumerate(xs):
                _copy(crew, x, y[i * n : (i + 1) * n])
            return y

        return threads.either(
            ("concat", FLOATS[first.dtype]),
            first.size,
            threads.SHARE,
            lambda: NumpyBackend.concatenate(self, xs, 0),
            together,
        )

    def _by_own_loop(self, formula: Formula, x: Array, out: Array) -> bool:
        """Fill a contiguous array from one like it, or itself; False where no loop does."""
        plan = _plans[formula, x.dtype, x.dtype]
        if not isinstance(plan, Loops):
            return False
        least = threads.SHARE // plan.heft
        # A loop that is told of one array is not to look whether two are the same.
        parts = [out.reshape(-1)] if x is out else [x.reshape(-1), out.reshape(-1)]
        threads.launch(plan["y" if x is out else "x"], parts, (), x.size, least)
        return True

    def mapper(self, formula: Formula, given: DType, dtype: DType) -> Callable[..., Array]:
        plan = _plans[formula, given, dtype]
        return super().mapper(formula, given, dtype) if plan is None else plan.run


@cache
def _copier(bits: int, into: int) -> Kernel:
    return compiler.entry(compiler.compiled(*elementwise.copied(bits, into)))


def _copy(crew: Team, x: Array, y: Array) -> None:
    """Put elements of an array into another, by a team; both are in row-major order."""
    kernel = _copier(FLOATS[x.dtype], FLOATS[y.dtype])
    threads.run(crew, kernel, [x.reshape(-1), y.reshape(-1)], ())


def _apart(x: Array, out: Array) -> bool:
    """Whether a result in row-major order has no memory in common with an operand."""
    return out.flags.c_contiguous and not np.may_share_memory(x, out)


def _by_loop(loops: Loops, xs: tuple[Any, ...], dtype: DType, out: Array | None) -> Array:
    """A formula on any operands, by the loop compiled for their pattern."""
    if out is None:
        found = operands.alike(xs)
        if found is not None:
            pattern, parts, rest, shape = found
            size = math.prod(shape)
            y: Array = np.empty(shape, dtype) if size < _ALONE else empty(shape, dtype)
            parts.append(y.ravel())
            least = threads.SHARE // loops.heft
            if 2 * size < least:
                loops[pattern](*parts, *rest)
            else:
                threads.launch(loops[pattern], parts, rest, size, least)
            return y
    shape = operands.joined(*(x.shape for x in xs if isinstance(x, np.ndarray)))
    y = out if out is not None and out.flags.c_contiguous else empty(shape, dtype)
    if y is out and any(
        x is not y and isinstance(x, np.ndarray) and np.may_share_memory(x, y) for x in xs
    ):
        # An operand in memory that the loop writes to, other than element for element.
        xs = tuple(x.copy() if isinstance(x, np.ndarray) and x is not y else x for x in xs)
    if y.size:
        pattern, parts, rest = operands.broadcast(xs, shape, y)
        threads.launch(loops[pattern], parts, rest, y.size, threads.SHARE // loops.heft)
    return y if out is None else placed(y, shape, dtype, out)


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
