"""Classification: confusion matrix, ROC, precision against recall, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter
from numpy.typing import NDArray

from gradnet.errors import DataError, ShapeError
from gradnet.plots.canvas import Drawing, aside, drawing, heading, host, legend, same_rows
from gradnet.plots.look import Theme, mixed, readable

_NAMED = 3
"""Up to so many classes each has a curve of its own colour; of more, only the ends are named."""


def _library(module: str) -> Any:
    """A module of scikit-learn, which has the measures."""
    import importlib

    try:
        return importlib.import_module(f"sklearn.{module}")
    except ImportError as error:
        raise ImportError(
            "pictures of classifications use scikit-learn's measures: "
            'run pip install ".[train]" in the checkout of gradnet'
        ) from error


def truth_of(y: Any) -> NDArray[np.int64]:
    """Classes (n,), from one-hot rows (n, k) or a column (n, 1) too."""
    array = host("y", y, (1, 2))
    if array.ndim == 2:
        array = array.argmax(axis=1) if array.shape[1] > 1 else array[:, 0]
    if (array != np.floor(array)).any() or array.min() < 0:
        raise DataError("y must hold classes, the integers 0, 1, ...")
    whole: NDArray[np.int64] = array.astype(np.int64)
    return whole


def _probabilities(y: Any, p: Any) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Classes (n,) and probabilities (n, k); those of class 1 alone become two columns.

    Raises ShapeError and DataError for what are no probabilities of these classes.
    """
    truth, found = truth_of(y), host("probabilities", p, (1, 2)).astype(np.float64)
    if found.ndim == 1 or found.shape[1] == 1:
        found = np.stack([1 - found.reshape(-1), found.reshape(-1)], axis=1)
    same_rows(("y", "probabilities"), truth, found)
    if found.min() < -1e-6 or found.max() > 1 + 1e-6 or abs(found.sum(axis=1) - 1).max() > 1e-3:
        raise DataError(
            "probabilities must lie in 0 ... 1 and add up to 1 in each row; of raw outputs they "
            "are model.output.predict(z)"
        )
    if truth.max() >= found.shape[1]:
        raise DataError(f"y has class {truth.max()}, but probabilities are of {found.shape[1]}")
    return truth, found


def class_names(classes: Sequence[Any] | None, count: int, prefix: str = "") -> list[str]:
    if classes is None:
        return [f"{prefix}{i}" for i in range(count)]
    if len(classes) != count:
        raise ShapeError(f"classes names {len(classes)} classes, there are {count}")
    names = [str(name) for name in classes]
    numbered = all(name.isdecimal() for name in names)
    return [f"{prefix}{name}" for name in names] if numbered else names


def confusion(
    y: Any,
    prediction: Any,
    *,
    classes: Sequence[Any] | None = None,
    ax: Axes | None = None,
    theme: Theme = None,
) -> Figure:
    """How often each class (a row) was taken for each other (a column), in numbers of rows.

    `prediction` are classes (n,) or probabilities (n, k). The colour is the share of the row's
    class, on a scale that shows single mistakes: right ones in one hue, wrong ones in another.
    Raises DataError and ShapeError for what are no classes.
    """
    truth, found = truth_of(y), host("prediction", prediction, (1, 2))
    count = max(found.shape[1] if found.ndim == 2 else 0, 2)
    if found.ndim == 2 and found.shape[1] == 1:
        found = (found[:, 0] > 0.5).astype(np.int64)
    found = truth_of(found)
    same_rows(("y", "prediction"), truth, found)
    count = max(count, int(truth.max()) + 1, int(found.max()) + 1, len(classes or ()))
    names = class_names(classes, count)
    table = _library("metrics").confusion_matrix(truth, found, labels=range(count))
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    cell = 0.42 if count > 5 else 0.62
    side = min(11.0, max(2.4, cell * count))
    longest = max(map(len, names))
    with drawing(theme, ax, size=(side + 1.1 + 0.075 * longest, side + 1.2), grid="none") as drawn:
        look, ax = drawn.look, drawn.ax
        norm = PowerNorm(0.35, 0, 1)
        own = np.eye(count, dtype=bool)
        image = np.where(
            own[..., None], look.sequential(0)(norm(shares)), look.sequential(1)(norm(shares))
        )
        image[table == 0] = (*to_rgb(look.surface), 1)
        ax.imshow(image, aspect="equal")
        for i, j in np.argwhere(table > 0):
            ax.text(
                j,
                i,
                f"{table[i, j]:,}",
                ha="center",
                va="center_baseline",
                fontsize=8.5 if count <= 12 else 6.5,
                color=readable(image[i, j, :3]),
            )
        ax.set_xticks(range(count), names, rotation=45 if longest > 4 and count > 2 else 0)
        if longest > 4 and count > 2:
            for label in ax.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")
        ax.set_yticks(range(count), names)
        ax.tick_params(length=0)
        ax.set_xticks(np.arange(count - 1) + 0.5, minor=True)
        ax.set_yticks(np.arange(count - 1) + 0.5, minor=True)
        ax.grid(which="minor", color=look.faint, linewidth=0.8)
        ax.tick_params(which="minor", length=0)
        ax.spines[:].set_visible(False)
        ax.set_xlabel("predicted class")
        ax.set_ylabel("true class")
        right = table.trace()
        below = f"{right:,} of {table.sum():,} rows right: accuracy {right / table.sum():.3f}"
        heading(ax, look, "Confusion matrix", below)
    return drawn.figure


