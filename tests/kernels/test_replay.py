"""Compiled replays against the plain NumPy reference, whole and split between threads."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import backends
from gradnet.captured import Captured
from gradnet.program.plan import Layout

replay = pytest.importorskip("gradnet.kernels.replay", reason="numba is not installed")
from gradnet.kernels import blas_entry, handles  # noqa: E402
from gradnet.kernels.gemm import build, choice  # noqa: E402
from gradnet.kernels.replay import lowerings, machine, team  # noqa: E402

Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def _on_numba() -> Iterator[None]:
    with backends.use("numba"):
        yield


@pytest.fixture(params=[1, 2, 3], ids=lambda n: f"{n} threads")
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Everything split between so many threads, however small it is."""
    size: int = request.param
    for name in ("SHARE", "SHARE_HEAVY", "SHARE_PRODUCT", "SHARED_PROGRAM"):
        monkeypatch.setattr(lowerings.Lowering, name, 1)
    crew = None if size == 1 else _crew(size)
    monkeypatch.setattr(team, "current", lambda: crew)
    return size


_CREWS: dict[int, Any] = {}


def _crew(size: int) -> Any:
    if size not in _CREWS:
        _CREWS[size] = team.Team(size)
    return _CREWS[size]


def rng() -> np.random.Generator:
    return np.random.default_rng(17)


def normal(*shape: int, dtype: str = "float32") -> Array:
    return np.asarray(rng().standard_normal(shape), dtype)


def compiled(captured: Captured[..., Any]) -> bool:
    """Whether all of the latest recording is machine code."""
    run = captured._last._replay  # type: ignore[union-attr]
    return isinstance(run, replay._Run) and not run._by_storage


def twice(function: Any, *xs: Array) -> Any:
    """The results of a recording and of a replay, which are the same to the bit."""
    captured = gn.capture(function)
    tensors = [gn.asarray(x) for x in xs]
    first, second = captured(*tensors), captured(*tensors)
    assert captured.replays == 1
    assert compiled(captured)
    for a, b in zip(_all(first), _all(second), strict=True):
        np.testing.assert_array_equal(a, b)
    return second


def _all(tree: Any) -> list[Array]:
    return [x.numpy() for x in (tree if isinstance(tree, tuple) else (tree,))]


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


def test_a_series_of_steps_waits_for_all_threads_after_each(threads: int) -> None:
    x, w = normal(600, 40), normal(40, 40)

    def training() -> Any:
        state = gn.asarray(w * 0.1)

        def step(x: gn.Tensor) -> gn.Tensor:
            state.assign_(gn.tanh(state + (x.T @ gn.tanh(x @ state)) * 1e-2))
            return gn.sum(state)

        return state, gn.capture(step)

    expected, one = training()
    for i in range(0, 600, 20):
        one(gn.asarray(x[i : i + 20]))
    for _ in range(5):
        found, several = training()
        several.each(gn.asarray(x), rows=20)
        assert several.replays == 29
        np.testing.assert_array_equal(found.numpy(), expected.numpy())


def test_no_thread_begins_a_step_before_all_have_ended_the_last() -> None:
    crew, move, count = _crew(2), blas_entry.memmove(), 30
    big = np.zeros((2, 1 << 20))
    state, seen = np.zeros(1), np.zeros(count)
    numbers = np.arange(1.0, count + 1)
    given = np.stack([seen.ctypes.data + 8 * np.arange(count), numbers.ctypes.data
                      + 8 * np.arange(count)], axis=1).astype(np.uint64)  # fmt: skip

    def copy(target: Any, source: Any, nbytes: int) -> Any:
        kinds = (("ptr", target), ("ptr", source), ("i64", nbytes))
        arguments = tuple(machine.Argument(kind, value) for kind, value in kinds)
        return machine.Native(move, "ptr", arguments)

    barrier, place = machine.Barrier(), state.ctypes.data
    first = [copy(machine.Slot(0), place, 8), barrier]
    slow = copy(big[0].ctypes.data, big[1].ctypes.data, big[0].nbytes)
    second = [barrier, slow, copy(place, machine.Slot(1), 8)]
    status = np.zeros(1, np.int64)
    made = machine.steps([first, second], crew.control, status.ctypes.data)
    series = machine.Series(given.ctypes.data, 16, count)
    functions = np.array(made.several, np.int64)
    crew.run(functions.ctypes.data, ctypes.addressof(series))
    np.testing.assert_array_equal(seen, np.arange(0.0, count))


