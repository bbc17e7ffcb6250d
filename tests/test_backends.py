"""The registry of backends, and what the protocol asks of every one of them."""

from __future__ import annotations

import importlib
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import backends, dtypes, formulas
from gradnet.backends import Backend
from gradnet.errors import DeviceError

# The registry


@pytest.fixture
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment does not say which backend to take."""
    monkeypatch.setattr(backends, "_loaded", {})
    monkeypatch.delenv("GRADNET_BACKEND", raising=False)


def test_names() -> None:
    assert backends.names() == ("numpy", "numba", "cuda")
    assert "numpy" in backends.available()
    assert set(backends.available()) <= set(backends.names())
    assert backends.get("numpy") is backends.get("numpy")
    assert backends.unavailable("numpy") is None


def test_an_unknown_backend() -> None:
    with pytest.raises(DeviceError, match="there is no backend 'jax'; there are numpy, numba"):
        backends.get("jax")
    assert "there is no backend" in str(backends.unavailable("jax"))


def test_a_backend_that_cannot_be_loaded_says_why(nothing_chosen: None) -> None:
    backends.register("broken", "gradnet.kernels.nowhere")
    assert "broken" not in backends.available()
    with pytest.raises(DeviceError, match="the backend 'broken' cannot be loaded: "):
        backends.get("broken")
    (info,) = (entry for entry in backends.device_info() if entry.name == "broken")
    assert info.reason
    assert info.device == ""


def test_a_backend_can_be_added(nothing_chosen: None) -> None:
    backends.register("mine", "gradnet.numpy_backend")
    assert "mine" in backends.available()
    assert backends.get("mine") is backends.get("numpy")
    backends.register("mine", "gradnet.nowhere")
    assert "mine" not in backends.available()


def test_without_numba_one_line_is_logged_and_numpy_serves(
    nothing_chosen: None, caplog: pytest.LogCaptureFixture
) -> None:
    backends.register("numba", "gradnet.kernels.nowhere")
    with caplog.at_level(logging.WARNING, "gradnet"):
        for _ in range(3):
            assert backends.default().name == "numpy"
            assert gn.ones((2,)).backend.name == "numpy"
    (record,) = caplog.records
    assert "using the slower numpy backend (remedy: pip install numba)" in record.getMessage()


def test_a_checkout_that_was_not_installed_has_its_kernels(tmp_path: Path) -> None:
    # As `python` finds them that is started in a checkout, beside an installed gradnet or none.
    home = Path(gn.__file__).parent
    kernels = Path(importlib.import_module("gradnet.kernels").__file__ or "").parent
    (tmp_path / "gradnet").symlink_to(home)
    (tmp_path / "kernels").symlink_to(kernels)
    code = """if True:
        import sys
        sys.meta_path = [f for f in sys.meta_path if "editable" not in repr(f)]
        from gradnet import backends
        print(backends.unavailable("nothing"), backends.unavailable("cuda"), "gradnet.kernels")
        import gradnet.kernels
        print(gradnet.__file__, len(gradnet.__path__))
    """
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "No module named 'gradnet.kernels'" not in done.stdout
    assert done.stdout.splitlines()[1] == f"{tmp_path / 'gradnet' / '__init__.py'} 1"


def test_the_environment_chooses(nothing_chosen: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in backends.available():
        monkeypatch.setenv("GRADNET_BACKEND", name)
        assert backends.default().name == name
        with backends.use("numpy"):
            assert backends.default().name == "numpy"
    monkeypatch.setenv("GRADNET_BACKEND", "typo")
    with pytest.raises(DeviceError, match="there is no backend 'typo'"):
        gn.ones((2,))


def test_use_nests_and_belongs_to_a_thread() -> None:
    found: list[str] = []

    def other() -> None:
        found.append(backends.default().name)

    outside = backends.default().name
    with backends.use("numpy") as chosen:
        assert chosen is backends.get("numpy")
        for name in backends.available():
            with backends.use(backends.get(name)):
                assert gn.ones((2,)).backend.name == name
            assert backends.default().name == "numpy"
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert found == [outside]
    with pytest.raises(KeyError), backends.use("numpy"):
        raise KeyError
    assert backends.default().name == outside


def test_devices() -> None:
    assert backends.for_device(None) is backends.default()
    assert backends.for_device("cpu").device == "cpu"
    with backends.use("numpy"):
        assert backends.for_device("cpu").name == "numpy"
    for bad in ("gpu", "cuda:", "cuda:x", "cuda:1:2", ""):
        with pytest.raises(DeviceError, match="use 'cpu', 'cuda', 'cuda:N' or 'auto'"):
            backends.for_device(bad)
    if "cuda" not in backends.available():
        with pytest.raises(DeviceError, match=re.escape(backends.unavailable("cuda") or "?")):
            gn.ones((2,), device="cuda")


def test_device_info() -> None:
    info = {entry.name: entry for entry in gn.device_info()}
    assert set(info) == set(backends.names())
    assert info["numpy"].device == "cpu"
    assert info["numpy"].reason == ""
    for name in backends.names():
        assert bool(info[name].reason) == (name not in backends.available())


def test_the_same_numbers_in_a_process_without_numba() -> None:
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "import gradnet as gn\n"
        "x = gn.asarray([[0.5, -1.0]], requires_grad=True)\n"
        "gn.ops.linear(x, gn.ones((2, 3)), activation='gelu').sum().backward()\n"
        "print(x.backend.name, gn.backends.available(), x.grad.tolist())"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert run.stdout.startswith("numpy ('numpy',)")
    assert run.stderr.count("\n") == 1
    assert "pip install numba" in run.stderr


# The protocol: every primitive with and without `out`

F32, F64, I64, BOOL = dtypes.float32, dtypes.float64, dtypes.int64, dtypes.bool_
A = np.arange(12, dtype=np.float32).reshape(3, 4) / 8 - 0.6
B = np.cos(A)

PRIMITIVES: dict[str, tuple[Callable[..., Any], Any]] = {
    "full": (lambda b, out: b.full((2, 3), 2.5, F32, out=out), np.full((2, 3), 2.5, np.float32)),
    "cast": (lambda b, out: b.cast(A, F64, out=out), A.astype(np.float64)),
    "cast to int": (lambda b, out: b.cast(A * 9, I64, out=out), (A * 9).astype(np.int64)),
    "map": (lambda b, out: b.map(formulas.multiply, A, B, dtype=F32, out=out), A * B),
    "map scalar": (lambda b, out: b.map(formulas.add, A, 2, dtype=F32, out=out), A + 2),
    "map bool": (lambda b, out: b.map(formulas.less, A, B, dtype=BOOL, out=out), A < B),
    "map broadcast": (
        lambda b, out: b.map(formulas.subtract, A[:, :1], B[0], dtype=F32, out=out),
        A[:, :1] - B[0],
    ),
    "sum": (lambda b, out: b.reduce("sum", A, (1,), True, dtype=F32, out=out), A.sum(1)[:, None]),
    "prod": (lambda b, out: b.reduce("prod", A, (0,), False, dtype=F32, out=out), A.prod(0)),
    "max": (lambda b, out: b.reduce("max", A, (0, 1), False, dtype=F32, out=out), A.max()),
    "min": (lambda b, out: b.reduce("min", A, (1,), False, dtype=F32, out=out), A.min(1)),
    "any": (
        lambda b, out: b.reduce("any", A > 0, (1,), False, dtype=BOOL, out=out),
        (A > 0).any(1),
    ),
    "all": (
        lambda b, out: b.reduce("all", A > 0, (1,), False, dtype=BOOL, out=out),
        (A > 0).all(1),
    ),
    "argmax": (lambda b, out: b.argreduce("max", B, 1, out=out), B.argmax(1)),
    "scan": (lambda b, out: b.scan("sum", A, 1, out=out), A.cumsum(1, dtype=np.float32)),
    "scan max": (lambda b, out: b.scan("max", B, 0, out=out), np.maximum.accumulate(B, 0)),
    "sort": (lambda b, out: b.sort(B, 1, False, out=out), np.sort(B, 1)),
    "sort down": (lambda b, out: b.sort(B, 1, True, out=out), -np.sort(-B, 1)),
    "argsort": (lambda b, out: b.argsort(B, 0, False, out=out), np.argsort(B, 0)),
    "argsort down": (lambda b, out: b.argsort(B, 0, True, out=out), np.argsort(-B, 0)),
    "matmul": (lambda b, out: b.matmul(A, B.T, out=out), A @ B.T),
    "take": (lambda b, out: b.take(A, (np.array([2, 0]),), out=out), A[[2, 0]]),
    "take mask": (lambda b, out: b.take(A, (A > 0,), out=out), A[A > 0]),
    "concatenate": (lambda b, out: b.concatenate([A, B], 1, out=out), np.concatenate([A, B], 1)),
    "softmax": (
        lambda b, out: b.softmax(A, False, out=out),
        np.exp(A) / np.exp(A).sum(1, keepdims=True),
    ),
    "log softmax": (
        lambda b, out: b.softmax(A, True, out=out),
        A - np.log(np.exp(A).sum(1, keepdims=True)),
    ),
    "bias and activation": (
        lambda b, out: b.bias_activation(
            A.copy(), B[0], formulas.tanh, (), out=np.empty_like(A) if out is None else out
        ),
        np.tanh(A + B[0]),
    ),
    "bias and activation, backward": (
        lambda b, out: b.bias_activation_backward(
            A, B, formulas.tanh_dx, (), with_bias=False, out=out
        )[0],
        A * (1 - B * B),
    ),
}


class Given:
    """A backend whose primitives take arrays of NumPy, as arrays of its own."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            own = [self.own(value) for value in arguments]
            named = {key: self.own(value) for key, value in options.items()}
            return getattr(self.backend, name)(*own, **named)

        return call

    def own(self, value: Any) -> Any:
        if isinstance(value, tuple | list):
            return type(value)(map(self.own, value))
        there = isinstance(value, np.ndarray) and self.backend.device != "cpu"
        return self.backend.from_host(value, copy=True) if there else value


