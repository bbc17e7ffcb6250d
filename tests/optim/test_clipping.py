"""Clipping: the norm and the gradients after it, within flat buffers and without."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradnet as gn
from gradnet import optim
from gradnet.errors import GraphError


def with_gradients(
    present: list[bool], scale: float = 1.0, dtype: Any = np.float64
) -> tuple[list[gn.Tensor], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    parameters, gradients = [], []
    for i, there in enumerate(present):
        shape = ((3, 2), (5,), ())[i % 3]
        p = gn.asarray(rng.normal(size=shape).astype(dtype), requires_grad=True)
        g = (scale * rng.normal(size=shape)).astype(dtype)
        if there:
            p.grad = gn.asarray(g.copy())
            gradients.append(g)
        parameters.append(p)
    return parameters, gradients


def left(parameters: list[gn.Tensor]) -> list[np.ndarray]:
    return [p.grad.numpy() for p in parameters if p.grad is not None]


@settings(max_examples=40, deadline=None)
@given(
    present=st.lists(st.booleans(), min_size=1, max_size=7),
    limit=st.floats(1e-3, 1e3),
    flat=st.sampled_from(["no", "yes", "half", "two"]),
)
def test_the_norm_is_limited_and_returned(present: list[bool], limit: float, flat: str) -> None:
    parameters, gradients = with_gradients(present)
    cut = len(parameters) // 2
    optimizers = []
    if flat == "yes":
        optimizers.append(optim.SGD(parameters))
    if flat in ("half", "two") and cut:
        optimizers.append(optim.SGD(parameters[:cut]))
    if flat == "two":
        optimizers.append(optim.Adam(parameters[cut:]))
    for optimizer in optimizers:  # what is left in the buffer of missing gradients must not count
        for parameter in optimizer.groups[0]["params"]:
            if parameter.grad is None:
                parameter.grad = gn.full_like(parameter.detach(), 1e3)
                parameter.grad = None
    norm = float(optim.clip_grad_norm(parameters, limit))
    expected = math.sqrt(sum(float((g * g).sum()) for g in gradients))
    assert norm == pytest.approx(expected, rel=1e-12)
    scale = min(1.0, limit / (expected + 1e-6))
    for g, clipped in zip(gradients, left(parameters), strict=True):
        np.testing.assert_allclose(clipped, scale * g, rtol=1e-12)


def test_it_is_what_pytorch_does() -> None:
    torch = pytest.importorskip("torch")
    parameters, gradients = with_gradients([True] * 4)
    others = [torch.tensor(g) for g in gradients]
    for q, g in zip(others, gradients, strict=True):
        q.grad = torch.tensor(g)
    norm = float(optim.clip_grad_norm(optim.SGD(parameters), 0.7))
    assert norm == pytest.approx(float(torch.nn.utils.clip_grad_norm_(others, 0.7)), rel=1e-14)
    for clipped, q in zip(left(parameters), others, strict=True):
        np.testing.assert_allclose(clipped, q.grad.numpy(), rtol=1e-14)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_gradients_that_are_not_finite(flat: bool, bad: float) -> None:
    parameters, gradients = with_gradients([True, True, True])
    parameters[1].grad[2] = bad
    if flat:
        optim.SGD(parameters)
    with pytest.raises(GraphError, match=rf"is {bad}; .* of parameter 1, shape \(5,\)"):
        optim.clip_grad_norm(parameters, 1.0, error_if_nonfinite=True)
    np.testing.assert_array_equal(left(parameters)[0], gradients[0])
    norm = float(optim.clip_grad_norm(parameters, 1.0))
    assert math.isnan(norm) if math.isnan(bad) else norm == math.inf
    if math.isnan(bad):
        assert all(np.isnan(g).all() for g in left(parameters))
    else:
        assert np.isnan(left(parameters)[1][2])
        assert not left(parameters)[0].any()


def test_squares_that_overflow_are_told() -> None:
    parameters, _ = with_gradients([True], scale=1e30, dtype=np.float32)
    with pytest.raises(GraphError, match="their squares are not"):
        optim.clip_grad_norm(parameters, 1.0, error_if_nonfinite=True)


def test_without_gradients_the_norm_is_zero() -> None:
    parameters, _ = with_gradients([False, False])
    assert float(optim.clip_grad_norm(parameters, 1.0)) == 0.0
    assert float(optim.clip_grad_norm([], 1.0)) == 0.0
    optim.clip_grad_value(parameters, 1.0)
    assert left(parameters) == []


def test_an_infinite_limit_only_measures() -> None:
    parameters, gradients = with_gradients([True, True])
    norm = float(optim.clip_grad_norm(parameters, math.inf))
    assert norm > 0
    for g, kept in zip(gradients, left(parameters), strict=True):
        np.testing.assert_array_equal(kept, g)


def test_dtypes_may_differ() -> None:
    narrow, g = with_gradients([True], scale=200.0, dtype=np.float16)
    wide, h = with_gradients([True, True])
    optimizer = optim.SGD([*narrow, *wide])
    norm = float(optim.clip_grad_norm(optimizer, 1.0))
    squares = sum(float((x.astype(np.float64) ** 2).sum()) for x in (*g, *h))
    assert squares > 65504  # beyond float16
    assert norm == pytest.approx(math.sqrt(squares), rel=1e-6)
    assert [x.dtype for x in left([*narrow, *wide])] == [np.float16, np.float64, np.float64]


def test_a_parameter_given_twice_counts_once() -> None:
    parameters, gradients = with_gradients([True])
    norm = float(optim.clip_grad_norm([*parameters, *parameters], 0.5))
    assert norm == pytest.approx(float(np.linalg.norm(gradients[0])), rel=1e-12)
    assert np.linalg.norm(left(parameters)[0]) == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize("flat", [False, True])
def test_values_are_limited(flat: bool) -> None:
    parameters, gradients = with_gradients([True, False, True, True])
    parameters[0].grad[0, 0] = math.nan
    parameters[0].grad[0, 1] = -math.inf
    gradients[0][0, 0], gradients[0][0, 1] = math.nan, -math.inf
    if flat:
        optim.clip_grad_value(optim.SGD(parameters), 0.3)
    else:
        optim.clip_grad_value(parameters, 0.3)
    for g, clipped in zip(gradients, left(parameters), strict=True):
        np.testing.assert_array_equal(clipped, np.clip(g, -0.3, 0.3))


@pytest.mark.parametrize("clip", [optim.clip_grad_norm, optim.clip_grad_value])
@pytest.mark.parametrize("flat", [False, True])
def test_a_graph_that_saved_the_gradient_is_refused_afterwards(clip: Any, flat: bool) -> None:
    p = gn.asarray(np.array([1.0, 2.0]), requires_grad=True)
    if flat:
        optim.SGD([p])
    (p**3).sum().backward()
    q = gn.asarray(np.ones(2), requires_grad=True)
    loss = (q * p.grad).sum()
    clip([p], 0.1)
    with pytest.raises(GraphError, match="changed in place"):
        loss.backward()


def test_the_step_takes_the_clipped_gradient() -> None:
    p = gn.asarray(np.array([3.0, 4.0]), requires_grad=True)
    optimizer = optim.SGD([p], lr=1.0)
    ((p**2).sum() / 2).backward()
    assert float(optim.clip_grad_norm(optimizer, 1.0)) == 5.0
    optimizer.step()
    np.testing.assert_allclose(p.detach().numpy(), [3 - 0.6, 4 - 0.8], rtol=1e-6)
