"""Checkpoints: the same gradients with less memory, closures, random numbers and nesting."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.errors import GraphError

pytestmark = pytest.mark.usefixtures("backend")


def f64(values: Any) -> gn.Tensor:
    return gn.asarray(np.asarray(values, np.float64))


def leaf(values: Any) -> gn.Tensor:
    return f64(values).requires_grad_()


def test_the_same_gradients_for_arguments_and_closures() -> None:
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(shape) for shape in ((5, 3), (3, 4), (4,), (4, 2))]
    found = []
    for wrap in (lambda f: f, gn.checkpoint):
        x, w, b, v = (leaf(value) for value in values)

        def block(x: Any, w: Any = w, b: Any = b, v: Any = v) -> Any:
            return gn.tanh(gn.ops.linear(x, w, b, activation="gelu")) @ v

        loss = (wrap(block)(x * 2) ** 2).sum() + x.sum()
        loss.backward()
        found.append([loss.item(), *(t.grad.numpy() for t in (x, w, b, v))])
    for plain, checked in zip(*found, strict=True):
        np.testing.assert_array_equal(plain, checked)


def test_derivatives_of_all_orders() -> None:
    w = f64([[0.3, -0.5], [0.8, 0.1]])
    block = gn.checkpoint(lambda x, w: gn.sin(x @ w) * x)
    gn.gradcheck(lambda x: block(x, w), np.array([[0.2, 0.7]]), order=2)
    gn.gradcheck(lambda x, w: gn.checkpoint(block)(block(x, w), w), np.ones((1, 2)), w, order=2)
    x, v = leaf([[0.2, 0.7]]), leaf(w.numpy())
    block(x, v).sum().backward(create_graph=True)
    g, x.grad, v.grad = x.grad, None, None
    g.sum().backward()
    expected = gn.grad(lambda x: gn.grad(lambda x: (gn.sin(x @ w) * x).sum())(x).sum())(x.detach())
    np.testing.assert_allclose(x.grad.numpy(), expected.numpy(), rtol=1e-13)


def test_several_outputs_and_outputs_that_are_inputs() -> None:
    x, w = leaf(2.0), leaf(3.0)
    a, b, c = gn.checkpoint(lambda x: (x, w * 2, x * w))(x)
    (a * b + c).backward()
    assert float(x.grad) == 6 + 3
    assert float(w.grad) == 4 + 2
    x.grad = None
    (first, _) = gn.checkpoint(lambda x: [x * x, x * 3])(x)
    first.backward()
    assert float(x.grad) == 4


def test_without_gradients_it_is_the_function() -> None:
    x = f64([1.0, 2.0])
    block = gn.checkpoint(lambda x: x * 2)
    assert not block(x).requires_grad
    with gn.no_grad():
        assert not block(leaf([1.0])).requires_grad
    assert gn.jvp(block, x, x)[1].tolist() == [2, 4]
    assert block(x).tolist() == [2, 4]


def test_random_numbers_are_the_same_both_times() -> None:
    def noisy(x: Any) -> Any:
        kept = gn.random.bernoulli(0.5, x.shape, dtype=gn.float64)
        masks.append(kept.numpy().copy())
        return x * kept * gn.random.uniform(x.shape, dtype=gn.float64)

    masks: list[Any] = []
    gn.random.seed(3)
    x = leaf(np.ones(50))
    y = gn.checkpoint(noisy)(x)
    between = gn.random.uniform((3,)).numpy().copy()
    y.sum().backward()
    after = gn.random.uniform((3,)).numpy()
    assert len(masks) == 2
    np.testing.assert_array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(x.grad.numpy(), y.numpy())
    # Recomputing does not move the stream on.
    gn.random.seed(3)
    noisy(x)
    np.testing.assert_array_equal(gn.random.uniform((3,)).numpy(), between)
    np.testing.assert_array_equal(gn.random.uniform((3,)).numpy(), after)


def test_an_error_in_between_is_found() -> None:
    x, w = leaf([1.0, 2.0]), gn.asarray([1.0, 2.0], dtype=gn.float64)
    y = gn.checkpoint(lambda x: x * x)(x).sum()
    y.backward()
    with pytest.raises(GraphError, match="freed"):
        y.backward()
    with pytest.raises(GraphError, match="checkpoint got a function that returned str"):
        gn.checkpoint(lambda x: "a")(x)
    assert gn.checkpoint(lambda x: x * w)(x).tolist() == [1, 4]


def test_a_view_of_an_argument_shares_its_version() -> None:
    x = leaf([1.0, 2.0])
    y = gn.checkpoint(lambda x: x.reshape(2, 1))(x)
    with gn.no_grad():
        x += 1
    assert y.version == x.version == 1


def peak(run: Any) -> int:
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("again", [False, True])
def test_memory_falls(again: bool) -> None:
    size, blocks, depth = 20_000, 8, 10

    def block(x: Any) -> Any:
        for _ in range(depth):
            x = gn.sin(x)
        return x

    def run(step: Any) -> None:
        x = leaf(np.ones(size))
        y = x
        for _ in range(blocks):
            y = step(y)
        y.sum().backward()
        gradients.append(x.grad.numpy())

    gradients: list[Any] = []
    run(block)
    plain = peak(lambda: run(block))
    checked = peak(lambda: run(gn.checkpoint(gn.checkpoint(block) if again else block)))
    # 80 saved arrays against the ends of 8 blocks and the inside of one.
    assert plain > 75 * 8 * size
    assert checked < 30 * 8 * size
    for g in gradients[1:]:
        np.testing.assert_array_equal(g, gradients[0])


@pytest.mark.parametrize("nested", [False, True])
def test_running_statistics_follow_a_batch_once(nested: bool) -> None:
    x = np.random.default_rng(0).normal(2, 3, (16, 4)).astype(np.float32)
    found = []
    for checkpointed in (False, True):
        gn.random.seed(0)
        layers = gn.nn.Sequential(gn.nn.Linear(4, 4), gn.nn.BatchNorm1d(4))
        block = gn.checkpoint(layers) if checkpointed else layers
        if nested and checkpointed:
            block = gn.checkpoint(lambda x, inner=block: inner(x) * 1)
        for _ in range(2):
            y = (block(gn.asarray(x)) ** 3).sum()
            for retain in (True, False):
                y.backward(retain_graph=retain)
        found.append([t.numpy().copy() for t in layers.state_dict().values()])
        found[-1].extend([p.grad.numpy() for p in layers.parameters()])
    for plain, ours in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, plain)
    assert not gn.autodiff.is_recomputing()


def test_state_of_a_layer_of_ones_own() -> None:
    seen: list[bool] = []

    def f(x: Any) -> Any:
        seen.append(gn.autodiff.is_recomputing())
        return gn.sin(x)

    gn.checkpoint(f)(leaf(np.ones(2))).sum().backward()
    assert seen == [False, True]
