"""Formulas by CuPy's functions, for what has no kernel of its own: integers, complex numbers."""

from __future__ import annotations

from functools import cache
from typing import Any

from gradnet.dtypes import DType
from gradnet.numpy_calls import UFUNCS


@cache
def namespace(cupy: Any, dtype: DType) -> dict[str, Any]:
    """What formulas call, for a dtype of the computation, which literals in `where` take."""

    def where(condition: Any, a: Any, b: Any) -> Any:
        if not isinstance(a, cupy.ndarray) and not isinstance(b, cupy.ndarray):
            a = dtype.type(a)
        return cupy.where(condition, a, b)

    def floor_divide(a: Any, b: Any) -> Any:
        """floor(a / b) with its limits at infinities: inf // 1 is inf."""
        y = cupy.floor_divide(a, b)
        if dtype.kind != "f":
            return y
        unbounded = cupy.isinf(a) | cupy.isinf(b)
        return cupy.where(unbounded, cupy.floor(cupy.true_divide(a, b)), y)

    names = {
        ours: getattr(cupy, ufunc.__name__)
        for ours, ufunc in UFUNCS.items()
        if hasattr(cupy, ufunc.__name__)
    }
    names |= {"where": where, "floor_divide": floor_divide}
    return {**names, **_on_complex(cupy)} if dtype.kind == "c" else names


def _on_complex(cupy: Any) -> dict[str, Any]:
    """Functions of complex numbers whose limits at infinities libraries miss."""

    def expm1(z: Any) -> Any:
        y = cupy.expm1(z) + 0  # exp(-0) - 1 is 0, not -0
        return cupy.where(cupy.isfinite(y), y, cupy.exp(z) - 1)

    def tanh(z: Any) -> Any:
        """At a = +-inf it is +-1 + 0i, with the signs of a and b of a + ib."""
        far = cupy.isinf(z.real) & cupy.isfinite(z.imag)
        limit = cupy.empty_like(z)
        limit.real = cupy.sign(z.real)
        limit.imag = cupy.copysign(cupy.zeros_like(z.imag), z.imag)
        return cupy.where(far, limit, cupy.tanh(z))

    return {
        "expm1": expm1,
        "tanh": tanh,
        "real": lambda z: z.real.copy(),
        "imag": lambda z: z.imag.copy(),
    }
