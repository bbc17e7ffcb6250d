"""Formulas as compiled code: the accuracy of the target's own functions, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradnet import binding, formulas
from gradnet.formulas import abs, ceil, copysign, floor, isfinite, isinf, nextafter, round, trunc
from gradnet.numpy_calls import UFUNCS

pytest.importorskip("numba")

from gradnet.kernels import compiler, lowering
from gradnet.kernels.templates import elementary, elementwise

ULPS = {"exp": 1.1, "expm1": 1.9, "log": 1.0, "log1p": 1.6, "tanh": 2.6}
# Where the platform's long double is wider than float64 it serves as the reference.
WIDE = np.finfo(np.longdouble).nmant > 60


def compiled(formula: Any, bits: int, condition: bool = False) -> Any:
    """The formula over arrays, through a loop of its own."""
    pattern = "x" * len(binding.arguments(formula))
    kernel = compiler.compiled(
        *elementwise.map_kernel(binding.source(formula), bits, pattern, condition)
    )

    def call(*xs: Any) -> Any:
        y = np.empty(xs[0].shape, bool if condition else xs[0].dtype)
        kernel(*xs, y)
        return y

    return call


def sweep(name: str, dtype: Any) -> Any:
    """All magnitudes of both signs, the region where the results change most, and the ends."""
    info = np.finfo(dtype)
    generator = np.random.default_rng(1)
    magnitudes = np.exp(generator.uniform(np.log(float(info.smallest_normal)) - 10, 88, 40_000))
    limit = 760 if dtype == np.float64 else 110
    plain = generator.uniform(-limit, limit, 40_000)
    near = generator.uniform(-2, 2, 40_000)
    ends = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, info.max, info.smallest_subnormal]
    ends += [info.smallest_normal, 88.72, 88.73, -103.9, -104.1, 709.7, 709.8, -745.1, -746.5]
    with np.errstate(over="ignore"):
        x = np.concatenate([magnitudes, -magnitudes, plain, near, ends]).astype(dtype)
    return np.abs(x) if name == "log" else x


@pytest.mark.parametrize(
    "bits",
    [
        32,
        pytest.param(
            64, marks=pytest.mark.skipif(not WIDE, reason="long double is no wider than float64")
        ),
    ],
)
@pytest.mark.parametrize("name", sorted(ULPS))
def test_elementary_functions(name: str, bits: int) -> None:
    dtype = np.dtype(f"float{bits}")
    x = sweep(name, dtype)
    with np.errstate(all="ignore"):
        exact = getattr(np, name)(x.astype(np.longdouble if bits == 64 else np.float64))
        expected = exact.astype(dtype)
        found = compiled(elementary.FORMULAS[name, bits], bits)(x)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
        np.testing.assert_array_equal(np.isinf(found), np.isinf(expected))
        sure = np.isfinite(expected)
        spacing = np.spacing(np.maximum(np.abs(expected[sure]), np.finfo(dtype).smallest_normal))
        error = np.abs(found[sure].astype(exact.dtype) - exact[sure]) / spacing
    assert error.max() <= ULPS[name]
    if name != "exp":
        np.testing.assert_array_equal(np.signbit(found[sure]), np.signbit(expected[sure]))


ON_ARRAYS = {
    "fma": lambda a, b, c: a * b + c,
    "nearest": np.rint,
    "power_of_two": np.exp2,
    "exponent": lambda x: np.rint(np.log2(x)),
    "significand": lambda x: x / np.exp2(np.rint(np.log2(x))),
    "where": np.where,
    "abs": np.abs,
    "copysign": np.copysign,
}


@pytest.mark.parametrize("name", sorted(ULPS))
def test_elementary_formulas_on_arrays(name: str) -> None:
    """The formulas themselves, with NumPy's functions in place of the operations on bits."""
    x = np.linspace(0.01, 30, 3001)
    for bits, tolerance in ((32, 1e-8), (64, 1e-14)):
        formula = binding.bind(elementary.FORMULAS[name, bits], ON_ARRAYS)
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(formula(x), getattr(np, name)(x), rtol=tolerance)


