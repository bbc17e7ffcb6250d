"""The loss along two directions, with the way of the descent; and over-fitting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from gradnet.plots.canvas import aside, bar_beside, drawing, heading, legend, plain_logarithmic
from gradnet.plots.look import Theme
from gradnet.training import CapacityStudy, LossSurface


def loss_surface(
    surface: LossSurface,
    *,
    label: str = "loss",
    levels: int = 18,
    ax: Axes | None = None,
    theme: Theme = None,
) -> Figure:
    """The loss around a network's weights, and the path of its training where there is one.

    Draws what `training.loss_surface` has measured: levels of the loss, in equal ratios where it
    spans a factor of 5. Li et al. 2018, arXiv:1712.09913. Raises TypeError for anything else.
    """
    if not isinstance(surface, LossSurface):
        raise TypeError(
            "loss_surface draws what gradnet.training.loss_surface returns, "
            f"not {type(surface).__name__}"
        )
    heights = np.array(surface.losses)
    finite = heights[np.isfinite(heights)]
    low, high = float(finite.min()), float(np.quantile(finite, 0.98))
    logarithmic = low > 0 and high > 5 * low
    norm: Normalize = LogNorm(low, high) if logarithmic else Normalize(low, high)
    spaced = np.geomspace if logarithmic else np.linspace
    steps = spaced(low, high, levels) if high > low else np.array([low, low + 1.0])
    with drawing(theme, ax, size=(6.0, 4.7), grid="none") as drawn:
        look, ax = drawn.look, drawn.ax
        ax.contourf(
            surface.x,
            surface.y,
            np.where(np.isfinite(heights), heights, high),
            steps,
            cmap=look.surfaces(),
            norm=norm,
            extend="max",
        )
        ax.contour(
            surface.x,
            surface.y,
            np.where(np.isfinite(heights), heights, high),
            steps,
            colors=[look.surface],
            linewidths=0.5,
            alpha=0.6,
        )
        way = np.array(surface.path)
        mark: Any = {"markeredgecolor": look.surface, "markeredgewidth": 1.4, "linestyle": "none"}
        if len(way):
            ax.plot(*way.T, color=look.surface, linewidth=3.4, zorder=3)
            ax.plot(
                *way.T,
                color=look.colour(1),
                linewidth=1.6,
                marker=".",
                markersize=5,
                zorder=4,
                label="training, epoch by epoch",
            )
            ax.plot(
                *way[:1].T,
                marker="s",
                color=look.colour(1),
                markersize=7.5,
                zorder=5,
                label="start",
                **mark,
            )
        ax.plot(
            [0],
            [0],
            marker="*",
            color=look.colour(4),
            markersize=15,
            zorder=6,
            label=f"the network: {surface.centre:.3g}",
            **mark,
        )
        shares = surface.shares
        if shares is None:
            names = ["random direction 1", "random direction 2"]
            ax.set_xlabel(f"{names[0]} (norm of the weights)")
            ax.set_ylabel(f"{names[1]} (norm of the weights)")
        else:
            for axis, share, name in zip(
                (ax.xaxis, ax.yaxis), shares, ("first", "second"), strict=True
            ):
                axis.set_label_text(f"{name} principal direction, {100 * share:.0f} % of the path")
        bar = bar_beside(drawn, ax, _scale(look.surfaces(), norm), label, extend="max")
        if logarithmic:
            plain_logarithmic(bar.ax.yaxis, low, high)
        legend(ax, look, 3)
        heading(ax, look, "Loss around the weights")
    return drawn.figure


def _scale(cmap: Any, norm: Normalize) -> Any:
    from matplotlib.cm import ScalarMappable

    return ScalarMappable(norm=norm, cmap=cmap)


_AXES = {
    "width": "units of each hidden layer",
    "depth": "hidden layers",
    "l2": "strength of the L2 penalty",
}


def overfitting(
    study: CapacityStudy,
    *,
    label: str = "loss",
    ax: Axes | None = None,
    theme: Theme = None,
) -> Figure:
    """Training and validation loss against width, depth and L2 penalty, a panel each.

    Draws what `training.overfitting` has measured. Lines are means over initial weights, bands
    reach from the least to the largest. Marked: the lowest validation loss, right of which (left
    for L2) a network fits the training rows better and others worse. Raises TypeError for anything
    else.
    """
    if not isinstance(study, CapacityStudy):
        raise TypeError(
            "overfitting draws what gradnet.training.overfitting returns, "
            f"not {type(study).__name__}"
        )
    width, depth, strength = study.base
    penalty = f"L2 {strength:g}" if strength else "no L2"
    fixed = {
        "width": f"{_counted(depth, 'hidden layer')}, {penalty}",
        "depth": f"{_counted(width, 'unit')} each, {penalty}",
        "l2": f"{_counted(depth, 'hidden layer')} of {width}",
    }
    asked = {name: values for name, values in study.varied.items() if len(values)}
    with drawing(
        theme, ax, size=(3.6 * len(asked) + 0.3, 3.7), shape=(1, len(asked)), sharey=True
    ) as drawn:
        look = drawn.look
        for panel, (name, values) in zip(drawn.axes, asked.items(), strict=True):
            places = np.arange(len(values))
            fits = [study.of(name, value) for value in values]
            for what, colour in (("train", 0), ("validation", 1)):
                losses = np.array([[getattr(fit, what) for fit in group] for group in fits])
                mean = losses.mean(axis=1)
                panel.fill_between(
                    places,
                    losses.min(axis=1),
                    losses.max(axis=1),
                    color=look.colour(colour),
                    alpha=0.18,
                    linewidth=0,
                )
                panel.plot(
                    places,
                    mean,
                    "o-",
                    color=look.colour(colour),
                    linewidth=1.8,
                    markersize=4,
                    label="training" if what == "train" else "validation",
                )
            best = int(np.argmin(mean))
            panel.axvline(best, color=look.muted, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
            panel.plot(
                [best],
                [mean[best]],
                "o",
                color=look.colour(1),
                markersize=8,
                markeredgecolor=look.surface,
                markeredgewidth=1.4,
                zorder=4,
            )
            panel.set_xticks(places, [_power(value) for value in values])
            panel.set_xlabel(_AXES[name])
            heading(panel, look, {"l2": "L2 penalty"}.get(name, name.capitalize()))
            aside(panel, look, fixed[name])
        _loss_axis(drawn.axes, label)
        legend(drawn.ax, look, 2)
    return drawn.figure


def _loss_axis(axes: Sequence[Axes], label: str) -> None:
    axes[0].set_ylabel(label)
    low, high = axes[0].dataLim.y0, axes[0].dataLim.y1
    if low > 0 and high > 20 * low:
        for ax in axes:
            ax.set_yscale("log")


def _power(value: float) -> str:
    """A setting as people read it; small powers of ten as such."""
    exponent = math.log10(value) if value > 0 else 0.0
    return f"$10^{{{exponent:.0f}}}$" if exponent < -2 and exponent % 1 == 0 else f"{value:g}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
