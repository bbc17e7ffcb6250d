"""Snapshot: where a run was some steps ago, to make those steps again and look at them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradnet.program.calls import mapped
from gradnet.tensor import Tensor

# Bytes from which on a copy goes to a file: as large as what it copies, it would be a fair part of
# all that the run holds.
_LARGE = 1 << 20
# The steps between snapshots, so that they cost little: copies in memory, and files.
EVERY, _EVERY_FILE = 32, 256


@dataclass(frozen=True)
class _Place:
    """Where a tensor was: its number among all."""

    number: int


class Snapshot:
    """A copy of a run's position: in memory, or if it is large in a temporary file.

    every  how many steps, at least, are to pass until the next one
    """

    def __init__(self, position: Mapping[str, Any]) -> None:
        tensors: list[Tensor] = []

        def taken(x: Any) -> Any:
            if not isinstance(x, Tensor):
                return x
            tensors.append(x)
            return _Place(len(tensors) - 1)

        self._position = mapped(position, taken)
        self.every = EVERY
        self._load: Callable[[], Sequence[Tensor]]
        if sum(x.nbytes for x in tensors) >= _LARGE:
            from gradnet.io.spill import Spill

            try:
                self._load = Spill(tensors).load
            except OSError:  # no room for it: memory has to do
                pass
            else:
                self.every = _EVERY_FILE
                return
        copies = [x.detach().copy() for x in tensors]
        self._load = lambda: copies

    def position(self) -> Any:
        """The position that was copied."""
        found = self._load()
        return mapped(self._position, lambda x: found[x.number] if isinstance(x, _Place) else x)
