"""An explanation as a person sees it: text, Markdown, HTML, and a drawing saved to a file."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from gradnet.explainer import drawing
from gradnet.explainer.figures import shown
from gradnet.explainer.layout import MOST_STEPS
from gradnet.explainer.trace import Step
from gradnet.ops.elementwise import op
from gradnet.ops.reduce import all as all_of
from gradnet.tensor import Tensor

WIDTH = 100
"""Columns of text where nobody says how many there are."""

_DOES = {
    "distributes": "gives its gradient to every operand",
    "switches": "gives each operand the gradient times the other operand",
    "routes": "gives its gradient to the operand that was chosen, nothing to the others",
    "scales": "multiplies the gradient by its slope",
    "flips": "changes the gradient's sign",
    "passes": "hands the gradient on",
    "adds": "adds the gradients up",
}

_STYLE = """
.gn-explain { color: #1a1a19; background: #fff; font: 13px system-ui, sans-serif; }
.gn-explain table { border-collapse: collapse; margin: 0.6em 0; }
.gn-explain th, .gn-explain td { padding: 2px 10px; border-bottom: 1px solid #ddd; }
.gn-explain th, .gn-explain td { text-align: left; }
.gn-explain td { font-family: ui-monospace, monospace; }
.gn-explain caption { text-align: left; font-weight: 600; padding: 4px 10px; }
@media (prefers-color-scheme: dark) {
  .gn-explain { color: #eee; background: #1a1a19; }
  .gn-explain th, .gn-explain td { border-color: #444; }
}
"""


class Explanation:
    """A computation with its derivatives: what `gradnet.explain` returns. Print it, or `save` it.

    inputs      the variables it started from, constants among them
    rows        its steps in evaluation order, the result last
    value       the result
    gradients   the result's derivative with respect to each input
    """

    def __init__(
        self, inputs: Sequence[Step], rows: Sequence[Step], expression: str | None = None
    ) -> None:
        self.inputs = tuple(inputs)
        self.rows = tuple(rows)
        self.expression = expression
        self._steps = {step.name: step for step in (*inputs, *rows)}

    def __getitem__(self, name: str) -> Step:
        """The row, or input, of a variable's name. Raises KeyError that lists the names."""
        if name not in self._steps:
            raise KeyError(f"no variable is called {name!r}; there are {', '.join(self._steps)}")
        return self._steps[name]

    @property
    def output(self) -> Step:
        """The last step: the result."""
        return self.rows[-1] if self.rows else self.inputs[0]

    @property
    def value(self) -> Tensor:
        """The result."""
        return self.output.value

    @property
    def variables(self) -> tuple[Step, ...]:
        """The inputs that the result was differentiated by."""
        return tuple(step for step in self.inputs if step.backward is not None)

    @property
    def gradients(self) -> Mapping[str, Tensor]:
        """The derivative of the result with respect to each input."""
        return {step.name: step.backward for step in self.variables if step.backward is not None}

    @property
    def first_not_finite(self) -> Step | None:
        """The first step whose value has an infinity or a NaN, if there is one."""
        for step in (*self.inputs, *self.rows):
            if not bool(all_of(op("isfinite")(step.value))):
                return step
        return None

    # Tables

    def evaluation(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows of the table in evaluation order: values and partial derivatives."""
        header = ["", "expression", "value", "partial", "formula", "value"]
        rows = [[step.name, "", shown(step.value), "", "", ""] for step in self.inputs]
        for step in self.rows:
            first = [step.name, step.expression, shown(step.value)]
            for partial in step.partials:
                name = f"d{step.name}/d{partial.operand}"
                rows.append([*first, name, partial.formula, shown(partial.value)])
                first = ["", "", ""]
        return header, rows

    def forward(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows of forward mode: the derivative of each value in every input."""
        names = [step.name for step in self.variables]
        rows = [
            [step.name, *(shown(step.forward[name]) if step.forward else "0" for name in names)]
            for step in (*self.inputs, *self.rows)
        ]
        return ["", *(f"d/d{name}" for name in names)], rows

    def tables(self, width: int = WIDTH) -> list[tuple[str, list[str], list[list[str]]]]:
        """Title, header and rows of each table: both first ones joined, where the width allows."""
        result = self.output.name
        back = (f"Backward mode: the derivative of {result} by each value", *self.backward())
        header, rows = self.evaluation()
        slopes, found = self.forward()
        values = {name: rest for name, *rest in found}
        joined = [[*row, *values.get(row[0], [""] * (len(slopes) - 1))] for row in rows]
        wide = [*header, *slopes[1:]]
        total = sum(max(map(len, column)) + 3 for column in zip(wide, *joined, strict=True))
        if total <= width:
            by = ", ".join(step.name for step in self.variables)
            title = f"Evaluation order, with forward mode: the derivative of each value by {by}"
            return [(title, wide, joined), back]
        forth = "Forward mode: the derivative of each value by each input"
        return [("Evaluation order", header, rows), (forth, slopes, found), back]

    def backward(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows of backward mode: the result's derivative in each value, last first."""
        result = self.output.name
        uses: dict[str, list[str]] = {}
        for step in self.rows:
            for partial in step.partials:
                term = f"d{result}/d{step.name} * d{step.name}/d{partial.operand}"
                flow = shown(partial.gradient)
                uses.setdefault(partial.operand, []).append(f"{term} = {flow}")
        rows = []
        for step in (*reversed(self.rows), *self.variables):
            terms = uses.get(step.name, [] if step.name != result else [f"d{result}/d{result} = 1"])
            gradient = "" if step.backward is None else shown(step.backward)
            if not terms:
                rows.append([f"d{result}/d{step.name}", "not used", gradient])
            for i, term in enumerate(terms):
                first = i == 0
                sign = "" if first else "+ "
                rows.append(
                    [
                        f"d{result}/d{step.name}" if first else "",
                        sign + term,
                        gradient if first else "",
                    ]
                )
        return ["derivative", "sum of", "value"], rows

    def gates(self) -> list[str]:
        """A line for each kind of gate there is, and one for the branches."""
        lines = []
        for kind, what in _DOES.items():
            members = [step.name for step in self.rows if step.gate == kind]
            if members:
                lines.append(f"{kind}: {', '.join(members)} ({what})")
        branches = [
            step.name
            for step in self._steps.values()
            if step.uses > 1 and step.backward is not None
        ]
        if branches:
            lines.append(f"branches add: the gradients that reach {', '.join(branches)} are summed")
        return lines

    # Shapes of the whole

    def text(self, *, color: bool = False, width: int = WIDTH) -> str:
        """The tables and the circuit as text, for a terminal of so many columns."""
        from gradnet.explainer.text import render

        return render(self, color=color, width=width)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        about = f" of {self.expression!r}" if self.expression else ""
        result = f"{self.output.name} = {shown(self.value)}"
        return f"<Explanation{about}: {result}, {len(self.rows)} steps>"

    def markdown(self) -> str:
        """The tables in Markdown."""
        parts = []
        for title, header, rows in self.tables():
            parts.append(f"**{title}**\n")
            parts.append(_markdown_table(header, rows))
        parts += [f"- {line}" for line in self.gates()]
        return "\n".join(parts) + "\n"

    def html(self) -> str:
        """The tables and the circuit as HTML that follows the reader's light or dark scheme."""
        parts = [f'<div class="gn-explain"><style>{_STYLE}</style>']
        if len(self.rows) <= MOST_STEPS:
            parts.append(drawing.svg(self, theme="auto"))
        for title, header, rows in self.tables():
            head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
            body = "".join(
                "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
                for row in rows
            )
            parts.append(
                f"<table><caption>{html.escape(title)}</caption><thead><tr>{head}</tr></thead>"
                f"<tbody>{body}</tbody></table>"
            )
        items = "".join(f"<li>{html.escape(line)}</li>" for line in self.gates())
        return "\n".join([*parts, f"<ul>{items}</ul></div>"])

    def _repr_html_(self) -> str:
        return self.html()

    def _repr_markdown_(self) -> str:
        return self.markdown()

    # Files

    def dot(self) -> str:
        """The circuit in Graphviz's language."""
        return drawing.dot(self)

    def svg(self, *, theme: str = "light") -> str:
        """The circuit as an SVG drawing; `theme` is light, dark, or auto (the viewer's own)."""
        return drawing.svg(self, theme=theme)

    def save(self, path: str | Path, *, theme: str = "light", engine: str = "own") -> Path:
        """Save to a file: .svg, .png, .pdf or .dot the circuit; .html, .md or .txt the whole.

        `engine` draws the circuit: "own", or "graphviz" where its command `dot` is installed.
        Raises ExplainError for another ending, theme or engine, and for a missing one.
        """
        return drawing.save(self, Path(path), theme=theme, engine=engine)


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    out = io.StringIO()
    for row in (header, ["---"] * len(header), *rows):
        cells = (cell.replace("|", "\\|").replace("*", "\\*").replace("_", "\\_") for cell in row)
        out.write("| " + " | ".join(cells) + " |\n")
    return out.getvalue()
