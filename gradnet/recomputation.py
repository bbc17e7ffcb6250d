"""Checkpoints: functions whose graph is not kept, but recorded once more in the backward pass."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from gradnet.autodiff import outputs_of
from gradnet.graph import Context, mode, next_id, node_of, reachable, recording
from gradnet.modes import recomputing
from gradnet.ops.core import Op, subgraph_gradients
from gradnet.tensor import Tensor


class _Checkpoint(Op):
    """A function run without keeping its graph; the graph is recorded again in backward."""

    multiple = True

    def __init__(self, run: Callable[[], tuple[Tensor, ...]]) -> None:
        super().__init__("checkpoint")
        self.run = run

    def vjp(self, context: Context, g: Any) -> Sequence[Tensor | None]:
        floor = next_id()
        with recording(True):
            outputs = self.run()
        pairs = [(y, c) for y, c in zip(outputs, g, strict=True) if c is not None]
        return subgraph_gradients(pairs, context.edges, floor)


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f` with less memory and more time: what it computes inside is computed again in backward.

    Gradients reach its arguments and all tensors it uses from outside, such as the parameters of a
    layer. Random numbers and the precision are the same both times. A layer that changes state of
    its own asks `gradnet.autodiff.is_recomputing()`, as batch norm does, to change it once.

    Chen et al. 2016, arXiv:1604.06174.

    Raises GraphError, when called, where `f` returns neither a tensor nor several.
    """

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        from gradnet import precision, random

        if not mode.recording or mode.keeping or mode.levels:
            return f(*args, **kwargs)
        generator = random.default_generator()
        state = generator.get_state()
        rounding = precision.current()
        floor = next_id()
        value = f(*args, **kwargs)
        outputs = outputs_of(value, "checkpoint")
        inside = reachable([y.node[0] for y in outputs if y.node is not None], floor)
        # What the recorded piece of graph was computed from: its edges to nodes before it.
        edges = dict.fromkeys(
            parent
            for node in inside
            for parent in node.parents
            if parent is not None and parent[0].id <= floor
        )
        edges.update((y.node, None) for y in outputs if y.node and y.node[0].id <= floor)
        if not edges:
            return value

        def run() -> tuple[Tensor, ...]:
            with generator.replaying(state), precision.use(rounding), recomputing():
                return outputs_of(f(*args, **kwargs), "checkpoint")

        where = tuple(y.backend for y in outputs)
        node = node_of(_Checkpoint(run), (None,) * len(edges), (), tuple(edges), {}, where)
        node.outputs = (None,) * len(outputs)
        results = tuple(
            Tensor.wrap(y.array, y.backend, (node, i), y.counter) for i, y in enumerate(outputs)
        )
        return results if isinstance(value, tuple | list) else results[0]

    return wrapped
