"""A group of parameters, and the settings with which an optimizer updates them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradnet.optim.flat import Flat
from gradnet.optim.settings import Settings, closest
from gradnet.tensor import Tensor

Scalars = Callable[["Group", Sequence[float]], tuple[Any, ...]]

# Steps whose scalars are computed at a time, but not many times as many as are asked for.
_AHEAD = 1024


class Group(dict[str, Any]):
    """A group's settings by name, and its parameters under "params".

    Settings may be changed between steps. Raises ValueError for an unknown one and for a value
    it may not take.
    """

    def __init__(self, owner: str, rules: Settings, parameters: tuple[Tensor, ...]) -> None:
        super().__init__(params=parameters)
        self.owner = owner
        self.rules = rules
        self.flats: list[Flat] = []
        self._ahead: tuple[Any, ...] = ({}, 0, 0, ())

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "params":
            raise ValueError(
                f"{self.owner}: the parameters of a group stay as they are; use add_group for more"
            )
        if name not in self.rules:
            raise ValueError(f"{self.owner} has no setting {name!r}: {closest(name, self.rules)}")
        super().__setitem__(name, self.rules[name](self.owner, name, value))

    def ahead(self, first: float, count: int, scalars: Scalars) -> tuple[Any, ...]:
        """Each scalar for so many steps from the number `first` on: one, or a row.

        `scalars(group, steps)` computes them. That is done for more steps than these, and kept for
        as long as the settings stay: steps in a row are asked for again and again.
        """
        settings, start, length, rows = self._ahead
        if settings != self or not start <= first <= start + length - count:
            start, length = first, min(max(count, _AHEAD), 16 * count)
            rows = scalars(self, [start + i for i in range(length)])
            self._ahead = dict(self), start, length, rows
        place = int(first - start)
        return tuple([x if isinstance(x, int | float) else x[place : place + count] for x in rows])

    def initial(self, moment: str) -> float:
        """What a moment starts from: the setting "initial", if there is one, else 0."""
        start: float = self.get("initial", 0.0)
        return start

    def places(self) -> list[tuple[Flat, int]]:
        """Which buffers each parameter is in, and where."""
        where = {key: (flat, i) for flat in self.flats for key, i in flat.order.items()}
        return [where[id(parameter)] for parameter in self["params"]]

    def settings(self) -> dict[str, Any]:
        """The settings alone."""
        return {name: self[name] for name in self.rules}
