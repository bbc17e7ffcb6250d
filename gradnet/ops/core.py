"""How an op runs: forward on arrays, and its place in the reverse graph and in forward mode.

An op is declared once. Its subclasses say how derivatives arise: from formulas (`elementwise`),
from linearity (`multilinear`), or from an expression of other ops (`composed`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from gradnet import modes
from gradnet.backends import Array, Backend, Shape
from gradnet.errors import DeviceError, GraphError
from gradnet.graph import (
    UNSAVED,
    Context,
    Edge,
    Node,
    Pending,
    Spec,
    level,
    mode,
    next_id,
    node_of,
    recording,
)
from gradnet.tensor import Tensor, fresh
from gradnet.walk import backpropagate

Cost = tuple[float, float]

_wrap = Tensor.wrap
_spec = tuple.__new__


def size(shape: Shape) -> float:
    """The number of elements of a shape, as a float that does not overflow."""
    return float(math.prod(shape))


class Op:
    """An operation on Tensors. `op(*tensors, **parameters)` runs, records and differentiates it.

    Subclasses give `forward` on arrays, `vjp` and `jvp` on Tensors, and `cost`.
    """

    multiple: bool = False  # whether forward returns several arrays
    view: bool = False  # whether the output may share its operand's memory
    differentiable: bool = True  # whether gradients flow, if only as zeros

    # `vjp` of a node on arrays, for cotangents that are not differentiated again, each with where
    # it goes; None where `vjp` serves for these too. Of several outputs, the first one's.
    pull: Callable[[Node, Array, Pending], Sequence[tuple[Edge, Array]]] | None = None

    def __init__(self, name: str) -> None:
        self.name = name
        self._saves: dict[int, tuple[tuple[bool, ...], bool]] = {}

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def forward(self, backend: Backend, *xs: Any, **parameters: Any) -> Any:
        """The value, as an array (or a tuple of them where `multiple`)."""
        raise NotImplementedError

    def vjp(self, context: Context, g: Any) -> Sequence[Tensor | None]:
        """The cotangent of each operand, from the cotangent `g` of the output."""
        raise NotImplementedError

    def jvp(self, context: Context, tangents: tuple[Tensor | None, ...]) -> Any:
        """The tangent of the output, from the tangents of the operands (None is zero)."""
        raise NotImplementedError

    def saves(self, needs: tuple[bool, ...]) -> tuple[tuple[bool, ...], bool]:
        """Which operands, and whether the outputs, the derivatives of the needed operands use."""
        return (True,) * len(needs), True

    def cost(self, *shapes: Shape, itemsize: int = 4, **parameters: Any) -> Cost:
        """(floating-point operations, bytes moved) for operands of those shapes."""
        raise NotImplementedError

    def __call__(self, *inputs: Any, **parameters: Any) -> Tensor:
        first = inputs[0] if inputs else None
        if len(inputs) == 1 and isinstance(first, Tensor) and not self.multiple:
            backend = first.backend
            result = self.forward(backend, first.array, **parameters)
            if first.node is not None or modes.open_modes:
                return self.finish(backend, inputs, result, parameters)
            return (
                _wrap(result, backend, None, first.counter) if self.view else fresh(result, backend)
            )
        backend = first.backend if isinstance(first, Tensor) else common_backend(self.name, inputs)
        arrays = []
        free = not modes.open_modes
        for x in inputs:
            if isinstance(x, Tensor):
                if x.backend is not backend:
                    common_backend(self.name, inputs)
                if x.node is not None:
                    free = False
                x = x.array
            arrays.append(x)
        result = self.forward(backend, *arrays, **parameters)
        if self.multiple:
            return self._several(backend, inputs, result, parameters)
        if not free:
            return self.finish(backend, inputs, result, parameters)
        if self.view:
            return _wrap(result, backend, None, inputs[0].counter)
        return fresh(result, backend)

    def finish(
        self, backend: Backend, inputs: tuple[Any, ...], result: Any, parameters: dict[str, Any]
    ) -> Tensor:
        """The one result of `forward` as a Tensor, recorded and pushed forward as the mode says."""
        edge = None
        node = self._record(inputs, parameters, backend) if self.differentiable else None
        if node is not None:
            edge = node, 0
        if self.view:
            y = _wrap(result, backend, edge, inputs[0].counter)
        else:
            y = fresh(result, backend, edge)
        if modes.open_modes and mode.levels and self.differentiable:
            self._push_forward(inputs, parameters, [y])
        if node is not None and node.outputs is not UNSAVED:
            if modes.open_modes:
                node.outputs = (self._saved(y),)
            else:
                counter = y.counter
                node.outputs = ((result, backend, counter, counter[0], None),)
        return y

    def _several(
        self,
        backend: Backend,
        inputs: tuple[Any, ...],
        results: Sequence[Any],
        parameters: dict[str, Any],
    ) -> Any:
        """As `finish`, for an op whose `forward` returns several results."""
        node = self._record(inputs, parameters, backend)
        outputs = [
            fresh(array, backend, None if node is None else (node, i))
            for i, array in enumerate(results)
        ]
        for i in range(1, len(outputs)):
            if results[i] is results[0]:
                # Whoever changes the one changes the other.
                outputs[i].counter = outputs[0].counter
        if modes.open_modes and mode.levels:
            self._push_forward(inputs, parameters, outputs)
        if node is not None:
            if node.outputs is UNSAVED:
                node.outputs = (None,) * len(outputs)
            elif modes.open_modes:
                node.outputs = tuple([self._saved(y) for y in outputs])
            else:
                node.outputs = tuple([(y.array, backend, y.counter, 0, None) for y in outputs])
        return tuple(outputs)

    def _record(
        self, inputs: tuple[Any, ...], parameters: dict[str, Any], backend: Backend
    ) -> Node | None:
        """The node of a call, None for one that is not recorded.

        Its outputs are to be added unless they are UNSAVED.
        """
        kept: Any = []
        if len(inputs) == 1:
            (x,) = inputs
            edge = x.node
            if edge is None or not mode.recording:
                return None
            parents: tuple[Edge | None, ...] = (edge,)
            wanted, outputs_too = self._saves.get(3) or self._wanted(3, parents)
            saved: tuple[Any, ...] = (self._keep(x, wanted[0], kept),)
        elif len(inputs) == 2:
            x, y = inputs
            parents = (
                x.node if isinstance(x, Tensor) else None,
                y.node if isinstance(y, Tensor) else None,
            )
            needs = 4 + 2 * (parents[0] is not None) + (parents[1] is not None)
            if needs == 4 or not mode.recording:
                return None
            wanted, outputs_too = self._saves.get(needs) or self._wanted(needs, parents)
            saved = (
                self._keep(x, wanted[0], kept) if isinstance(x, Tensor) else x,
                self._keep(y, wanted[1], kept) if isinstance(y, Tensor) else y,
            )
        else:
            parents = tuple([x.node if isinstance(x, Tensor) else None for x in inputs])
            needs = 1  # a bit for each operand, after a first one that tells how many they are
            for edge in parents:
                needs += needs + (edge is not None)
            if needs == 1 << len(inputs) or not mode.recording:
                return None
            wanted, outputs_too = self._saves.get(needs) or self._wanted(needs, parents)
            saved = tuple(
                [
                    self._keep(x, want, kept) if isinstance(x, Tensor) else x
                    for x, want in zip(inputs, wanted, strict=True)
                ]
            )
        if modes.open_modes and mode.keeping:
            copies = tuple([x.preserved(self.name) if isinstance(x, Tensor) else x for x in inputs])
            saved, kept, outputs_too = copies, (), True
        node = node_of(self, saved, kept, parents, parameters, backend)
        if outputs_too:
            node.outputs = ()
        return node

    def _wanted(self, needs: int, parents: tuple[Edge | None, ...]) -> Any:
        """What `saves` says, remembered under the bits of the operands that need a derivative."""
        found = self._saves[needs] = self.saves(tuple([edge is not None for edge in parents]))
        return found

    def _keep(self, x: Tensor, wanted: bool, kept: list[tuple[Tensor, int]]) -> Any:
        """What a node holds of an operand: the Tensor, noted with its version, or what is known."""
        version = x.counter[0]
        if version != x._seen:
            x.check_current(self.name)
        if wanted:
            kept.append((x, version))
            return x
        array = x.array
        return _spec(Spec, (array.shape, array.dtype))

    def _saved(self, y: Tensor) -> Any:
        """What a node keeps of an output that its derivative needs."""
        if mode.keeping:
            y = y.preserved(self.name)
        return y.array, y.backend, y.counter, y.counter[0], y.tangents

    def _push_forward(
        self, inputs: tuple[Any, ...], parameters: dict[str, Any], outputs: Sequence[Tensor]
    ) -> None:
        """Give the outputs their tangents at each open level of forward mode, outermost first.

        At one level the operands keep the tangents of the levels outside it only: those make the
        tangent itself a function that the outer levels differentiate.
        """
        for x in inputs:
            if isinstance(x, Tensor):
                x.check_current(self.name)
        for number in mode.levels:
            tangents = tuple(
                x.tangents.get(number) if isinstance(x, Tensor) and x.tangents else None
                for x in inputs
            )
            if all(t is None for t in tangents):
                continue
            outer = tuple(x.outside(number) if isinstance(x, Tensor) else x for x in inputs)
            context = ForwardContext(outer, tuple(y.outside(number) for y in outputs), parameters)
            levels = mode.levels
            mode.levels = levels[: levels.index(number)]
            try:
                result = self.jvp(context, tangents)
            finally:
                mode.levels = levels
            for y, t in zip(outputs, result if self.multiple else (result,), strict=True):
                if t is not None:
                    y.tangents = {**(y.tangents or {}), number: t}


class ForwardContext(Context):
    """What a forward-mode rule sees: operands and outputs, without a recorded node."""

    __slots__ = ("_outputs",)

    def __init__(
        self, inputs: tuple[Any, ...], outputs: tuple[Tensor, ...], parameters: dict[str, Any]
    ) -> None:
        self.inputs = inputs
        self.needs = (True,) * len(inputs)
        self.parameters = parameters
        self._outputs = outputs

    def output_at(self, index: int) -> Tensor:
        return self._outputs[index]


class Composed(Op):
    """An op whose derivatives are those of an `expression`: the same value in other ops.

    The fused kernels are of this kind: one call forward, and where no derivative of their own is
    declared, the expression is run again and differentiated.
    """

    def expression(self, *inputs: Any, **parameters: Any) -> Any:
        """The same value as `forward`, from ops that have derivatives."""
        raise NotImplementedError

    def vjp(self, context: Context, g: Any) -> Sequence[Tensor | None]:
        inputs = context.inputs
        floor = next_id()
        with recording(True):
            values = self.expression(*inputs, **context.parameters)
        outputs = values if self.multiple else (values,)
        gs = g if self.multiple else (g,)
        # An operand given twice has one place in the graph, and its whole gradient goes there.
        wanted: dict[Edge, int] = {}
        for i, need in enumerate(context.needs):
            if need:
                wanted.setdefault(inputs[i].node, i)
        gradients = subgraph_gradients(
            [(y, c) for y, c in zip(outputs, gs, strict=True) if c is not None],
            list(wanted),
            floor,
        )
        found: list[Tensor | None] = [None] * len(inputs)
        for i, gradient in zip(wanted.values(), gradients, strict=True):
            found[i] = gradient
        return found

    def jvp(self, context: Context, tangents: tuple[Tensor | None, ...]) -> Any:
        with level() as number:
            primals = tuple(
                x if t is None else x.with_tangent(number, t)
                for x, t in zip(context.inputs, tangents, strict=True)
            )
            values = self.expression(*primals, **context.parameters)
        outputs = values if self.multiple else (values,)
        found = tuple(y.tangents.get(number) if y.tangents else None for y in outputs)
        return found if self.multiple else found[0]


def subgraph_gradients(
    outputs: Sequence[tuple[Tensor, Tensor]], targets: Sequence[Any], floor: int
) -> list[Tensor | None]:
    """Gradients of a piece of graph recorded since `floor`, with respect to nodes before it.

    The gradients are themselves recorded where the caller records.
    """
    edges = [(y.node, g) for y, g in outputs if y.node is not None and y.node[0].id > floor]
    gradients = backpropagate(
        edges,
        targets=targets,
        keep=mode.recording,
        differentiable=mode.recording,
        floor=floor,
    )
    for y, g in outputs:
        # An output that is itself a target: the piece of graph is the identity.
        for position, target in enumerate(targets):
            if y.node == target:
                earlier = gradients[position]
                gradients[position] = g if earlier is None else earlier + g
    return gradients


def common_backend(name: str, inputs: Sequence[Any]) -> Backend:
    """The backend that all Tensor operands share.

    Raises DeviceError where they are on different devices or backends.
    """
    backend: Backend | None = None
    for x in inputs:
        if isinstance(x, Tensor):
            if backend is None:
                backend = x.backend
            elif x.backend is not backend:
                raise DeviceError(
                    f"{name} got tensors on different devices: {backend.device} "
                    f"({backend.name} backend) and {x.device} ({x.backend.name} backend); "
                    + (
                        "make both under one gradnet.backends.use"
                        if x.device == backend.device
                        else "move one of them with .to(device)"
                    )
                )
    if backend is None:
        raise GraphError(f"{name} got no Tensor among its operands")
    return backend
