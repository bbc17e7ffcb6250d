"""Looking things up by name: one wording for all that is not found."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def unknown(kind: str, name: str, known: Iterable[str]) -> KeyError:
    """The error for a name that is none of the known ones: the close ones, else all of them."""
    choices = tuple(known)
    near = get_close_matches(name, choices)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(choices)}"
    return KeyError(f"no {kind} is called {name!r}: {hint}")
