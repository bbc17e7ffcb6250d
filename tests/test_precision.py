"""Precision: what is rounded to it, and what stays in float32; gradients show it."""

from __future__ import annotations

import struct
import threading
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from precisions import HALVES, RNG, ROUNDOFF, B, G, W, X, leaves

import gradnet as gn
from gradnet import autodiff, nn, ops, precision
from gradnet.array_functions import round_to_tf32
from gradnet.backends import Backend
from gradnet.errors import DTypeError

# TF32


def exactly(bits: int) -> int:
    """The bits of a float32 rounded to 10 mantissa bits, by integers: sign, then magnitude."""
    sign, magnitude = bits & 0x80000000, bits & 0x7FFFFFFF
    if magnitude >= 0x7F800000:
        return bits
    # Of a float's magnitude, neighbours are consecutive integers; `round` takes ties to even.
    return sign | round(Fraction(magnitude, 1 << 13)) << 13


def test_rounding_to_tf32_is_exact() -> None:
    patterns = RNG.integers(0, 1 << 32, 3000, dtype=np.uint64).tolist()
    for base in (0x3F800000, 0x00000000, 0x7F7FE000, 0xC2F6E000, 0x00802000):
        patterns += [base + i for i in (0, 1, 0x0FFF, 0x1000, 0x1001, 0x1FFF, 0x2000, 0x3000)]
    patterns += [0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001]
    bits = np.array(patterns, np.uint32)
    with np.errstate(all="ignore"):
        found = round_to_tf32(bits.view(np.float32)).view(np.uint32)
    assert found.tolist() == [exactly(x) for x in bits.tolist()]
    one = struct.unpack("<f", struct.pack("<I", exactly(0x3F801000)))[0]
    assert one == 1.0  # halfway between 1 and 1 + 2**-10


def test_rounding_to_tf32_keeps_layouts() -> None:
    x = RNG.normal(size=(4, 6)).astype(np.float32)
    np.testing.assert_array_equal(round_to_tf32(x[::2].T), round_to_tf32(x)[::2].T)
    assert round_to_tf32(x).dtype == np.float32


def test_products_in_tf32(backend: Backend) -> None:
    if backend.device != "cpu":
        pytest.skip("the CPU's rounding; a GPU's products are in TF32 by themselves")
    a, b = (backend.from_host(x, copy=True) for x in (X, W))
    y = backend.to_host(backend.matmul(a, b, tf32=True))
    plain = backend.matmul(*(backend.from_host(round_to_tf32(x), copy=True) for x in (X, W)))
    np.testing.assert_array_equal(y, backend.to_host(plain))
    assert not np.array_equal(y, backend.to_host(backend.matmul(a, b)))
    for dtype in (gn.float64, gn.float16):
        wide = [backend.cast(x, dtype) for x in (a, b)]
        np.testing.assert_array_equal(
            backend.to_host(backend.matmul(*wide, tf32=True)),
            backend.to_host(backend.matmul(*wide)),
        )
    out = backend.empty((9, 4), gn.float32)
    assert backend.matmul(a, b, out=out, tf32=True) is out
    np.testing.assert_array_equal(backend.to_host(out), y)


@pytest.mark.parametrize("shapes", [((9, 6), (6, 4)), ((3, 9, 6), (6, 4)), ((2, 3, 6), (2, 6, 4))])
@pytest.mark.parametrize("name", HALVES)
def test_sums_of_16_bit_products_go_to_float32_unrounded(
    backend: Backend, name: str, shapes: Any
) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=shape).astype(HALVES[name]) for shape in shapes)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    out = backend.empty(exact.shape, gn.float32)
    given = [backend.from_host(x, copy=True) for x in (a, b)]
    assert backend.matmul(*given, out=out) is out
    np.testing.assert_allclose(backend.to_host(out), exact, rtol=1e-6, atol=1e-6)
    rounded = backend.to_host(backend.matmul(*given))
    assert rounded.dtype == HALVES[name]
    assert np.abs(rounded.astype(np.float64) - exact).max() > 1e-5


