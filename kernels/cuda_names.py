# mypy: disable-error-code="no-untyped-call"
"""What the texts of CUDA kernels call: formulas' primitives, types, wide loads.

`device_names` are those that Numba compiles for a GPU; `host_names` the same on NumPy's scalars,
for the simulator and whoever else runs a kernel's text on the CPU.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

# Primitives that Python's `math` has under the same name, which Numba compiles for CUDA.
_MATH = (
    *("exp", "exp2", "expm1", "log", "log1p", "log2", "log10", "sqrt", "sin", "cos", "tan"),
    *("asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
    *("hypot", "copysign", "isinf", "isfinite"),
)
# Those whose Python function gives an integer, or that `math` lacks: NVIDIA's library functions.
_LIBRARY = {
    "floor": "floor",
    "ceil": "ceil",
    "trunc": "trunc",
    "round": "rint",
    "abs": "fabs",
    "nextafter": "nextafter",
}
PRIMITIVES = frozenset((*_MATH, *_LIBRARY))

_NUMPY = {
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "atan2": "arctan2",
    "asinh": "arcsinh",
    "acosh": "arccosh",
    "atanh": "arctanh",
    "round": "rint",
}

# Operations in float64 that no compiler contracts into a * b + c.
_EXACT = {"exact_add": "dadd_rn", "exact_multiply": "dmul_rn"}

_TYPES = {"D": np.float64, "I": np.int64, "U": np.uint64, "W": np.uint32, "half": np.float16}


def _types(bits: int) -> dict[str, Any]:
    return {**_TYPES, "T": np.float32 if bits == 32 else np.float64, "np": np}


@cache
def device_names(bits: int) -> dict[str, Any]:
    """The names for Numba's CUDA target. Raises ImportError where it is not installed."""
    from numba import cuda
    from numba.cuda import libdevice

    def device(function: Callable[..., Any]) -> Any:
        return cuda.jit(device=True, inline="always")(function)

    def widened(x):  # type: ignore[no-untyped-def]
        return libdevice.int_as_float(np.int32(np.uint32(x) << np.uint32(16)))

    def narrowed(x):  # type: ignore[no-untyped-def]
        # Rounded to nearest, halves to even; NaN stays NaN.
        bits = np.uint32(libdevice.float_as_int(x))
        even = (bits >> np.uint32(16)) & np.uint32(1)
        rounded = (bits + np.uint32(0x7FFF) + even) >> np.uint32(16)
        missing = (bits >> np.uint32(16)) | np.uint32(0x40)
        return np.uint16(missing if x != x else rounded)

    names = _types(bits)
    names |= {name: getattr(math, name) for name in _MATH}
    suffix = "f" if bits == 32 else ""
    names |= {ours: getattr(libdevice, name + suffix) for ours, name in _LIBRARY.items()}
    names |= {ours: getattr(libdevice, name) for ours, name in _EXACT.items()}
    names |= {"widened": device(widened), "narrowed": device(narrowed)}
    names |= {"cuda": cuda, "device": device, "math": math}
    for width in (2, 4):
        names[f"load{width}"], names[f"store{width}"] = _wide(width)
    return names


def _wide(width: int) -> tuple[Any, Any]:
    """One load and one store of several elements that lie side by side, aligned to their size."""
    from llvmlite import ir
    from numba import types
    from numba.cuda.extending import intrinsic

    def pointer(builder: Any, element: Any, base: Any, place: Any) -> Any:
        kind = ir.VectorType(element, width)
        return builder.bitcast(builder.gep(base, [place]), kind.as_pointer())

    def load(context: Any, array: Any, place: Any) -> Any:
        result = types.UniTuple(array.dtype, width)

        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            element = context.get_value_type(array.dtype)
            align = width * element.get_abi_size(context.target_data)
            whole = builder.load(pointer(builder, element, *values), align=align)
            lanes = [builder.extract_element(whole, ir.IntType(32)(k)) for k in range(width)]
            return context.make_tuple(builder, signature.return_type, lanes)

        return result(array, place), emit

    def store(context: Any, array: Any, place: Any, lanes: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            base, place_, lanes_ = values
            element = context.get_value_type(array.dtype)
            whole = ir.Constant(ir.VectorType(element, width), ir.Undefined)
            for k in range(width):
                lane = builder.extract_value(lanes_, k)
                lane = context.cast(builder, lane, signature.args[2].types[k], array.dtype)
                whole = builder.insert_element(whole, lane, ir.IntType(32)(k))
            align = width * element.get_abi_size(context.target_data)
            builder.store(whole, pointer(builder, element, base, place_), align=align)
            return context.get_dummy_value()

        return types.void(array, place, lanes), emit

    return intrinsic(load), intrinsic(store)


@cache
def host_names(bits: int) -> dict[str, Any]:
    """The names on NumPy's scalars, without `cuda`: whoever runs a text brings that."""
    names = _types(bits)
    names |= {name: getattr(np, _NUMPY.get(name, name)) for name in PRIMITIVES}
    names |= {
        "exact_add": operator.add,
        "exact_multiply": operator.mul,
        "widened": np.float32,
        "narrowed": _narrowed,
        "device": lambda function: function,
        "math": math,
    }
    for width in (2, 4):
        names[f"load{width}"], names[f"store{width}"] = _one_by_one(width)
    return names


def _narrowed(x: Any) -> Any:
    import ml_dtypes

    return ml_dtypes.bfloat16(x)


def _one_by_one(width: int) -> tuple[Any, Any]:
    def load(array: Any, place: int) -> tuple[Any, ...]:
        if place % width:
            raise ValueError(f"a load of {width} elements at place {place} is not aligned")
        return tuple(array[place + k] for k in range(width))

    def store(array: Any, place: int, lanes: tuple[Any, ...]) -> None:
        if place % width:
            raise ValueError(f"a store of {width} elements at place {place} is not aligned")
        for k in range(width):
            array[place + k] = lanes[k]

    return load, store
