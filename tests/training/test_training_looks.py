"""What pictures are drawn from: range test, statistics of layers, surfaces, over-fitting."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import nn
from gradnet.errors import DataError
from gradnet.training import (
    WeightPath,
    find_learning_rate,
    layer_statistics,
    loss_surface,
    overfitting,
)


def line(rows: int = 64) -> tuple[Any, Any]:
    """Rows of 3 features, and a number that is linear in them."""
    x = gn.random.Generator(0).normal((rows, 3))
    return x, x[:, 0] - 2 * x[:, 1] + 0.5


# The range test


def test_range_test_finds_where_the_loss_falls() -> None:
    X, y = line()
    model = nn.MLP((3, 1), seed=0)
    before = {name: x.numpy().copy() for name, x in model.state_dict().items()}
    state = gn.random.default_generator().get_state()
    found = find_learning_rate(
        model, X, y, optimizer="sgd", lowest=1e-4, highest=10.0, steps=120, batch_size=16
    )
    assert gn.random.default_generator().get_state() == state
    for name, x in model.state_dict().items():
        np.testing.assert_array_equal(x.numpy(), before[name])
    assert all(parameter.grad is None for parameter in model.parameters())
    assert len(found.rates) == len(found.losses) == len(found.smoothed) < 120  # it diverged
    ratios = np.array(found.rates[1:]) / found.rates[:-1]
    np.testing.assert_allclose(ratios, (1e5) ** (1 / 119))
    # Of a mean squared error with unit features the stable rates end near 1 / 2 ... 1.
    assert 3e-3 < found.suggestion < 0.5
    lowest = found.rates[int(np.argmin(found.smoothed))]
    assert found.suggestion < lowest


def test_range_test_repeats() -> None:
    X, y = line()
    model = nn.MLP((3, 8, 1), "relu", 0.5, seed=0)
    first = find_learning_rate(model, X, y, steps=20, seed=3)
    assert first == find_learning_rate(model, X, y, steps=20, seed=3)
    assert first != find_learning_rate(model, X, y, steps=20, seed=4)


def test_bad_range_tests() -> None:
    X, y = line()
    model = nn.MLP((3, 1), seed=0)
    with pytest.raises(ValueError, match="must grow, from lowest=1 to"):
        find_learning_rate(model, X, y, lowest=1.0, highest=0.1)
    with pytest.raises(ValueError, match="trains a copy of the model"):
        find_learning_rate(model, X, y, optimizer=gn.optim.Adam(model.parameters()))
    with pytest.raises(ValueError, match="searches for its own rate"):
        find_learning_rate(model, X, y, optimizer="lbfgs")
    with pytest.raises(ValueError, match="steps must be at least 10"):
        find_learning_rate(model, X, y, steps=3)
    with pytest.raises(ValueError, match="the first batch is not finite"):
        find_learning_rate(model, X * 1e30, y)


# Statistics of layers


def reference(model: nn.MLP, X: Any, y: Any) -> tuple[list[Any], list[Any]]:
    """Outputs of the two layers of a sigmoid network, and their gradients for the sum of losses."""
    w, b, v, c = (p.numpy().astype(float) for p in model.parameters())
    z = X @ w + b
    h = 1 / (1 + np.exp(-z))
    out = h @ v + c
    g = 2 * (out - y[:, None])
    return [h, out], [g @ v.T, g]


def test_layer_statistics_are_those_of_the_formulas() -> None:
    X = gn.random.Generator(2).normal((40, 3)).numpy().astype(float) * 4
    y = X[:, 0]
    model = nn.MLP((3, 5, 1), "sigmoid", dtype="float64", seed=1)
    model.train()
    hidden, last = layer_statistics(model, X, y)
    outputs, gradients = reference(model, X, y)
    for found, value, g in zip((hidden, last), outputs, gradients, strict=True):
        assert found.mean == pytest.approx(value.mean())
        assert found.std == pytest.approx(value.std())
        assert found.gradient == pytest.approx(np.sqrt((g**2).mean()))
        assert found.quantiles[2] == pytest.approx(np.median(value), abs=0.1)
    slopes = outputs[0] * (1 - outputs[0])
    assert hidden.saturated == pytest.approx((slopes <= 0.05 * 0.25).mean())
    assert (hidden.name, hidden.kind, hidden.units) == ("layers.0", "Linear, sigmoid", 5)
    assert (last.saturated, last.dead) == (None, None)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_dead_units_are_found() -> None:
    X, y = line()
    model = nn.MLP((3, 4, 1), "relu", seed=0)
    layer = next(m for m in model.modules() if isinstance(m, nn.Linear))
    assert layer.bias is not None
    with gn.no_grad():
        layer.bias.assign_(gn.asarray([-100.0, 100.0, 100.0, -100.0]))
    hidden, _ = layer_statistics(model, X, y)
    assert hidden.dead == pytest.approx(0.5)
    assert hidden.saturated == pytest.approx(0.5)


def test_layers_of_a_sequential_are_told_apart() -> None:
    X, y = line()
    model = nn.Sequential(
        nn.Linear(3, 4), nn.Tanh(), nn.LayerNorm(4), nn.Dropout(0.5), nn.Linear(4, 1)
    )
    found = layer_statistics(model, X, y, loss="mse")
    assert [s.kind for s in found] == ["Linear", "Tanh", "LayerNorm", "Linear"]
    assert [s.saturated is None for s in found] == [True, False, True, True]
    with pytest.raises(DataError):
        layer_statistics(model, X, y * math.nan, loss="mse")


# The loss around the weights


def test_surface_of_a_linear_model_is_its_quadratic() -> None:
    X, y = line()
    model = nn.MLP((3, 1), seed=0, dtype="float64")
    path = WeightPath()
    history = gn.fit(
        model, X, y, optimizer="sgd", lr=0.05, epochs=12, progress=False, callbacks=[path]
    )
    assert len(path.points) == history.epochs + 1
    found = loss_surface(model, X, y, path=path, points=5)
    assert found.directions == "path"
    assert found.shares is not None
    assert 1.0 >= sum(found.shares) > 0.9
    assert found.path[-1] == pytest.approx((0.0, 0.0), abs=1e-12)
    assert found.path[0][0] < 0
    assert found.centre == pytest.approx(min(history["loss"]), rel=0.3)
    # Along a line, the second differences of a quadratic are one number.
    losses = np.array(found.losses)
    for line_of in (*losses, *losses.T):
        np.testing.assert_allclose(np.diff(line_of, 2), np.diff(line_of, 2)[0], rtol=1e-9)


def test_random_directions_have_the_norm_of_each_units_weights() -> None:
    X, y = line()
    model = nn.MLP((3, 4, 1), "tanh", seed=0, dtype="float64")
    found = loss_surface(model, X, y, points=3, reach=0.5, seed=7)
    assert found.x == found.y == (-0.5, 0.0, 0.5)
    assert found.losses[1][1] == found.centre
    assert (found.shares, found.path) == (None, ())
    again = loss_surface(model, X, y, points=3, reach=0.5, seed=7)
    assert again == found
    # Weights ten times as large in one layer and a tenth in the next: the same surface.
    linear = nn.MLP((3, 4, 1), "identity", seed=0, dtype="float64")
    first = loss_surface(linear, X, y, points=3).losses
    before, after = (m for m in linear.modules() if isinstance(m, nn.Linear))
    with gn.no_grad():
        before.weight.assign_(before.weight * 10.0)
        after.weight.assign_(after.weight / 10.0)
    np.testing.assert_allclose(loss_surface(linear, X, y, points=3).losses, first, rtol=1e-9)


def test_bad_surfaces() -> None:
    X, y = line()
    model = nn.MLP((3, 1), seed=0)
    with pytest.raises(ValueError, match="at least three points on it, got 0"):
        loss_surface(model, X, y, directions="path")
    other = [tuple(nn.MLP((4, 1), seed=i).parameters()) for i in range(3)]
    with pytest.raises(ValueError, match="the path is of another model"):
        loss_surface(model, gn.ones((4, 3)), gn.ones((4,)), path=other)
    same = [tuple(p.detach() for p in model.parameters())] * 3
    with pytest.raises(ValueError, match="there is no way"):
        loss_surface(model, X, y, path=same)
    with pytest.raises(ValueError, match="'random' or 'path', not 'up'"):
        loss_surface(model, X, y, directions="up")  # type: ignore[arg-type]


# Over-fitting


def test_overfitting_fits_each_network_once() -> None:
    X, y = line(24)
    noise = gn.random.Generator(5).normal((24,))
    found = overfitting(
        X,
        y + noise,
        (X[:8] * 0.9, y[:8]),
        widths=(1, 4),
        depths=(0, 1),
        l2=(0.0, 1.0),
        base=(4, 1, 0.0),
        epochs=20,
        lr=0.02,
        seeds=2,
    )
    # The base stands in all three rows, and is fitted once.
    kinds = [(fit.width, fit.depth, fit.l2) for fit in found.fits]
    assert sorted(set(kinds)) == [(1, 1, 0.0), (4, 0, 0.0), (4, 1, 0.0), (4, 1, 1.0)]
    assert len(kinds) == 8
    assert [fit.seed for fit in found.of("depth", 0)] == [0, 1]
    assert all(fit.train > 0 and fit.validation > 0 for fit in found.fits)
    held_back = np.mean([fit.train for fit in found.of("l2", 1.0)])
    assert held_back > np.mean([fit.train for fit in found.of("l2", 0.0)])


def test_overfitting_of_classes() -> None:
    X, _ = line(24)
    y = gn.asarray([0, 1, 2] * 8)
    found = overfitting(X, y, (X, y), widths=(2,), depths=(), l2=(), epochs=2, seeds=1)
    (fit,) = found.fits
    assert fit.train == pytest.approx(fit.validation)
    assert 0.2 < fit.train < 3.0
    with pytest.raises(ValueError, match=r"rows of features \(n, k\)"):
        overfitting(X[:, 0], y, (X, y))
    with pytest.raises(ValueError, match="widths must be at least 1"):
        overfitting(X, y, (X, y), widths=(0,))
