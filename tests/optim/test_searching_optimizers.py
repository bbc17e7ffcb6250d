"""Optimizers that search along a line: their parameters, closures and first steps."""

from __future__ import annotations

import numpy as np
import pytest

import gradnet as gn
from gradnet import optim
from gradnet.optim.line_search import Point


def test_a_pair_without_positive_curvature_is_not_kept() -> None:
    optimizer = optim.LBFGS([gn.asarray(np.ones(8), requires_grad=True)])
    before, after, down = (gn.full((8,), value, dtype=np.float64) for value in (1.0, 3.0, -1.0))
    start, end = Point(0.0, 1.0, -8.0, before), Point(0.5, 0.0, -24.0, after)
    optimizer.accepted(before, down, start, end)
    assert optimizer.vectors == {}
    optimizer.accepted(before, -down, start, end)
    assert len(optimizer.vectors["s"]) == 1


@pytest.mark.parametrize("name", ["lbfgs", "conjugate_gradient"])
def test_parameters_without_gradient_stay(name: str) -> None:
    used, unused = (gn.asarray(np.array([3.0, -2.0]), requires_grad=True) for _ in range(2))
    optimizer = optim.create(name, [unused, used])

    def both() -> gn.Tensor:
        loss = (used**2).sum() + (unused**2).sum()
        loss.backward()
        return loss

    def one() -> gn.Tensor:
        loss = (used**2).sum()
        loss.backward()
        return loss

    both()  # leaves gradients in the buffer that must not count
    optimizer.step(one)
    np.testing.assert_array_equal(unused.detach().numpy(), [3.0, -2.0])
    np.testing.assert_allclose(used.detach().numpy(), 0, atol=1e-6)
    assert unused.grad is None


@pytest.mark.parametrize("name", optim.names())
def test_closures_run_with_gradients_on_and_from_none(name: str) -> None:
    p = gn.asarray(np.array([2.0]), requires_grad=True)
    optimizer = optim.create(name, [p])
    seen = []

    def closure() -> gn.Tensor:
        seen.append(p.grad is None)
        loss = (p**2).sum()
        loss.backward()
        return loss

    with gn.no_grad():
        assert float(optimizer.step(closure)) == 4.0
        optimizer.step(closure)
    assert all(seen)
    assert abs(float(p.detach())) < 2.0


@pytest.mark.parametrize("lr", [1.0, 0.1])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_first_step_of_lbfgs_is_lr_long_at_any_scale(scale: float, lr: float) -> None:
    x = gn.asarray([3.0, 4.0], dtype=gn.float64, requires_grad=True)
    tried = []

    def closure() -> gn.Tensor:
        tried.append(x.detach().numpy().copy())
        loss = scale * gn.sum(x * x)
        loss.backward()
        return loss

    optim.LBFGS([x], lr=lr, max_iterations=1, tolerance_grad=0.0).step(closure)
    np.testing.assert_allclose(tried[1], np.asarray([3.0, 4.0]) * (1 - lr / 5), rtol=1e-12)


@pytest.mark.parametrize("name", ["lbfgs", "conjugate_gradient"])
def test_a_schedule_may_begin_and_end_at_zero(name: str) -> None:
    w = gn.asarray(np.array([3.0, -2.0]), requires_grad=True)
    optimizer = optim.create(name, [w])
    rise = optim.schedule("warm_up", optimizer, steps=2)

    def closure() -> gn.Tensor:
        loss = (w**4).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 97.0
    assert optimizer.found.stopped == "learning rate"
    np.testing.assert_array_equal(w.detach().numpy(), [3.0, -2.0])
    rise.step()
    optimizer.step(closure)
    assert optimizer.found.loss < 1.0
    X, y = np.arange(12.0).reshape(6, 2), np.arange(6.0)
    model = gn.nn.MLP((2, 3, 1), "tanh", seed=0)
    history = gn.fit(
        *(model, X, y),
        optimizer=name,
        schedule="cosine",
        epochs=3,
        batch_size=None,
        progress=False,
    )
    assert history.epochs == 3
