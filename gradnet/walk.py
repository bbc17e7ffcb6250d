"""Reverse mode: the walk over a graph that carries cotangents back, node by node, newest first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from gradnet import formulas, host
from gradnet.backends import Array, Backend
from gradnet.errors import GraphError, ShapeError
from gradnet.graph import Context, Edge, Hook, Node, Pending, mode, reachable, recording, wrapper
from gradnet.ways import Ways

if TYPE_CHECKING:
    from gradnet.tensor import Tensor

ADD = Ways(formulas.FORMULAS["add"])
# A turn of the loop of `carry_arrays`, or several, in machine code, where there is any. Takes a
# node, the cotangent of its one output, the leaves, whether the graph is kept, and whether no other
# node waits; gives what is to be sorted in next, or None where it has done nothing.
advance: Callable[..., Sequence[Any] | None] | None = None
# `Tensor.backward` in machine code, where there is any. Takes a tensor and whether the graph stays,
# and gives None where it has done nothing.
whole: Callable[[Any, Any], Any] | None = None


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
    if targets is None and floor < 0 and not differentiable and not mode.levels:
        carry_arrays([(edge, g.array) for edge, g in outputs], {}, bool(keep))
        return []
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
    parents: Sequence[Edge | None] = [edge for edge, _ in outputs]
    gradients: Sequence[Tensor | None] = [g for _, g in outputs]

    with recording(differentiable):
        while True:
            for parent, g in zip(parents, gradients, strict=True):
                if g is None or parent is None:
                    continue
                node, index = parent
                number = -node.id
                if useful is not None and -number not in useful:
                    continue
                held = pending.get(number)
                if held is None:
                    slots: list[Tensor | None] = [None] * max(len(node.outputs), index + 1)
                    slots[index] = g
                    pending[number] = node, slots
                    heappush(heap, number)
                else:
                    # Gradients add where a value is used more than once.
                    slots = held[1]
                    earlier = slots[index]
                    slots[index] = g if earlier is None else earlier + g
            parents = gradients = ()
            if not heap:
                return found
            node, gs = pending.pop(heappop(heap))
            for index, hook in node.hooks or ():
                g = gs[index]
                if g is not None:
                    gs[index] = _hooked(hook, g, node)
            for position in stops.get(node.id, ()):
                found[position] = gs[(targets or ())[position][1]]
            if node.op is None:
                tensor = _held(node)
                if targets is None and gs[0] is not None and tensor is not None:
                    tensor.accumulate_grad(gs[0])
                continue
            if node.id <= floor or (useful is not None and not _leads_on(node, useful)):
                continue
            _check_saved(node)
            gradients = _vjp(node, gs, useful)
            parents = node.parents
            if not keep:
                node.release()


def leaf_gradients(
    outputs: Sequence[tuple[Edge, Tensor]], targets: Sequence[Edge], keep: bool
) -> list[Any] | None:
    """As `backpropagate` to these targets, as arrays that may be shared by others.

    None, with nothing done, unless they are all of the leaves, and nobody differentiates.
    """
    wanted = {node.id for node, _ in targets}
    if mode.levels or any(node.op is not None for node, _ in targets):
        return None
    for node in reachable([edge[0] for edge, _ in outputs]):
        if node.inputs is None or (node.op is None and node.id not in wanted):
            return None
    leaves: Pending = {}
    carry_arrays([(edge, g.array) for edge, g in outputs], leaves, keep, adds=False)
    return [leaves[node.id][1][0] if node.id in leaves else None for node, _ in targets]


def carry_arrays(
    pairs: Sequence[tuple[Edge, Any]], leaves: Pending, keep: bool, adds: bool = True
) -> None:
    """`backpropagate` to all leaves where nobody differentiates the cotangents: as arrays.

    They are in `leaves`, and unless `adds` is false added to the leaves' gradients.
    """
    pending: Pending = {}
    # By the negative of a node's id, so that the heap gives the newest first.
    heap: list[int] = []
    # The one node that waits, where there is but one: as in a chain, which needs no heap.
    node: Node | None = None
    gs: list[Any] = []
    with recording(False):
        while True:
            for (source, index), g in pairs:
                op = source.op
                if op is None:
                    if source.id in leaves:
                        collect(leaves, source.id, source, 0, g)
                    else:
                        leaves[source.id] = source, [g]
                elif node is None and not heap:
                    node, gs = source, [g]
                    if index or len(source.outputs) > 1:
                        gs = _slots(source, index, g)
                else:
                    if node is not None:
                        pending[-node.id] = node, gs
                        heap.append(-node.id)
                        node = None
                    if collect(pending, -source.id, source, index, g):
                        heappush(heap, -source.id)
            if node is None:
                if not heap:
                    break
                node, gs = pending.pop(heappop(heap))
            if advance is not None and (len(gs) == 1 or _first_alone(gs)):
                done = advance(node, gs[0], leaves, keep, not heap)
                if done is not None:
                    pairs, node = done, None
                    continue
            if node.hooks is not None:
                _call_hooks(node, gs)
            if node.inputs is None:
                _check_saved(node)
            for x, version in node.kept:
                if x.counter[0] != version:
                    _check_saved(node)
            op = node.op
            assert op is not None
            if op.pull is not None and (len(gs) == 1 or _first_alone(gs)):
                pairs = op.pull(node, gs[0], leaves)
            else:
                tensors = _vjp(node, [_tensor(node, i, g) for i, g in enumerate(gs)], None)
                pairs = [
                    (parent, t.array)
                    for parent, t in zip(node.parents, tensors, strict=True)
                    if parent is not None and t is not None
                ]
            if not keep:
                # As `release`, in place.
                node.inputs = None
                node.kept = node.outputs = node.parents = ()
            node = None
        for number in sorted(leaves, reverse=True):
            node, gs = leaves[number]
            if node.hooks is not None:
                _call_hooks(node, gs)
            tensor = _held(node) if adds else None
            if tensor is not None:
                tensor.add_gradient(gs[0])


def collect(pending: Pending, number: int, node: Node, index: int, g: Any) -> bool:
    """Add a cotangent to those of a node. Whether it is the node's first."""
    held = pending.get(number)
    if held is None:
        pending[number] = node, _slots(node, index, g)
        return True
    slots = held[1]
    earlier = slots[index]
    if earlier is not None:
        g = ADD.of(_backend(node, index), g.dtype)(earlier, g)
    slots[index] = g
    return False


