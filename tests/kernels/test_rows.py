"""Extremes of rows and sums of columns, written as vectors: every count of lanes left over."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba")

from gradnet.kernels.templates import reductions

from gradnet.backends import get

NUMBA = get("numba")
# Around the 16 lanes of a vector, the 4 vectors of a turn and the 8 of a strip.
WIDTHS = (1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 80, 127, 128, 129, 200, 256, 300)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["max", "min"])
def test_extremes_of_rows(kind: str, dtype: Any) -> None:
    generator = np.random.default_rng(5)
    for k in WIDTHS:
        x = generator.standard_normal((8, k)).astype(dtype)
        x[1], x[2] = -np.inf, np.inf
        x[3, k // 2], x[4, k - 1] = np.inf, -np.inf
        x[5, 0], x[6, k - 1], x[7, k // 2] = np.nan, -np.nan, np.nan
        found = NUMBA.reduce(kind, x, (1,), False, dtype=x.dtype)
        np.testing.assert_array_equal(found, getattr(x, kind)(1), err_msg=str(k))


def test_a_nan_is_found_wherever_it_is() -> None:
    x = np.tile(np.arange(150, dtype=np.float32), (150, 1))
    np.fill_diagonal(x, np.nan)
    for kind in ("max", "min"):
        assert np.isnan(NUMBA.reduce(kind, x, (1,), False, dtype=x.dtype)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [1, 2, 127, 128])
def test_columns_are_added_row_by_row(rows: int, dtype: Any) -> None:
    assert rows <= reductions.ROWS
    generator = np.random.default_rng(rows)
    for k in WIDTHS[1:]:
        x = generator.standard_normal((2, rows, k)).astype(dtype)
        expected = np.zeros((2, k), dtype)
        for i in range(rows):
            expected += x[:, i]
        found = NUMBA.reduce("sum", x, (1,), False, dtype=x.dtype)
        np.testing.assert_array_equal(found, expected, err_msg=str(k))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [129, 256, 700])
def test_blocks_of_rows_are_added_in_float64(rows: int, dtype: Any) -> None:
    x = np.random.default_rng(rows).standard_normal((rows, 37)).astype(dtype)
    expected = np.zeros(37)
    for start in range(0, rows, reductions.ROWS):
        block = np.zeros(37, dtype)
        for row in x[start : start + reductions.ROWS]:
            block += row
        expected += block
    for keepdims in (False, True):
        found = NUMBA.reduce("sum", x, (0,), keepdims, dtype=x.dtype)
        assert found.shape == ((1, 37) if keepdims else (37,))
        np.testing.assert_array_equal(found.ravel(), expected.astype(dtype))
