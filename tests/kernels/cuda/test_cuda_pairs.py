"""Programs whose products have epilogues."""

from __future__ import annotations

from collections import Counter
from typing import Any
from unittest import mock

import numpy as np
import pytest
from fakes.compare import F32
from fakes.cublaslt_over_numpy import Bindings, attach
from fakes.cupy_over_numpy import fake_backend
from gradnet.kernels.cuda_backend import CudaBackend
from gradnet.kernels.cuda_epilogues import paired

import gradnet as gn
from gradnet import backends, formulas, nn, optim
from gradnet.program import Call, Program, Storage, Value
from gradnet.program.plan import Layout
from gradnet.program.replay import Interpreted


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
        [("float32", code) for code in (4, 6, 134, 152, 164, 208, 256, 512)],
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
    # The first replay's products, as they are made and as they are captured; then no more. A bias
    # gradient in float32 comes with that of the weights where those of the layer have 16 bits.
    half = precision in ("bfloat16", "float16")
    wanted = [136, 256] * 2 if half else [152] * 2
    assert any(Counter(of_one) >= Counter([134, 134, *wanted] * 2) for of_one in made)
    assert made[-1] == made[-2] == []
    rtol = 1e-4 if precision == "float32" else 2e-2
    for x, y in zip(found, plain, strict=True):
        np.testing.assert_allclose(x, y, rtol, rtol / 10)