def test_a_team_sleeps_and_wakes() -> None:
    crew = _crew(2)
    x = gn.asarray(normal(400, 200))
    w = gn.asarray(normal(200, 300))
    captured = gn.capture(lambda x: gn.sum(gn.tanh(x @ w) @ w.T))
    first = captured(x).item()
    for pause in (0.0, 0.01, 0.0, 0.05):
        time.sleep(pause)
        assert captured(x).item() == first
    assert crew.size == 2


def test_a_forked_process_has_a_team_of_its_own() -> None:
    if not hasattr(os, "fork"):
        pytest.skip("this platform does not fork")
    x = gn.asarray(normal(300, 200))
    w = gn.asarray(normal(200, 300))
    captured = gn.capture(lambda x: gn.sum(gn.tanh(x @ w)))
    expected = captured(x).item()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=lambda: queue.put(captured(x).item()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads beside a fork
        child.start()
    assert queue.get(timeout=60) == expected
    child.join()


def test_machine_code_reads_arrays_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert handles._direct() is handles.DIRECT
    table = np.zeros((3, 5), np.uint64)
    monkeypatch.setattr(handles, "DIRECT", True)
    machine.addressed(table, 2, 3)[:] = 7
    # The slots tell where the addresses stand, as if those were the data of array objects.
    for row in table:
        for slot, place in zip(row[:2].tolist(), (3, 4), strict=True):
            assert slot + object.__basicsize__ == row[place:].ctypes.data
            assert ctypes.c_uint64.from_address(slot + object.__basicsize__).value == 7
    monkeypatch.setattr(handles, "DIRECT", False)
    machine.addressed(table, 2, 3)[:] = 9
    assert table[:, :2].tolist() == [[9, 9]] * 3


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool", "bfloat16"])
def test_rows_are_taken_by_index(threads: int, dtype: str) -> None:
    x = gn.asarray(normal(9, 3, 2)).astype(dtype)
    captured = gn.capture(lambda rows: x[rows])
    for rows in ([3, 0, 8, 3, -1, -9], [1, 1, 2, 0, 5, 4]):
        found = captured(gn.asarray(rows))
        np.testing.assert_array_equal(found.numpy(), x.numpy()[rows])
    assert not captured._last._replay._by_storage  # type: ignore[union-attr]


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8, 13, 16, 31, 32, 33, 56, 64, 65, 130])
def test_rows_of_any_width_are_taken(width: int) -> None:
    x = gn.asarray(np.random.default_rng(width).integers(0, 256, (9, width), dtype=np.uint8))
    captured = gn.capture(lambda rows: x[rows])
    for rows in ([3, 0, 8, -9], [1, 2, 2, -1]):
        np.testing.assert_array_equal(captured(gn.asarray(rows)).numpy(), x.numpy()[rows])
    assert not captured._last._replay._by_storage  # type: ignore[union-attr]


def test_an_index_out_of_range_ends_a_step_before_it_changes_anything(threads: int) -> None:
    x, y, total = gn.asarray(normal(9, 3)), gn.arange(9), gn.zeros((4, 3))

    def add(rows: gn.Tensor) -> gn.Tensor:
        total.assign_(total + x[rows])
        return gn.sum(y[rows])

    captured = gn.capture(add)
    assert [captured(gn.asarray([i, 1, 2, 3])).item() for i in range(3)] == [6, 7, 8]
    before = total.tolist()
    for wrong in ([0, 9, 1, 1], [0, 1, 2, -10]):
        with pytest.raises(IndexError, match="out of bounds"):
            captured(gn.asarray(wrong))
        with pytest.raises(IndexError, match="out of bounds"):
            captured.each(gn.asarray(wrong * 2), rows=4)
    assert total.tolist() == before
    assert captured(gn.asarray([0, 1, 2, 3])).item() == 6
    assert captured.recordings == 1


def test_an_index_that_was_changed_is_looked_at_again() -> None:
    x = gn.asarray(normal(9, 3))

    def twice(rows: gn.Tensor) -> gn.Tensor:
        first = x[rows]
        rows.assign_(rows + 1)
        return first + x[rows]

    captured = gn.capture(twice)
    for start in ([0, 1], [6, 7]):
        found = captured(gn.asarray(start)).numpy()
        np.testing.assert_array_equal(found, x.numpy()[start] + x.numpy()[np.add(start, 1)])
    with pytest.raises(IndexError, match="out of bounds"):
        captured(gn.asarray([7, 8]))
