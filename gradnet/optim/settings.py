"""What values the hyperparameters may take, and the errors for those that they may not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any

Settings = Mapping[str, "Setting"]


class Setting:
    """The values that a hyperparameter may take.

    Called with the owner's name, the hyperparameter's and a value, it returns the value as a plain
    number, flag, text or tuple. Raises ValueError, naming all three, for one that is not allowed.
    """

    def __init__(
        self, convert: Callable[[Any], Any], expected: str, *, optional: bool = False
    ) -> None:
        self.convert = convert
        self.expected = expected
        self.optional = optional

    def __call__(self, owner: str, name: str, value: Any) -> Any:
        if value is None and self.optional:
            return None
        converted = self.convert(value)
        if converted is None:
            raise ValueError(f"{owner}: {name} must be {self.expected}, got {value!r}")
        return converted


def _number(value: Any) -> float | None:
    """A real number that is no flag, or None."""
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else None


def between(low: float, high: float, *, open_low: bool = False, open_high: bool = False) -> Setting:
    """A number from `low` to `high`, each excluded where it is said to be open."""

    def convert(value: Any) -> float | None:
        number = _number(value)
        if number is None or math.isnan(number):
            return None
        above = number > low if open_low else number >= low
        below = number < high if open_high else number <= high
        return number if above and below else None

    if high == math.inf:
        return Setting(convert, f"a number {'above' if open_low else 'of at least'} {low:g}")
    left, right = "(" if open_low else "[", ")" if open_high else "]"
    return Setting(convert, f"a number in {left}{low:g}, {high:g}{right}")


def whole(low: int) -> Setting:
    """An integer of at least `low`."""

    def convert(value: Any) -> int | None:
        fits = isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= low
        return int(value) if fits else None

    return Setting(convert, f"an integer of at least {low}")


def choice(*options: str) -> Setting:
    """One of some words."""
    return Setting(
        lambda value: value if isinstance(value, str) and value in options else None,
        " or ".join(repr(option) for option in options),
    )


def optional(setting: Setting) -> Setting:
    """A setting that may also be None."""
    return Setting(setting.convert, f"{setting.expected}, or None", optional=True)


def _pair(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, tuple | list) or len(value) != 2:
        return None
    first, second = (UNIT.convert(item) for item in value)
    return None if first is None or second is None else (first, second)


NONNEGATIVE = between(0, math.inf, open_high=True)
POSITIVE = between(0, math.inf, open_low=True, open_high=True)
UNIT = between(0, 1, open_high=True)
FRACTION = between(0, 1, open_low=True, open_high=True)
BETAS = Setting(_pair, "a pair of numbers in [0, 1)")
FLAG = Setting(lambda value: value if isinstance(value, bool) else None, "True or False")


def closest(name: str, known: Iterable[str]) -> str:
    """A hint to the names that resemble an unknown one, or all of them."""
    known = list(known)
    near = get_close_matches(name, known)
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"


def plain(name: str) -> str:
    """A registry's key for a name: "L-BFGS", "one-cycle" and "One_Cycle" without case and signs."""
    return "".join(letter for letter in name.lower() if letter.isalnum())
