"""Whose memory a tensor has: reshapes that copy, and gradients that are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.backends import Backend
from gradnet.errors import GraphError


@pytest.fixture(autouse=True)
def on(backend: Backend) -> Any:
    with gn.backends.use(backend.name):
        yield


# Reshapes


def leaf(*shape: int) -> gn.Tensor:
    values = np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)
    return gn.asarray(values, requires_grad=True)


def test_a_reshape_that_copies_is_not_changed_with_its_operand() -> None:
    base = gn.asarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    x, w = base.T.reshape(6), leaf(6)
    y = (x * w).sum()
    base += 1
    y.backward()
    assert w.grad is not None
    assert w.grad.tolist() == x.tolist() == [0, 3, 1, 4, 2, 5]


def test_a_change_of_a_reshape_that_copies_leaves_its_operand() -> None:
    w = leaf(2, 3)
    x = w * 1
    y, flat = (x * x).sum(), x.T.reshape(-1)
    flat *= 2
    assert flat.tolist() == [2, 8, 4, 10, 6, 12]
    (y + flat.sum()).backward()
    assert w.grad is not None
    assert w.grad.tolist() == [[4, 6, 8], [10, 12, 14]]


def test_a_reshape_of_a_leaf_that_copies_may_be_changed() -> None:
    w = leaf(2, 3)
    copied = w.T.reshape(-1)
    copied += 1
    assert w.tolist() == [[1, 2, 3], [4, 5, 6]]
    (copied * copied).sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == [[4, 6, 8], [10, 12, 14]]
    with pytest.raises(GraphError, match="a view of a leaf"):
        w.reshape(-1).assign_(0).__iadd__(1)


@pytest.mark.parametrize(
    "part",
    [(slice(None, None, 2), 0), (slice(None), slice(1, 2)), (0,)],
    ids=["apart", "column", "row"],
)
def test_a_reshape_that_is_a_view_changes_with_its_operand(part: Any) -> None:
    base = gn.asarray(np.arange(6, dtype=np.float32).reshape(3, 2))
    x, w = base[part].reshape(-1, 1, 1), leaf(1)
    y = (x * w).sum()
    base += 1
    assert x.flatten().tolist() == base[part].flatten().tolist()
    with pytest.raises(GraphError, match="changed in place"):
        y.backward()


def test_derivatives_through_a_reshape_that_copies() -> None:
    gn.gradcheck(lambda x: gn.sin(x.T.reshape(-1)) ** 2, np.ones((2, 3)), order=2)


# Gradients that are kept


def steps(captured: bool) -> tuple[gn.Tensor, Any]:
    """A parameter, and a training step that leaves a gradient of (n, 2 n, 3 n) behind."""
    w = gn.nn.Parameter([1.0, 2.0, 3.0])
    optimizer = gn.optim.SGD([w], lr=0.1)

    def step(x: gn.Tensor) -> gn.Tensor:
        optimizer.zero_grad()
        loss = (w * x).sum()
        loss.backward()
        optimizer.step()
        return loss

    function = gn.capture(step) if captured else step
    return w, lambda n: function(gn.asarray([1.0, 2.0, 3.0]) * n)


@pytest.mark.parametrize("captured", [False, True])
def test_a_gradient_that_is_kept_keeps_its_values(captured: bool) -> None:
    w, step = steps(captured)
    kept = []
    for n in range(1, 5):
        step(n)
        kept.append(w.grad)
    assert [g.tolist() for g in kept if g is not None] == [[n, 2 * n, 3 * n] for n in range(1, 5)]


def test_a_gradient_that_nobody_keeps_stays_in_the_buffer() -> None:
    w, step = steps(captured=False)
    step(1)
    assert w.grad is not None
    buffer = w.grad.array
    step(2)
    assert w.grad.array is buffer
    kept = w.grad
    step(3)
    assert w.grad.array is buffer
    assert kept.array is not buffer


def test_a_kept_gradient_returned_from_a_captured_step() -> None:
    w = gn.nn.Parameter([1.0, 2.0])
    optimizer = gn.optim.Adam([w], lr=0.1)

    @gn.capture
    def step(x: gn.Tensor) -> Any:
        loss = (w * x).sum()
        loss.backward()
        optimizer.step()
        g = w.grad
        optimizer.zero_grad()
        return loss, g

    found = [step(gn.asarray([1.0, 2.0]) * n)[1] for n in range(1, 5)]
    assert [g.tolist() for g in found] == [[n, 2 * n] for n in range(1, 5)]
    assert w.grad is None


def test_a_view_of_an_earlier_gradient_is_refused_in_a_graph() -> None:
    w, step = steps(captured=False)
    x = leaf(2)
    step(1)
    assert w.grad is not None
    view, copied = w.grad[1:], w.grad[1:].copy()
    assert (x * view).tolist() == [2, 6]
    step(2)
    with pytest.raises(GraphError, match=r"shape \(2,\), whose memory was changed in place"):
        x * view
    assert copied.tolist() == [2, 3]


def test_what_was_computed_of_a_kept_gradient_is_still_differentiated() -> None:
    w, step = steps(captured=False)
    step(1)
    x = leaf(3)
    assert w.grad is not None
    y = (x * w.grad).sum()
    step(2)
    y.backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1, 2, 3]


def test_a_kept_gradient_survives_one_that_is_set_or_differentiable() -> None:
    w, step = steps(captured=False)
    step(1)
    kept = w.grad
    assert kept is not None
    w.grad = kept * 5
    step(2)
    assert kept.tolist() == [1, 2, 3]
    kept = w.grad
    (w * w).sum().backward(create_graph=True)
    step(3)
    assert kept is not None
    assert kept.tolist() == [2, 4, 6]
