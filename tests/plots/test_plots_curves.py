"""Curves, the learning-rate range test, the loss around the weights, and over-fitting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pictures import labelled, lines, panels, words

from gradnet import plots
from gradnet.errors import DataError
from gradnet.training import CapacityStudy, History, LossSurface, RateSearch
from gradnet.training.capacity import Fit


def test_history(run: History, theme: Any) -> None:
    figure = plots.history(run, labels={"loss": "loss (nats)"}, theme=theme)
    loss, accuracy = panels(figure)
    found = lines(loss)
    np.testing.assert_allclose(found["training"][:, 1], run["loss"])
    np.testing.assert_allclose(found["validation"][:, 1], run["val_loss"])
    np.testing.assert_allclose(found["best epoch 3: 1"], [[3, 1.0]])
    assert set(words(loss)) == {"training", "validation", "best epoch 3: 1"}
    assert words(accuracy) == ["epoch 3: 0.9"]
    assert loss.get_yscale() == "log"  # it spans a factor of 100
    assert accuracy.get_yscale() == "linear"
    assert loss.get_ylabel() == "loss (nats)"
    assert loss.get_xlabel() == accuracy.get_xlabel() == "epoch"
    assert [x for line in loss.get_lines() for x in line.get_xdata()].count(3) >= 4
    labelled(figure)


def test_history_of_chosen_quantities(run: History) -> None:
    (only,) = panels(plots.history(run, "lr"))
    assert only.get_title(loc="left") == "Learning rate"
    assert only.get_legend() is None
    with pytest.raises(KeyError, match="no column 'precision'"):
        plots.history(run, ("loss", "precision"))
    with pytest.raises(DataError, match="no epochs"):
        plots.history(History())
    with pytest.raises(TypeError, match="what fit returns, not dict"):
        plots.history({})  # type: ignore[arg-type]


def test_history_of_one_epoch() -> None:
    history = History()
    history.append({"loss": 1.0})
    (ax,) = panels(plots.history(history))
    assert ax.get_lines()[0].get_marker() == "o"


def test_learning_rate(theme: Any) -> None:
    rates = tuple(10.0 ** (-5 + 0.1 * i) for i in range(60))
    losses = tuple(1 + 1 / (1 + np.exp(0.5 * (i - 30))) + 0.01 * (-1) ** i for i in range(60))
    smoothed = tuple(1 + 1 / (1 + np.exp(0.5 * (i - 30))) for i in range(60))
    search = RateSearch(rates, losses, smoothed)
    figure = plots.learning_rate(search, label="loss (nats)", theme=theme)
    (ax,) = panels(figure)
    found = lines(ax)
    assert ax.get_xscale() == "log"
    np.testing.assert_allclose(found["each batch"][:, 1], losses)
    np.testing.assert_allclose(found["smoothed"], np.stack([rates, smoothed], axis=1))
    ((rate, loss),) = found["suggested rate 0.01"]
    assert rate == search.suggestion == pytest.approx(1e-2)
    assert loss == pytest.approx(1.5)
    labelled(figure)
    with pytest.raises(TypeError, match="find_learning_rate returns, not list"):
        plots.learning_rate([])  # type: ignore[arg-type]


def bowl(scale: float, path: bool) -> LossSurface:
    axis = tuple(np.linspace(-1, 1, 9))
    losses = tuple(tuple(0.1 + scale * (a * a + b * b) for a in axis) for b in axis)
    way = ((-0.9, -0.9), (-0.4, -0.2), (0.0, 0.0)) if path else ()
    shares = (0.8, 0.1) if path else None
    return LossSurface(axis, axis, losses, "path" if path else "random", shares, way, 0.1)


@pytest.mark.parametrize("path", [False, True])
def test_loss_surface(path: bool, theme: Any) -> None:
    figure = plots.loss_surface(bowl(5.0, path), label="loss (nats)", theme=theme)
    (ax,) = panels(figure)
    found = lines(ax)
    np.testing.assert_allclose(found["the network: 0.1"], [[0, 0]])
    if path:
        way = found["training, epoch by epoch"]
        np.testing.assert_allclose(way, [[-0.9, -0.9], [-0.4, -0.2], [0, 0]])
        np.testing.assert_allclose(found["start"], [[-0.9, -0.9]])
        assert ax.get_xlabel() == "first principal direction, 80 % of the path"
    bar = figure.axes[1]
    assert bar.get_ylabel() == "loss (nats)"
    assert bar.get_yscale() == "log"
    assert ax.collections[0].norm.vmin == pytest.approx(0.1)
    labelled(figure)


def test_a_flat_surface_and_what_is_none() -> None:
    flat = bowl(0.0, False)
    labelled(plots.loss_surface(flat))
    with pytest.raises(TypeError, match=r"training\.loss_surface returns, not tuple"):
        plots.loss_surface(())  # type: ignore[arg-type]


def study() -> CapacityStudy:
    varied = {"width": (1.0, 4.0, 16.0), "depth": (0.0, 1.0), "l2": (0.0, 1e-4, 0.1)}
    fits = []
    for width, depth, l2 in [
        (1, 1, 0),
        (4, 1, 0),
        (16, 1, 0),
        (4, 0, 0),
        (4, 1, 1e-4),
        (4, 1, 0.1),
    ]:
        for seed in (0, 1):
            size = width * (1 + depth) / (1 + 10 * l2) + 0.1 * seed
            fits.append(Fit(width, depth, l2, seed, 1 / size, 0.5 + abs(size - 8) / 8))
    return CapacityStudy(tuple(fits), varied, (4, 1, 0.0))


def test_overfitting(theme: Any) -> None:
    figure = plots.overfitting(study(), label="squared error", theme=theme)
    width, depth, l2 = panels(figure)
    assert words(width) == ["training", "validation"]
    train = [np.mean([1 / 2, 1 / 2.1]), np.mean([1 / 8, 1 / 8.1]), np.mean([1 / 32, 1 / 32.1])]
    np.testing.assert_allclose(lines(width)["training"][:, 1], train)
    assert [t.get_text() for t in width.get_xticklabels()] == ["1", "4", "16"]
    assert [t.get_text() for t in l2.get_xticklabels()] == ["0", "$10^{-4}$", "0.1"]
    assert width.get_lines()[-1].get_xdata()[0] == 1  # the least validation loss: 4 units
    assert depth.get_xlabel() == "hidden layers"
    assert width.get_ylabel() == "squared error"
    labelled(figure)
    with pytest.raises(TypeError, match=r"training\.overfitting returns, not dict"):
        plots.overfitting({})  # type: ignore[arg-type]
