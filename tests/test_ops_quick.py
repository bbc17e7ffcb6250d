"""Calls that nobody differentiates take fewer steps, to the same values as those that are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.errors import DTypeError, GraphError, ShapeError

RNG = np.random.default_rng(0)
X, M = (RNG.standard_normal(shape).astype(np.float32) for shape in (6, (3, 3)))
W = RNG.standard_normal((5, 7)).astype(np.float32)

CALLS: dict[str, Any] = {
    "vectors": lambda x, m, w: x @ x,
    "matrices": lambda x, m, w: m @ m,
    "columns": lambda x, m, w: w[:, 1:2] @ w[2:3],
    "transposed": lambda x, m, w: w.T @ w,
    "one element": lambda x, m, w: x[:1] @ x[1:2],
    "where": lambda x, m, w: gn.where(m > 0.0, m, -m),
    "where, a number": lambda x, m, w: gn.where(m > 0.0, m, 2.0),
    "where, broadcast": lambda x, m, w: gn.where(x[:3] > 0.0, m, -m),
    "clip": lambda x, m, w: gn.clip(w, -0.5, 1),
    "clip by tensors": lambda x, m, w: gn.clip(m, x[:3] - 1.0, x[:3] + 1.0),
    "concat": lambda x, m, w: gn.concat([x, x]),
    "concat, second axis": lambda x, m, w: gn.concat((w, w), axis=1),
    "concat, flattened": lambda x, m, w: gn.concat([m, w], axis=None),
    "stack": lambda x, m, w: gn.stack([m, m, m]),
    "stack, last axis": lambda x, m, w: gn.stack([m, m], axis=-1),
    "reshape": lambda x, m, w: gn.reshape(x, (2, -1)),
    "reshape of a transpose": lambda x, m, w: gn.reshape(w.T, (-1,)),
    "permute": lambda x, m, w: gn.permute_dims(w, (1, 0)),
    "permute, from the end": lambda x, m, w: gn.permute_dims(w, (-1, 0)),
    "expand": lambda x, m, w: gn.expand_dims(w, axis=(0, -1)),
    "slice": lambda x, m, w: x[1:-1],
    "element": lambda x, m, w: x[3],
    "index array": lambda x, m, w: x[gn.asarray([2, 0, 2])],
    "sort": lambda x, m, w: gn.sort(w, axis=0),
    "sum": lambda x, m, w: gn.sum(w, axis=0, keepdims=True),
    "max": lambda x, m, w: gn.max(w, axis=(1,)),
    "argmax": lambda x, m, w: gn.argmax(x),
    "astype": lambda x, m, w: gn.astype(x, gn.float64),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_gives_the_same_whoever_asks_for_derivatives(backend: Any, name: str) -> None:
    call = CALLS[name]
    arrays = X, M, W

    def tensors(tracked: bool) -> list[gn.Tensor]:
        return [gn.asarray(x, backend=backend, requires_grad=tracked) for x in arrays]

    alone = call(*tensors(False))
    tracked = call(*tensors(True))
    assert alone.node is None
    assert (alone.dtype, alone.shape) == (tracked.dtype, tracked.shape)
    np.testing.assert_array_equal(alone.numpy(), tracked.detach().numpy())
    operands = tensors(False)
    tangents = [gn.ones_like(x) for x in operands]
    value, _ = gn.jvp(call, tuple(operands), tuple(tangents)) if name != "argmax" else (alone, None)
    np.testing.assert_array_equal(alone.numpy(), value.numpy())


@pytest.mark.parametrize("name", ["reshape", "permute", "expand", "slice", "element"])
def test_a_view_that_nobody_differentiates_tells_of_changes(name: str) -> None:
    x, m, w = (gn.asarray(a, copy=True) for a in (X, M, W))
    view = CALLS[name](x, m, w)
    base = w if name in ("permute", "expand") else x
    view += 1
    assert base.version == view.version == 1
    assert not np.array_equal(base.numpy(), W if base is w else X)
    leaf = gn.asarray([2.0], requires_grad=True)
    y = base * leaf[0]
    base += 1
    with pytest.raises(GraphError):
        gn.sum(y).backward()


def test_joining_alike_arrays_copies_them() -> None:
    x = gn.asarray(X, copy=True)
    for joined in (gn.concat([x]), gn.stack([x])):
        joined += 1
        np.testing.assert_array_equal(x.numpy(), X)
        assert x.version == 0


def test_wrong_calls_raise_what_they_do_in_more_steps() -> None:
    x, m = gn.asarray(X), gn.asarray(M)
    for call, error in (
        (lambda: x @ x[1:], ShapeError),
        (lambda: m @ x[:2], ShapeError),
        (lambda: x[0] @ x[0], ShapeError),
        (lambda: gn.concat([x, x], axis=1), IndexError),
        (lambda: gn.concat([x[0], x[0]]), ShapeError),
        (lambda: gn.concat([]), ShapeError),
        (lambda: gn.stack([x, x], axis=None), DTypeError),
        (lambda: gn.reshape(x, (2, 2)), ShapeError),
        (lambda: gn.reshape(x, (2.0, 3)), DTypeError),
        (lambda: gn.permute_dims(m, (0, 0)), ShapeError),
        (lambda: gn.permute_dims(m, (0,)), ShapeError),
        (lambda: gn.permute_dims(m, (1.0, 0)), DTypeError),
        (lambda: x[6], IndexError),
        (lambda: x[gn.asarray([6])], IndexError),
    ):
        with pytest.raises(error):
            call()


def test_products_of_zero_and_nan_are_nan(backend: Any) -> None:
    # (n,) @ (n,), and (n, k) @ (k, m).
    for left, right in (
        *(((n,), (n,)) for n in (1, 2)),
        *(((n, k), (k, m)) for n in (1, 2) for k in (1, 2) for m in (1, 2)),
    ):
        a = gn.zeros(left, backend=backend)
        b = gn.full(right, float("nan"), backend=backend)
        assert bool(gn.all(gn.isnan(a @ b))), (left, right)