def _curves(
    drawn: Drawing,
    found: Sequence[tuple[str, Any, Any, float]],
    measure: str,
    mean: float,
    **options: Any,
) -> None:
    """Curves (name, x, y, area): a few by name, of many the worst, the others in one colour."""
    ax, look = drawn.ax, drawn.look
    if len(found) <= _NAMED:
        for i, (name, x, y, area) in enumerate(found):
            label = f"{name}: {measure} {area:.3f}" if name else f"{measure} {area:.3f}"
            # Curves that are the same are seen inside one another.
            width = 1.9 + 1.5 * (len(found) - 1 - i)
            ax.plot(x, y, color=look.colour(i), linewidth=width, label=label, **options)
        return
    worst = min(range(len(found)), key=lambda i: found[i][3])
    quiet = mixed(look.colour(0), look.surface, 0.35)
    for i, (_, x, y, _) in enumerate(found):
        if i != worst:
            others = f"{len(found) - 1} classes" if i == (worst == 0) else None
            ax.plot(x, y, color=quiet, linewidth=1.0, label=others, **options)
    name, x, y, area = found[worst]
    label = f"the worst, {name}: {area:.3f}"
    ax.plot(x, y, color=look.colour(1), linewidth=1.9, label=label, zorder=3, **options)
    ax.plot([], [], " ", label=f"mean {measure} {mean:.3f}")


def _one_against_rest(
    truth: NDArray[np.int64], p: NDArray[np.float64], classes: Sequence[Any] | None
) -> list[tuple[int, str]]:
    """The classes that have a curve: class 1 of two, all that have rows of more."""
    names = class_names(classes, p.shape[1], "class ")
    if p.shape[1] == 2:
        wanted = [(1, names[1] if classes is not None else "")]
    else:
        wanted = list(enumerate(names))
    counts = np.bincount(truth, minlength=p.shape[1])
    present = [(k, name) for k, name in wanted if 0 < counts[k] < len(truth)]
    if not present:
        raise DataError("y has rows of one class only: there are no others to tell it from")
    return present


def roc(
    y: Any,
    probabilities: Any,
    *,
    classes: Sequence[Any] | None = None,
    ax: Axes | None = None,
    theme: Theme = None,
) -> Figure:
    """The share of a class that is found against the share of others taken for it, by threshold.

    `probabilities` are (n, k), each class against the rest, or those of class 1 (n,). The area
    under the curve is 1 for a perfect ranking and 1/2 for chance, the dashed line.
    Raises DataError and ShapeError for what are no probabilities of these classes.
    """
    truth, p = _probabilities(y, probabilities)
    metrics = _library("metrics")
    found = []
    for k, name in _one_against_rest(truth, p, classes):
        false, true, _ = metrics.roc_curve(truth == k, p[:, k], drop_intermediate=True)
        found.append((name, false, true, float(metrics.auc(false, true))))
    with drawing(theme, ax, size=(4.6, 4.6)) as drawn:
        ax, look = drawn.ax, drawn.look
        ax.plot([0, 1], [0, 1], color=look.muted, linewidth=0.9, linestyle=(0, (4, 3)))
        _curves(drawn, found, "area", float(np.mean([f[3] for f in found])))
        _square(ax)
        ax.set_xlabel("false positive rate, % of the other classes")
        ax.set_ylabel("true positive rate, % of the class")
        ax.text(
            0.635,
            0.585,
            "chance",
            color=look.muted,
            fontsize=8.5,
            rotation=45,
            ha="center",
            va="center",
            rotation_mode="anchor",
        )
        _inside(drawn, "lower right")
        heading(ax, look, "ROC curve", _told(found), high=False)
    return drawn.figure


def precision_recall(
    y: Any,
    probabilities: Any,
    *,
    classes: Sequence[Any] | None = None,
    ax: Axes | None = None,
    theme: Theme = None,
) -> Figure:
    """The share of right ones among those taken for a class, against the share of it found.

    The arguments and errors are those of `roc`. The measure is the average precision, sum of
    precision times the gain in recall. Dashed: the share of a single class among the rows, which
    is the precision of chance.
    """
    truth, p = _probabilities(y, probabilities)
    metrics = _library("metrics")
    found = []
    wanted = _one_against_rest(truth, p, classes)
    for k, name in wanted:
        precision, recall, _ = metrics.precision_recall_curve(truth == k, p[:, k])
        area = metrics.average_precision_score(truth == k, p[:, k])
        found.append((name, recall, precision, float(area)))
    with drawing(theme, ax, size=(4.6, 4.6)) as drawn:
        ax, look = drawn.ax, drawn.look
        base = float(np.mean([(truth == k).mean() for k, _ in wanted]))
        ax.axhline(base, color=look.muted, linewidth=0.9, linestyle=(0, (4, 3)))
        ax.annotate(
            "chance",
            (0.99, base),
            xytext=(0, 3),
            textcoords="offset points",
            color=look.muted,
            fontsize=8.5,
            ha="right",
        )
        mean = float(np.mean([f[3] for f in found]))
        _curves(drawn, found, "average precision", mean, drawstyle="steps-post")
        _square(ax)
        ax.set_xlabel("recall, % of the class")
        ax.set_ylabel("precision, % of those taken for it")
        _inside(drawn, "lower left" if base < 0.25 else "center left", above=base < 0.25)
        heading(ax, look, "Precision and recall", _told(found), high=False)
    return drawn.figure


