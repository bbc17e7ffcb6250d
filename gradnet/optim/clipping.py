"""Clipping of gradients, between backward and the optimizer's step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from gradnet import dtypes, ops
from gradnet.autodiff import no_grad
from gradnet.errors import GraphError
from gradnet.optim.flat import Flat, home
from gradnet.optim.optimizer import Optimizer
from gradnet.optim.settings import between
from gradnet.tensor import Tensor

_LIMIT = between(0, math.inf, open_low=True)


def clip_grad_norm(
    params: Iterable[Tensor] | Optimizer,
    max_norm: float,
    *,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale all gradients down together so that their common norm is at most `max_norm`.

        norm = sqrt(sum of the squares of all gradients)
        g = g * min(1, max_norm / (norm + 1e-6))

    Takes parameters, or an optimizer for all of its. Returns the norm before, in the gradients'
    dtype (at least float32); 0 where there is no gradient. A NaN makes all gradients NaN, an
    infinity makes itself NaN and the others 0; with `error_if_nonfinite` both raise GraphError, and
    nothing is changed. Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063.
    """
    limit = _LIMIT("clip_grad_norm", "max_norm", max_norm)
    parameters = _parameters("clip_grad_norm", params)
    with no_grad():
        parts = pieces(parameters)
        norm = _norm(parts)
        if norm is None:
            return ops.zeros((), dtype=dtypes.DEFAULT_FLOAT)
        if error_if_nonfinite and not math.isfinite(value := float(norm)):
            raise GraphError(
                f"clip_grad_norm: the norm of all gradients is {value}; "
                f"{_first_nonfinite(parameters)}"
            )
        scale = ops.minimum(limit / (norm + 1e-6), 1.0)
        for piece in parts:
            ops.multiply.into(piece, ops.astype(scale.to(piece.device), piece.dtype))
        mark(parameters)
    return norm


def clip_grad_value(params: Iterable[Tensor] | Optimizer, max_value: float) -> None:
    """Clip every element of every gradient to [-max_value, max_value]; NaN stays.

    Takes parameters, or an optimizer for all of its.
    """
    limit = _LIMIT("clip_grad_value", "max_value", max_value)
    parameters = _parameters("clip_grad_value", params)
    with no_grad():
        for piece in pieces(parameters):
            ops.elementwise("clip").into(piece, -limit, limit)
        mark(parameters)


def _parameters(caller: str, params: Any) -> list[Tensor]:
    if isinstance(params, Optimizer):
        return [parameter for group in params.groups for parameter in group["params"]]
    if isinstance(params, Tensor) or not isinstance(params, Iterable):
        raise TypeError(
            f"{caller} takes a list of parameters or an optimizer, got {type(params).__name__}"
        )
    parameters = list(params)
    for i, parameter in enumerate(parameters):
        if not isinstance(parameter, Tensor):
            raise TypeError(
                f"{caller}: parameter {i} is a {type(parameter).__name__}; expected a Tensor"
            )
    return parameters


def pieces(parameters: list[Tensor]) -> list[Tensor]:
    """All gradients, those that are neighbours in an optimizer's buffer as one vector."""
    found: list[Tensor] = []
    places: dict[int, tuple[Flat, list[int]]] = {}
    for parameter in dict.fromkeys(parameters):
        gradient = parameter.grad
        if gradient is None:
            continue
        flat = home(parameter)
        i = -1 if flat is None else flat.order[id(parameter)]
        if flat is None or gradient.array is not flat.slots[i][2]:
            found.append(gradient)
        else:
            places.setdefault(id(flat), (flat, []))[1].append(i)
    for flat, indices in places.values():
        first = previous = min(indices)
        for i in [*sorted(indices)[1:], -1]:
            if i != previous + 1:
                array = flat.span(flat.gradients, (first, previous + 1))
                found.append(Tensor.wrap(array, flat.backend))
                first = i
            previous = i
    return found


def _norm(parts: list[Tensor]) -> Tensor | None:
    """The norm of all elements of all pieces, on the device of the first."""
    squares: Tensor | None = None
    for piece in parts:
        wide = ops.astype(piece, dtypes.compute_dtype(piece.dtype), copy=False)
        square = ops.sum(ops.square(wide))
        squares = square if squares is None else squares + square.to(squares.device)
    return None if squares is None else ops.sqrt(squares)


def mark(parameters: list[Tensor]) -> None:
    """Note that the gradients were changed in place."""
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.changed()


def _first_nonfinite(parameters: list[Tensor]) -> str:
    for i, parameter in enumerate(parameters):
        gradient = parameter.grad
        if gradient is not None and not bool(ops.all(ops.isfinite(gradient))):
            return f"the first that is not finite is of parameter {i}, shape {parameter.shape}"
    return "all are finite, but their squares are not"
