"""`gradnet.explain`: a computation shown step by step, with its derivatives in both modes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from gradnet.errors import DTypeError
from gradnet.explainer.expression import Expression, ExpressionError
from gradnet.explainer.report import Explanation
from gradnet.explainer.trace import ExplainError, Partial, Step, Table, Walk, differentiable
from gradnet.graph import Edge, keeping, next_id, reachable
from gradnet.ops.creation import asarray
from gradnet.tensor import Tensor

__all__ = [
    "ExplainError",
    "Explanation",
    "Expression",
    "ExpressionError",
    "Partial",
    "Step",
    "explain",
]


def explain(
    f: Callable[..., Any] | str,
    *inputs: Any,
    names: Sequence[str] | None = None,
    output: str = "f",
) -> Explanation:
    """How a scalar function is computed and differentiated, step by step: print it, or draw it.

    Runs `f(*inputs)` once and shows every step with its value, the formula and the value of its
    partial derivatives, and the derivatives that forward and backward mode accumulate. `f` may be
    text, such as "(x + y) * z", whose inputs are then its variables in order of appearance.
    Numbers and lists are taken as float64; tensors keep their dtype, and integer ones are
    constants. `names` are those of the inputs, by default the function's own parameters, and
    `output` is the name of the result.

        e = gn.explain(lambda x, y, z: (x + y) * z, -2, 5, -4)
        print(e)
        e.gradients["x"], e["u1"].backward, e.save("circuit.svg")

    Raises ExplainError for a function whose result is no scalar, or depends on no input, and
    ExpressionError for text that cannot be read.
    """
    if isinstance(f, str):
        f = Expression(f)
    known = _names(f, inputs, names)
    handles = [_handle(x) for x in inputs]
    floor = next_id()
    with keeping():
        y = f(*handles)
    if isinstance(f, Expression) and not f.variables:
        raise ExplainError(f"{f.text!r} has no variable to differentiate by; write one, such as x")
    if not isinstance(y, Tensor):
        raise ExplainError(
            f"explain needs a function that returns a Tensor; this one returned {type(y).__name__}"
        )
    if y.size != 1:
        raise ExplainError(
            f"explain needs a scalar, the function returned shape {y.shape}; reduce it, as with "
            "sum()"
        )
    if y.node is None:
        raise ExplainError(
            "the result depends on no input that can be differentiated; give an input as a "
            "number or a floating tensor"
        )
    nodes = [node for node in reversed(reachable([y.node[0]], floor)) if node.op is not None]
    leaves: dict[Edge, Tensor] = {}
    named: dict[Edge, str] = {}
    fixed: dict[str, Tensor] = {}
    for name, handle in zip(known, handles, strict=True):
        if handle.node is None:
            fixed[name] = handle
        else:
            leaves[handle.node] = handle.detach()
            named[handle.node] = name
    table = Table(Walk(nodes, y.node, leaves), named, fixed, output)
    return Explanation(
        (*table.inputs, *table.constants), table.rows, f.text if isinstance(f, Expression) else None
    )


def _handle(x: Any) -> Tensor:
    """An input as a tensor of its own, which gradients are taken of if it is a floating one."""
    plain = isinstance(x, int | float | list | tuple)
    tensor = asarray(x, dtype="float64") if plain else asarray(x).detach().copy()
    if tensor.dtype.kind == "c":
        raise DTypeError(f"explain takes real numbers, got {tensor.dtype.name}")
    tensor.requires_grad = differentiable(tensor)
    return tensor


def _names(
    f: Callable[..., Any], inputs: Sequence[Any], names: Sequence[str] | None
) -> tuple[str, ...]:
    if names is None:
        names = f.variables if isinstance(f, Expression) else _parameters(f, len(inputs))
    distinct = {name for name in names if name.isidentifier()}
    if not len(distinct) == len(inputs) == len(names):
        listed = ", ".join(names)
        raise ExplainError(
            f"explain got {len(inputs)} inputs and the names {listed or '(none)'}; give one value "
            "for each, and a name of its own"
        )
    return tuple(names)


def _parameters(f: Callable[..., Any], count: int) -> list[str]:
    """The names of a function's positional parameters, x1, x2, ... where it tells none."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        parameters = ()  # type: ignore[assignment]
    positional = [
        p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return positional[:count] if len(positional) >= count else [f"x{i + 1}" for i in range(count)]
