"""Stacks of linear layers among the calls of a captured program, with their gradients.

A stack is hidden layers with one activation, then a layer without one; for the fused MLP they have
one width, and products take 16-bit factors. What its calls compute is told from the arrays that
they share, seen through casts between floats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from gradnet.dtypes import DType, is_half
from gradnet.program.calls import Call, Value
from gradnet.program.plan import Uses

from . import fused_mlp
from .fused_mlp import Network

FLOAT32 = np.dtype(np.float32)


def turned(x: Value) -> Value:
    """The transpose of a matrix."""
    return Value(x.storage, x.offset, x.shape[::-1], x.strides[::-1], x.dtype)


class Layer(NamedTuple):
    """A linear layer of a program: the numbers of its two calls, and its arrays.

    Factors and bias are what they were before they were cast, from the call `since` on. `saved` is
    what the derivative of the activation would take.
    """

    product: int
    after: int
    x: Value
    weights: Value
    bias: Value
    formula: Any
    parameters: tuple[Any, ...]
    y: Value
    saved: Value
    half: DType
    since: int


class Calls:
    """Calls by number, and where each array comes from.

    Products are looked for whose factors are of 16 bits, or with `wide` those in float32.
    """

    def __init__(self, calls: list[Call], wide: bool = False) -> None:
        self.all = calls
        self.uses = Uses(calls)
        self._wide = wide

    def __getitem__(self, i: int) -> Call:
        return self.all[i]

    def named(self, method: str) -> Iterator[tuple[int, Call]]:
        """The calls of a method, with their numbers."""
        return ((i, call) for i, call in enumerate(self.all) if call.method == method)

    def products(self) -> Iterator[tuple[int, Call]]:
        """The products of two matrices, with their numbers."""
        for i, call in self.named("matmul"):
            if call.outs[0] is None or any(len(x.shape) != 2 for x in call.args):
                continue
            dtype = call.args[0].dtype
            wide = dtype == FLOAT32 and not call.kwargs.get("tf32")
            if wide if self._wide else is_half(dtype):
                yield i, call

    def maker(self, x: Value, at: int) -> int:
        """The last call before `at` that writes the storage of an array, or -1."""
        return max((i for i in self.uses.writes.get(x.storage, ()) if i < at), default=-1)

    def origin(self, x: Value, at: int) -> Value:
        """What an array that the call `at` reads was cast from, through all casts of floats."""
        return self.traced(x, at)[0]

    def traced(self, x: Value, at: int) -> tuple[Value, int]:
        """The origin of an array, and the call that reads it there."""
        while (i := self.maker(x, at)) >= 0:
            call = self.all[i]
            out = call.outs[0] if call.outs else None
            if not cast(call) or out is None:
                break
            source: Value = call.args[0]
            if self.uses.written_within(source.storage, i, at):
                break
            if x == out:
                x = source
            elif x.shape != out.shape[::-1] or x != turned(out):
                break
            else:
                x = turned(source)
            at = i
        return x, at


def cast(call: Call) -> bool:
    """Whether a call changes the precision of real floats."""
    if call.method != "cast" or call.outs[0] is None:
        return False
    source, out = call.args[0], call.outs[0]
    return all(x.dtype == FLOAT32 or is_half(x.dtype) for x in (source, out))


def layers(calls: Calls) -> Iterator[Layer]:
    """All linear layers with a bias."""
    for i, product in calls.products():
        a, b = product.args
        z = product.outs[0]
        assert z is not None
        weights, at = calls.traced(b, i)
        if weights.dtype != FLOAT32 or not weights.contiguous:
            continue
        for j, call in calls.named("bias_activation"):
            given, bias, formula, parameters = call.args
            y = call.outs[0]
            if j < i or bias is None or y is None or calls.origin(given, j) != z:
                continue
            if calls.origin(bias, j).dtype != FLOAT32 or z.shape != y.shape:
                continue
            (x, x_at), (bias, bias_at) = calls.traced(a, i), calls.traced(bias, j)
            saved = y if given == y else given
            since = min(at, x_at, bias_at)
            yield Layer(i, j, x, weights, bias, formula, parameters, y, saved, a.dtype, since)


def stacks(calls: Calls) -> Iterator[tuple[Layer, ...]]:
    """The stacks that the kernels can compute; a shorter one comes later."""
    found = list(layers(calls))
    following = {layer.x: layer for layer in found}
    for first in found:
        stack = stacked(first, following, alike)
        if len(stack) < 2 or stack[-1].formula is not None:
            continue
        if network_of(stack) is not None:
            yield tuple(stack)


def stacked(
    first: Layer, following: dict[Value, Layer], fits: Callable[[Layer, Layer], bool]
) -> list[Layer]:
    """A layer and those that follow it, up to one without an activation or one that does not fit.

    `following` has the layer that takes an array.
    """
    stack = [first]
    while (last := stack[-1]).formula is not None and last.y in following:
        layer = following[last.y]
        if layer.formula is not None and not fits(first, layer):
            break
        stack.append(layer)
    return stack


def activated_alike(first: Layer, layer: Layer) -> bool:
    """Whether two layers have the same activation."""
    return layer.formula is first.formula and layer.parameters == first.parameters


def alike(first: Layer, layer: Layer) -> bool:
    """Whether a hidden layer can follow the first one of a stack."""
    same = layer.y.shape == first.y.shape and layer.half == first.half
    return same and activated_alike(first, layer)


def activation_of(layer: Layer) -> str:
    """The name of a layer's activation, or nothing where its operands are not the usual ones."""
    return next(
        (
            name
            for name, row in fused_mlp.activations().items()
            if row.formula is layer.formula and tuple(row.defaults.values()) == layer.parameters
        ),
        "",
    )


