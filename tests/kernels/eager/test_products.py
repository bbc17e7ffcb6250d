"""Products, parameters and small networks in machine code: as in Python, to the bit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from eager_ops import holds_nothing

import gradnet as gn
from gradnet import backends, precision, walk
from gradnet.errors import GraphError, ShapeError
from gradnet.ops import multilinear
from gradnet.ops import quick as eager
from gradnet.tensor import Tensor

pytest.importorskip("numba")

from gradnet.kernels import numpy_loops
from gradnet.kernels.eager import ways

backends.get("numba")
if eager._code() is None:
    pytest.skip("this interpreter has its objects otherwise", allow_module_level=True)

FLOATS = [np.float32, np.float64]
IDS = ["float32", "float64"]
# n, k and m: ours, NumPy's, with one row or column, of one product, deep, and too large.
SIZES = (
    *((4, 4, 4), (5, 7, 9), (16, 1, 16), (31, 33, 30), (64, 64, 64), (70, 65, 80), (4, 900, 5)),
    *((3, 7, 9), (9, 7, 3), (1, 40, 9), (9, 40, 1), (1, 40, 1), (2, 1, 3), (1, 1, 1), (2, 5000, 2)),
    *((128, 20, 128), (4, 0, 4), (0, 3, 4), (4, 3, 0)),
)


def values(*shape: int, dtype: Any, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def layouts(n: int, m: int, dtype: Any, seed: int) -> Iterator[np.ndarray[Any, Any]]:
    """A matrix by rows, by columns, as a part of a larger one, and turned over."""
    x = values(n, m, dtype=dtype, seed=seed)
    yield x
    yield np.asfortranarray(x)
    larger = np.zeros((n + 1, m + 2), dtype)
    larger[1:, 1:-1] = x
    yield larger[1:, 1:-1]
    yield x[::-1, ::-1]


def both_ways(f: Callable[[], Any]) -> tuple[Any, Any]:
    """What a function gives in Python, and the third time in machine code."""
    eager.remove()
    expected = f()
    assert eager.install()
    f()
    f()
    return expected, f()


def bits(xs: Any) -> list[Any]:
    found = [np.asarray(x.detach().numpy()) for x in xs]
    return [(x.dtype, x.shape, x.tobytes()) for x in found]


def assert_same(f: Callable[[], Any]) -> None:
    expected, found = both_ways(lambda: bits(f()))
    assert found == expected


def gradients(f: Callable[..., Tensor], *xs: Tensor) -> list[Tensor]:
    """A value, and the gradient of its sum in every leaf."""
    y = f(*xs)
    found = [y]
    gn.sum(y * 2.0).backward()
    for x in xs:
        if x.grad is not None:
            found.append(x.grad)
            x.grad = None
    return found


@pytest.mark.parametrize("dtype", FLOATS, ids=IDS)
def test_products_give_the_bits_of_python(dtype: Any) -> None:
    pairs = [
        (gn.asarray(a), gn.asarray(b))
        for n, k, m in SIZES
        for a, b in product(layouts(n, k, dtype, 0), layouts(k, m, dtype, 1))
    ]
    for n in (0, 1, 2, 31, 32, 1000, 9000, 20_000):
        x, y = (gn.asarray(values(n, dtype=dtype, seed=seed)) for seed in (0, 1))
        pairs += [(x, y), (x, x), (x[::2], y[::2]), (gn.flip(x), y)]
    x = gn.asarray(values(3, 50, dtype=dtype))
    pairs += [(x, x.T), (x.T, x), (gn.broadcast_to(x[:1], (6, 50)), x.T)]
    assert_same(lambda: [a @ b for a, b in pairs])
    assert all(type((a @ b).array) is np.ndarray for a, b in pairs)


@pytest.mark.parametrize("dtype", FLOATS, ids=IDS)
def test_gradients_of_products_are_those_of_python(dtype: Any) -> None:
    def run() -> list[Tensor]:
        found = []
        for n, k, m in SIZES:
            for a, b in product(layouts(n, k, dtype, 0), layouts(k, m, dtype, 1)):
                x, w = (gn.asarray(z, requires_grad=True) for z in (a, b))
                found += gradients(lambda x, w: x @ w, x, w)
                found += gradients(lambda x, w: gn.tanh(x.detach() @ w), x, w)
                found += gradients(lambda x, w: x @ w.detach(), x, w)
        x = gn.asarray(values(9, dtype=dtype), requires_grad=True)
        w = gn.asarray(values(9, 5, dtype=dtype), requires_grad=True)
        found += gradients(lambda x, w: x @ x * 2.0, x, w)
        found += gradients(lambda x, w: x @ w, x, w)
        found += gradients(lambda x, w: w.T @ w, x, w)
        return found

    assert_same(run)


def network(rows: int, dtype: Any) -> list[Any]:
    """Rows, targets, and the parameters of a small network."""
    shapes = ((rows, 8), (rows, 4), (8, 16), (16,), (16, 4), (4,))
    arrays = [values(*shape, dtype=dtype, seed=i) for i, shape in enumerate(shapes)]
    return [*map(gn.asarray, arrays[:2]), *map(gn.nn.Parameter, arrays[2:])]


def loss(x: Tensor, t: Tensor, *parameters: Tensor) -> Tensor:
    w1, b1, w2, b2 = parameters
    d = (gn.tanh(x @ w1 + b1) @ w2 + b2) - t
    return gn.sum(d * d)


@pytest.mark.parametrize("dtype", FLOATS, ids=IDS)
@pytest.mark.parametrize("rows", [1, 2, 16, 128, 129, 600])
def test_networks_of_parameters_learn_as_in_python(rows: int, dtype: Any) -> None:
    def run() -> list[Any]:
        x, t, *parameters = network(rows, dtype)
        y = loss(x, t, *parameters)
        y.backward()
        assert type(y) is type(x @ parameters[0]) is Tensor
        return [y, *[p.grad for p in parameters]]

    assert_same(run)


def test_parameters_are_walked_in_machine_code(quick: None) -> None:
    x, t, *parameters = network(16, np.float32)
    assert walk.whole is not None
    for _ in range(3):  # once for each formula to be known
        assert walk.whole(loss(x, t, *parameters), False) is True
        for p in parameters:
            assert type(p.grad) is Tensor
            assert p.grad.shape == p.shape
            assert not p.grad.requires_grad
            p.grad = None


def test_products_are_refused_and_kept_as_in_python(quick: None) -> None:
    x = gn.asarray(values(5, 6, dtype=np.float32), requires_grad=True)
    w = gn.asarray(values(6, 4, dtype=np.float32), requires_grad=True)
    y = gn.tanh(x @ w)
    y.backward(gn.ones((5, 4)), retain_graph=True)
    first = x.grad
    y.backward(gn.ones((5, 4)))
    assert first is not None
    assert bits([x.grad]) == bits([first + first])
    with pytest.raises(GraphError, match="was freed by an earlier backward"):
        y.backward(gn.ones((5, 4)))
    for wrong in (lambda: x @ w.T, lambda: x @ w[0], lambda: x @ 2.0, lambda: x @ gn.ones((3, 4))):
        with pytest.raises((ShapeError, TypeError)):
            wrong()
    y = gn.sum(x @ w * 2.0)
    w.detach().assign_(0.0)
    with pytest.raises(GraphError, match="was changed in place"):
        y.backward()
    h = gn.exp(w)
    part = h[:5]
    h += 1.0
    with pytest.raises(GraphError, match="changed in place through another tensor"):
        part @ x.T[:4]
    with gn.no_grad():
        assert not (x @ w).requires_grad
    node = (x @ w).node
    assert node is not None
    assert (node[0].op, node[0].parameters, node[0].outputs) == (multilinear.MATMUL, {}, (None,))


def test_derivatives_of_gradients_and_roundings_are_as_in_python() -> None:
    a, b = values(5, 6, dtype=np.float32), values(6, 4, dtype=np.float32, seed=1)

    def run() -> list[Any]:
        x, w = gn.asarray(a, requires_grad=True), gn.asarray(b, requires_grad=True)
        gn.sum(gn.tanh(x @ w)).backward(create_graph=True)
        g, x.grad = x.grad, None
        assert g is not None
        gn.sum(g * g).backward()
        found = [g, x.grad, *gn.jvp(lambda z: z @ w, (x.detach(),), (x.detach(),))]
        with precision.use("bfloat16"):
            y = x.detach() @ w
        gn.sum(y * 2.0).backward()
        return [*found, y, w.grad]

    assert_same(run)


def test_nothing_is_held_or_let_go_that_should_not(quick: None) -> None:
    x, t, *parameters = network(16, np.float32)
    row, tall = gn.asarray(values(9, dtype=np.float32)), gn.asarray(values(2, 9, dtype=np.float32))
    wide = gn.asarray(values(70, 70, dtype=np.float32), requires_grad=True)
    odd = wide.detach()[::3, ::3]

    home = eager._known()[eager._code().known.index("HOME")]

    def turn() -> None:
        loss(x, t, *parameters).backward()
        gn.sum(wide @ wide * 2.0).backward()
        for p in (*parameters, wide):
            p.grad = None
        _ = row @ row, tall @ tall.T, tall.T @ tall, odd @ odd, row[::2] @ row[::2]
        for wrong in (lambda: x @ tall, lambda: row @ t, lambda: tall @ wide):
            with pytest.raises(ShapeError):
                wrong()

    objects = (
        *(x, t, *parameters, row, tall, wide, odd, x.array, wide.array, x.backend, None, True, 0),
        *(multilinear.MATMUL, multilinear.DOT, *eager._known(), *home, x.dtype),
        *(p.node for p in parameters),
    )
    for _ in range(80):
        turn()
    holds_nothing(turn, objects)


def test_many_shapes_take_the_place_of_others(quick: None) -> None:
    for n in range(4, 40):
        for m in range(4, 24):
            a = values(n, 3, dtype=np.float32)
            b = values(3, m, dtype=np.float32)
            found = (gn.asarray(a) @ gn.asarray(b)).numpy()
            np.testing.assert_allclose(found, a @ b, rtol=1e-4, atol=1e-5)
    assert ways.PLACES < 36 * 20


def test_threads_multiply_at_once(quick: None) -> None:
    sizes = [(n, n) for n in (5, 40, 64, 70)]
    factors = [gn.asarray(values(*size, dtype=np.float32), requires_grad=True) for size in sizes]
    expected = [bits(gradients(lambda z: z @ z, x)) for x in factors]
    wrong: list[Any] = []

    def compute(number: int) -> None:
        for turn in range(12):
            i = (number + turn) % len(factors)
            x = factors[i].detach().requires_grad_()
            if bits(gradients(lambda z: z @ z, x)) != expected[i]:
                wrong.append(sizes[i])

    threads = [threading.Thread(target=compute, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_without_numpys_loop_python_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ways.numpys(gn.float32) is not None
    monkeypatch.setattr(numpy_loops, "loop", lambda *told: None)
    assert ways.numpys(gn.float32) is None
