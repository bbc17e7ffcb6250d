"""Derivatives of functions of tensors: reverse and forward mode, to any order.

Functions take tensors as positional arguments and return a tensor, or where it says so a tuple.
`argnums` picks the arguments that are differentiated. Every result can be differentiated again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from gradnet import dtypes, graph
from gradnet.errors import DTypeError, GraphError, ShapeError
from gradnet.graph import Context, level, mode, reachable, recording, tracking
from gradnet.modes import is_recomputing as is_recomputing
from gradnet.numpy_calls import unshared
from gradnet.ops.core import Op
from gradnet.ops.creation import asarray, copy, eye, to_backend, zeros, zeros_like
from gradnet.ops.joining import stack
from gradnet.ops.shape import reshape
from gradnet.tensor import Tensor, fresh
from gradnet.walk import backpropagate, leaf_gradients

Function = Callable[..., Any]
Argnums = int | tuple[int, ...]


def no_grad() -> Any:
    """Take no derivatives through a `with` block: what it computes is a constant to both modes.

    A derivative taken inside the block is computed as ever.
    """
    return tracking(False)


def enable_grad() -> Any:
    """Take derivatives within a `with` block again, inside of no_grad."""
    return tracking(True)


def is_grad_enabled() -> bool:
    """Whether operations are recorded now."""
    return mode.recording


def _indices(argnums: Argnums, count: int, caller: str) -> tuple[int, ...]:
    picked = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for i in picked:
        if not -count <= i < count:
            raise ShapeError(f"{caller}: argnums {i} for a function called with {count} arguments")
    return tuple(i % count for i in picked)


def _leaf(x: Any, caller: str) -> Tensor:
    """A handle of x whose own gradient is collected, joined to nothing before it."""
    tensor = asarray(x)
    if not dtypes.is_inexact(tensor.dtype):
        raise DTypeError(
            f"{caller} differentiates floating tensors, got dtype {tensor.dtype.name}; "
            "cast it with astype(gradnet.float32)"
        )
    handle = Tensor.wrap(tensor.array, tensor.backend, None, tensor.counter, tensor.tangents)
    handle.requires_grad = True
    return graph.as_handle(handle)


def outputs_of(value: Any, caller: str) -> tuple[Tensor, ...]:
    """What a function returned, a tensor or several. Raises GraphError for anything else."""
    values = value if isinstance(value, tuple | list) else (value,)
    for y in values:
        if not isinstance(y, Tensor):
            raise GraphError(
                f"{caller} got a function that returned {type(y).__name__}; expected a Tensor"
            )
    return tuple(values)


def _joined(handles: Sequence[Tensor], outputs: Sequence[Tensor]) -> bool:
    """Whether a gradient here may itself be differentiated by someone outside."""
    if mode.levels:
        return True
    if not mode.recording:
        return False
    own = {handle.node[0].id for handle in handles if handle.node is not None and handle.is_leaf}
    return _reaches_leaf(outputs, own)


def _reaches_leaf(ys: Sequence[Tensor], but: set[int] | None = None) -> bool:
    """Whether the graph of `ys` goes back to a leaf that someone still collects gradients for."""
    nodes = reachable([y.node[0] for y in ys if y.node is not None])
    return any(
        node.op is None and node.tensor is not None and node.id not in (but or ()) for node in nodes
    )


def _close(handles: Sequence[Tensor]) -> None:
    """Mark the leaves among handles as ones that nobody collects gradients for any more."""
    for handle in handles:
        if handle.node is not None and handle.is_leaf:
            handle.node[0].tensor = None


def _free(y: Tensor) -> Tensor:
    """A result without the graph of derivatives that nobody outside can take any more."""
    if y.node is None or mode.levels or (mode.recording and _reaches_leaf([y])):
        return y
    return y.detach()


class _Handle(Op):
    """The identity that joins a handle's gradient graph to the tensor it stands for."""

    view = True

    def forward(self, backend: Any, *xs: Any) -> Any:
        return xs[0]

    def saves(self, needs: tuple[bool, ...]) -> tuple[tuple[bool, ...], bool]:
        return (False,), False

    def vjp(self, context: Context, g: Any) -> Sequence[Tensor | None]:
        return (g,)

    def jvp(self, context: Context, tangents: tuple[Tensor | None, ...]) -> Any:
        return tangents[0]

    def cost(self, *shapes: Any, itemsize: int = 4, **parameters: Any) -> Any:
        return 0.0, 0.0


_HANDLE = _Handle("input")