def network_of(stack: list[Layer] | tuple[Layer, ...]) -> Network | None:
    """The network that a stack is, or None where the kernels cannot compute it."""
    first, last = stack[0], stack[-1]
    name = activation_of(first)
    if not first.y.shape[0]:
        return None
    inputs, width = first.weights.shape
    dtype = "bfloat16" if first.half.name == "bfloat16" else "float16"
    network = Network(inputs, width, last.weights.shape[1], len(stack) - 1, name, dtype)
    fits = last.half == first.half and not fused_mlp.refusal(network)
    return network if fits else None


class Backward(NamedTuple):
    """The gradients of a stack, in the order of its layers: numbers of calls, and arrays."""

    calls: set[int]
    dy: Value
    dx: Value | None
    weights: list[Value]
    biases: list[Value]


def backward_of(calls: Calls, stack: tuple[Layer, ...]) -> Backward | None:
    """The calls that compute a stack's gradients, or None where not all are computed."""
    used: set[int] = set()
    weights: list[Value] = []
    biases: list[Value] = []
    # From the last layer to the first: its product's gradient, as the program has it.
    dy = g = _cotangent(calls, stack[-1])
    dx: Value | None = None
    for at, layer in reversed(list(enumerate(stack))):
        if g is None:
            return None
        if at < len(stack) - 1:
            done = _activation_backward(calls, layer, g)
            if done is None:
                return None
            i, g, dbias = done
            if dbias is None:
                used.add(i)
                i, dbias = _column_sums(calls, g)
        else:
            i, dbias = _column_sums(calls, g)
        product = _product(calls, turned(layer.x), g)
        if product is None or dbias is None:
            return None
        biases.insert(0, dbias)
        weights.insert(0, product[1])
        used |= {i, product[0]}
        below = _product(calls, g, turned(layer.weights))
        if below is not None:
            used.add(below[0])
        g = dx = None if below is None else below[1]
    assert dy is not None
    return Backward(used, dy, dx, weights, biases)


def _cotangent(calls: Calls, last: Layer) -> Value | None:
    """The gradient of the last layer's output: what its input is multiplied by for the weights'."""
    for i, call in calls.products():
        a, b = call.args
        if i > last.after and calls.origin(a, i) == turned(last.x):
            return calls.origin(b, i)
    return None


def _product(calls: Calls, a: Value, b: Value) -> tuple[int, Value] | None:
    """The product of two arrays."""
    for i, call in calls.products():
        out = call.outs[0]
        assert out is not None
        if calls.origin(call.args[0], i) == a and calls.origin(call.args[1], i) == b:
            return i, out
    return None


def _column_sums(calls: Calls, g: Value) -> tuple[int, Value | None]:
    """The sum of the rows of an array."""
    for i, call in calls.named("reduce"):
        kind, x, axes, keepdims = call.args
        if (kind, axes, keepdims) == ("sum", (0,), False) and calls.origin(x, i) == g:
            return i, call.outs[0]
    return -1, None


def _activation_backward(
    calls: Calls, layer: Layer, g: Value
) -> tuple[int, Value, Value | None] | None:
    """The gradients of a layer's product and, if that call has it, of its bias."""
    slopes = [
        row.derivatives[0]
        for row in fused_mlp.activations().values()
        if row.formula is layer.formula
    ]
    for i, call in calls.named("bias_activation_backward"):
        given, saved, derivative, parameters = call.args
        if derivative not in slopes or parameters != layer.parameters or call.outs[0] is None:
            continue
        if calls.origin(given, i) == g and calls.origin(saved, i) == layer.saved:
            return i, call.outs[0], call.outs[1]
    return None
