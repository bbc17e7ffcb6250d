"""Output units: their losses, predictions and sizes, by name; new ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import nn
from gradnet.nn import outputs

RNG = np.random.default_rng(2)
Z = RNG.normal(size=(5, 4))
CLASSES = np.array([0, 3, 2, 1, 1])
W = np.array([1.0, 0.0, 2.0, 0.5, 1.0])


def test_the_four_units() -> None:
    found = {name: outputs.output_unit(name) for name in outputs.names()}
    assert {name: unit.task for name, unit in found.items()} == {
        "softmax": "classification",
        "sigmoid": "classification",
        "linear": "regression",
        "gaussian": "regression",
    }
    assert {name: unit.units(3) for name, unit in found.items()} == {
        "softmax": 3,
        "sigmoid": 3,
        "linear": 3,
        "gaussian": 6,
    }
    assert all(unit.name == name for name, unit in found.items())
    assert outputs.output_unit(found["linear"]) is found["linear"]


def test_softmax(backend: Any) -> None:
    unit = nn.output_unit("softmax")
    settings = {"class_weight": [1, 2, 3, 4], "label_smoothing": 0.1}
    assert (
        unit.loss(Z, CLASSES, W, **settings).item()
        == nn.cross_entropy(Z, CLASSES, sample_weight=W, **settings).item()
    )
    p = unit.predict(Z).numpy()
    np.testing.assert_allclose(p.sum(axis=1), 1)
    np.testing.assert_array_equal(p.argmax(axis=1), Z.argmax(axis=1))


def test_sigmoid(backend: Any) -> None:
    unit = nn.output_unit("sigmoid")
    z, y = Z[:, :1], np.array([0, 1, 1, 0, 1])
    settings = {"class_weight": [1, 2], "label_smoothing": 0.1}
    assert (
        unit.loss(z, y, W, **settings).item()
        == nn.binary_cross_entropy(z, y, sample_weight=W, **settings).item()
    )
    np.testing.assert_allclose(unit.predict(z).numpy(), 1 / (1 + np.exp(-z)))


def test_linear(backend: Any) -> None:
    unit = nn.output_unit("linear")
    y = Z[::-1].copy()
    assert unit.loss(Z, y, W).item() == nn.mse(Z, y, sample_weight=W).item()
    np.testing.assert_array_equal(unit.predict(Z).numpy(), Z)


def test_gaussian(backend: Any) -> None:
    unit = nn.output_unit("gaussian")
    y = Z[:, 2:] * 2
    assert unit.loss(Z, y, W).item() == nn.gaussian_nll(Z, y, sample_weight=W).item()
    mean, variance = unit.predict(Z)
    np.testing.assert_array_equal(mean.numpy(), Z[:, :2])
    np.testing.assert_allclose(variance.numpy(), np.log1p(np.exp(Z[:, 2:])) + 1e-6)
    single = unit.loss(Z[:, :2], y[:, 0]).item()
    assert single == nn.gaussian_nll(Z[:, :2], y[:, :1]).item()


def test_gaussian_learns_mean_and_variance_of_noise() -> None:
    y = gn.asarray(RNG.normal(2.0, 0.5, size=4000), dtype=gn.float64)
    z = gn.asarray([[0.0, 0.0]], dtype=gn.float64, requires_grad=True)
    unit = nn.output_unit("gaussian")
    for _ in range(400):
        z.grad = None
        unit.loss(gn.broadcast_to(z, (4000, 2)), y).backward()
        assert z.grad is not None
        z.assign_(z.detach() - 0.3 * z.grad)
    mean, variance = unit.predict(z.detach())
    assert mean.item() == pytest.approx(y.mean().item(), abs=1e-3)
    assert variance.item() == pytest.approx(y.var().item(), rel=1e-2)


def test_units_pass_reduction_and_check_on() -> None:
    y = np.full(Z.shape, np.nan)
    loss = nn.output_unit("linear").loss(Z, y, reduction="none", check=False)
    assert loss.shape == Z.shape


def test_a_new_unit_is_found_by_name() -> None:
    @nn.register_output
    class Counts(nn.OutputUnit):
        name = "counts"
        task = "regression"

        def loss(self, z: Any, y: Any, *weights: Any, **settings: Any) -> gn.Tensor:
            return gn.mean(gn.exp(z) - y * z)

        def predict(self, z: Any) -> gn.Tensor:
            return gn.exp(z)

    try:
        model = nn.MLP((2, 3, 1), output="counts", seed=0)
        assert isinstance(model.output, Counts)
        assert model.output.loss(model(gn.ones((4, 2))), gn.ones((4, 1))).shape == ()
        assert repr(model.output) == "<output unit counts>"
    finally:
        del outputs._UNITS["counts"]