def _told(found: Sequence[Any]) -> str:
    return "each class against the rest" if len(found) > 1 else ""


def _square(ax: Axes) -> None:
    """Both axes from 0 to 100 %, with room for lines that run along the sides."""
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(-0.02, 1.02)
    ax.set_aspect("equal")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, symbol=""))


def _inside(drawn: Drawing, place: str, above: bool = False) -> None:
    """A legend in a corner that such curves leave free."""
    legend(
        drawn.ax,
        drawn.look,
        1,
        loc=place,
        bbox_to_anchor=(0.03, 0.14) if above else None,
        borderaxespad=1.0,
        frameon=True,
        framealpha=0.85,
        facecolor=drawn.look.surface,
        edgecolor="none",
    )


def calibration(
    y: Any,
    probabilities: Any,
    *,
    classes: Sequence[Any] | None = None,
    bins: int = 10,
    ax: Axes | None = None,
    theme: Theme = None,
) -> Figure:
    """How often what has a probability comes true: bins of equal width, and the rows in each.

    Of two classes it is the probability of class 1, of more that of the likeliest class. Under
    the dashed line a model is too sure. Bars are 95 % intervals of Wilson. The error is the mean
    distance from the line, weighed by rows (expected calibration error).
    Guo et al. 2017, arXiv:1706.04599.
    Raises DataError and ShapeError as `roc` does, ValueError for less than two bins.
    """
    truth, p = _probabilities(y, probabilities)
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 2:
        raise ValueError(f"bins must be an integer of at least 2, not {bins!r}")
    names = class_names(classes, p.shape[1], "class ")
    two = p.shape[1] == 2
    sure = p[:, 1] if two else p.max(axis=1)
    right = truth == 1 if two else p.argmax(axis=1) == truth
    true, mean = _library("calibration").calibration_curve(right, sure.clip(0, 1), n_bins=bins)
    edges = np.linspace(0, 1, bins + 1)
    place = np.searchsorted(edges[1:-1], sure)
    counts = np.bincount(place, minlength=bins)
    error = float((counts[counts > 0] * abs(true - mean)).sum() / len(truth))
    with drawing(
        theme, ax, size=(4.6, 5.2), shape=(2, 1), height_ratios=(3.4, 1), sharex=True
    ) as drawn:
        upper, lower = drawn.axes
        look = drawn.look
        upper.plot([0, 1], [0, 1], color=look.muted, linewidth=0.9, linestyle=(0, (4, 3)))
        low, high = _wilson(true, counts[counts > 0])
        quiet = mixed(look.colour(0), look.surface, 0.45)
        upper.vlines(mean, low, high, color=quiet, linewidth=2.2, label="95 % interval")
        upper.plot(mean, true, color=look.colour(0), linewidth=1.0, alpha=0.6)
        upper.plot(
            mean,
            true,
            "o",
            color=look.colour(0),
            markersize=7,
            markeredgecolor=look.surface,
            markeredgewidth=1.2,
            zorder=3,
            label="rows of a bin",
        )
        upper.set_ylim(-0.03, 1.03)
        upper.set_ylabel("came true, % of rows" if two else "right, % of rows")
        lower.bar((edges[1:] + edges[:-1]) / 2, counts, width=0.92 / bins, color=look.colour(0))
        lower.set_yscale("symlog", linthresh=1)
        lower.set_ylim(0, 3 * counts.max())
        decades = 10 ** np.arange(np.ceil(np.log10(counts.max() + 1)))
        lower.set_yticks([0, *decades], [f"{tick:,.0f}" for tick in (0, *decades)])
        lower.yaxis.set_minor_locator(NullLocator())
        lower.set_ylabel("rows")
        what = names[1] if two else "the likeliest class"
        lower.set_xlabel(f"predicted probability of {what}, %")
        lower.set_xlim(-0.02, 1.02)
        lower.grid(visible=False, axis="x")
        for axis in (upper.xaxis, upper.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0, symbol=""))
        legend(upper, look, 2)
        heading(upper, look, "Calibration")
        aside(upper, look, f"expected calibration error {100 * error:.1f} %")
    return drawn.figure


def _wilson(share: NDArray[np.float64], count: NDArray[np.int64]) -> Any:
    """The 95 % interval of a share of so many rows. Wilson 1927."""
    z = 1.959964
    middle = share + z * z / (2 * count)
    reach = z * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (middle - reach) / (1 + z * z / count), (middle + reach) / (1 + z * z / count)