def _handle(x: Any, caller: str) -> Tensor:
    """A node of its own for x, whose gradient can be asked for; joined to what x came from."""
    tensor = asarray(x)
    if tensor.node is None:
        return _leaf(tensor, caller)
    with recording(True):
        joined: Tensor = _HANDLE(tensor)
    return joined


def vjp(f: Function, *xs: Any) -> tuple[Any, Callable[..., Any]]:
    """`f(*xs)` and the function that carries a cotangent of it back to every argument.

    The second may be called any number of times; it returns one cotangent, or a tuple of them for
    several arguments. Baydin et al. 2018, arXiv:1502.05767.

    Raises DTypeError for an argument that is not of floats, GraphError where `f` returns no tensor,
    and, when pulled, ShapeError for cotangents of other shapes or another number.
    """
    handles = [_handle(x, "vjp") for x in xs]
    with recording(True):
        value = f(*handles)
    outputs = outputs_of(value, "vjp")
    again, several = _joined(handles, outputs), isinstance(value, tuple | list)

    def pull(*cotangents: Any) -> Any:
        given = cotangents[0] if len(cotangents) == 1 else cotangents
        gs = given if several and isinstance(given, tuple | list) else (given,)
        if len(gs) != len(outputs):
            raise ShapeError(f"vjp got {len(gs)} cotangents for {len(outputs)} outputs")
        seeds = [y.seed(g, "vjp") for y, g in zip(outputs, gs, strict=True)]
        differentiable = again or any(s.node is not None for s in seeds) or bool(mode.levels)
        found = _gradients(outputs, seeds, handles, keep=True, differentiable=differentiable)
        return found[0] if len(found) == 1 else tuple(found)

    results = tuple(y if again else y.detach() for y in outputs)
    return (results if several else results[0]), pull


def _gradients(
    outputs: Sequence[Tensor],
    seeds: Sequence[Tensor],
    handles: Sequence[Tensor],
    *,
    keep: bool,
    differentiable: bool,
) -> list[Tensor]:
    """The gradient of each handle, zeros where the outputs do not depend on it."""
    targets = [h.node for h in handles if h.node is not None]
    pairs = [(y.node, s) for y, s in zip(outputs, seeds, strict=True) if y.node is not None]
    if not differentiable:
        arrays = leaf_gradients(pairs, targets, keep)
        if arrays is not None:
            return [_taken(arrays, i, h) for i, h in enumerate(handles)]
    floor = min(target[0].id for target in targets) - 1
    found = backpropagate(
        pairs, targets=targets, keep=keep, differentiable=differentiable, floor=floor
    )
    # A copy, for one cotangent may be that of several arguments, or a broadcast view.
    return [
        zeros_like(h) if g is None else g if g.node is not None or g.tangents else copy(g)
        for h, g in zip(handles, found, strict=True)
    ]


def _taken(arrays: list[Any], i: int, handle: Tensor) -> Tensor:
    """One of several gradients as a Tensor with memory of its own."""
    if arrays[i] is None:
        return zeros_like(handle)
    own = unshared(arrays, i)
    g = fresh(arrays[i], handle.backend)
    return g if own else copy(g)


def value_and_grad(
    f: Function, argnums: Argnums = 0, *, has_aux: bool = False
) -> Callable[..., Any]:
    """The function that returns `f`'s scalar value and its gradient in the chosen arguments.

    With `has_aux`, `f` returns (value, anything else), and so does the value part of the result.

    Raises, when called, GraphError for a value that is no tensor of one element, DTypeError for an
    argument that is not of floats, and ShapeError for `argnums` beyond the arguments.
    """

    evaluate: Callable[..., Any] = functools.wraps(f)(_evaluating(f, argnums, has_aux))
    return evaluate


def _evaluating(f: Function, argnums: Argnums, has_aux: bool) -> Callable[..., Any]:
    """As `value_and_grad`, without the name and the text of the function."""

    def evaluate(*args: Any, **kwargs: Any) -> Any:
        picked = _indices(argnums, len(args), "grad")
        handles = [_handle(args[i], "grad") for i in picked]
        inputs = list(args)
        for i, handle in zip(picked, handles, strict=True):
            inputs[i] = handle
        with recording(True):
            result = f(*inputs, **kwargs)
        value = result[0] if has_aux else result
        (y,) = outputs_of(value, "grad")
        if y.size != 1:
            raise GraphError(
                f"grad needs a function with a scalar value, this one returned shape {y.shape}; "
                "reduce it with sum(), or use vjp or jacobian"
            )
        again = _joined(handles, [y])
        gradients = _gradients(
            [y], [y.seed(None, "grad")], handles, keep=again, differentiable=again
        )
        _close(handles)
        kept = y if again else y.detach()
        value = (kept, result[1]) if has_aux else kept
        return value, gradients[0] if isinstance(argnums, int) else tuple(gradients)

    return evaluate


