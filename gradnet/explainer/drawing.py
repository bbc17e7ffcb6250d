"""A circuit drawn: SVG by hand, PNG and PDF by matplotlib, or any of them by Graphviz."""

from __future__ import annotations

import html
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradnet.explainer import layout
from gradnet.explainer.figures import shown
from gradnet.explainer.layout import SIZE, Gate, Wire
from gradnet.explainer.trace import ExplainError
from gradnet.io import replacing

if TYPE_CHECKING:
    from gradnet.explainer.report import Explanation

THEMES: dict[str, dict[str, str]] = {
    "light": {
        "ground": "#ffffff",
        "ink": "#1a1a19",
        "quiet": "#6b6a66",
        "wire": "#9a9994",
        "value": "#0b7a34",
        "gradient": "#c02b26",
        "distributes": "#d8e8fb",
        "switches": "#fbe7bf",
        "routes": "#e9dcf7",
        "scales": "#eeeeeb",
        "flips": "#f8dcd9",
        "passes": "#eeeeeb",
        "adds": "#d8e8fb",
    },
    "dark": {
        "ground": "#1a1a19",
        "ink": "#f2f2f0",
        "quiet": "#b0afa9",
        "wire": "#7d7c77",
        "value": "#63d08a",
        "gradient": "#ff8d85",
        "distributes": "#1f3b5c",
        "switches": "#584214",
        "routes": "#43305c",
        "scales": "#383836",
        "flips": "#5a2c29",
        "passes": "#383836",
        "adds": "#1f3b5c",
    },
}
FONT = "DejaVu Sans Mono, Menlo, Consolas, monospace"
BOLD = ' font-weight="bold"'
DOTS_PER_INCH = 144


def _theme(name: str) -> dict[str, str]:
    if name not in THEMES:
        raise ExplainError(f"there is no theme {name!r}; choose {' or '.join(THEMES)}")
    return THEMES[name]


# SVG


def svg(e: Explanation, *, theme: str = "light") -> str:
    """The circuit as SVG text; the theme "auto" follows the viewer's light or dark scheme."""
    plan = layout.place(e)
    rules = _rules(_theme("light" if theme == "auto" else theme))
    if theme == "auto":
        rules += f"@media (prefers-color-scheme: dark) {{ {_rules(THEMES['dark'])} }}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{plan.width:.0f}" '
        f'height="{plan.height:.0f}" viewBox="0 0 {plan.width:.1f} {plan.height:.1f}" '
        f'class="gn-circuit" font-family="{FONT}" font-size="{SIZE}">',
        f"<title>{html.escape(e.expression or e.output.name)}</title><style>{rules}</style>",
        '<rect class="ground" width="100%" height="100%"/>',
        *(_svg_wire(wire) for wire in plan.wires),
        *(_svg_gate(gate) for gate in plan.gates),
        "</svg>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _rules(colors: dict[str, str]) -> str:
    fills = "".join(f".gn-circuit .{name} {{ fill: {color}; }} " for name, color in colors.items())
    wire = colors["wire"]
    return (
        f"{fills}.gn-circuit .line {{ stroke: {wire}; fill: none; stroke-width: 1.3; }} "
        f".gn-circuit text {{ paint-order: stroke; stroke: {colors['ground']}; "
        "stroke-width: 3px; stroke-linejoin: round; } "
        f".gn-circuit .box {{ stroke: {wire}; }} .gn-circuit .box + text {{ stroke: none; }} "
    )


def _svg_text(
    x: float, y: float, text: str, kind: str, more: str = "", anchor: str = "middle"
) -> str:
    if not text:
        return ""
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>'
        f"{html.escape(text)}</text>"
    )


def _svg_wire(wire: Wire) -> str:
    (x, y), *rest = wire.points
    path = [f"M{x:.1f} {y:.1f}"]
    for to_x, to_y in rest:
        if to_y == y:
            path.append(f"L{to_x:.1f} {to_y:.1f}")
        else:
            middle = (x + to_x) / 2
            path.append(f"C{middle:.1f} {y:.1f} {middle:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}")
        x, y = to_x, to_y
    centre = _label_x(wire)
    return "".join(
        (
            f'<path class="line" d="{" ".join(path)}"/>',
            f'<path class="wire" d="M{x:.1f} {y:.1f} l-7 -3.4 v6.8 z"/>',
            _svg_text(centre, y - 4.5, wire.value, "value"),
            _svg_text(centre, y + 12.5, wire.gradient, "gradient"),
        )
    )


