"""What a worked example is: figures, each with what it should be beside what comes out here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from gradnet.ops.creation import asarray
from gradnet.tensor import Tensor

LECTURE, WORKED = "lecture", "worked"

DECKS = {
    1: "Activations, perceptrons and logistic regression",
    2: "Optimisation and neural networks",
    3: "Computational graphs and automatic differentiation",
    4: "Deep feedforward networks",
    5: "Training multilayer perceptrons",
}


class Figure(NamedTuple):
    """One number, or list of numbers, of an example.

    name        what it is
    shown       what it should be: a lecture's figure, or the value in closed form
    computed    what this library computes
    tolerance   largest absolute difference that counts as equal
    source      "lecture" where the lecture prints the figure, else "worked"
    note        what to know of it, such as a misprint
    """

    name: str
    shown: Any
    computed: Any
    tolerance: float
    source: str
    note: str

    @property
    def difference(self) -> float:
        """The largest absolute difference; infinite where the shapes differ, NaN for a NaN."""
        shown, computed = list(_flat(self.shown)), list(_flat(self.computed))
        if len(shown) != len(computed):
            return float("inf")
        gaps = [abs(a - b) for a, b in zip(shown, computed, strict=True)]
        return float("nan") if any(gap != gap for gap in gaps) else max(gaps, default=0.0)

    @property
    def agrees(self) -> bool:
        """Whether both are equal, within the tolerance."""
        return self.difference <= self.tolerance


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _flat(value: Any) -> Iterator[float]:
    value = _plain(value)
    if isinstance(value, list | tuple):
        for part in value:
            yield from _flat(part)
    else:
        yield float(value)


def lecture(
    name: str,
    shown: Any,
    computed: Any,
    *,
    digits: int | None = None,
    within: float = 0.0,
    note: str = "",
) -> Figure:
    """A figure that a lecture prints: equal when rounded to so many `digits`, or `within` it."""
    tolerance = within if digits is None else 0.5000001 * 10.0**-digits
    return Figure(name, _plain(shown), _plain(computed), tolerance, LECTURE, note)


def worked(
    name: str,
    shown: Any,
    computed: Any,
    *,
    within: float | None = None,
    relative: float = 1e-13,
    note: str = "",
) -> Figure:
    """A figure in closed form, or True for what must hold: equal but for float64's rounding.

    The tolerance is `relative` to the largest number shown, or to 1 where that is 0, or `within`.
    """
    if within is None:
        within = relative * (max((abs(x) for x in _flat(shown)), default=0.0) or 1.0)
    return Figure(name, _plain(shown), _plain(computed), within, WORKED, note)


class Example(NamedTuple):
    """A worked example: `run()` computes its figures.

    number    deck and place in it: "3.2"
    title     what it shows
    misprints  what the lecture misprints in it
    """

    number: str
    title: str
    misprints: tuple[str, ...]
    figures: Callable[[], Iterable[Figure]]

    @property
    def place(self) -> tuple[int, int]:
        """Its deck, and its place there."""
        deck, _, place = self.number.partition(".")
        return int(deck), int(place)

    @property
    def deck(self) -> int:
        """The number of its deck."""
        return self.place[0]

    def run(self) -> list[Figure]:
        """Compute it."""
        return list(self.figures())


ENTERED: dict[str, Example] = {}

Figures = Callable[[], Iterable[Figure]]


def example(number: str, title: str, *misprints: str) -> Callable[[Figures], Figures]:
    """Enter a function that yields figures as the example of that number."""

    def enter(figures: Figures) -> Figures:
        if number in ENTERED:
            raise ValueError(f"example {number} is there twice")
        ENTERED[number] = Example(number, title, misprints, figures)
        return figures

    return enter


def real(values: Any, *, requires_grad: bool = False) -> Tensor:
    """Numbers as a float64 tensor: the lectures compute with many digits."""
    return asarray(values, dtype="float64", requires_grad=requires_grad)
