"""What formulas are checked against: references in mpmath with 50 digits, and targets to run on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numba
import numpy as np
from mpmath import mp, mpf

from gradnet import binding, formulas
from gradnet.formulas import Row

mp.dps = 50

# -- Targets --------------------------------------------------------------------------------------

_NUMPY_NAMES = {
    "abs": "absolute",
    "acos": "arccos",
    "acosh": "arccosh",
    "asin": "arcsin",
    "asinh": "arcsinh",
    "atan": "arctan",
    "atan2": "arctan2",
    "atanh": "arctanh",
}
PRIMITIVES = [name for name, f in formulas.FORMULAS.items() if binding.is_primitive(f)]

# Primitives only, so that what NumPy has a function for, such as sign, runs as the formula.
NUMPY: dict[str, Any] = {name: getattr(np, _NUMPY_NAMES.get(name, name)) for name in PRIMITIVES} | {
    "ones_like": np.ones_like,
    "zeros_like": np.zeros_like,
}

NUMBA: dict[str, Any] = {
    name: getattr(math, name)
    for name in PRIMITIVES
    if hasattr(math, name) and name not in ("floor", "ceil", "trunc", "exp2", "log2", "nextafter")
} | {
    "exp2": np.exp2,
    "log2": np.log2,
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "round": np.rint,
    "nextafter": np.nextafter,
    "abs": abs,
}

MPMATH: dict[str, Any] = {
    "abs": abs,
    "copysign": lambda a, b: abs(a) if b >= 0 else -abs(a),
    "trunc": lambda x: mp.floor(x) if x >= 0 else mp.ceil(x),
    "log2": lambda x: mp.log(x, 2),
    "exp2": lambda x: mpf(2) ** x,
    "round": mp.nint,
} | {name: getattr(mp, name) for name in PRIMITIVES if hasattr(mp, name) and name != "exp2"}


@cache
def on_numpy(formula: Any) -> Callable[..., Any]:
    """The formula on NumPy arrays."""
    return binding.bind(formula, NUMPY)  # type: ignore[no-any-return]


def quietly(formula: Any, *xs: Any) -> Any:
    """The formula on NumPy arrays, overflows and invalid operands being its own affair."""
    with np.errstate(all="ignore"):
        return on_numpy(formula)(*xs)


def loudly(formula: Any, *xs: Any) -> Any:
    """The same, where any floating-point exception is an error."""
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        return on_numpy(formula)(*xs)


@cache
def on_numba(formula: Any, kind: Any = numba.float32) -> Any:
    """The formula as a Numba function of scalars, its literals of one type."""
    names = NUMBA | {"T": kind}
    return binding.source(formula).define(names, numba.njit(error_model="numpy"))


@cache
def on_mpmath(formula: Any) -> Callable[..., Any]:
    """The formula on mpmath numbers."""
    return binding.source(formula).define(MPMATH | {"T": mpf})  # type: ignore[no-any-return]


# -- References -----------------------------------------------------------------------------------


def _remainder(a: Any, b: Any) -> Any:
    # A quotient of float32 numbers may have 85 digits before its point.
    with mp.workdps(mp.dps + 100):
        return a - b * mp.floor(a / b)


def _elu(x: Any, alpha: Any) -> Any:
    return x if x > 0 else alpha * mp.expm1(x)


def _gelu_tanh(x: Any) -> Any:
    u = mp.sqrt(2 / mp.pi) * (x + mpf("0.044715") * x**3)
    return x / (1 + mp.exp(-2 * u))


def _logistic(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x))


def _clip(x: Any, lower: Any, upper: Any) -> Any:
    return min(max(x, lower), upper)


SELU_ALPHA = mpf("1.6732632423543772848170429916717")
SELU_SCALE = mpf("1.0507009873554804934193349852946")

REFERENCES: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "negative": lambda x: -x,
    "positive": lambda x: x,
    "floor_divide": lambda a, b: mp.floor(a / b),
    "remainder": _remainder,
    "pow": lambda a, b: mp.power(a, b),
    "reciprocal": lambda x: 1 / x,
    "square": lambda x: x * x,
    "sqrt": mp.sqrt,
    "rsqrt": lambda x: 1 / mp.sqrt(x),
    "abs": abs,
    "absolute": abs,
    "minimum": min,
    "maximum": max,
    "clip": _clip,
    "copysign": lambda a, b: abs(a) if b >= 0 else -abs(a),
    "floor": mp.floor,
    "ceil": mp.ceil,
    "trunc": lambda x: mp.floor(x) if x >= 0 else mp.ceil(x),
    "round": mp.nint,
    "exp": mp.exp,
    "exp2": lambda x: mpf(2) ** x,
    "expm1": mp.expm1,
    "log": mp.log,
    "log1p": mp.log1p,
    "log2": lambda x: mp.log(x) / mp.log(2),
    "log10": mp.log10,
    "logaddexp": lambda a, b: max(a, b) + mp.log1p(mp.exp(-abs(a - b))),
    "sin": mp.sin,
    "cos": mp.cos,
    "tan": mp.tan,
    "cot": lambda x: 1 / mp.tan(x),
    "sec": lambda x: 1 / mp.cos(x),
    "csc": lambda x: 1 / mp.sin(x),
    "asin": mp.asin,
    "acos": mp.acos,
    "atan": mp.atan,
    "acot": lambda x: mp.atan2(1, x),
    "asec": lambda x: mp.acos(1 / x),
    "acsc": lambda x: mp.asin(1 / x),
    "atan2": mp.atan2,
    "hypot": mp.hypot,
    "sinh": mp.sinh,
    "cosh": mp.cosh,
    "asinh": mp.asinh,
    "acosh": mp.acosh,
    "atanh": mp.atanh,
    "erf": mp.erf,
    "erfc": mp.erfc,
    "identity": lambda x: x,
    "heaviside": lambda x: (1 + mp.sign(x)) / 2,
    "sign": mp.sign,
    "hard_threshold": lambda x: mpf(x >= 0),
    "piecewise_linear": lambda x: _clip(x + mpf("0.5"), 0, 1),
    "sigmoid": _logistic,
    "tanh": mp.tanh,
    "relu": lambda x: max(x, 0),
    "leaky_relu": lambda x, alpha: x if x > 0 else alpha * x,
    "elu": _elu,
    "selu": lambda x: SELU_SCALE * _elu(x, SELU_ALPHA),
    "softplus": lambda x: mp.log1p(mp.exp(x)),
    "swish": lambda x: x * _logistic(x),
    "gelu": lambda x: x * mp.erfc(-x / mp.sqrt(2)) / 2,
    "gelu_tanh": _gelu_tanh,
    "mish": lambda x: x * mp.tanh(mp.log1p(mp.exp(x))),
    "hard_sigmoid": lambda x: _clip(x + 3, 0, 6) / 6,
    "relu6": lambda x: _clip(x, 0, 6),
    "softsign": lambda x: x / (1 + abs(x)),
    "log_sigmoid": lambda x: -mp.log1p(mp.exp(-x)),
}

INF = math.inf
NAN = math.nan

# Values at -inf and at +inf.
LIMITS: dict[str, tuple[float, float]] = {
    "negative": (INF, -INF),
    "positive": (-INF, INF),
    "reciprocal": (0, 0),
    "square": (INF, INF),
    "sqrt": (NAN, INF),
    "rsqrt": (NAN, 0),
    "abs": (INF, INF),
    "absolute": (INF, INF),
    "floor": (-INF, INF),
    "ceil": (-INF, INF),
    "trunc": (-INF, INF),
    "round": (-INF, INF),
    "exp": (0, INF),
    "exp2": (0, INF),
    "expm1": (-1, INF),
    "log": (NAN, INF),
    "log1p": (NAN, INF),
    "log2": (NAN, INF),
    "log10": (NAN, INF),
    "sin": (NAN, NAN),
    "cos": (NAN, NAN),
    "tan": (NAN, NAN),
    "cot": (NAN, NAN),
    "sec": (NAN, NAN),
    "csc": (NAN, NAN),
    "asin": (NAN, NAN),
    "acos": (NAN, NAN),
    "atan": (-math.pi / 2, math.pi / 2),
    "acot": (math.pi, 0),
    "asec": (math.pi / 2, math.pi / 2),
    "acsc": (0, 0),
    "sinh": (-INF, INF),
    "cosh": (INF, INF),
    "asinh": (-INF, INF),
    "acosh": (NAN, INF),
    "atanh": (NAN, NAN),
    "erf": (-1, 1),
    "erfc": (2, 0),
    "identity": (-INF, INF),
    "heaviside": (0, 1),
    "sign": (-1, 1),
    "hard_threshold": (0, 1),
    "piecewise_linear": (0, 1),
    "sigmoid": (0, 1),
    "tanh": (-1, 1),
    "relu": (0, INF),
    "leaky_relu": (-INF, INF),
    "elu": (-1, INF),
    "selu": (float(-SELU_SCALE * SELU_ALPHA), INF),
    "softplus": (0, INF),
    "swish": (0, INF),
    "gelu": (0, INF),
    "gelu_tanh": (0, INF),
    "mish": (0, INF),
    "hard_sigmoid": (0, 1),
    "relu6": (0, 6),
    "softsign": (-1, 1),
    "log_sigmoid": (-INF, 0),
}

# -- Points ---------------------------------------------------------------------------------------

_TYPES: dict[Any, tuple[int, int]] = {np.float32: (24, -149), np.float64: (53, -1074)}
_MAGNITUDES = (
    "0 1e-45 1e-40 1.17549435e-38 1.1e-38 1e-30 1e-20 1e-10 1e-7 1e-5 1e-4 1e-3 0.01 0.03 0.1 0.2 "
    "0.25 0.3 0.46 0.5 0.7 0.7071 0.75 0.785 0.9 1 1.25 1.5 1.57 2 2.5 3 3.14 4 5 6 7 8 9 9.5 9.9 "
    "10 10.5 11 13 13.1 13.5 14 14.2 15 16 17 20 25 30 40 50 64 70 80 85 86 86.5 87 87.5 88 88.5 "
    "89 90 92 95 100 101 102 103 103.5 104 105 106 110 128 149 200 300 1e3 1e4 1e5 1e7 1e10 1e15 "
    "1e19 1e20 1e30 3e38"
)
SPECIAL = np.array([float(word) for word in _MAGNITUDES.split()])
FEW = np.array([0, 1e-45, 1e-38, 1e-20, 1e-3, 0.1, 0.5, 1, 1.5, 2, 3, 10, 50, 87, 103, 1e5, 1e30])


def _inside(x: Any, domain: tuple[float, float]) -> Any:
    return x[(x >= domain[0]) & (x <= domain[1])]


def sweep(row: Row, dtype: Any = np.float32) -> tuple[Any, ...]:
    """Points over the whole domain of a row: far tails, subnormals, kinks, and random ones."""
    random = np.random.default_rng(20240607)
    free = len(binding.arguments(row.formula)) - len(row.defaults)
    if free == 1:
        near = np.array([1.0, 0.5, *map(abs, row.kinks)])
        around = (near[:, None] * (1 + np.array([-3e-7, -6e-8, 0, 1.2e-7, 1e-4, -1e-4]))).ravel()
        magnitude = np.concatenate([SPECIAL, around, 10 ** random.uniform(-44, 38, 40)])
        x = np.concatenate([magnitude, -magnitude, random.uniform(-20, 20, 100)])
        xs = (_inside(x.astype(dtype), row.domain),)
    else:
        few = np.concatenate([FEW, -FEW[1:]])
        grid = np.array([(a, b) for a in few for b in few])
        drawn = [random.uniform(-20, 20, (150, 2)), random.normal(0, 1, (50, 2))]
        points = np.concatenate([grid, *drawn]).astype(dtype)
        kept = points[(points[:, 0] >= row.domain[0]) & (points[:, 0] <= row.domain[1])]
        third = random.uniform(0, 20, (len(kept), free - 2)).astype(dtype)
        xs = (*(np.ascontiguousarray(column) for column in kept.T), *third.T)
    return (*xs, *(np.full_like(xs[0], value) for value in row.defaults.values()))


@cache
def exact(name: str, dtype: Any = np.float32) -> list[Any]:
    """The reference at the points of the sweep; None where there is a pole or no value."""
    reference, values = REFERENCES[name], []
    for point in zip(*sweep(formulas.row(name), dtype), strict=True):
        try:
            value = reference(*(mpf(float(x)) for x in point))
        except (ValueError, ZeroDivisionError):
            value = None
        values.append(value if isinstance(value, int | mpf) and mp.isfinite(value) else None)
    return values


def ulps(value: Any, true: Any, scale: float = 0.0) -> float:
    """|value - true| in units in the last place of max(|true|, scale), by the dtype of value."""
    digits, lowest = _TYPES[type(value)]
    if np.isnan(value):
        return INF
    largest = mpf(2) ** (3 - lowest - digits)
    true = mp.sign(true) * min(abs(true), largest)
    found = mp.sign(mpf(float(value))) * min(abs(mpf(float(value))), largest)
    size = max(abs(true), mpf(scale))
    exponent = max(mp.mag(size) - digits, lowest) if size else lowest
    return float(abs(found - true) / mpf(2) ** min(exponent, 4 - lowest - 2 * digits - 1))


def dense_ulps(value: Any, true: Any, scale: float = 0.0) -> Any:
    """The same of float32 arrays against float64 arrays, NaN where both are NaN counting as 0."""
    largest = 2.0**128
    value, true = np.clip(np.float64(value), -largest, largest), np.clip(true, -largest, largest)
    size = np.maximum(np.abs(true), scale)
    exponent = np.clip(np.frexp(size)[1] - 24, -149, 104)
    error = np.abs(value - true) / np.exp2(exponent.astype(np.float64))
    both = np.isnan(value) & np.isnan(true)
    return np.where(both, 0.0, np.where(np.isnan(error), INF, error))


def dense(row: Row, count: int, *, moderate: bool = False) -> tuple[Any, ...]:
    """Random float32 points: all bit patterns, uniform ranges, and around kinks; or all near 0."""
    random = np.random.default_rng(7)
    lo, hi = row.domain
    free = len(binding.arguments(row.formula)) - len(row.defaults)

    def draw() -> Any:
        parts = [random.uniform(-r, r, count) for r in (2, 15)]
        parts += [random.normal(c, 0.01, count // 10) for c in (1.0, -1.0, 0.5, -0.5, *row.kinks)]
        if not moderate:
            # A float32 is finite where its eight bits of exponent are not all set.
            bits = random.integers(0, 0x7F800000, count, dtype=np.uint32).view(np.float32)
            parts += [random.uniform(-110, 110, count), bits, -bits]
        return np.concatenate(parts).astype(np.float32)

    xs = [draw() for _ in range(free)]
    for x in xs[1:]:
        random.shuffle(x)
    inside = np.ones(len(xs[0]), bool)
    for x in xs[:1]:
        inside &= (x >= lo) & (x <= hi)
    chosen = [x[inside] for x in xs]
    return (*chosen, *(np.full_like(chosen[0], value) for value in row.defaults.values()))


def differentiable() -> Iterator[tuple[Row, str, Any]]:
    """Rows with each argument that they have a derivative formula in."""
    for row in formulas.ROWS:
        for name, derivative in zip(binding.arguments(row.formula), row.derivatives, strict=True):
            if derivative is not None:
                yield row, name, derivative


def values(names: tuple[str, ...], row: Row, xs: tuple[Any, ...], y: Any) -> list[Any]:
    """The arguments of a derivative, by name."""
    known = dict(zip(binding.arguments(row.formula), xs, strict=True)) | {"y": y}
    return [known[name] for name in names]
