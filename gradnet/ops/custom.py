"""Adding ops from outside: `gradnet.op`, `gradnet.elementwise` and `gradnet.wrap`.

An op is declared once and is then like gradnet's own: it records, differentiates in both modes and
to any order, and is checked by `gradnet.gradcheck`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gradnet.backends import Array, Backend, Shape
from gradnet.errors import GraphError
from gradnet.formulas import Formula, Row
from gradnet.graph import Context, next_id, recording
from gradnet.ops.core import Composed, Cost, Op, size, subgraph_gradients
from gradnet.ops.creation import asarray, ones_like
from gradnet.ops.elementwise import Elementwise
from gradnet.ops.traced import bind_to_tensors
from gradnet.tensor import Tensor


class CustomOp(Op):
    """An op from functions: see `gradnet.op`."""

    def __init__(
        self,
        forward: Callable[..., Any],
        vjp: Callable[..., Any] | None,
        jvp: Callable[..., Any] | None,
        name: str,
        outputs: int,
    ) -> None:
        super().__init__(name)
        functools.update_wrapper(self, forward)
        self._forward, self._vjp, self._jvp = forward, vjp, jvp
        self.multiple = outputs > 1

    def __call__(self, *inputs: Any, **parameters: Any) -> Tensor:
        backend = next((x.backend for x in inputs if isinstance(x, Tensor)), None)
        return super().__call__(*(asarray(x, backend=backend) for x in inputs), **parameters)

    def forward(self, backend: Backend, *xs: Array, **parameters: Any) -> Any:
        y = self._forward(*xs, **parameters)
        return tuple(y) if self.multiple else y

    def _outputs(self, context: Context, count: int) -> Any:
        return (
            tuple(context.output_at(i) for i in range(count)) if self.multiple else context.output
        )

    def vjp(self, context: Context, g: Any) -> Sequence[Tensor | None]:
        y = self._outputs(context, len(g) if self.multiple else 1)
        if self._vjp is not None:
            found = self._vjp(g, y, *context.inputs, **context.parameters)
            found = tuple(found) if isinstance(found, tuple | list) else (found,)
            if len(found) != len(context.inputs):
                raise GraphError(
                    f"the vjp of {self.name} returned {len(found)} cotangents for "
                    f"{len(context.inputs)} operands; return one for each, None where there is none"
                )
            return [x if need else None for x, need in zip(found, context.needs, strict=True)]
        if self._jvp is None:
            raise GraphError(f"{self.name} has no derivative; give gradnet.op a vjp or a jvp")
        ts, floor = _movable(context.inputs, context.needs)
        with recording(True):
            tangent = self._jvp(ts, y, *context.inputs, **context.parameters)
        return _transposed(tangent, g, ts, floor)

    def jvp(self, context: Context, tangents: tuple[Tensor | None, ...]) -> Any:
        ys = context._outputs if self.multiple else (context.output,)  # type: ignore[attr-defined]
        y = tuple(ys) if self.multiple else ys[0]
        if self._jvp is not None:
            return self._jvp(tangents, y, *context.inputs, **context.parameters)
        if self._vjp is None:
            raise GraphError(f"{self.name} has no derivative; give gradnet.op a vjp or a jvp")
        gs, floor = _movable(ys, (True,) * len(ys))
        with recording(True):
            g = gs if self.multiple else gs[0]
            cotangents = self._vjp(g, y, *context.inputs, **context.parameters)
        found = _transposed(cotangents, tangents, gs, floor)
        return tuple(found) if self.multiple else found[0]

    def cost(self, *shapes: Shape, itemsize: int = 4, **parameters: Any) -> Cost:
        return 0.0, 2.0 * itemsize * sum(size(s) for s in shapes)


def _movable(xs: Sequence[Any], needs: Sequence[bool]) -> tuple[tuple[Tensor | None, ...], int]:
    """Stand-ins whose graph is followed: a rule that is linear in them is transposed by it."""
    made: list[Tensor | None] = []
    for x, need in zip(xs, needs, strict=True):
        stand_in = ones_like(x).detach() if need else None
        if stand_in is not None:
            stand_in.requires_grad = True
        made.append(stand_in)
    return tuple(made), next_id()


def _transposed(
    values: Any, weights: Any, stand_ins: Sequence[Tensor | None], floor: int
) -> list[Tensor | None]:
    """The transpose of what a rule did to its stand-ins, applied to weights of its results."""
    values = values if isinstance(values, tuple | list) else (values,)
    weights = weights if isinstance(weights, tuple | list) else (weights,)
    edges = {i: t.node for i, t in enumerate(stand_ins) if t is not None}
    gradients = subgraph_gradients(
        [(y, w) for y, w in zip(values, weights, strict=True) if y is not None and w is not None],
        list(edges.values()),
        floor,
    )
    found: list[Tensor | None] = [None] * len(stand_ins)
    for i, gradient in zip(edges, gradients, strict=True):
        found[i] = gradient
    return found


def op(
    forward: Callable[..., Any],
    *,
    vjp: Callable[..., Any] | None = None,
    jvp: Callable[..., Any] | None = None,
    name: str | None = None,
    outputs: int = 1,
) -> CustomOp:
    """An op of Tensors from a function of arrays and the rule of its derivative.

    `forward(*arrays, **parameters)` gets the arrays of the operands' backend (NumPy's on the CPU,
    CuPy's on a GPU) and returns a new array, or a tuple of `outputs` arrays. One rule is enough,
    written with Tensors, so that it differentiates again; the other mode is its transpose:

    `vjp(g, y, *xs, **parameters)` returns the cotangent of each operand (None where there is none)
    from the cotangent g of the output y; g and y are tuples for several outputs.
    `jvp(ts, y, *xs, **parameters)` returns the tangent of the output from those of the operands,
    None for an operand that does not move.

        cbrt = gn.op(np.cbrt, vjp=lambda g, y, x: g / (3 * y * y))
        gn.gradcheck(cbrt, [1.0, 8.0], order=2)
    """
    named = name if name is not None else str(getattr(forward, "__name__", "op"))
    return CustomOp(forward, vjp, jvp, named, outputs)


class Traced(Elementwise, Composed):
    """An elementwise op whose derivatives are found by running its formula on Tensors."""

    def __init__(self, row: Row) -> None:
        super().__init__(row)
        self.pull = None

    def expression(self, *inputs: Any, **parameters: Any) -> Any:
        return bind_to_tensors(self.row.formula)(*inputs)

    def saves(self, needs: tuple[bool, ...]) -> tuple[tuple[bool, ...], bool]:
        return (True,) * len(needs), False

    vjp = Composed.vjp
    jvp = Composed.jvp


def elementwise(
    formula: Formula | None = None,
    *,
    derivatives: Sequence[Formula | None] | None = None,
    defaults: Mapping[str, float] | None = None,
    name: str | None = None,
    flops: int = 8,
) -> Any:
    """An elementwise op from one scalar function, compiled for every backend. Also a decorator.

    The function takes positional numbers, uses bare names of `gradnet.formulas` (`exp`, `where`,
    `abs`; import them from there) and returns one expression. In place of branches there is
    `where(c, a, b)`, of which both sides are computed. The op broadcasts and promotes; integers
    are taken as float32. `derivatives` are functions of the same kind, one per operand, over the
    operands' names and `y`, the output; without them the function is differentiated by tracing.

        from gradnet.formulas import exp

        @gn.elementwise
        def bump(x, width):
            return exp(-(x / width) ** 2)

        bump(gn.linspace(-1, 1, 5), 0.5)

    Raises FormulaError for what a formula may not contain.
    """
    if formula is None:
        return functools.partial(
            elementwise, derivatives=derivatives, defaults=defaults, name=name, flops=flops
        )
    row = Row(
        name or formula.__name__,
        formula,
        None if derivatives is None else tuple(derivatives),
        defaults=None if defaults is None else dict(defaults),
        flops=flops,
    )
    bind_to_tensors(formula)  # what is no formula is refused here, not at the first call
    return (Traced if derivatives is None else Elementwise)(row)


def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function written for any array namespace, or for NumPy, as one of Tensors.

    Arrays among its arguments (NumPy's, or any with DLPack) become Tensors, memory shared, and a
    parameter called `xp` is given gradnet where the caller leaves it out. What comes back is a
    function of Tensors like any other: `gn.grad(gn.wrap(f))`.

        def energy(x, xp):
            return xp.sum(xp.square(x))

        gn.grad(gn.wrap(energy))(np.ones(3))
    """
    takes_namespace = "xp" in inspect.signature(function).parameters

    @functools.wraps(function)
    def wrapped(*args: Any, **options: Any) -> Any:
        import gradnet

        if takes_namespace and "xp" not in options:
            options["xp"] = gradnet
        return function(
            *(_as_tensor(x) for x in args), **{k: _as_tensor(x) for k, x in options.items()}
        )

    return wrapped


def _as_tensor(x: Any) -> Any:
    """Arrays as Tensors; all else as it is."""
    arrays = hasattr(x, "__dlpack__") or hasattr(x, "__array_interface__")
    return asarray(x) if arrays and not isinstance(x, Tensor) else x
