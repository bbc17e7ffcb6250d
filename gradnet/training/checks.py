"""Checks of what users pass, before any training: data, and the numbers among the options."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

from gradnet import dtypes, ops
from gradnet.errors import DataError, DTypeError, ShapeError
from gradnet.nn import Embedding, Module
from gradnet.tensor import Tensor


def whole(name: str, value: Any, low: int, high: int | None = None, hint: str = "") -> int:
    """An integer from `low` to `high`. Raises TypeError or ValueError, naming the option."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}{hint}")
    number = int(value.__index__())
    if number < low:
        raise ValueError(f"{name} must be at least {low}, not {number}{hint}")
    if high is not None and number > high:
        raise ValueError(f"{name} must be at most {high}, not {number}{hint}")
    return number


def number(name: str, value: Any, *, above: float | None = None) -> float:
    """A finite number of at least 0, or above a bound. Raises TypeError or ValueError."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not math.isfinite(value) or (value < 0 if above is None else value <= above):
        bound = "of at least 0" if above is None else f"above {above:g}"
        raise ValueError(f"{name} must be a finite number {bound}, not {value}")
    return float(value)


def tensor(name: str, x: Any, like: Tensor) -> Tensor:
    """An array of numbers beside `like`, without a gradient, floats in its dtype.

    Raises TypeError, DTypeError and ShapeError for what is no array of real numbers.
    """
    if x is None or isinstance(x, str | bytes | dict):
        raise TypeError(
            f"{name} must be an array of numbers, not {'None' if x is None else type(x).__name__}"
        )
    try:
        found = ops.asarray(x, dtype=_cast_first(x, like), backend=like.backend).detach()
    except DTypeError as error:
        raise DTypeError(f"{name}: {error}") from None
    except ShapeError as error:
        raise ShapeError(f"{name}: {error}") from None
    if dtypes.kind(found.dtype) == "complex":
        raise DTypeError(f"{name} has dtype {found.dtype.name}; expected real numbers")
    return found


def _cast_first(x: Any, like: Tensor) -> Any:
    """The dtype to cast floats to before they are moved: a device may lack theirs, or the room."""
    try:
        kind = dtypes.kind(dtypes.canonical(x.dtype))
    except (AttributeError, DTypeError):
        return None
    return like.dtype if kind == "float" else None


def is_finite(x: Tensor) -> bool:
    """Whether all values are finite; integers always are."""
    return not dtypes.is_inexact(x.dtype) or bool(ops.elementwise("isfinite")(x.detach()).all())


def all_finite(xs: Sequence[Tensor]) -> bool:
    """Whether all values of floating tensors are finite, with one look at the device if so."""
    if not xs:
        return True
    # A sum is finite only if all its terms are; where it is not, it may just have overflowed.
    sums = numbers([ops.sum(x.detach()) for x in xs])
    return all(map(math.isfinite, sums)) or all(map(is_finite, xs))


def numbers(xs: Sequence[Tensor]) -> list[float]:
    """The values of scalars, fetched from the device together where there are several."""
    return [float(x) for x in xs] if len(xs) < 3 else ops.stack(list(xs)).numpy().tolist()


def finite(name: str, x: Tensor, given: Any = None) -> None:
    """Raise DataError, naming row and column, where x holds NaN or infinity."""
    if is_finite(x):
        return
    wrong = ~ops.elementwise("isfinite")(x)
    place = int(ops.argmax(ops.astype(wrong, "int64")))
    width = math.prod(x.shape[1:])
    row, column = divmod(place, width)
    value = ops.reshape(x, (-1,))[place].item()
    where = f"row {row}"
    if x.ndim > 1:
        names = getattr(given, "columns", None)
        label = f" ({names[column]!r})" if names is not None and len(names) == width else ""
        where += f", column {column}{label}"
    count = int(ops.count_nonzero(wrong))
    raise DataError(
        f"{name} holds {value} in {where}"
        + (f", and {count - 1} more values that are not finite" if count > 1 else "")
        + "; fill or drop such values first"
    )


def features(x: Any, model: Module, like: Tensor, name: str = "X") -> Tensor:
    """Features (n, ...) beside the model's parameters, in their dtype, all finite.

    Integers stay integers for a model with an Embedding, which takes codes.
    """
    found = tensor(name, x, like)
    if found.ndim < 2:
        raise ShapeError(
            f"{name} has shape {found.shape}; expected (n, features)"
            + (f", such as {name}.reshape(-1, 1) for one feature" if found.ndim == 1 else "")
        )
    if not found.size:
        raise DataError(f"{name} is empty: shape {found.shape}")
    codes = not dtypes.is_inexact(found.dtype) and any(
        isinstance(module, Embedding) for module in model.modules()
    )
    if not codes:
        found = ops.astype(found, like.dtype, copy=False)
    finite(name, found, x)
    return found


def same_rows(x: Tensor, y: Tensor, names: tuple[str, str] = ("X", "y")) -> None:
    """Raise ShapeError where features and targets differ in their number of rows."""
    if not y.ndim or y.shape[0] != x.shape[0]:
        raise ShapeError(
            f"{names[0]} has {x.shape[0]} rows, but {names[1]} has "
            f"{f'{y.shape[0]} rows' if y.ndim else 'only one value'} (shapes {x.shape} and "
            f"{y.shape}); expected as many"
        )
