"""Networks from the inside: weights as images, activations, what each layer does on a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from gradnet import autodiff, formulas, ops
from gradnet.errors import ShapeError
from gradnet.nn import Linear, Module
from gradnet.nn.activations import elementwise
from gradnet.plots.canvas import (
    Drawing,
    bar_beside,
    drawing,
    heading,
    host,
    legend,
    plain_logarithmic,
)
from gradnet.plots.look import Theme, mixed
from gradnet.training import LayerStatistics


def weights(
    model: Module | Any,
    shape: tuple[int, int] | None = None,
    *,
    most: int = 64,
    ax: Axes | None = None,
    theme: Theme = None,
) -> Figure:
    """The incoming weights of the units of a model's first layer, each as an image.

    `model` may be weights (inputs, units) too. `shape` is (height, width) of an input; square if
    not given. Of more than `most` units those with the largest weights are shown. All images
    have one scale, and 0 is the surface's colour.
    Raises ShapeError for inputs that are no such image.
    """
    if isinstance(model, Module):
        layer = next((m for m in model.modules() if isinstance(m, Linear)), None)
        if layer is None:
            raise TypeError(f"{type(model).__name__} has no Linear layer whose weights to draw")
        model = layer.weight
    values = host("weights", model, 2).astype(np.float64)
    inputs, units = values.shape
    if shape is None:
        side = math.isqrt(inputs)
        if side * side != inputs:
            raise ShapeError(f"{inputs} inputs are no square image: give shape=(height, width)")
        shape = (side, side)
    if math.prod(shape) != inputs:
        raise ShapeError(f"an image of shape {shape} has {math.prod(shape)} values, not {inputs}")
    largest = np.argsort(-np.linalg.norm(values, axis=0), kind="stable")[:most]
    rows, columns = _table(len(largest), 1.5 * shape[0] / shape[1])
    gap = max(1, round(0.08 * max(shape)))
    high, wide = shape[0] + gap, shape[1] + gap
    sheet = np.full((rows * high - gap, columns * wide - gap), np.nan)
    for place, unit in enumerate(largest):
        i, j = divmod(place, columns)
        image = values[:, unit].reshape(shape)
        sheet[i * high : i * high + shape[0], j * wide : j * wide + shape[1]] = image
    bound = float(np.quantile(abs(values[:, largest]), 0.998)) or 1.0
    size = (6.2, max(1.9, 5.2 * sheet.shape[0] / sheet.shape[1] + 0.7))
    with drawing(theme, ax, size=size, grid="none") as drawn:
        look, ax = drawn.look, drawn.ax
        palette = look.diverging(1, 0).with_extremes(bad=mixed(look.muted, look.surface, 0.6))
        image = ax.imshow(
            sheet, cmap=palette, vmin=-bound, vmax=bound, interpolation="nearest", aspect="equal"
        )
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
        ax.set_xlabel(f"a tile is a unit: the weights of its {shape[0]} by {shape[1]} inputs")
        ax.xaxis.label.set_color(look.muted)
        bar_beside(drawn, ax, image, "weight", shrink=0.9, extend="both")
        shown = f"{units} units" if len(largest) == units else f"{len(largest)} of {units} units"
        heading(ax, look, f"Weights of the first layer, {shown}", high=False)
    return drawn.figure


def activations(
    names: Sequence[str] | str | None = None,
    *,
    reach: float = 4.0,
    ax: Axes | None = None,
    theme: Theme = None,
) -> Figure:
    """Activation functions and their derivatives, from the formulas that networks run.

    `names` are those of the catalogue, all of it by default. Lines break where a function or its
    derivative jumps. Raises KeyError, with close matches, for an unknown name.
    """
    chosen = (names,) if isinstance(names, str) else names
    if chosen is None:
        chosen = formulas.activations()
    found = [elementwise(name) for name in chosen]
    rows, columns = _table(len(found), 1.9)
    size = (2.0 * columns + 0.5, 1.9 * rows + 0.75)
    if len(found) == 1:
        size = (5.0, 3.6)
    with drawing(theme, ax, size=size, shape=(rows, columns), sharex=True) as drawn:
        look = drawn.look
        for panel, op in zip(drawn.axes, found, strict=False):
            x = _between_kinks(op.row.kinks, reach)
            value, slope = _sampled(op, x)
            panel.axhline(0, color=look.muted, linewidth=0.6, zorder=1)
            panel.axvline(0, color=look.muted, linewidth=0.6, zorder=1)
            panel.plot(
                x,
                slope,
                color=look.colour(1),
                linewidth=1.5,
                linestyle=(0, (3.5, 2)),
                zorder=3,
                label="f'(x)",
            )
            panel.plot(x, value, color=look.colour(0), linewidth=1.9, label="f(x)")
            panel.set_xlim(-reach, reach)
            low, high = np.nanmin([value, slope]), np.nanmax([value, slope])
            low, high = max(low, -2.0), min(high, 2.6)
            room = 0.12 * (high - low)
            panel.set_ylim(low - room, high + room)
            panel.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
            panel.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
            settings = ", ".join(f"{n} = {v:g}" for n, v in op.row.defaults.items())
            panel.set_title(op.name, loc="left", fontsize=9.5, pad=5)
            if settings:
                quiet: Any = {"fontsize": 8, "fontweight": "normal", "color": look.muted}
                panel.set_title(settings, loc="right", pad=5, **quiet)
        for panel in drawn.axes[len(found) :]:
            panel.set_axis_off()
        for i, panel in enumerate(drawn.axes[: len(found)]):
            below = i + columns >= len(found)
            panel.tick_params(labelbottom=below)
            if below:
                panel.set_xlabel("x")
        for panel in drawn.axes[::columns]:
            panel.set_ylabel("f(x), f'(x)")
        _shared_legend(drawn)
    return drawn.figure


def _table(count: int, ratio: float) -> tuple[int, int]:
    """Rows and columns for so many tiles, few left empty, about `ratio` times as many columns."""
    wanted = math.sqrt(ratio * count)
    choices = range(max(1, math.ceil(0.65 * wanted)), min(count, math.ceil(1.5 * wanted)) + 1)
    columns = min(choices, key=lambda c: (-count % c / c + abs(math.log(c / wanted)), c))
    return -(-count // columns), columns


def _shared_legend(drawn: Drawing) -> None:
    """One legend for all panels, above them; on a figure of the user's, above the first."""
    handles, labels = drawn.ax.get_legend_handles_labels()
    if len(drawn.axes) == 1:
        legend(drawn.ax, drawn.look)
        drawn.ax.set_title(drawn.ax.get_title(loc="left"), loc="left", pad=22)
        return
    drawn.figure.legend(
        handles[::-1],
        labels[::-1],
        loc="outside upper left",
        ncols=2,
        frameon=False,
        labelcolor=drawn.look.ink,
        fontsize=9.5,
    )


