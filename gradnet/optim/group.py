"""A group of parameters, and the settings with which an optimizer updates them."""

from __future__ import annotations

from typing import Any

from gradnet.optim.flat import Flat
from gradnet.optim.settings import Settings, closest
from gradnet.tensor import Tensor


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

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "params":
            raise ValueError(
                f"{self.owner}: the parameters of a group stay as they are; use add_group for more"
            )
        if name not in self.rules:
            raise ValueError(f"{self.owner} has no setting {name!r}: {closest(name, self.rules)}")
        super().__setitem__(name, self.rules[name](self.owner, name, value))

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
