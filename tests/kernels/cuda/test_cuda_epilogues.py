"""Layers whose products have epilogues, against float64 NumPy; programs with such products."""

from __future__ import annotations

from collections import Counter
from typing import Any
from unittest import mock

import numpy as np
import pytest
from fakes.compare import BF16, F16, F32, F64, normal
from fakes.cublaslt_over_numpy import Bindings, attach, close, wide
from fakes.cupy_over_numpy import fake_backend
from gradnet.kernels import cuda_products
from gradnet.kernels.cublaslt import epilogue, mask_row
from gradnet.kernels.cuda_backend import CudaBackend
from gradnet.kernels.cuda_epilogues import paired
from gradnet.kernels.cuda_products import Mask

import gradnet as gn
from gradnet import backends, formulas, nn, optim
from gradnet.numpy_backend import BACKEND as NUMPY
from gradnet.program import Call, Program, Storage, Value
from gradnet.program.plan import Layout
from gradnet.program.replay import Interpreted


@pytest.fixture
def lt(cuda: CudaBackend) -> Bindings:
    """The library of the backend under test."""
    return attach(cuda)


def operands(dtype: Any, n: int = 9, k: int = 6, m: int = 16) -> tuple[Any, Any, Any]:
    return normal(n, k, dtype=dtype), normal(k, m, dtype=dtype), normal(m, dtype=dtype)


def gelu(z: Any) -> Any:
    return 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))


def gelu_dx(z: Any) -> Any:
    u = np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)
    slope = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * z**2)
    return 0.5 * (1 + np.tanh(u)) + 0.5 * z * slope / np.cosh(u) ** 2


ALL = {"": 4, "relu": 134, "gelu": 164, "drelu": 152, "dgelu": 208, "sum_a": 512, "sum_b": 256}


@pytest.mark.parametrize("native", [True, False], ids=["epilogue", "in steps"])
@pytest.mark.parametrize("dtype", [F32, F64, F16, BF16], ids=str)
@pytest.mark.parametrize("width", [16, 13, 130])
def test_a_layer_forward_and_backward(
    cuda: CudaBackend, lt: Bindings, dtype: Any, width: int, native: bool
) -> None:
    if not native:
        lt.missing = {(dtype.name, code) for code in (*ALL.values(), 6)}
    x, w, bias = operands(dtype, m=width)
    v, g = normal(width, 5, dtype=dtype), normal(9, 5, dtype=dtype)
    dx, dw, dbias, dv, dg = (cuda.from_host(t, copy=True) for t in (x, w, bias, v, g))
    z = wide(x) @ wide(w) + wide(bias)
    close(cuda.to_host(cuda.product_epilogue(dx, dw, "", bias=dbias)), z)
    back = cuda.permute(dv, (1, 0))
    dz = wide(g) @ wide(v).T
    for turned in (False, True):
        weights = cuda.permute(cuda.from_host(w.T.copy(), copy=True), (1, 0)) if turned else dw
        mask = Mask()
        bits = cuda.full((9, mask_row(width)), 255, np.dtype(np.uint8))
        y = cuda.product_epilogue(dx, weights, "relu", bias=dbias, aux=bits, mask=mask)
        close(cuda.to_host(y), np.maximum(z, 0))
        assert mask.written is native
        sums = cuda.empty((width,), dtype)
        found = cuda.product_epilogue(dg, back, "drelu", dbias=sums, saved=y, aux=bits, mask=mask)
        positive = wide(cuda.to_host(y)) > 0
        close(cuda.to_host(found), dz * positive)
        close(
            cuda.to_host(sums), (wide(cuda.to_host(found)) if not native else dz * positive).sum(0)
        )
    if width % 8 == 0:
        saved, sums = cuda.empty((9, width), dtype), cuda.empty((width,), dtype)
        y = cuda.product_epilogue(dx, dw, "gelu", bias=dbias, aux=saved)
        close(cuda.to_host(saved), z)
        close(cuda.to_host(y), gelu(z))
        found = cuda.product_epilogue(dg, back, "dgelu", dbias=sums, saved=saved, aux=saved)
        rounded = dz * gelu_dx(wide(cuda.to_host(saved)))
        close(cuda.to_host(found), rounded)
        close(cuda.to_host(sums), rounded.sum(0))
        assert set(lt.epilogues) >= ({164, 208} if native else {1})
    for kind, left, right, sum_ in (
        ("sum_b", cuda.permute(dx, (1, 0)), dg, wide(g).sum(0)),
        ("sum_a", cuda.permute(dg, (1, 0)), dx, wide(g).sum(0)),
    ):
        sums = cuda.empty((5,), dtype)
        found = cuda.to_host(cuda.product_epilogue(left, right, kind, dbias=sums))
        close(found, wide(x).T @ wide(g) if kind == "sum_b" else wide(g).T @ wide(x))
        close(cuda.to_host(sums), sum_)
    assert ({4, 134, 152, 256, 512} <= set(lt.epilogues)) is native


