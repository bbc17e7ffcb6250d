"""Tensor: what it says of itself, operators, comparison, NumPy's protocols, copies and pickles."""

from __future__ import annotations

import copy
import operator
import pickle
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.backends import Backend
from gradnet.errors import DTypeError, GraphError, ShapeError

pytestmark = pytest.mark.usefixtures("backend")


def array(*values: Any, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.array(values, dtype)


# What it is


def test_properties(backend: Backend) -> None:
    x = gn.zeros((2, 3, 4), dtype=gn.float64)
    assert x.shape == (2, 3, 4)
    assert x.dtype == np.float64
    assert (x.ndim, x.size, x.itemsize, x.nbytes) == (3, 24, 8, 192)
    assert x.device == backend.device
    assert x.backend is backend
    assert len(x) == 2
    assert not x.requires_grad
    assert x.grad is None
    assert x.is_leaf
    scalar = gn.asarray(2.0)
    assert scalar.shape == ()
    assert scalar.ndim == 0
    assert scalar.size == 1


def test_transposes() -> None:
    x = gn.asarray(np.arange(24.0).reshape(2, 3, 4))
    np.testing.assert_array_equal(x[0].T.numpy(), x.numpy()[0].T)
    np.testing.assert_array_equal(x.mT.numpy(), np.swapaxes(x.numpy(), 1, 2))
    for mine, theirs in ((x.transpose(), x.numpy().T), (x.transpose(1, 0, 2), None)):
        expected = x.numpy().transpose(1, 0, 2) if theirs is None else theirs
        np.testing.assert_array_equal(mine.numpy(), expected)
    np.testing.assert_array_equal(x.transpose((2, 0, 1)).numpy(), x.numpy().transpose(2, 0, 1))
    with pytest.raises(ShapeError, match="T is for matrices"):
        x.T  # noqa: B018


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (lambda: gn.asarray([1.0, 2.5]), "Tensor([1. , 2.5])"),
        (lambda: gn.asarray([1, 2]), "Tensor([1, 2], dtype=int64)"),
        (lambda: gn.asarray([1.0], requires_grad=True), "Tensor([1.], requires_grad=True)"),
        (lambda: gn.asarray([1.0], requires_grad=True) * 2, "Tensor([2.], op=multiply)"),
        (lambda: gn.zeros((0, 2)), "Tensor([], dtype"),
        (lambda: gn.asarray(1.5), "Tensor(1.5)"),
    ],
)
def test_repr(x: Any, text: str) -> None:
    assert repr(x()).startswith(text[:9])
    if "shape" not in text and x().size:
        assert repr(x()) == placed(text)


def placed(text: str) -> str:
    """The text of a tensor on the device under test, from that of one on the CPU."""
    device = gn.ones(()).device
    if device == "cpu":
        return text
    values, comma, rest = text[:-1].partition(", requires_grad" if "grad" in text else ", op")
    return f"{values}, device={device!r}{comma}{rest})"


def test_format() -> None:
    x = gn.asarray(1.2345)
    assert f"{x:.2f}" == "1.23"
    assert f"{gn.asarray([[3.0]]):.1f}" == "3.0"
    assert f"{x}" == str(x)
    assert format(gn.asarray([1.0, 2.0])) == placed("Tensor([1., 2.])")


# Operators

BINARY = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@pytest.mark.parametrize("sign", BINARY)
@pytest.mark.parametrize("kind", ["tensor", "scalar", "numpy", "list", "float16"])
def test_binary_operators(sign: str, kind: str) -> None:
    do = BINARY[sign]
    a, b = array(1.5, -2.0, 3.0), array(2.0, -2.0, 0.5)
    other: Any = {
        "tensor": gn.asarray(b),
        "scalar": 2.0,
        "numpy": b,
        "list": b.tolist(),
        "float16": gn.asarray(b.astype(np.float16)),
    }[kind]
    host = 2.0 if kind == "scalar" else b
    with np.errstate(invalid="ignore"):
        for found, expected in (
            (do(gn.asarray(a), other), do(a, host)),
            (do(other, gn.asarray(a)), do(np.asarray(host), a)),
        ):
            assert isinstance(found, gn.Tensor)
            assert found.dtype == (bool if sign in ("==", "!=", "<", "<=", ">", ">=") else a.dtype)
            np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_integer_operators() -> None:
    a, b = array(7, -7, 12, dtype=np.int64), array(2, 2, 5, dtype=np.int64)
    for do in (operator.and_, operator.or_, operator.xor, operator.lshift, operator.rshift):
        np.testing.assert_array_equal(do(gn.asarray(a), gn.asarray(b)).numpy(), do(a, b))
        np.testing.assert_array_equal(do(gn.asarray(a), 3).numpy(), do(a, 3))
        np.testing.assert_array_equal(do(3, gn.asarray(b)).numpy(), do(3, b))
    for do in (operator.floordiv, operator.mod):
        np.testing.assert_array_equal(do(gn.asarray(a), gn.asarray(b)).numpy(), do(a, b))
    true = gn.asarray(a) / gn.asarray(b)
    assert true.dtype == gn.float32
    np.testing.assert_allclose(true.numpy(), (a / b).astype(np.float32))
    np.testing.assert_array_equal((~gn.asarray(a)).numpy(), ~a)


