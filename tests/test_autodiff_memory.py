"""Whose memory gradients are in: what is not copied is nobody else's."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import numpy_calls, walk

pytestmark = pytest.mark.usefixtures("backend")


def given(*shape: int) -> gn.Tensor:
    return gn.asarray(np.random.default_rng(3).standard_normal(shape).astype(np.float32))


def loss(z: gn.Tensor) -> gn.Tensor:
    return gn.nn.cross_entropy(z, np.arange(len(z)) % 3, reduction="sum")


def changed(g: gn.Tensor) -> np.ndarray[Any, Any]:
    """The values of a gradient, which is then overwritten."""
    values = np.array(g.numpy())
    g.assign_(gn.full_like(g, 7.0))
    return values


FUNCTIONS = {
    "one argument twice": lambda x, y: gn.sum(x + y),
    "a cotangent as it came": lambda x, y: gn.sum(gn.concat([x, y])[: len(x)] * 1.0 + y),
    "parts of one array": lambda x, y: gn.sum(gn.concat([x, y]) ** 2),
    "an output of the op": lambda x, y: loss(x) + loss(y),
    "views": lambda x, y: loss(x.T.T) + gn.sum(gn.reshape(x, (-1,)) * gn.reshape(y, (-1,))),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_gradient_may_be_overwritten(name: str) -> None:
    f, x, y = FUNCTIONS[name], given(5, 3), given(5, 3) * 2.0
    a, b = gn.grad(f, (0, 1))(x, y)
    values = changed(a), changed(b)
    value, pull = gn.vjp(f, x, y)
    one = gn.ones_like(value)
    for _ in range(2):
        found = pull(one)
        for g, expected in zip(found, values, strict=True):
            np.testing.assert_array_equal(changed(g), expected)
    np.testing.assert_array_equal(one.numpy(), 1.0)


@pytest.mark.parametrize("further", [lambda z: z, lambda z: z + 1.0])
def test_a_gradient_of_cross_entropy_may_be_overwritten_in_a_hook(further: Any) -> None:
    z = given(5, 3)
    z.requires_grad = True
    expected = gn.grad(lambda z: loss(further(z)))(z).numpy().copy()
    y = loss(further(z))

    def double(g: gn.Tensor) -> gn.Tensor:
        g = g.copy()
        g.assign_(g * 2.0)
        return g

    z.register_hook(double)
    for n in (1, 2):
        y.backward(retain_graph=True)
        assert z.grad is not None
        np.testing.assert_allclose(z.grad.numpy(), 2 * n * expected, rtol=1e-6)


def test_a_hook_cannot_write_to_what_a_graph_keeps() -> None:
    def spoil(g: gn.Tensor) -> None:
        with pytest.raises(ValueError, match="read-only"):
            g.array[...] = 9.0

    with gn.backends.use("numpy"):
        z = given(5, 3)
        z.requires_grad = True
        expected = gn.grad(loss)(z).numpy().copy()
        y = loss(gn.add(z, 0.0))
        z.register_hook(spoil)
        for n in (1, 2):
            y.backward(retain_graph=True)
            assert z.grad is not None
            np.testing.assert_allclose(z.grad.numpy(), n * expected, rtol=1e-6)


def test_a_seed_other_than_one() -> None:
    z = given(5, 3)
    value, pull = gn.vjp(loss, z)
    for factor in (1.0, 3.0, 0.0):
        g = pull(gn.full_like(value, factor))
        np.testing.assert_allclose(g.numpy(), factor * gn.grad(loss)(z).numpy(), rtol=1e-6)


def test_a_graph_that_was_freed_may_be_closed_over() -> None:
    w = given(5, 3)
    w.requires_grad = True
    c = gn.exp(w)
    gn.sum(c).backward()
    g = gn.grad(lambda x: gn.sum(x * c))(given(5, 3))
    np.testing.assert_array_equal(g.numpy(), c.numpy())


def test_which_gradients_go_as_arrays() -> None:
    x, w = given(4), given(4)
    w.requires_grad = x.requires_grad = True
    one = gn.asarray(np.float32(1))
    both = gn.sum(x * w)
    assert both.node is not None
    assert x.node is not None
    assert w.node is not None
    assert walk.leaf_gradients([(both.node, one)], [x.node], True) is None
    assert walk.leaf_gradients([(both.node, one)], [both.node], True) is None
    found = walk.leaf_gradients([(both.node, one)], [x.node, w.node], True)
    assert found is not None
    np.testing.assert_array_equal(x.backend.to_host(found[0]), w.numpy())
    assert x.grad is None


def test_arrays_that_nobody_else_knows() -> None:
    a = np.zeros(4)
    b = np.zeros((3, 4))
    cases = [
        (np.zeros(5), True),
        (np.zeros((3, 4)).reshape(12), True),
        (numpy_calls.empty((100, 100), np.dtype(np.float32)), True),
        (numpy_calls.empty((1 << 9, 1 << 9), np.dtype(np.float32)), True),
        (numpy_calls.empty((1 << 9, 1 << 9), np.dtype(np.float32))[1:], False),
        (a, False),
        (b[:], False),
        (np.zeros(99)[::2], False),
        (np.zeros(100)[:5], False),
        (np.broadcast_to(np.ones(1), (4,)), False),
        (np.frombuffer(bytearray(8)), False),
        (np.frombuffer((ctypes.c_char * 8)()), False),
        (None, False),
    ]
    held = [x for x, _ in cases]
    expected = [known for _, known in cases]
    del cases
    assert [numpy_calls.unshared(held, i) for i in range(len(held))] == expected


@pytest.mark.parametrize(
    ("x", "one"),
    [(np.broadcast_to(np.float32(1), (4,)), True), (np.broadcast_to(np.float32(2), (4,)), False),
     (np.ones(4), False), (np.ones(0), False), (1.0, False)],
    ids=["one", "two", "ones", "none", "a number"],
)  # fmt: skip
def test_a_single_one_repeated(x: Any, one: bool) -> None:
    assert numpy_calls.is_one(x) is one
