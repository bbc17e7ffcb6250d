"""Where a number is asked, NumPy's own and arrays without an axis serve as well."""

from __future__ import annotations

import array
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.errors import DTypeError

X = np.arange(6, dtype=np.float32).reshape(2, 3)
V = np.array([3, 1, 2], np.float32)
M = np.array([[2, 1, 0], [0, 3, 1], [1, 0, 4]], np.float32)

# Calls with the number 1 in some place.
CALLS: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "arange": lambda k, x, v, m: gn.arange(k, k + 3, k),
    "broadcast_shapes": lambda k, x, v, m: gn.broadcast_shapes((k,), (3,)),
    "broadcast_to": lambda k, x, v, m: gn.broadcast_to(v, (k, 3)),
    "clip": lambda k, x, v, m: gn.clip(x, k, 4),
    "concat": lambda k, x, v, m: gn.concat([x, x], axis=k),
    "cross": lambda k, x, v, m: gn.linalg.cross(v, v + 1.0, axis=-k),
    "cumulative_sum": lambda k, x, v, m: gn.cumulative_sum(x, axis=k),
    "diagonal": lambda k, x, v, m: gn.linalg.diagonal(m, offset=k),
    "diff": lambda k, x, v, m: gn.diff(x, n=k, axis=k),
    "expand_dims": lambda k, x, v, m: gn.expand_dims(x, axis=(k, 0)),
    "eye": lambda k, x, v, m: gn.eye(3, 3, k=k),
    "fft": lambda k, x, v, m: gn.fft.fft(x, n=k, axis=k),
    "flip": lambda k, x, v, m: gn.flip(x, axis=k),
    "full": lambda k, x, v, m: gn.full((k, 2), k),
    "full_like": lambda k, x, v, m: gn.full_like(x, k),
    "getitem": lambda k, x, v, m: x[k, :k],
    "linspace": lambda k, x, v, m: gn.linspace(k, k + 1, num=k + 1),
    "matrix_norm": lambda k, x, v, m: gn.linalg.matrix_norm(m, ord=k),
    "matrix_power": lambda k, x, v, m: gn.linalg.matrix_power(m, k),
    "max": lambda k, x, v, m: gn.max(x, axis=(0, k)),
    "moveaxis": lambda k, x, v, m: gn.moveaxis(x, k, 0),
    "one_hot": lambda k, x, v, m: gn.one_hot(gn.asarray([0]), k + 1),
    "ones": lambda k, x, v, m: gn.ones([k, k]),
    "pad": lambda k, x, v, m: gn.pad(x, k),
    "pad by axis": lambda k, x, v, m: gn.pad(x, ((k, 0), (0, k))),
    "permute_dims": lambda k, x, v, m: gn.permute_dims(x, (k, 0)),
    "repeat": lambda k, x, v, m: gn.repeat(x, k, axis=k),
    "reshape": lambda k, x, v, m: gn.reshape(x, (k, -1)),
    "roll": lambda k, x, v, m: gn.roll(x, k, axis=k),
    "roll, flattened": lambda k, x, v, m: gn.roll(x, k),
    "roll of axes": lambda k, x, v, m: gn.roll(x, (k, k), axis=(0, k)),
    "sort": lambda k, x, v, m: gn.sort(x, axis=k),
    "split": lambda k, x, v, m: gn.split(v, k),
    "squeeze": lambda k, x, v, m: gn.squeeze(x[:, :1], axis=k),
    "stack": lambda k, x, v, m: gn.stack([x, x], axis=k),
    "sum": lambda k, x, v, m: gn.sum(x, axis=k),
    "take": lambda k, x, v, m: gn.take(x, k, axis=k),
    "tensordot": lambda k, x, v, m: gn.tensordot(x, m, axes=k),
    "tile": lambda k, x, v, m: gn.tile(x, (k, 2)),
    "top_k": lambda k, x, v, m: gn.top_k(x, k, axis=k),
    "trace": lambda k, x, v, m: gn.linalg.trace(m, offset=k),
    "tril": lambda k, x, v, m: gn.tril(m, k=k),
    "unstack": lambda k, x, v, m: gn.unstack(x, axis=k),
    "var": lambda k, x, v, m: gn.var(x, axis=k, correction=k),
    "vector_norm": lambda k, x, v, m: gn.linalg.vector_norm(x, axis=k, ord=k),
    "where": lambda k, x, v, m: gn.where(x > 2, k, gn.asarray([0])),
}
ONES: dict[str, Callable[[], Any]] = {
    "a scalar of NumPy": lambda: np.int64(1),
    "a NumPy array": lambda: np.asarray(1),
    "a tensor": lambda: gn.asarray(1),
}


def described(found: Any) -> Any:
    """Shapes, dtypes and values."""
    if isinstance(found, gn.Tensor):
        return found.shape, found.dtype, found.numpy().tolist()
    return [described(x) for x in found] if isinstance(found, tuple | list) else found


@pytest.mark.parametrize("one", ONES)
@pytest.mark.parametrize("name", CALLS)
def test_a_number_may_be_an_array_without_an_axis(name: str, one: str) -> None:
    call, tensors = CALLS[name], [gn.asarray(x) for x in (X, V, M)]
    assert described(call(ONES[one](), *tensors)) == described(call(1, *tensors))


def test_several_numbers_may_be_an_array() -> None:
    x = gn.asarray(X)
    for found, expected in (
        (gn.roll(x, np.array([1, 2]), axis=np.array([0, 1])), gn.roll(x, (1, 2), axis=(0, 1))),
        (gn.pad(x, np.array([1, 2])), gn.pad(x, (1, 2))),
        (gn.split(x, np.array([1, 2]), axis=1), gn.split(x, [1, 2], axis=1)),
    ):
        assert described(found) == described(expected)


def test_memory_of_the_buffer_protocol_keeps_its_dtype() -> None:
    host = np.arange(6.0).reshape(2, 3)
    shared = gn.asarray(memoryview(host), copy=False)
    host[0, 0] = 7
    assert shared.dtype == gn.float64
    assert shared.tolist() == host.tolist()
    assert gn.asarray(array.array("d", [1, 2])).dtype == gn.float64
    assert gn.asarray([1.0, 2.0]).dtype == gn.float32


def test_floats_wider_than_gradnets_are_refused() -> None:
    if np.dtype(np.longdouble).itemsize == 8:
        pytest.skip("long double is float64 here")
    for make in (lambda: gn.asarray(np.ones(2, np.longdouble)), lambda: gn.ones(2, dtype="g")):
        with pytest.raises(DTypeError, match="gradnet has no dtype"):
            make()


def test_large_integers_in_lists_are_exact() -> None:
    large = 2**63 + 1  # NumPy takes floats for it beside a small one
    x = gn.asarray([large, 1], dtype=gn.uint64)
    assert x.tolist() == [large, 1]
    assert (x == large).tolist() == [True, False]
    assert gn.asarray([1.7, -2.2], dtype=gn.int64).tolist() == [1, -2]
    assert gn.asarray([float("nan"), 3.0], dtype=gn.int32).tolist()[1] == 3