# What the kernels' own float32 parts of these give, in units in the last place.
OWN = {"erf": 2.2, "erfc": 3.1, "gelu": 3.6, "erf_dx": 2.6, "erfc_dx": 2.6}


@pytest.mark.parametrize("name", sorted(OWN))
def test_float32_parts_of_the_error_function(name: str) -> None:
    formula = formulas.FORMULAS[name]
    x = sweep("erf", np.dtype(np.float32))
    x = np.concatenate([x, np.linspace(-15, 15, 60_001, dtype=np.float32)])
    with np.errstate(all="ignore"):
        exact = binding.bind(formula, UFUNCS | {"where": np.where})(x.astype(np.float64))
        expected = exact.astype(np.float32)
        found = compiled(formula, 32)(x)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(x))
        sure = np.isfinite(expected)
        np.testing.assert_array_equal(found[~sure], expected[~sure])
        spacing = np.spacing(np.maximum(np.abs(expected[sure]), np.float32(1e-38)))
        error = np.abs(found[sure] - exact[sure]) / spacing
    assert error.max() <= OWN[name]


def test_float32_derivative_of_gelu() -> None:
    """To units in the last place of 1: it crosses 0."""
    x = np.concatenate([sweep("gelu", np.dtype(np.float32)), np.linspace(-15, 15, 60_001)])
    x = x.astype(np.float32)
    with np.errstate(all="ignore"):
        names = UFUNCS | {"where": np.where}
        exact = binding.bind(formulas.gelu_dx, names)(x.astype(np.float64))
        found = compiled(formulas.gelu_dx, 32)(x)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(x))
    assert np.nanmax(np.abs(found - exact)) <= 1.4 * np.spacing(np.float32(1))


def erf_near_zero(x: Any) -> Any:
    return x + x


def minimum(a: Any, b: Any) -> Any:
    return a + b


def doubled(x: Any) -> Any:
    return erf_near_zero(x) + minimum(x, 1.0)


def test_formulas_called_like_those_that_kernels_have_themselves() -> None:
    x = np.linspace(-0.4, 0.4, 9, dtype=np.float32)
    np.testing.assert_array_equal(compiled(erf_near_zero, 32)(x), x + x)
    np.testing.assert_array_equal(compiled(doubled, 32)(x), (x + x) + (x + np.float32(1)))


@pytest.mark.parametrize("bits", [32, 64])
def test_bounds_that_are_literals(bits: int) -> None:
    x = np.array([np.nan, -np.inf, -2.0, -0.0, 0.0, 1e-40, 3.0, 9.0, np.inf] * 9, f"float{bits}")
    for name in ("relu", "relu6"):
        formula = formulas.FORMULAS[name]
        expected = binding.bind(formula, {"where": np.where})(x)
        found = compiled(formula, bits)(x)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))


def test_logarithms_outside_their_domain() -> None:
    x = np.array([-1.0, -np.inf, -1e-40, 0.0, -0.0, np.inf], np.float32)
    np.testing.assert_array_equal(
        compiled(elementary.log_32, 32)(x), [np.nan, np.nan, np.nan, -np.inf, -np.inf, np.inf]
    )
    x = np.array([-1.0, -2.0, -np.inf, np.inf, 3e38], np.float32)
    np.testing.assert_allclose(
        compiled(elementary.log1p_32, 32)(x), [-np.inf, np.nan, np.nan, np.inf, 88.5969], rtol=1e-6
    )


def rounded(x: Any) -> Any:
    return floor(x) + 10.0 * ceil(x) + 100.0 * trunc(x) + 1000.0 * round(x)


def signs(x: Any) -> Any:
    return copysign(abs(x) + 1.0, x)


def finite(x: Any) -> Any:
    return isfinite(x) & ~isinf(x) | (x != x) ^ isinf(x)


def neighbours(a: Any, b: Any) -> Any:
    return nextafter(a, b)


