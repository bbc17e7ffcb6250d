"""Decision boundary: what a classifier says at every point of a plane."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from gradnet.errors import DataError, ShapeError
from gradnet.nn import Module
from gradnet.plots.canvas import bar_beside, drawing, heading, host, legend, same_rows
from gradnet.plots.classification import class_names, truth_of
from gradnet.plots.look import Look, Theme, mixed
from gradnet.training import Trainer

_MARKERS = "osD^vP"


def decision_boundary(
    model: Module | Callable[[Any], Any],
    X: Any,
    y: Any = None,
    *,
    classes: Sequence[Any] | None = None,
    features: Sequence[str] = ("x1", "x2"),
    points: int = 240,
    margin: float = 0.12,
    ax: Axes | None = None,
    theme: Theme = None,
) -> Figure:
    """The likeliest class over the plane of two features, its probability, and rows (n, 2).

    `model` has two inputs and an output unit of classes, or is a function from points (m, 2) to
    probabilities (m, k). The stronger a class's colour the likelier it is; a line stands where
    two classes are equally likely. Without `y` the rows are left out.
    Raises ShapeError for more or less than two features, DataError for no probabilities.
    """
    rows = host("X", X, 2).astype(np.float64)
    if rows.shape[1] != 2:
        raise ShapeError(f"a decision boundary is drawn over two features, X has {rows.shape[1]}")
    truth = None if y is None else truth_of(y)
    if truth is not None:
        same_rows(("X", "y"), rows, truth)
    low, high = rows.min(axis=0), rows.max(axis=0)
    room = margin * np.where(high > low, high - low, 1.0)
    (x0, y0), (x1, y1) = low - room, high + room
    across, up = np.linspace(x0, x1, points), np.linspace(y0, y1, points)
    plane = np.stack(np.meshgrid(across, up), axis=-1)
    p = _predicted(model, plane.reshape(-1, 2)).reshape(points, points, -1)
    names = class_names(classes, p.shape[2], "class ")
    with drawing(theme, ax, size=(5.6, 4.6), grid="none") as drawn:
        look, ax = drawn.look, drawn.ax
        binary = p.shape[2] == 2
        image = _blended(p, look)
        ax.imshow(
            image,
            extent=(x0, x1, y0, y1),
            origin="lower",
            aspect="auto",
            interpolation="bilinear",
        )
        for k in range(1 if binary else 0, p.shape[2]):
            others = np.delete(p, k, axis=2).max(axis=2)
            lead = p[..., k] - others
            if lead.min() < 0 < lead.max():
                ax.contour(across, up, lead, [0.0], colors=[look.ink], linewidths=1.0)
        for k in np.unique(truth) if truth is not None else ():
            chosen = rows[truth == k]
            ax.scatter(
                chosen[:, 0],
                chosen[:, 1],
                s=max(7.0, min(26.0, 7000 / len(rows))),
                marker=_MARKERS[k % len(_MARKERS)],
                color=look.colour(k),
                edgecolors=look.surface,
                linewidths=0.6,
                label=names[k],
            )
        ax.set_xlim(x0, x1)
        ax.set_ylim(y0, y1)
        ax.set_xlabel(features[0])
        ax.set_ylabel(features[1])
        if binary:
            ramp = _ramp(look, look.colour(0), look.colour(1))
            bar = bar_beside(drawn, ax, ScalarMappable(cmap=ramp), f"probability of {names[1]}, %")
        else:
            ramp = _ramp(look, look.surface, look.muted, middle=False)
            bar = bar_beside(
                drawn, ax, ScalarMappable(cmap=ramp), "probability of the likeliest class, %"
            )
            start = 1 / p.shape[2]
            bar.ax.set_ylim(0, 1)
            ticks = [start, 0.5, 0.75, 1.0] if start < 0.42 else [start, 0.75, 1.0]
            bar.set_ticks(
                [(t - start) / (1 - start) for t in ticks], labels=[f"{100 * t:.0f}" for t in ticks]
            )
        if binary:
            bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=""))
        if truth is not None:
            legend(ax, look, 6, handlelength=0.8)
        heading(ax, look, "Decision boundary")
    return drawn.figure


def _predicted(model: Module | Callable[[Any], Any], points: NDArray[np.float64]) -> Any:
    """Probabilities (m, k) at points (m, 2)."""
    if isinstance(model, Module):
        trainer = Trainer(model, progress=False)
        if trainer.objective.task != "classification":
            raise DataError("a decision boundary needs a model with an output unit of classes")
        found = trainer.predict(points)
    else:
        found = model(points)
    p = host("the predicted probabilities", found, (1, 2)).astype(np.float64)
    if p.ndim == 1 or p.shape[1] == 1:
        p = np.stack([1 - p.reshape(-1), p.reshape(-1)], axis=1)
    if len(p) != len(points):
        raise ShapeError(f"the model gave {len(p)} predictions for {len(points)} points")
    if p.min() < -1e-6 or abs(p.sum(axis=1) - 1).max() > 1e-3:
        raise DataError("what the model predicts are no probabilities: they must add up to 1")
    return p


def _blended(p: NDArray[np.float64], look: Look) -> NDArray[np.float64]:
    """An image (h, w, 3): the surface with the likeliest class's colour, by its probability."""
    colours = np.array([to_rgb(look.colour(k)) for k in range(p.shape[2])])
    surface = np.array(to_rgb(look.surface))
    floor = 1 / p.shape[2]
    strength = ((p.max(axis=2) - floor) / (1 - floor)).clip(0, 1)[..., None]
    image: NDArray[np.float64] = surface + (colours[p.argmax(axis=2)] - surface) * (
        strength * _STRENGTH
    )
    return image


_STRENGTH = 0.62
"""How much of a class's colour a certain place has: the rows on it stay readable."""


def _ramp(look: Look, low: str, high: str, middle: bool = True) -> LinearSegmentedColormap:
    ends = [mixed(look.surface, low, _STRENGTH), look.surface, mixed(look.surface, high, _STRENGTH)]
    return LinearSegmentedColormap.from_list("gradnet_classes", ends if middle else ends[1:])