@pytest.mark.parametrize("name", PRIMITIVES)
def test_primitives_fill_out(name: str, backend: Backend) -> None:
    run, expected = PRIMITIVES[name]
    given, expected = Given(backend), np.asarray(expected)
    fresh = backend.to_host(run(given, None))
    assert fresh.dtype == expected.dtype
    assert fresh.shape == expected.shape
    np.testing.assert_allclose(fresh, expected, rtol=3e-6, atol=1e-6)
    out = backend.full(expected.shape, 77, expected.dtype)
    assert run(given, out) is out
    np.testing.assert_array_equal(backend.to_host(out), fresh)
    wide = backend.full((2, *expected.shape), 77, expected.dtype)
    run(given, backend.view(wide, (1, ...)))
    first, second = backend.to_host(wide)
    np.testing.assert_array_equal(second, fresh)
    assert (first == 77).all() or expected.dtype == bool


def test_maps_may_write_to_an_operand(backend: Backend) -> None:
    for formula in (formulas.multiply, formulas.maximum, formulas.logaddexp):
        x, y = (backend.from_host(values, copy=True) for values in (A, B))
        expected = backend.to_host(backend.map(formula, x, y, dtype=F32)).copy()
        assert backend.map(formula, x, y, dtype=F32, out=y) is y
        np.testing.assert_array_equal(backend.to_host(y), expected)