def counted(a: Any, b: Any) -> Any:
    """Conditions among numbers count as 0 and 1."""
    return (a > b) * 2.0 + (a < 0.0) - +(b != b) + (a == b) ** 2.0


@pytest.mark.parametrize("bits", [32, 64])
def test_operations(bits: int) -> None:
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2.4, -2.6, 0.0], f"float{bits}")
    expected = np.floor(x) + 10 * np.ceil(x) + 100 * np.trunc(x) + 1000 * np.rint(x)
    np.testing.assert_array_equal(compiled(rounded, bits)(x), expected)
    np.testing.assert_array_equal(compiled(signs, bits)(x), np.copysign(np.abs(x) + 1, x))
    wild = np.array([1.0, np.inf, -np.inf, np.nan], f"float{bits}")
    found = compiled(finite, bits, condition=True)(wild)
    np.testing.assert_array_equal(found, [True, True, True, True])
    a, b = x[:4].copy(), wild
    np.testing.assert_array_equal(compiled(neighbours, bits)(a, b), np.nextafter(a, b))
    with np.errstate(invalid="ignore"):
        expected = (a > b) * 2.0 + (a < 0) - (b != b) + (a == b)
    np.testing.assert_array_equal(compiled(counted, bits)(a, b), expected)


def test_the_catalogue_compiles() -> None:
    """All rows and derivatives of floats, but those that NumPy rounds in a way of its own."""
    refused = {
        row.name
        for row in formulas.rows()
        if row.kind != "bitwise"
        for formula in (row.formula, *row.derivatives)
        if formula is not None and lowering.refusal(binding.source(formula)) is not None
    }
    assert refused == {"floor_divide", "remainder"}


def test_every_primitive_of_the_catalogue() -> None:
    """One kernel with all of them: their accuracy is that of the platform's library."""
    used = {name for row in formulas.rows() for name in binding.source(row.formula).primitives}
    used -= {"isinf", "isfinite"}
    rows = [(name, binding.source(formulas.FORMULAS[name])) for name in sorted(used)]
    assert {"exp", "sin", "hypot", "nextafter", "sqrt"} <= used
    text = elementwise.head(64)
    calls = []
    for i, (_, source) in enumerate(rows):
        text += f"f{i} = function({source.name!r}, {source.text!r}, 64)\n"
        operands = "x[i]" if len(source.arguments) == 1 else "x[i], y[i]"
        calls.append(f"        z[{i}, i] = f{i}({operands})\n")
    text += "\n\ndef kernel(x, y, z):\n    for i in range(x.size):\n" + "".join(calls)
    kernel = compiler.compiled(text, "In(1), In(1), Out(2)")
    generator = np.random.default_rng(3)
    x, y = generator.uniform(0.1, 0.9, 50), generator.uniform(-2, 2, 50)
    z = np.empty((len(rows), 50))
    for shift in (0.0, 1.0):
        kernel(x + shift, y, z)
        for i, (name, source) in enumerate(rows):
            operands = (x + shift, y)[: len(source.arguments)]
            with np.errstate(invalid="ignore"):
                expected = UFUNCS[name](*operands)
            np.testing.assert_allclose(z[i], expected, rtol=1e-14, atol=1e-300, err_msg=name)


def divided(a: Any, b: Any) -> Any:
    return a // b


def shifted(a: Any, b: Any) -> Any:
    return a << b


def flipped(x: Any) -> Any:
    return ~x


def unknown(x: Any) -> Any:
    return unknown(x)


def test_what_is_refused() -> None:
    assert "FloorDiv" in str(lowering.refusal(binding.source(divided)))
    assert "LShift" in str(lowering.refusal(binding.source(shifted)))
    assert "'unknown'" in str(lowering.refusal(binding.source(unknown)))
    assert lowering.refusal(binding.source(signs)) is None
    with pytest.raises(lowering.LoweringError, match="flip the bits"):
        compiled(flipped, 32)
