"""Regularisation: penalties on weights to add to a loss, and the max-norm constraint.

Of a Module, the weights count: its parameters of two or more axes. Biases and the scales of norms
are left alone (Goodfellow, Bengio and Courville 2016, section 7.1). Of parameters that are passed,
all count.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gradnet import ops
from gradnet.errors import ShapeError
from gradnet.nn.module import Module
from gradnet.tensor import Tensor

Weights = Module | Tensor | Iterable[Tensor]


def weights_of(model: Weights) -> list[Tensor]:
    """The weights that count. Raises ValueError where there are none."""
    if isinstance(model, Module):
        found: list[Tensor] = [p for p in model.parameters() if p.ndim > 1]
    elif isinstance(model, Tensor):
        found = [model]
    else:
        found = list(model)
    if not found:
        raise ValueError("a penalty needs weights, but there are none in what it got")
    return found


def l1(model: Weights) -> Tensor:
    """sum |w| over the weights of a model, or over given parameters. Tibshirani 1996."""
    return _summed([ops.sum(ops.abs(w)) for w in weights_of(model)])


def l2(model: Weights) -> Tensor:
    """sum w^2 over the weights of a model, or over given parameters. Krogh and Hertz 1992."""
    return _summed([ops.sum(ops.square(w)) for w in weights_of(model)])


def penalty(model: Weights, *, l1: float = 0.0, l2: float = 0.0) -> Tensor:
    """l1 sum |w| + l2 sum w^2, to add to a loss; both make the elastic net (Zou and Hastie 2005).

    Raises ValueError for negative strengths, or two zeros.
    """
    if not (l1 >= 0 and l2 >= 0 and l1 + l2 > 0):
        raise ValueError(f"penalty takes l1 and l2 of at least 0, one above, got {l1} and {l2}")
    found = weights_of(model)
    parts = []
    if l1:
        parts.append(l1 * _summed([ops.sum(ops.abs(w)) for w in found]))
    if l2:
        parts.append(l2 * _summed([ops.sum(ops.square(w)) for w in found]))
    return _summed(parts)


def max_norm_(model: Weights, limit: float) -> None:
    """Scale down, in place, the incoming weights of every unit whose norm exceeds `limit`.

    Weights are (in, out): the norm of each column. Call it after each optimizer step.
    Raises ValueError for a limit that is not positive and ShapeError for a weight of one axis.
    Srebro and Shraibman 2005; Hinton et al. 2012, arXiv:1207.0580.
    """
    if not limit > 0:
        raise ValueError(f"max_norm_ takes a limit above 0, got {limit}")
    for w in weights_of(model):
        if w.ndim < 2:
            raise ShapeError(f"max_norm_ takes weights (in, out), got shape {w.shape}")
        values = w.detach()
        axes = tuple(range(w.ndim - 1))
        norms = ops.vector_norm(values, axis=axes, keepdims=True)
        # Exactly 1 where the norm is within the limit, so that those weights keep their bits.
        factor = limit / ops.maximum(norms, limit)
        w.assign_(values * factor)


def _summed(parts: list[Any]) -> Tensor:
    total: Tensor = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
