"""The dtypes of gradnet: plain `numpy.dtype` objects, and the rules by which they mix.

Promotion is that of the Python array API standard, with two rules where the standard leaves the
choice open: an integer array with a floating array gives the floating dtype, and Python scalars
are weak. No rule ever gives float64 unless an operand already is float64.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from gradnet.errors import DTypeError

DType = np.dtype[Any]

bool_ = np.dtype(np.bool_)
int8, int16, int32, int64 = (np.dtype(f"int{bits}") for bits in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64))
float16, float32, float64 = (np.dtype(f"float{bits}") for bits in (16, 32, 64))
complex64, complex128 = np.dtype("complex64"), np.dtype("complex128")

DEFAULT_FLOAT = float32
DEFAULT_COMPLEX = complex64
DEFAULT_INT = int64


@cache
def bfloat16() -> DType:
    """The bfloat16 dtype of ml_dtypes, imported at first use."""
    import ml_dtypes

    found: DType = np.dtype(ml_dtypes.bfloat16)
    return found


_KINDS = {"b": "bool", "i": "int", "u": "uint", "f": "float", "c": "complex"}
_WIDEST = {"complex": 16}  # bytes


@cache
def kind(dtype: DType) -> str:
    """The kind of a dtype: "bool", "int", "uint", "float" or "complex". Raises DTypeError."""
    found = _KINDS.get(dtype.kind)
    if found is not None and dtype.itemsize <= _WIDEST.get(found, 8):
        return found
    if dtype.name == "bfloat16":
        return "float"
    raise DTypeError(
        f"gradnet has no dtype {dtype!r}; it takes bool, int8 to int64, uint8 to uint64, "
        "float16, bfloat16, float32, float64, complex64 and complex128"
    )


def is_floating(dtype: DType) -> bool:
    """Whether a dtype is a real floating dtype, bfloat16 among them."""
    return kind(dtype) == "float"


def is_inexact(dtype: DType) -> bool:
    """Whether a dtype is floating or complex, so that derivatives exist."""
    return kind(dtype) in ("float", "complex")


def is_half(dtype: DType) -> bool:
    """Whether a dtype is a 16-bit float, which is computed in float32 and rounded once."""
    return dtype.itemsize == 2 and is_floating(dtype)


def compute_dtype(dtype: DType) -> DType:
    """The dtype in which values of `dtype` are computed: float32 for the 16-bit floats."""
    return float32 if is_half(dtype) else dtype


def canonical(dtype: Any) -> DType:
    """The `numpy.dtype` that `dtype` names; bfloat16 by name too.

    Raises DTypeError for what is no dtype, or none of gradnet's.
    """
    if isinstance(dtype, np.dtype):
        found: DType = dtype
    elif dtype == "bfloat16":
        found = bfloat16()
    else:
        try:
            found = np.dtype(dtype)
        except TypeError as error:
            raise DTypeError(f"{dtype!r} is not a dtype") from error
    kind(found)
    return found.newbyteorder("=") if not found.isnative else found


@cache
def promote(a: DType, b: DType) -> DType:
    """The dtype of an operation between arrays of dtypes `a` and `b`.

    Raises DTypeError where there is none, as for int8 and uint64.
    """
    if a == b:
        return a
    kind_a, kind_b = kind(a), kind(b)
    inexact_a, inexact_b = kind_a in ("float", "complex"), kind_b in ("float", "complex")
    if inexact_a != inexact_b:
        return a if inexact_a else b
    if kind_a == kind_b == "float" and is_half(a) and is_half(b):
        return float32
    if kind_a == kind_b == "float" and (is_half(a) or is_half(b)):
        return b if is_half(a) else a
    if {kind_a, kind_b} == {"float", "complex"}:
        real, imaginary = (a, b) if kind_a == "float" else (b, a)
        return complex128 if float64 == real else imaginary
    found = np.promote_types(a, b)
    if kind(found) == "float" and not inexact_a:
        raise DTypeError(
            f"{a.name} and {b.name} have no common integer dtype; cast one of them with astype"
        )
    return found


def scalar_dtype(value: bool | int | float | complex, beside: DType | None) -> DType:
    """The dtype a Python scalar takes, alone or `beside` an array's dtype (weak promotion).

    Raises DTypeError where the array's dtype cannot hold a scalar of that kind, such as an integer
    out of its range.
    """
    rank = {"bool": 0, "int": 1, "uint": 1, "float": 2, "complex": 3}
    if isinstance(value, (bool, np.bool_)):
        return beside if beside is not None else bool_
    if isinstance(value, (int, np.integer)):
        if beside is None or kind(beside) == "bool":
            return DEFAULT_INT
        if kind(beside) in ("int", "uint"):
            info = np.iinfo(beside)
            if not info.min <= value <= info.max:
                raise DTypeError(
                    f"the Python integer {value} does not fit {beside.name} "
                    f"({info.min} to {info.max}); cast the array with astype first"
                )
        return beside
    if isinstance(value, (float, np.floating)):
        return beside if beside is not None and rank[kind(beside)] >= 2 else DEFAULT_FLOAT
    if isinstance(value, (complex, np.complexfloating)):
        if beside is None or rank[kind(beside)] < 2:
            return DEFAULT_COMPLEX
        if kind(beside) == "complex":
            return beside
        return complex128 if beside == float64 else complex64
    raise DTypeError(f"{type(value).__name__} is not a number")


def to_float(dtype: DType) -> DType:
    """`dtype` itself where it is floating or complex, else the default float."""
    return dtype if is_inexact(dtype) else DEFAULT_FLOAT