def test_a_mask_that_was_not_written_is_not_read(cuda: CudaBackend, lt: Bindings) -> None:
    lt.missing = {("float32", 134)}
    x, w, bias = (cuda.from_host(t, copy=True) for t in operands(F32))
    g = cuda.from_host(normal(9, 4), copy=True)
    v = cuda.from_host(normal(4, 16), copy=True)
    mask, bits = Mask(), cuda.full((9, 16), 0, np.dtype(np.uint8))
    y = cuda.product_epilogue(x, w, "relu", bias=bias, aux=bits, mask=mask)
    assert lt.epilogues == [6]
    assert not mask.written
    dz = cuda.product_epilogue(g, v, "drelu", saved=y, aux=bits, mask=mask)
    expected = (wide(cuda.to_host(g)) @ wide(cuda.to_host(v))) * (cuda.to_host(y) > 0)
    close(cuda.to_host(dz), expected)
    assert lt.epilogues == [6, 1]


def test_without_bias_or_gradient(cuda: CudaBackend, lt: Bindings) -> None:
    x, w, _ = operands(F32)
    a, b = cuda.from_host(x, copy=True), cuda.from_host(w, copy=True)
    close(cuda.to_host(cuda.product_epilogue(a, b, "relu")), np.maximum(wide(x) @ wide(w), 0))
    close(cuda.to_host(cuda.product_epilogue(a, b, "gelu")), gelu(wide(x) @ wide(w)))
    saved = cuda.empty((9, 16), F32)
    cuda.product_epilogue(a, b, "gelu", aux=saved)
    cuda.product_epilogue(a, b, "dgelu", saved=saved, aux=saved)
    assert lt.epilogues == [2, 32, 160, 192]


def test_gradients_of_products_of_vectors_take_steps(cuda: CudaBackend, lt: Bindings) -> None:
    g, v = (cuda.from_host(normal(*shape), copy=True) for shape in ((9, 1), (1, 16)))
    sums = cuda.empty((16,), F32)
    cuda.product_epilogue(g, v, "sum_b", dbias=sums)
    np.testing.assert_array_equal(cuda.to_host(sums), cuda.to_host(v)[0])
    assert lt.epilogues == [1]


def test_gelu_is_the_one_by_tanh() -> None:
    assert cuda_products.ACTIVATIONS["gelu"] is formulas.gelu_tanh
    assert cuda_products.DERIVATIVES["dgelu"] is formulas.gelu_tanh_dx
    z = np.linspace(-6, 6, 101)
    inner = np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)
    ours = NUMPY.map(formulas.gelu_tanh, z, dtype=F64)
    np.testing.assert_allclose(ours, 0.5 * z * (1 + np.tanh(inner)), 1e-12, 1e-14)
    assert np.abs(NUMPY.map(formulas.gelu, z, dtype=F64) - ours).max() > 1e-4


def test_numbers_of_epilogues() -> None:
    assert {kind: epilogue(kind, True, kind in ("relu", "gelu")) for kind in ALL} == ALL
    assert (epilogue("", False, False), epilogue("drelu", False, True)) == (1, 136)
    assert [mask_row(m) for m in (1, 128, 129)] == [16, 16, 32]


# Programs


