"""What a run says: tables by rich where it is installed, else in plain text."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, TextIO

WIDTH = 100
"""Columns of text where the output is no terminal."""


class Report:
    """Tables and lines on a stream; rich draws them if it is installed."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self._console: Any = None
        if find_spec("rich") is not None:
            from rich.console import Console

            terminal = self.stream.isatty()
            self._console = Console(
                file=self.stream,
                highlight=False,
                markup=False,
                emoji=False,
                soft_wrap=True,
                width=None if terminal else WIDTH,
            )

    def line(self, text: str = "", style: str = "") -> None:
        """One line of text; `style` is rich's."""
        if self._console is None:
            print(text, file=self.stream)
        else:
            self._console.print(text, style=style or None)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], align: str = "") -> None:
        """A table; `align` has an l or r for each column, by default numbers after a first name."""
        align = align or "l".ljust(len(header), "r")
        if self._console is None:
            self._plain([header, *rows], align)
            return
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for name, side in zip(header, align, strict=True):
            table.add_column(Text(name), justify="right" if side == "r" else "left")
        for name, *cells in rows:
            table.add_row(Text(name, style="bold"), *map(Text, cells))
        self._console.print(table)

    def facts(self, facts: Mapping[str, str]) -> None:
        """Names and what there is to say of them, a line each."""
        width = max(map(len, facts), default=0)
        for name, text in facts.items():
            self.line(f"{name:<{width}}  {text}")

    def _plain(self, rows: Sequence[Sequence[str]], align: str) -> None:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (
                cell.rjust(width) if side == "r" else cell.ljust(width)
                for cell, width, side in zip(row, widths, align, strict=True)
            )
            self.line("  ".join(cells).rstrip())


def figure(value: float | None) -> str:
    """A measurement as people read it: four digits, thousands separated."""
    if value is None or value != value:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def counted(count: int, noun: str) -> str:
    """A count with its noun: 1 row, 1,797 rows."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def lasting(seconds: float) -> str:
    """A duration as people read it: 0.42 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
