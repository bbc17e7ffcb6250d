"""The graph that reverse mode walks: nodes, recording modes, and the walk itself.

A node holds what its op's derivative needs and edges to the nodes it came from, never to its own
output Tensor, so that a graph is freed by reference counts as soon as nobody uses it.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, NamedTuple

from gradnet.backends import Shape
from gradnet.dtypes import DType
from gradnet.errors import GraphError, ShapeError

if TYPE_CHECKING:
    from gradnet.ops.core import Op
    from gradnet.tensor import Tensor

Edge = tuple["Node", int]
Hook = Callable[["Tensor"], "Tensor | None"]


class _Mode(threading.local):
    """What this thread records: the reverse graph, and which levels of forward mode."""

    recording: bool = True
    keeping: bool = False  # nodes keep copies of all operands and outputs, not only what they need
    levels: tuple[int, ...] = ()
    hidden: tuple[int, ...] = ()  # levels that were open when no_grad began


mode = _Mode()
_serial = itertools.count()


class Spec(NamedTuple):
    """What stays known of an operand whose values the derivative does not need."""

    shape: Shape
    dtype: DType


class Node:
    """One recorded op, or (without an op) a leaf that gradients are collected for."""

    __slots__ = (
        "__weakref__",
        "hooks",
        "id",
        "inputs",
        "op",
        "outputs",
        "parameters",
        "parents",
        "tensor",
        "versions",
    )

    def __init__(
        self,
        op: Op | None,
        inputs: tuple[Any, ...],
        versions: tuple[int, ...],
        parents: tuple[Edge | None, ...],
        parameters: dict[str, Any],
    ) -> None:
        self.id = next(_serial)
        self.op = op
        self.inputs: tuple[Any, ...] | None = inputs
        self.versions = versions
        self.parents = parents
        self.parameters = parameters
        # Per output: (array, backend, version list, version, tangents), or None if not needed.
        self.outputs: tuple[Any, ...] = ()
        self.hooks: list[tuple[int, Hook]] | None = None
        self.tensor: weakref.ref[Tensor] | None = None

    @property
    def name(self) -> str:
        return self.op.name if self.op is not None else "leaf"

    def release(self) -> None:
        """Forget what was saved, so that its memory is free; the node is then marked as freed."""
        self.inputs = None
        self.outputs = ()
        self.parents = ()

    def output(self, index: int) -> Any:
        """The array of a saved output. Raises GraphError where it was changed in place since."""
        array, _, counter, version, _ = self.outputs[index]
        if counter[0] != version:
            raise GraphError(
                f"the output of {self.name}, shape {tuple(array.shape)}, was changed in place, and "
                "its old values are needed for the derivative; change a copy instead"
            )
        return array


def leaf(tensor: Tensor) -> Node:
    """The node of a tensor that gradients are collected for."""
    node = Node(None, (), (), (), {})
    node.tensor = weakref.ref(tensor)
    return node


def next_id() -> int:
    """An id that all nodes made from here on exceed, and all earlier ones do not."""
    return next(_serial)


class recording:
    """Record the reverse graph in this thread, or do not, within a `with` block."""

    # A class, for each op that is changed in place and each walk enters one: a generator's frame
    # takes longer than a small array's sum.
    __slots__ = ("enabled", "previous")

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled

    def __enter__(self) -> None:
        self.previous = mode.recording
        mode.recording = self.enabled

    def __exit__(self, *raised: object) -> None:
        mode.recording = self.previous


@contextmanager
def keeping() -> Iterator[None]:
    """Record a graph that can be read: every node keeps copies of its operands and its outputs."""
    previous = mode.recording, mode.keeping
    mode.recording = mode.keeping = True
    try:
        yield
    finally:
        mode.recording, mode.keeping = previous


@contextmanager
def tracking(enabled: bool) -> Iterator[None]:
    """Derivatives of both modes taken through what follows in this thread, or not."""
    previous = mode.recording, mode.levels, mode.hidden
    open_levels = (*mode.hidden, *mode.levels)
    mode.recording = enabled
    mode.levels, mode.hidden = (open_levels, ()) if enabled else ((), open_levels)
    try:
        yield
    finally:
        mode.recording, mode.levels, mode.hidden = previous


@contextmanager
def level() -> Iterator[int]:
    """A new innermost level of forward mode, open within a `with` block."""
    number = next(_serial)
    previous = mode.levels
    mode.levels = (*previous, number)
    try:
        yield number
    finally:
        mode.levels = previous


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


def _useful(roots: Sequence[Node], targets: set[int], floor: int) -> set[int]:
    """The ids of nodes on a path from `roots` to a node whose id is in `targets`."""
    useful = set(targets)
    for node in reversed(reachable(roots, floor)):
        if node.id not in useful and any(
            parent is not None and parent[0].id in useful for parent in node.parents
        ):
            useful.add(node.id)
    return useful


def backpropagate(
    outputs: Sequence[tuple[Edge, Tensor]],
    *,
    targets: Sequence[Edge] | None,
    keep: bool,
    differentiable: bool,
    floor: int = -1,
) -> list[Tensor | None]:
    """Carry the cotangents of `outputs` back, node by node, newest first.

    With `targets`, returns the gradient of each and touches no leaf; without, adds to the `grad` of
    every leaf. `keep` leaves the graph for another walk. `differentiable` records the walk itself,
    so that the gradients can be differentiated again. Nodes up to the id `floor` are not entered.

    Raises GraphError for a graph that was freed or whose saved arrays were changed.
    """
    # By the negative of a node's id, so that the heap gives the newest first.
    pending: dict[int, tuple[Node, list[Tensor | None]]] = {}
    heap: list[int] = []
    stops: dict[int, list[int]] = {}
    useful: set[int] | None = None
    for position, (node, _) in enumerate(targets or ()):
        stops.setdefault(node.id, []).append(position)
    found: list[Tensor | None] = [None] * len(targets or ())
    if targets is not None:
        useful = _useful([edge[0] for edge, _ in outputs], set(stops), floor)
    arrays_suffice = not differentiable and useful is None and not mode.levels
    parents: Sequence[Edge | None] = [edge for edge, _ in outputs]
    gradients: Sequence[Tensor | None] = [g for _, g in outputs]

    with recording(differentiable):
        while True:
            for parent, g in zip(parents, gradients, strict=True):
                if g is None or parent is None:
                    continue
                node, index = parent
                number = node.id
                if useful is not None and number not in useful:
                    continue
                held = pending.get(-number)
                if held is None:
                    slots: list[Tensor | None] = [None] * (len(node.outputs) or 1)
                    slots[index] = g
                    pending[-number] = node, slots
                    heappush(heap, -number)
                else:
                    # Gradients add where a value is used more than once.
                    slots = held[1]
                    earlier = slots[index]
                    slots[index] = g if earlier is None else earlier + g
            parents = ()
            gradients = ()
            if not heap:
                return found
            node, gs = pending.pop(heappop(heap))
            if node.hooks:
                for index, hook in node.hooks:
                    g = gs[index]
                    if g is not None:
                        gs[index] = _hooked(hook, g, node)
            if stops:
                for position in stops.get(node.id, ()):
                    found[position] = gs[(targets or ())[position][1]]
            if node.op is None:
                if targets is None and gs[0] is not None:
                    _collect(node, gs[0])
                continue
            if node.id <= floor or (useful is not None and not _leads_on(node, useful)):
                continue
            gradients = _vjp(node, gs, useful, arrays_suffice)
            parents = node.parents
            if not keep:
                node.release()


def _leads_on(node: Node, useful: set[int]) -> bool:
    return any(parent is not None and parent[0].id in useful for parent in node.parents)


def _hooked(hook: Hook, g: Tensor, node: Node) -> Tensor:
    replaced = hook(g)
    if replaced is None:
        return g
    if replaced.shape != g.shape:
        raise ShapeError(
            f"a hook on the output of {node.name} returned shape {replaced.shape} for a gradient "
            f"of shape {g.shape}; return a gradient of the same shape, or None to keep it"
        )
    return replaced


def _collect(node: Node, g: Tensor) -> None:
    tensor = node.tensor() if node.tensor is not None else None
    if tensor is not None:
        tensor.accumulate_grad(g)


def _vjp(
    node: Node, gs: list[Tensor | None], useful: set[int] | None, arrays_suffice: bool
) -> Sequence[Tensor | None]:
    """The cotangents of a node's inputs."""
    op, inputs, parents = node.op, node.inputs, node.parents
    assert op is not None
    if inputs is None:
        raise GraphError(
            f"the graph of {op.name} was freed by an earlier backward; pass retain_graph=True "
            "there, or compute the value again"
        )
    for i, version in enumerate(node.versions):
        if version >= 0 and inputs[i].counter[0] != version:
            x = inputs[i]
            raise GraphError(
                f"an operand of {op.name}, shape {x.shape}, was changed in place after it was "
                "used, and its old values are needed for the derivative; change a copy instead"
            )
    if arrays_suffice and op.pull is not None:
        return op.pull(node, gs[0])
    needs = tuple(
        [parent is not None and (useful is None or parent[0].id in useful) for parent in parents]
    )
    context = Context(node, inputs, needs, node.parameters)
    return op.vjp(context, gs if op.multiple else gs[0])


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
        return _wrap()(array, backend, (self._node, index), counter, tangents)


@cache
def _wrap() -> Callable[..., Tensor]:
    """`Tensor.wrap`, which is above this file: an import at every call takes longer than a sum."""
    from gradnet.tensor import Tensor

    return Tensor.wrap
