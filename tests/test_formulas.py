"""Every row of the catalogue against mpmath, on NumPy and on Numba."""

from __future__ import annotations

import math

import formulas_oracle as oracle
import numpy as np
import pytest

from gradnet import backends, binding, formulas

NAMES = [row.name for row in formulas.ROWS if row.name in oracle.REFERENCES]
UNARY = sorted(oracle.LIMITS)
NOT_NUMBERS = ("compare", "logical", "bitwise")


def test_every_numeric_row_has_a_reference() -> None:
    numeric = {row.name for row in formulas.ROWS if row.kind not in NOT_NUMBERS}
    assert numeric - set(NAMES) == {"where", "nextafter"}


@pytest.mark.parametrize("name", NAMES)
def test_float32_within_the_recorded_bound_on_numpy(name: str) -> None:
    row = formulas.row(name)
    xs = oracle.sweep(row)
    found = oracle.quietly(row.formula, *xs)
    assert found.dtype == np.float32
    assert row.ulp <= 4
    for i, true in enumerate(oracle.exact(name)):
        if true is not None:
            error = oracle.ulps(found[i], true, row.scale)
            assert error <= row.ulp, f"{[float(x[i]) for x in xs]} -> {found[i]}, not {true}"


@pytest.mark.parametrize("name", NAMES)
def test_float32_within_the_recorded_bound_on_numba(name: str) -> None:
    row = formulas.row(name)
    compiled = oracle.on_numba(row.formula)
    for point, true in zip(zip(*oracle.sweep(row), strict=True), oracle.exact(name), strict=True):
        if true is not None:
            found = np.float32(compiled(*point))
            error = oracle.ulps(found, true, row.scale)
            assert error <= row.ulp, f"{point} -> {found}, not {true}"


@pytest.mark.parametrize("name", NAMES)
def test_float32_against_float64_on_many_points(name: str) -> None:
    row = formulas.row(name)
    xs = oracle.dense(row, 20_000)
    true = oracle.quietly(row.formula, *(x.astype(np.float64) for x in xs))
    errors = oracle.dense_ulps(oracle.quietly(row.formula, *xs), true, row.scale)
    worst = int(np.argmax(errors))
    assert errors[worst] <= row.ulp, [float(x[worst]) for x in xs]


@pytest.mark.parametrize("name", NAMES)
def test_float64_within_8_ulp(name: str) -> None:
    row = formulas.row(name)
    xs = oracle.sweep(row, np.float64)
    found = oracle.quietly(row.formula, *xs)
    assert found.dtype == np.float64
    for i, true in enumerate(oracle.exact(name, np.float64)):
        if true is not None:
            error = oracle.ulps(found[i], true, row.scale)
            assert error <= 8, f"{[float(x[i]) for x in xs]} -> {found[i]}, not {true}"


@pytest.mark.parametrize("name", NAMES)
def test_no_warning_where_the_result_is_finite(name: str) -> None:
    row = formulas.row(name)
    xs = oracle.sweep(row)
    finite = np.isfinite(oracle.quietly(row.formula, *xs))
    assert np.isfinite(oracle.loudly(row.formula, *(x[finite] for x in xs))).all()


@pytest.mark.parametrize("name", UNARY)
def test_limits_and_nan(name: str) -> None:
    row = formulas.row(name)
    x = np.array([-math.inf, math.inf, math.nan], np.float32)
    rest = [np.float32(value) for value in row.defaults.values()]
    limits = np.array([*oracle.LIMITS[name], math.nan], np.float32)
    np.testing.assert_array_max_ulp(oracle.quietly(row.formula, x, *rest), limits, 1)
    compiled = oracle.on_numba(row.formula)
    found = np.array([compiled(value, *rest) for value in x], np.float32)
    np.testing.assert_array_max_ulp(found, limits, 1)


@pytest.mark.parametrize("name", UNARY)
def test_finite_limits_raise_no_warning(name: str) -> None:
    row = formulas.row(name)
    x = np.array([-math.inf, math.inf], np.float32)[np.isfinite(oracle.LIMITS[name])]
    rest = [np.float32(value) for value in row.defaults.values()]
    assert np.isfinite(oracle.loudly(row.formula, x, *rest)).all()


# A sign is taken from NaN as from any number.
SEVERAL = [
    name
    for name in NAMES
    if len(binding.arguments(formulas.row(name).formula)) > 1 and name != "copysign"
]


@pytest.mark.parametrize("name", SEVERAL)
def test_nan_in_any_operand(name: str) -> None:
    row = formulas.row(name)
    count = len(binding.arguments(row.formula))
    for i in range(count):
        x = np.full((count, 1), 0.5, np.float32)
        x[i] = math.nan
        if row.defaults and i:
            x[0] = -1
        assert np.isnan(oracle.quietly(row.formula, *x)).all()
        assert math.isnan(oracle.on_numba(row.formula)(*x[:, 0]))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backend", backends.available())
def test_float32_within_the_recorded_bound_on_every_backend(backend: str, name: str) -> None:
    row = formulas.row(name)
    xs, on = oracle.sweep(row), backends.get(backend)
    held = [on.from_host(x, copy=False) for x in xs]
    found = on.to_host(on.map(row.formula, *held, dtype=np.dtype(np.float32)))
    for i, true in enumerate(oracle.exact(name)):
        if true is not None:
            error = oracle.ulps(found[i], true, row.scale)
            assert error <= row.ulp, f"{[float(x[i]) for x in xs]} -> {found[i]}, not {true}"


def test_infinities_of_two_operands() -> None:
    inf = math.inf
    a, b = np.array([(inf, inf), (inf, -inf), (-inf, -inf), (-inf, 1), (2, -inf)], np.float32).T
    for name, expected in {
        "logaddexp": [inf, inf, -inf, 1, 2],
        "maximum": [inf, inf, -inf, 1, 2],
        "minimum": [inf, -inf, -inf, -inf, -inf],
        "hypot": [inf] * 5,
        "pow": [inf, 0, 0, -inf, 0],
    }.items():
        formula = formulas.row(name).formula
        assert list(oracle.quietly(formula, a, b)) == expected, name
        assert [oracle.on_numba(formula)(*pair) for pair in zip(a, b, strict=True)] == expected
    assert list(oracle.loudly(formulas.logaddexp_da, a, b)) == [0.5, 1, 0.5, 0, 1]
