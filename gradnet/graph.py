"""The graph that reverse mode walks: its nodes. The walk itself is in walk.py.

A node holds what its op's derivative needs and edges to the nodes it came from, never to its own
output Tensor, so that a graph is freed by reference counts as soon as nobody uses it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from gradnet.backends import Backend, Shape
from gradnet.dtypes import DType
from gradnet.errors import GraphError
from gradnet.modes import keeping as keeping
from gradnet.modes import level as level
from gradnet.modes import mode as mode
from gradnet.modes import next_id as next_id
from gradnet.modes import recording as recording
from gradnet.modes import serial
from gradnet.modes import tracking as tracking

if TYPE_CHECKING:
    from gradnet.ops.core import Op
    from gradnet.tensor import Tensor

Edge = tuple["Node", int]
Hook = Callable[["Tensor"], "Tensor | None"]
# Nodes whose cotangents are being collected, by a number.
Pending = dict[int, tuple["Node", list[Any]]]

UNSAVED = (None,)  # in the place of an output that no derivative needs

_new = object.__new__


class Spec(NamedTuple):
    """What stays known of an operand whose values the derivative does not need."""

    shape: Shape
    dtype: DType


class Node:
    """One recorded op, or (without an op) a leaf that gradients are collected for."""

    __slots__ = (
        "__weakref__",
        "backend",
        "hooks",
        "id",
        "inputs",
        "kept",
        "op",
        "outputs",
        "parameters",
        "parents",
        "tensor",
    )

    tensor: weakref.ref[Tensor] | None  # of a leaf alone; None where nobody collects any more

    id: int
    op: Op | None
    # The operands that the derivative needs, as Tensors, and of the others what is known.
    inputs: tuple[Any, ...] | None
    # Those of them that are Tensors, each with its version when it was used.
    kept: Sequence[tuple[Tensor, int]]
    parents: tuple[Edge | None, ...]
    parameters: dict[str, Any]
    # Of the output, or of each of several.
    backend: Backend | tuple[Backend, ...] | None
    # Per output: (array, backend, version list, version, tangents), or None if not needed.
    outputs: tuple[Any, ...]
    hooks: list[tuple[int, Hook]] | None

    @property
    def name(self) -> str:
        return self.op.name if self.op is not None else "leaf"

    def release(self) -> None:
        """Forget what was saved, so that its memory is free; the node is then marked as freed."""
        self.inputs = None
        self.kept = self.outputs = self.parents = ()

    def output(self, index: int) -> Any:
        """The array of a saved output. Raises GraphError where it was changed in place since."""
        array, _, counter, version, _ = self.outputs[index]
        if counter[0] != version:
            raise GraphError(
                f"the output of {self.name}, shape {tuple(array.shape)}, was changed in place, and "
                "its old values are needed for the derivative; change a copy instead"
            )
        return array


def node_of(
    op: Op | None,
    inputs: tuple[Any, ...],
    kept: Sequence[tuple[Tensor, int]],
    parents: tuple[Edge | None, ...],
    parameters: dict[str, Any],
    backend: Backend | tuple[Backend, ...] | None,
) -> Node:
    """A new node, with one output that the derivative does not need.

    A function, for it takes half the time of a constructor.
    """
    node = _new(Node)
    node.id = next(serial)
    node.op = op
    node.inputs = inputs
    node.kept = kept
    node.parents = parents
    node.parameters = parameters
    node.backend = backend
    node.outputs = UNSAVED
    node.hooks = None
    return node


def leaf(tensor: Tensor) -> Node:
    """The node of a tensor that gradients are collected for."""
    node = node_of(None, (), (), (), {}, tensor.backend)
    node.outputs = ()
    node.tensor = weakref.ref(tensor)
    return node


_HANDLE = {"handle": True}


def as_handle(tensor: Tensor) -> Tensor:
    """A leaf that stands for an argument while a function is differentiated, marked as one."""
    if tensor.node is not None:
        tensor.node[0].parameters = _HANDLE
    return tensor


def is_handle(edge: Edge) -> bool:
    """Whether an edge leads to such a leaf, whose copies are no leaves of their own."""
    return edge[0].parameters is _HANDLE


def reachable(roots: Sequence[Node], floor: int = -1) -> list[Node]:
    """All nodes from which `roots` were computed and whose id exceeds `floor`, newest first."""
    found = {node.id: node for node in roots if node.id > floor}
    stack = list(found.values())
    while stack:
        for parent in stack.pop().parents:
            if parent is not None and parent[0].id > floor and parent[0].id not in found:
                found[parent[0].id] = parent[0]
                stack.append(parent[0])
    return [found[i] for i in sorted(found, reverse=True)]


class Context:
    """What a derivative rule sees: the operands, the outputs, and which operands need it."""

    __slots__ = ("_node", "inputs", "needs", "parameters")

    def __init__(
        self,
        node: Node,
        inputs: tuple[Any, ...],
        needs: tuple[bool, ...],
        parameters: dict[str, Any],
    ) -> None:
        self._node = node
        self.inputs = inputs
        self.needs = needs
        self.parameters = parameters

    @property
    def edges(self) -> tuple[Edge | None, ...]:
        """Where each operand came from in the graph."""
        return self._node.parents

    @property
    def output(self) -> Tensor:
        return self.output_at(0)

    def output_at(self, index: int) -> Tensor:
        """An output as a Tensor that is still joined to the graph."""
        array = self._node.output(index)
        _, backend, counter, _, tangents = self._node.outputs[index]
        return wrapper()(array, backend, (self._node, index), counter, tangents)


@cache
def wrapper() -> Callable[..., Tensor]:
    """`Tensor.wrap`, which is above this file: an import at every call takes longer than a sum."""
    from gradnet.tensor import Tensor

    return Tensor.wrap
