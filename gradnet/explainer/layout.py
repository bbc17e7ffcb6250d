"""Where a circuit's gates and wires go: inputs at the left, the result at the right.

Layers by the longest path, long wires led through empty places in the layers between, order by
barycentres (Sugiyama, Tagawa and Toda 1981). Every wire ends in a level run as long as its labels,
at a port of its own, so that no two labels meet. Units are points, y downwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from gradnet.explainer.figures import shown
from gradnet.explainer.symbolic import CALLED
from gradnet.explainer.trace import ExplainError, Partial, Step

if TYPE_CHECKING:
    from gradnet.explainer.report import Explanation

CHARACTER = 6.3  # width of one at SIZE
SIZE = 10.5
PORT = 36.0  # between wires that end at one gate
BETWEEN = 32.0  # between gates of one layer
BEND = 44.0  # room in which a wire changes its height
MARGIN = 18.0
LONGEST_LABEL = 32
MOST_STEPS = 500
_SYMBOLS = {
    "add": "+",
    "subtract": "-",
    "multiply": "*",
    "divide": "/",
    "pow": "**",
    "matmul": "@",
    "negative": "*(-1)",
    **CALLED,
}


@dataclass
class Gate:
    """A box: a step, or an input, or (without one) the place where a long wire passes."""

    step: Step | None
    layer: int
    ports: int
    label: str = ""
    note: str = ""
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0

    @property
    def branches(self) -> bool:
        return self.step is not None and self.step.uses > 1


@dataclass
class Wire:
    """From a gate over empty places to a port of another: the value above, the gradient below."""

    stops: list[Gate]
    port: int
    value: str
    gradient: str
    points: list[tuple[float, float]] = field(default_factory=list)
    run: float = 0.0  # length of the level end


@dataclass
class Layout:
    """Gates and wires in their places, the last wire leading to the name of the result."""

    gates: list[Gate]
    wires: list[Wire]
    output: str
    width: float = 0.0
    height: float = 0.0


def label(step: Step) -> str:
    """What is written in a gate: its sign, or where a number takes part the whole expression."""
    if not step.expression:
        return step.name
    if step.op == "negative" or len(step.partials) > 1 or "(" in step.expression:
        return _SYMBOLS.get(step.op, step.op)
    return step.expression


def note(step: Step) -> str:
    """What stands below a gate: what it does, and where it branches the sum of the gradients."""
    if step.uses < 2 or step.backward is None:
        return step.gate
    adds = f"adds {brief(shown(step.backward), step.backward.shape)}"
    return f"{step.gate}, {adds}" if step.gate else adds


def brief(text: str, shape: Sequence[int]) -> str:
    """A value short enough for a wire, or its shape."""
    return text if len(text) <= LONGEST_LABEL else "x".join(map(str, shape)) + " array"


def place(e: Explanation) -> Layout:
    """The layout of an explanation's circuit. Raises ExplainError for one of too many steps."""
    if len(e.rows) > MOST_STEPS:
        raise ExplainError(
            f"a circuit of {len(e.rows)} steps is too large to draw, at most {MOST_STEPS} are; the "
            "tables have them all"
        )
    gates, wires = _connected(e)
    layers: list[list[Gate]] = [[] for _ in range(max(g.layer for g in gates) + 1)]
    for gate in gates:
        layers[gate.layer].append(gate)
    _order(layers, wires)
    _set_heights(layers, wires)
    layout = Layout(gates, wires, e.output.name)
    _set_columns(layers, layout)
    return layout


def _connected(e: Explanation) -> tuple[list[Gate], list[Wire]]:
    steps = {step.name: step for step in (*e.variables, *e.rows)}
    depth: dict[str, int] = {step.name: 0 for step in e.variables}
    for step in e.rows:
        depth[step.name] = 1 + max((depth[p.operand] for p in step.partials), default=0)
    for step in e.variables:
        reached = [depth[s.name] for s in e.rows for p in s.partials if p.operand == step.name]
        depth[step.name] = min(reached, default=1) - 1
    made = {
        name: Gate(step, depth[name], max(1, len(step.partials)), label(step), note(step))
        for name, step in steps.items()
    }
    gates, wires = list(made.values()), []
    for step in e.rows:
        for port, partial in enumerate(step.partials):
            source, target = made[partial.operand], made[step.name]
            between = [Gate(None, k, 1) for k in range(source.layer + 1, target.layer)]
            gates += between
            wires.append(_wire([source, *between, target], port, steps[partial.operand], partial))
    return gates, wires


def _wire(stops: list[Gate], port: int, source: Step, partial: Partial) -> Wire:
    value, g = source.value, partial.gradient
    return Wire(stops, port, brief(shown(value), value.shape), brief(shown(g), g.shape))


