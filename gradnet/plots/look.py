"""Look: the colours of a picture, ours in light and dark, or those of matplotlib's style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb

Theme = Literal["light", "dark"] | None


@dataclass(frozen=True)
class Look:
    """The colours that a picture is drawn in.

    surface   behind the data; `page` is behind the axes' labels
    ink       of text; `muted` of what is less important; `faint` of lines of the grid
    colours   of series, in this order; the first five are told apart with any colour blindness
    """

    surface: str
    page: str
    ink: str
    muted: str
    faint: str
    colours: tuple[str, ...]

    @property
    def dark(self) -> bool:
        """Whether the surface is."""
        return luminance(self.surface) < 0.25

    def colour(self, i: int) -> str:
        """The colour of the i-th series; they begin anew after the last."""
        return self.colours[i % len(self.colours)]

    def sequential(self, i: int = 0) -> LinearSegmentedColormap:
        """From the surface to the i-th colour, and past it to a darker one on a light surface."""
        # The least that is shown stands out from the surface; on a dark one it would not.
        ramp = [mixed(self.surface, self.colour(i), 0.2 if self.dark else 0.05), self.colour(i)]
        if not self.dark:
            ramp.append(mixed(self.colour(i), "#000000", 0.35))
        return LinearSegmentedColormap.from_list("gradnet", ramp)

    def diverging(self, low: int = 0, high: int = 1) -> LinearSegmentedColormap:
        """From one colour through the surface to another."""
        return LinearSegmentedColormap.from_list(
            "gradnet_diverging", [self.colour(low), self.surface, self.colour(high)]
        )

    def surfaces(self) -> LinearSegmentedColormap:
        """Heights, low to high: one hue that steadily gets fainter, so that lows stand out."""
        near = self.colour(0)
        ends = ("#ffffff", "#000000") if self.dark else ("#000000", "#ffffff")
        low, high = mixed(near, ends[0], 0.25), mixed(near, self.surface, 0.92)
        return LinearSegmentedColormap.from_list("gradnet_heights", [low, near, high])


_LIGHT = Look(
    surface="#ffffff",
    page="#ffffff",
    ink="#1b1f24",
    muted="#5f6873",
    faint="#e3e6ea",
    colours=(
        *("#1558d0", "#bf4300", "#089a9d", "#5d3a66", "#d97706"),
        *("#4a8fdd", "#7a4a21", "#68717c", "#c2255c", "#6b7a1e"),
    ),
)
_DARK = Look(
    surface="#0d1117",
    page="#0d1117",
    ink="#e8ebef",
    muted="#99a3b0",
    faint="#262d36",
    colours=(
        *("#4aa8ff", "#f47c32", "#2f9488", "#f7b6cf", "#f5ea6a"),
        *("#9bd7ff", "#c99d6e", "#a3acb8", "#ff7189", "#9fc04e"),
    ),
)
THEMES: Mapping[str, Look] = {"light": _LIGHT, "dark": _DARK}


def look(theme: Theme, ax: Axes | None = None) -> Look:
    """The look of a theme; for None that of the axes, or of matplotlib's current style.

    Raises ValueError for an unknown theme.
    """
    if theme is not None:
        if theme not in THEMES:
            raise ValueError(
                f"theme must be 'light', 'dark', or None for matplotlib's current style, "
                f"not {theme!r}"
            )
        return THEMES[theme]
    params = matplotlib.rcParams
    surface = to_hex(params["axes.facecolor"])
    ink, page = to_hex(params["text.color"]), to_hex(params["figure.facecolor"])
    if ax is not None:
        surface, ink = to_hex(ax.get_facecolor()), to_hex(ax.xaxis.label.get_color())
        page = to_hex(ax.figure.get_facecolor())
    cycle = params["axes.prop_cycle"]
    ours = _DARK if luminance(surface) < 0.25 else _LIGHT
    chosen = cycle != matplotlib.rcParamsDefault["axes.prop_cycle"] and "color" in cycle.keys
    colours = tuple(map(to_hex, cycle.by_key()["color"])) if chosen else ours.colours
    if len(colours) < 2:  # a style of one colour cannot tell series apart
        colours = (*colours, *ours.colours)
    return Look(surface, page, ink, mixed(ink, surface, 0.35), mixed(ink, surface, 0.88), colours)


def applied(look: Look) -> Any:
    """A context in which matplotlib's settings give a theme its look."""
    settings: Any = {
        "figure.facecolor": look.page,
        "figure.edgecolor": look.page,
        "axes.facecolor": look.surface,
        "axes.edgecolor": look.muted,
        "axes.labelcolor": look.ink,
        "axes.titlecolor": look.ink,
        "axes.linewidth": 0.8,
        "axes.labelsize": 9.5,
        "axes.titlesize": 11.0,
        "axes.titleweight": "bold",
        "font.family": ["sans-serif"],
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 9.5,
        "grid.color": look.faint,
        "hatch.color": look.muted,
        "legend.fontsize": 8.5,
        "lines.solid_capstyle": "round",
        "patch.edgecolor": look.surface,
        "text.color": look.ink,
        "xtick.color": look.muted,
        "ytick.color": look.muted,
        "xtick.labelcolor": look.ink,
        "ytick.labelcolor": look.ink,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "xtick.direction": "out",
        "ytick.direction": "out",
    }
    return matplotlib.rc_context(settings)


# Colours as numbers


def luminance(colour: Any) -> float:
    """How light a colour is, 0 to 1: the relative luminance of WCAG 2.2."""
    channels = np.asarray(to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def contrast(a: Any, b: Any) -> float:
    """The contrast of two colours, 1 to 21, of WCAG 2.2."""
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def mixed(a: Any, b: Any, share: float) -> str:
    """Colour a with that share of b."""
    red, green, blue = (
        x * (1 - share) + y * share for x, y in zip(to_rgb(a), to_rgb(b), strict=True)
    )
    return to_hex((red, green, blue))


def readable(colour: Any, choices: Sequence[str] = ("#ffffff", "#14181d")) -> str:
    """The one of some colours of text that is read best on a colour."""
    return max(choices, key=lambda text: contrast(colour, text))
