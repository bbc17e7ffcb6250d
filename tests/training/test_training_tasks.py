"""fit on classes, values, soft targets and losses of one's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.backends import Backend
from gradnet.training import Trainer, fit


def mlp(outputs: int = 3, **options: Any) -> gn.nn.MLP:
    return gn.nn.MLP((5, 8, outputs), **{"output": "softmax", "seed": 3, **options})


@pytest.mark.parametrize("output", ["linear", "gaussian"])
def test_regression(output: str, backend: Backend, values: Any) -> None:
    model = gn.nn.MLP((4, 16, 1), output=output, activation="tanh", seed=0)
    history = fit(
        model, *values, lr=0.02, epochs=40, batch_size=16, validation=0.2, metrics=["rmse", "r2"],
        progress=False,
    )  # fmt: skip
    assert history["val_r2"][-1] > 0.4
    trainer = Trainer(model, metrics=["rmse", "mae", "r2"])
    assert set(trainer.evaluate(*values)) == {"loss", "rmse", "mae", "r2"}
    prediction = trainer.predict(values.X)
    mean = prediction[0] if output == "gaussian" else prediction
    assert mean.shape == (80, 1)
    assert not mean.requires_grad


@pytest.mark.parametrize("target", ["integers", "floats", "booleans", "column"])
def test_two_classes(target: str, backend: Backend, classes: Any) -> None:
    y = (classes.y > 0).astype(np.int64)
    given = {
        "integers": y,
        "floats": y.astype(np.float64),
        "booleans": y == 1,
        "column": y[:, None],
    }[target]
    model = mlp(1, output="sigmoid")
    history = fit(
        model, classes.X, given, lr=0.03, epochs=20, validation=0.2, progress=False,
        metrics=["accuracy", "roc_auc"],
    )  # fmt: skip
    assert history["val_accuracy"][-1] > 0.7
    assert history["val_roc_auc"][-1] > 0.7
    p = Trainer(model).predict(classes.X).numpy()
    assert p.shape == (90, 1)
    assert ((p > 0) & (p < 1)).all()


def test_soft_targets_and_label_smoothing(backend: Backend, classes: Any) -> None:
    soft = np.full((90, 3), 0.05, np.float32)
    soft[np.arange(90), classes.y] = 0.9
    options: dict[str, Any] = {"epochs": 3, "batch_size": 16, "progress": False}
    model, smoothed = mlp(), mlp()
    fit(model, classes.X, soft, **options)
    fit(smoothed, *classes, label_smoothing=0.15, **options)
    state = smoothed.state_dict()
    for name, x in model.state_dict().items():
        np.testing.assert_allclose(x.numpy(), state[name].numpy(), rtol=1e-3, atol=1e-4)


def test_a_model_without_output_unit_and_a_loss_by_name(backend: Backend, classes: Any) -> None:
    draw = gn.random.Generator(0)
    model = gn.nn.Sequential(
        gn.nn.Linear(5, 8, generator=draw), gn.nn.ReLU(), gn.nn.Linear(8, 3, generator=draw)
    )
    history = fit(
        model, *classes, loss="cross_entropy", lr=0.03, epochs=30, metrics="accuracy",
        progress=False,
    )  # fmt: skip
    assert history["accuracy"][-1] > 0.75
    total = Trainer(model, loss="cross_entropy").predict(classes.X).numpy().sum(axis=1)
    np.testing.assert_allclose(total, 1, rtol=1e-5)


def test_a_loss_of_ones_own(backend: Backend, values: Any) -> None:
    def quartic(z: gn.Tensor, y: gn.Tensor) -> gn.Tensor:
        return gn.mean((z - gn.expand_dims(y, 1)) ** 4)

    history = fit(
        gn.nn.MLP((4, 8, 1), seed=0), *values, loss=quartic, lr=0.01, epochs=10, batch_size=16,
        validation=0.2, metrics=["mae"], progress=False,
    )  # fmt: skip
    assert history["loss"][-1] < history["loss"][0]
    assert "val_mae" in history


def test_codes_stay_integers_for_an_embedding(backend: Backend) -> None:
    codes = np.arange(60).reshape(30, 2) % 4
    draw = gn.random.Generator(0)
    model = gn.nn.Sequential(
        gn.nn.Embedding(4, 3, generator=draw),
        gn.nn.Flatten(),
        gn.nn.Linear(6, 2, generator=draw),
    )
    history = fit(
        model, codes, codes[:, 0] // 2, loss="cross_entropy", lr=0.05, epochs=20, batch_size=8,
        metrics="accuracy", progress=False,
    )  # fmt: skip
    assert history["accuracy"][-1] == 1.0


def test_integer_features_are_cast_to_floats(backend: Backend) -> None:
    X = np.arange(40, dtype=np.uint8).reshape(20, 2)
    history = fit(gn.nn.MLP((2, 1), seed=0), X, X[:, 0] / 10, epochs=1, progress=False)
    assert np.isfinite(history["loss"]).all()


def test_losses_without_an_output_unit(backend: Backend, classes: Any) -> None:
    for loss in ("hinge", "perceptron"):
        model = gn.nn.Sequential(gn.nn.Linear(5, 3, generator=gn.random.Generator(0)))
        history = fit(
            model, *classes, loss=loss, lr=0.05, epochs=20, validation=0.2, metrics=["accuracy"],
            progress=False,
        )  # fmt: skip
        assert history["val_accuracy"][-1] > 0.6


def test_a_sigmoid_takes_probabilities(backend: Backend, classes: Any) -> None:
    p = np.where(classes.y > 0, 0.9, 0.2)
    model = mlp(1, output="sigmoid")
    history = fit(model, classes.X, p, lr=0.03, epochs=20, metrics=[], progress=False)
    assert history["loss"][-1] < history["loss"][0]
    z = Trainer(model, metrics=[]).evaluate(classes.X, p)["loss"]
    q = Trainer(model).predict(classes.X).numpy()[:, 0]
    expected = -(p * np.log(q) + (1 - p) * np.log(1 - q)).mean()
    assert z == pytest.approx(expected, rel=1e-5)
