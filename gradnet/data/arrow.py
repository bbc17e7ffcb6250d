"""From Arrow's tables to ours: CSV, TSV and Parquet files go through here."""

from __future__ import annotations

import importlib
import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from gradnet.data.table import (
    NUMBER,
    Column,
    Kind,
    Table,
    counted,
    from_codes,
    listed,
    note,
)
from gradnet.errors import DataError

_MONTHS = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
DATE = re.compile(
    r"((19|20)\d\d([-/.])\d{1,2}(\3\d{1,2})?|\d{1,2}([-/.])\d{1,2}\5(\d{2}|\d{4})"
    rf"|{_MONTHS}[ .-]+(\d{{1,2}},?[ -]+)?\d{{4}}|\d{{1,2}}[ .-]+{_MONTHS}[ .-]+\d{{2,4}})"
    r"([ T]\d{1,2}:\d{2}.*)?",
    re.IGNORECASE,
)
_DECORATION = re.compile(r"[\s$€£%,']")
MOSTLY = 0.9
_INDEX_NAMES = re.compile(r"|Unnamed: 0|__index_level_\d+__")


def require(module: str, purpose: str) -> Any:
    """Import a module of the `train` extra; raises ImportError with the remedy."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = "scikit-learn" if module == "sklearn" else module.partition(".")[0]
        raise ImportError(
            f'{purpose} needs {package}: run pip install ".[train]" in the checkout of gradnet'
        ) from error


def from_arrow(
    data: Any,
    *,
    source: str,
    kinds: Mapping[str, Kind | None] | None,
    drop: Collection[str],
    words: Collection[str],
    notes: list[str],
    start: int = 0,
) -> Table:
    """A pyarrow.Table as a Table of numbers and categories.

    With `kinds`, only the columns named there are read, as those kinds where that is possible;
    a kind of None is for a column that is known, but not read.
    Text that stands in `words` is missing. An unnamed column that numbers the rows is dropped.
    Raises DataError for dates, nested values and repeated names.
    """
    names = [name.strip() for name in data.column_names]
    repeated = sorted({name for name in names if name and names.count(name) > 1})
    if repeated:
        raise DataError(
            f"{source}: more than one column is named {listed(repeated)}; rename them "
            "(or add a header line, if the first line is data)"
        )
    absent = [name for name in drop if name not in names]
    if absent:
        raise DataError(f"{source}: no column {listed(absent)} to drop (columns: {listed(names)})")
    columns = []
    for place, name in enumerate(names):
        if name in drop:
            continue
        if kinds is not None:
            kind = kinds.get(name)
            if kind is not None:
                columns.append(_column(name, data.column(place), source, kind, words, notes, start))
            continue
        if _INDEX_NAMES.fullmatch(name):
            if _numbers_rows(data.column(place)):
                what = "the unnamed column" if not name else f"the index column {name!r}"
                note(notes, f"{source}: {what} that numbers the rows is left out")
                continue
            name = name or f"column {place + 1}"
        columns.append(_column(name, data.column(place), source, None, words, notes, start))
    if kinds is not None:
        unused = [name for name in names if name and name not in kinds and name not in drop]
        if unused:
            note(notes, f"{source}: {counted(len(unused), 'column')} not used: {listed(unused)}")
    return Table(columns, rows=data.num_rows)


def _numbers_rows(cells: Any) -> bool:
    """Whether cells are whole numbers, each once."""
    pa = importlib.import_module("pyarrow")
    if not pa.types.is_integer(cells.type) or cells.null_count:
        return False
    return len(np.unique(cells.to_numpy())) == len(cells)


def _column(
    name: str,
    cells: Any,
    source: str,
    kind: Kind | None,
    words: Collection[str],
    notes: list[str],
    start: int,
) -> Column:
    types = importlib.import_module("pyarrow").types
    type_ = cells.type
    if types.is_dictionary(type_) and not _is_text(types, type_.value_type):
        cells = cells.cast(type_.value_type)
        type_ = cells.type
    if types.is_boolean(type_):
        codes = cells.cast("int32").fill_null(-1).to_numpy()
        return from_codes(name, codes, ("false", "true"), start)
    if types.is_integer(type_) or types.is_floating(type_) or types.is_decimal(type_):
        return Column(name, _numbers(cells), start=start)
    if types.is_null(type_):
        if kind == "category":
            return Column(name, np.full(len(cells), -1, dtype=np.int32), (), start)
        return Column(name, np.full(len(cells), np.nan), start=start)
    if types.is_temporal(type_):
        raise _dates(source, name, str(cells.drop_null()[0]) if len(cells.drop_null()) else "")
    if not _is_text(types, type_) and not types.is_dictionary(type_):
        raise DataError(
            f"{source}: column {name!r} holds {type_}; only numbers, text and booleans can be used"
        )
    return _text(name, cells, source, kind, words, notes, start)


def _is_text(types: Any, type_: Any) -> bool:
    return bool(
        types.is_string(type_) or types.is_large_string(type_) or types.is_string_view(type_)
    )


def _numbers(cells: Any) -> Any:
    pa = importlib.import_module("pyarrow")
    values = cells.cast(pa.float64(), safe=False).to_numpy()
    return np.array(values, dtype=np.float64)


def _text(
    name: str,
    cells: Any,
    source: str,
    kind: Kind | None,
    words: Collection[str],
    notes: list[str],
    start: int,
) -> Column:
    pa = importlib.import_module("pyarrow")
    if pa.types.is_string_view(cells.type):
        cells = cells.cast(pa.large_string())
    encoded = cells.dictionary_encode().unify_dictionaries()
    # Some libraries number their categories without a sign.
    parts = [chunk.indices.cast("int64").fill_null(-1).to_numpy() for chunk in encoded.chunks]
    codes = np.concatenate(parts) if parts else np.empty(0)
    found = encoded.chunk(0).dictionary.to_pylist() if parts else []
    texts = ["" if text is None else text.strip() for text in found]
    gaps = np.array([text == "" or text in words for text in texts] + [True], dtype=bool)
    codes = np.where(gaps[codes.astype(np.int64)], -1, codes).astype(np.int32)
    column = from_codes(name, codes, texts, start)
    assert column.categories is not None
    if kind is not None or not column.categories:
        return column
    numeric = [NUMBER.fullmatch(text) is not None for text in column.categories]
    if all(numeric):
        return column.as_number() if words else column
    if all(DATE.fullmatch(text) for text in column.categories):
        raise _dates(source, name, column.categories[0])
    if words:
        cells_numeric = np.array([*numeric, False])[column.values]
        share = cells_numeric.sum() / max(1, (column.values >= 0).sum())
        if share >= MOSTLY:
            row = int(np.flatnonzero(~cells_numeric & (column.values >= 0))[0])
            note(
                notes,
                f"{source}: column {name!r} is taken for text, because of row {row + 1}: "
                f"{column.cell(row)!r}; most cells are numbers: leave unknown cells empty",
            )
        elif all(NUMBER.fullmatch(_DECORATION.sub("", text)) for text in column.categories):
            note(
                notes,
                f"{source}: column {name!r} is taken for text, though it looks like numbers "
                f"({column.categories[0]!r}); write them plainly, such as 1234.5",
            )
    return column


def _dates(source: str, name: str, example: str) -> DataError:
    such = f" ({example})" if example else ""
    return DataError(
        f"{source}: column {name!r} holds dates or times{such}, which are not used as they are; "
        "replace it by numbers (year, month, days since a start) or remove it"
    )
