"""An explanation in a terminal: two tables, and the circuit as a tree."""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from gradnet.explainer.figures import shown
from gradnet.explainer.symbolic import CALLED

if TYPE_CHECKING:
    from gradnet.explainer.report import Explanation


def render(e: Explanation, *, color: bool, width: int) -> str:
    """The whole explanation as text, by rich if it is installed, else plain."""
    stream = io.StringIO()
    paint = _Rich(stream, color) if find_spec("rich") is not None else _Plain(stream)
    if e.expression:
        paint.heading(f"{e.output.name} = {e.expression}")
    for title, header, rows in e.tables(width):
        paint.heading(title)
        paint.table(header, rows)
    paint.heading("Circuit: value above, gradient below each edge")
    for line in circuit(e):
        paint.line(line)
    paint.line("")
    for line in e.gates():
        paint.line(line)
    return stream.getvalue().rstrip("\n") + "\n"


DEEPEST = 60
"""Levels of the tree that are drawn."""


def circuit(e: Explanation) -> list[str]:
    """The circuit as a tree from the result to the inputs, a branch drawn once and then named.

    Every edge is two lines: the value that goes up along it, and the gradient that comes back.
    """
    lines: list[str] = []
    drawn: set[str] = set()

    def visit(name: str, lead: str, last: bool, gradient: str, level: int) -> None:
        step = e[name]
        again = name in drawn and bool(step.partials)
        deep = level >= DEEPEST and bool(step.partials)
        drawn.add(name)
        stem, below = (
            ("", "") if not level else ("└─ " if last else "├─ ", "   " if last else "│  ")
        )
        label = name if not step.expression else f"{name} = {step.expression}"
        branch = " (branch: adds)" if step.uses > 1 and step.backward is not None else ""
        gate = f" [{CALLED.get(step.op, step.op)} {step.gate}]" if step.gate else ""
        what = f"{label}{gate}{branch}"
        if again or deep:
            what = f"{name} (see above)" if again else f"{label} (see the table)"
        children = [] if again or deep else list(step.partials)
        lines.append(f"{lead}{stem}{what}")
        inner = lead + below
        bar = "│  " if children else "   "
        lines.append(f"{inner}{bar}value {shown(step.value)}")
        if gradient:
            lines.append(f"{inner}{bar}gradient {gradient}")
        for i, partial in enumerate(children):
            end = i == len(children) - 1
            visit(partial.operand, inner, end, shown(partial.gradient), level + 1)

    visit(e.output.name, "", True, shown(e.output.backward), 0)
    return lines


class _Plain:
    """Text without any package."""

    def __init__(self, stream: io.StringIO) -> None:
        self.stream = stream

    def line(self, text: str) -> None:
        self.stream.write(f"{text}\n")

    def heading(self, text: str) -> None:
        self.line(text)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        for row in (header, ["-" * width for width in widths], *rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.line("  ".join(cells).rstrip())
        self.line("")


class _Rich(_Plain):
    """The same with rich's lines and, in a terminal, its colours."""

    def __init__(self, stream: io.StringIO, color: bool) -> None:
        super().__init__(stream)
        from rich.console import Console

        self.console: Any = Console(
            file=stream,
            force_terminal=color,
            color_system="standard" if color else None,
            highlight=False,
            markup=False,
            emoji=False,
            width=10_000,  # a table that is too wide is for the terminal to wrap
        )

    def line(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)

    def heading(self, text: str) -> None:
        self.console.print(text, style="bold", soft_wrap=True)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for name in header:
            table.add_column(Text(name), no_wrap=True)
        for first, *cells in rows:
            table.add_row(Text(first, style="bold"), *map(Text, cells))
        self.console.print(table)
        self.line("")
