"""Parameter: a Tensor that a Module owns and an optimizer moves."""

from __future__ import annotations

from typing import Any

from gradnet import dtypes, host, ops
from gradnet.errors import DTypeError
from gradnet.operators import alike
from gradnet.tensor import Tensor


class Parameter(Tensor):
    """A leaf Tensor in memory of its own that requires a gradient.

    A Module that is given one as an attribute registers it. Raises DTypeError for values that are
    not floating.
    """

    __slots__ = ()

    def __init__(
        self, x: Any, *, dtype: Any = None, device: str | None = None, requires_grad: bool = True
    ) -> None:
        values = x.detach() if isinstance(x, Tensor) else x
        owned = ops.asarray(values, dtype=dtype, device=device, copy=True)
        if not dtypes.is_inexact(owned.dtype):
            raise DTypeError(
                f"a Parameter is floating, got dtype {owned.dtype.name}; cast it with "
                "astype(gradnet.float32), or register it as a buffer"
            )
        super().__init__(owned)
        self.requires_grad = requires_grad

    def move_(self, target: Any) -> None:
        """Take the values, and `grad`, to another device or dtype, staying the same object.

        Gradients then no longer add up in an optimizer's buffer.
        """
        moved = self.detach().to(target)
        grad = self.grad
        self.use_grad_buffer(None)
        self.grad = None
        self.array, self.backend = moved.array, moved.backend
        host.changed()
        self.changed()
        if grad is not None:
            self.grad = grad.detach().to(target)

    def __reduce__(self) -> Any:
        return _unpickle, (self.detach().numpy(), self.device, self.requires_grad)


alike[0] = Parameter


def _unpickle(values: Any, device: str, requires_grad: bool) -> Parameter:
    return Parameter(values, device=device, requires_grad=requires_grad)


def is_dtype(target: Any) -> bool:
    """Whether a target of `to` is a dtype, not a device."""
    try:
        dtypes.canonical(target)
    except DTypeError:
        return False
    return True
