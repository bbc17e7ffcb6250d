"""What users give as a table, a data frame of any library or an array, as columns with kinds."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from gradnet.data.arrow import from_arrow, require
from gradnet.data.table import Column, Kind, Table, from_codes
from gradnet.errors import DataError


def is_frame(X: Any) -> bool:
    """Whether X is a data frame or an Arrow table: named columns, each of its own type."""
    return hasattr(X, "columns") or hasattr(X, "column_names") or hasattr(X, "__arrow_c_stream__")


def column_names(X: Any) -> list[str]:
    """The names of a frame's columns, as text."""
    names = X.column_names if hasattr(X, "column_names") else X.columns
    return [str(name) for name in names]


def from_frame(X: Any, kinds: Mapping[str, Kind] | None, notes: list[str]) -> Table:
    """A pandas or polars data frame, an Arrow table, or what gives an Arrow stream, as a Table.

    With `kinds`, columns are read as they were in training. Raises DataError for dates, nested
    values and columns that mix types, ImportError without pyarrow.
    """
    pa = require("pyarrow", "a data frame")
    try:
        if isinstance(X, pa.Table):
            data = X
        elif hasattr(X, "iloc"):  # pandas, whose index is no column
            data = pa.Table.from_pandas(X, preserve_index=False)
        elif hasattr(X, "to_arrow"):
            data = X.to_arrow()
        else:
            data = pa.table(X)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"the data frame has a column of more than one type, or of one that cannot be used: "
            f"{error}; make each column numbers, text or booleans"
        ) from error
    data = data.rename_columns([str(name) for name in data.column_names])
    words: tuple[str, ...] = ()
    return from_arrow(data, source="X", kinds=kinds, drop=(), words=words, notes=notes)


def from_array(X: Any, kinds: Mapping[str, Kind] | None) -> Table:
    """An array (n, k) as a Table of columns x0, x1, ...: numbers, unless cells hold text.

    A column of an array of objects is of numbers where all its cells are, of categories otherwise;
    None, NaN and pandas' NA are missing.
    """
    columns = []
    for place in range(X.shape[1]):
        name = f"x{place}"
        kind = None if kinds is None else kinds.get(name)
        columns.append(_column(name, X[:, place], kind))
    return Table(columns, rows=len(X))


def _column(name: str, cells: Any, kind: Kind | None) -> Column:
    if cells.dtype.kind in "iuf":
        return Column(name, cells.astype(np.float64))
    if cells.dtype.kind == "b":
        return from_codes(name, cells.astype(np.int32), ("false", "true"))
    if "pandas" in sys.modules:
        # Its NA is neither a number nor equal or unequal to anything.
        unknown = sys.modules["pandas"].NA
        cells = np.array([None if cell is unknown else cell for cell in cells], cells.dtype)
    if kind != "category":
        try:
            return Column(name, cells.astype(np.float64))
        except (TypeError, ValueError) as error:
            _refuse_others(name, cells)
            if kind == "number":
                raise DataError(f"column {name!r} was of numbers in training: {error}") from error
    _refuse_others(name, cells)
    missing = np.array([c is None or c != c or c == "" for c in cells], dtype=bool)
    texts = np.where(missing, "", cells).astype(np.str_)
    distinct, codes = np.unique(texts, return_inverse=True)
    codes = np.where(missing, -1, codes).astype(np.int32)
    return from_codes(name, codes, [str(text) for text in distinct])


def _refuse_others(name: str, cells: Any) -> None:
    for row, cell in enumerate(cells):
        if cell is not None and not isinstance(cell, str | bytes | float | int | np.generic):
            raise TypeError(
                f"column {name!r}, row {row}: argument must be a string or a number, not "
                f"{type(cell).__name__!r}"
            )