def _slots(node: Node, index: int, g: Any) -> list[Any]:
    """A place for the cotangent of each output, with one in it."""
    slots = [None] * max(len(node.outputs), index + 1)
    slots[index] = g
    return slots


def _call_hooks(node: Node, gs: list[Any]) -> None:
    """Let the hooks of a node replace cotangents, which are arrays."""
    for index, hook in node.hooks or ():
        tensor = _tensor(node, index, gs[index])
        if tensor is not None:
            gs[index] = _hooked(hook, tensor, node).array


def _first_alone(gs: Sequence[Any]) -> bool:
    """Whether of several cotangents only the first is there."""
    return gs[0] is not None and all(g is None for g in gs[1:])


def destination(edge: Edge, leaves: Pending) -> Array | None:
    """The buffer of a leaf's gradient, if that has no part yet: where one may be made at once.

    None where an earlier gradient in it may be an operand of what is still to be walked.
    """
    node = edge[0]
    if node.op is not None or node.hooks or node.id in leaves or host.state.recorder is not None:
        return None
    tensor = _held(node)
    return None if tensor is None else tensor.free_grad_buffer()


def _held(node: Node) -> Tensor | None:
    """The tensor of a leaf, as long as somebody has it."""
    return None if node.tensor is None else node.tensor()


def _backend(node: Node, index: int) -> Backend:
    """Where an output's cotangent is."""
    # A leaf's tensor may have moved since the leaf was made.
    tensor = _held(node) if node.op is None else None
    found = node.backend if tensor is None else tensor.backend
    assert found is not None
    return found[index] if isinstance(found, tuple) else found


def _tensor(node: Node, index: int, g: Any) -> Tensor | None:
    """The cotangent of an output, an array, as a Tensor."""
    return None if g is None else wrapper()(g, _backend(node, index))


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


def _check_saved(node: Node) -> None:
    """Raise GraphError where what a node has kept is gone, or was changed."""
    if node.inputs is None:
        raise GraphError(
            f"the graph of {node.name} was freed by an earlier backward; pass retain_graph=True "
            "there, or compute the value again"
        )
    for x, version in node.kept:
        if x.counter[0] != version:
            raise GraphError(
                f"an operand of {node.name}, shape {x.shape}, was changed in place after it was "
                "used, and its old values are needed for the derivative; change a copy instead"
            )


def _vjp(node: Node, gs: Sequence[Tensor | None], useful: set[int] | None) -> Sequence[Any]:
    """The cotangents of a node's inputs."""
    op, inputs = node.op, node.inputs
    assert op is not None
    assert inputs is not None
    needs = tuple(
        [
            parent is not None and (useful is None or parent[0].id in useful)
            for parent in node.parents
        ]
    )
    context = Context(node, inputs, needs, node.parameters)
    return op.vjp(context, gs if op.multiple else gs[0])
