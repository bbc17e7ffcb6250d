"""How a Tensor is changed in place, and how the graph learns of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradnet.ops as _ops
from gradnet import dtypes
from gradnet.backends import Index
from gradnet.errors import DTypeError, GraphError, ShapeError
from gradnet.graph import mode

if TYPE_CHECKING:
    from gradnet.tensor import Tensor

ops: Any = _ops  # its names are made when asked for


class Changes:
    """What writes into a tensor's memory, and what notes and checks it. Mixed into Tensor."""

    __slots__ = ()

    @property
    def version(self: Any) -> int:
        """How many times the tensor's memory has been changed in place."""
        count: int = self.counter[0]
        return count

    def check_current(self: Any, name: str) -> None:
        """Raise GraphError where the graph of this tensor no longer describes its values."""
        seen, counter = self._seen, self.counter
        if counter[0] != seen and (
            (self.node is not None and self.node[0].op is not None)
            or self.tangents
            or counter[1] > seen
        ):
            raise GraphError(
                f"{name} got a tensor, shape {self.shape}, whose memory was changed in place "
                "through another tensor after it was computed; change a copy instead"
            )

    def changed(self: Any) -> None:
        """Note that the memory was changed in place."""
        self.counter[0] += 1
        self._seen = self.counter[0]

    def separate(self: Any) -> None:
        """Note that the memory is not that of an operand, for all that its op may give a view."""
        self.counter, self._seen = [0, 0], 0

    def preserved(self: Any, name: str) -> Tensor:
        """This tensor's values in memory of their own, at its place in the graph."""
        self.check_current(name)
        array = self.backend.cast(self.array, self.dtype)
        copied: Tensor = self.wrap(array, self.backend, self.node, None, self.tangents)
        return copied

    def take_over(self: Any, v: Tensor, index: Index) -> None:
        """Accept the change that `v`, which is `self[index]` in the same memory, has just made.

        So ends `x[index] += y`: the view was changed, and is now assigned to where it is from.
        """
        array, viewed, version = getattr(v, "origin", (None, (), -1))
        if (
            array is self.array
            and version == self._seen
            and v._seen == self.counter[0] == version + 1
            and viewed == index
        ):
            self._seen = v._seen

    def check_changeable(self: Any) -> None:
        """Raise GraphError for a leaf that requires a gradient, or a view of one, in a graph."""
        if not mode.recording or self.node is None:
            return
        node = self.node[0]
        while node.op is not None and node.op.view and node.parents and node.parents[0] is not None:
            node = node.parents[0][0]
        if node.op is None:
            kind = "a leaf" if self.node[0].op is None else "a view of a leaf"
            raise GraphError(
                f"{kind} that requires a gradient, shape {self.shape}, cannot be changed in place "
                "while the graph is recorded; do it under no_grad(), or change a copy"
            )

    def replace(self: Any, new: Tensor) -> Any:
        """Take the values and the graph of `new`, in this tensor's memory.

        A wider float or complex dtype is rounded to this tensor's, as an assignment to an index
        does. Raises GraphError for a leaf that requires a gradient, while recording, and DTypeError
        for values of a higher kind.
        """
        self.check_changeable()
        if new.shape != self.shape:
            raise ShapeError(
                f"an in-place change cannot give shape {new.shape} to a tensor of shape "
                f"{self.shape}"
            )
        rounded = dtypes.is_inexact(new.dtype) and dtypes.kind(new.dtype) == dtypes.kind(self.dtype)
        if not rounded and dtypes.promote(new.dtype, self.dtype) != self.dtype:
            raise DTypeError(
                f"an in-place change cannot store {new.dtype.name} values in a "
                f"{self.dtype.name} tensor; cast one of them with astype"
            )
        if new.array is not self.array:
            self.write(new)
        self.changed()
        recorded = mode.recording and (new.node is not None or self.node is not None)
        if recorded or new.tangents or self.tangents:
            # Tensors that share the memory know nothing of this change's graph: mark it for them.
            self.counter[1] = self.counter[0]
        if recorded:
            self.node = new.node if new.dtype == self.dtype else ops.astype(new, self.dtype).node
        if mode.levels:
            self.tangents = new.tangents
        return self

    def assign_(self: Any, value: Any) -> Any:
        """Write `value`, broadcast and cast, into this tensor's memory, outside of the graph."""
        source: Any = value
        if not isinstance(value, Changes):
            source = ops.asarray(value, backend=self.backend)
        if source.backend is not self.backend:
            source = ops.to_backend(source, self.backend)
        self.write(ops.broadcast_to(source.detach(), self.shape))
        self.changed()
        return self

    def write(self: Any, source: Tensor) -> None:
        """Cast the values of `source`, of this shape, into this tensor's memory."""
        try:
            self.backend.cast(source.array, self.dtype, out=self.array)
        except ValueError as error:
            raise self.unwritable(error) from None

    def unwritable(self: Any, error: ValueError) -> ShapeError:
        """What to raise where the backend cannot write into this tensor's memory."""
        return ShapeError(
            f"a tensor of shape {self.shape} cannot be changed in place ({error}): its memory is "
            "read-only, or one value that a broadcast repeats; change a copy instead"
        )