def trained(
    activation: str,
    *,
    pairing: bool,
    missing: Any = (),
    widths: Any = (6, 16, 8, 3),
    steps: int = 3,
) -> tuple[list[Any], Bindings, Any]:
    """The weights after some captured steps, the products made, and the program of a step."""
    cuda = fake_backend()
    lt = attach(cuda)
    lt.missing = set(missing)
    programs: list[Any] = []

    def compiled(_: Any, program: Any) -> Any:
        programs.append(paired(program) if pairing else program)
        return Interpreted(cuda, programs[-1])

    with backends.use(cuda), mock.patch.object(CudaBackend, "compile", compiled):
        model = nn.MLP(widths, activation=activation, output="softmax", seed=0)
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        @gn.capture
        def step(x: Any, y: Any) -> Any:
            loss = model.output.loss(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss

        rng = np.random.default_rng(3)
        for _ in range(3):
            lt.epilogues.clear()
            x = gn.asarray(rng.standard_normal((12, widths[0])).astype(np.float32))
            step(x, gn.asarray(rng.integers(0, widths[-1], 12)))
    return [p.numpy() for p in model.parameters()], lt, programs[-1]


PAIRS = {
    "relu": [134, 134, 4, 256, 152, 152],
    "gelu_tanh": [164, 164, 4, 256, 208, 208],
    "gelu": [4, 256],
    "tanh": [4, 256],
}


@pytest.mark.parametrize("activation", PAIRS)
def test_a_training_step_in_pairs(activation: str) -> None:
    plain, _, before = trained(activation, pairing=False)
    found, lt, after = trained(activation, pairing=True)
    assert Counter(e for e in lt.epilogues if e != 1) == Counter(PAIRS[activation])
    assert len(after.calls) == len(before.calls) - len(PAIRS[activation])
    for x, y in zip(found, plain, strict=True):
        np.testing.assert_allclose(x, y, 1e-4, 1e-5)


@pytest.mark.parametrize(
    "missing",
    [
        [("float32", 134)],
        [("float32", 152)],
        [("float32", 134), ("float32", 6)],
        [("float32", code) for code in (*ALL.values(), 6)],
    ],
    ids=["no mask", "no gradient", "no relu", "none"],
)
def test_what_the_library_lacks_takes_steps(missing: Any) -> None:
    plain, _, _ = trained("relu", pairing=False)
    found, lt, _ = trained("relu", pairing=True, missing=missing)
    codes = {code for _, code in missing}
    assert not codes & set(lt.epilogues)
    assert 152 not in lt.epilogues or 134 in lt.epilogues
    for x, y in zip(found, plain, strict=True):
        np.testing.assert_allclose(x, y, 1e-4, 1e-5)


def test_widths_that_gelu_cannot_store() -> None:
    plain, _, _ = trained("gelu_tanh", pairing=False, widths=(6, 7, 3))
    found, lt, _ = trained("gelu_tanh", pairing=True, widths=(6, 7, 3))
    assert set(lt.epilogues) == {1, 4, 256}
    for x, y in zip(found, plain, strict=True):
        np.testing.assert_allclose(x, y, 1e-4, 1e-5)


class Places:
    """Values for the calls of a program written down."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def place(self, *shape: int, kind: str = "temporary") -> Value:
        size = 4 * int(np.prod(shape))
        strides = tuple(4 * int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
        return Value(Storage(kind, size, None), 0, shape, strides, F32)

    def given(self, *shape: int) -> Value:
        return self.place(*shape, kind="external")

    def call(self, method: str, args: Any, outs: Any, **options: Any) -> None:
        self.calls.append(Call(method, args, options, outs, tuple(v for v in outs if v)))

    def layer(self, y: Value, x: Value, w: Value, b: Value, formula: Any = formulas.relu) -> None:
        self.call("matmul", (x, w), (y,))
        self.call("bias_activation", (y, b, formula, ()), (y,), out=y)

    def backward(self, dz: Value, g: Value, w: Value, saved: Value) -> None:
        product = self.place(*dz.shape)
        self.call("matmul", (g, w), (product,))
        formula = formulas.relu_dx
        self.call(
            "bias_activation_backward", (product, saved, formula, ()), (dz, None), with_bias=False
        )

    def methods(self) -> list[str]:
        program = paired(Program(self.calls, []))
        return [
            call.args[2]
            if len(call.args) > 2 and call.method == "product_epilogue"
            else call.method
            for call in program.calls
        ]


def test_what_stands_between_forbids_a_pair() -> None:
    p = Places()
    x, w, b = (
        p.given(4, 5),
        p.given(5, 8),
        p.given(8),
    )
    y, other = p.place(4, 8), p.place(5, 8)
    p.layer(y, x, w, b)
    assert p.methods() == ["relu"]
    product, bias = p.calls
    # The product's own operand changes, or its result is read, before the bias.
    changed = Call("full", ((5, 8), 0.0, F32), {"out": w}, (w,), (w,))
    read = Call("cast", (y, F32), {}, (p.place(4, 8),), ())
    elsewhere = Call("full", ((5, 8), 0.0, F32), {"out": other}, (other,), (other,))
    for between, pairs in ((changed, False), (read, False), (elsewhere, True)):
        p.calls = [product, between, bias]
        assert ("relu" in p.methods()) is pairs
    # A result that lies on an operand, which cublasLt would still be reading.
    q = Places()
    square = q.given(8, 8)
    z = q.place(8, 8)
    q.call("matmul", (square, square), (z,))
    q.call("bias_activation", (z, b, formulas.relu, ()), (square,), out=square)
    assert q.methods() == ["matmul", "bias_activation"]


def test_a_mask_stands_for_an_activation_only_while_it_is_the_same() -> None:
    p = Places()
    x, w, b = (
        p.given(4, 5),
        p.given(5, 8),
        p.given(8),
    )
    v, g = p.given(6, 8), p.given(4, 6)
    y, dz = p.place(4, 8), p.given(4, 8)
    p.layer(y, x, w, b)
    forward = list(p.calls)
    p.backward(dz, g, v, y)
    backward = p.calls[2:]
    assert p.methods() == ["relu", "drelu"]
    first, second = paired(Program(p.calls, [])).calls
    mask = first.kwargs["aux"]
    assert (mask.shape, mask.dtype) == ((4, 16), np.uint8)
    assert second.kwargs["aux"] == mask
    assert second.kwargs["mask"] is first.kwargs["mask"]
    assert mask in first.writes
    assert mask in second.reads
    assert Layout([first, second]).offsets.keys() == {y.storage, mask.storage}
    changed = Call("full", ((4, 8), 1.0, F32), {"out": y}, (y,), (y,))
    p.calls = [*forward, changed, *backward]
    assert p.methods() == ["relu", "full", "matmul", "bias_activation_backward"]
    assert "aux" not in paired(Program(p.calls, [])).calls[0].kwargs
    p.calls = backward
    assert p.methods() == ["matmul", "bias_activation_backward"]


def test_sums_move_over_nothing_that_they_touch() -> None:
    p = Places()
    x, g = p.given(4, 5), p.given(4, 6)
    turned = Value(x.storage, 0, (5, 4), (4, 20), F32)
    dw, db = p.given(5, 6), p.given(6)
    reduce = Call("reduce", ("sum", g, (0,), False), {"dtype": F32}, (db,), (db,))
    product = Call("matmul", (turned, g), {}, (dw,), (dw,))
    read = Call("cast", (db, F32), {}, (p.place(6),), ())
    changed = Call("full", ((4, 6), 0.0, F32), {"out": g}, (g,), (g,))
    for calls, expected in (
        ([reduce, product], ["sum_b"]),
        ([product, reduce], ["sum_b"]),
        ([product, read, reduce], ["cast", "sum_b"]),
        ([reduce, read, product], ["reduce", "cast", "matmul"]),
        ([reduce, changed, product], ["reduce", "full", "matmul"]),
    ):
        p.calls = calls
        assert p.methods() == expected
    back = Value(g.storage, 0, (6, 4), (4, 24), F32)
    p.calls = [
        reduce,
        Call("matmul", (back, x), {"tf32": True}, (p.given(6, 5),), ()),
    ]
    assert p.methods() == ["sum_a"]
    assert paired(Program(p.calls, [])).calls[0].kwargs["tf32"] is True


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16", "float16"])
def test_a_graph_has_its_products(precision: str) -> None:
    def run(capture: Any) -> tuple[list[Any], list[list[int]]]:
        cuda, made = fake_backend(), []
        lt = attach(cuda)
        with backends.use(cuda):
            model = nn.MLP((6, 16, 8, 3), output="softmax", seed=0, precision=precision)
            optimizer = optim.Adam(model.parameters(), lr=0.01)

            def step(x: Any, y: Any) -> Any:
                loss = model.output.loss(model(x), y)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                return loss

            taken = capture(step)
            rng = np.random.default_rng(3)
            for _ in range(5):
                lt.epilogues.clear()
                x = gn.asarray(rng.standard_normal((12, 6)).astype(np.float32))
                taken(x, gn.asarray(rng.integers(0, 3, 12)))
                made.append(list(lt.epilogues))
        return [p.numpy() for p in model.parameters()], made

    plain, _ = run(lambda step: step)
    found, made = run(gn.capture)
    # The first replay's products, as they are made and as they are captured; then no more.
    assert any(Counter(of_one) >= Counter([134, 134, 152, 152] * 2) for of_one in made)
    assert made[-1] == made[-2] == []
    rtol = 1e-4 if precision == "float32" else 2e-2
    for x, y in zip(found, plain, strict=True):
        np.testing.assert_allclose(x, y, rtol, rtol / 10)
