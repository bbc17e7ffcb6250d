"""The worked examples of the lectures, deck by deck, each beside what is computed here.

`gradnet lectures` prints them. A figure from a lecture is marked so; every other is the value in
closed form, worked out by hand.
"""

from __future__ import annotations

from gradnet.lectures import (
    activations_and_perceptrons,
    computational_graphs,
    deep_networks,
    optimisation,
    training_networks,
)
from gradnet.lectures.examples import DECKS, ENTERED, Example, Figure, lecture, worked

__all__ = ["DECKS", "EXAMPLES", "Example", "Figure", "find", "lecture", "worked"]

EXAMPLES = {one.number: one for one in sorted(ENTERED.values(), key=lambda one: one.place)}
"""All examples by number, in order."""


def find(name: str) -> list[Example]:
    """The examples of a deck ("3"), one of them ("3.2"), or "all". Raises KeyError for others."""
    if name == "all":
        return list(EXAMPLES.values())
    if name in EXAMPLES:
        return [EXAMPLES[name]]
    found = [one for one in EXAMPLES.values() if str(one.deck) == name]
    if not found:
        raise KeyError(
            f"there is no deck or example {name!r}; name one of {', '.join(map(str, DECKS))}, an "
            "example such as 3.2, or all"
        )
    return found
