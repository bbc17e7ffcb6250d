"""Tensor: an array, the backend it lives on, and its place in the graph of derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

import gradnet.ops as _ops
from gradnet import dtypes, host
from gradnet.backends import Array, Backend, Index, Shape
from gradnet.dtypes import DType
from gradnet.errors import DeviceError, DTypeError, GraphError, ShapeError
from gradnet.exchange import Exchange
from gradnet.graph import Edge, Hook, backpropagate, leaf, mode, recording
from gradnet.operators import Operators

if TYPE_CHECKING:
    from typing import Self


ops: Any = _ops  # its names are made when asked for
_new = object.__new__


class Tensor(Exchange, Operators):
    """An n-dimensional array on a device that remembers how it was computed.

    Made by `gradnet.asarray` and the other creation functions. The gradient of a tensor with
    `requires_grad=True` appears in `grad` after `backward`.
    """

    __slots__ = (
        "__weakref__",
        "_grad",
        "_grad_buffer",
        "_seen",
        "array",
        "backend",
        "counter",
        "node",
        "origin",
        "tangents",
    )
    __array_priority__ = 1000

    array: Array
    backend: Backend
    node: Edge | None
    counter: list[int]
    origin: tuple[Array, Index, int]
    tangents: dict[int, Tensor] | None

    def __init__(
        self,
        x: Any,
        *,
        dtype: Any = None,
        device: str | None = None,
        requires_grad: bool = False,
    ) -> None:
        from gradnet.ops.creation import asarray

        made = asarray(x, dtype=dtype, device=device)
        self._take(made.array, made.backend, None, made.counter, None)
        if requires_grad:
            self.requires_grad = True

    def _take(
        self,
        array: Array,
        backend: Backend,
        node: Edge | None,
        counter: list[int] | None,
        tangents: dict[int, Tensor] | None,
    ) -> None:
        self.array = array
        self.backend = backend
        self.node = node
        self.counter = [0, 0] if counter is None else counter
        self._seen = self.counter[0]
        self.tangents = tangents
        self._grad: Tensor | None = None
        self._grad_buffer: Array | None = None

    @staticmethod
    def wrap(
        array: Array,
        backend: Backend,
        node: Edge | None = None,
        counter: list[int] | None = None,
        tangents: dict[int, Tensor] | None = None,
    ) -> Tensor:
        """A backend's array as a Tensor.

        `counter` is shared by all tensors over its memory: how many in-place changes it has had,
        and the number of the last one that the graph recorded.
        """
        tensor = _new(Tensor)
        tensor.array = array
        tensor.backend = backend
        tensor.node = node
        tensor.counter = counter = [0, 0] if counter is None else counter
        tensor._seen = counter[0]
        tensor.tangents = tangents
        tensor._grad = None
        tensor._grad_buffer = None
        return tensor

    # What it is

    @property
    def shape(self) -> Shape:
        """The length of each axis."""
        shape: Shape = self.array.shape
        return shape

    @property
    def dtype(self) -> DType:
        """The element type, a `numpy.dtype`."""
        dtype: DType = self.array.dtype
        return dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.array.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        size = 1
        for n in self.array.shape:
            size *= n
        return size

    @property
    def nbytes(self) -> int:
        """The bytes that the elements take."""
        return self.size * self.dtype.itemsize

    @property
    def itemsize(self) -> int:
        """The bytes that one element takes."""
        return self.dtype.itemsize

    @property
    def device(self) -> str:
        """The device the values live on: "cpu", "cuda:0"."""
        return self.backend.device

    @property
    def T(self) -> Tensor:
        """A matrix transposed: (n, m) -> (m, n)."""
        if self.ndim != 2:
            raise ShapeError(
                f"T is for matrices, but the tensor has shape {self.shape}; use mT or permute_dims"
            )
        return ops.permute_dims(self, (1, 0))

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged: (..., n, m) -> (..., m, n)."""
        return ops.matrix_transpose(self)

    # Gradients

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to or through this tensor."""
        return self.node is not None

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if self.node is not None and self.node[0].op is not None:
            if not wanted:
                raise GraphError(
                    f"this tensor is the result of {self.node[0].name}; "
                    "use detach() for the same values without a gradient"
                )
            return
        host.changed()
        if not wanted:
            self.node = None
        elif self.node is None:
            if not dtypes.is_inexact(self.dtype):
                raise DTypeError(
                    f"only floating and complex tensors have gradients, this one has dtype "
                    f"{self.dtype.name}; cast it with astype(gradnet.float32)"
                )
            self.node = (leaf(self), 0)

    def requires_grad_(self, wanted: bool = True) -> Self:
        """Set `requires_grad` and return the tensor."""
        self.requires_grad = wanted
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether the tensor was made by the user, not computed from tensors with gradients."""
        return self.node is None or self.node[0].op is None

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward` has added up here, or None."""
        return self._grad

    @grad.setter
    def grad(self, g: Tensor | None) -> None:
        if g is not None and (g.shape != self.shape or g.dtype != self.dtype):
            raise ShapeError(
                f"the gradient has shape {g.shape} and dtype {g.dtype.name}, "
                f"the tensor {self.shape} and {self.dtype.name}; they must be equal"
            )
        self._grad = None
        if g is not None and self._grad_buffer is not None:
            self.accumulate_grad(g)
        else:
            self._grad = g

    def accumulate_grad(self, g: Tensor) -> None:
        """Add to `grad`: in the buffer an optimizer has given, if one has."""
        buffer = self._grad_buffer
        if buffer is None or g.node is not None or g.tangents:
            # A copy at first: one cotangent may go to several leaves, or be a broadcast view.
            if self._grad is not None:
                self._grad = self._grad + g
            elif g.node is not None or g.tangents:
                self._grad = ops.astype(g, self.dtype)
            else:
                self._grad = Tensor.wrap(self.backend.cast(g.array, self.dtype), self.backend)
        elif self._grad is None:
            self.backend.cast(g.array, self.dtype, out=buffer)
            self._grad = Tensor.wrap(buffer, self.backend)
        else:
            with recording(False):
                ops.add.into(self._grad, g)

    def use_grad_buffer(self, buffer: Array | None) -> None:
        """Have gradients added up in this array, which has the tensor's shape and dtype."""
        self._grad_buffer = buffer
        if buffer is not None and self._grad is not None:
            self.backend.cast(self._grad.array, self.dtype, out=buffer)
            self._grad = Tensor.wrap(buffer, self.backend)

    def backward(
        self, g: Tensor | None = None, *, retain_graph: bool = False, create_graph: bool = False
    ) -> None:
        """Add the gradient of this tensor to the `grad` of every leaf it was computed from.

        `g` is the cotangent, of this tensor's shape; it may be left out for a scalar, where it is
        1. The graph is freed unless `retain_graph` or `create_graph`, which also records the
        gradients so that they can be differentiated again.

        Raises GraphError without a graph, for a freed one, and for a non-scalar without `g`.
        """
        if self.node is None:
            raise GraphError(
                "backward on a tensor without a graph: it was not computed from any tensor with "
                "requires_grad=True, or was computed under no_grad"
            )
        backpropagate(
            [(self.node, self.seed(g, "backward"))],
            targets=None,
            keep=retain_graph or create_graph,
            differentiable=create_graph,
        )

    def seed(self, g: Any, caller: str) -> Tensor:
        """The cotangent to start from: `g` checked, or 1 for a scalar."""
        if g is None:
            if self.size != 1:
                name = self.node[0].name if self.node is not None else "a constant"
                raise GraphError(
                    f"{caller} needs a cotangent for the output of {name}, shape {self.shape}, "
                    "for it is not a scalar; pass one of that shape, or reduce it with sum()"
                )
            return Tensor.wrap(self.backend.full(self.shape, 1, self.dtype), self.backend)
        if not isinstance(g, Tensor):
            g = ops.asarray(g, dtype=self.dtype, backend=self.backend)
        if g.shape != self.shape:
            raise ShapeError(
                f"{caller} got a cotangent of shape {g.shape} for an output of shape {self.shape}; "
                "they must be equal"
            )
        if g.backend is not self.backend:
            raise DeviceError(
                f"{caller} got a cotangent on {g.device} ({g.backend.name} backend) for an output "
                f"on {self.device} ({self.backend.name} backend); make it there, or move it"
            )
        return g if g.dtype == self.dtype else ops.astype(g, self.dtype)

    def register_hook(self, hook: Hook) -> Callable[[], None]:
        """Have `hook(gradient)` called when this tensor's gradient is known, before it flows on.

        What the hook returns, unless None, takes the gradient's place. Returns a function that
        takes the hook away again.
        """
        if self.node is None:
            raise GraphError(
                "a hook needs a tensor that requires a gradient; set requires_grad first"
            )
        node, index = self.node
        entry = (index, hook)
        node.hooks = [*(node.hooks or []), entry]

        def remove() -> None:
            node.hooks = [kept for kept in node.hooks or [] if kept is not entry]

        return remove

    def detach(self) -> Tensor:
        """The same values, sharing memory, without a gradient."""
        return Tensor.wrap(self.array, self.backend, None, self.counter)

    def outside(self, number: int) -> Tensor:
        """This tensor without its tangents at the level `number` of forward mode and inner ones."""
        if not self.tangents or all(held < number for held in self.tangents):
            return self
        kept = {held: t for held, t in self.tangents.items() if held < number}
        return Tensor.wrap(self.array, self.backend, self.node, self.counter, kept or None)

    def with_tangent(self, number: int, t: Tensor) -> Tensor:
        """This tensor with a tangent at the level `number` of forward mode."""
        tangents = {**(self.tangents or {}), number: t}
        return Tensor.wrap(self.array, self.backend, self.node, self.counter, tangents)

    # In-place change

    @property
    def version(self) -> int:
        """How many times the tensor's memory has been changed in place."""
        return self.counter[0]

    def check_current(self, name: str) -> None:
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

    def changed(self) -> None:
        """Note that the memory was changed in place."""
        self.counter[0] += 1
        self._seen = self.counter[0]

    def preserved(self, name: str) -> Tensor:
        """This tensor's values in memory of their own, at its place in the graph."""
        self.check_current(name)
        array = self.backend.cast(self.array, self.dtype)
        return Tensor.wrap(array, self.backend, self.node, None, self.tangents)

    def viewed(self, base: Tensor, index: Index) -> None:
        """Remember that this tensor is `base[index]`, in the memory of `base`."""
        self.origin = (base.array, index, self.counter[0])

    def take_over(self, v: Tensor, index: Index) -> None:
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

    def check_changeable(self) -> None:
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

    def replace(self, new: Tensor) -> Self:
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

    def assign_(self, value: Any) -> Self:
        """Write `value`, broadcast and cast, into this tensor's memory, outside of the graph."""
        source = value if isinstance(value, Tensor) else ops.asarray(value, backend=self.backend)
        if source.backend is not self.backend:
            source = ops.to_backend(source, self.backend)
        self.write(ops.broadcast_to(source.detach(), self.shape))
        self.changed()
        return self

    def write(self, source: Tensor) -> None:
        """Cast the values of `source`, of this shape, into this tensor's memory."""
        try:
            self.backend.cast(source.array, self.dtype, out=self.array)
        except ValueError as error:
            raise self.unwritable(error) from None

    def unwritable(self, error: ValueError) -> ShapeError:
        """What to raise where the backend cannot write into this tensor's memory."""
        return ShapeError(
            f"a tensor of shape {self.shape} cannot be changed in place ({error}): its memory is "
            "read-only, or one value that a broadcast repeats; change a copy instead"
        )

    # Copies of the whole tensor

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied = Tensor.__new__(type(self))
        copied._take(self.backend.cast(self.array, self.dtype), self.backend, None, None, None)
        copied.requires_grad = self.node is not None
        memo[id(self)] = copied
        return copied

    def __reduce__(self) -> Any:
        return _unpickle, (np.asarray(self.numpy()), self.device, self.requires_grad)


def _unpickle(values: np.ndarray[Any, Any], device: str, requires_grad: bool) -> Tensor:
    return Tensor(values, device=device, requires_grad=requires_grad)
