"""Graphs of 100,000 ops one after the other: nothing recurses, on the way back or in deletion."""

from __future__ import annotations

import sys
import weakref
from typing import Any

import numpy as np
import pytest

import gradnet as gn

DEPTH = 100_000


def f64(value: float) -> gn.Tensor:
    return gn.asarray(np.asarray(value))


def test_reverse_mode() -> None:
    limit = sys.getrecursionlimit()
    x = f64(1.0).requires_grad_()
    y = x
    for _ in range(DEPTH):
        y = y * 1.0
    y.backward()
    assert float(x.grad) == 1
    assert sys.getrecursionlimit() == limit


def test_a_chain_that_saves_every_value_is_deleted() -> None:
    y = f64(1.0).requires_grad_()
    for _ in range(DEPTH):
        y = gn.sin(y)
    node = weakref.ref(y.node[0])
    del y
    assert node() is None


def test_forward_mode() -> None:
    def f(x: Any) -> Any:
        for _ in range(DEPTH // 8):
            x = x * 1.0
        return x

    assert float(gn.jvp(f, f64(1.0), f64(1.0))[1]) == 1


def test_second_derivatives() -> None:
    def f(x: Any) -> Any:
        for _ in range(500):
            x = gn.sin(x)
        return x

    by_reverse = float(gn.grad(gn.grad(f))(f64(1.0)))
    by_forward = float(gn.hvp(f, f64(1.0), f64(1.0)))
    assert by_reverse == pytest.approx(by_forward, rel=1e-12)
    assert by_reverse < 0
