"""Every derivative of the catalogue against mpmath, and its choices where there are several."""

from __future__ import annotations

import math
from typing import Any

import formulas_oracle as oracle
import numpy as np
import pytest
from mpmath import mp, mpf

from gradnet import binding, formulas
from gradnet.formulas import Row

DERIVATIVES = [
    pytest.param(row, name, derivative, id=f"{row.name}-{name}")
    for row, name, derivative in oracle.differentiable()
    if row.name != "where"  # See test_where_passes_to_the_chosen_side.
]


@pytest.mark.parametrize(("row", "name", "derivative"), DERIVATIVES)
def test_derivative_equals_the_difference_quotient(row: Row, name: str, derivative: Any) -> None:
    """The formula in 50 digits against mpmath's numeric derivative of the reference."""
    names = binding.arguments(row.formula)
    formula, reference = oracle.on_mpmath(derivative), oracle.REFERENCES[row.name]
    position = names.index(name)
    points = {
        1: [(v,) for v in (-7.3, -2.1, -0.61, -0.3, 0.2, 0.43, 0.9, 1.7, 4.4, 8.2)],
        2: [(0.3, 1.7), (1.4, -0.8), (2.5, 2.25), (5.0, 0.35), (-1.3, 0.6), (-0.4, -2.3)],
        3: [(0.3, -1.0, 1.0), (-1.3, -1.0, 1.0), (1.6, -1.0, 1.0)],
    }[len(names)]
    checked = 0
    for point in points:
        if not row.domain[0] < point[0] < row.domain[1] and row.name not in ("asec", "acsc"):
            continue
        if row.name in ("asec", "acsc") and abs(point[0]) <= 1:
            continue
        xs = [mpf(value) for value in point]

        def section(x: Any, xs: Any = xs) -> Any:
            return reference(*xs[:position], x, *xs[position + 1 :])

        expected = mp.diff(section, xs[position])
        found = formula(
            *oracle.values(binding.arguments(derivative), row, tuple(xs), reference(*xs))
        )
        # Constants of the formulas have the 17 digits of a float64.
        assert abs(found - expected) <= mpf(10) ** -15 * max(1, abs(expected)), point
        checked += 1
    assert checked >= 3


@pytest.mark.parametrize(("row", "name", "derivative"), DERIVATIVES)
def test_derivative_in_float32(row: Row, name: str, derivative: Any) -> None:
    names = binding.arguments(derivative)
    if not names:
        return
    xs = oracle.dense(row, 5_000, moderate=True)
    wide = tuple(x.astype(np.float64) for x in xs)
    y, exact = oracle.quietly(row.formula, *xs), oracle.quietly(row.formula, *wide)
    found = oracle.quietly(derivative, *oracle.values(names, row, xs, y))
    true = oracle.quietly(derivative, *oracle.values(names, row, wide, exact))
    assert found.dtype == np.float32
    assert true.dtype == np.float64
    errors = oracle.dense_ulps(found, true, row.derivative_scale)
    worst = int(np.argmax(errors))
    assert errors[worst] <= row.derivative_ulp, [float(x[worst]) for x in xs]


@pytest.mark.parametrize(("row", "name", "derivative"), DERIVATIVES)
def test_derivative_raises_no_warning_where_finite(row: Row, name: str, derivative: Any) -> None:
    names = binding.arguments(derivative)
    if not names:
        return
    xs = oracle.sweep(row)
    y = oracle.quietly(row.formula, *xs)
    finite = np.isfinite(y) & np.isfinite(
        oracle.quietly(derivative, *oracle.values(names, row, xs, y))
    )
    kept = tuple(x[finite] for x in xs)
    assert np.isfinite(oracle.loudly(derivative, *oracle.values(names, row, kept, y[finite]))).all()


SMOOTH = "sigmoid tanh softplus swish gelu gelu_tanh mish softsign log_sigmoid elu selu"


