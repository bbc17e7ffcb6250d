"""Weights as images, activations, statistics of layers, and residuals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import labelled, lines, panels, words

import gradnet as gn
from gradnet import formulas, plots
from gradnet.errors import ShapeError
from gradnet.training import layer_statistics


def test_weights(theme: Any) -> None:
    model = gn.nn.MLP((6, 4, 2), seed=0)
    figure = plots.weights(model, (2, 3), theme=theme)
    (ax,) = panels(figure)
    image = ax.get_images()[0]
    sheet = np.ma.filled(np.ma.masked_invalid(image.get_array()), np.nan)
    values = next(model.parameters()).numpy()
    order = np.argsort(-np.linalg.norm(values, axis=0))
    np.testing.assert_allclose(sheet[:2, :3], values[:, order[0]].reshape(2, 3))
    assert np.isfinite(sheet).sum() == 24
    assert np.isnan(sheet[:, 3]).all()  # the gap
    assert image.norm.vmin == -image.norm.vmax  # 0 is in the middle
    assert "4 units" in ax.get_title(loc="left")
    assert figure.axes[1].get_ylabel() == "weight"
    labelled(figure)


def test_of_many_units_the_largest_are_shown() -> None:
    values = np.arange(1, 91)[None, :] * np.ones((4, 1))
    (ax,) = panels(plots.weights(values, most=10))
    shown = np.ma.compressed(np.ma.masked_invalid(ax.get_images()[0].get_array()))
    assert set(shown) == set(range(81, 91))
    assert "10 of 90 units" in ax.get_title(loc="left")


def test_bad_weights() -> None:
    with pytest.raises(ShapeError, match="6 inputs are no square image"):
        plots.weights(gn.nn.MLP((6, 2)))
    with pytest.raises(ShapeError, match=r"shape \(2, 2\) has 4 values, not 6"):
        plots.weights(gn.nn.MLP((6, 2)), (2, 2))
    with pytest.raises(TypeError, match="no Linear layer"):
        plots.weights(gn.nn.ReLU())


def finite(points: NDArray[Any]) -> NDArray[Any]:
    return points[np.isfinite(points).all(axis=1)]


def test_activations_and_their_derivatives(theme: Any) -> None:
    figure = plots.activations(["sigmoid", "relu", "leaky_relu", "sign"], theme=theme)
    sigmoid, relu, leaky, sign = panels(figure)
    x, y = finite(lines(sigmoid)["f(x)"]).T
    np.testing.assert_allclose(y, 1 / (1 + np.exp(-x)), rtol=1e-6)
    x, slope = finite(lines(sigmoid)["f'(x)"]).T
    s = 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(slope, s * (1 - s), rtol=1e-6)
    slopes = lines(relu)["f'(x)"]
    assert np.isnan(slopes).any()  # broken at the kink
    assert set(finite(slopes)[:, 1]) == {0.0, 1.0}
    assert leaky.get_title(loc="right") == "alpha = 0.01"
    assert set(finite(lines(sign)["f(x)"])[:, 1]) == {-1.0, 1.0}
    assert set(finite(lines(sign)["f'(x)"])[:, 1]) == {0.0}
    labelled(figure)


def test_all_activations() -> None:
    figure = plots.activations()
    titles = {ax.get_title(loc="left") for ax in panels(figure)}
    assert titles == set(formulas.activations())
    (ax,) = panels(plots.activations("tanh"))
    assert set(words(ax)) == {"f(x)", "f'(x)"}
    with pytest.raises(KeyError, match="rellu"):
        plots.activations("rellu")


def test_layers(theme: Any) -> None:
    model = gn.nn.MLP((4, 6, 3), "relu", 0.5, "softmax", seed=0)
    X = gn.random.Generator(0).normal((32, 4))
    found = layer_statistics(model, X, gn.asarray(np.arange(32) % 3))
    figure = plots.layers(found, theme=theme)
    left, middle, right = panels(figure)
    assert [t.get_text() for t in left.get_yticklabels()] == [
        "layers.0: Linear, relu\n6 units",
        "layers.2: Linear\n3 units",
    ]
    bars = [bar.get_width() for bar in middle.patches]
    np.testing.assert_allclose(bars, [found[0].saturated, 0.0, found[0].dead, 0.0])
    assert "no activation" in [text.get_text() for text in middle.texts]
    drawn = right.get_lines()[0].get_xdata()
    np.testing.assert_allclose(drawn, [s.gradient for s in found])
    assert words(middle) == ["outputs", "dead units"]
    labelled(figure)
    with pytest.raises(TypeError, match="layer_statistics returns"):
        plots.layers([])


def test_residuals(theme: Any) -> None:
    x = gn.random.Generator(1).normal((120,)).numpy().astype(float)
    y = 3 * x + 1 + np.sin(9 * x)
    figure = plots.residuals(y, 3 * x + 1, name="height", unit="cm", theme=theme)
    points, side = panels(figure)
    drawn = np.asarray(points.collections[0].get_offsets())
    np.testing.assert_allclose(drawn, np.stack([3 * x + 1, np.sin(9 * x)], axis=1))
    assert points.get_xlabel() == "predicted height (cm)"
    assert points.get_ylabel() == "residual: true - predicted (cm)"
    assert words(points) == ["a row", "middle half", "median"]
    assert sum(bar.get_width() for bar in side.patches) == 120
    assert f"RMSE {np.sqrt(np.mean(np.sin(9 * x) ** 2)):.4g} cm" in side.texts[0].get_text()
    labelled(figure)


def test_few_residuals_have_no_band() -> None:
    points, _ = panels(plots.residuals([1.0, 2.0], gn.asarray([[1.5], [1.0]])))
    assert words(points) == ["a row"]
    with pytest.raises(ShapeError, match=r"prediction must have one column, got shape \(2, 2\)"):
        plots.residuals([1.0, 2.0], np.eye(2))
