"""Canvas: figures that belong to nobody's global state, the axes on them, and what all share."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from gradnet.errors import DataError, DTypeError, ShapeError
from gradnet.plots.look import Look, Theme, applied, look
from gradnet.tensor import Tensor

DPI = 150


class Picture(Figure):
    """A figure that knows no pyplot: it shows itself in a notebook, and `savefig` writes it."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


class Drawing:
    """A figure being drawn: its axes, and the look they are drawn in."""

    def __init__(self, figure: Figure | SubFigure, axes: list[Axes], look: Look) -> None:
        self.axes = axes
        self.look = look
        while isinstance(figure, SubFigure):
            figure = figure.figure
        self.figure: Figure = figure

    @property
    def ax(self) -> Axes:
        """The first axes."""
        return self.axes[0]


@contextmanager
def drawing(
    theme: Theme,
    ax: Axes | None,
    *,
    size: tuple[float, float] = (6.2, 4.0),
    shape: tuple[int, int] = (1, 1),
    grid: str = "both",
    **layout: Any,
) -> Iterator[Drawing]:
    """A new figure of `shape` = (rows, columns) of axes, or axes of one that is there.

    Several axes are laid out within the bounds of a given one. Settings of matplotlib are changed
    within the `with` block alone. `layout` goes to `GridSpec` (ratios) and `subplots` (sharing).
    """
    if ax is not None and not isinstance(ax, Axes):
        raise TypeError(f"ax must be matplotlib Axes, not {type(ax).__name__}")
    chosen = look(theme, ax)
    style: Any = nullcontext() if theme is None else applied(chosen)
    rows, columns = shape
    share = {name: layout.pop(name) for name in ("sharex", "sharey") if name in layout}
    with style:
        figure: Figure | SubFigure
        if ax is None:
            engine = ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.09)
            figure = Picture(figsize=size, dpi=DPI, layout=engine)
            FigureCanvasAgg(figure)
            gridded = figure.add_gridspec(rows, columns, **layout)
            axes = list(np.ravel(gridded.subplots(squeeze=False, **share)))
        elif rows * columns == 1:
            figure, axes = ax.figure, [ax]
        else:
            figure = ax.figure
            ax.set_axis_off()
            bounds = ax.get_subplotspec()
            if bounds is None:
                raise ValueError("ax must be one of a grid, as subplots and add_subplot make")
            inner = bounds.subgridspec(rows, columns, **layout)
            axes = list(np.ravel(inner.subplots(squeeze=False, **share)))
        if ax is not None and theme is not None:
            figure.set_facecolor(chosen.page)
            if rows * columns == 1:
                _dress(ax, chosen)
        for one in axes:
            frame(one, chosen, grid)
        yield Drawing(figure, axes, chosen)


def _dress(ax: Axes, look: Look) -> None:
    """Give axes that were made before the colours of a look."""
    ax.set_facecolor(look.surface)
    ax.tick_params(colors=look.muted, labelcolor=look.ink)
    for label in (ax.xaxis.label, ax.yaxis.label, ax.title):
        label.set_color(look.ink)
    for spine in ax.spines.values():
        spine.set_color(look.muted)


def frame(ax: Axes, look: Look, grid: str = "both") -> None:
    """Two sides of a frame and a faint grid along "x", "y", "both" or "none" of the axes."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_axisbelow(True)
    ax.grid(visible=False)
    if grid != "none":
        ax.grid(visible=True, axis=grid, color=look.faint, linewidth=0.7, linestyle="-")  # type: ignore[arg-type]


def heading(ax: Axes, look: Look, title: str, below: str = "", *, high: bool = True) -> None:
    """A title above the axes at the left, and a quiet line under it, or room for a legend."""
    ax.set_title(title, loc="left", pad=22 if below or high else 8)
    if below:
        ax.annotate(
            below,
            (0, 1),
            xytext=(0, 7),
            xycoords="axes fraction",
            textcoords="offset points",
            color=look.muted,
            fontsize=8.5,
        )


def legend(ax: Axes, look: Look, columns: int = 4, **options: Any) -> None:
    """A legend above the axes, where no data are; `heading` comes after it."""
    made = ax.legend(
        **{
            "loc": "lower left",
            "bbox_to_anchor": (0.0, 1.0),
            "ncols": columns,
            "frameon": False,
            "borderaxespad": 0.35,
            "borderpad": 0.0,
            "handlelength": 1.5,
            "handletextpad": 0.5,
            "columnspacing": 1.4,
            **options,
        }
    )
    for text in made.get_texts():
        text.set_color(look.ink)
    # The title's distance keeps its room; its width is not the axes'.
    made.set_in_layout(False)


def bar_beside(drawn: Drawing, ax: Axes, image: Any, label: str, **options: Any) -> Any:
    """A colour bar at the right of the axes, with the quantity it stands for."""
    bar = drawn.figure.colorbar(image, ax=ax, **{"fraction": 0.046, "pad": 0.03, **options})
    bar.set_label(label)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2.5)
    return bar


def aside(ax: Axes, look: Look, text: str) -> None:
    """Quiet words at the right, level with a title that `heading` has set."""
    ax.annotate(
        text,
        (1, 1),
        xytext=(0, 22),
        xycoords="axes fraction",
        textcoords="offset points",
        color=look.muted,
        fontsize=8.5,
        ha="right",
    ).set_in_layout(False)


def plain_logarithmic(axis: Any, low: float, high: float) -> None:
    """Round numbers in plain digits, 0.5, 1, 2, 5, at an axis that is logarithmic."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if math.log10(high / low) < 2.5 else (1,)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    if high / low > 1e5:
        return  # powers of ten, as matplotlib writes them
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def figure_of(value: float) -> str:
    """A measurement as people read it: four digits, thousands separated."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


# Values


def host(name: str, x: Any, ndim: int | tuple[int, ...] | None = None) -> Any:
    """Numbers as an array on the host, real and finite, of so many axes.

    Raises DTypeError, DataError and ShapeError, naming what is wrong.
    """
    array = np.asarray(x.detach().numpy() if isinstance(x, Tensor) else x)
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"{name} must be real numbers, got dtype {array.dtype}")
    allowed = (ndim,) if isinstance(ndim, int) else ndim
    if allowed is not None and array.ndim not in allowed:
        axes = " or ".join(map(str, allowed))
        raise ShapeError(f"{name} must have {axes} axes, got shape {array.shape}")
    if not array.size:
        raise DataError(f"{name} is empty: there is nothing to draw")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(f"{name} has NaN or infinity: leave those rows out")
    return array


def same_rows(names: Sequence[str], *arrays: Any) -> None:
    """Raise ShapeError for arrays of different numbers of rows."""
    if len({len(array) for array in arrays}) > 1:
        counts = " and ".join(f"{n} {len(a)}" for n, a in zip(names, arrays, strict=True))
        raise ShapeError(f"expected as many rows in each, got {counts}")


def column(name: str, x: Any) -> Any:
    """Numbers (n,), from a column (n, 1) too."""
    array = host(name, x, (1, 2))
    if array.ndim == 2 and array.shape[1] != 1:
        raise ShapeError(f"{name} must have one column, got shape {array.shape}; draw one by one")
    return array.reshape(-1)
