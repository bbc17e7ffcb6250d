"""Themes, colours, axes of the user's, and what goes for every picture."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.style import context

import gradnet as gn
from gradnet import plots
from gradnet.plots.canvas import Picture
from gradnet.plots.look import THEMES, Look, contrast, look, luminance
from gradnet.training import History


def test_the_page_is_light_or_dark(run: History) -> None:
    light = plots.history(run, theme="light")
    dark = plots.history(run, theme="dark")
    assert luminance(light.get_facecolor()) > 0.9
    assert luminance(dark.get_facecolor()) < 0.05
    for figure in (light, dark):
        ax = figure.axes[0]
        assert ax.get_facecolor() == figure.get_facecolor()
        assert contrast(ax.xaxis.label.get_color(), figure.get_facecolor()) > 7
        tick = ax.get_xticklabels()[0].get_color()
        assert contrast(tick, figure.get_facecolor()) > 7


def test_without_a_theme_the_current_style_is_followed(run: History) -> None:
    assert to_hex(plots.history(run).get_facecolor()) == to_hex("white")
    with context({"figure.facecolor": "#202030", "axes.facecolor": "#303040", "text.color": "w"}):
        figure = plots.history(run)
    assert to_hex(figure.get_facecolor()) == "#202030"
    assert to_hex(figure.axes[0].get_facecolor()) == "#303040"
    cycle = matplotlib.cycler(color=["#ff0000", "#00ff00"])
    with context({"axes.prop_cycle": cycle}):
        figure = plots.history(run)
    colours = [to_hex(line.get_color()) for line in figure.axes[0].get_lines()]
    assert {"#ff0000", "#00ff00"} <= set(colours)


def test_settings_of_a_theme_do_not_come_from_the_style(run: History) -> None:
    with context("dark_background"):
        figure = plots.history(run, theme="light")
    assert luminance(figure.get_facecolor()) > 0.9
    assert luminance(figure.axes[0].xaxis.label.get_color()) < 0.1


@pytest.mark.parametrize("found", THEMES.values(), ids=THEMES)
def test_colours_are_seen_on_the_surface(found: Look) -> None:
    assert all(contrast(colour, found.surface) > 3 for colour in found.colours)
    assert contrast(found.muted, found.surface) > 4.5
    assert len(set(found.colours)) == 10


# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
BLINDNESS = {
    "none": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def oklab(colour: str, sight: Any) -> Any:
    """The colour as it is seen, in Ottosson's OKLab (2020): distances are differences."""
    channels = np.asarray(to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    seen = (np.asarray(sight) @ linear).clip(0, 1)
    cones = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    mixture = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.asarray(mixture) @ np.cbrt(np.asarray(cones) @ seen)


@pytest.mark.parametrize("found", THEMES.values(), ids=THEMES)
@pytest.mark.parametrize("sight", BLINDNESS)
def test_the_first_colours_are_told_apart(found: Look, sight: str) -> None:
    seen = [oklab(colour, BLINDNESS[sight]) for colour in found.colours[:5]]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 0.08
    assert np.linalg.norm(seen[0] - seen[1]) > 0.2  # of training and validation, wrong and right


def test_theme_and_axes_are_checked(run: History) -> None:
    with pytest.raises(ValueError, match="theme must be 'light', 'dark', or None"):
        plots.history(run, theme="blue")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="ax must be matplotlib Axes, not Figure"):
        plots.history(run, ax=Figure())  # type: ignore[arg-type]
    assert look("dark").dark
    assert not look(None).dark


def own() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 6))
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def test_axes_of_the_user(run: History, theme: Any) -> None:
    figure, ax = own()
    assert plots.history(run, "loss", ax=ax, theme=theme) is figure
    assert figure.axes == [ax]
    assert ax.get_title(loc="left") == "Loss"
    wanted = look(theme).surface
    assert to_hex(ax.get_facecolor()) == wanted
    assert contrast(ax.xaxis.label.get_color(), wanted) > 7


def test_several_panels_within_axes_of_the_user(run: History) -> None:
    figure, ax = own()
    bounds = ax.get_position()
    assert plots.history(run, ax=ax) is figure
    assert not ax.axison
    inner = figure.axes[1:]
    assert [one.get_title(loc="left") for one in inner] == ["Loss", "Accuracy"]
    assert all(bounds.x0 - 1e-9 <= one.get_position().x0 < bounds.x1 for one in inner)
    loose = figure.add_axes((0.1, 0.1, 0.2, 0.2))
    with pytest.raises(ValueError, match="one of a grid"):
        plots.history(run, ax=loose)


def test_a_picture_shows_itself(run: History) -> None:
    figure = plots.history(run, theme="dark")
    assert isinstance(figure, Picture)
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_values_are_checked() -> None:
    y = [0, 1, 1]
    with pytest.raises(ValueError, match="expected as many rows in each, got y 3 and prediction 2"):
        plots.confusion(y, [0, 1])
    with pytest.raises(ValueError, match="prediction has NaN or infinity"):
        plots.residuals([1.0, 2.0], [1.0, float("nan")])
    with pytest.raises(TypeError, match="y must be real numbers, got dtype <U1"):
        plots.confusion(["a", "b"], [0, 1])
    with pytest.raises(ValueError, match="y is empty"):
        plots.residuals([], [])


def test_a_tensor_that_requires_a_gradient_is_drawn() -> None:
    prediction = gn.asarray([1.0, 2.0, 3.0], requires_grad=True)
    figure = plots.residuals(gn.asarray([1.0, 2.5, 2.0]), prediction)
    points = np.asarray(figure.axes[0].collections[0].get_offsets())
    np.testing.assert_allclose(points, [[1, 0], [2, 0.5], [3, -1]], atol=1e-6)


def test_names() -> None:
    assert set(plots.__all__) == set(dir(plots))
    assert all(callable(getattr(plots, name)) for name in plots.__all__)
    with pytest.raises(AttributeError, match="no attribute 'scatter'"):
        _ = plots.scatter  # type: ignore[attr-defined]


def test_without_matplotlib_and_lazily() -> None:
    code = (
        "import sys, gradnet as gn\n"
        "gn.plots.__doc__\n"
        "assert not {'matplotlib'} & set(sys.modules)\n"
        "sys.modules['matplotlib'] = None\n"
        "try: gn.plots.history\n"
        "except ImportError as error: print(error)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.startswith("gradnet.plots needs matplotlib: run pip install")


def test_no_pyplot() -> None:
    code = (
        "import sys, gradnet as gn\n"
        "gn.plots.activations('relu', theme='dark')\n"
        "gn.plots.residuals([1., 2.], [2., 1.])\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
