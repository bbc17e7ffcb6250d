"""Operands of elementwise ops as they come, made ones of one dtype on one backend."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradnet import dtypes
from gradnet.backends import Backend
from gradnet.dtypes import DType
from gradnet.errors import DTypeError
from gradnet.formulas import Row
from gradnet.formulas.complex import COMPLEX
from gradnet.ops.creation import asarray, astype
from gradnet.ops.creation import beside as aside
from gradnet.ops.mapped import broadcast_shape
from gradnet.tensor import Tensor

# Python's own scalars, which take the dtype of what they stand beside.
_WEAK = frozenset((bool, int, float, complex))

# The numeric ops that mean something for bool: union, intersection, order and choice.
_ON_BOOL = ("add", "multiply", "maximum", "minimum", "abs", "absolute", "clip", "where")


def _operand(x: Any, tensors: list[Tensor], backend: Backend | None) -> Any:
    """What is no Tensor, as a Python scalar, which is weak, or as a Tensor."""
    if isinstance(x, np.generic) and isinstance(x, (float, complex)):
        # A subclass of Python's own number: its array's dtype would win over float32.
        return x.item()
    return x if isinstance(x, (int, float, complex)) else aside(x, tensors, backend)


class Promotion:
    """How an elementwise op takes its operands. Mixed into Elementwise."""

    name: str
    row: Row
    names: tuple[str, ...]
    selects: bool
    differentiable: bool

    def _complete(self, operands: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        """Positional operands, those given by name, and the row's defaults."""
        rest = []
        for name in self.names[len(operands) :]:
            if name in named:
                rest.append(named.pop(name))
            elif name in self.row.defaults:
                rest.append(self.row.defaults[name])
            else:
                raise TypeError(f"{self.name} misses its operand {name!r}")
        if named:
            raise TypeError(f"{self.name} takes ({', '.join(self.names)}), not {', '.join(named)}")
        return (*operands, *rest)

    def prepare(self, operands: tuple[Any, ...]) -> tuple[tuple[Any, ...], DType]:
        """Operands of one dtype on one backend, scalars as such, and the result's dtype."""
        tensors = [x for x in operands if isinstance(x, Tensor)]
        backend = tensors[0].backend if tensors else None
        inputs = list(operands)
        if len(tensors) != len(inputs):
            inputs = [
                x if isinstance(x, Tensor) or type(x) in _WEAK else _operand(x, tensors, backend)
                for x in inputs
            ]
            tensors = [x for x in inputs if isinstance(x, Tensor)]
            if not tensors:
                inputs[0] = asarray(inputs[0])
        selector = self.selects
        if selector and (not tensors or (len(tensors) == 1 and tensors[0] is inputs[0])):
            inputs[1] = asarray(inputs[1], backend=inputs[0].backend)
        common: DType | None = None
        mixed = False
        scalars = []
        for x in inputs[selector:]:
            if not isinstance(x, Tensor):
                scalars.append(x)
            elif common is None:
                common = x.dtype
            elif x.dtype != common:
                common, mixed = dtypes.promote(common, x.dtype), True
        beside = common
        for x in scalars:
            found = dtypes.scalar_dtype(x, common)
            beside = found if beside is None else dtypes.promote(beside, found)
        assert beside is not None
        if self.row.kind == "float":
            beside = dtypes.to_float(beside)
        self._check_kind(beside)
        if mixed or beside != common:
            inputs[selector:] = [
                astype(x, beside) if isinstance(x, Tensor) and x.dtype != beside else x
                for x in inputs[selector:]
            ]
        if selector and isinstance(inputs[0], Tensor) and inputs[0].dtype != dtypes.bool_:
            inputs[0] = astype(inputs[0], dtypes.bool_)
        shapes = {x.shape for x in inputs if isinstance(x, Tensor)}
        if len(shapes) > 1:
            broadcast_shape(self.name, [x.shape for x in inputs if isinstance(x, Tensor)])
        return tuple(inputs), self.result_dtype(beside)

    def _check_kind(self, dtype: DType) -> None:
        if self.row.kind == "bitwise" and dtypes.is_inexact(dtype):
            raise DTypeError(f"{self.name} takes bool or integers, got {dtype.name}")
        real = self.differentiable or self.name == "signbit"
        if dtype.kind == "c" and real and self.name not in COMPLEX:
            raise DTypeError(f"{self.name} takes real numbers, got {dtype.name}; use real or abs")
        if dtype == dtypes.bool_ and self.row.kind == "numeric" and self.name not in _ON_BOOL:
            raise DTypeError(
                f"{self.name} takes numbers, got bool; cast it with astype, or use a logical op"
            )

    def result_dtype(self, dtype: DType) -> DType:
        """The dtype of the result for operands of a dtype."""
        return dtypes.bool_ if self.row.kind in ("compare", "logical") else dtype
