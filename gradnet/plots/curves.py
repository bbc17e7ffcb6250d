"""Curves: what a run measured epoch by epoch, and the loss as the learning rate grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gradnet.errors import DataError
from gradnet.plots.canvas import Drawing, drawing, figure_of, heading, legend, plain_logarithmic
from gradnet.plots.look import Theme
from gradnet.training import History, RateSearch

_NO_MEASURES = ("epoch", "lr", "seconds", "samples_per_second")
_LOG_FROM = 50.0
"""The ratio of the largest to the smallest loss from which on the axis is logarithmic."""
_TITLES = {
    "lr": "Learning rate",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "roc_auc": "ROC AUC",
    "f1": "F1",
}


def history(
    history: History,
    quantities: Sequence[str] | str | None = None,
    *,
    labels: Mapping[str, str] | None = None,
    ax: Axes | None = None,
    theme: Theme = None,
) -> Figure:
    """What a run measured against its epochs, on training and validation rows; the best epoch.

    `quantities` are columns without "val_", such as ("loss", "accuracy", "lr"), a panel each; by
    default the loss and all metrics. `labels` say what stands at their axes, with units. Losses
    that span a factor of 50 are drawn on a logarithmic axis.
    Raises DataError for a history of no epochs, KeyError for a quantity it has not.
    """
    if not isinstance(history, History):
        raise TypeError(f"history must be what fit returns, not {type(history).__name__}")
    if not history.epochs:
        raise DataError("the history has no epochs: there is nothing to draw")
    names = (quantities,) if isinstance(quantities, str) else quantities
    if names is None:
        bare = (name.removeprefix("val_") for name in history if name not in _NO_MEASURES)
        names = tuple(dict.fromkeys(bare))
    size = (4.4 * len(names) + 0.6 * (len(names) == 1), 3.5)
    with drawing(theme, ax, size=size, shape=(1, len(names))) as drawn:
        for panel, name in zip(drawn.axes, names, strict=True):
            _measured(drawn, panel, history, name, (labels or {}).get(name))
            if panel.get_legend_handles_labels()[0]:
                legend(panel, drawn.look, handlelength=1.2, columnspacing=1.0)
    return drawn.figure


def _measured(drawn: Drawing, ax: Axes, history: History, name: str, label: str | None) -> None:
    look = drawn.look
    columns = [(f"val_{name}", "validation", 1), (name, "training", 0)]
    rate = name == "lr"
    found = [entry for entry in columns if entry[0] in history] or [columns[1]]
    epochs = history["epoch"]
    best = history.best_epoch
    marker = "o" if history.epochs == 1 else None
    lowest, highest = np.inf, -np.inf
    for key, what, colour in reversed(found):
        values = history[key]
        told = what if ax is drawn.ax and not rate else None  # once for all panels
        ax.plot(epochs, values, color=look.colour(colour), linewidth=1.8, label=told, marker=marker)
        lowest, highest = min(lowest, np.nanmin(values)), max(highest, np.nanmax(values))
    if best is not None and not rate:
        ax.axvline(best, color=look.muted, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        key, _, colour = found[0]
        value = history[key][best - 1]
        decides = history.monitor in (key, name)
        ax.plot(
            [best],
            [value],
            "o",
            color=look.colour(colour),
            markersize=6.5,
            markeredgecolor=look.surface,
            markeredgewidth=1.4,
            label=f"{'best epoch' if decides else 'epoch'} {best}: {figure_of(value)}",
            zorder=4,
        )
    if lowest > 0 and highest > (3 if rate else _LOG_FROM) * lowest and name in ("loss", "lr"):
        ax.set_yscale("log")
        plain_logarithmic(ax.yaxis, lowest, highest)
    elif rate:
        ax.set_ylim(0, 1.1 * highest)
    ax.set_xlabel("epoch")
    ax.set_ylabel(label or ("learning rate" if rate else name))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7, steps=[1, 2, 5, 10]))
    ax.margins(x=0.02)
    heading(ax, look, _TITLES.get(name) or name.replace("_", " ").capitalize())


def learning_rate(
    search: RateSearch, *, label: str = "loss", ax: Axes | None = None, theme: Theme = None
) -> Figure:
    """The loss while the rate grows, as `training.find_learning_rate` has measured it.

    Thin: the loss of each batch. Thick: smoothed. Marked: the suggested rate, where the smoothed
    loss falls most steeply. Smith 2015, arXiv:1506.01186. Raises TypeError for anything else.
    """
    if not isinstance(search, RateSearch):
        raise TypeError(
            "learning_rate draws what gradnet.training.find_learning_rate returns, "
            f"not {type(search).__name__}"
        )
    with drawing(theme, ax) as drawn:
        look, ax = drawn.look, drawn.ax
        rates, raw = np.array(search.rates), np.array(search.losses)
        smooth = np.array(search.smoothed)
        ax.plot(rates, raw, color=look.colour(0), alpha=0.45, linewidth=0.9, label="each batch")
        ax.plot(rates, smooth, color=look.colour(0), linewidth=2.0, label="smoothed")
        place = int(np.argmin(abs(np.log(rates / search.suggestion))))
        ax.axvline(
            search.suggestion, color=look.muted, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1
        )
        ax.plot(
            [rates[place]],
            [smooth[place]],
            "o",
            color=look.colour(1),
            markersize=8,
            markeredgecolor=look.surface,
            markeredgewidth=1.4,
            label=f"suggested rate {search.suggestion:.2g}",
            zorder=4,
        )
        ax.set_xscale("log")
        low, start = smooth.min(), smooth[0]
        gap = max(start - low, 1e-12 + 0.05 * abs(start))
        ax.set_ylim(min(raw.min(), low) - 0.08 * gap, start + 0.6 * gap)
        ax.set_xlabel("learning rate")
        ax.set_ylabel(label)
        legend(ax, look)
        heading(ax, look, "Learning-rate range test")
    return drawn.figure
