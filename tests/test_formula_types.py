"""What types formulas compute in, and the rows that are not about floats."""

from __future__ import annotations

import math
import re
from typing import Any

import formulas_oracle as oracle
import numba
import numpy as np
import pytest
from mpmath import mpf

from gradnet import binding, formulas
from gradnet.formulas import Row


def _functions() -> dict[str, tuple[Row, Any]]:
    found: dict[str, tuple[Row, Any]] = {}
    for row in formulas.ROWS:
        if row.kind != "bitwise":
            for formula in (row.formula, *filter(None, row.derivatives)):
                found[formula.__name__] = (row, formula)
    return found


@pytest.mark.parametrize("name", _functions())
def test_numba_float32_code_has_no_float64(name: str) -> None:
    row, formula = _functions()[name]
    compiled = oracle.on_numba(formula)
    signature = tuple(
        numba.boolean if argument == "c" else numba.float32
        for argument in binding.arguments(formula)
    )
    compiled.compile(signature)
    result = compiled.overloads[signature].signature.return_type
    if row.kind in ("compare", "logical"):
        assert result == numba.boolean
    else:
        assert result == numba.float32
    # The wrappers that convert from and to Python's floats are not the function.
    bodies = re.findall(r"^define [^\n]*\{\n.*?\n\}", compiled.inspect_llvm(signature), re.S | re.M)
    own = [body for body in bodies if not re.match(r'define [^\n]*@"?(_ZN7cpython|cfunc)', body)]
    assert own
    assert not [body for body in own if re.search(r"\bdouble\b", body)]


INTEGERS = (
    "add subtract multiply negative positive floor_divide remainder square abs sign minimum maximum"
    " clip pow floor ceil trunc round"
)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("name", INTEGERS.split())
def test_numeric_rows_on_integers(name: str, dtype: Any) -> None:
    row = formulas.row(name)
    assert row.kind == "numeric"
    count = len(binding.arguments(row.formula))
    xs = [np.array([-7, 0, 3, 8], dtype), np.array([2, 3, 2, 2], dtype), np.full(4, 5, dtype)]
    found = oracle.quietly(row.formula, *xs[:count])
    assert found.dtype == dtype
    truth = [
        int(oracle.REFERENCES[name](*(mpf(int(x)) for x in point)))
        for point in zip(*xs[:count], strict=True)
    ]
    assert list(found) == truth
    if name not in ("floor", "ceil", "trunc", "round"):  # Numba has those of floats only.
        compiled = oracle.on_numba(row.formula, numba.int64)
        assert [compiled(*point) for point in zip(*xs[:count], strict=True)] == truth


@pytest.mark.parametrize(
    ("name", "operands", "expected"),
    [
        ("equal", (1, 2), False),
        ("not_equal", (1, 2), True),
        ("less", (1, 2), True),
        ("less_equal", (2, 2), True),
        ("greater", (1, 2), False),
        ("greater_equal", (2, 2), True),
        ("isnan", (math.nan,), True),
        ("isnan", (1,), False),
        ("isinf", (-math.inf,), True),
        ("isinf", (math.nan,), False),
        ("isfinite", (math.inf,), False),
        ("isfinite", (3e38,), True),
        ("signbit", (-0.0,), True),
        ("signbit", (0.0,), False),
        ("logical_and", (2, 0), False),
        ("logical_or", (2, 0), True),
        ("logical_xor", (2, 3), False),
        ("logical_not", (0,), True),
    ],
)
def test_predicates(name: str, operands: tuple[float, ...], expected: bool) -> None:
    formula = formulas.row(name).formula
    xs = [np.float32([value]) for value in operands]
    found = oracle.quietly(formula, *xs)
    assert found.dtype == np.bool_
    assert found[0] == expected
    assert oracle.on_numba(formula)(*(x[0] for x in xs)) == expected


def test_bitwise_rows() -> None:
    for name, expected in {
        "bitwise_and": 4,
        "bitwise_or": 14,
        "bitwise_xor": 10,
        "bitwise_left_shift": 768,
        "bitwise_right_shift": 0,
    }.items():
        formula = formulas.row(name).formula
        assert oracle.quietly(formula, np.int32([12]), np.int32([6])) == expected
        assert oracle.on_numba(formula, numba.int32)(np.int32(12), np.int32(6)) == expected
    assert oracle.quietly(formulas.bitwise_invert, np.int32([12])) == -13
    assert oracle.on_numba(formulas.bitwise_invert, numba.int32)(np.int32(12)) == -13
    assert oracle.on_numba(formulas.bitwise_invert, numba.boolean)(np.True_) == False  # noqa: E712