def _label_x(wire: Wire) -> float:
    return wire.points[-1][0] - wire.run / 2 - 3


def _svg_gate(gate: Gate) -> str:
    right = gate.x + gate.width / 2
    dot = (
        f'<circle class="wire" cx="{right:.1f}" cy="{gate.y:.1f}" r="3"/>' if gate.branches else ""
    )
    if gate.step is None or not gate.step.partials:
        return (
            dot
            + _svg_text(right - 5, gate.y + 4, gate.label, "ink", BOLD, "end")
            + _svg_text(right - 5, gate.y + 17, gate.note, "gradient", ' font-size="9"', "end")
        )
    left, top = gate.x - gate.width / 2, gate.y - gate.height / 2
    return "".join(
        (
            f'<rect class="box {gate.step.gate}" x="{left:.1f}" y="{top:.1f}" rx="7" '
            f'width="{gate.width:.1f}" height="{gate.height:.1f}"/>',
            _svg_text(gate.x, gate.y + 4, gate.label, "ink", BOLD),
            _svg_text(gate.x, top - 4, gate.step.name, "quiet", ' font-size="9"'),
            _svg_text(gate.x, top + gate.height + 10, gate.note, "quiet", ' font-size="8.5"'),
            dot,
        )
    )


# matplotlib


def figure(e: Explanation, *, theme: str = "light") -> Any:
    """The circuit as a matplotlib figure. Raises ExplainError where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ExplainError(
            'a drawing in this format needs matplotlib: run pip install ".[plot]" in the checkout '
            "of gradnet, or save it as .svg or .dot"
        ) from None
    colors, plan = _theme(theme), layout.place(e)
    drawn = Figure(figsize=(plan.width / 72, plan.height / 72), dpi=DOTS_PER_INCH)
    drawn.set_facecolor(colors["ground"])
    axes: Any = drawn.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(0, plan.width)
    axes.set_ylim(plan.height, 0)
    axes.axis("off")
    for wire in plan.wires:
        _draw_wire(axes, wire, colors)
    for gate in plan.gates:
        _draw_gate(axes, gate, colors)
    return drawn


def _draw_text(
    axes: Any,
    place: tuple[float, float],
    text: str,
    color: str,
    size: float = SIZE,
    *,
    halo: str = "",
    bold: bool = False,
    end: bool = False,
) -> None:
    from matplotlib.patheffects import withStroke

    axes.text(
        *place,
        text,
        color=color,
        fontsize=size,
        ha="right" if end else "center",
        va="baseline",
        family="monospace",
        weight="bold" if bold else "normal",
        path_effects=[withStroke(linewidth=3, foreground=halo)] if halo else [],
        parse_math=False,
    )


def _draw_wire(axes: Any, wire: Wire, colors: dict[str, str]) -> None:
    from matplotlib.patches import PathPatch, Polygon
    from matplotlib.path import Path as Outline

    (x, y), *rest = wire.points
    corners, codes = [(x, y)], [Outline.MOVETO]
    for to_x, to_y in rest:
        middle = (x + to_x) / 2
        corners += [(middle, y), (middle, to_y), (to_x, to_y)]
        codes += [Outline.CURVE4] * 3
        x, y = to_x, to_y
    axes.add_patch(PathPatch(Outline(corners, codes), fc="none", ec=colors["wire"], lw=1.3))
    axes.add_patch(
        Polygon([(x, y), (x - 7, y - 3.4), (x - 7, y + 3.4)], color=colors["wire"], lw=0)
    )
    centre, halo = _label_x(wire), colors["ground"]
    _draw_text(axes, (centre, y - 4.5), wire.value, colors["value"], halo=halo)
    _draw_text(axes, (centre, y + 12.5), wire.gradient, colors["gradient"], halo=halo)


def _draw_gate(axes: Any, gate: Gate, colors: dict[str, str]) -> None:
    from matplotlib.patches import Circle, FancyBboxPatch

    ink, quiet, halo = colors["ink"], colors["quiet"], colors["ground"]
    right = gate.x + gate.width / 2
    if gate.branches:
        axes.add_patch(Circle((right, gate.y), 3, color=colors["wire"], lw=0, zorder=3))
    if gate.step is None or not gate.step.partials:
        at = (right - 5, gate.y + 4)
        _draw_text(axes, at, gate.label, ink, halo=halo, bold=True, end=True)
        at = (right - 5, gate.y + 17)
        _draw_text(axes, at, gate.note, colors["gradient"], 9, halo=halo, end=True)
        return
    left, top = gate.x - gate.width / 2, gate.y - gate.height / 2
    axes.add_patch(
        FancyBboxPatch(
            (left, top),
            gate.width,
            gate.height,
            boxstyle="round,pad=0,rounding_size=7",
            fc=colors[gate.step.gate],
            ec=colors["wire"],
            lw=1,
        )
    )
    _draw_text(axes, (gate.x, gate.y + 4), gate.label, ink, bold=True)
    _draw_text(axes, (gate.x, top - 4), gate.step.name, quiet, 9, halo=halo)
    _draw_text(axes, (gate.x, top + gate.height + 10), gate.note, quiet, 8.5, halo=halo)


# Graphviz


def dot(e: Explanation, *, theme: str = "light") -> str:
    """The circuit in Graphviz's language: on every edge the value, and below it the gradient."""
    colors = _theme(theme)
    lines = [
        "digraph circuit {",
        f'  rankdir=LR; bgcolor="{colors["ground"]}";',
        f'  node [fontname="monospace", fontcolor="{colors["ink"]}", color="{colors["wire"]}"];',
        f'  edge [fontname="monospace", fontsize=11, color="{colors["wire"]}"];',
    ]
    lines += [
        f"  {json.dumps(step.name)} [shape=plaintext, "
        f"label={json.dumps(chr(10).join(filter(None, (step.name, layout.note(step)))))}];"
        for step in e.variables
    ]
    for step in e.rows:
        text = json.dumps(
            f"{step.name}\n{layout.label(step)}\n{layout.note(step)}", ensure_ascii=False
        )
        lines.append(
            f'  {json.dumps(step.name)} [shape=box, style="rounded,filled", '
            f'fillcolor="{colors[step.gate]}", label={text}];'
        )
    end = json.dumps(f"result {e.output.name}")
    lines.append(f"  {end} [shape=plaintext, label={json.dumps(e.output.name)}];")
    for step in e.rows:
        for partial in step.partials:
            value, g = e[partial.operand].value, partial.gradient
            lines.append(
                f"  {json.dumps(partial.operand)} -> {json.dumps(step.name)} "
                + _dot_label(
                    layout.brief(shown(value), value.shape), layout.brief(shown(g), g.shape), colors
                )
            )
    value = e.value
    label = _dot_label(layout.brief(shown(value), value.shape), "1", colors)
    lines.append(f"  {json.dumps(e.output.name)} -> {end} {label}")
    return "\n".join([*lines, "}"]) + "\n"