def _between_kinks(kinks: Sequence[float], reach: float) -> NDArray[np.float64]:
    """Points along -reach ... reach, close to each kink on both sides, and a NaN between."""
    near = 1e-9
    edges = [-reach, *(k for k in sorted(kinks) if abs(k) < reach), reach]
    parts: list[Any] = []
    for low, high in pairwise(edges):
        parts += [np.linspace(low + near, high - near, max(3, round(60 * (high - low)))), [np.nan]]
    return np.concatenate(parts[:-1])


def _sampled(op: Any, x: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """An activation and its derivative; NaN where x is."""
    gaps = np.isnan(x)
    at = ops.asarray(np.where(gaps, 0.0, x), device="cpu")
    if op.row.derivatives[0] is None:
        value, slope = op(at).numpy(), np.zeros_like(x)
    else:
        y, pull = autodiff.vjp(lambda v: op(v, *op.row.defaults.values()), at)
        value, slope = y.numpy(), pull(ops.ones_like(y)).numpy()
    return np.where(gaps, np.nan, value), np.where(gaps, np.nan, slope)


def layers(
    statistics: Sequence[LayerStatistics], *, ax: Axes | None = None, theme: Theme = None
) -> Figure:
    """What each layer does on a batch, as `training.layer_statistics` has measured it.

    Left: its outputs, from 5 to 95 percent (line), the middle half (bar), the median. Middle: the
    part of outputs that are saturated, and of units that are so in all rows. Right: the root mean
    square of the gradient that arrives at its outputs. Raises TypeError for anything else, or none.
    """
    found = list(statistics)
    if not found or not all(isinstance(s, LayerStatistics) for s in found):
        raise TypeError("layers draws what gradnet.training.layer_statistics returns")
    size = (9.6, 1.5 + 0.45 * len(found))
    with drawing(
        theme, ax, size=size, shape=(1, 3), width_ratios=(1.25, 1, 1), sharey=True, grid="x"
    ) as drawn:
        look = drawn.look
        left, middle, right = drawn.axes
        places = np.arange(len(found))
        quantiles = np.array([s.quantiles for s in found])
        left.axvline(0, color=look.muted, linewidth=0.8, zorder=1)
        left.hlines(
            places,
            quantiles[:, 0],
            quantiles[:, 4],
            color=look.colour(0),
            linewidth=1.4,
            label="5 to 95 %",
        )
        left.barh(
            places,
            quantiles[:, 3] - quantiles[:, 1],
            left=quantiles[:, 1],
            height=0.5,
            color=mixed(look.colour(0), look.surface, 0.35),
            label="middle half",
            zorder=2,
        )
        left.plot(
            quantiles[:, 2],
            places,
            "|",
            color=look.ink,
            markersize=11,
            markeredgewidth=2,
            label="median",
            zorder=3,
        )
        left.set_yticks(places, [f"{s.name}: {s.kind}\n{s.units} units" for s in found])
        left.set_ylim(len(found) - 0.45, -0.55)
        left.set_xlabel("output of a unit")
        left.set_ylabel("layer")
        legend(left, look, 3)
        heading(left, look, "Activations")
        for offset, values, label, colour in (
            (-0.19, [s.saturated for s in found], "outputs", 4),
            (0.19, [s.dead for s in found], "dead units", 1),
        ):
            shares = [0.0 if value is None else value for value in values]
            middle.barh(
                places + offset, shares, height=0.34, color=look.colour(colour), label=label
            )
            for place, value in zip(places, values, strict=True):
                text = "no activation" if value is None else f"{100 * value:.0f}"
                if value is not None or offset < 0:
                    middle.annotate(
                        text,
                        (value or 0.0, place + (offset if value is not None else 0.0)),
                        xytext=(4, 0),
                        textcoords="offset points",
                        va="center",
                        fontsize=7.5,
                        color=look.muted,
                    )
        middle.set_xlim(0, 1.08)
        middle.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=""))
        middle.set_xlabel("saturated, %")
        legend(middle, look, 2)
        heading(middle, look, "Saturation")
        gradients = np.array([s.gradient for s in found])
        right.plot(gradients, places, "o-", color=look.colour(0), linewidth=1.4, markersize=6)
        if (gradients > 0).all():
            right.set_xscale("log")
            low, high = gradients.min(), gradients.max()
            # A decade at least, so that there is more than one number on the axis.
            room = max(1.3, (high / low) ** 0.12, math.sqrt(12 * low / high))
            right.set_xlim(low / room, high * room)
            plain_logarithmic(right.xaxis, low / room, high * room)
        right.set_xlabel("gradient at the outputs (RMS)")
        heading(right, look, "Gradients")
        for panel in drawn.axes:
            panel.spines["left"].set_visible(False)
            panel.tick_params(axis="y", length=0)
    return drawn.figure