def test_updates_are_in_place(backend: Backend) -> None:
    arrays = tuple(
        backend.from_host(values, copy=True)
        for values in (A.ravel(), B.ravel(), np.ones(12, np.float32))
    )
    update = formulas.UPDATES["sgd_momentum"]
    backend.update(update.formula, arrays, (0.1, 0.9, 0.0))
    p, g, m = map(backend.to_host, arrays)
    np.testing.assert_allclose(m, 0.9 + B.ravel(), rtol=1e-6)
    np.testing.assert_allclose(p, A.ravel() - 0.1 * (0.9 + B.ravel()), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(g, B.ravel())


def test_views_share_memory(backend: Backend) -> None:
    x = backend.from_host(A, copy=True)
    views = [
        backend.reshape(x, (4, 3)),
        backend.permute(x, (1, 0)),
        backend.broadcast(x, (2, 3, 4)),
        backend.view(x, (slice(1), 2)),
        backend.view(x, (0, 0)),
        backend.bits(x, np.dtype(np.int32)),
    ]
    before = [backend.to_host(view).copy() for view in views]
    copied = backend.cast(x, F32)
    backend.put(x, (slice(None),), -77.0, add=False)
    for view, values in zip(views, before, strict=True):
        assert type(view) is type(x)
        assert not (backend.to_host(view) == values).any()
    np.testing.assert_array_equal(backend.to_host(copied), A)
    host = A.copy()
    assert not np.shares_memory(backend.to_host(backend.from_host(host, copy=True)), host)
    if backend.device == "cpu":
        shared = backend.from_host(host, copy=False)
        assert np.shares_memory(shared, host)
        assert np.shares_memory(backend.to_host(shared), host)


def test_primitives_leave_their_operands_alone(backend: Backend) -> None:
    before = A.copy(), B.copy()
    for name, (run, _) in PRIMITIVES.items():
        run(Given(backend), None)
        np.testing.assert_array_equal(A, before[0], err_msg=name)
        np.testing.assert_array_equal(B, before[1], err_msg=name)
    backend.synchronize()


def test_runs_repeat_to_the_bit(backend: Backend) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 257)).astype(np.float32)

    def step() -> list[bytes]:
        w = gn.asarray(x.T[:, :33].copy(), requires_grad=True)
        loss = gn.ops.softmax_cross_entropy(
            gn.ops.linear(gn.asarray(x), w, activation="gelu"),
            gn.asarray(np.arange(300) % 33),
            1.0,
            0.1,
        ).mean()
        loss.backward()
        return [t.numpy().tobytes() for t in (loss, w.grad, gn.sum(w, axis=0))]

    assert step() == step()


