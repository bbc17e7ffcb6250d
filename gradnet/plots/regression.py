"""Regression: what predictions miss."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from gradnet.plots.canvas import aside, column, drawing, figure_of, heading, legend, same_rows
from gradnet.plots.look import Theme

_BAND_ROWS = 12
"""The least number of rows of a bin of the running median."""


def residuals(
    y: Any,
    prediction: Any,
    *,
    name: str = "target",
    unit: str = "",
    ax: Axes | None = None,
    theme: Theme = None,
) -> Figure:
    """Residuals y - prediction against predictions, their running median, and how they spread.

    The band holds the middle half of the residuals at each prediction. `name` and `unit` are the
    target's. Raises ShapeError for more than one column, DataError for what is not finite.
    """
    truth, found = column("y", y), column("prediction", prediction)
    same_rows(("y", "prediction"), truth, found)
    missed = truth.astype(np.float64) - found
    rmse, spread = float(np.sqrt(np.mean(missed**2))), float(np.var(truth))
    units = f" ({unit})" if unit else ""
    with drawing(
        theme, ax, size=(6.6, 4.0), shape=(1, 2), width_ratios=(4.2, 1), sharey=True, wspace=0.04
    ) as drawn:
        look = drawn.look
        points, side = drawn.axes
        many = len(truth) > 400
        points.scatter(
            found,
            missed,
            s=max(5.0, min(18.0, 6000 / len(truth))),
            color=look.colour(0),
            alpha=min(0.6, max(0.15, 1200 / len(truth))) if many else 0.65,
            linewidths=0,
            label="a row",
            rasterized=many,
        )
        bins = min(20, len(truth) // _BAND_ROWS)
        if bins >= 3:
            groups = np.array_split(np.argsort(found, kind="stable"), bins)
            centres = [float(np.median(found[g])) for g in groups]
            low, middle, high = np.array(
                [np.quantile(missed[g], (0.25, 0.5, 0.75)) for g in groups]
            ).T
            points.fill_between(
                centres,
                low,
                high,
                color=look.colour(1),
                alpha=0.25,
                linewidth=0,
                label="middle half",
            )
            points.plot(centres, middle, color=look.colour(1), linewidth=2.0, label="median")
        reach = 1.08 * float(np.quantile(abs(missed), 0.999)) or 1.0
        beyond = int((abs(missed) > reach).sum())
        points.set_ylim(-reach, reach)
        for ax in (points, side):
            ax.axhline(0, color=look.muted, linewidth=0.9, linestyle=(0, (4, 3)), zorder=2.5)
        for axis in (points.xaxis, points.yaxis):
            axis.set_major_locator(MaxNLocator(8, steps=[1, 2, 2.5, 5, 10]))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        points.set_xlabel(f"predicted {name}{units}")
        points.set_ylabel(f"residual: true - predicted{units}")
        side.hist(
            missed,
            bins=np.linspace(-reach, reach, 41 if many else 21).tolist(),
            orientation="horizontal",
            color=look.colour(0),
        )
        side.grid(visible=False, axis="x")
        side.tick_params(labelleft=False, length=2.5)
        side.spines["left"].set_visible(False)
        side.tick_params(axis="y", length=0)
        side.set_xlabel("rows")
        legend(points, look)
        for handle in points.get_legend().legend_handles:  # type: ignore[union-attr]
            if handle is not None:
                handle.set_alpha(0.7)
                if hasattr(handle, "set_sizes"):
                    handle.set_sizes([18.0])
        heading(points, look, "Residuals")
        score = f"R² {1 - rmse**2 / spread:.3f}, " if spread > 0 else ""
        told = f"{score}RMSE {figure_of(rmse)}{f' {unit}' if unit else ''}"
        if beyond:
            told += f", {beyond} beyond"
        aside(side, look, told)
    return drawn.figure
