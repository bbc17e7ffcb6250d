"""Measure the float32 error of every row over millions of points.

`python tests/measure_formulas.py [COUNT]` prints, for each row, the largest error of the formula on
NumPy and on Numba, then of its derivatives on both: what `ulp` and `derivative_ulp` record, rounded
up. NumPy's own functions differ between processors: NPY_DISABLE_CPU_FEATURES chooses among them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import formulas_oracle as oracle
import numba
import numpy as np

from gradnet import binding, formulas


def _looped(formula: Any) -> Callable[..., Any]:
    inner = oracle.on_numba(formula)
    names = binding.arguments(formula)
    scope: dict[str, Any] = {"inner": inner}
    reads = ", ".join(f"{name}[i]" for name in names)
    exec(
        f"def loop({', '.join(names)}, out):\n"
        f"    for i in range(out.size):\n        out[i] = inner({reads})\n",
        scope,
    )
    loop = numba.njit(error_model="numpy")(scope["loop"])

    def run(*xs: Any) -> Any:
        out = np.empty_like(xs[-1])
        loop(*xs, out)
        return out

    return run


def measure(count: int) -> None:
    """Print the largest errors of every row: formula and derivatives, NumPy and Numba."""
    for row in formulas.ROWS:
        if row.name not in oracle.REFERENCES:
            continue
        found: list[float] = []
        for moderate in (False, True):
            xs = oracle.dense(row, count, moderate=moderate)
            wide = tuple(x.astype(np.float64) for x in xs)
            true = oracle.on_numpy(row.formula)(*wide)
            for run in (oracle.on_numpy, _looped):
                y = run(row.formula)(*xs)
                if not moderate:
                    found.append(float(oracle.dense_ulps(y, true, row.scale).max()))
                    continue
                worst = 0.0
                for derivative in filter(None, row.derivatives):
                    names = binding.arguments(derivative)
                    if names:
                        slope = run(derivative)(*oracle.values(names, row, xs, y))
                        right = oracle.on_numpy(derivative)(*oracle.values(names, row, wide, true))
                        error = oracle.dense_ulps(slope, right, row.derivative_scale)
                        worst = max(worst, float(error.max()))
                found.append(worst)
        print(row.name, *(f"{error:.3f}" for error in found), flush=True)


if __name__ == "__main__":
    with np.errstate(all="ignore"):
        measure(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
