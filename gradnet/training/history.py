"""History: what a training run measured, epoch by epoch."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from typing import Any

from gradnet import dtypes, ops

_SHOWN = 10


class History:
    """The curves of a run: one row per epoch, one column per measured quantity.

    `history["val_loss"]` is the column as a plain float64 array with one value per epoch, NaN
    where it was not measured. Epochs count from 1. `best_epoch` is the epoch whose weights were
    best by `monitor`, or None before the first; `notes` says in words what happened. `captured`
    is how many steps were replays of a recorded one (`gradnet.capture`), 0 where none was.
    """

    def __init__(self) -> None:
        self._columns: dict[str, list[float]] = {"epoch": []}
        self.notes: list[str] = []
        self.monitor: str | None = None
        self.best_epoch: int | None = None
        self.interrupted = False
        self.captured = 0

    def append(self, row: Mapping[str, float]) -> None:
        """Add the measurements of the next epoch."""
        count = self.epochs
        for name in row:
            if name not in self._columns:
                self._columns[name] = [math.nan] * count
        for name, values in self._columns.items():
            values.append(count + 1 if name == "epoch" else float(row.get(name, math.nan)))

    @property
    def epochs(self) -> int:
        """How many epochs have been run."""
        return len(self._columns["epoch"])

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of all columns, the epoch's number first."""
        return tuple(self._columns)

    def __getitem__(self, name: str) -> Any:
        if name not in self._columns:
            raise KeyError(
                f"the history has no column {name!r}{close(name, self._columns)}; "
                f"it has {', '.join(self._columns)}"
            )
        return ops.asarray(self._columns[name], dtype=dtypes.float64, device="cpu").numpy()

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return self.epochs

    def keys(self) -> tuple[str, ...]:
        """The names of all columns, so that `dict(history)` holds the arrays."""
        return self.columns

    def row(self, epoch: int) -> dict[str, float]:
        """The measurements of one epoch, counted from 1 (-1 is the last).

        Raises IndexError for an epoch that was not run.
        """
        if not (1 <= epoch <= self.epochs or -self.epochs <= epoch <= -1):
            raise IndexError(f"the history has epochs 1 ... {self.epochs}, not {epoch}")
        place = epoch - 1 if epoch > 0 else epoch
        return {name: values[place] for name, values in self._columns.items()}

    def to_dict(self) -> dict[str, Any]:
        """Columns as lists, and `best_epoch`, `monitor`, `interrupted`, `notes`: fit for JSON."""
        return {
            "columns": {name: list(values) for name, values in self._columns.items()},
            "best_epoch": self.best_epoch,
            "monitor": self.monitor,
            "interrupted": self.interrupted,
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> History:
        """The history that `to_dict` described."""
        history = cls()
        history._columns = {name: list(v) for name, v in content["columns"].items()}
        history.best_epoch = content["best_epoch"]
        history.monitor = content["monitor"]
        history.interrupted = content["interrupted"]
        history.notes = list(content["notes"])
        return history

    def __repr__(self) -> str:
        if not self.epochs:
            return "History(no epochs)"
        half = _SHOWN // 2
        epochs = range(1, self.epochs + 1)
        shown = [i for i in epochs if self.epochs <= _SHOWN or not half < i <= self.epochs - half]
        table = [list(self._columns)]
        for epoch in shown:
            table.append([_text(name, value) for name, value in self.row(epoch).items()])
        widths = [max(len(row[j]) for row in table) for j in range(len(table[0]))]
        lines = ["  ".join(t.rjust(w) for t, w in zip(row, widths, strict=True)) for row in table]
        for i, epoch in enumerate(shown, start=1):
            if epoch == self.best_epoch:
                lines[i] += "  best"
        if len(shown) < self.epochs:
            lines.insert(half + 1, "...".rjust(widths[0]))
        return "\n".join([*lines, *self.notes])


def _text(name: str, value: float) -> str:
    """A value as people read it in a table."""
    if math.isnan(value):
        return "-"
    if name in ("epoch", "samples_per_second"):
        return f"{value:.0f}"
    return f"{value:.4g}"


def close(name: Any, known: Any) -> str:
    """ " (did you mean ...?)" for the close matches of a name among known ones, else nothing."""
    found = difflib.get_close_matches(str(name), [str(k) for k in known], n=2, cutoff=0.6)
    return f" (did you mean {' or '.join(repr(k) for k in found)}?)" if found else ""
