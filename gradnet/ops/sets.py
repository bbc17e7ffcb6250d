"""Arrays as sets of values: distinct ones, where they come from, and membership."""

from __future__ import annotations

from typing import Any, NamedTuple

from gradnet import dtypes
from gradnet.ops.creation import asarray, astype, full, operands_of_one_dtype, zeros_like
from gradnet.ops.elementwise import op
from gradnet.ops.index import scatter_add, take
from gradnet.ops.joining import concat
from gradnet.ops.order import argsort, nonzero, searchsorted
from gradnet.ops.scan import cumulative_sum
from gradnet.ops.shape import reshape
from gradnet.tensor import Tensor


class UniqueAll(NamedTuple):
    """Distinct values, where each first occurs, which each element is, how often each occurs."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCounts(NamedTuple):
    """Distinct values and how often each occurs."""

    values: Tensor
    counts: Tensor


class UniqueInverse(NamedTuple):
    """Distinct values and which of them each element is."""

    values: Tensor
    inverse_indices: Tensor


def unique_all(x: Any, /) -> UniqueAll:
    """The distinct values in order, NaNs each by itself, and all that relates them to x.

    (...) -> values, indices and counts (k,), inverse_indices (...). Gradients reach the values.
    """
    x = asarray(x)
    flat = reshape(x, (-1,) if x.size else (0,))
    order = argsort(flat)
    ordered = take(flat, order).detach()
    fresh = op("not_equal")(ordered[1:], ordered[:-1])
    first = full((1 if x.size else 0,), True, dtype=dtypes.bool_, backend=x.backend)
    starts = concat([first, fresh])
    (places,) = nonzero(starts)
    groups = cumulative_sum(astype(starts, dtypes.int64), axis=0) - 1
    inverse = scatter_add(zeros_like(groups), order, groups)
    end = full((1,), x.size, dtype=dtypes.int64, backend=x.backend)
    counts = concat([places[1:], end])[: places.size] - places
    indices = take(order, places)
    return UniqueAll(take(flat, indices), indices, reshape(inverse, x.shape), counts)


def unique_counts(x: Any, /) -> UniqueCounts:
    """The distinct values in order and how often each occurs; NaNs are each by itself."""
    found = unique_all(x)
    return UniqueCounts(found.values, found.counts)


def unique_inverse(x: Any, /) -> UniqueInverse:
    """The distinct values in order, and which of them each element of x is."""
    found = unique_all(x)
    return UniqueInverse(found.values, found.inverse_indices)


def unique_values(x: Any, /) -> Tensor:
    """The distinct values in order; NaNs are each by itself."""
    return unique_all(x).values


def isin(x1: Any, x2: Any, /, *, invert: bool = False) -> Tensor:
    """Whether each element of x1 is among those of x2 (or not, with `invert`); NaN never is."""
    x, values = (x.detach() for x in operands_of_one_dtype("isin", x1, x2))
    values = reshape(values, (values.size,))
    if not values.size:
        return full(x.shape, invert, dtype=dtypes.bool_, backend=x.backend)
    ordered = take(values, argsort(values))
    places = op("minimum")(searchsorted(ordered, x), values.size - 1)
    return op("not_equal" if invert else "equal")(ordered[places], x)
