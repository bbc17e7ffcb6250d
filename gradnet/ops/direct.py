"""Elementwise ops in few steps, for operands that need no conversion.

NumPy adds ten numbers in 300 nanoseconds, and Python takes as long to call four functions. So what
an op knows of itself, and what it looks up for a backend and a dtype, is at hand here in closures,
one for ops of one operand and one for those of two.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from gradnet import dtypes, formulas, modes, numpy_calls
from gradnet.backends import Array, Shape
from gradnet.graph import Edge, Node, Pending, Spec, mode, node_of
from gradnet.ops.mapped import broadcast_shape, sum_to
from gradnet.tensor import Tensor, fresh
from gradnet.ways import Ways

if TYPE_CHECKING:
    from gradnet.ops.elementwise import Elementwise

# Python's numbers that stand beside floats as a float.
SIMPLE = frozenset((int, float))

Pair = tuple[Edge, Array]
Pull = Callable[[Node, Array, Pending], Sequence[Pair]]


class Part(NamedTuple):
    """The cotangent of an operand, from a node and the cotangent of its output.

    `ways` are those of its formula, of that cotangent and `beside` it: an operand by its place, the
    output for -1, a float, or nothing for None. Without `ways` it is that cotangent itself, or what
    only `call` can say.
    """

    call: Callable[[Node, Array], Array]
    ways: Ways | None = None
    beside: int | float | None = None


_COMPLEX = frozenset((dtypes.complex64, dtypes.complex128))

_spec = tuple.__new__


# Whether ops are done by machine code where a backend brings it (see quick.py): "0" never, "1" from
# the first call, and otherwise once they have been called so often that it gains.
SWITCH = os.environ.get("GRADNET_EAGER", "")
_OFTEN = 1000
_left = itertools.count(1 if SWITCH == "1" else _OFTEN, -1)


class Whole:
    """A function on whole arrays in the fewest steps: `direct` is that in Python, or machine code.

    `in_python` takes the same operands, one by one.
    """

    # All that there are, by their names.
    made: ClassVar[dict[str, Whole]] = {}

    def __init__(self, name: str, in_python: Callable[..., Tensor]) -> None:
        self.in_python = in_python
        self.direct = counted(self)
        self.made[name] = self

    def count_no_more(self) -> None:
        """Be done in Python, uncounted."""
        self.direct = self.in_python


def is_often() -> bool:
    """Count a call of all ops: whether there have been enough for machine code."""
    return next(_left) <= 0


def begin() -> None:
    """Have ops done by machine code, where a backend has brought any."""
    if numpy_calls.machine_code is not None:
        from gradnet.ops import quick

        quick.begin()


def _awaited(*operands: Any) -> None:
    """Nothing: the calls of what is done by machine code alone are counted."""
    if is_often():
        begin()


awaited = None if SWITCH == "0" else _awaited


def counted(op: Elementwise | Whole) -> Callable[..., Tensor]:
    """The op in Python, which counts the calls of all until they have been often enough."""

    def counting(*operands: Any) -> Tensor:
        # Before it is begun, for that may put machine code in this one's place.
        if is_often():
            if op.direct is counting:
                op.count_no_more()
            begin()
        return op.in_python(*operands)

    return op.in_python if SWITCH == "0" else counting


def one(op: Elementwise) -> Callable[[Any], Tensor]:
    """The op as a function of one operand."""
    name, ways, plain, differentiable = op.name, op.ways, op.plain, op.differentiable
    (keeps,), keeps_output = op.saves((True,))

    def call(x: Any) -> Tensor:
        if modes.open_modes or not isinstance(x, Tensor):
            return plain((x,))
        array, backend = x.array, x.backend
        dtype = array.dtype
        way = ways.get(dtype)
        if way is None:
            return plain((x,))
        owner, run, parameters = way
        if owner is not backend:
            run = ways.on(backend, dtype)
        result = run(array)
        edge = x.node
        if edge is None or not differentiable or not mode.recording:
            return fresh(result, backend)
        version = x.counter[0]
        if version != x._seen:
            x.check_current(name)
        if keeps:
            node = node_of(op, (x,), ((x, version),), (edge,), parameters, backend)
        else:
            saved = _spec(Spec, (array.shape, dtype))
            node = node_of(op, (saved,), (), (edge,), parameters, backend)
        y = fresh(result, backend, (node, 0))
        if keeps_output:
            node.outputs = ((result, backend, y.counter, 0, None),)
        return y

    return call


def two(op: Elementwise) -> Callable[[Any, Any], Tensor]:
    """The op as a function of two operands."""
    name, ways, plain, differentiable = op.name, op.ways, op.plain, op.differentiable
    # What is kept where the second operand, the first, and both have derivatives.
    kept_for = [op.saves(needs) for needs in ((False, True), (True, False), (True, True))]

    def call(a: Any, b: Any) -> Tensor:
        first = second = None
        if modes.open_modes:
            return plain((a, b))
        if isinstance(a, Tensor):
            x, backend, first = a.array, a.backend, a.node
            dtype = x.dtype
            if isinstance(b, Tensor):
                y, second = b.array, b.node
                if y.dtype is not dtype or b.backend is not backend:
                    return plain((a, b))
            elif type(b) in SIMPLE:
                y = float(b)
            else:
                return plain((a, b))
        elif isinstance(b, Tensor) and type(a) in SIMPLE:
            x, y, backend, second = float(a), b.array, b.backend, b.node
            dtype = y.dtype
        else:
            return plain((a, b))
        way = ways.get(dtype)
        if way is None:
            return plain((a, b))
        owner, run, parameters = way
        if owner is not backend:
            run = ways.on(backend, dtype)
        try:
            result = run(x, y)
        except ValueError:
            broadcast_shape(name, [array.shape for array in (x, y) if hasattr(array, "shape")])
            raise
        if (first is None and second is None) or not differentiable or not mode.recording:
            return fresh(result, backend)
        both = first is not None
        (keeps_a, keeps_b), keeps_output = kept_for[both + (both and second is not None)]
        kept: Any = ()
        saved = a
        if isinstance(a, Tensor):
            version = a.counter[0]
            if version != a._seen:
                a.check_current(name)
            if keeps_a:
                kept = ((a, version),)
            else:
                saved = _spec(Spec, (x.shape, dtype))
        other = b
        if isinstance(b, Tensor):
            version = b.counter[0]
            if version != b._seen:
                b.check_current(name)
            if keeps_b:
                kept += ((b, version),)
            elif saved is not a and y.shape == saved.shape:
                other = saved
            else:
                other = _spec(Spec, (y.shape, dtype))
        node = node_of(op, (saved, other), kept, (first, second), parameters, backend)
        made = fresh(result, backend, (node, 0))
        if keeps_output:
            node.outputs = ((result, backend, made.counter, 0, None),)
        return made

    return call


def choice(op: Elementwise) -> Callable[[Any, Any, Any], Tensor]:
    """The op as a function of a condition and two operands."""
    name, ways, plain = op.name, op.ways, op.plain

    def call(c: Any, a: Any, b: Any) -> Tensor:
        tensors = isinstance(a, Tensor) and isinstance(b, Tensor) and isinstance(c, Tensor)
        if modes.open_modes or not tensors:
            return plain((c, a, b))
        condition, x, y = c.array, a.array, b.array
        backend: Any = a.backend
        dtype = x.dtype
        way = ways.get(dtype)
        if way is None or y.dtype is not dtype or condition.dtype is not dtypes.bool_:
            return plain((c, a, b))
        owner, run, parameters = way
        together = owner is backend and b.backend is backend and c.backend is backend
        if not together:
            return plain((c, a, b))
        shape = x.shape
        if y.shape != shape or condition.shape != shape:
            broadcast_shape(name, (condition.shape, shape, y.shape))
        result = run(condition, x, y)
        if a.node is None and b.node is None:
            return fresh(result, backend)
        return op.finish(backend, (c, a, b), result, parameters)

    return call


def part(formula: Any, places: Sequence[int]) -> Part:
    """The cotangent of an operand as a formula of the output's and of what the node has kept.

    `places` are those of its further arguments: an operand's, or -1 for the output.
    """
    ways = Ways(formula)

    def several(node: Node, g: Array) -> Array:
        backend: Any = node.backend
        inputs: Any = node.inputs
        arrays = []
        for place in places:
            x = inputs[place] if place >= 0 else node.output(0)
            if isinstance(x, Tensor):
                x = x.array
            elif place >= 0:
                x = float(x)
            arrays.append(x)
        return ways.of(backend, g.dtype)(g, *arrays)

    if len(places) != 1:
        return Part(several)
    (place,) = places

    def of_output(node: Node, g: Array) -> Array:
        owner, run, _ = ways[g.dtype]
        if owner is not node.backend or modes.open_modes:
            return several(node, g)
        y, _, counter, version, _ = node.outputs[0]
        if counter[0] != version:
            node.output(0)
        return run(g, y)

    def of_operand(node: Node, g: Array) -> Array:
        owner, run, _ = ways[g.dtype]
        if owner is not node.backend or modes.open_modes:
            return several(node, g)
        x = node.inputs[place]  # type: ignore[index]  # the walk has seen that it is there
        return run(g, x.array if isinstance(x, Tensor) else float(x))

    return Part(of_output if place < 0 else of_operand, ways, place)


def multiple(factor: float) -> Part | None:
    """`part` for a derivative that is a number; None for 0."""
    ways = Ways(formulas.FORMULAS["negative" if factor == -1 else "multiply"])
    factors = () if factor == -1 else (factor,)

    def times(node: Node, g: Array) -> Array:
        backend: Any = node.backend
        return ways.of(backend, g.dtype)(g, *factors)

    if not factor:
        return None
    return SAME if factor == 1 else Part(times, ways, *factors)


# `part` for a derivative of 1.
SAME = Part(lambda node, g: g)


def pull(parts: Sequence[Part | None], on_complex: Pull) -> Pull:
    """The cotangents of a node's operands, as arrays, each with where it goes."""

    def of_one(node: Node, g: Array, leaves: Pending) -> Sequence[Pair]:
        if g.dtype in _COMPLEX:
            return on_complex(node, g, leaves)
        (edge,) = node.parents
        return () if edge is None or first is None else ((edge, first(node, g)),)

    def of_two(node: Node, g: Array, leaves: Pending) -> Sequence[Pair]:
        if g.dtype in _COMPLEX:
            return on_complex(node, g, leaves)
        left, right = node.parents
        a, b = node.inputs  # type: ignore[misc]  # the walk has seen that they are there
        shape = g.shape
        if left is not None and first is not None:
            y = g if first is same else first(node, g)
            into = a.array.shape if isinstance(a, Tensor) else a.shape
            if into != shape:
                y = summed(node, y, into)
            if right is None or second is None:
                return ((left, y),)
        elif right is None or second is None:
            return ()
        z = g if second is same else second(node, g)
        into = b.array.shape if isinstance(b, Tensor) else b.shape
        if into != shape:
            z = summed(node, z, into)
        return ((right, z),) if left is None or first is None else ((left, y), (right, z))

    def of_several(node: Node, g: Array, leaves: Pending) -> Sequence[Pair]:
        if g.dtype in _COMPLEX:
            return on_complex(node, g, leaves)
        found: list[Pair] = []
        for edge, own, x in zip(node.parents, parts, node.inputs or (), strict=True):
            if edge is not None and own is not None:
                y = own.call(node, g)
                into = x.array.shape if isinstance(x, Tensor) else x.shape
                found.append((edge, y if into == g.shape else summed(node, y, into)))
        return found

    first, second = ([None if x is None else x.call for x in parts] + [None])[:2]
    same = SAME.call
    return of_one if len(parts) == 1 else of_two if len(parts) == 2 else of_several


def summed(node: Node, y: Array, shape: Shape) -> Array:
    """A cotangent summed over the axes along which an operand was broadcast."""
    backend: Any = node.backend
    return sum_to(fresh(y, backend), shape).array
