"""What eager ops in machine code hold and let go of, also where threads call them at once."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from typing import Any

import numpy as np
import pytest
from eager_ops import chain, leaf

import gradnet as gn
from gradnet import backends, graph
from gradnet.errors import GraphError, ShapeError
from gradnet.ops import quick as eager
from gradnet.tensor import Tensor

pytest.importorskip("numba")


backends.get("numba")
if eager._code() is None:
    pytest.skip("this interpreter has its objects otherwise", allow_module_level=True)


def counts(*objects: Any) -> list[int]:
    return [sys.getrefcount(x) for x in objects]


def test_nothing_is_held_or_let_go_that_should_not(quick: None) -> None:
    x, w, other, freed = leaf(5), leaf(5).detach(), leaf(3), gn.exp(leaf(2))
    gn.sum(freed).backward()
    changed = gn.exp(x)
    late = gn.sum(changed * changed)
    changed.detach().assign_(1.0)
    hook, row, table, one, two = leaf(5), leaf(1), leaf(2, 5), leaf(), leaf(5)
    hook.register_hook(lambda g: None)

    def turn() -> None:
        chain(x, w).backward()
        y = gn.sum(gn.exp(x) * x)
        y.backward(retain_graph=True)
        y.backward()
        gn.sum(gn.tanh(x * hook) / (x + 2)).backward()
        gn.sum(x * table + row - 0.5 * x).backward()
        gn.sum(two * 2.0 + x).backward(retain_graph=True)
        gn.sum(two).backward()  # adds to a gradient
        x.grad = hook.grad = row.grad = table.grad = two.grad = None
        _ = (x < w, -x, 2**w, gn.exp(w), x * one, gn.exp(one))
        for failing in (
            *(lambda: x * other, lambda: x * 10**400, lambda: gn.exp(x, x)),
            *(late.backward, lambda: freed.backward(gn.ones(2))),
        ):
            with pytest.raises((GraphError, ShapeError, TypeError, ValueError, OverflowError)):
                failing()

    objects = (
        *(x, w, x.array, w.array, x.backend, x.node, x.counter, None, True, 0, (), graph.UNSAVED),
        *(gn.float32, gn.add, gn.exp, np.exp, np.add, Tensor, graph.Node, graph.Spec, np.ndarray),
        *(gn.add.direct, gn.exp.direct, gn.add.pull, *eager._known()),
        *(two, two.node, gn.bool, gn.float64),
    )
    for _ in range(80):  # loops become ufuncs when they have been called often
        turn()
    gc.collect()
    before, blocks = counts(*objects), sys.getallocatedblocks()
    for _ in range(120):
        turn()
    gc.collect()
    grown = [b - a for a, b in zip(before, counts(*objects), strict=True)]
    assert not [x for x, n in zip(objects, grown, strict=True) if abs(n) >= 20]
    # What one run leaves, such as a free list, does not grow with every turn.
    assert sys.getallocatedblocks() - blocks < 120


def test_graphs_end_with_their_tensors(quick: None) -> None:
    x = leaf(3)
    for _ in range(3):
        y = gn.exp(gn.sin(x) * x)
        assert y.node is not None
        ended = weakref.ref(y.node[0])
        earlier = weakref.ref(y.node[0].parents[0][0])  # type: ignore[index]
        del y
        assert ended() is None
        assert earlier() is None
        tensor = weakref.ref(gn.exp(x))
        assert tensor() is None


def test_a_cycle_through_a_graph_is_collected(quick: None) -> None:
    for _ in range(3):
        y = gn.exp(leaf(3))
        assert y.node is not None
        y.node[0].parameters = {"y": y}
        ended = weakref.ref(y)
        del y
        gc.collect()
        assert ended() is None


def test_threads_compute_at_once(quick: None) -> None:
    small, large = leaf(6), leaf(200_000)
    expected = [chain(x, x).item() for x in (small, large)]
    wrong: list[Any] = []

    def compute(number: int) -> None:
        for turn in range(8):
            which = (number + turn) % 2
            x = (small, large)[which].detach().requires_grad_()
            y = chain(x, x)
            y.backward()
            if y.item() != expected[which] or x.grad is None:
                wrong.append((number, turn))

    threads = [threading.Thread(target=compute, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
