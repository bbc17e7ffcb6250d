"""What the array namespace offers here, as the Python array API standard asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gradnet import backends, dtypes
from gradnet.backends import Shape
from gradnet.dtypes import DType
from gradnet.errors import DTypeError
from gradnet.ops.elementwise import broadcast_shape
from gradnet.ops.shape import as_shape
from gradnet.tensor import Tensor

__array_api_version__ = "2025.12"

_KINDS = {
    "bool": ("bool",),
    "signed integer": ("int",),
    "unsigned integer": ("uint",),
    "integral": ("int", "uint"),
    "real floating": ("float",),
    "complex floating": ("complex",),
    "numeric": ("int", "uint", "float", "complex"),
}
_STANDARD: dict[str, DType] = {
    found.name: found
    for found in (
        dtypes.bool_,
        *(dtypes.int8, dtypes.int16, dtypes.int32, dtypes.int64),
        *(dtypes.uint8, dtypes.uint16, dtypes.uint32, dtypes.uint64),
        *(dtypes.float32, dtypes.float64, dtypes.complex64, dtypes.complex128),
    )
}


class Info:
    """Capabilities, devices and dtypes of the namespace (array API, inspection)."""

    def capabilities(self) -> dict[str, Any]:
        """Optional behaviour of the standard that the namespace has."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> str:
        """The device of tensors made without naming one."""
        return backends.default().device

    def devices(self) -> tuple[str, ...]:
        """The devices there are on this machine."""
        return tuple(dict.fromkeys(backends.get(name).device for name in backends.available()))

    def default_dtypes(self, *, device: str | None = None) -> dict[str, DType]:
        """The dtypes of what is made from Python numbers."""
        return {
            "real floating": dtypes.DEFAULT_FLOAT,
            "complex floating": dtypes.DEFAULT_COMPLEX,
            "integral": dtypes.DEFAULT_INT,
            "indexing": dtypes.DEFAULT_INT,
        }

    def dtypes(
        self, *, device: str | None = None, kind: str | tuple[str, ...] | None = None
    ) -> dict[str, DType]:
        """The standard's dtypes by name, all or those of a kind such as "real floating"."""
        if kind is None:
            return dict(_STANDARD)
        asked = (kind,) if isinstance(kind, str) else kind
        unknown = [name for name in asked if name not in _KINDS]
        if unknown:
            raise DTypeError(f"there is no dtype kind {unknown[0]!r}; use {', '.join(_KINDS)}")
        kinds = {found for name in asked for found in _KINDS[name]}
        return {name: dtype for name, dtype in _STANDARD.items() if dtypes.kind(dtype) in kinds}


def __array_namespace_info__() -> Info:
    """Information about the namespace."""
    return Info()


@dataclass(frozen=True)
class FloatInfo:
    """Limits of a floating dtype: `eps` is the gap above 1, `smallest_normal` the least normal."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: DType


@dataclass(frozen=True)
class IntegerInfo:
    """Limits of an integer dtype."""

    bits: int
    max: int
    min: int
    dtype: DType


def _dtype(x: Any) -> DType:
    return x.dtype if isinstance(x, Tensor) else dtypes.canonical(x)


def finfo(type: Any, /) -> FloatInfo:
    """Limits of a floating (or complex: of its parts) dtype, or of a tensor's.

    Raises DTypeError for another dtype.
    """
    dtype = _dtype(type)
    if not dtypes.is_inexact(dtype):
        raise DTypeError(f"finfo is for floating dtypes, not {dtype.name}; use iinfo")
    limits: Any = np.finfo(dtype) if dtype.name != "bfloat16" else _ml_dtypes_finfo(dtype)
    part = dtypes.canonical(limits.dtype)
    return FloatInfo(
        int(limits.bits),
        float(limits.eps),
        float(limits.max),
        float(limits.min),
        float(limits.smallest_normal),
        part,
    )


def _ml_dtypes_finfo(dtype: DType) -> Any:
    import ml_dtypes

    describe: Any = ml_dtypes.finfo
    return describe(dtype)


def iinfo(type: Any, /) -> IntegerInfo:
    """Limits of an integer dtype, or of a tensor's. Raises DTypeError for another dtype."""
    dtype = _dtype(type)
    if dtypes.kind(dtype) not in ("int", "uint"):
        raise DTypeError(f"iinfo is for integer dtypes, not {dtype.name}; use finfo")
    limits = np.iinfo(dtype)
    return IntegerInfo(limits.bits, int(limits.max), int(limits.min), dtype)


def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether a dtype is a given one, or of a kind such as "integral", or any of a tuple."""
    found = dtypes.canonical(dtype)
    for asked in kind if isinstance(kind, tuple) else (kind,):
        if isinstance(asked, str) and asked in _KINDS:
            if dtypes.kind(found) in _KINDS[asked]:
                return True
        elif dtypes.canonical(asked) == found:
            return True
    return False


def result_type(*arrays_and_dtypes: Any) -> DType:
    """The dtype of an operation between tensors, dtypes and Python scalars (which are weak).

    Raises DTypeError for nothing at all, and for dtypes that do not mix.
    """
    scalars = [x for x in arrays_and_dtypes if isinstance(x, bool | int | float | complex)]
    found: DType | None = None
    for x in arrays_and_dtypes:
        if not isinstance(x, bool | int | float | complex):
            found = _dtype(x) if found is None else dtypes.promote(found, _dtype(x))
    for scalar in scalars:
        beside = dtypes.scalar_dtype(scalar, found)
        found = beside if found is None else dtypes.promote(found, beside)
    if found is None:
        raise DTypeError("result_type got nothing to take a dtype from")
    return found


def can_cast(from_: Any, to: Any, /) -> bool:
    """Whether promotion turns one dtype into another: whether `to` beside `from_` gives `to`."""
    source, target = _dtype(from_), dtypes.canonical(to)
    try:
        return dtypes.promote(source, target) == target
    except DTypeError:
        return False


def broadcast_shapes(*shapes: Any) -> Shape:
    """The shape that shapes broadcast to. Raises ShapeError where they do not."""
    return broadcast_shape("broadcast_shapes", [as_shape(shape) for shape in shapes])
