"""The operators of a Tensor, each a name of the op that does the work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import gradnet.ops as _ops
from gradnet.graph import mode

if TYPE_CHECKING:
    from typing import Self

    from gradnet.tensor import Tensor

# Most ops are made from the formulas when asked for, so their names are not known statically.
ops: Any = _ops

# Operands that need no second look, and the classes of tensors, once there are any.
KNOWN: set[type] = {bool, int, float, complex}
# The one subclass of Tensor, once there is it, that machine code uses as it does Tensor itself: it
# has the same slots, and does nothing otherwise that an op asks of a tensor.
alike: list[type | None] = [None]
_PRIORITY = 1000


def is_foreign(x: Any) -> bool:
    """Whether an operator leaves this operand to its own class, as NumPy's arrays do.

    So for arrays that wrap others, with labels, masks or units, or have a higher
    `__array_priority__`, and for what is neither a number nor an array.
    """
    kind = type(x)
    if isinstance(x, np.ndarray):
        return kind is not np.ndarray and answers_itself(kind)
    if isinstance(x, Operators | np.generic | int | float | complex):
        return False
    if hasattr(kind, "__array_ufunc__") and not hasattr(kind, "__dlpack__"):
        return True  # xarray's, pandas'
    if hasattr(kind, "__array_namespace__") and not hasattr(kind, "__array__"):
        return True  # marray's
    if getattr(kind, "__array_priority__", 0) > _PRIORITY:
        return True
    if any(hasattr(kind, f"__{name}__") for name in ("array", "array_interface", "dlpack")):
        return False
    return isinstance(x, str | bytes) or not isinstance(x, Sequence | memoryview)


def answers_itself(kind: type) -> bool:
    """Whether a class of arrays has arithmetic of its own, as those with masks or units have."""
    return any(
        getattr(kind, name) is not getattr(np.ndarray, name)
        for name in ("__array_ufunc__", "__array_function__", "__radd__")
    )


class Operators:
    """Arithmetic and comparisons. Mixed into Tensor."""

    __slots__ = ()
    __array_priority__ = _PRIORITY

    def __init_subclass__(cls) -> None:
        KNOWN.add(cls)

    def _in_place(self: Any, op: Any, other: Any) -> Any:
        """`self = op(self, other)` in this tensor's memory, recorded where that is needed."""
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        tracked = self.node is not None or getattr(other, "node", None) is not None
        if mode.levels or (mode.recording and tracked):
            self.check_changeable()
            needs = tuple(
                bool(getattr(x, "node", None) or getattr(x, "tangents", None))
                for x in (self, other)
            )
            # Where the derivative needs the old values, they move to memory of their own.
            old = self.preserved(op.name) if op.saves(needs)[0][0] else self
            return self.replace(op(old, old if other is self else other))
        return op.into(self, other)

    def __add__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.add.pair(self, other)

    def __radd__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.add.pair(other, self)

    def __iadd__(self, other: Any) -> Self:
        return self._in_place(ops.add, other)

    def __sub__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.subtract.pair(self, other)

    def __rsub__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.subtract.pair(other, self)

    def __isub__(self, other: Any) -> Self:
        return self._in_place(ops.subtract, other)

    def __mul__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.multiply.pair(self, other)

    def __rmul__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.multiply.pair(other, self)

    def __imul__(self, other: Any) -> Self:
        return self._in_place(ops.multiply, other)

    def __truediv__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.divide.pair(self, other)

    def __rtruediv__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.divide.pair(other, self)

    def __itruediv__(self, other: Any) -> Self:
        return self._in_place(ops.divide, other)

    def __floordiv__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.floor_divide.pair(self, other)

    def __rfloordiv__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.floor_divide.pair(other, self)

    def __ifloordiv__(self, other: Any) -> Self:
        return self._in_place(ops.floor_divide, other)

    def __mod__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.remainder.pair(self, other)

    def __rmod__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.remainder.pair(other, self)

    def __imod__(self, other: Any) -> Self:
        return self._in_place(ops.remainder, other)

    def __pow__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.pow.pair(self, other)

    def __rpow__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.pow.pair(other, self)

    def __ipow__(self, other: Any) -> Self:
        return self._in_place(ops.pow, other)

    def __divmod__(self: Any, other: Any) -> tuple[Tensor, Tensor]:
        return self // other, self % other

    def __rdivmod__(self: Any, other: Any) -> tuple[Tensor, Tensor]:
        return other // self, other % self

    def __matmul__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.matmul(self, other)

    def __rmatmul__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.matmul(other, self)

    def __imatmul__(self: Any, other: Any) -> Any:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        self.check_changeable()
        old = self.preserved("matmul")
        return self.replace(ops.matmul(old, old if other is self else other))

    def __and__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.bitwise_and.pair(self, other)

    def __rand__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.bitwise_and.pair(other, self)

    def __iand__(self, other: Any) -> Self:
        return self._in_place(ops.bitwise_and, other)

    def __or__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.bitwise_or.pair(self, other)

    def __ror__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.bitwise_or.pair(other, self)

    def __ior__(self, other: Any) -> Self:
        return self._in_place(ops.bitwise_or, other)

    def __xor__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.bitwise_xor.pair(self, other)

    def __rxor__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.bitwise_xor.pair(other, self)

    def __ixor__(self, other: Any) -> Self:
        return self._in_place(ops.bitwise_xor, other)

    def __lshift__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.bitwise_left_shift.pair(self, other)

    def __rlshift__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.bitwise_left_shift.pair(other, self)

    def __ilshift__(self, other: Any) -> Self:
        return self._in_place(ops.bitwise_left_shift, other)

    def __rshift__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.bitwise_right_shift.pair(self, other)

    def __rrshift__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.bitwise_right_shift.pair(other, self)

    def __irshift__(self, other: Any) -> Self:
        return self._in_place(ops.bitwise_right_shift, other)

    def __neg__(self: Any) -> Tensor:
        return ops.negative(self)

    def __pos__(self: Any) -> Tensor:
        return ops.positive(self)

    def __invert__(self: Any) -> Tensor:
        return ops.bitwise_invert(self)

    def __abs__(self: Any) -> Tensor:
        return ops.abs(self)

    # Comparisons give tensors, so equality is no test of identity and hashing goes by identity.

    def __eq__(self: Any, other: object) -> Tensor:  # type: ignore[override]
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.equal.pair(self, other)

    def __ne__(self: Any, other: object) -> Tensor:  # type: ignore[override]
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.not_equal.pair(self, other)

    def __lt__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.less.pair(self, other)

    def __le__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.less_equal.pair(self, other)

    def __gt__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.greater.pair(self, other)

    def __ge__(self: Any, other: Any) -> Tensor:
        if type(other) not in KNOWN and is_foreign(other):
            return NotImplemented
        return ops.greater_equal.pair(self, other)

    __hash__ = object.__hash__
