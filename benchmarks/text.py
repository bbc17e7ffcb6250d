"""Figures and tables as people read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def seconds(value: float | None) -> str:
    """A duration with three digits and its unit."""
    if value is None:
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{digits(value / size)} {unit}"
    return f"{digits(value / 1e-6)} µs"


def digits(value: float) -> str:
    """Three digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(row: Mapping[str, float]) -> str:
    """A median with half the distance of the quartiles, in microseconds."""
    half = (row["q3"] - row["q1"]) / 2
    return f"{digits(row['median'] * 1e6)} ± {digits(half * 1e6)}"


def ratio(value: float | None) -> str:
    """A ratio with two decimals."""
    return "-" if value is None else f"{value:.2f}"


def times(value: float | None) -> str:
    """How many times faster."""
    return "-" if value is None else f"{value:.2f}×"  # noqa: RUF001  as people write it


def percent(value: float | None) -> str:
    """A fraction in percent."""
    return "-" if value is None else f"{100 * value:.0f} %"


def megabytes(value: float | None) -> str:
    """Bytes in millions."""
    return "-" if value is None else f"{value / 1e6:.1f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its columns aligned: names left, figures right."""
    every = [list(header), *map(list, rows)]
    widths = [max(3, *map(len, column)) for column in zip(*every, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *rest = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join((first, *rest))} |"

    ruled = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(every[0]), line(ruled), *map(line, every[1:])])
