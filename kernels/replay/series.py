"""The slots of several runs in a row, written with little Python for each of them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradnet import host
from gradnet.program.calls import Action

from . import machine


class Table:
    """A row of slots for each run: places of arrays, then the numbers of actions.

    What goes into the slots of arrays may be where an address lies: the addresses stand behind the
    numbers then. The memory is kept from series to series.

    address    where the slots of the first run are
    row_bytes  how far on those of the next one
    """

    def __init__(self, actions: Sequence[Action], arrays: int, kinds: str) -> None:
        self._actions, self._arrays, self._kinds = actions, arrays, kinds
        self._pack = struct.Struct(f"={kinds}").pack_into
        # Two actions of one owner, such as draws from one generator, take turns.
        owners = [id(getattr(action.several, "__self__", action)) for action in actions]
        self._joint = all(x.several for x in actions) and len({*owners}) == len(owners)
        self._room(0)

    def _room(self, count: int) -> None:
        arrays, behind = self._arrays, self._arrays + len(self._kinds)
        self._words: np.ndarray[Any, Any] = np.zeros((count, behind + arrays), np.uint64)
        self._turns = np.arange(count, dtype=np.uint64)
        # What is in all rows already: from series to series much stays as it is.
        self._at: list[tuple[int, int] | None] = [None] * arrays
        self._constants: dict[int, int | float] = {}
        self._floats = self._words.view(np.float64)
        self._bytes = self._words.reshape(-1).view(np.uint8).data
        self._places = machine.addressed(self._words, arrays, behind)
        self.address, self.row_bytes = self._words.ctypes.data, self._words.strides[0]

    def fill(
        self, places: Sequence[tuple[int, int]], count: int, advance: Callable[[], None]
    ) -> int:
        """Write the slots of up to so many runs, the first with the numbers that are there.

        Gives for how many: fewer where an action is stale.
        """
        if count > len(self._words):
            self._room(count)
        for i, found in enumerate(places):
            if self._at[i] != found:
                place, step = found
                self._places[:, i] = self._turns * np.uint64(step) + np.uint64(place)
                self._at[i] = found
        self._row(0)
        try:
            if self._joint and count > 1:
                self._columns(count)
            else:
                for i in range(1, count):
                    advance()
                    self._row(i)
        except host.Stale:
            return 1 if self._joint else i
        return count

    def _row(self, i: int) -> None:
        """The numbers that the actions have given last, for one run."""
        numbers = [x for action in self._actions for x in action.result or ()]
        self._pack(self._bytes, i * self.row_bytes + 8 * self._arrays, *numbers)

    def _columns(self, count: int) -> None:
        """The numbers of all runs but the first."""
        place = self._arrays
        for action in self._actions:
            assert action.several is not None
            for column in action.several(count - 1, *action.arguments) or ():
                rows = slice(1, count)
                if isinstance(column, int | float):
                    known = self._constants.get(place)
                    if known is column or (known == column and column):
                        place += 1
                        continue
                    self._constants[place], rows = column, slice(1, None)
                else:
                    self._constants.pop(place, None)
                if self._kinds[place - self._arrays] == "d":
                    self._floats[rows, place] = column
                else:
                    self._words[rows, place] = np.array(column, np.uint64)
                place += 1
