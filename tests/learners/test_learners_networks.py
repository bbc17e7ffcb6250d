"""Feature maps, deep linear networks, maxout, and approximation by one hidden layer."""

from __future__ import annotations

import math
from itertools import chain
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import learners, nn

CORNERS = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
XOR = np.array([0, 1, 1, 0])


def test_products(backend: Any) -> None:
    found = learners.with_products([[2.0, 3.0, 5.0], [1.0, 0.0, -1.0]])
    assert found.tolist() == [[2, 3, 5, 6, 10, 15], [1, 0, -1, 0, -1, 0]]
    assert learners.with_products([[2.0]]).tolist() == [[2]]


@pytest.mark.parametrize("learner", [learners.Perceptron(), learners.LogisticRegression(l2=1e-4)])
def test_xor_through_a_feature_map(learner: Any) -> None:
    mapped = learners.FeatureMap(learner).fit(CORNERS, XOR)
    assert mapped.predict(CORNERS).tolist() == XOR.tolist()
    assert mapped.trace == learner.trace
    assert learner.fit(CORNERS, XOR).predict(CORNERS).tolist() != XOR.tolist()


def test_a_feature_map_of_ones_own() -> None:
    differ = learners.FeatureMap(learners.Perceptron(), lambda X: gn.abs(X[:, :1] - X[:, 1:]))
    assert differ.fit(CORNERS, XOR).predict(CORNERS).tolist() == XOR.tolist()


# Deep linear networks


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", [(3, 4), (3, 7, 2, 5), (2, 6, 6, 6, 1)])
def test_deep_linear_networks_are_one_layer(sizes: Any, bias: bool, backend: Any) -> None:
    rng = np.random.default_rng(0)
    model = nn.MLP(sizes, "identity", bias=bias, seed=1, dtype="float64")
    for p in model.parameters():
        p.assign_(rng.normal(size=p.shape))
    one = learners.collapse(model)
    assert isinstance(one, nn.Linear)
    assert one.weight.shape == (sizes[0], sizes[-1])
    assert (one.bias is not None) == bias
    x = rng.normal(size=(9, sizes[0]))
    np.testing.assert_allclose(one(x).detach().numpy(), model(x).detach().numpy(), rtol=1e-12)
    assert np.linalg.matrix_rank(one.weight.detach().numpy()) <= min(sizes)


def test_layers_with_and_without_bias_and_identities_collapse() -> None:
    model = nn.Sequential(
        nn.Linear(2, 3, bias=False, generator=gn.random.Generator(1)),
        nn.Identity(),
        nn.Sequential(nn.Linear(3, 3, activation="linear"), nn.Linear(3, 2, bias=False)),
    )
    model[2][0].bias.assign_(gn.asarray([1.0, -2.0, 0.5]))
    x = gn.random.Generator(2).normal((4, 2))
    expected = model(x).detach().numpy()
    np.testing.assert_allclose(learners.collapse(model)(x).detach().numpy(), expected, rtol=1e-5)


def test_a_deep_linear_network_learns_what_least_squares_finds() -> None:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(80, 3))
    y = X @ [1.0, -2.0, 0.5] + 0.3 + 0.1 * rng.normal(size=80)
    model = nn.MLP((3, 6, 6, 1), "identity", seed=0, dtype="float64")
    gn.fit(model, X, y, optimizer="lbfgs", epochs=20, batch_size=None, progress=False)
    one, best = learners.collapse(model), learners.LinearRegression().fit(X, y)
    np.testing.assert_allclose(
        one.weight.detach().numpy()[:, 0], best.weights.numpy(), rtol=1e-4, atol=1e-5
    )
    assert one.bias.item() == pytest.approx(best.bias.item(), abs=1e-4)


# Maxout


def test_a_maxout_unit_is_any_convex_function_of_straight_pieces() -> None:
    # |x|, relu, and max(-x - 1, 0, 2x - 1) by hand: each the largest of three lines.
    model = nn.MLP((1, 3, 3), "maxout", activation_operands={"groups": 3}, dtype="float64")
    slopes = [[1, -1, 0], [0, 1, 0], [-1, 0, 2]]
    starts = [[0, 0, -9], [0, 0, -9], [-1, 0, -1]]
    model.layers[0].weight.assign_(gn.asarray([list(chain(*slopes))]))
    model.layers[0].bias.assign_(gn.asarray(list(chain(*starts))))
    model.layers[2].weight.assign_(gn.eye(3))
    x = np.linspace(-3, 3, 25)[:, None]
    expected = np.concatenate(
        [abs(x), np.maximum(x, 0), np.maximum(np.maximum(-x - 1, 0), 2 * x - 1)], axis=1
    )
    np.testing.assert_allclose(model(x).detach().numpy(), expected, atol=1e-14)


def test_two_maxout_units_learn_a_function_that_is_not_convex() -> None:
    # The difference of two convex functions is any continuous one (Goodfellow et al. 2013).
    x = np.linspace(-1, 1, 100)[:, None]
    y = np.sin(3 * x)
    restarts = learners.Restarts(
        (1, 2, 1),
        "maxout",
        "linear",
        members=6,
        activation_operands={"groups": 5},
        lr=0.03,
        epochs=60,
        batch_size=25,
    ).fit(x, y)
    assert min(restarts.losses) < 0.01


# Approximation


def wave(x: gn.Tensor) -> gn.Tensor:
    return gn.sin(2 * math.pi * x) + x


def test_the_error_falls_with_the_square_of_the_width(backend: Any) -> None:
    found = learners.approximate(wave, (4, 8, 16, 32, 64))
    assert found.widths == [4, 8, 16, 32, 64]
    for width, error, square in zip(found.widths, found.trace, found.mean_square, strict=True):
        # h^2 / 8 times the largest |f''|, which is 4 pi^2.
        assert square < error**2
        assert error <= 4 * math.pi**2 / (8 * width**2) * (1 + 1e-9)
    assert found.trace[-1] == pytest.approx(found.trace[-2] / 4, rel=0.05)


def test_the_constructed_network_meets_the_function_at_its_knots() -> None:
    model = learners.construct(lambda x: x**3, 5, (-1.0, 4.0))
    assert model.sizes == (1, 5, 1)
    x = np.arange(-1.0, 5.0)[:, None]
    np.testing.assert_allclose(model(x).detach().numpy(), x**3, atol=1e-11)
    between = model(np.array([[2.5]])).item()
    assert between == pytest.approx((8 + 27) / 2)


@pytest.mark.parametrize("activation", ["tanh", "softsign"])
def test_a_trained_layer_is_nearer_the_wider_it_is(activation: str) -> None:
    options: dict[str, Any] = {"epochs": 60, "members": 4, "points": 100, "lr": 0.05}
    found = learners.approximate(
        wave, (1, 6), (-0.5, 0.5), method="learn", activation=activation, **options
    )
    assert found.mean_square[1] < found.mean_square[0] / 3
    assert found.mean_square[1] < 0.01
    assert found.networks[1].activation == activation
