"""From a recorded graph to the rows of the table: values, partials, and both modes' derivatives."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gradnet import dtypes
from gradnet.errors import GradnetError
from gradnet.explainer import symbolic
from gradnet.explainer.expression import ExpressionError, compute
from gradnet.graph import Context, Edge, Node, recording
from gradnet.ops.core import ForwardContext
from gradnet.ops.creation import eye, ones_like, to_backend, zeros_like
from gradnet.ops.elementwise import Elementwise, op
from gradnet.ops.joining import stack
from gradnet.ops.reduce import all as all_of
from gradnet.ops.reduce import any as any_of
from gradnet.ops.shape import reshape
from gradnet.tensor import Tensor

LARGEST_JACOBIAN = 1024
"""Elements of a partial derivative that is worked out where it is no elementwise one."""


@dataclass(frozen=True)
class Partial:
    """How a step's value changes with one operand, and the gradient that flows back to it.

    operand      name of the variable
    formula      the derivative over the names of the table; `g` is the gradient from above
    value        the derivative: of the step's shape for an elementwise op, else the Jacobian of
                 shape (step's + operand's); None where that is too large
    gradient     what this step gives to the operand's gradient, of the operand's shape
    """

    operand: str
    formula: str
    value: Tensor | None
    gradient: Tensor


@dataclass(frozen=True)
class Step:
    """A variable of the table: an input, a constant, or the result of an op.

    name         of the variable
    op           name of the op; "input" or "constant" for what no op made
    expression   how it is computed from earlier variables
    gate         what it does to gradients: distributes, switches, routes, scales, flips, passes
    value        its value
    partials     one for each operand that is a variable
    forward      derivative of the value with respect to each input, by the input's name: along
                 a tangent of ones where the input is an array
    backward     derivative of the output with respect to the value; None for a constant
    uses         how many operands it is: from two on, it is a branch, where gradients add
    """

    name: str
    op: str
    expression: str
    gate: str
    value: Tensor
    partials: tuple[Partial, ...] = ()
    forward: Mapping[str, Tensor] = field(default_factory=dict)
    backward: Tensor | None = None
    uses: int = 0


class Walk:
    """The nodes of a graph in evaluation order, with derivatives in both modes at every value."""

    def __init__(self, nodes: Sequence[Node], output: Edge, leaves: Mapping[Edge, Tensor]) -> None:
        self.nodes = nodes
        self.leaves = dict(leaves)
        self.values: dict[Edge, Tensor] = dict(leaves)
        for node in nodes:
            for i, (array, backend, *_) in enumerate(node.outputs):
                self.values[node, i] = Tensor.wrap(array, backend)
            for parent, x in zip(node.parents, node.inputs or (), strict=True):
                if parent is not None and parent not in self.values:
                    # Computed before: a parameter of a model, or anything else the function uses.
                    self.values[parent] = self.leaves[parent] = x.detach()
        self.output = output
        self.gradients: dict[Edge, Tensor] = {}
        self.flows: dict[tuple[Node, int], Tensor] = {}
        with recording(False):
            self._backward()
            self.tangents = {edge: self._forward(edge) for edge in self.leaves}

    def outputs(self, node: Node) -> tuple[Tensor, ...]:
        """The values that a node computed."""
        return tuple(self.values[node, i] for i in range(len(node.outputs)))

    def pull(self, node: Node, gs: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        """The cotangent of each operand of a node, from those of its outputs."""
        assert node.op is not None
        needs = tuple(parent is not None for parent in node.parents)
        context = Context(node, node.inputs or (), needs, node.parameters)
        return node.op.vjp(context, list(gs) if node.op.multiple else gs[0])

    def push(self, node: Node, tangents: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        """The tangent of each output of a node, from those of its operands."""
        assert node.op is not None
        outside = tuple(x.detach() if isinstance(x, Tensor) else x for x in node.inputs or ())
        context = ForwardContext(outside, self.outputs(node), node.parameters)
        found = node.op.jvp(context, tuple(tangents))
        return found if node.op.multiple else (found,)

    def _backward(self) -> None:
        self.gradients[self.output] = ones_like(self.values[self.output])
        for node in reversed(self.nodes):
            gs = [self.gradients.get((node, i)) for i in range(len(node.outputs))]
            if all(g is None for g in gs):
                continue
            for i, (parent, g) in enumerate(zip(node.parents, self.pull(node, gs), strict=True)):
                if parent is None or g is None:
                    continue
                self.flows[node, i] = g
                earlier = self.gradients.get(parent)
                self.gradients[parent] = g if earlier is None else earlier + g

    def _forward(self, of: Edge) -> dict[Edge, Tensor]:
        found = {of: ones_like(self.values[of])}
        for node in self.nodes:
            ts = [None if parent is None else found.get(parent) for parent in node.parents]
            if any(t is not None for t in ts):
                for i, t in enumerate(self.push(node, ts)):
                    if t is not None:
                        found[node, i] = t
        return found

    def partial(self, node: Node, i: int, index: int) -> Tensor | None:
        """The derivative of output `index` of a node in operand i, or None where it is large."""
        x, y = (node.inputs or ())[i], self.values[node, index]
        with recording(False):
            if isinstance(node.op, Elementwise):
                ts = [ones_like(x).detach() if j == i else None for j in range(len(node.parents))]
                (t,) = self.push(node, ts)
                return zeros_like(y) if t is None else t
            if x.size * y.size > LARGEST_JACOBIAN or not y.size:
                return None
            basis = to_backend(eye(y.size, dtype=y.dtype), y.backend)
            rows = []
            for k in range(y.size):
                gs: list[Tensor | None] = [None] * len(node.outputs)
                gs[index] = reshape(basis[k], y.shape)
                g = self.pull(node, gs)[i]
                rows.append(zeros_like(x) if g is None else g)
            return reshape(stack(rows), (*y.shape, *x.shape))


class Table:
    """The rows of a walk: every variable with its name, inputs and constants apart."""

    def __init__(
        self, walk: Walk, names: Mapping[Edge, str], fixed: Mapping[str, Tensor], output: str
    ) -> None:
        self.walk = walk
        self.fixed = fixed
        self.names: dict[Edge, str] = dict(names)
        self.taken = {*names.values(), *fixed}
        if output in self.taken:
            output = ""  # the last step is then a variable like the others
        self.taken.add(output)
        self._add_outside()
        self.constants: list[Step] = []
        self.uses: dict[str, int] = {}
        self.shown: dict[Edge, Edge] = {}  # where a variable's row gets its shape from
        self._name_steps(output)
        self.values: dict[str, Tensor] = dict(fixed)
        for edge, name in self.names.items():
            self.values.setdefault(name, walk.values[self.shown.get(edge, edge)])
        rows = [self._row(node, i) for node in walk.nodes for i in range(len(node.outputs))]
        self.rows = tuple(row for row in rows if row is not None)
        self.inputs = (
            *(self._input(edge) for edge in walk.leaves),
            *(Step(name, "constant", "", "", value) for name, value in fixed.items()),
        )

    def _new_name(self, letter: str) -> str:
        """The first of u1, u2, ... that is not taken, and from now on is."""
        number = 1
        while f"{letter}{number}" in self.taken:
            number += 1
        self.taken.add(f"{letter}{number}")
        return f"{letter}{number}"

    def _add_outside(self) -> None:
        """Names for the parameters of models that the function uses."""
        for edge in self.walk.leaves:
            if edge not in self.names:
                self.names[edge] = self._new_name("p")

    def _used(self) -> dict[Edge, int]:
        counts: dict[Edge, int] = {}
        for node in self.walk.nodes:
            for parent in node.parents:
                if parent is not None:
                    counts[parent] = counts.get(parent, 0) + 1
        return counts

    def _name_steps(self, output: str) -> None:
        counts = self._used()
        self.folded: set[Node] = set()
        for node in self.walk.nodes:
            source = node.parents[0] if node.parents else None
            if source is not None and self._only_axes_of_one(node) and source in self.names:
                self.folded.add(node)
                name = self.names[(node, 0)] = self.names[source]
                if counts[source] == 1 and source not in self.walk.leaves:
                    first = next(edge for edge, known in self.names.items() if known == name)
                    self.shown[first] = (node, 0)
                continue
            for i in range(len(node.outputs)):
                if (node, i) not in counts and (node, i) != self.walk.output:
                    continue
                self.names[node, i] = self._new_name("u")
            for parent in node.parents:
                if parent is not None:
                    self.uses[self.names[parent]] = self.uses.get(self.names[parent], 0) + 1
        last = self.names.get(self.walk.output)
        if (
            output
            and last is not None
            and not any(self.names[edge] == last for edge in self.walk.leaves)
        ):
            self.names = {edge: output if n == last else n for edge, n in self.names.items()}

    def _only_axes_of_one(self, node: Node) -> bool:
        """Whether a node only adds or takes away axes of length 1, or joins an inner gradient."""
        if node.name == "input":
            return True
        (x, *rest), y = node.inputs or (None,), self.walk.values[node, 0]
        if node.name != "reshape" or rest or not isinstance(x, Tensor):
            return False
        return [n for n in x.shape if n != 1] == [n for n in y.shape if n != 1]

    def _input(self, edge: Edge) -> Step:
        walk, name = self.walk, self.names[edge]
        value = walk.values[edge]
        zero = zeros_like(value)
        forward = {
            self.names[other]: found.get(edge, zero) for other, found in walk.tangents.items()
        }
        gradient = walk.gradients.get(edge, zero)
        uses = self.uses.get(name, 0)
        return Step(name, "input", "", "", value, (), forward, gradient, uses)

    def _row(self, node: Node, index: int) -> Step | None:
        edge = (node, index)
        if node in self.folded or edge not in self.names:
            return None
        assert node.op is not None
        walk, name = self.walk, self.names[edge]
        shown = self.shown.get(edge, edge)
        value = walk.values[shown]
        zero = zeros_like(value)
        operands = [
            self._operand(x, p) for x, p in zip(node.inputs or (), node.parents, strict=True)
        ]
        variables = [i for i, parent in enumerate(node.parents) if parent is not None]
        row = Step(
            name,
            node.name,
            symbolic.expression(
                node.name, operands, symbolic.notes(node.parameters, _axes(node.inputs))
            ),
            symbolic.gate(node.name, len(variables)),
            value,
            forward={self.names[e]: found.get(shown, zero) for e, found in walk.tangents.items()},
            backward=walk.gradients.get(shown, zero),
            uses=self.uses.get(name, 0),
        )
        partials = [self._partial(node, index, i, operands, name) for i in variables]
        return replace(row, partials=tuple(partials))

    def _operand(self, x: Any, parent: Edge | None) -> str:
        """The text of an operand: its variable, a number, or the name of a constant."""
        if parent is not None:
            return self.names[parent]
        if not isinstance(x, Tensor):
            return written(x)
        for name, value in self.fixed.items():
            if value.shape == x.shape and bool(all_of(op("equal")(value.astype(x.dtype), x))):
                return name
        if x.size == 1:
            return written(x.item())
        name = self._new_name("c")
        self.constants.append(Step(name, "constant", "", "", x))
        return name

    def _partial(
        self, node: Node, index: int, i: int, operands: Sequence[str], name: str
    ) -> Partial:
        parent = node.parents[i]
        assert parent is not None
        value = self.walk.partial(node, i, index)
        y, x = self.values[name], self.values[self.names[parent]]
        if value is not None and not isinstance(node.op, Elementwise):
            value = reshape(value, (*y.shape, *x.shape))
        gradient = self.walk.flows.get((node, i))
        return Partial(
            self.names[parent],
            self._formula(node, i, operands, name),
            value,
            zeros_like(x) if gradient is None else reshape(gradient, x.shape),
        )

    def _formula(self, node: Node, i: int, operands: Sequence[str], name: str) -> str:
        if not isinstance(node.op, Elementwise):
            return symbolic.passing(node.name, operands, name, i)
        derivative = node.op.row.derivatives[i]
        if derivative is None:
            flat = all(found is None for found in node.op.row.derivatives)
            return f"{node.name}'({operands[i]})" if flat and self._moves(node, i) else "0"
        return symbolic.partial(
            derivative, {**dict(zip(node.op.names, operands, strict=True)), "y": name}, self._holds
        )

    def _moves(self, node: Node, i: int) -> bool:
        """Whether an op without a derivative's formula still has one, found by tracing it."""
        value = self.walk.partial(node, i, 0)
        return value is not None and bool(any_of(op("not_equal")(value, 0.0)))

    def _holds(self, condition: ast.expr) -> bool | None:
        try:
            found = compute(condition, self.values)
        except ExpressionError:
            return None
        if not isinstance(found, Tensor):
            return bool(found)
        if bool(all_of(found)):
            return True
        return None if bool(any_of(found)) else False


def _axes(inputs: tuple[Any, ...] | None) -> int:
    first = inputs[0] if inputs else None
    return first.ndim if isinstance(first, Tensor) else 0


def written(x: float) -> str:
    """A Python number as people write it: 3, not 3.0; six digits where there are more."""
    if isinstance(x, bool | complex):
        return str(x)
    return f"{x:.6g}" if abs(x) < 1e15 else f"{x:g}"


def differentiable(x: Tensor) -> bool:
    """Whether gradients can be taken with respect to a tensor here."""
    return dtypes.is_floating(x.dtype)


class ExplainError(GradnetError, ValueError):
    """A function that cannot be explained as it was given."""
