"""The operators and methods of a Tensor, each a name of the op that does the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradnet.ops as _ops
from gradnet.graph import mode

if TYPE_CHECKING:
    from typing import Self

    from gradnet.tensor import Tensor

# Most ops are made from the formulas when asked for, so their names are not known statically.
ops: Any = _ops

Axes = int | tuple[int, ...] | None


class Operators:
    """What NumPy's users expect an array to do. Mixed into Tensor."""

    __slots__ = ()

    def _in_place(self: Any, op: Any, other: Any) -> Any:
        """`self = op(self, other)` in this tensor's memory, recorded where that is needed."""
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
        return ops.add.pair(self, other)

    def __radd__(self: Any, other: Any) -> Tensor:
        return ops.add.pair(other, self)

    def __iadd__(self, other: Any) -> Self:
        return self._in_place(ops.add, other)

    def __sub__(self: Any, other: Any) -> Tensor:
        return ops.subtract.pair(self, other)

    def __rsub__(self: Any, other: Any) -> Tensor:
        return ops.subtract.pair(other, self)

    def __isub__(self, other: Any) -> Self:
        return self._in_place(ops.subtract, other)

    def __mul__(self: Any, other: Any) -> Tensor:
        return ops.multiply.pair(self, other)

    def __rmul__(self: Any, other: Any) -> Tensor:
        return ops.multiply.pair(other, self)

    def __imul__(self, other: Any) -> Self:
        return self._in_place(ops.multiply, other)

    def __truediv__(self: Any, other: Any) -> Tensor:
        return ops.divide.pair(self, other)

    def __rtruediv__(self: Any, other: Any) -> Tensor:
        return ops.divide.pair(other, self)

    def __itruediv__(self, other: Any) -> Self:
        return self._in_place(ops.divide, other)

    def __floordiv__(self: Any, other: Any) -> Tensor:
        return ops.floor_divide.pair(self, other)

    def __rfloordiv__(self: Any, other: Any) -> Tensor:
        return ops.floor_divide.pair(other, self)

    def __ifloordiv__(self, other: Any) -> Self:
        return self._in_place(ops.floor_divide, other)

    def __mod__(self: Any, other: Any) -> Tensor:
        return ops.remainder.pair(self, other)

    def __rmod__(self: Any, other: Any) -> Tensor:
        return ops.remainder.pair(other, self)

    def __imod__(self, other: Any) -> Self:
        return self._in_place(ops.remainder, other)

    def __pow__(self: Any, other: Any) -> Tensor:
        return ops.pow.pair(self, other)

    def __rpow__(self: Any, other: Any) -> Tensor:
        return ops.pow.pair(other, self)

    def __ipow__(self, other: Any) -> Self:
        return self._in_place(ops.pow, other)

    def __matmul__(self: Any, other: Any) -> Tensor:
        return ops.matmul(self, other)

    def __rmatmul__(self: Any, other: Any) -> Tensor:
        return ops.matmul(other, self)

    def __imatmul__(self: Any, other: Any) -> Any:
        self.check_changeable()
        old = self.preserved("matmul")
        return self.replace(ops.matmul(old, old if other is self else other))

    def __and__(self: Any, other: Any) -> Tensor:
        return ops.bitwise_and.pair(self, other)

    def __rand__(self: Any, other: Any) -> Tensor:
        return ops.bitwise_and.pair(other, self)

    def __iand__(self, other: Any) -> Self:
        return self._in_place(ops.bitwise_and, other)

    def __or__(self: Any, other: Any) -> Tensor:
        return ops.bitwise_or.pair(self, other)

    def __ror__(self: Any, other: Any) -> Tensor:
        return ops.bitwise_or.pair(other, self)

    def __ior__(self, other: Any) -> Self:
        return self._in_place(ops.bitwise_or, other)

    def __xor__(self: Any, other: Any) -> Tensor:
        return ops.bitwise_xor.pair(self, other)

    def __rxor__(self: Any, other: Any) -> Tensor:
        return ops.bitwise_xor.pair(other, self)

    def __ixor__(self, other: Any) -> Self:
        return self._in_place(ops.bitwise_xor, other)

    def __lshift__(self: Any, other: Any) -> Tensor:
        return ops.bitwise_left_shift.pair(self, other)

    def __rlshift__(self: Any, other: Any) -> Tensor:
        return ops.bitwise_left_shift.pair(other, self)

    def __ilshift__(self, other: Any) -> Self:
        return self._in_place(ops.bitwise_left_shift, other)

    def __rshift__(self: Any, other: Any) -> Tensor:
        return ops.bitwise_right_shift.pair(self, other)

    def __rrshift__(self: Any, other: Any) -> Tensor:
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
        return ops.equal.pair(self, other)

    def __ne__(self: Any, other: object) -> Tensor:  # type: ignore[override]
        return ops.not_equal.pair(self, other)

    def __lt__(self: Any, other: Any) -> Tensor:
        return ops.less.pair(self, other)

    def __le__(self: Any, other: Any) -> Tensor:
        return ops.less_equal.pair(self, other)

    def __gt__(self: Any, other: Any) -> Tensor:
        return ops.greater.pair(self, other)

    def __ge__(self: Any, other: Any) -> Tensor:
        return ops.greater_equal.pair(self, other)

    __hash__ = object.__hash__

    # Methods named as in NumPy

    def sum(self: Any, axis: Axes = None, *, dtype: Any = None, keepdims: bool = False) -> Tensor:
        """The sum over axes."""
        return ops.sum(self, axis=axis, dtype=dtype, keepdims=keepdims)

    def prod(self: Any, axis: Axes = None, *, dtype: Any = None, keepdims: bool = False) -> Tensor:
        """The product over axes."""
        return ops.prod(self, axis=axis, dtype=dtype, keepdims=keepdims)

    def mean(self: Any, axis: Axes = None, *, keepdims: bool = False) -> Tensor:
        """The mean over axes."""
        return ops.mean(self, axis=axis, keepdims=keepdims)

    def var(
        self: Any, axis: Axes = None, *, correction: float = 0.0, keepdims: bool = False
    ) -> Tensor:
        """The variance over axes."""
        return ops.var(self, axis=axis, correction=correction, keepdims=keepdims)

    def std(
        self: Any, axis: Axes = None, *, correction: float = 0.0, keepdims: bool = False
    ) -> Tensor:
        """The standard deviation over axes."""
        return ops.std(self, axis=axis, correction=correction, keepdims=keepdims)

    def max(self: Any, axis: Axes = None, *, keepdims: bool = False) -> Tensor:
        """The largest value over axes."""
        return ops.max(self, axis=axis, keepdims=keepdims)

    def min(self: Any, axis: Axes = None, *, keepdims: bool = False) -> Tensor:
        """The smallest value over axes."""
        return ops.min(self, axis=axis, keepdims=keepdims)

    def any(self: Any, axis: Axes = None, *, keepdims: bool = False) -> Tensor:
        """Whether any value over axes is not zero."""
        return ops.any(self, axis=axis, keepdims=keepdims)

    def all(self: Any, axis: Axes = None, *, keepdims: bool = False) -> Tensor:
        """Whether all values over axes are not zero."""
        return ops.all(self, axis=axis, keepdims=keepdims)

    def argmax(self: Any, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
        """The index of the largest value."""
        return ops.argmax(self, axis=axis, keepdims=keepdims)

    def argmin(self: Any, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
        """The index of the smallest value."""
        return ops.argmin(self, axis=axis, keepdims=keepdims)

    def cumsum(self: Any, axis: int | None = None) -> Tensor:
        """The running sum along an axis."""
        return ops.cumulative_sum(self, axis=axis)

    def reshape(self: Any, *shape: Any) -> Tensor:
        """The values under another shape; one length may be -1."""
        return ops.reshape(self, shape[0] if len(shape) == 1 else shape)

    def flatten(self: Any) -> Tensor:
        """The values as one axis."""
        return ops.reshape(self, (-1,))

    def transpose(self: Any, *axes: Any) -> Tensor:
        """Axes in another order, reversed if none is given."""
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
        return ops.permute_dims(self, order or tuple(range(self.ndim))[::-1])

    def squeeze(self: Any, axis: Axes = None) -> Tensor:
        """Without axes of length 1."""
        return ops.squeeze(self, axis)

    def clip(self: Any, min: Any = None, max: Any = None) -> Tensor:
        """Values below `min` or above `max` set to those."""
        return ops.clip(self, min, max)

    def take(self: Any, indices: Any, *, axis: int | None = None) -> Tensor:
        """The slices at integer indices along an axis."""
        return ops.take(self, indices, axis=axis)