def test_unary_operators() -> None:
    x = array(-1.5, 0.0, 2.0)
    np.testing.assert_array_equal((-gn.asarray(x)).numpy(), -x)
    np.testing.assert_array_equal((+gn.asarray(x)).numpy(), x)
    np.testing.assert_array_equal(abs(gn.asarray(x)).numpy(), abs(x))
    assert +gn.asarray(x) is not gn.asarray(x)


def test_matmul_operator() -> None:
    a, b = np.ones((2, 3)), np.arange(12.0).reshape(3, 4)
    x, y = gn.asarray(a), gn.asarray(b)
    for found in (x @ y, x @ b, a @ y, a.tolist() @ y, x @ b.tolist()):
        assert isinstance(found, gn.Tensor)
        np.testing.assert_array_equal(found.numpy(), a @ b)


@pytest.mark.parametrize(
    "values", [[1.0, np.nan], [np.inf, -np.inf], [np.nan, np.nan], [-0.0, 0.0]]
)
def test_comparison_with_what_has_no_order(values: list[float]) -> None:
    a, b = array(*values), array(*values[::-1])
    for sign in ("==", "!=", "<", "<=", ">", ">="):
        found = BINARY[sign](gn.asarray(a), gn.asarray(b))
        np.testing.assert_array_equal(found.numpy(), BINARY[sign](a, b))


def test_shapes_that_do_not_broadcast() -> None:
    with pytest.raises(ShapeError, match=r"add got shapes \(2, 3\) and \(2,\), which do not"):
        gn.ones((2, 3)) + gn.ones((2,))


# Scalars and sequences


def test_conversions_to_python() -> None:
    assert float(gn.asarray([[2.5]])) == 2.5
    assert int(gn.asarray(3)) == 3
    assert complex(gn.asarray(1.0)) == 1
    assert bool(gn.asarray([True]))
    assert not gn.asarray(0.0)
    assert [10, 20, 30][gn.asarray(1)] == 20
    assert gn.asarray([1.5, 2.5]).tolist() == [1.5, 2.5]
    assert gn.asarray([[4]]).item() == 4
    assert type(gn.asarray(1.5).item()) is float
    assert list(range(5))[gn.asarray(1) : gn.asarray(3)] == [1, 2]


@pytest.mark.parametrize("convert", [float, int, complex, bool])
def test_several_elements_have_no_one_value(convert: Any) -> None:
    with pytest.raises(ShapeError, match=r"shape \(2,\) has no single"):
        convert(gn.ones((2,)))
    with pytest.raises(ShapeError):
        convert(gn.ones((0,)))


def test_truth_of_several_elements_says_what_to_use() -> None:
    with pytest.raises(ShapeError, match=r"use \.any\(\) or \.all\(\)"):
        bool(gn.ones((2,)) == 1)
    with pytest.raises(ShapeError, match="item"):
        gn.ones((2,)).item()
    with pytest.raises(TypeError, match="float32 tensor cannot be an index"):
        [1, 2][gn.asarray(1.0)]


def test_iteration() -> None:
    x = gn.asarray([[1.0, 2.0], [3.0, 4.0]])
    rows = list(x)
    assert [row.tolist() for row in rows] == [[1, 2], [3, 4]]
    first, second = x
    assert first.tolist() == [1, 2]
    assert second.tolist() == [3, 4]
    with pytest.raises(TypeError, match="0-d tensor cannot be iterated"):
        iter(gn.asarray(1.0))
    with pytest.raises(TypeError, match="0-d tensor has no length"):
        len(gn.asarray(1.0))


def test_tensors_are_keys_by_identity() -> None:
    x, y = gn.ones((2,)), gn.ones((2,))
    assert {x: 1, y: 2}[x] == 1
    assert hash(x) != hash(y)


# Methods


