"""What a call of a captured step is given in the place of an array: how its kernel computes it."""

from __future__ import annotations

from typing import Any, NamedTuple

from gradnet import binding
from gradnet.backends import Formula
from gradnet.dtypes import DType

from .cuda_layout import code_of
from .cuda_templates.computed import Computed, Operand


class Made(NamedTuple):
    """The elements `formula(*operands)`, of contiguous arrays of one shape and of numbers."""

    formula: Formula
    operands: tuple[Any, ...]
    dtype: DType


class Following(NamedTuple):
    """What is done to the elements of a result: `formula(element, *numbers)`.

    `out` is where that goes; None where it goes to the place of the result, which nobody needs.
    """

    formula: Formula
    numbers: tuple[float, ...]
    out: Any


def given(x: Any) -> tuple[Operand, tuple[Any, ...]]:
    """How a kernel brings a contiguous array or what is computed, and the arguments for it."""
    if not isinstance(x, Made):
        return code_of(x.dtype), (x,)
    arrays = [hasattr(operand, "dtype") for operand in x.operands]
    codes = tuple(
        code_of(operand.dtype) if array else "s"
        for operand, array in zip(x.operands, arrays, strict=True)
    )
    arguments = tuple(
        operand if array else float(operand)
        for operand, array in zip(x.operands, arrays, strict=True)
    )
    return Computed(binding.source(x.formula), codes, code_of(x.dtype)), arguments