def _order(layers: list[list[Gate]], wires: list[Wire]) -> None:
    """Sort every layer by the mean place of its neighbours, forth and back a few times."""
    before: dict[int, list[tuple[Gate, float]]] = {}
    after: dict[int, list[tuple[Gate, float]]] = {}
    for wire in wires:
        for a, b in pairwise(wire.stops):
            port = (wire.port + 0.5) / b.ports if b is wire.stops[-1] else 0.5
            before.setdefault(id(b), []).append((a, 0.0))
            after.setdefault(id(a), []).append((b, port))
    rank = {id(gate): float(i) for layer in layers for i, gate in enumerate(layer)}
    for turn in range(12):
        forth = turn % 2 == 1
        beside = before if forth else after
        for layer in layers if forth else reversed(layers):
            means = {}
            for gate in layer:
                places = [rank[id(other)] + port for other, port in beside.get(id(gate), [])]
                means[id(gate)] = sum(places) / len(places) if places else rank[id(gate)]
            layer.sort(key=lambda gate: means[id(gate)])
            rank.update({id(gate): float(i) for i, gate in enumerate(layer)})


def _set_heights(layers: list[list[Gate]], wires: list[Wire]) -> None:
    """Give gates their y: near the ends of their wires, in order, and never too close."""
    for layer in layers:
        y = 0.0
        for gate in layer:
            gate.height = max(PORT * gate.ports, PORT) if gate.step is not None else PORT
            gate.y = y + gate.height / 2
            y += gate.height + BETWEEN
    beside: dict[int, list[tuple[Gate, float]]] = {}
    for wire in wires:
        for a, b in pairwise(wire.stops):
            shift = port_shift(wire) if b is wire.stops[-1] else 0.0
            beside.setdefault(id(a), []).append((b, shift))
            beside.setdefault(id(b), []).append((a, -shift))
    for turn in range(24):
        for layer in layers if turn % 2 else reversed(layers):
            for gate in layer:
                wanted = [other.y + shift for other, shift in beside.get(id(gate), [])]
                if wanted:
                    gate.y = sum(wanted) / len(wanted)
            _separate(layer)
    top = min(gate.y - gate.height / 2 for layer in layers for gate in layer)
    for layer in layers:
        for gate in layer:
            gate.y += MARGIN - top


def _separate(layer: list[Gate]) -> None:
    """Push gates of a layer apart, in their order, as little as it takes."""
    for _ in range(40):
        moved = False
        for a, b in pairwise(layer):
            lacking = (a.height + b.height) / 2 + BETWEEN - (b.y - a.y)
            if lacking > 0.01:
                a.y -= lacking / 2
                b.y += lacking / 2
                moved = True
        if not moved:
            return
    for a, b in pairwise(layer):
        b.y = max(b.y, a.y + (a.height + b.height) / 2 + BETWEEN)


def port_shift(wire: Wire) -> float:
    """How far a wire ends below the middle of its gate."""
    ports = wire.stops[-1].ports
    return PORT * (wire.port - (ports - 1) / 2)


def _set_columns(layers: list[list[Gate]], layout: Layout) -> None:
    """Give layers their x, wide enough for the labels of the wires that end there."""
    runs = [0.0] * len(layers)
    for wire in layout.wires:
        longest = max(len(wire.value), len(wire.gradient))
        k = wire.stops[-1].layer
        runs[k] = max(runs[k], CHARACTER * longest + 22)
    x = MARGIN
    for k, layer in enumerate(layers):
        x += (runs[k] + BEND) if k else 0.0
        width = max((_width(gate) for gate in layer), default=0.0)
        for gate in layer:
            # Inputs end where their wires begin.
            gate.width = _width(gate) if gate.step is not None else width
            gate.x = (
                x + width / 2
                if gate.step is None or gate.step.partials
                else x + width - gate.width / 2
            )
        x += width
    for wire in layout.wires:
        _lead(wire, runs[wire.stops[-1].layer])
    last = next(gate for gate in layout.gates if gate.step and gate.step.name == layout.output)
    value = last.step.value if last.step else None
    text = brief(shown(value), value.shape if value is not None else ())
    end = Gate(None, last.layer + 1, 1, layout.output, width=CHARACTER * len(layout.output) + 6)
    run = CHARACTER * max(len(text), 1) + 22
    end.x, end.y = last.x + last.width / 2 + run + 8 + end.width / 2, last.y
    wire = Wire([last, end], 0, text, "1", run=run)
    wire.points = [(last.x + last.width / 2, last.y), (end.x - end.width / 2 - 4, last.y)]
    layout.wires.append(wire)
    layout.gates.append(end)
    layout.width = end.x + end.width / 2 + MARGIN
    low = max(gate.y + gate.height / 2 for gate in layout.gates)
    layout.height = low + MARGIN + 14


def _width(gate: Gate) -> float:
    if gate.step is None:
        return 0.0
    words = max(float(len(gate.label)), 0.85 * len(gate.step.name), 0.82 * len(gate.note))
    return CHARACTER * words + (20 if gate.step.partials else 10)


def _lead(wire: Wire, run: float) -> None:
    """The corners of a wire: level through every layer that it passes, and at its end."""
    first, *rest = wire.stops
    wire.run = run
    wire.points = [(first.x + first.width / 2, first.y)]
    for gate in rest[:-1]:
        left, right = gate.x - gate.width / 2, gate.x + gate.width / 2
        wire.points += [(left, gate.y), (right, gate.y)]
    target = rest[-1]
    y, edge = target.y + port_shift(wire), target.x - target.width / 2
    wire.points += [(edge - run, y), (edge, y)]
