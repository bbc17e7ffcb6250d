"""Whole training steps among captured programs: what a cluster of blocks can do by itself.

A program is such a step where all that it does is to train a small network: layers with one
activation, softmax and cross-entropy, their gradients, and one update of flat parameters; all in
float32, on a batch that it is given. See cluster_step.py for the kernel.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from gradnet import formulas
from gradnet.program.calls import Call, Program, Value

from . import cluster_step
from .cluster_split import Training
from .cuda_checks import flags, of_classes
from .cuda_stacks import (
    FLOAT32,
    Backward,
    Calls,
    Layer,
    activated_alike,
    activation_of,
    backward_of,
    layers,
    stacked,
)

# The environment variable that switches it, looked at when a function is captured: "0" never, "1"
# wherever the kernel can, and otherwise where it turns out faster in a long training.
SWITCH = "GRADNET_CLUSTER_STEP"
NEVER, AT_ONCE = "0", "1"
# Parameters begin at multiples of so many bytes of their flat buffer.
_ALIGNMENT = 64


class Step(NamedTuple):
    """A training step, and its arrays: those of a run, and those that stay.

    order  which rows of x and classes, which stay then, a run takes; None where they are its own
    check  the check of classes that is made on the way, if there is one
    """

    training: Training
    x: Value
    classes: Value
    loss: Value
    p: Value
    states: tuple[Value, ...]
    gradient: Value
    order: Value | None
    check: Call | None


class Pick(NamedTuple):
    """A call that takes rows of a table that stays, by a run's own indices."""

    call: int
    table: Value
    rows: Value


def switched() -> str:
    """How it is switched now."""
    return os.environ.get(SWITCH, "")


def whole_step(program: Program) -> Step | None:
    """The training step that a program is, or None where it is more, or something else."""
    if len(program.outputs) != 1:
        return None
    checks = [call for call in program.calls if flags(call)]
    program = program.with_calls([call for call in program.calls if not flags(call)])
    calls = Calls(program.calls, wide=True)
    found = list(layers(calls))
    following = {layer.x: layer for layer in found}
    picks = _picks(calls)
    own = (layer for layer in found if layer.x.storage.kind == "input" or layer.x in picks)
    first = next(own, None)
    if first is None:
        return None
    stack = stacked(first, following, activated_alike)
    backward = backward_of(calls, tuple(stack))
    if stack[-1].formula is not None or backward is None:
        return None
    return _step(program, calls, stack, backward, picks, checks)


def _picks(calls: Calls) -> dict[Value, Pick]:
    """Where rows are taken from a table, by what they make."""
    found = {}
    for i, call in calls.named("take"):
        table, (rows, *more) = call.args
        out = call.outs[0]
        if more or out is None or not isinstance(rows, Value) or len(rows.shape) != 1:
            continue
        kinds = rows.storage.kind, table.storage.kind
        if rows.dtype == np.dtype(np.int64) and kinds == ("input", "external"):
            found[out] = Pick(i, table, rows)
    return found


def _step(
    program: Program,
    calls: Calls,
    stack: list[Layer],
    backward: Backward,
    picks: dict[Value, Pick],
    checks: list[Call],
) -> Step | None:
    (loss,) = program.outputs
    used = {i for layer in stack for i in (layer.product, layer.after)} | backward.calls
    losses = _losses(calls, stack[-1].y, backward.dy, loss)
    if losses is None:
        return None
    classes, ends = losses
    if any(not of_classes(check, classes, stack[-1].y.shape[1]) for check in checks):
        return None
    last = len(program.calls) - 1
    given, order = (stack[0].x, classes), None
    if picks:
        if (
            set(picks) != set(given)
            or len({(p.rows, p.table.shape[0]) for p in picks.values()}) > 1
        ):
            return None
        ends |= {pick.call for pick in picks.values()}
        order = picks[classes].rows
        given = (picks[stack[0].x].table, picks[classes].table)
    if len({*used, *ends, last}) != len(program.calls) or program.calls[last].method != "update":
        return None
    formula, (p, gradient, *states), _ = program.calls[last].args
    update = next((name for name, row in formulas.UPDATES.items() if row.formula is formula), "")
    flat = (p, gradient, *states)
    if not update or any(
        v.dtype != FLOAT32 or not v.contiguous or v.storage.kind != "external" for v in flat
    ):
        return None
    parts = [v for layer in stack for v in (layer.weights, layer.bias)]
    made = [v for pair in zip(backward.weights, backward.biases, strict=True) for v in pair]
    offsets = _offsets(p, parts)
    if not offsets or offsets != _offsets(gradient, made):
        return None
    sizes = (stack[0].x.shape[1], *(layer.y.shape[1] for layer in stack))
    hidden = activation_of(stack[0]) if len(stack) > 1 else "relu"
    training = Training(sizes, stack[0].x.shape[0], hidden, update, offsets)
    brought = given if order is None else (order,)
    if {v.storage for v in brought} != set(program.inputs):
        return None
    if not all(v.offset == 0 and v.contiguous for v in (*brought, loss)):
        return None
    if not all(v.contiguous for v in given):
        return None
    if cluster_step.refusal(training):
        return None
    check = checks[0] if checks else None
    return Step(training, *given, loss, p, tuple(states), gradient, order, check)


def _losses(calls: Calls, z: Value, dz: Value, loss: Value) -> tuple[Value, set[int]] | None:
    """The classes of a mean cross-entropy, and its calls: the rows' losses, and their sum."""
    for i, call in calls.named("softmax_cross_entropy"):
        logits, classes, scale, smoothing = call.args
        rows, gradient = call.outs
        mean = np.float32(scale) == np.float32(1 / z.shape[0])
        plain = mean and smoothing == 0.0 and classes.dtype == np.dtype(np.int64)
        if not plain or logits != z or gradient != dz or z.dtype != FLOAT32:
            continue
        for j, total in calls.named("reduce"):
            kind, x, axes, _ = total.args
            if (kind, x, axes) == ("sum", rows, (0,)) and total.outs[0] == loss:
                return classes, {i, j}
    return None


def _offsets(flat: Value, parts: list[Value]) -> tuple[int, ...]:
    """Where parts begin in a flat array, in elements; nothing unless they are all there is in it.

    Between two of them there is less than would be a further one's.
    """
    size = FLOAT32.itemsize
    spans = sorted((v.offset, v.offset + v.size * size) for v in parts)
    ends = [flat.offset, *(end for _, end in spans)]
    begins = [*(begin for begin, _ in spans), flat.offset + flat.size * size]
    near = all(0 <= begin - end < _ALIGNMENT for end, begin in zip(ends, begins, strict=True))
    if not near or any(v.storage is not flat.storage or not v.contiguous for v in parts):
        return ()
    return tuple((v.offset - flat.offset) // size for v in parts)
