"""Columns, tables and images in memory: what every reader returns and every encoder takes."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradnet.errors import DataError

Kind = Literal["number", "category"]
Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")

log = logging.getLogger("gradnet.data")


class Remarks(list[str]):
    """Remarks for a caller who looks at them: `note` does not log them."""


def note(notes: list[str], text: str, level: int = logging.WARNING) -> None:
    """Keep a remark about the data for the caller, and log it unless they are `Remarks`; once."""
    if text in notes:
        return
    notes.append(text)
    if not isinstance(notes, Remarks):
        log.log(level, text)


def listed(names: Iterable[object], most: int = 5) -> str:
    """Names in quotes, cut after `most`: 'a', 'b' and 3 more."""
    quoted = [repr(str(name)) for name in names]
    if len(quoted) <= most:
        return ", ".join(quoted)
    return f"{', '.join(quoted[:most])} and {len(quoted) - most} more"


def counted(count: int, noun: str) -> str:
    """A count with its noun: 1 row, 2 rows, 3 categories."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def number_text(value: float) -> str:
    """A number as a category is written: whole numbers without a decimal point."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


@dataclass(frozen=True)
class Column:
    """One named column: numbers, or codes into sorted categories.

    Numbers are float64 with NaN where missing; codes are int32 with -1 where missing. `start` is
    the place of the first cell in its file, for messages.
    Raises DataError for an infinite number, naming column and row.
    """

    name: str
    values: NDArray[Any]
    categories: tuple[str, ...] | None = None
    start: int = 0

    def __post_init__(self) -> None:
        if self.categories is None:
            infinite = np.flatnonzero(np.isinf(self.values))
            if len(infinite):
                raise DataError(
                    f"column {self.name!r}, row {self.start + infinite[0] + 1}: "
                    f"{self.values[infinite[0]]} is not a finite number "
                    f"({counted(len(infinite), 'such cell')}); leave unknown cells empty"
                )

    @property
    def kind(self) -> Kind:
        """Whether the cells are numbers or categories."""
        return "number" if self.categories is None else "category"

    @property
    def missing(self) -> NDArray[np.bool_]:
        """True where the cell is empty, shape (n,)."""
        return np.isnan(self.values) if self.categories is None else self.values < 0

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: NDArray[Any]) -> Column:
        """The cells at these rows, in this order."""
        return Column(self.name, self.values[rows], self.categories)

    def cell(self, row: int) -> str:
        """The cell at a row as text; empty where missing."""
        if self.missing[row]:
            return ""
        if self.categories is None:
            return number_text(self.values[row])
        return self.categories[int(self.values[row])]

    def as_category(self) -> Column:
        """The same cells as categories: whole numbers become '1', others their shortest form."""
        if self.categories is not None:
            return self
        distinct, codes = np.unique(self.values, return_inverse=True)
        distinct = distinct[~np.isnan(distinct)]
        codes = np.where(np.isnan(self.values), -1, codes).astype(np.int32)
        texts = [number_text(value) for value in distinct]
        return from_codes(self.name, codes, texts, self.start)

    def as_number(self, expected: str = "a number") -> Column:
        """The same cells as numbers, where every category is written as one.

        Raises DataError for any other text, naming column and row.
        """
        if self.categories is None:
            return self
        texts = [NUMBER.fullmatch(text) is None for text in self.categories]
        if any(texts):
            row = int(np.flatnonzero(np.array([*texts, False])[self.values])[0])
            place = f"column {self.name!r}, row {self.start + row + 1}"
            raise DataError(f"{place}: {self.cell(row)!r} is not {expected}")
        numbers = np.array([*map(float, self.categories), np.nan])
        return Column(self.name, numbers[self.values], start=self.start)


def from_codes(name: str, codes: NDArray[Any], categories: Sequence[str], start: int = 0) -> Column:
    """A category column from codes into unsorted or repeated categories; -1 stays missing."""
    used = np.zeros(len(categories) + 1, dtype=bool)
    used[codes] = True
    names = sorted({text for text, present in zip(categories, used[:-1], strict=True) if present})
    if {text.lower() for text in names} <= {"true", "false"}:
        categories = [text.lower() for text in categories]
        names = sorted({text.lower() for text in names})
    place = {text: code for code, text in enumerate(names)}
    mapping = np.array([place.get(text, -1) for text in categories] + [-1], dtype=np.int32)
    return Column(name, mapping[codes], tuple(names), start)


def places(categories: Sequence[str], texts: Iterable[str], unknown: int) -> list[int]:
    """Where each of some texts stands among categories, or `unknown`; true and false however spelt.

    Those are in lower case in a column of nothing else, and as they were written among others: a
    part of a column may be spelt otherwise than the whole.
    """
    place = {_spelt(text): code for code, text in reversed([*enumerate(categories)])}
    place |= {text: code for code, text in enumerate(categories)}
    return [place.get(text, place.get(_spelt(text), unknown)) for text in texts]


def _spelt(text: str) -> str:
    lower = text.lower()
    return lower if lower in ("true", "false") else text


def from_values(name: str, values: ArrayLike) -> Column:
    """A column from a one-dimensional array or list of numbers, booleans or text.

    NaN, None and empty text are missing. Raises DataError for other dtypes and shapes.
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise DataError(f"column {name!r} must have shape (n,), not {array.shape}")
    if array.dtype.kind in "iuf":
        return Column(name, array.astype(np.float64))
    if array.dtype.kind == "b":
        return from_codes(name, array.astype(np.int32), ("false", "true"))
    if array.dtype.kind == "O" and all(v is None or isinstance(v, str) for v in array):
        array = np.array([v or "" for v in array], dtype=np.str_)
    if array.dtype.kind == "U":
        distinct, codes = np.unique(array, return_inverse=True)
        texts = [str(text) for text in distinct]
        empty = np.array([text == "" for text in texts], dtype=bool)
        return from_codes(name, np.where(empty[codes], -1, codes).astype(np.int32), texts)
    raise DataError(f"column {name!r} has dtype {array.dtype}; expected numbers, booleans or text")