@pytest.mark.parametrize("name", SMOOTH.split())
def test_slopes_at_infinity(name: str) -> None:
    row = formulas.row(name)
    x = np.array([-math.inf, math.inf], np.float32)
    right = oracle.LIMITS[name][1]
    flat = {"log_sigmoid": [1, 0]}.get(name, [0, 1 if right == math.inf else 0])
    xs = (x, *(np.full_like(x, value) for value in row.defaults.values()))
    y = oracle.quietly(row.formula, *xs)
    derivative = row.derivatives[0]
    assert derivative is not None
    found = oracle.loudly(derivative, *oracle.values(binding.arguments(derivative), row, xs, y))
    if name == "selu":
        flat = [0, float(np.float32(oracle.SELU_SCALE))]
    np.testing.assert_array_equal(found, np.float32(flat))


@pytest.mark.parametrize(
    ("name", "x", "slope"),
    [
        ("abs", 0, 0),
        ("absolute", 0, 0),
        ("relu", 0, 0),
        ("relu6", 0, 0),
        ("relu6", 6, 0),
        ("leaky_relu", 0, 0.01),
        ("elu", 0, 1),
        ("hard_sigmoid", -3, 0),
        ("hard_sigmoid", 3, 0),
        ("piecewise_linear", 0.5, 0),
        ("piecewise_linear", -0.5, 0),
    ],
)
def test_subgradients_at_kinks(name: str, x: float, slope: float) -> None:
    row = formulas.row(name)
    xs = (np.float64([x]), *(np.float64([value]) for value in row.defaults.values()))
    derivative = row.derivatives[0]
    assert derivative is not None
    names = binding.arguments(derivative)
    assert (
        oracle.quietly(derivative, *oracle.values(names, row, xs, oracle.quietly(row.formula, *xs)))
        == slope
    )


def test_ties_of_maximum_and_minimum_are_split() -> None:
    a, b = np.float32([2, 2, 3]), np.float32([2, 3, 2])
    assert list(oracle.quietly(formulas.maximum_da, a, b)) == [0.5, 0, 1]
    assert list(oracle.quietly(formulas.maximum_db, a, b)) == [0.5, 1, 0]
    assert list(oracle.quietly(formulas.minimum_da, a, b)) == [0.5, 1, 0]
    assert list(oracle.quietly(formulas.minimum_db, a, b)) == [0.5, 0, 1]


def test_where_passes_to_the_chosen_side() -> None:
    c, a, b = np.array([True, False]), np.float32([1, 2]), np.float32([3, 4])
    assert list(oracle.quietly(formulas.where, c, a, b)) == [1, 4]
    assert list(oracle.quietly(formulas.where_da, c, a)) == [1, 0]
    assert list(oracle.quietly(formulas.where_db, c, b)) == [0, 1]


def test_power_at_zero() -> None:
    a, b = np.float64([0, 0, 0, 0]), np.float64([0, 1, 2, 0.5])
    y = oracle.loudly(formulas.pow, a, b)
    assert list(y) == [1, 0, 0, 0]
    assert list(oracle.loudly(formulas.pow_da, a[:3], b[:3])) == [0, 1, 0]
    assert oracle.quietly(formulas.pow_da, a, b)[3] == math.inf
    assert list(oracle.loudly(formulas.pow_db, a, b, y)) == [0, 0, 0, 0]
    assert oracle.loudly(formulas.pow, np.float64([-2]), np.float64([3])) == -8
    assert oracle.loudly(formulas.pow_da, np.float64([-2]), np.float64([3])) == 12


def test_derivatives_at_the_origin_of_the_plane_are_zero() -> None:
    zero = np.float64([0])
    assert oracle.loudly(formulas.hypot_da, zero, zero) == 0
    assert oracle.loudly(formulas.atan2_da, zero, zero) == 0
    assert oracle.loudly(formulas.atan2_db, zero, zero) == 0
