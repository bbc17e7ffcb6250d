"""Initialisers: bounds and moments of what they draw, the same bits everywhere, the registry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import nn
from gradnet.nn import init
from gradnet.random import Generator, default_generator

SHAPE = (300, 200)

# Name, settings, expected standard deviation, and bound of the uniform ones.
SPREADS: list[tuple[str, dict[str, Any], float]] = [
    ("normal", {}, 0.01),
    ("normal", {"mean": 0.0, "std": 2.0}, 2.0),
    ("uniform", {}, 0.05 / np.sqrt(3)),
    ("uniform", {"low": -3.0, "high": 3.0}, 3 / np.sqrt(3)),
    ("glorot_normal", {}, np.sqrt(2 / 500)),
    ("glorot_uniform", {}, np.sqrt(2 / 500)),
    ("glorot_uniform", {"gain": 3.0}, 3 * np.sqrt(2 / 500)),
    ("he_normal", {}, np.sqrt(2 / 300)),
    ("he_uniform", {}, np.sqrt(2 / 300)),
    ("he_normal", {"gain": init.rectifier_gain(0.5)}, np.sqrt(2 / 1.25 / 300)),
    ("lecun_normal", {}, np.sqrt(1 / 300)),
    ("lecun_uniform", {}, np.sqrt(1 / 300)),
]


@pytest.mark.parametrize(("name", "settings", "deviation"), SPREADS)
def test_moments(name: str, settings: dict[str, Any], deviation: float, backend: Any) -> None:
    x = init.get(name)(SHAPE, generator=Generator(1), **settings).numpy().astype(np.float64)
    assert x.shape == SHAPE
    # Five standard errors of 60,000 draws.
    assert abs(x.mean()) < 5 * deviation / np.sqrt(x.size)
    assert abs(x.std() / deviation - 1) < 5 / np.sqrt(2 * x.size)
    if "uniform" in name:
        bound = deviation * np.sqrt(3)
        assert np.abs(x).max() <= bound * (1 + 1e-6)
        assert np.abs(x).max() > 0.99 * bound
    else:
        assert np.abs(x).max() > 3.5 * deviation


@pytest.mark.parametrize("name", init.names())
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_the_same_bits_on_every_backend(name: str, dtype: str, backend: Any) -> None:
    ours = init.get(name)((7, 5), generator=Generator(4), dtype=dtype)
    assert ours.dtype.name == dtype
    assert ours.backend is backend
    with gn.backends.use("numpy"):
        reference = init.get(name)((7, 5), generator=Generator(4), dtype=dtype)
    np.testing.assert_array_equal(ours.numpy(), reference.numpy())


def test_constants() -> None:
    assert init.zeros((2,)).tolist() == [0, 0]
    assert init.ones((2,)).tolist() == [1, 1]
    assert init.constant((1, 2), 3).tolist() == [[3, 3]]
    assert init.constant((2,), 3).dtype == gn.float32


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (2, 3, 4), (1, 3)])
def test_orthogonal(shape: tuple[int, ...], backend: Any) -> None:
    w = init.orthogonal(shape, gain=2.0, generator=Generator(0), dtype=gn.float64).numpy()
    assert w.shape == shape
    matrix = w.reshape(-1, shape[-1])
    n, m = matrix.shape
    gram = matrix.T @ matrix if n >= m else matrix @ matrix.T
    np.testing.assert_allclose(gram, 4 * np.eye(min(n, m)), atol=1e-12)


def test_orthogonal_favours_no_sign() -> None:
    corners = [
        init.orthogonal((2, 2), generator=Generator(seed))[0, 0].item() for seed in range(200)
    ]
    assert 60 < sum(corner > 0 for corner in corners) < 140


def test_fans_of_weights_of_more_axes() -> None:
    assert init.fans((3, 4)) == (3, 4)
    assert init.fans((2, 3, 4)) == (6, 4)


def test_draws_come_from_the_generator_given_or_the_default_one() -> None:
    gn.random.seed(9)
    first = init.normal((4,)).tolist()
    assert default_generator().get_state()["counter"] > 0
    gn.random.seed(9)
    assert init.normal((4,)).tolist() == first
    assert init.normal((4,), generator=Generator(9)).tolist() == first


def test_every_initialiser_is_found_by_name_and_new_ones_too() -> None:
    wanted = ["zeros", "ones", "constant", "normal", "uniform", "orthogonal"]
    wanted += [f"{who}_{how}" for who in ("glorot", "he", "lecun") for how in ("normal", "uniform")]
    assert set(wanted) <= set(init.names())

    @init.initializer
    def sevens(shape: Any, **options: Any) -> gn.Tensor:
        return init.constant(shape, 7.0, **options)

    assert nn.Linear(2, 1, init="sevens").weight.tolist() == [[7], [7]]
    assert nn.Linear(2, 1, init=sevens).weight.tolist() == [[7], [7]]


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        (None, "glorot_uniform"),
        ("tanh", "glorot_uniform"),
        ("sigmoid", "glorot_uniform"),
        ("relu", "he_normal"),
        ("gelu", "he_normal"),
        ("prelu", "he_normal"),
        ("selu", "lecun_normal"),
        ("an activation of tomorrow", "he_normal"),
    ],
)
def test_the_activation_decides_without_a_name(activation: str | None, expected: str) -> None:
    assert init.for_activation(activation) == expected


def test_signals_keep_their_scale_through_twenty_layers() -> None:
    x = gn.asarray(np.random.default_rng(0).normal(size=(64, 256)).astype(np.float32))
    for name in ("relu", "selu", "identity"):
        model = nn.MLP((256,) * 22, activation=name, seed=0)
        assert 0.3 < float(model.layers[:20](x).detach().numpy().std()) < 3


def test_blank_layers_draw_nothing() -> None:
    state = default_generator().get_state()
    with init.blank():
        layer = nn.Linear(3, 2, init="orthogonal")
    assert layer.weight.tolist() == [[0, 0]] * 3
    assert default_generator().get_state() == state
    assert np.count_nonzero(nn.Linear(3, 2).weight.detach().numpy()) == 6
