"""Norms as one op each: values, gradients and running statistics, in every float, at any size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from precisions import HALVES, ROUNDOFF

import gradnet as gn
from gradnet import nn, ops, precision
from gradnet.backends import Backend
from gradnet.errors import DeviceError, ShapeError

EPS = 1e-3
# Some within a part, some of several, which each backend cuts in its own way; and one column.
SHAPES = ((2, 1), (2, 17), (33, 5), (300, 3), (530, 4), (3, 520))


def reference(
    x: Any, w: Any, b: Any, g: Any, axis: int
) -> tuple[np.ndarray[Any, Any], list[np.ndarray[Any, Any]], Any]:
    """A norm, its gradients and its statistics in float64."""
    x, w, b, g = (np.asarray(t, np.float64) for t in (x, w, b, g))
    mean, variance = x.mean(axis, keepdims=True), x.var(axis, keepdims=True)
    factor = 1 / np.sqrt(variance + EPS)
    h = (x - mean) * factor
    given, scale = (g, factor * w) if axis == 0 else (g * w, factor)
    first, second = given.mean(axis, keepdims=True), (given * h).mean(axis, keepdims=True)
    dx = scale * (given - first - h * second)
    return h * w + b, [dx, (g * h).sum(0), g.sum(0)], (mean.ravel(), variance.ravel())


def normed(x: Any, w: Any, b: Any, axis: int) -> gn.Tensor:
    return ops.layer_norm(x, w, b, eps=EPS) if axis else ops.batch_norm(x, w, b, eps=EPS)


def drawn(n: int, m: int, dtype: Any) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(n + m)
    x, g = 3 * rng.standard_normal((n, m)) + 2, rng.standard_normal((n, m))
    parts = (x, rng.uniform(0.5, 1.5, m), rng.standard_normal(m), g)
    return [np.asarray(t, dtype) for t in parts]


def near(found: Any, exact: Any, u: float) -> None:
    """Within some roundings of the largest."""
    found = np.asarray(found.detach().numpy(), np.float64)
    assert np.abs(found - exact).max(initial=0) <= u * (1e-3 + np.abs(exact).max(initial=0))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "float64", *HALVES])
def test_values_and_gradients(dtype: str, axis: int, backend: Backend) -> None:
    u = {"float32": 4e-6, "float64": 1e-13}.get(dtype) or 2 * ROUNDOFF[dtype]
    for n, m in SHAPES:
        if n == 2 and axis == 0 and dtype in HALVES:
            continue  # Two values become 1 and -1, and the gradient is what rounding leaves.
        arrays = drawn(n, m, HALVES.get(dtype, dtype))
        x, w, b = (gn.asarray(t, requires_grad=True) for t in arrays[:3])
        y = normed(x, w, b, axis)
        assert y.dtype == x.dtype
        y.backward(gn.asarray(arrays[3]))
        exact, gradients, _ = reference(*arrays, axis)
        near(y, exact, u)
        for t, right in zip((x, w, b), gradients, strict=True):
            assert t.grad is not None
            assert t.grad.dtype == t.dtype
            near(t.grad, right, 4 * u if n > 2 or axis else 1e3 * u)


@pytest.mark.parametrize("momentum", [0.0, 0.3, 1.0])
def test_running_statistics_follow(momentum: float, backend: Backend) -> None:
    for n, m in SHAPES:
        x, w, b, _ = drawn(n, m, np.float32)
        running = gn.zeros(m), gn.ones(m)
        for _ in range(2):
            ops.batch_norm(
                gn.asarray(x), gn.asarray(w), gn.asarray(b), running=running, momentum=momentum
            )
        mean, variance = reference(x, w, b, x, 0)[2]
        kept = (1 - momentum) ** 2
        near(running[0], (1 - kept) * mean, 1e-5)
        near(running[1], kept + (1 - kept) * variance * n / (n - 1), 1e-5)
        assert running[0].counter[0] == 2


def test_statistics_far_from_zero_are_stable(backend: Backend) -> None:
    # Squares of 1e4 have no digits left for a variance of 1.
    x = (np.random.default_rng(0).standard_normal((400, 3)) + 1e4).astype(np.float32)
    w, b, g = np.ones(3), np.zeros(3), np.ones((400, 3))
    exact, _, (mean, variance) = reference(x, w, b, g, 0)
    running = gn.zeros(3), gn.zeros(3)
    y = ops.batch_norm(gn.asarray(x), running=running, momentum=1.0, eps=EPS)
    np.testing.assert_allclose(running[0].numpy(), mean, rtol=1e-6)
    np.testing.assert_allclose(running[1].numpy(), variance * 400 / 399, rtol=1e-4)
    np.testing.assert_allclose(y.numpy(), exact, atol=3e-3)
    rows = ops.layer_norm(gn.asarray(np.ascontiguousarray(x.T)), eps=EPS)
    np.testing.assert_allclose(rows.numpy().T, exact, atol=3e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_where_it_is(bad: float, backend: Backend) -> None:
    x, w, b, g = drawn(40, 6, np.float32)
    x[7, 2] = bad
    for axis in (0, 1):
        t = gn.asarray(x, requires_grad=True)
        y = normed(t, gn.asarray(w), gn.asarray(b), axis)
        y.backward(gn.asarray(g))
        assert t.grad is not None
        lost = np.zeros((40, 6), bool)
        lost[(slice(None), 2) if axis == 0 else (7,)] = True
        np.testing.assert_array_equal(np.isnan(y.detach().numpy()), lost)
        np.testing.assert_array_equal(np.isnan(t.grad.numpy()), lost)


def test_other_layouts(backend: Backend) -> None:
    x, w, b, g = drawn(12, 8, np.float32)
    for axis in (0, 1):
        t = gn.asarray(np.ascontiguousarray(x.T), requires_grad=True)
        wide = gn.asarray(np.stack([w, b], axis=1))
        y = normed(gn.matrix_transpose(t), wide[:, 0], wide[:, 1], axis)
        y.backward(gn.matrix_transpose(gn.asarray(np.ascontiguousarray(g.T))))
        exact, (dx, *_), _ = reference(x, w, b, g, axis)
        near(y, exact, 4e-6)
        near(gn.matrix_transpose(t.grad), dx, 2e-5)
        repeated = gn.broadcast_to(gn.asarray(x[0]), (4, 8))
        assert float(ops.max(ops.abs(ops.batch_norm(repeated)))) == 0


def test_constants_and_nothing(backend: Backend) -> None:
    x = gn.asarray(np.full((5, 1), 3.0, np.float32), requires_grad=True)
    y = ops.layer_norm(x, gn.ones(1), gn.full((1,), 7.0))
    y.backward(gn.ones_like(y))
    assert y.detach().numpy().tolist() == [[7.0]] * 5
    assert x.grad is not None
    assert not x.grad.numpy().any()
    w = gn.asarray(np.ones(4, np.float32), requires_grad=True)
    empty = ops.layer_norm(gn.zeros((0, 4)), w, gn.zeros(4))
    assert empty.shape == (0, 4)
    ops.sum(empty).backward()
    assert w.grad is not None
    assert not w.grad.numpy().any()


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_activations_travel_in_16_bits_through_norms(
    norm: str, name: str, backend: Backend
) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((16, 6)).astype(np.float32)
    model = nn.MLP((6, 8, 8, 3), "tanh", norm=norm, seed=0, precision=name)
    exact = nn.MLP((6, 8, 8, 3), "tanh", norm=norm, seed=1, dtype=gn.float64)
    exact.load_state_dict({k: t.numpy().astype(float) for k, t in model.state_dict().items()})
    seen: list[Any] = []
    for layer in model.layers:
        if isinstance(layer, nn.BatchNorm1d | nn.LayerNorm):
            layer.register_forward_hook(lambda _, xs, y: seen.append((xs[0].dtype, y.dtype)))
    y, right = model(gn.asarray(x)), exact(gn.asarray(x.astype(np.float64)))
    assert seen == [(HALVES[name], HALVES[name])] * 2
    assert y.dtype == gn.float32
    ops.sum(ops.square(y)).backward()
    ops.sum(ops.square(right)).backward()
    near(y, right.detach().numpy(), 8 * ROUNDOFF[name])
    pairs = zip(model.named_parameters(), exact.parameters(), strict=True)
    for (what, p), q in pairs:
        assert p.grad is not None
        assert q.grad is not None
        assert p.grad.dtype == gn.float32, what
        off = np.linalg.norm(p.grad.numpy() - q.grad.numpy())
        assert off <= 30 * ROUNDOFF[name] * (np.linalg.norm(q.grad.numpy()) + 1e-2), what
    if norm == "batch":
        state, other = model.state_dict(), exact.state_dict()
        for what in (k for k in state if "running" in k):
            assert state[what].dtype == gn.float32
            near(state[what], other[what].numpy(), 4 * ROUNDOFF[name])


def test_batch_norm_rounds_as_pytorch_does_under_autocast(backend: Backend) -> None:
    torch = pytest.importorskip("torch")
    x, w, b, g = drawn(33, 5, np.float32)
    rounded = torch.tensor(x).bfloat16().requires_grad_()
    weight, bias = (torch.tensor(t, requires_grad=True) for t in (w, b))
    theirs = torch.nn.functional.batch_norm(
        rounded, None, None, weight, bias, training=True, eps=EPS
    )
    theirs.backward(torch.tensor(g).bfloat16())
    t, ours_w, ours_b = (gn.asarray(a, requires_grad=True) for a in (x, w, b))
    with precision.use("bfloat16"):
        narrow = gn.astype(t, gn.bfloat16)
        y = ops.batch_norm(narrow, ours_w, ours_b, eps=EPS)
    y.backward(gn.astype(gn.asarray(g), gn.bfloat16))
    u = ROUNDOFF["bfloat16"]
    assert y.dtype == gn.bfloat16
    near(y, theirs.detach().float().numpy(), 2 * u)
    near(t.grad, rounded.grad.float().numpy(), 4 * u)
    near(ours_w.grad, weight.grad.numpy(), 4 * u)


def test_gradients_twice_and_forwards(backend: Backend) -> None:
    arrays = drawn(5, 3, np.float64)[:3]
    gn.gradcheck(lambda x, w, b: ops.batch_norm(x, w, b, eps=EPS), *arrays, order=2)
    gn.gradcheck(lambda x, w, b: ops.layer_norm(x, w, b, eps=EPS), *arrays, order=2)


def test_bad_calls(backend: Backend) -> None:
    x = gn.ones((4, 3))
    with pytest.raises(ShapeError, match=r"batch_norm takes x \(n, m\), got shape \(3,\)"):
        ops.batch_norm(gn.ones(3))
    with pytest.raises(ShapeError, match="layer_norm takes an x with a last axis"):
        ops.layer_norm(gn.asarray(1.0))
    with pytest.raises(ShapeError, match=r"layer_norm of 3 features got a weight of shape \(4,\)"):
        ops.layer_norm(x, gn.ones(4), gn.ones(3))
    with pytest.raises(ShapeError, match=r"of 3 features got running statistics of shape \(2,\)"):
        ops.batch_norm(x, running=(gn.ones(3), gn.ones(2)))
    with pytest.raises(TypeError, match="takes a weight and a bias, or neither"):
        ops.batch_norm(x, gn.ones(3))
    with pytest.raises(TypeError, match="needs running statistics where it is not training"):
        ops.batch_norm(x, training=False)
    with pytest.raises(ValueError, match="needs at least 2 rows for a variance, got 1"):
        ops.batch_norm(gn.ones((1, 3)))


def test_operands_on_two_backends() -> None:
    with gn.backends.use("numpy"):
        elsewhere = gn.zeros(3), gn.ones(3)
    other = next((name for name in gn.backends.available() if name != "numpy"), None)
    if other is None:
        pytest.skip("there is one backend only")
    with gn.backends.use(other), pytest.raises(DeviceError, match="batch_norm"):
        ops.batch_norm(gn.ones((4, 3)), running=elsewhere)