class Table:
    """Named columns of one length.

    Raises DataError for columns of different lengths or with one name.
    """

    def __init__(self, columns: Iterable[Column], rows: int | None = None) -> None:
        self._columns: dict[str, Column] = {}
        for column in columns:
            if column.name in self._columns:
                raise DataError(f"two columns are named {column.name!r}; rename one of them")
            self._columns[column.name] = column
        lengths = {name: len(column) for name, column in self._columns.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f"columns have different lengths: {lengths}")
        self.rows = rows if rows is not None else next(iter(lengths.values()), 0)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, ArrayLike]) -> Table:
        """A table from named one-dimensional arrays or lists."""
        return cls(from_values(name, values) for name, values in arrays.items())

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(self._columns)

    def __len__(self) -> int:
        return self.rows

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __getitem__(self, name: str) -> Column:
        return self._columns[name]

    def __iter__(self) -> Iterator[Column]:
        return iter(self._columns.values())

    def take(self, rows: NDArray[Any]) -> Table:
        """The table of these rows, in this order."""
        return Table((column.take(rows) for column in self), rows=len(rows))

    def without(self, *names: str) -> Table:
        """The table without these columns."""
        return Table((column for column in self if column.name not in names), rows=self.rows)

    def __repr__(self) -> str:
        return f"Table({counted(self.rows, 'row')}: {listed(self.names)})"


@dataclass(frozen=True)
class Images:
    """Images of one size: pixels of shape (n, height, width) or (n, height, width, channels)."""

    pixels: NDArray[Any]

    def __post_init__(self) -> None:
        if self.pixels.ndim not in (3, 4) or self.pixels.dtype.kind not in "uif":
            raise DataError(
                f"images must be numbers of shape (n, height, width) or (n, height, width, "
                f"channels), not {self.pixels.dtype} of shape {self.pixels.shape}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image."""
        return self.pixels.shape[1:]

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, rows: NDArray[Any]) -> Images:
        """The images at these places, in this order."""
        return Images(self.pixels[rows])


Features = Table | Images