def test_methods_are_the_functions() -> None:
    a = np.random.default_rng(0).standard_normal((3, 4))
    x = gn.asarray(a)
    expected = {
        "sum": a.sum(1),
        "prod": a.prod(1),
        "mean": a.mean(1),
        "var": a.var(1),
        "std": a.std(1),
        "max": a.max(1),
        "min": a.min(1),
        "any": a.any(1),
        "all": a.all(1),
        "argmax": a.argmax(1),
        "argmin": a.argmin(1),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(x, name)(axis=1).numpy(), values)
        kept = getattr(x, name)(axis=1, keepdims=True)
        np.testing.assert_allclose(kept.numpy(), values[:, None])
    np.testing.assert_allclose(x.cumsum(1).numpy(), a.cumsum(1), rtol=1e-14)
    np.testing.assert_array_equal(x.reshape(2, 6).numpy(), a.reshape(2, 6))
    np.testing.assert_array_equal(x.reshape((2, -1)).numpy(), a.reshape(2, -1))
    np.testing.assert_array_equal(x.flatten().numpy(), a.flatten())
    np.testing.assert_array_equal(x[None].squeeze().numpy(), a)
    np.testing.assert_array_equal(x.clip(-0.5, 0.5).numpy(), a.clip(-0.5, 0.5))
    np.testing.assert_array_equal(x.clip(min=0).numpy(), a.clip(min=0))
    np.testing.assert_array_equal(x.clip(max=0).numpy(), a.clip(max=0))
    np.testing.assert_array_equal(x.clip().numpy(), a)
    np.testing.assert_array_equal(x.take([2, 0], axis=1).numpy(), a.take([2, 0], axis=1))
    np.testing.assert_array_equal(x.take([5, 0]).numpy(), a.take([5, 0]))
    np.testing.assert_allclose(x.cumprod(1).numpy(), a.cumprod(1), rtol=1e-14)


# Arrays of NumPy


def test_arithmetic_with_arrays_of_numpy_gives_tensors() -> None:
    x, a = gn.asarray([1.0, 2.0], requires_grad=True), array(3.0, 4.0)
    for y in (x * a, a * x, x @ a, a @ x, a - x, a / x, a**x):
        assert isinstance(y, gn.Tensor)
        assert y.requires_grad
        assert y.dtype == gn.float32
    (a * x).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), a)


# Copies


def test_copies_and_pickles(backend: Backend) -> None:
    x = gn.asarray([1.0, 2.0], dtype=gn.float64, requires_grad=True)
    for made in (copy.deepcopy(x), pickle.loads(pickle.dumps(x)), copy.copy(x)):
        assert made.requires_grad
        assert made.is_leaf
        assert made.dtype == gn.float64
        assert made.tolist() == [1, 2]
        assert made.grad is None
    deep = copy.deepcopy(x)
    deep.assign_(0.0)
    assert x.tolist() == [1, 2]
    half = gn.asarray([1.5], dtype="bfloat16")
    assert pickle.loads(pickle.dumps(half)).dtype == gn.bfloat16
    both = copy.deepcopy([x, x])
    assert both[0] is both[1]


def test_gradients_flow_through_copies(backend: Backend) -> None:
    x = gn.asarray([1.0, 2.0], dtype=gn.float64)
    for copied in (copy.copy, copy.deepcopy):
        gn.gradcheck(lambda x, f=copied: f(x) * f(3 * x), x, order=2)
        plain = copied(x)
        plain.assign_(0.0)
        assert x.tolist() == [1, 2]
        leaf = x.detach().requires_grad_()
        gn.sum(copied(2 * leaf)).backward()
        assert leaf.grad is not None
        assert leaf.grad.tolist() == [2, 2]


def test_a_tensor_of_a_tensor_shares_memory_and_history() -> None:
    x = gn.asarray([1.0, 2.0])
    y = gn.Tensor(x)
    y += 1
    assert x.tolist() == [2, 3]
    assert x.version == y.version == 1
    z = gn.Tensor([1, 2], dtype=gn.float32, requires_grad=True)
    assert z.requires_grad
    assert z.dtype == gn.float32


def test_detach_shares_memory() -> None:
    x = gn.asarray([1.0], requires_grad=True)
    y = (x * 2).detach()
    assert not y.requires_grad
    y = x.detach()
    y += 1
    assert x.tolist() == [2]


@pytest.mark.parametrize("dtype", [gn.int64, gn.bool, gn.uint8])
def test_only_floats_require_gradients(dtype: Any) -> None:
    with pytest.raises(DTypeError, match="only floating and complex tensors have gradients"):
        gn.ones((2,), dtype=dtype).requires_grad_()


def test_requires_grad_can_be_set_on_leaves_only() -> None:
    x = gn.ones((2,)).requires_grad_()
    assert x.requires_grad
    y = x * 2
    with pytest.raises(GraphError, match="the result of multiply; use detach"):
        y.requires_grad = False
    y.requires_grad = True
    x.requires_grad = False
    assert not x.requires_grad
    assert not (x * 2).requires_grad


def test_device_names() -> None:
    x = gn.ones((2,))
    assert x.to("cpu").tolist() == [1, 1]
    assert x.to("float64").dtype == gn.float64
    assert x.to(x.device, copy=True) is not x
    for bad in ("cuda:one", "cudagraph"):
        with pytest.raises(gn.errors.DeviceError):
            x.to(bad)
    with pytest.raises(DTypeError):
        x.to("gpu")
    with pytest.raises(gn.errors.DeviceError, match="there is no device 'gpu'"):
        gn.ones((2,), device="gpu")
    with pytest.raises(gn.errors.DeviceError, match="no stream"):
        x.to_device("cpu", stream=1)
