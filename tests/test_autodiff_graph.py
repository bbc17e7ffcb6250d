"""The graph: backward, its errors, lifetime, depth, hooks and the modes of each thread."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.errors import DeviceError, GraphError, ShapeError

pytestmark = pytest.mark.usefixtures("backend")


def f64(values: Any) -> gn.Tensor:
    return gn.asarray(np.asarray(values, np.float64))


def leaf(values: Any) -> gn.Tensor:
    return f64(values).requires_grad_()


# Backward


def test_gradients_add_where_a_value_is_used_again() -> None:
    x = leaf(3.0)
    y = x * x
    (y * y + y + x).backward()
    assert float(x.grad) == 4 * 27 + 6 + 1


def test_diamonds() -> None:
    x = leaf([1.0, 2.0])
    a = x * 2
    b, c = gn.sin(a), gn.cos(a)
    ((b * c).sum() + (b + c).sum()).backward()
    v = 2 * np.array([1.0, 2.0])
    np.testing.assert_allclose(x.grad.numpy(), 2 * (np.cos(2 * v) + np.cos(v) - np.sin(v)))


def test_many_uses_of_one_value() -> None:
    x = leaf(2.0)
    total = x
    for _ in range(999):
        total = total + x
    total.backward()
    assert float(x.grad) == 1000


def test_only_what_is_asked_for_is_computed() -> None:
    seen: list[str] = []
    x, w = leaf(2.0), leaf(3.0)
    side = w * w
    side.register_hook(lambda g: seen.append("side"))
    y = x * side
    y.register_hook(lambda g: seen.append("y"))
    _, pull = gn.vjp(lambda z: z * y, x.detach())
    pull(f64(1.0))
    assert seen == []
    y.backward()
    assert seen == ["y", "side"]


def test_cotangents() -> None:
    x = leaf([1.0, 2.0])
    (x * 3).backward(f64([1.0, 10.0]))
    assert x.grad.tolist() == [3, 30]
    x.grad = None
    (x * 3).backward([1.0, 0.0])
    assert x.grad.tolist() == [3, 0]
    (x[:1] * 3).backward()
    x.grad = None
    (x * 3).backward(gn.asarray([1.0, 1.0]))
    assert x.grad.dtype == gn.float64
    x.backward(f64([1.0, 1.0]))
    assert x.grad.tolist() == [4, 4]


def test_a_graph_serves_once_unless_it_is_kept() -> None:
    x = leaf(3.0)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert float(x.grad) == 12
    with pytest.raises(GraphError, match="graph of multiply was freed by an earlier backward"):
        y.backward()
    # Two results that share a part of it.
    h = gn.exp(x)
    a, b = h * 2, h * 3
    a.backward()
    with pytest.raises(GraphError, match=r"graph of exp was freed.*retain_graph=True"):
        b.backward()


def test_create_graph_differentiates_again() -> None:
    x = leaf([0.5, 1.5])
    (x**4).sum().backward(create_graph=True)
    first, x.grad = x.grad, None
    assert first.requires_grad
    (first * first).sum().backward(create_graph=True)
    second, x.grad = x.grad, None
    v = np.array([0.5, 1.5])
    np.testing.assert_allclose(second.numpy(), 2 * 4 * v**3 * 12 * v**2)
    second.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 96 * 5 * v**4)


def test_the_value_of_a_gradient_with_a_graph_adds_up() -> None:
    x = leaf(2.0)
    (x * x).backward(create_graph=True)
    (x * x).backward(create_graph=True)
    assert float(x.grad) == 8
    assert x.grad.requires_grad


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda x: (x * 2).backward(),
            GraphError,
            r"backward needs a cotangent for the output of multiply, shape \(2,\), .* scalar",
        ),
        (
            lambda x: (x * 2).backward(gn.ones((3,))),
            ShapeError,
            r"cotangent of shape \(3,\) for an output of shape \(2,\)",
        ),
        (
            lambda x: x.detach().sum().backward(),
            GraphError,
            "backward on a tensor without a graph: .*requires_grad=True, or was computed under",
        ),
        (lambda x: gn.argmax(x).backward(), GraphError, "without a graph"),
        (lambda x: (x > 1).backward(), GraphError, "without a graph"),
        (lambda x: x.detach().register_hook(print), GraphError, "a hook needs a tensor that"),
    ],
)
def test_bad_calls(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(leaf([1.0, 2.0]))


def test_tensors_of_two_backends_do_not_mix() -> None:
    names = gn.backends.available()
    if len(names) < 2:
        pytest.skip("there is one backend only")
    with gn.backends.use(names[0]):
        a = gn.asarray([1.0, 2.0], requires_grad=True)
    with gn.backends.use(names[1]):
        b = gn.ones((2,))
    with pytest.raises(DeviceError, match=r"add got tensors on different devices.*backends\.use"):
        a + b
    with pytest.raises(DeviceError, match="different devices"):
        gn.ops.linear(a[None], b[:, None])
    with pytest.raises(DeviceError, match="cotangent on"):
        (a * 2).backward(b)
    # Moved over, gradients flow back to where the value came from.
    moved = gn.ops.to_backend(a, b.backend)
    (moved * b * 3).sum().backward()
    assert a.grad.backend is a.backend
    assert a.grad.tolist() == [3, 3]
    assert gn.ops.to_backend(a, a.backend) is a
    assert gn.ops.to_backend(a, a.backend, copy=True) is not a


# Modes


def test_no_grad_and_enable_grad() -> None:
    x = leaf(2.0)
    assert gn.is_grad_enabled()
    with gn.no_grad():
        assert not gn.is_grad_enabled()
        assert not (x * 2).requires_grad
        with gn.enable_grad():
            assert (x * 2).requires_grad
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad
    with pytest.raises(RuntimeError, match="inside"), gn.no_grad():
        raise RuntimeError("inside")
    assert gn.is_grad_enabled()


def test_no_grad_decorates_too() -> None:
    @gn.no_grad()
    def double(x: Any) -> Any:
        return x * 2

    assert not double(leaf(1.0)).requires_grad
    assert not double(leaf(1.0)).requires_grad


def test_modes_belong_to_a_thread() -> None:
    x, found = leaf(2.0), []
    started, finish = threading.Event(), threading.Event()

    def other() -> None:
        with gn.backends.use("numpy"):
            found.append(gn.is_grad_enabled())
            y = x * 3
            found.append(y.requires_grad)
            found.append(y.tangents is None)
            started.set()
            finish.wait(10)
            y.backward()

    def f(z: Any) -> Any:
        with gn.no_grad(), gn.backends.use("numpy"):
            thread.start()
            started.wait(10)
            assert not gn.is_grad_enabled()
            finish.set()
            thread.join(10)
        return z * z

    thread = threading.Thread(target=other)
    assert float(gn.jvp(f, f64(2.0), f64(1.0))[1]) == 4
    assert found == [True, True, True]
    assert float(x.grad) == 3


def test_threads_differentiate_at_the_same_time() -> None:
    results: dict[int, float] = {}

    def work(k: int) -> None:
        for _ in range(50):
            third = gn.grad(gn.grad(lambda x: gn.hvp(lambda z: z**5 * k, x, gn.ones_like(x))))
            results[k] = float(third(f64(1.0)))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {k: 120.0 * k for k in range(4)}


# Hooks


def test_hooks_see_and_change_gradients() -> None:
    seen: list[float] = []
    x = leaf(2.0)
    y = x * x
    y.register_hook(lambda g: seen.append(float(g)))
    y.register_hook(lambda g: g * 10)
    x.register_hook(lambda g: seen.append(float(g)))
    (y * 3).backward()
    assert seen == [3, 120]
    assert float(x.grad) == 120


def test_hooks_see_the_whole_gradient_once() -> None:
    seen: list[float] = []
    x = leaf(2.0)
    y = x * 1
    y.register_hook(lambda g: seen.append(float(g)))
    (y * y + y).backward()
    assert seen == [5]


def test_hooks_can_be_taken_away() -> None:
    seen: list[str] = []
    x = leaf(2.0)
    remove = x.register_hook(lambda g: seen.append("first"))
    x.register_hook(lambda g: seen.append("second"))
    (x * 2).backward()
    remove()
    remove()
    (x * 2).backward()
    assert seen == ["first", "second", "second"]


def test_a_hook_must_keep_the_shape() -> None:
    x = leaf([1.0, 2.0])
    y = x * 2
    y.register_hook(lambda g: g.sum())
    with pytest.raises(ShapeError, match=r"hook on the output of multiply returned shape \(\)"):
        y.sum().backward()


def test_hooks_on_one_of_several_outputs() -> None:
    x = leaf([[1.0, 2.0]])
    w = leaf([[1.0], [1.0]])
    y = gn.ops.linear(x, w, activation="tanh")
    seen: list[Any] = []
    y.register_hook(lambda g: seen.append(g.tolist()))
    (y * 2).sum().backward()
    assert seen == [[[2.0]]]


# Lifetime: reference counts alone free a graph


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def build(x: Any) -> Any:
    h = gn.ops.linear(x, gn.ones((3, 4), dtype=gn.float64), activation="tanh")
    h = gn.concat([h, h * h], axis=1)
    h[0] = 1.0
    return gn.ops.softmax(h).sum() + h.max() + gn.sort(h)[0, 0]


def nodes_of(y: Any) -> list[weakref.ref[Any]]:
    from gradnet.graph import reachable

    return [weakref.ref(node) for node in reachable([y.node[0]]) if node.op is not None]


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("how", ["never used", "backward", "create_graph", "error", "kept"])
def test_graphs_die_with_their_last_user(how: str) -> None:
    x = leaf(np.random.default_rng(0).standard_normal((2, 3)))
    y = build(x)
    nodes = nodes_of(y)
    assert len(nodes) > 5
    assert all(node() is not None for node in nodes)
    if how == "backward":
        y.backward()
    elif how == "kept":
        y.backward(retain_graph=True)
    elif how == "create_graph":
        y.backward(create_graph=True)
        x.grad = None
    elif how == "error":
        with pytest.raises(ShapeError):
            y.backward(gn.ones((2,)))
    del y
    assert [node for node in nodes if node() is not None] == []


@pytest.mark.usefixtures("no_collector")
def test_backward_frees_what_was_saved() -> None:
    x = leaf(np.ones(1000))
    hidden = gn.exp(x)
    array = weakref.ref(hidden.array)
    y = (hidden * hidden).sum()
    del hidden
    assert array() is not None
    y.backward()
    assert array() is None
    assert y.requires_grad


@pytest.mark.usefixtures("no_collector")
def test_functional_derivatives_leave_nothing_behind() -> None:
    refs: list[weakref.ref[Any]] = []

    def f(x: Any) -> Any:
        h = gn.tanh(x) * x
        refs.append(weakref.ref(h.array))
        return h.sum()

    x = f64(np.ones(10))
    kept = [gn.grad(f)(x), gn.hvp(f, x, x), gn.hessian(f)(x), gn.jvp(f, x, x)]
    kept.append(gn.grad(lambda x: gn.grad(f)(x).sum())(x))
    assert refs
    assert [ref for ref in refs if ref() is not None] == []


@pytest.mark.usefixtures("no_collector")
def test_a_leaf_dies_although_its_graph_lives() -> None:
    x, w = leaf([1.0]), leaf([2.0])
    y = x + w
    gone = weakref.ref(x)
    del x
    assert gone() is None
    y.backward()
    assert w.grad.tolist() == [1]