# Ops in a precision


def within(found: Any, exact: Any, bound: Any, rounded: bool) -> None:
    error = np.abs(found.numpy().astype(np.float64) - exact)
    assert found.dtype == gn.float32
    assert (error <= bound + 1e-5).all(), (error / (bound + 1e-30)).max()
    assert not rounded or error.max() > 1e-6


@pytest.mark.parametrize("name", ROUNDOFF)
@pytest.mark.parametrize("op", ["linear", "matmul"])
def test_gradients_are_within_the_unit_roundoff(backend: Backend, name: str, op: str) -> None:
    x, w, b = leaves(X, W, B)
    with precision.use(name):
        y = ops.linear(x, w, b) if op == "linear" else x @ w + b
    # The backward goes by the precision of the forward, where none is in use any more.
    y.backward(gn.asarray(G))
    X8, W8, G8 = (a.astype(np.float64) for a in (X, W, G))
    two = 2.01 * ROUNDOFF[name]  # both factors are rounded
    # A GPU's products may be in float32 where TF32 will do.
    rounded = name in HALVES or backend.device == "cpu"
    within(y.detach(), X8 @ W8 + B, two * (abs(X8) @ abs(W8)), rounded)
    within(w.grad, X8.T @ G8, two * (abs(X8).T @ abs(G8)), rounded)
    within(x.grad, G8 @ W8.T, two * (abs(G8) @ abs(W8).T), rounded)
    # The sum of the bias's gradients is no product.
    np.testing.assert_allclose(b.grad.numpy(), G8.sum(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ROUNDOFF)
def test_derivatives_of_derivatives(backend: Backend, name: str) -> None:
    def loss(w: gn.Tensor) -> gn.Tensor:
        with precision.use(None if w.dtype == gn.float64 else name):
            x = gn.asarray(X, dtype=w.dtype)
            return ops.sum(ops.square(ops.linear(x, w, activation="tanh")))

    wide = W.astype(np.float64)
    exact = autodiff.hvp(loss, gn.asarray(wide), gn.asarray(wide))
    found = autodiff.hvp(loss, gn.asarray(W), gn.asarray(W))
    scale = np.abs(exact.numpy()).max()
    np.testing.assert_allclose(found.numpy(), exact.numpy(), atol=30 * ROUNDOFF[name] * scale)
    _, slope = autodiff.jvp(loss, gn.asarray(W), gn.asarray(W))
    gradient = autodiff.grad(loss)(gn.asarray(W))
    assert float(slope) == pytest.approx(
        float(ops.sum(gradient * gn.asarray(W))), rel=30 * ROUNDOFF[name]
    )


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize(
    "shapes",
    [((6,), (6,)), ((6,), (6, 4)), ((9, 6), (6,)), ((2, 9, 6), (6, 4)), ((2, 3, 6), (2, 6, 4))],
)
def test_products_of_all_shapes(backend: Backend, name: str, shapes: Any) -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    x, y = leaves(a, b)
    with precision.use(name):
        z = x @ y
    ops.sum(z).backward()
    narrow = [v.astype(HALVES[name]).astype(np.float64) for v in (a, b)]
    np.testing.assert_allclose(z.numpy(), narrow[0] @ narrow[1], rtol=1e-5, atol=1e-5)
    assert x.grad.shape == a.shape
    assert y.grad.shape == b.shape


def test_linear_and_bfloat16_as_in_torch() -> None:
    torch = pytest.importorskip("torch")
    x, w, b = (torch.tensor(a, requires_grad=True) for a in (X, W.T.copy(), B))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = torch.nn.functional.linear(x, w, b)
    y.backward(torch.tensor(G).to(y.dtype))
    ours = leaves(X, W, B)
    with precision.use("bfloat16"):
        z = ops.linear(*ours)
    z.backward(gn.asarray(G))
    u = 2.0**-8
    # Theirs are rounded once more, to the dtype of the factors.
    for found, theirs in (
        (z.detach(), y.detach()),
        (ours[0].grad, x.grad),
        (ours[1].grad, w.grad.T),
    ):
        expected = theirs.float().numpy()
        np.testing.assert_allclose(found.numpy(), expected, rtol=1.01 * u, atol=4 * u)
        assert np.abs(found.numpy() - expected).mean() < u * np.abs(expected).mean()


# Where a precision holds


def test_a_precision_holds_within_its_block() -> None:
    assert precision.current() is None
    with precision.use("bfloat16"):
        assert precision.current() == "bfloat16"
        with precision.use("tf32"):
            assert precision.current() == "tf32"
            with precision.use("float32"):
                assert precision.current() is None
        seen: list[Any] = []
        thread = threading.Thread(target=lambda: seen.append(precision.current()))
        thread.start()
        thread.join()
        assert seen == [None]
        with pytest.raises(ZeroDivisionError), precision.use(gn.float16):
            raise ZeroDivisionError
        assert precision.current() == "bfloat16"
    assert precision.current() is None


def test_a_checkpoint_is_computed_again_in_its_precision(backend: Backend) -> None:
    found = []
    for wrap in (lambda f: f, gn.checkpoint):
        x, w = leaves(X, W)
        with precision.use("bfloat16"):
            y = wrap(lambda v, w=w: ops.linear(ops.tanh(v @ w), gn.ones((4, 2))))(x)
        ops.sum(y).backward()
        found.append(w.grad.numpy())
    np.testing.assert_array_equal(*found)


def test_a_recording_knows_the_precision_it_was_made_in(backend: Backend) -> None:
    model = nn.MLP((6, 5, 2), seed=0)
    x = gn.asarray(X)

    @gn.capture
    def forward(v: gn.Tensor) -> gn.Tensor:
        with gn.autodiff.no_grad():
            return model(v)

    def both(name: str | None) -> Any:
        with precision.use(name):
            np.testing.assert_array_equal(forward(x).numpy(), model(x).numpy())
            return forward(x).numpy()

    plain, narrow = both(None), both("bfloat16")
    assert not np.array_equal(plain, narrow)
    np.testing.assert_array_equal(both(None), plain)
    model.product_precision = "bfloat16"
    np.testing.assert_array_equal(both(None), narrow)
    np.testing.assert_array_equal(both("tf32"), narrow)  # the model's own goes first


BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: precision.use("fast"), ValueError, "precision must be one of float32, tf32"),
    (lambda: precision.use(gn.int8), ValueError, "not dtype"),
    (lambda: precision.use("float64"), ValueError, r"model\.to\('float64'\)"),
    (
        lambda: gn.ones((2, 2), dtype=gn.float64) @ gn.ones((2, 2), dtype=gn.float64),
        DTypeError,
        "matmul got float64 under precision 'bfloat16', which is for float32",
    ),
    (
        lambda: ops.linear(*(gn.ones((2, 2), dtype=gn.float16) for _ in "xw")),
        DTypeError,
        "linear got float16 under precision 'bfloat16'",
    ),
]


@pytest.mark.parametrize(("call", "error", "text"), BAD)
def test_errors(call: Any, error: type[Exception], text: str) -> None:
    with precision.use("bfloat16"), pytest.raises(error, match=text):
        call()


def test_other_dtypes_are_left_alone() -> None:
    with precision.use("bfloat16"):
        whole = gn.asarray([[2**20 + 1]]) @ gn.asarray([[3]])
        narrow = gn.ones((2, 2), dtype="bfloat16") @ gn.ones((2, 2), dtype="bfloat16")
        turned = gn.asarray([[1 + 2j]]) @ gn.asarray([[1 + 0j]])
    assert whole.item() == 3 * (2**20 + 1)
    assert narrow.dtype == gn.bfloat16
    assert turned.item() == 1 + 2j
