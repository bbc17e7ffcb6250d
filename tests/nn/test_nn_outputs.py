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


def test_the_units() -> None:
    found = {name: outputs.output_unit(name) for name in outputs.names()}
    classification = {"softmax": 3, "sigmoid": 3}
    regression = {"linear": 3, "gaussian": 6, "mixture": 21, "poisson": 3, "quantile": 9}
    assert {name: unit.units(3) for name, unit in found.items()} == classification | regression
    for name, unit in found.items():
        assert unit.name == name
        assert unit.task == ("classification" if name in classification else "regression")
        assert outputs.output_unit(unit) is unit
        assert type(outputs.output_unit(unit.config())) is type(unit)


@pytest.mark.parametrize("name", outputs.names())
def test_every_unit_trains_and_is_saved(name: str, tmp_path: Any) -> None:
    x = RNG.normal(size=(60, 2)).astype(np.float32)
    classes = (x[:, 0] > x[:, 1]).astype(np.int64)
    regression = nn.output_unit(name).task == "regression"
    y = np.floor(np.exp(x[:, 0])) if regression else classes
    model = nn.MLP((2, 8, 2 if name == "softmax" else 1), output=name, seed=0)
    history = gn.fit(model, x, y, epochs=8, lr=0.02, validation=0.2, batch_size=16, progress=False)
    assert history["loss"][-1] < history["loss"][0]
    assert np.isfinite(history["val_rmse" if regression else "val_accuracy"]).all()
    model.save(tmp_path / "model.safetensors")
    loaded = gn.load(tmp_path / "model.safetensors")
    assert loaded.output.config() == model.output.config()
    np.testing.assert_array_equal(
        loaded.output.estimate(loaded(x)).numpy(), model.output.estimate(model(x)).numpy()
    )
    if regression:
        with pytest.raises(ValueError, match=f"{name!r} is for regression"):
            model.output.loss(model(x), y, class_weight=[1, 2])


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


# Mixtures, quantiles, counts


def mixture(targets: int = 1) -> tuple[nn.MixtureOutput, gn.Tensor]:
    """Three components around -2, 0 and 3, seen twice, for one or two targets."""
    unit = nn.MixtureOutput(3)
    means = [m + 10 * t for m in (-2, 0, 3) for t in range(targets)]
    raw = [np.log(np.expm1(v)) for v in (0.04, 0.01, 0.09) for _ in range(targets)]
    row = [*np.log([0.5, 0.2, 0.3]), *means, *raw]
    return unit, gn.asarray([row, row], dtype=gn.float64)


@pytest.mark.parametrize("targets", [1, 2])
def test_samples_of_a_mixture_have_its_moments(targets: int, backend: Any) -> None:
    unit, z = mixture(targets)
    mean, variance = unit.predict(z)
    assert mean.shape == variance.shape == (2, targets)
    assert mean[0, 0].item() == pytest.approx(-0.1)
    assert variance[0, 0].item() == pytest.approx(
        0.049 + 0.5 * 1.9**2 + 0.2 * 0.1**2 + 0.3 * 3.1**2
    )
    drawn = unit.sample(z, 20000, generator=gn.random.Generator(0)).numpy()
    assert drawn.shape == (20000, 2, targets)
    np.testing.assert_allclose(drawn.mean(axis=0), mean.numpy(), atol=0.06)
    np.testing.assert_allclose(drawn.var(axis=0), variance.numpy(), rtol=0.03)
    near = abs(drawn[:, 0, 0, None] - [-2, 0, 3]) < 1
    np.testing.assert_allclose(near.mean(axis=0), [0.5, 0.2, 0.3], atol=0.01)


def test_modes_of_a_mixture_are_its_peaks(backend: Any) -> None:
    unit, z = mixture()
    modes, density = unit.modes(z)
    assert modes.shape == (2, 3, 1)
    np.testing.assert_allclose(modes.numpy()[1, :, 0], [-2, 0, 3], atol=1e-3)
    np.testing.assert_allclose(
        density.numpy()[0],
        [
            w / np.sqrt(2 * np.pi * v)
            for w, v in ((0.5, 0.040001), (0.2, 0.010001), (0.3, 0.090001))
        ],
        rtol=1e-4,
    )
    overlapping = gn.asarray([[0.0, 0.0, -0.5, 0.5, 1.0, 1.0]], dtype=gn.float64)
    merged, _ = nn.MixtureOutput(2).modes(overlapping, iterations=2000)
    np.testing.assert_allclose(merged.numpy().ravel(), [0, 0], atol=1e-6)


