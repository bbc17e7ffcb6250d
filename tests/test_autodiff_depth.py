"""Graphs of 100,000 ops one after the other: nothing recurses, on the way back or in deletion."""

from __future__ import annotations

import math
import sys
import weakref
from typing import Any

import numpy as np
import pytest

import gradnet as gn

DEPTH = 100_000


def f64(value: float) -> gn.Tensor:
    return gn.asarray(np.asarray(value))


def test_reverse_mode_and_the_end_of_a_chain_that_saves_every_value() -> None:
    limit = sys.getrecursionlimit()
    x = f64(1.0).requires_grad_()
    y, value, slope = x, 1.0, 1.0
    for _ in range(DEPTH):
        y = gn.sin(y)
        value, slope = math.sin(value), slope * math.cos(value)
    y.backward(retain_graph=True)
    assert float(y) == pytest.approx(value, rel=1e-9)
    assert float(x.grad) == pytest.approx(slope, rel=1e-9)
    assert sys.getrecursionlimit() == limit
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