def _dot_label(value: str, gradient: str, colors: dict[str, str]) -> str:
    above = f'<font color="{colors["value"]}">{html.escape(value)}</font>'
    below = f'<font color="{colors["gradient"]}">{html.escape(gradient)}</font>'
    return f"[label=<{above}<br/>{below}>];"


# Files


def save(e: Explanation, path: Path, *, theme: str, engine: str) -> Path:
    """Write a file in the format of its ending.

    Raises ExplainError for another ending or engine.
    """
    ending = path.suffix.lower()
    if engine not in ("own", "graphviz"):
        raise ExplainError(f"there is no engine {engine!r}; choose own or graphviz")
    text: dict[str, Callable[[], str]] = {
        ".dot": lambda: dot(e, theme=theme),
        ".html": e.html,
        ".md": e.markdown,
        ".txt": e.text,
    }
    if ending in text:
        _write(path, text[ending]().encode())
    elif ending not in (".svg", ".png", ".pdf"):
        raise ExplainError(
            f"cannot save as {path.name!r}; end it in .svg, .png, .pdf or .dot for the circuit, "
            "or .html, .md or .txt for all of it"
        )
    elif engine == "graphviz":
        _graphviz(dot(e, theme=theme), path, ending[1:])
    elif ending == ".svg":
        _write(path, svg(e, theme=theme).encode())
    else:
        drawn = figure(e, theme=theme)
        with replacing(path) as whole:
            drawn.savefig(whole, format=ending[1:], facecolor=drawn.get_facecolor())
    return path


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as whole:
        whole.write_bytes(content)


def _graphviz(text: str, path: Path, kind: str) -> None:
    command = shutil.which("dot")
    if command is None:
        raise ExplainError("Graphviz's command `dot` is not installed; use the engine own")
    done = subprocess.run(
        [command, f"-T{kind}"], input=text.encode(), capture_output=True, timeout=120, check=False
    )
    if done.returncode:
        raise ExplainError(f"Graphviz could not draw it: {done.stderr.decode().strip()}")
    _write(path, done.stdout)
