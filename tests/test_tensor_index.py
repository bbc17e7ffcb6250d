"""Indices of all kinds and assignment through them, against NumPy, with gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.errors import DTypeError, GraphError, ShapeError

pytestmark = pytest.mark.usefixtures("backend")

X = np.arange(60.0).reshape(3, 4, 5)

INDICES: dict[str, Any] = {
    "integer": 1,
    "negative": -1,
    "integer of numpy": np.int64(2),
    "slice": slice(1, None),
    "negative step": slice(None, None, -2),
    "tuple": (0, 2, 3),
    "partial": (slice(None), 2),
    "ellipsis": (..., 1),
    "ellipsis in the middle": (0, ..., 1),
    "nothing": (),
    "None": (None, 1, None),
    "None after ellipsis": (..., None),
    "empty slice": slice(2, 2),
    "list": [0, 2],
    "array": np.array([[0, 1], [2, 2]]),
    "repeated": np.array([1, 1, 1]),
    "negative array": np.array([-1, 0]),
    "two arrays": (np.array([0, 2]), np.array([3, 1])),
    "arrays that broadcast": (np.array([[0], [2]]), np.array([3, 1])),
    "arrays apart": (np.array([0, 2]), slice(1, 3), np.array([4, 4])),
    "array and integer": (np.array([0, 2]), 1),
    "array and None": (np.array([0, 2]), None, slice(None), 2),
    "array and ellipsis": (..., np.array([0, 4])),
    "empty array": np.array([], np.int64),
    "empty list": [],
    "mask": X > 20,
    "mask of rows": np.array([True, False, True]),
    "mask of two axes": X[..., 0] % 2 == 0,
    "mask and slice": (np.array([True, False, True]), slice(1, 3)),
    "mask inside": (slice(None), np.array([True, False, True, True])),
    "mask of nothing": np.zeros((3, 4, 5), bool),
    "list of bools": [True, False, True],
    "True": True,
    "unsigned": np.array([2, 0], np.uint8),
}


@pytest.mark.parametrize("name", INDICES)
def test_reading(name: str) -> None:
    index = INDICES[name]
    expected = X[index]
    x = gn.asarray(X)
    found = x[index]
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found.numpy(), expected)
    # Where NumPy gives a view, so does a tensor.
    viewed = not isinstance(expected, np.ndarray) or np.shares_memory(expected, X)
    x = gn.asarray(X.copy())
    x[index].assign_(-1.0)
    assert (x.tolist() != X.tolist()) == (viewed and expected.size > 0)


@pytest.mark.parametrize("name", INDICES)
def test_reading_with_tensors_as_indices(name: str) -> None:
    def wrapped(item: Any) -> Any:
        return gn.asarray(item) if isinstance(item, np.ndarray | np.integer) else item

    index = INDICES[name]
    mine = tuple(map(wrapped, index)) if isinstance(index, tuple) else wrapped(index)
    np.testing.assert_array_equal(gn.asarray(X)[mine].numpy(), X[index])


@pytest.mark.parametrize("name", INDICES)
def test_gradients_of_reading(name: str) -> None:
    index = INDICES[name]
    x = gn.asarray(X, requires_grad=True)
    y = x[index]
    g = np.random.default_rng(0).standard_normal(y.shape)
    y.backward(gn.asarray(np.asarray(g)))
    expected = np.zeros_like(X)
    np.add.at(expected, index, g)
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-15)
    gn.gradcheck(lambda x: x[index] ** 2, X / 10, order=2, directions=1)


def test_repeated_indices_add_up() -> None:
    x = gn.asarray([1.0, 2.0], requires_grad=True)
    (x[[0, 0, 1, 0]] * gn.asarray([1.0, 2.0, 3.0, 4.0])).sum().backward()
    assert x.grad.tolist() == [7, 3]


@pytest.mark.parametrize("name", INDICES)
def test_writing(name: str) -> None:
    index = INDICES[name]
    for value in (7.0, np.float32(3), X[index] * -1, np.ones(X[index].shape[-1:])):
        mine, theirs = gn.asarray(X.copy()), X.copy()
        theirs[index] = value
        mine[index] = gn.asarray(value) if isinstance(value, np.ndarray) else value
        np.testing.assert_array_equal(mine.numpy(), theirs)
        assert mine.version == 1


@pytest.mark.parametrize("name", INDICES)
def test_gradients_of_writing(name: str) -> None:
    index = INDICES[name]

    def write(x: Any, v: Any) -> Any:
        y = x * 2
        y[index] = v * v
        return y * x

    gn.gradcheck(write, X / 10, X[index] / 7, order=2, directions=1)
    gn.gradcheck(write, X / 10, np.asarray(0.3), directions=1)


def test_a_value_that_is_replaced_at_once_has_no_gradient() -> None:
    v = gn.asarray([1.0, 2.0, 3.0], requires_grad=True)
    y = gn.zeros((2,))
    y[[0, 1, 0]] = v
    assert y.tolist() == [3, 2]
    (y * gn.asarray([10.0, 100.0])).sum().backward()
    assert v.grad.tolist() == [0, 100, 10]


def test_writing_piece_by_piece() -> None:
    x = gn.asarray([1.0, 2.0, 3.0], requires_grad=True)
    y = gn.zeros((3,))
    for i in range(3):
        y[i] = x[i] ** 2
    y[1:] = y[1:].copy() * 10
    y.sum().backward()
    assert x.grad.tolist() == [2, 40, 60]


def test_writing_through_a_view() -> None:
    x = gn.zeros((3, 4))
    x[1:][0, ::2] = 5
    assert x.tolist()[1] == [5, 0, 5, 0]
    row = x[2]
    row += 1
    assert x.tolist()[2] == [1, 1, 1, 1]
    x[0] += 3
    assert x.tolist()[0] == [3, 3, 3, 3]


def test_writing_overlapping_memory() -> None:
    for size in (10, 70_000):
        x, expected = gn.arange(float(size)), np.arange(size, dtype=np.float32)
        x[1:] = x[:-1]
        expected[1:] = expected[:-1].copy()
        np.testing.assert_array_equal(x.numpy(), expected)
        x[1:] += x[:-1]
        expected[1:] += expected[:-1].copy()
        np.testing.assert_array_equal(x.numpy(), expected)
        x += x[::-1]
        expected += expected[::-1].copy()
        np.testing.assert_array_equal(x.numpy(), expected)
        x -= gn.exp(-x[::-1] / size)
        x *= x


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (3, IndexError, r"shape \(3, 4, 5\): index 3 is out of bounds"),
        (-4, IndexError, "out of bounds"),
        ([0, 3], IndexError, "out of bounds"),
        ((0, 0, 0, 0), IndexError, r"4 indices for a tensor of shape \(3, 4, 5\), 3 dimension"),
        ((..., ...), IndexError, "single ellipsis"),
        (1.5, DTypeError, "index of dtype float32; indices are integers, booleans"),
        ([0.0], DTypeError, "index of dtype float32"),
        ("a", DTypeError, "expected numbers or booleans"),
        ([True, False], IndexError, "boolean index did not match"),
        (([0, 1], [0, 1, 2]), IndexError, "could not be broadcast"),
        (slice(0, 2, 0), ValueError, "slice step cannot be zero"),
        (slice(0.5, 2), TypeError, "integer"),
    ],
)
def test_bad_indices(index: Any, error: type[Exception], message: str) -> None:
    x = gn.asarray(X.copy())
    # A GPU looks at the values of indices later than at the rest of them.
    late = x.device != "cpu" and index == [0, 3]

    def write() -> None:
        x[index] = 0.0
        x.numpy()

    with pytest.raises(error, match=message):
        x[index].numpy()
    with pytest.raises(error, match=message):
        write()
    np.testing.assert_array_equal(x.numpy()[late:], X[late:])


def test_bad_values_to_write() -> None:
    x = gn.zeros((3, 4))
    with pytest.raises(ShapeError, match=r"cannot fit values of shape \(3,\) into"):
        x[0] = gn.ones((3,))
    whole = gn.zeros((3,), dtype=gn.int64)
    with pytest.raises(DTypeError, match="cannot store float32 values in a int64 tensor"):
        whole[0] = 1.5
    with pytest.raises(DTypeError, match="does not fit int8"):
        gn.zeros((3,), dtype=gn.int8)[0] = 300
    frozen = gn.broadcast_to(gn.zeros((1,)), (3,))
    with pytest.raises(ShapeError, match="read-only"):
        frozen[0] = 1.0


def test_writing_to_leaves() -> None:
    x = gn.zeros((3,)).requires_grad_()
    with pytest.raises(GraphError, match=r"a leaf that requires a gradient.*under no_grad"):
        x[0] = 1.0
    with pytest.raises(GraphError, match="a view of a leaf"):
        x[1:][0] = 1.0
    with gn.no_grad():
        x[0] = 1.0
    assert x.tolist() == [1, 0, 0]
    assert x.is_leaf


def test_gathering_along_an_axis() -> None:
    x, i = np.random.default_rng(0).standard_normal((3, 4)), np.array([[0, 0, 3, 1]])
    found = gn.take_along_axis(gn.asarray(x), gn.asarray(i), axis=1)
    np.testing.assert_array_equal(found.numpy(), np.take_along_axis(x, i, axis=1))
    with pytest.raises(ShapeError, match="same number of dimensions"):
        gn.take_along_axis(gn.asarray(x), gn.asarray([0]), axis=1)
    with pytest.raises(IndexError, match="out of bounds"):
        gn.take_along_axis(gn.asarray(x), gn.asarray([[9]]), axis=1).numpy()
    with pytest.raises(DTypeError, match="index of dtype float32"):
        gn.take(gn.asarray(x), [0.5], axis=0)


def test_scatter_add() -> None:
    x = gn.zeros((3,))
    y = gn.ops.scatter_add(x, [0, 2, 0], [1.0, 2.0, 3.0])
    assert y.tolist() == [4, 0, 2]
    assert x.tolist() == [0, 0, 0]
    assert gn.ops.scatter_add(x, slice(1, 3), 5.0).tolist() == [0, 5, 5]
    assert gn.ops.scatter_add(x, gn.asarray([True, False, True]), 1.0).tolist() == [1, 0, 1]
    matrix = gn.ops.scatter_add(gn.zeros((2, 2)), ([0, 0], [1, 1]), 1.0)
    assert matrix.tolist() == [[0, 2], [0, 0]]
    with pytest.raises(IndexError, match=r"scatter_add on a tensor of shape \(3,\)"):
        gn.ops.scatter_add(x, [3], 1.0)
    with pytest.raises(ShapeError, match="broadcast_to"):
        gn.ops.scatter_add(x, [0, 1], [1.0, 2.0, 3.0])


def test_repeat_by_counts() -> None:
    x = gn.asarray([1.0, 2.0, 3.0], requires_grad=True)
    y = gn.repeat(x, [2, 0, 3])
    assert y.tolist() == [1, 1, 3, 3, 3]
    y.sum().backward()
    assert x.grad.tolist() == [2, 0, 3]
    assert gn.repeat(x, gn.asarray(2)).tolist() == [1, 1, 2, 2, 3, 3]
    assert gn.repeat(gn.asarray([[1, 2]]), 2).tolist() == [1, 1, 2, 2]
    for counts in ([1, 2], [1, -1, 1]):
        with pytest.raises(ShapeError, match="one count, not negative, for each"):
            gn.repeat(x, counts)


def test_a_python_scalar_is_stored_to_the_digits_of_the_tensor() -> None:
    x = gn.zeros((3,), dtype=gn.float64)
    x[0] = 0.1
    x[gn.asarray([False, True, False])] = 16777217.0
    assert x.tolist() == [0.1, 16777217.0, 0.0]
    z = gn.zeros((1,), dtype=gn.complex128)
    z[0] = 0.1j
    assert z.tolist() == [0.1j]