def test_settings_of_units_travel() -> None:
    model = nn.MLP((2, 3, 1), output={"name": "mixture", "components": 5})
    assert model(gn.ones((4, 2))).shape == (4, 15)
    assert nn.from_config(model.config()).output.components == 5
    assert repr(model.output) == "<output unit mixture components=5>"
    assert nn.output_unit({"name": "quantile", "q": [0.25, 0.75]}).q == (0.25, 0.75)
    assert nn.MLP((2, 1)).config()["output"] == "linear"


def test_quantiles_do_not_cross(backend: Any) -> None:
    unit = nn.output_unit("quantile")
    z = gn.asarray([[3.0, 1.0, 2.0]])
    assert unit.predict(z).tolist() == [[1, 2, 3]]
    assert unit.estimate(z).tolist() == [[2]]
    both = unit.predict(gn.concat([z, z + 4], axis=1))
    assert both.tolist() == [[[1, 2, 3], [5, 6, 7]]]
    assert unit.estimate(gn.concat([z, z + 4], axis=1)).tolist() == [[2, 6]]


def test_quantiles_hold_their_share_of_noise() -> None:
    y = RNG.gamma(2.0, size=3000)
    z = gn.zeros((1, 3), dtype=gn.float64)
    z.requires_grad = True
    unit = nn.output_unit("quantile")
    for step in range(300):
        z.grad = None
        unit.loss(gn.broadcast_to(z, (3000, 3)), y).backward()
        z.assign_(z.detach() - 20 / (1 + step) ** 0.7 * z.grad)
    shares = [(y <= level).mean() for level in unit.predict(z.detach())[0].tolist()]
    np.testing.assert_allclose(shares, [0.1, 0.5, 0.9], atol=0.01)


def test_a_poisson_unit_finds_the_rate() -> None:
    y = RNG.poisson(3.5, size=500)
    z = gn.zeros((1, 1), dtype=gn.float64)
    z.requires_grad = True
    unit = nn.output_unit("poisson")
    for _ in range(100):
        z.grad = None
        unit.loss(gn.broadcast_to(z, (500, 1)), y).backward()
        z.assign_(z.detach() - 0.2 * z.grad)
    assert unit.predict(z.detach()).item() == pytest.approx(y.mean(), rel=1e-6)


BAD = [
    (lambda: nn.MixtureOutput(0), ValueError, "at least 1 component"),
    (lambda: nn.QuantileOutput([]), ValueError, "0 < q < 1"),
    (lambda: nn.QuantileOutput([0.0, 0.5]), ValueError, "0 < q < 1"),
    (lambda: nn.QuantileOutput([0.5, 0.1]), ValueError, "levels that rise"),
    (lambda: nn.output_unit({"name": "mixtur"}), KeyError, "did you mean mixture"),
    (lambda: nn.output_unit({"components": 2}), KeyError, "no output unit"),
    (lambda: nn.output_unit({"name": "linear", "components": 2}), TypeError, "argument"),
    (lambda: nn.output_unit("mixture").parameters(Z), gn.errors.ShapeError, r"\(5, 4\)"),
    (lambda: nn.output_unit("mixture").loss(np.ones((5, 9)), Z), gn.errors.ShapeError, "1 targets"),
    (lambda: nn.mixture_nll(Z, np.ones(4)), gn.errors.ShapeError, r"\(4, 1\)"),
    (lambda: nn.mixture_nll(Z, np.ones(5)), gn.errors.ShapeError, "a multiple of 3"),
    (lambda: nn.quantile(Z, Z, q=1.5), ValueError, "0 < q < 1"),
    (lambda: nn.quantile(Z, Z, q=(0.1, 0.5, 0.9)), gn.errors.ShapeError, r"\(n, 3 m\)"),
    (lambda: nn.poisson_nll(Z, Z), gn.errors.DataError, "row"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_calls(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
