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

# Elements that a load brings, or a store takes away.
WIDTHS = (2, 4, 8)

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

    names = _types(bits)
    names |= {name: getattr(math, name) for name in _MATH}
    suffix = "f" if bits == 32 else ""
    names |= {ours: getattr(libdevice, name + suffix) for ours, name in _LIBRARY.items()}
    names |= {ours: getattr(libdevice, name) for ours, name in _EXACT.items()}
    names["widened"], names["narrowed"] = _bfloat16()
    names |= {"cuda": cuda, "device": device, "math": math}
    for width in WIDTHS:
        names[f"load{width}"], names[f"store{width}"] = _wide(width)
    return names


def _bfloat16() -> tuple[Any, Any]:
    """The bits of a bfloat16 as a float32, and those of a float32 as a bfloat16.

    As instructions, not as functions to inline, which would be typed anew for every element.
    """
    from llvmlite import ir
    from numba import types
    from numba.cuda.extending import intrinsic

    float32, word, short = ir.FloatType(), ir.IntType(32), ir.IntType(16)

    def widened(context: Any, x: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            bits = builder.shl(builder.zext(values[0], word), word(16))
            return builder.bitcast(bits, float32)

        return types.float32(types.uint16), emit

    def narrowed(context: Any, x: Any) -> Any:
        # Rounded to nearest, halves to even; NaN stays NaN.
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            bits = builder.bitcast(values[0], word)
            upper = builder.lshr(bits, word(16))
            odd = builder.and_(upper, word(1))
            rounded = builder.add(builder.add(bits, word(0x7FFF)), odd)
            rounded = builder.lshr(rounded, word(16))
            missing = builder.fcmp_unordered("uno", values[0], values[0])
            chosen = builder.select(missing, builder.or_(upper, word(0x40)), rounded)
            return builder.trunc(chosen, short)

        return types.uint16(types.float32), emit

    return intrinsic(widened), intrinsic(narrowed)


def _wide(width: int) -> tuple[Any, Any]:
    """One load and one store of several elements that lie side by side, aligned to their size.

    Elements of 8 and 16 bits are moved as words, which a GPU loads four of at once.
    """
    from llvmlite import ir
    from numba import types
    from numba.cuda.extending import intrinsic

    number = ir.IntType(32)

    def place_of(context: Any, builder: Any, array: Any, given: Any) -> tuple[Any, Any, int, int]:
        """The pointer to what is moved, the type of a lane, lanes in a word, and the alignment."""
        element = context.get_value_type(array.dtype)
        size = element.get_abi_size(context.target_data)
        base, place, *_ = given
        if isinstance(array, types.Array):
            base = context.make_array(array)(context, builder, base).data
        lanes = min(width, max(1, 4 // size))
        moved = ir.VectorType(
            element if lanes == 1 else ir.IntType(8 * size * lanes), width // lanes
        )
        pointer = builder.bitcast(builder.gep(base, [place]), moved.as_pointer())
        return pointer, element, lanes, width * size

    def load(context: Any, array: Any, place: Any) -> Any:
        result = types.UniTuple(array.dtype, width)

        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            pointer, element, lanes, align = place_of(context, builder, array, values)
            whole = builder.load(pointer, align=align)
            found = []
            for k in range(width):
                lane = builder.extract_element(whole, number(k // lanes))
                if lanes > 1:
                    bits = lane.type.width // lanes
                    lane = builder.lshr(lane, lane.type(bits * (k % lanes)))
                    lane = builder.bitcast(builder.trunc(lane, ir.IntType(bits)), element)
                found.append(lane)
            return context.make_tuple(builder, signature.return_type, found)

        return result(array, place), emit

    def store(context: Any, array: Any, place: Any, lanes_: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            pointer, _, lanes, align = place_of(context, builder, array, values)
            whole = ir.Constant(pointer.type.pointee, ir.Undefined)
            word: Any = None
            for k in range(width):
                lane = builder.extract_value(values[2], k)
                lane = context.cast(builder, lane, signature.args[2].types[k], array.dtype)
                if lanes > 1:
                    kind = whole.type.element
                    bits = kind.width // lanes
                    lane = builder.zext(builder.bitcast(lane, ir.IntType(bits)), kind)
                    lane = builder.shl(lane, kind(bits * (k % lanes)))
                    word = lane if k % lanes == 0 else builder.or_(word, lane)
                    lane = word
                if k % lanes == lanes - 1:
                    whole = builder.insert_element(whole, lane, number(k // lanes))
            builder.store(whole, pointer, align=align)
            return context.get_dummy_value()

        return types.void(array, place, lanes_), emit

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
    for width in WIDTHS:
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
