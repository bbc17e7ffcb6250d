"""Layers of a network in machine code: as in Python, to the bit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from eager_ops import holds_nothing

import gradnet as gn
from gradnet import backends, formulas, precision
from gradnet.errors import GraphError, ShapeError
from gradnet.formulas import Row
from gradnet.ops import fused
from gradnet.ops import quick as eager
from gradnet.ops.elementwise import Elementwise, op
from gradnet.tensor import Tensor

pytest.importorskip("numba")

backends.get("numba")
if eager._code() is None:
    pytest.skip("this interpreter has its objects otherwise", allow_module_level=True)

FLOATS = [np.float32, np.float64]
IDS = ["float32", "float64"]
# What is computed behind a bias by a loop of ours, by NumPy's function, and not at all; and by what
# the derivative takes, or with operands of its own.
ACTIVATIONS = (
    *(None, "identity", "relu", "tanh", "gelu", "sigmoid", "swish", "softplus", "absolute"),
    *("leaky_relu", "heaviside", "sin"),
)
SIZES = ((16, 8, 6), (1, 8, 6), (16, 8, 1), (16, 1, 6), (128, 7, 40), (129, 7, 5), (300, 4, 40))


def values(*shape: int, dtype: Any = np.float32, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def leaves(n: int, k: int, m: int, dtype: Any = np.float32) -> list[Tensor]:
    x = gn.asarray(values(n, k, dtype=dtype), requires_grad=True)
    w = gn.nn.Parameter(gn.asarray(values(k, m, dtype=dtype, seed=1)))
    return [x, w, gn.nn.Parameter(gn.asarray(values(m, dtype=dtype, seed=2)))]


def bits(xs: Any) -> list[Any]:
    found = [np.asarray(x.detach().numpy()) for x in xs]
    return [(x.dtype, x.shape, x.tobytes()) for x in found]


def gradients(y: Tensor, *leaves: Tensor) -> list[Tensor]:
    """A value, and the gradient of its sum of squares in every leaf that has one."""
    gn.sum(y * y).backward()
    found = [y, *[x.grad for x in leaves if x.grad is not None]]
    for x in leaves:
        x.grad = None
    return found


def assert_same(f: Callable[[], Any]) -> None:
    """That a function gives the same bits in Python, and in machine code once it knows the ops."""
    eager.remove()
    expected = bits(f())
    assert eager.install()
    f()
    assert bits(f()) == expected


@pytest.mark.parametrize("dtype", FLOATS, ids=IDS)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_layers_give_the_bits_of_python(activation: str | None, dtype: Any) -> None:
    def run() -> list[Tensor]:
        found = []
        for size in SIZES:
            x, w, b = leaves(*size, dtype=dtype)
            for bias in (b, None, b.detach()):
                y = gn.ops.linear(x, w, bias, activation=activation)
                found += gradients(y, x, w, b)
                found += gradients(gn.ops.linear(x.detach(), w, bias, activation=activation), w, b)
                found += gradients(gn.ops.linear(x, w.detach(), bias, activation=activation), x, b)
            found.append(gn.ops.linear(x.detach(), w.detach(), b.detach(), activation=activation))
            turned = gn.asarray(np.asfortranarray(values(*size[:2], dtype=dtype)))
            found.append(gn.ops.linear(turned, w.T.T, b, activation=activation))
        return found

    assert_same(run)


def named(activation: str | None) -> Elementwise | None:
    return None if activation is None else op(activation)


def test_what_is_done_in_machine_code_and_what_is_not(quick: None) -> None:
    assert fused.layer is not None
    x, w, b = leaves(5, 4, 6)
    for activation in (None, "identity", "relu", "tanh", "gelu"):
        y = fused.layer(x, w, b, named(activation))
        assert type(y) is Tensor
        assert y.node is not None
        node = y.node[0]
        assert (node.op, y.node[1], len(node.outputs)) == (fused.LINEAR, 0, 2)
        assert [edge[0] for edge in node.parents if edge] == [
            z.node[0] for z in (x, w, b) if z.node
        ]
    half = gn.asarray([1.0], dtype=gn.float16)
    unknown: Any = ["relu"]
    others: list[tuple[Any, ...]] = [
        (x, w, b, op("leaky_relu")), (x, w, None, op("relu")), (x, w, b, "relu"),
        (x, w, b, unknown), (x, w, w, None), (x, w, b[1:], None), (x, w, half, None),
        (x[0], w, b, None),
        (x, w, 1.0, None), (x.numpy(), w, b, None), (x, gn.astype(w, gn.float64), b, None),
        (x, w.T, b, None), (x[:0], w, b, None),
    ]  # fmt: skip
    for given in others:
        assert fused.layer(*given) is None
    with precision.use("bfloat16"):
        assert fused.layer(x, w, b, None) is None
    with backends.use("numpy"):
        other = gn.asarray(values(5, 4))
    assert fused.layer(other, w, b, None) is None
    with gn.no_grad():
        y = fused.layer(x, w, b, op("relu"))
        assert y is not None
        assert not y.requires_grad


def test_another_formula_of_a_name_takes_its_place(quick: None) -> None:
    x, w, b = leaves(5, 4, 6)
    z = (x @ w + b).detach().numpy()

    def doubled(x: Any) -> Any:
        return x * 2

    def doubled_dx(x: Any) -> Any:
        return x * 0 + 2

    def tripled(x: Any) -> Any:
        return x * 3

    def tripled_dx(x: Any) -> Any:
        return x * 0 + 3

    for turn, (formula, slope) in enumerate(((doubled, doubled_dx), (tripled, tripled_dx))):
        row = Row("scaled_up", formula, (slope,), activation=True)
        formulas.register(row)
        try:
            for _ in range(2):
                y = gn.ops.linear(x, w, b, activation="scaled_up")
                np.testing.assert_allclose(y.detach().numpy(), z * (turn + 2), rtol=1e-5)
                gn.sum(y).backward()
                assert b.grad is not None
                np.testing.assert_allclose(b.grad.numpy(), np.full(6, 5.0 * (turn + 2)))
                x.grad = w.grad = b.grad = None
        finally:
            formulas.unregister("scaled_up")


def test_errors_are_those_of_python() -> None:
    def told() -> list[tuple[type, str]]:
        x, w, b = leaves(5, 4, 6)
        found = []
        for wrong in (
            lambda: gn.ops.linear(x, w.T, b),
            lambda: gn.ops.linear(x, w, b[1:]),
            lambda: gn.ops.linear(x, w, b, activation="rellu"),
            lambda: gn.ops.linear(x, w.T, b, activation="rellu"),
            lambda: gn.ops.linear(x, w, b, activation="relu", alpha=1.0),
        ):
            with pytest.raises((KeyError, ShapeError, TypeError)) as caught:
                wrong()
            found.append((type(caught.value), str(caught.value)))
        return found

    eager.remove()
    expected = told()
    assert eager.install()
    assert told() == expected


@pytest.mark.parametrize("machine", [False, True], ids=["python", "machine"])
def test_what_was_changed_is_refused(machine: bool) -> None:
    assert eager.install()
    if not machine:
        eager.remove()
    for activation in ("relu", "tanh", "sigmoid"):
        x, w, b = leaves(5, 4, 6)
        y = gn.ops.linear(x, w, b, activation=activation)
        total = gn.sum(y * 2.0)
        y.detach().assign_(0.0)
        with pytest.raises(GraphError, match="was changed in place"):
            total.backward()
        assert w.grad is None
    for activation in (None, "identity", "gelu"):
        x, w, b = leaves(5, 4, 6)
        y = gn.ops.linear(x, w, b, activation=activation)
        total = gn.sum(y * 2.0)
        y.detach().assign_(0.0)  # of no use to the derivative
        total.backward()
        expected = gn.sum(gn.ops.linear(x, w, b, activation=activation) * 2.0)
        first, w.grad = w.grad, None
        expected.backward()
        assert first is not None
        assert bits([first]) == bits([w.grad])
    x, w, b = leaves(5, 4, 6)
    total = gn.sum(gn.ops.linear(x, w, b, activation="relu"))
    w.detach().assign_(0.0)
    with pytest.raises(GraphError, match="was changed in place"):
        total.backward()


def loss(model: Any, x: Tensor, y: Tensor) -> Tensor:
    value: Tensor = gn.nn.cross_entropy(model(x), y)
    return value


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_networks_learn_as_in_python(activation: str) -> None:
    rng = np.random.default_rng(0)
    x, y = gn.asarray(values(32, 12)), gn.asarray(rng.integers(0, 5, 32))

    def run() -> list[Tensor]:
        model = gn.nn.MLP((12, 9, 7, 5), activation=activation, generator=gn.random.Generator(0))
        optimizer = gn.optim.Adam(model.parameters(), lr=0.01)
        losses = []
        for _ in range(4):
            optimizer.zero_grad()
            losses.append(loss(model, x, y))
            losses[-1].backward()
            optimizer.step()
        again = gn.grad(lambda z: loss(model, z, y))(x)
        twice = gn.hvp(lambda z: loss(model, z, y), x, x)
        return [*losses, *model.parameters(), again, twice]

    assert_same(run)


def test_graphs_are_kept_and_freed_as_in_python(quick: None) -> None:
    x, w, b = leaves(5, 4, 6)
    y = gn.sum(gn.ops.linear(gn.ops.linear(x, w, b, activation="relu"), w.T, activation=None) ** 2)
    y.backward(retain_graph=True)
    first = w.grad
    y.backward()
    assert first is not None
    assert w.grad is not None
    assert bits([w.grad]) == bits([first + first])
    with pytest.raises(GraphError, match="was freed by an earlier backward"):
        y.backward()


def test_nothing_is_held_or_let_go_that_should_not(quick: None) -> None:
    x, w, b = leaves(16, 8, 6)
    v = gn.nn.Parameter(gn.asarray(values(6, 3)))
    tall = gn.asarray(values(200, 8))

    def turn() -> None:
        for activation in ("relu", "gelu", "tanh", None, "leaky_relu"):
            y = gn.ops.linear(gn.ops.linear(x, w, b, activation=activation), v)
            gn.sum(y * y).backward()
            x.grad = w.grad = b.grad = v.grad = None
            _ = gn.ops.linear(x.detach(), w.detach(), b.detach(), activation=activation)
        gn.sum(gn.ops.linear(tall, w, b, activation="relu") * 2.0).backward()
        w.grad = b.grad = None
        for wrong in (lambda: gn.ops.linear(x, v, b), lambda: gn.ops.linear(x, w, b[1:])):
            with pytest.raises(ShapeError):
                wrong()

    layers = eager._known()[eager._code().known.index("LAYERS")]
    turn()
    objects = (
        *(x, w, b, v, tall, x.array, w.array, b.array, x.backend, None, True, 0, (), x.dtype),
        *(fused.LINEAR, *eager._known(), *layers[0].values(), *layers[0], x.node, w.node, b.node),
        *[y for told in layers[0].values() if told is not None for y in told],
    )
    for _ in range(80):
        turn()
    holds_nothing(turn, objects)


def test_threads_compute_at_once(quick: None) -> None:
    x, w, b = leaves(16, 70, 70)
    expected = bits(gradients(gn.ops.linear(x, w, b, activation="gelu"), x, w, b))
    wrong: list[Any] = []

    def compute() -> None:
        for _ in range(12):
            own = leaves(16, 70, 70)
            found = bits(gradients(gn.ops.linear(*own, activation="gelu"), *own))
            if found != expected:
                wrong.append(found)

    threads = [threading.Thread(target=compute) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("n", [1, 2, 60, 5000])
def test_losses_give_the_gradients_of_python(n: int) -> None:
    z = gn.asarray(values(n, 5), requires_grad=True)
    y = gn.asarray(np.random.default_rng(1).integers(0, 5, n))
    soft = gn.nn.softmax(gn.asarray(values(n, 5, seed=3)), axis=1)

    def run() -> list[Tensor]:
        found = []
        for targets in (y, soft, soft.detach().requires_grad_()):
            for f in (lambda z: z, gn.tanh, lambda z: z + 0.0 * z[:1]):
                for reduction in ("mean", "sum"):
                    loss = gn.nn.cross_entropy(f(z), targets, reduction=reduction)
                    loss.backward(retain_graph=True)
                    found += [loss, z.grad]
                    loss.backward()
                    found.append(z.grad)
                    z.grad = None
            loss = gn.nn.cross_entropy(z, targets, reduction="none")
            gn.sum(loss * 2.0).backward()
            found.append(z.grad)
            z.grad = None
        return found

    assert_same(run)


def test_the_gradient_of_a_loss_is_nobodys_to_change(quick: None) -> None:
    z = gn.asarray(values(6, 5), requires_grad=True)
    y = gn.asarray([0, 1, 2, 3, 4, 0])
    seen: list[Any] = []

    def hook(g: Tensor) -> None:
        seen.append(g)

    h = gn.tanh(z)
    h.register_hook(hook)
    loss = gn.nn.cross_entropy(h, y)
    loss.backward(retain_graph=True)
    assert not seen[0].array.flags.writeable
    first, z.grad = z.grad, None
    loss.backward()
    assert bits([first]) == bits([z.grad])
    assert bits(seen[:1]) == bits(seen[1:])
    leaf = gn.asarray(values(6, 5), requires_grad=True)
    loss = gn.nn.cross_entropy(leaf, y)
    loss.backward(retain_graph=True)
    assert leaf.grad is not None
    expected = bits([leaf.grad])
    leaf.grad.assign_(0.0)
    leaf.grad = None
    loss.backward()
    assert bits([leaf.grad]) == expected
