"""Tensor: an array, the backend it lives on, and its place in the graph of derivatives."""

from __future__ import annotations

from collections.abc import Callable
from sys import getrefcount
from typing import TYPE_CHECKING, Any

import numpy as np

import gradnet.ops as _ops
from gradnet import dtypes, host, walk
from gradnet.backends import Array, Backend, Index, Shape
from gradnet.changes import Changes
from gradnet.dtypes import DType
from gradnet.errors import DeviceError, DTypeError, GraphError, ShapeError
from gradnet.exchange import Exchange
from gradnet.graph import Edge, Hook, leaf, recording
from gradnet.methods import Methods
from gradnet.operators import Operators

if TYPE_CHECKING:
    from typing import Self


ops: Any = _ops  # its names are made when asked for
_new = object.__new__


class Tensor(Exchange, Changes, Methods, Operators):
    """An n-dimensional array on a device that remembers how it was computed.

    Made by `gradnet.asarray` and the other creation functions. The gradient of a tensor with
    `requires_grad=True` appears in `grad` after `backward`.
    """

    __slots__ = (
        "__weakref__",
        "_grad",
        "_grad_buffer",
        "_grad_counter",
        "_seen",
        "array",
        "backend",
        "counter",
        "node",
        "origin",
        "tangents",
    )
    _grad_counter: list[int]  # of all gradients in the buffer, where there is one

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
        """A matrix transposed: (n, m) -> (m, n). Raises ShapeError for any other shape."""
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
        """Whether gradients flow to or through this tensor.

        Setting it raises GraphError for a result of other tensors, DTypeError for integers.
        """
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
        """The gradient that `backward` has added up here, or None.

        One that is kept while this is set to None, as `zero_grad` does, keeps its values. Copy
        views of it, and its NumPy arrays: they share an optimizer's memory. Setting it raises
        ShapeError for another shape or dtype.
        """
        return self._grad

    @grad.setter
    def grad(self, g: Tensor | None) -> None:
        if g is not None and (g.shape != self.shape or g.dtype != self.dtype):
            raise ShapeError(
                f"the gradient has shape {g.shape} and dtype {g.dtype.name}, "
                f"the tensor {self.shape} and {self.dtype.name}; they must be equal"
            )
        if g is self._grad:
            return
        if self._grad_buffer is not None:
            self.keep_grad()
        self._grad = g if self._grad_buffer is None else None
        if g is not None and self._grad is None:
            self.accumulate_grad(g)

    def keep_grad(self) -> None:
        """Give a gradient that somebody else has memory of its own, not that of the next one."""
        if getrefcount(self._grad) > 2 and self.grad_is_in_buffer:  # two: the slot's, this call's
            kept: Any = self._grad
            kept.array = self.backend.cast(kept.array, kept.dtype)
            kept.counter = list(kept.counter)

    def accumulate_grad(self, g: Tensor) -> None:
        """Add to `grad`: in the buffer an optimizer has given, if one has."""
        if g.node is None and not g.tangents:
            self.add_gradient(g.array)
        elif self._grad is not None:
            self.keep_grad()
            self._grad = self._grad + g
        else:
            self._grad = ops.astype(g, self.dtype)

    def add_gradient(self, g: Array) -> None:
        """Add to `grad` an array of this tensor's shape, that nobody differentiates."""
        buffer = self._grad_buffer
        if self._grad is None:
            # A copy: one cotangent may go to several leaves, or be a broadcast view.
            array = g if g is buffer else self.backend.cast(g, self.dtype, out=buffer)
            self._grad = fresh(array, self.backend) if buffer is None else self.grad_in_buffer()
        elif buffer is None:
            self._grad = self._grad + fresh(g, self.backend)
        else:
            with recording(False):
                ops.add.into(self._grad, fresh(g, self.backend))

    def use_grad_buffer(self, buffer: Array | None) -> None:
        """Have gradients added up in this array, which has the tensor's shape and dtype."""
        if buffer is not self._grad_buffer:
            self._grad_buffer, self._grad_counter = buffer, [0, 0]
        if buffer is not None and self._grad is not None:
            self.backend.cast(self._grad.array, self.dtype, out=buffer)
            self._grad = self.grad_in_buffer()

    def grad_in_buffer(self) -> Tensor:
        """The gradient that was just written there; graphs refuse views of earlier ones."""
        counter = self._grad_counter
        counter[0] = counter[1] = counter[0] + 1
        return Tensor.wrap(self._grad_buffer, self.backend, None, counter)

    @property
    def grad_is_in_buffer(self) -> bool:
        """Whether there is a gradient in the buffer that an optimizer has given."""
        return self._grad is not None and self._grad.array is self._grad_buffer

    def free_grad_buffer(self) -> Array | None:
        """The buffer for gradients, where no tensor has a gradient in it, earlier ones neither."""
        if self._grad is not None or self._grad_buffer is None:
            return None
        # All tensors over the buffer, views too, hold the counter, and so does this call.
        return None if getrefcount(self._grad_counter) > 2 else self._grad_buffer

    def backward(
        self, g: Tensor | None = None, *, retain_graph: bool = False, create_graph: bool = False
    ) -> None:
        """Add the gradient of this tensor to the `grad` of every leaf it was computed from.

        `g` is the cotangent, of this tensor's shape; it may be left out for a scalar, where it is
        1. The graph is freed unless `retain_graph` or `create_graph`, which also records the
        gradients so that they can be differentiated again.

        Raises GraphError without a graph, for a freed one, and for a non-scalar without `g`,
        ShapeError and DeviceError for a `g` of another shape or device.
        """
        plain = g is None and not create_graph
        if plain and walk.whole is not None and walk.whole(self, retain_graph) is not None:
            return
        if self.node is None:
            raise GraphError(
                "backward on a tensor without a graph: it was not computed from any tensor with "
                "requires_grad=True, or was computed under no_grad"
            )
        outputs, keep = [(self.node, self.seed(g, "backward"))], retain_graph or create_graph
        walk.backpropagate(outputs, targets=None, keep=keep, differentiable=create_graph)

    def seed(self, g: Any, caller: str) -> Tensor:
        """The cotangent to start from: `g` checked, or 1 for a scalar. Raises as `backward`."""
        if g is None:
            shape = self.array.shape
            if shape and self.size != 1:
                name = self.node[0].name if self.node is not None else "a constant"
                raise GraphError(
                    f"{caller} needs a cotangent for the output of {name}, shape {self.shape}, "
                    "for it is not a scalar; pass one of that shape, or reduce it with sum()"
                )
            return fresh(self.backend.full(shape, 1, self.array.dtype), self.backend)
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
        takes the hook away again. Raises GraphError for a tensor without a gradient.
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

    # Copies of the whole tensor

    def __reduce__(self) -> Any:
        return _unpickle, (np.asarray(self.numpy()), self.device, self.requires_grad)


def fresh(array: Array, backend: Backend, node: Edge | None = None) -> Tensor:
    """`Tensor.wrap` of an array in memory of its own, in fewer steps."""
    tensor = _new(Tensor)
    tensor.array = array
    tensor.backend = backend
    tensor.node = node
    tensor.counter = [0, 0]
    tensor._seen = 0
    tensor.tangents = None
    tensor._grad = None
    tensor._grad_buffer = None
    return tensor


def _unpickle(values: np.ndarray[Any, Any], device: str, requires_grad: bool) -> Tensor:
    return Tensor(values, device=device, requires_grad=requires_grad)
