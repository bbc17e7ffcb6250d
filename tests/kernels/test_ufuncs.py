"""Ufuncs of kernels: any operands that NumPy's own take, with the bits of the kernel."""

from __future__ import annotations

import numpy as np
import pytest

from gradnet import binding, dtypes, formulas
from gradnet.backends import Formula
from gradnet.dtypes import DType

pytest.importorskip("numba")

from gradnet.kernels import maps, ufuncs

FORMULAS = (formulas.FORMULAS["sigmoid"], binding.vjp(formulas.FORMULAS["tanh_dx"]))


@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float64], ids=str)
@pytest.mark.parametrize("formula", FORMULAS, ids=lambda formula: formula.__name__)
def test_ufuncs_give_the_bits_of_loops(formula: Formula, dtype: DType) -> None:
    count = len(binding.arguments(formula))
    loops = maps.Loops(formula, dtype, dtype)
    ufunc = ufuncs.made(loops["x" * count], dtype, count, dtype)
    rng = np.random.default_rng(0)
    table = rng.normal(size=(6, 8)).astype(dtype)
    layouts = (table, table[::2, ::3], table.T, table[:, 1], table[2, 3], table[:0])
    for x in layouts:
        for z in (x, np.ones(1, dtype), x.copy()) if count == 2 else (None,):
            xs = (x,) if z is None else (x, z)
            whole = [np.array(part, order="C").ravel() for part in np.broadcast_arrays(*xs)]
            expected = np.empty(whole[0].shape, dtype)
            loops["x" * count](*whole, expected)
            found = ufunc(*xs)
            assert found.dtype == dtype
            np.testing.assert_array_equal(np.ravel(found), expected)


def test_loops_that_are_called_often_go_on_with_the_same_bits() -> None:
    formula, dtype = FORMULAS[1], dtypes.float32
    run = maps.Loops(formula, dtype, dtype).run
    x, z = np.linspace(-2, 2, 7, dtype=dtype), np.linspace(-1, 1, 7, dtype=dtype)
    operands = ((x, z), (x[:, None], z), (x, 0.5), (x[0, ...], z[0, ...]), (x[::2], z[::2]))
    seldom = [run(*xs) for xs in operands]
    for _ in range(2 * maps._OFTEN):
        run(x, z)
    for xs, expected in zip(operands, seldom, strict=True):
        found = run(*xs)
        assert isinstance(found, np.ndarray)
        assert found.shape == expected.shape
        np.testing.assert_array_equal(found, expected)