# Tensors beside another default


@pytest.fixture
def apart() -> gn.Tensor:
    """A tensor of one backend, where another is the default."""
    if len(backends.available()) < 2:
        pytest.skip("there is one backend only")
    name = next(name for name in backends.available() if name != backends.default().name)
    with backends.use(name):
        return gn.asarray([1.0, 2.0, 3.0])


STAYING: dict[str, Callable[[gn.Tensor], Any]] = {
    "a list": lambda x: x * [1.0, 2.0, 3.0],
    "an array": lambda x: np.ones(3, np.float32) - x,
    "a choice": lambda x: gn.where(True, x, 0.0),
    "an index": lambda x: x[gn.asarray([0, 1])],
    "a mask": lambda x: x[gn.asarray([True, False, True])],
    "take": lambda x: gn.take(x, [0, 1]),
    "take_along_axis": lambda x: gn.take_along_axis(x, gn.asarray([0, 1]), axis=0),
    "scatter_add": lambda x: gn.ops.scatter_add(x, [0, 1], [1.0, 2.0]),
    "top_k": lambda x: gn.ops.top_k(x, 2)[1],
    "argmax": lambda x: gn.argmax(x),
    "cumulative_sum": lambda x: gn.cumulative_sum(x, include_initial=True),
    "tril": lambda x: gn.tril(x[None] * x[:, None]),
    "diagonal": lambda x: gn.ops.diagonal(x[None] * x[:, None]),
    "einsum": lambda x: gn.ops.einsum("i,i->", x, [1.0, 2.0, 3.0]),
    "one_hot": lambda x: gn.ops.one_hot(x.astype(gn.int64), 5),
    "repeat": lambda x: gn.repeat(x, [1, 2, 3]),
    "concat": lambda x: gn.concat([[1.0], x]),
    "stack": lambda x: gn.stack([[1.0, 2.0, 3.0], x]),
    "broadcast_arrays": lambda x: gn.broadcast_arrays([[1.0], [2.0]], x)[0],
    "empty_like": lambda x: gn.empty_like(x),
    "full_like": lambda x: gn.full_like(x, 2),
    "grad": lambda x: gn.grad(lambda x: gn.prod(x) * gn.max(x))(x),
    "jacobian": lambda x: gn.jacobian(lambda x: x * x, forward=False)(x),
    "hessian": lambda x: gn.hessian(lambda x: (x**3).sum())(x),
    "vjp": lambda x: gn.vjp(lambda x: x * x, x)[1]([1.0, 1.0, 1.0]),
    "jvp": lambda x: gn.jvp(lambda x: x * x, x, [1.0, 1.0, 1.0])[1],
    "to its device": lambda x: x.to(x.device),
    "asarray on its device": lambda x: gn.asarray(x, device=x.device),
    "shuffle": lambda x: gn.random.shuffle(x),
    "softmax": lambda x: gn.ops.softmax(x, axis=0),
    "linear": lambda x: gn.ops.linear(x, np.ones((3, 2), np.float32), activation="gelu"),
}


@pytest.mark.parametrize("name", STAYING)
def test_what_a_tensor_makes_is_on_its_backend(name: str, apart: gn.Tensor) -> None:
    assert STAYING[name](apart).backend is apart.backend


def test_what_cannot_be_mixed(apart: gn.Tensor) -> None:
    other = gn.ones((3,))
    for mix in (
        lambda: apart + other,
        lambda: gn.concat([apart, other]),
        lambda: apart.__iadd__(other),
        lambda: apart.__setitem__(slice(3), other),
        lambda: gn.where(apart > 1, other, 0.0),
        lambda: gn.ops.linear(apart, other[:, None]),
    ):
        with pytest.raises(DeviceError, match=r"different devices.*gradnet\.backends\.use"):
            mix()
    assert apart.tolist() == [1, 2, 3]
    assert apart.assign_(other).backend is not other.backend


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_too_little_memory_is_told_by_the_shape_asked_for(name: str) -> None:
    with pytest.raises(MemoryError, match=r"shape \(1000000, 1000000000\) and data type float32"):
        gn.empty((10**6, 10**9), backend=backends.get(name))
