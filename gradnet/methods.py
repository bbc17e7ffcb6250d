"""The methods of a Tensor that are named as in NumPy, each a name of the function that it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradnet.ops as _ops
from gradnet import dtypes

if TYPE_CHECKING:
    from gradnet.tensor import Tensor

ops: Any = _ops  # its names are made when asked for

Axes = int | tuple[int, ...] | None


class Methods:
    """What NumPy's users expect an array to do. Mixed into Tensor."""

    __slots__ = ()

    @property
    def real(self: Any) -> Tensor:
        """The real parts; truth values as they are."""
        return self if self.dtype == dtypes.bool_ else ops.real(self)

    @property
    def imag(self: Any) -> Tensor:
        """The imaginary parts, 0 for what has none."""
        return ops.zeros_like(self) if self.dtype == dtypes.bool_ else ops.imag(self)

    def conj(self: Any) -> Tensor:
        """The complex conjugates; truth values as they are."""
        return self if self.dtype == dtypes.bool_ else ops.conj(self)

    conjugate = conj

    def round(self: Any, decimals: int = 0) -> Tensor:
        """The nearest numbers of so many decimals, of ties the even one."""
        from gradnet.interop import elementary

        return elementary.round(self, decimals=decimals)

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

    def cumprod(self: Any, axis: int | None = None) -> Tensor:
        """The running product along an axis."""
        return ops.cumulative_prod(self, axis=axis)

    def argsort(self: Any, axis: int = -1) -> Tensor:
        """The indices that sort along an axis."""
        return ops.argsort(self, axis=axis)

    def nonzero(self: Any) -> tuple[Tensor, ...]:
        """Where the values are not zero: the indices of each axis."""
        found: tuple[Tensor, ...] = ops.nonzero(self)
        return found

    def repeat(self: Any, repeats: Any, axis: int | None = None) -> Tensor:
        """Each slice along an axis so many times."""
        return ops.repeat(self, repeats, axis=axis)

    def ravel(self: Any) -> Tensor:
        """The values as one axis."""
        return ops.ravel(self)

    def swapaxes(self: Any, axis1: int, axis2: int) -> Tensor:
        """Two axes exchanged."""
        return ops.swapaxes(self, axis1, axis2)

    def dot(self: Any, other: Any) -> Tensor:
        """The inner product of vectors, or the matrix product."""
        return ops.dot(self, other)

    def diagonal(self: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        """The diagonal along two axes, the first two unless told."""
        return ops.diagonal(ops.moveaxis(self, (axis1, axis2), (-2, -1)), offset=offset)

    def trace(self: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        """The sum along the diagonal of two axes, the first two unless told."""
        return ops.sum(self.diagonal(offset, axis1, axis2), axis=-1)
