"""Kernels as LLVM code: what their language computes, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba")

from gradnet.kernels import compiler
from gradnet.kernels.lowering import LoweringError


def run(body: str, *given: Any) -> Any:
    """What a kernel of the arrays x and y leaves in y; the lines of its body are given."""
    names = [f"x{i}" for i in range(len(given) - 1)]
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    kinds = [
        f"Array({'boolean' if x.dtype == bool else x.dtype.name}, {x.ndim})"
        if isinstance(x, np.ndarray)
        else ("int64" if isinstance(x, int) else "float64")
        for x in given
    ]
    text = f"def kernel({', '.join([*names, 'y'])}):\n{lines}"
    compiler.compiled(text, ", ".join(kinds))(*given)
    return given[-1]


def test_ranges_and_shapes() -> None:
    x = np.arange(12.0).reshape(3, 4)
    body = """for i in range(x0.shape[0]):
    for j in range(1, x0.shape[1], 2):
        y[i, j] = x0[i, j] + x0.size"""
    found = run(body, x, np.zeros_like(x))
    np.testing.assert_array_equal(found, np.where(np.arange(4) % 2 == 1, x + 12, 0))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint32", "int64", "float32"])
def test_numbers_convert_as_numpys(dtype: str) -> None:
    x = np.array([0, 1, 100, 127], dtype)
    if dtype.startswith("int"):
        x[0] = -7
    np.testing.assert_array_equal(
        run("for i in range(y.size):\n    y[i] = float64(x0[i]) / 3", x, np.zeros(4)),
        x.astype(np.float64) / 3,
    )
    found = run("for i in range(y.size):\n    y[i] = x0[i] >= x1", x, 1, np.zeros(4, bool))
    np.testing.assert_array_equal(found, x >= 1)


def test_integers() -> None:
    body = """w = uint64(x0[0])
y[0] = int64(w >> uint64(60))
y[1] = x0[0] >> 60
y[2] = int64((w & uint64(255)) ^ uint64(1)) | 2**4
y[3] = x0[0] + uint32(x0[1])
y[4] = int64(uint8(x0[1])) << 3"""
    found = run(body, np.array([-1, 300]), np.zeros(5, np.int64))
    np.testing.assert_array_equal(found, [15, -1, 254, 299, 44 * 8])


def test_choices_and_conditions() -> None:
    body = """wrong = 0
for i in range(x0.size):
    v = x0[i]
    wrong |= not (v > 0.0 and v < 2.0 or v == -3.0)
    if v != v:
        y[i] = -1.0
    else:
        y[i] = v if v < x1 else x1
if wrong != 0:
    y[0] = nan"""
    x = np.array([0.5, 1.5, np.nan])
    np.testing.assert_array_equal(run(body, x, 1.0, np.zeros(3)), [np.nan, 1.0, -1.0])
    np.testing.assert_array_equal(run(body, x[:2], 1.0, np.zeros(2)), [0.5, 1.0])


def test_literals_fold_as_python_does() -> None:
    np.testing.assert_array_equal(
        run("y[0] = float32(2.0**-3 + 1)\ny[1] = 7 / 2", np.zeros(2, np.float32)), [1.125, 3.5]
    )


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("y[0] = x0[0] + 0.1", r"a literal float meets a float32; write T\(...\)"),
        ("v = x0[0]\nv = float64(v)", "'v' is float32, and is given"),
        ("y[0] = uint64(1) + int64(1)", "signed and unsigned integers meet"),
        ("while True:\n    y[0] = 1", "a kernel has no `while True:"),
        ("y[0] = x0[0] // x0[1]", "no FloorDiv of float32"),
        ("y[0] = float32(missing)", "a kernel has no `missing`"),
        ("y[0] = sorted(x0)", "a kernel cannot call `sorted`"),
        ("if x0[0]:\n    y[0] = 1", "a condition is a comparison"),
        ("y[int8(x0[0])] = 1", "does not make int8 of float32"),
        ("f = primitive\ny[0] = exp(float64(x0[0]))", "a kernel has no `primitive`"),
    ],
)
def test_what_is_refused(body: str, told: str) -> None:
    with pytest.raises(LoweringError, match=told):
        run(body, np.ones(2, np.float32), np.ones(2, np.float32))


def test_a_formula_takes_its_own_floats() -> None:
    text = "exp = primitive('exp', 32)\n\n\ndef kernel(y):\n    y[0] = exp(float64(y[0]))\n"
    with pytest.raises(LoweringError, match=r"exp\(float64\(y\[0\]\)\) takes float32"):
        compiler.compiled(text, "Array(float32, 1)")