def grad(f: Function, argnums: Argnums = 0, *, has_aux: bool = False) -> Callable[..., Any]:
    """The gradient function of a scalar function: `grad(f)(x)` has the shape of `x`.

    With `has_aux`, `f` returns (value, anything else) and the result is (gradient, anything else).
    Raises as `value_and_grad` does.
    """
    evaluate = _evaluating(f, argnums, has_aux)

    @functools.wraps(f)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, g = evaluate(*args, **kwargs)
        return (g, value[1]) if has_aux else g

    return gradient


def jvp(f: Function, xs: Any, ts: Any) -> tuple[Any, Any]:
    """`f(*xs)` and its derivative along tangents `ts`, in one forward pass (forward mode).

    `xs` and `ts` are a tensor each, or tuples of equal length. Raises ShapeError where a tangent's
    shape differs from its argument's, DTypeError for an argument that is not of floats, and
    GraphError where `f` returns no tensor.
    """
    several = isinstance(xs, tuple | list)
    primals = [asarray(x) for x in (xs if several else (xs,))]
    given = ts if isinstance(ts, tuple | list) and several else (ts,)
    if len(primals) != len(given):
        raise ShapeError(f"jvp got {len(given)} tangents for {len(primals)} arguments")
    tangents = [
        asarray(t, dtype=x.dtype, backend=x.backend) for x, t in zip(primals, given, strict=True)
    ]
    for x, t in zip(primals, tangents, strict=True):
        if x.shape != t.shape:
            raise ShapeError(f"jvp got a tangent of shape {t.shape} for shape {x.shape}")
        if not dtypes.is_inexact(x.dtype):
            raise DTypeError(f"jvp differentiates floating tensors, got dtype {x.dtype.name}")
    with level() as number:
        inputs = [x.with_tangent(number, t) for x, t in zip(primals, tangents, strict=True)]
        value = f(*inputs)
        outputs = outputs_of(value, "jvp")
    values = [y.outside(number) for y in outputs]
    found = [(y.tangents or {}).get(number) for y in outputs]
    slopes = [zeros_like(y) if t is None else t for y, t in zip(values, found, strict=True)]
    values, slopes = [_free(y) for y in values], [_free(t) for t in slopes]
    if isinstance(value, tuple | list):
        return tuple(values), tuple(slopes)
    return values[0], slopes[0]


def hvp(f: Function, x: Any, v: Any) -> Tensor:
    """The Hessian of a scalar function times a vector, forward over reverse: shape of `x`.

    Pearlmutter 1994: the cost of a few gradients, whatever the size of the Hessian.
    Raises as `grad` and `jvp` do.
    """
    _, product = jvp(grad(f), x, v)
    return product  # type: ignore[no-any-return]


def jacobian(f: Function, argnums: int = 0, *, forward: bool | None = None) -> Callable[..., Any]:
    """The function that returns all partial derivatives: shape of output + shape of argument.

    Reverse mode makes one pass per output element, forward mode one per input element; the
    cheaper is taken where `forward` does not say. Raises as `vjp` and `jvp` do.
    """

    @functools.wraps(f)
    def evaluate(*args: Any) -> Tensor:
        (i,) = _indices(argnums, len(args), "jacobian")
        x = asarray(args[i])

        def of_one(z: Tensor) -> Any:
            return f(*args[:i], z, *args[i + 1 :])

        y, pull = vjp(of_one, x)
        (y,) = outputs_of(y, "jacobian")
        if forward or (forward is None and x.size < y.size):
            basis = to_backend(eye(x.size, dtype=x.dtype), x.backend)
            columns = [jvp(of_one, x, reshape(basis[k], x.shape))[1] for k in range(x.size)]
            if not columns:
                return zeros((*y.shape, *x.shape), dtype=y.dtype, backend=y.backend)
            return reshape(stack(columns, axis=-1), (*y.shape, *x.shape))
        basis = to_backend(eye(y.size, dtype=y.dtype), y.backend)
        rows = [pull(reshape(basis[k], y.shape)) for k in range(y.size)]
        if not rows:
            return zeros((*y.shape, *x.shape), dtype=x.dtype, backend=x.backend)
        return reshape(stack(rows), (*y.shape, *x.shape))

    return evaluate


def hessian(f: Function, argnums: int = 0) -> Callable[..., Any]:
    """The function that returns the second derivatives of a scalar function: shape of x, twice.

    Raises as `grad` does.
    """
    return jacobian(grad(f, argnums), argnums, forward=True)
