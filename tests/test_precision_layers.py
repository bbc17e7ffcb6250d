"""Layers in a precision of 16 bits: what lies between them has those, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from precisions import HALVES, ROUNDOFF, B, G, W, X, leaves
from strict_backend import StrictBackend

import gradnet as gn
from gradnet import autodiff, backends, nn, ops, precision
from gradnet.backends import Backend


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "softplus"])
@pytest.mark.parametrize("name", ROUNDOFF)
def test_activations_have_the_bits_of_factors(backend: Backend, name: str, activation: str) -> None:
    with precision.use(name):
        z = ops.linear(gn.asarray(X), gn.asarray(W), gn.asarray(B))
        y = ops.linear(gn.asarray(X), gn.asarray(W), gn.asarray(B), activation=activation)
    assert (z.dtype, y.dtype) == (gn.float32, HALVES.get(name, gn.float32))
    exact = ops.elementwise(activation)(gn.astype(z, gn.float64)).numpy()
    # The product, the bias and the result are rounded; no slope is more than 1.13.
    u = ROUNDOFF[name] if name in HALVES else 5e-7
    bound = 1.2 * u * (2 * abs(z.numpy()) + 2 * abs(B) + abs(exact)) + 1e-6
    assert (abs(y.numpy().astype(np.float64) - exact) <= bound).all()


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
@pytest.mark.parametrize("name", HALVES)
def test_gradients_through_layers_of_16_bits(backend: Backend, name: str, activation: str) -> None:
    rng = np.random.default_rng(6)
    sizes = ((9, 6), (6, 8), (8,), (8, 8), (8,), (8, 3), (3,))
    arrays = [rng.normal(size=shape).astype(np.float32) / len(shape) for shape in sizes]

    def gradients(given: list[gn.Tensor]) -> tuple[gn.Tensor, list[Any]]:
        x, *parameters = given
        h = ops.linear(x, *parameters[:2], activation=activation)
        h = ops.linear(h, *parameters[2:4], activation=activation)
        z = ops.linear(h, *parameters[4:])
        ops.sum(ops.square(z)).backward()
        return h, [z, *(t.grad for t in given)]

    _, exact = gradients(leaves(*(a.astype(np.float64) for a in arrays)))
    with precision.use(name):
        hidden, found = gradients(leaves(*arrays))
    assert hidden.dtype == HALVES[name]
    for one, right in zip(found, exact, strict=True):
        assert one.dtype == gn.float32
        off = np.linalg.norm(one.detach().numpy() - right.detach().numpy())
        # Some seven roundings on the way there and back; and none would be far less.
        size = np.linalg.norm(right.detach().numpy())
        assert ROUNDOFF[name] / 50 < off / size < 8 * ROUNDOFF[name]


def test_cotangents_have_the_bits_of_their_activations(backend: Backend) -> None:
    x = gn.asarray(X, dtype="float16", requires_grad=True)
    w, b = leaves(W, B)
    with precision.use("float16"):
        y = ops.linear(x, w, b, activation="tanh")
        again = autodiff.grad(lambda v: ops.sum(ops.linear(v, w, b, activation="tanh")))(x)
    ops.sum(y).backward()
    assert [t.grad.dtype.name for t in (x, w, b)] == ["float16", "float32", "float32"]
    # One op after the other, which rounds each result; differentiable again.
    assert again.dtype == gn.float16
    np.testing.assert_allclose(again.numpy(), x.grad.numpy(), atol=4e-3)
    # Not the sum of 16 bits that fits into those: 1 / 3 has no end there.
    y, b = (gn.asarray(v, requires_grad=True) for v in (np.ones((3000, 1), "f2"), B[:1] * 0))
    with precision.use("float16"):
        z = ops.linear(y, gn.ones((1, 1)), b, activation="identity")
        h = ops.linear(y, gn.ones((1, 1)), b, activation="relu")
    ops.sum(gn.astype(h, gn.float32) * (1 / 3)).backward()
    third = float(np.float16(1 / 3))
    assert z.dtype == gn.float32
    np.testing.assert_allclose(b.grad.numpy(), 3000 * third, rtol=1e-6)


@pytest.mark.parametrize("activation", ["prelu", "maxout"])
@pytest.mark.parametrize("name", HALVES)
def test_layers_without_an_activation_of_their_own(
    backend: Backend, name: str, activation: str
) -> None:
    seen: set[str] = set()

    def gradients(precision: str) -> list[Any]:
        model = nn.MLP((6, 8, 8, 3), activation, output="softmax", seed=1, precision=precision)
        for layer in model.modules():
            if isinstance(layer, nn.PReLU | nn.Maxout):
                layer.register_forward_hook(lambda _, x, y: seen.add(y.dtype.name))
        model.output.loss(model(gn.asarray(X)), gn.asarray(np.arange(9) % 3)).backward()
        return [p.grad for p in model.parameters()]

    exact = gradients("float32")
    assert seen == {"float32"}
    seen.clear()
    found = gradients(name)
    assert seen == {name}
    off = size = 0.0
    for one, right in zip(found, exact, strict=True):
        assert one.dtype == gn.float32
        off += float(((one - right).numpy() ** 2).sum())
        size += float((right.numpy() ** 2).sum())
    assert ROUNDOFF[name] / 50 < (off / size) ** 0.5 < 8 * ROUNDOFF[name]


def test_a_narrow_result_is_differentiable_again(backend: Backend) -> None:
    x, w, b = leaves(X, W, B)

    def function(v: Any) -> Any:
        y = ops.linear(v, w, b, narrow=True)
        assert y.dtype == gn.float16
        return ops.sum(ops.square(ops.astype(y, gn.float32)))

    direction = gn.asarray(np.ones_like(X))
    with precision.use("float16"):
        function(x).backward()
        again = autodiff.grad(function)(x)
        curved = autodiff.hvp(function, x, direction)
    np.testing.assert_allclose(x.grad.numpy(), 2 * (X @ W + B) @ W.T, atol=0.05)
    np.testing.assert_allclose(again.detach().numpy(), x.grad.numpy(), atol=0.02)
    np.testing.assert_allclose(curved.numpy(), 2 * (np.ones_like(X) @ W) @ W.T, atol=0.05)
    assert ops.linear(x, w, b, narrow=True).dtype == gn.float32


def test_what_a_model_gives_is_float32(backend: Backend) -> None:
    model = nn.Sequential(nn.Linear(6, 4, activation="tanh"))
    model.product_precision = "bfloat16"
    y = model(gn.asarray(X))
    assert y.dtype == gn.float32
    with precision.use("bfloat16"):
        inner = next(iter(model))(gn.asarray(X))
    assert inner.dtype == gn.bfloat16
    np.testing.assert_array_equal(y.detach().numpy(), inner.detach().numpy().astype(np.float32))


# What backends are given


@pytest.fixture
def strict() -> Iterator[StrictBackend]:
    chosen = StrictBackend()
    with backends.use(chosen):
        yield chosen


@pytest.mark.parametrize("name", HALVES)
def test_products_and_nothing_else_have_16_bits(
    name: str, strict: StrictBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    products: list[Any] = []
    others: set[str] = set()

    def spied(method: str, call: Any) -> Any:
        def spy(self: Any, *args: Any, **kwargs: Any) -> Any:
            given = [x.dtype for x in (*args, *kwargs.values()) if hasattr(x, "dtype")]
            if method == "matmul":
                products.append((*given, kwargs["out"].dtype))
            elif HALVES[name] in given and method != "permute":
                others.add(method)
            return call(self, *args, **kwargs)

        return spy

    for method in ("matmul", "map", "reduce", "update", "softmax_cross_entropy", "permute",
                   "bias_activation", "bias_activation_backward", "cast", "put"):  # fmt: skip
        monkeypatch.setattr(StrictBackend, method, spied(method, getattr(StrictBackend, method)))
    model = nn.MLP((6, 8, 8, 3), output="softmax", seed=1, precision=name)
    # What stands between a layer and its activation takes float32.
    hidden = [(nn.Linear(k, 8), nn.Flatten(), nn.ReLU()) for k in (6, 8)]
    model.layers = nn.Sequential(*hidden[0], *hidden[1], nn.Linear(8, 3))
    gn.fit(model, X, np.arange(9) % 3, epochs=2, batch_size=3, progress=False, capture=False)
    # Three products forward, and two backward of each but the first.
    assert len(products) >= 2 * 3 * (3 + 5)
    assert set(products) == {(HALVES[name], HALVES[name], gn.float32, gn.float32)}
    assert not others


@pytest.mark.parametrize("name", HALVES)
def test_nothing_between_layers_is_widened(
    name: str, strict: StrictBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, Any, Any]] = []

    def spied(method: str, call: Any) -> Any:
        def spy(self: Any, *args: Any, **kwargs: Any) -> Any:
            found = call(self, *args, **kwargs)
            results = found if isinstance(found, tuple) else (found,)
            dtypes = {x.dtype.name for x in results if hasattr(x, "dtype")}
            first = args[1] if method == "reduce" else args[0]
            seen.append((method, first.dtype.name, "".join(dtypes)))
            return found

        return spy

    for method in ("cast", "matmul", "reduce", "bias_activation", "bias_activation_backward",
                   "softmax_cross_entropy"):  # fmt: skip
        monkeypatch.setattr(StrictBackend, method, spied(method, getattr(StrictBackend, method)))
    model = nn.MLP((6, 8, 8, 3), activation="gelu", output="softmax", seed=1, precision=name)
    loss = nn.cross_entropy(model(gn.asarray(X)), gn.asarray(np.arange(9) % 3))
    forward = len(seen)
    loss.backward()
    wide = "float32"
    assert [call for call in seen[:forward] if call[0] != "cast" and call[2] != "int64"] == [
        *(("matmul", name, name), ("bias_activation", name, name)) * 2,
        ("matmul", name, wide),
        ("bias_activation", wide, wide),
        ("softmax_cross_entropy", wide, wide),
        ("reduce", wide, wide),
    ]
    layer = [("matmul", name, name), ("matmul", name, wide)]
    hidden = [("bias_activation_backward", name, name), ("reduce", name, wide)]
    assert [call for call in seen[forward:] if call[0] != "cast"] == [
        *(("reduce", wide, wide), *layer, *hidden, *layer, *hidden, layer[1])
    ]
    assert {call[1:] for call in seen if call[0] == "cast"} <= {(wide, name), (wide, wide)}


def test_weights_get_their_gradients_by_one_product(
    monkeypatch: pytest.MonkeyPatch, backend: Backend
) -> None:
    x, w = leaves(X, W)
    calls: list[str] = []
    for method in ("cast", "matmul"):
        call = getattr(type(backend), method)

        def spy(self: Any, *args: Any, call: Any = call, method: str = method, **kw: Any) -> Any:
            if method == "cast" or args[0].dtype == gn.bfloat16:
                calls.append(method)
            return call(self, *args, **kw)

        monkeypatch.setattr(type(backend), method, spy)
    with precision.use("bfloat16"):
        y = ops.linear(x, w)
    assert calls.count("cast") == 2  # x and w, once each for forward and backward
    calls.clear()
    y.backward(gn.asarray(G))
    assert calls.count("matmul") == 2
    assert calls.count("cast") <= 1 + 2  # of g, and those by which leaves keep their gradients
