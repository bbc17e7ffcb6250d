"""What tests read from a picture: its lines, its legend, its labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def lines(ax: Axes) -> dict[str, Any]:
    """The data (n, 2) of the lines of axes by their labels."""
    return {str(line.get_label()): np.asarray(line.get_xydata()) for line in ax.get_lines()}


def words(ax: Axes) -> list[str]:
    """What the legend of axes says."""
    legend = ax.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def panels(figure: Figure) -> list[Axes]:
    """The axes of a figure that have a frame and are no colour bar."""
    return [ax for ax in figure.axes if ax.axison and ax.get_label() != "<colorbar>"]


def labelled(figure: Figure) -> None:
    """Every axis with numbers on it says what they are; and it can be written."""
    figure.set_dpi(40)
    figure.canvas.draw()
    for ax in panels(figure):
        for axis in (ax.xaxis, ax.yaxis):
            shown = [t for t in axis.get_ticklabels() if t.get_visible() and t.get_text()]
            own = not (axis is ax.yaxis and ax.get_subplotspec().colspan.start > 0)  # type: ignore[union-attr]
            if shown and own:
                assert axis.get_label_text(), ax.get_title(loc="left")
