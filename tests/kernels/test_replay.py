"""Compiled replays against the plain NumPy reference, whole and split between threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import backends
from gradnet.program.plan import Layout

replay = pytest.importorskip("gradnet.kernels.replay", reason="numba is not installed")
from gradnet.kernels.gemm import arrays, build, choice  # noqa: E402
from replays import Array, normal, rng, twice  # noqa: E402

pytestmark = pytest.mark.usefixtures("on_numba")

SHAPES = [(1, 1), (3, 5), (17, 33), (128, 10), (129, 7), (300, 1), (1, 300), (257, 64)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_chains_with_every_kind_of_broadcast(
    shape: tuple[int, int], dtype: str, threads: int
) -> None:
    n, m = shape
    x, row, column = normal(n, m, dtype=dtype), normal(m, dtype=dtype), normal(n, 1, dtype=dtype)

    def chain(x: Any, row: Any, column: Any) -> Any:
        y = gn.tanh(x * row + column) - 0.5
        return gn.where(y > 0, y * 2.0, x / 3.0), (y * 1.5).T

    found = twice(chain, x, row, column)
    y = np.tanh(x * row + column) - 0.5
    expected = np.where(y > 0, y * 2, x / 3)
    tolerance = 2e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(found[1].numpy(), y.T * 1.5, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums(shape: tuple[int, int], threads: int) -> None:
    x = normal(*shape)
    total, rows, columns = twice(lambda x: (gn.sum(x), gn.sum(x, axis=1), gn.sum(x, axis=0)), x)
    exact = x.astype(np.float64)
    for found, expected in (
        (total, exact.sum()),
        (rows, exact.sum(1)),
        (columns, exact.sum(0)),
    ):
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("count", [1 << 15, (1 << 15) + 1, 100_003])
def test_long_sums(count: int, threads: int) -> None:
    x = normal(count)
    found = twice(lambda x: gn.sum(x * x), x).item()
    assert found == pytest.approx(np.square(x.astype(np.float64)).sum(), rel=1e-6)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 4, 5), (33, 17, 65), (64, 784, 10), (10, 3, 129)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_of_every_layout(sizes: tuple[int, int, int], dtype: str, threads: int) -> None:
    n, k, m = sizes
    a, b = normal(n, k, dtype=dtype), normal(k, m, dtype=dtype)
    wide = normal(n, 2 * k, dtype=dtype)
    found = twice(
        lambda a, b, at, bt, wide: (a @ b, at.T @ b, a @ bt.T, at.T @ bt.T, wide[:, :k] @ b),
        a, b, np.ascontiguousarray(a.T), np.ascontiguousarray(b.T), wide,
    )  # fmt: skip
    tolerance = 1e-4 if dtype == "float32" else 1e-12
    for y in found[:4]:
        np.testing.assert_allclose(y.numpy(), a @ b, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(found[4].numpy(), wide[:, :k] @ b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("sizes", "dtype"),
    [
        ((131, 259, 700), "float64"),
        ((403, 65, 641), "float32"),
        ((129, 1100, 577), "float32"),
    ],
)
def test_large_products_of_all_threads(
    sizes: tuple[int, int, int], dtype: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    n, k, m = sizes
    a, b = normal(n, k, dtype=dtype), normal(k, m, dtype=dtype)
    a[3, 4], b[k - 1, 5], a[n - 1, 0] = np.nan, np.inf, np.inf
    made = build.code(np.dtype(dtype), large=True)
    arrays.packed()  # is kept for the process: of the size that products need elsewhere
    # Several blocks of rows.
    monkeypatch.setattr(choice, "_JOINT_A", 1 << 17)
    if made is not None:
        assert choice.large(np.dtype(dtype), n, k, m)
        assert (choice.joint(made.shape, n, k, m, threads) is None) is (threads == 1)
    captured = gn.capture(lambda x, y: x @ y)
    for left in (a, np.asfortranarray(a)):
        for right in (b, np.asfortranarray(b)):
            x, y = gn.asarray(left, copy=False), gn.asarray(right, copy=False)
            expected = gn.backends.get("numba").matmul(x.array, y.array)
            for _ in range(3):
                np.testing.assert_array_equal(captured(x, y).numpy(), expected)
    assert captured.recordings == 4


def test_batches_of_matrices(threads: int) -> None:
    x, w, b = normal(5, 12, 4), normal(5, 4, 3), normal(5, 1, 3)
    found = twice(lambda x, w, b: (gn.tanh(x @ w + b), gn.sum(x @ w, axis=1), x[:1] @ w), x, w, b)
    z = np.matmul(x, w)
    for y, expected in zip(found, (np.tanh(z + b), z.sum(1), x[:1] @ w), strict=True):
        np.testing.assert_allclose(y.numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 2), (3, 5), (17, 33), (300, 10), (130, 3)], ids=str)
@pytest.mark.parametrize("kind", ["classes", "probabilities", "weights", "smoothing"])
def test_cross_entropy(shape: tuple[int, int], kind: str, threads: int) -> None:
    n, k = shape
    x = normal(n, k) * 5
    classes = rng().integers(0, k, n)
    y: Array = classes
    if kind == "probabilities":
        y = rng().dirichlet(np.ones(k), n).astype(np.float32)
    smoothing = 0.1 if kind == "smoothing" else 0.0
    weight = rng().uniform(0, 2, n).astype(np.float32)

    def value(x: Any, y: Any, weight: Any) -> Any:
        weight = weight if kind == "weights" else None
        x = x.detach().requires_grad_()
        loss = gn.nn.cross_entropy(x, y, label_smoothing=smoothing, sample_weight=weight)
        loss.backward()
        return loss.detach(), x.grad

    captured = gn.capture(lambda *xs: value(*xs))
    tensors = [gn.asarray(v) for v in (x, y, weight)]
    captured(*tensors)
    loss, g = captured(*tensors)
    with backends.use("numpy"):
        expected, gradient = value(*(gn.asarray(v) for v in (x, y, weight)))
    np.testing.assert_allclose(loss.numpy(), expected.numpy(), rtol=1e-5)
    np.testing.assert_allclose(g.numpy(), gradient.numpy(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("rows", [1, 2, 127, 128, 129, 300])
@pytest.mark.parametrize("activation", ["relu", "gelu", "sigmoid", "elu", "identity"])
def test_layers_with_their_gradients(rows: int, activation: str, threads: int) -> None:
    x, w, b = normal(rows, 9), normal(9, 21), normal(21)

    def value(x: Any, w: Any, b: Any) -> Any:
        x, w, b = (v.detach().requires_grad_() for v in (x, w, b))
        y = gn.ops.linear(x, w, b, activation=activation)
        gn.sum(y * y).backward()
        return y.detach(), x.grad, w.grad, b.grad

    found = twice(value, x, w, b)
    with backends.use("numpy"):
        expected = value(*(gn.asarray(v) for v in (x, w, b)))
    for y, z in zip(found, expected, strict=True):
        np.testing.assert_allclose(y.numpy(), z.numpy(), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("count", [1, 5, 1023, 1024, 1025, 5000])
def test_random_numbers_are_those_of_plain_runs(count: int, threads: int) -> None:
    draw = gn.capture(lambda x: gn.random.uniform((count,)) + x)
    normals = gn.capture(lambda x: gn.random.normal((count,), dtype="float64") + x)
    zero = gn.asarray(0.0)
    gn.random.seed(2**64 - 1)
    found = [(draw(zero).numpy(), normals(gn.asarray(0.0, dtype="float64")).numpy()) for _ in "ab"]
    gn.random.seed(2**64 - 1)
    for u, z in found:
        np.testing.assert_array_equal(u, gn.random.uniform((count,)).numpy())
        np.testing.assert_array_equal(z, gn.random.normal((count,), dtype="float64").numpy())


SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3e38, -3e38, 1e-38, 1.0]


def test_extremes_pass_through_chains(threads: int) -> None:
    x = np.array(SPECIAL * 7, np.float32)

    def chain(x: Any) -> Any:
        return gn.exp(x) + 1.0, gn.nn.relu(x) * 2.0, gn.maximum(x, 0.0) - x, gn.sqrt(abs(x)) / x

    found = twice(chain, x)
    with backends.use("numpy"):
        expected = chain(gn.asarray(x))
    for y, z in zip(found, expected, strict=True):
        np.testing.assert_allclose(y.numpy(), z.numpy(), rtol=5e-7)


def test_empty_arrays(threads: int) -> None:
    captured = gn.capture(lambda x: gn.sum(gn.tanh(x) @ gn.ones((4, 3)), axis=0))
    for _ in range(2):
        np.testing.assert_array_equal(captured(gn.ones((0, 4))).numpy(), np.zeros(3))


def test_strided_arguments(threads: int) -> None:
    x = gn.asarray(normal(40, 30))
    captured = gn.capture(lambda x: gn.tanh(x) * 2.0)
    for part in (x[::2], x[:, ::3], x.T, x[::-1]):
        for _ in range(2):
            np.testing.assert_allclose(captured(part).numpy(), np.tanh(part.numpy()) * 2, rtol=1e-6)


VIEWS: dict[str, Any] = {
    "transposed": lambda x: gn.permute_dims(x, (2, 0, 1)),
    "every other": lambda x: x[::2, 1::2, ::2],
    "last axis off": lambda x: x[:, :, :-1],
    "repeated": lambda x: gn.broadcast_to(x[:, :1, :], x.shape),
    "one element": lambda x: x[1:2, 1:2, 1:2],
}


@pytest.mark.parametrize("view", VIEWS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_does_not_lie_in_order_is_copied_first(view: str, dtype: str, threads: int) -> None:
    take = VIEWS[view]

    def function(x: Any) -> Any:
        y = x * 2.0
        z = take(y)
        flat = gn.reshape(z, (z.shape[0], -1))
        middle, most = gn.sum(z, axis=1), gn.sum(z, axis=(0, 2))
        return gn.nn.sigmoid(z) + 1.0, flat, middle, most, gn.nn.log_softmax(flat)

    x = normal(4, 6, 5, dtype=dtype)
    found = twice(function, x)
    for y, plain in zip(found, function(gn.asarray(x)), strict=True):
        np.testing.assert_array_equal(y.numpy(), plain.numpy())
    ones, flat, middle, most, _ = (y.numpy() for y in found)
    z = take(gn.asarray(x * 2)).numpy()
    np.testing.assert_array_equal(flat, z.reshape(z.shape[0], -1))
    np.testing.assert_allclose(ones, 1 / (1 + np.exp(-z)) + 1, rtol=1e-6)
    np.testing.assert_allclose(middle, z.sum(1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(most, z.sum((0, 2)), rtol=1e-5, atol=1e-5)


def test_operands_that_repeat_within_are_written_out(threads: int) -> None:
    x, y = normal(3, 1, 5), normal(1, 4, 1)
    found = twice(lambda x, y: gn.tanh(x * y) + x, x, y)
    np.testing.assert_allclose(found.numpy(), np.tanh(x * y) + x, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("members", [1, 2, 3, 7, 300])
def test_members_side_by_side_are_a_loop(members: int, threads: int) -> None:
    x, w, b = normal(9, 4), normal(members, 4, 3), normal(members, 1, 3)

    def gradients(x: Any, w: Any, b: Any) -> Any:
        def loss(w: Any, b: Any) -> Any:
            return gn.sum(gn.tanh(x @ w + b) ** 2)

        return gn.grad(loss, argnums=(0, 1))(w, b)

    dw, db = twice(gradients, x, w, b)
    y = np.tanh(x @ w + b)
    dz = 2 * y * (1 - y * y)
    np.testing.assert_allclose(dw.numpy(), x.T @ dz, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(db.numpy(), dz.sum(1, keepdims=True), rtol=1e-4, atol=1e-5)


def test_a_fused_chain_is_one_call() -> None:
    captured = gn.capture(lambda x: gn.exp(gn.tanh(x * 2.0) + x) / 3.0)
    captured(gn.ones((4, 5)))
    (calls,) = [captured._last.program.calls]  # type: ignore[union-attr]
    assert [call.method for call in calls] == ["map"] * 5
    fused = replay.fused(calls, replay._compiles)
    assert [call.method for call in fused] == ["map"]


def test_memory_is_shared_by_what_does_not_live_together() -> None:
    w = gn.asarray(normal(64, 64))

    def deep(x: gn.Tensor) -> gn.Tensor:
        for _ in range(20):
            x = gn.tanh(x @ w)
        return gn.sum(x)

    captured = gn.capture(deep)
    captured(gn.asarray(normal(64, 64)))
    layout = Layout(captured._last.program.calls)  # type: ignore[union-attr]
    assert layout.nbytes <= 3 * 64 * 64 * 4
