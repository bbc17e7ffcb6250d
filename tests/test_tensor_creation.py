"""Making tensors: from data of all kinds, by rule, and like another."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.backends import Backend
from gradnet.errors import DTypeError, ShapeError

pytestmark = pytest.mark.usefixtures("backend")


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (1.5, gn.float32),
        (1, gn.int64),
        (True, gn.bool),
        (1j, gn.complex64),
        ([1, 2], gn.int64),
        ([1.0, 2], gn.float32),
        ([[1, 2], [3, 4.5]], gn.float32),
        ([], gn.float32),
        ([[]], gn.float32),
        ((True, False), gn.bool),
        (range(3), gn.int64),
        ([1j], gn.complex64),
        (np.ones(2), gn.float64),
        (np.ones(2, np.float16), gn.float16),
        (np.float64(1), gn.float64),
        (np.ones(2, np.int8), gn.int8),
        (np.ones(2, ">f4"), gn.float32),
    ],
)
def test_the_dtype_that_data_brings(given: Any, dtype: Any) -> None:
    x = gn.asarray(given)
    assert x.dtype == dtype
    assert x.numpy().dtype == dtype
    np.testing.assert_array_equal(x.numpy(), np.asarray(given))


def test_lists_of_tensors_stack_and_keep_gradients() -> None:
    a, b = gn.asarray(1.0, requires_grad=True), gn.asarray(2.0)
    x = gn.asarray([[a, b], [b, a]])
    assert x.shape == (2, 2)
    (x * gn.asarray([[1.0, 0.0], [0.0, 5.0]])).sum().backward()
    assert float(a.grad) == 6
    assert gn.asarray([a, 2.0], dtype=gn.float64).dtype == gn.float64


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ([[1, 2], [3]], ShapeError, "rows differ in length"),
        ("text", DTypeError, "expected numbers or booleans"),
        ([1, "a"], DTypeError, "expected numbers or booleans"),
        (None, DTypeError, "NoneType"),
        (np.array(["2020-01-01"], "datetime64[D]"), DTypeError, "expected numbers"),
        ({"a": 1}, DTypeError, "dict"),
    ],
)
def test_what_is_no_array(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        gn.asarray(given)
    with pytest.raises(error, match=message):
        gn.asarray(given, dtype=gn.float32)


def test_copy_rules() -> None:
    host = np.zeros(3, np.float32)
    if gn.ones(()).device == "cpu":
        assert np.shares_memory(gn.asarray(host, copy=False).numpy(), host)
    with pytest.raises(ValueError, match="without a copy"):
        gn.asarray(host, dtype=gn.float64, copy=False)
    x = gn.asarray(host)
    assert gn.asarray(x) is x
    assert gn.asarray(x, copy=True) is not x
    with pytest.raises(ValueError, match="without a copy"):
        gn.asarray(x, dtype=gn.float64, copy=False)
    frozen = np.zeros(3)
    frozen.flags.writeable = False
    y = gn.asarray(frozen)
    y += 1
    assert frozen.sum() == 0
    np.testing.assert_array_equal(gn.asarray(np.arange(4.0)[::-1]).numpy(), [3, 2, 1, 0])


def test_requires_grad_from_the_start() -> None:
    x = gn.asarray([1.0], requires_grad=True)
    assert x.requires_grad
    again = gn.asarray(x.detach(), requires_grad=True)
    assert again.is_leaf
    assert again is not x
    with pytest.raises(DTypeError):
        gn.asarray([1], requires_grad=True)


@pytest.mark.parametrize("shape", [(), (0,), 3, (2, 3), [2, 1]])
@pytest.mark.parametrize("name", ["zeros", "ones", "empty"])
def test_filled(shape: Any, name: str) -> None:
    for dtype in (None, gn.float64, gn.int8, gn.bool, "bfloat16"):
        x = getattr(gn, name)(shape, dtype=dtype)
        expected = getattr(np, name)(shape)
        assert x.shape == expected.shape
        assert x.dtype == (gn.float32 if dtype is None else gn.zeros((), dtype=dtype).dtype)
        if name != "empty":
            np.testing.assert_array_equal(x.numpy().astype(float), expected)


def test_full() -> None:
    for value, dtype in ((2, gn.int64), (2.5, gn.float32), (True, gn.bool), (1j, gn.complex64)):
        x = gn.full((2,), value)
        assert x.dtype == dtype
        assert x.tolist() == [value, value]
    assert gn.full((2,), 3, dtype=gn.float16).dtype == gn.float16
    assert gn.full((2,), np.float64(3)).dtype == gn.float32


def test_like_another(backend: Backend) -> None:
    x = gn.ones((2, 3), dtype=gn.float16)
    for made in (gn.zeros_like(x), gn.ones_like(x), gn.empty_like(x), gn.full_like(x, 2)):
        assert made.shape == x.shape
        assert made.dtype == x.dtype
        assert made.backend is backend
    assert gn.zeros_like(x, dtype=gn.int64).dtype == gn.int64
    assert gn.zeros_like(np.ones(3)).dtype == gn.float64


@pytest.mark.parametrize(
    "arguments",
    [(5,), (0,), (2, 7), (7, 2), (7, 2, -2), (0, 1, 0.25), (1.5,), (-3, 3, 1.5), (2, 2)],
)
def test_arange(arguments: Any) -> None:
    x, expected = gn.arange(*arguments), np.arange(*arguments)
    assert x.dtype == (gn.int64 if expected.dtype.kind == "i" else gn.float32)
    np.testing.assert_array_equal(x.numpy(), expected.astype(x.dtype))
    with pytest.raises(ValueError, match="step of 0"):
        gn.arange(0, 3, 0)


def test_linspace() -> None:
    for arguments in ((0, 1, 5), (2, -3, 7), (1, 1, 1), (0, 1, 0)):
        x = gn.linspace(*arguments)
        assert x.dtype == gn.float32
        np.testing.assert_allclose(x.numpy(), np.linspace(*arguments), rtol=1e-6)
    x = gn.linspace(0, 1, 4, endpoint=False, dtype=gn.float64)
    np.testing.assert_array_equal(x.numpy(), np.linspace(0, 1, 4, endpoint=False))
    x += 1  # its memory is its own


def test_eye_and_triangles() -> None:
    np.testing.assert_array_equal(gn.eye(3).numpy(), np.eye(3))
    np.testing.assert_array_equal(gn.eye(2, 4, k=1).numpy(), np.eye(2, 4, 1))
    np.testing.assert_array_equal(gn.eye(2, 4, k=-1).numpy(), np.eye(2, 4, -1))
    x = np.arange(24.0).reshape(2, 3, 4)
    for k in (-2, 0, 1, 5):
        np.testing.assert_array_equal(gn.tril(gn.asarray(x), k=k).numpy(), np.tril(x, k))
        np.testing.assert_array_equal(gn.triu(gn.asarray(x), k=k).numpy(), np.triu(x, k))
    with pytest.raises(ShapeError, match="tril needs at least two axes"):
        gn.tril(gn.ones((3,)))


def test_meshgrid() -> None:
    xs = [np.arange(2.0), np.arange(3.0), np.arange(4.0)]
    for indexing in ("xy", "ij"):
        for count in (1, 2, 3):
            found = gn.meshgrid(*(gn.asarray(x) for x in xs[:count]), indexing=indexing)
            expected = np.meshgrid(*xs[:count], indexing=indexing)
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_array_equal(a.numpy(), b)
    with pytest.raises(ValueError, match="expected 'xy' or 'ij'"):
        gn.meshgrid(gn.arange(2), indexing="ab")


def test_one_hot() -> None:
    x = gn.ops.one_hot(gn.asarray([[0, 2], [1, 1]]), 3)
    assert x.dtype == gn.float32
    np.testing.assert_array_equal(x.numpy(), np.eye(3)[[[0, 2], [1, 1]]])
    assert gn.ops.one_hot(gn.asarray([1]), 3, dtype=gn.bool).tolist() == [[False, True, False]]
    # Indices in few bits do not wrap around.
    for dtype in (gn.uint8, gn.int8, gn.uint64):
        assert float(gn.ops.one_hot(gn.asarray([0], dtype=dtype), 300).sum()) == 1
    with pytest.raises(DTypeError, match="integer indices"):
        gn.ops.one_hot(gn.asarray([0.0]), 3)


def test_constants() -> None:
    assert gn.pi == math.pi
    assert gn.e == math.e
    assert gn.inf == math.inf
    assert math.isnan(gn.nan)
    assert gn.newaxis is None
    assert gn.ones((2,))[:, gn.newaxis].shape == (2, 1)


def test_names_of_the_namespace() -> None:
    for name in ("add", "exp", "sigmoid", "sum", "matmul", "nn", "gradcheck", "bfloat16"):
        assert name in dir(gn)
        assert getattr(gn, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        gn.nothing  # noqa: B018
    with pytest.raises(AttributeError, match="has no attribute"):
        gn.ops.nothing  # noqa: B018
    with pytest.raises(KeyError, match="did you mean"):
        gn.ops.elementwise("sigmoit")


@pytest.mark.parametrize("nest", [lambda m: [m, m], lambda m: ([1.0, 2.0], m), lambda m: [[m]]])
def test_masked_arrays_in_lists_are_refused(nest: Any) -> None:
    with pytest.raises(DTypeError, match="1 of whose 2 elements are masked"):
        gn.asarray(nest(np.ma.array([1.0, 2.0], mask=[False, True])))
    assert gn.asarray(nest(np.ma.array([1.0, 2.0]))).shape[-1] == 2
