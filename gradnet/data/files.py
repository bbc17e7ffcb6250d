"""Reading tables from files: CSV, TSV and Parquet."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from gradnet.data.arrow import from_arrow, require
from gradnet.data.table import NUMBER, Kind, Table, listed, note
from gradnet.errors import DataError

MISSING_WORDS = (
    *("", "?", "NA", "N/A", "n/a", "<NA>", "#N/A", "NaN", "nan", "-nan", "-NaN"),
    *("NULL", "Null", "null", "None", "none", "missing", "Missing"),
)
"""Cells of a text file that count as missing."""


def read_bytes(path: Path) -> bytes:
    """A file's bytes; raises DataError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def read_text(
    path: Path,
    *,
    kinds: Mapping[str, Kind | None] | None = None,
    drop: Collection[str] = (),
    notes: list[str],
) -> Table:
    """A CSV or TSV file with a header line, in UTF-8.

    Cells in MISSING_WORDS are missing; cells are stripped of surrounding blanks; blank lines are
    no rows. Raises DataError for what is not such a file, naming the line.
    """
    require("pyarrow", f"reading {path.name}")
    import pyarrow as pa
    import pyarrow.csv as arrow_csv

    data = read_bytes(path)
    _check_encoding(path, data)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    header = _header(path, data, delimiter)
    if delimiter == "," and len(header) == 1:
        for other, called in ((";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")):
            if other in header[0]:
                delimiter, header = other, _header(path, data, other)
                note(notes, f"{path.name}: the columns are separated by {called}")
                break
    _check_header(path, header)
    texts = [raw for raw in header if kinds is not None and kinds.get(raw.strip()) == "category"]
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(data),
            # one block, so that a column's type comes from all of its cells
            read_options=arrow_csv.ReadOptions(
                use_threads=False, block_size=min(len(data) + 1, 2**31 - 1)
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                null_values=list(MISSING_WORDS),
                strings_can_be_null=True,
                true_values=[],  # keeps true and false as they are written
                false_values=[],
                column_types={raw: pa.string() for raw in texts},
            ),
        )
    except pa.ArrowInvalid as error:
        raise _parse_error(path, str(error)) from error
    if not table.num_rows:
        raise DataError(f"{path}: there is a header line, but no rows")
    _check_quotes(path, data, table)
    return from_arrow(
        table, source=path.name, kinds=kinds, drop=drop, words=MISSING_WORDS, notes=notes
    )


def read_parquet(
    path: Path,
    *,
    kinds: Mapping[str, Kind | None] | None = None,
    drop: Collection[str] = (),
    notes: list[str],
) -> Table:
    """A Parquet file; raises DataError for what is not one and for a table without rows."""
    with open_parquet(path) as file:
        data = file.read()
    if not data.num_rows:
        raise DataError(f"{path}: the table has no rows")
    return from_arrow(data, source=path.name, kinds=kinds, drop=drop, words=(), notes=notes)


def open_parquet(path: Path) -> Any:
    """A pyarrow.parquet.ParquetFile; raises DataError for what is not one."""
    parquet = require("pyarrow.parquet", f"reading {path.name}")
    import pyarrow as pa

    try:
        return parquet.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({_first_line(error)})") from error


def _check_encoding(path: Path, data: bytes) -> None:
    if not data or data.isspace():
        raise DataError(f"{path}: the file is empty")
    for first, called in ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"PK\x03\x04", "zip")):
        if data.startswith(first):
            raise DataError(f"{path}: the file is compressed ({called}); decompress it first")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path}: the text is in UTF-16; save it in UTF-8")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}: line {line} is not UTF-8 (byte 0x{data[error.start]:02x}); "
            "save the file in UTF-8"
        ) from error
    if b"\0" in data:
        raise DataError(f"{path}: this is a binary file, not text")


def _header(path: Path, data: bytes, delimiter: str) -> list[str]:
    lines = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline="")
    try:
        return next(row for row in csv.reader(lines, delimiter=delimiter) if row)
    except csv.Error as error:
        raise DataError(f"{path}: the header line cannot be read ({error})") from error


def _check_header(path: Path, header: list[str]) -> None:
    """Refuse a first line that is data: all numbers and not a count of columns, or any fraction."""
    numbers = [name.strip() for name in header if NUMBER.fullmatch(name.strip())]
    counts = {str(place) for place in range(len(header) + 1)}
    if any("." in name for name in numbers) or (
        len(numbers) == len(header) and not set(numbers) <= counts
    ):
        raise DataError(
            f"{path}: the first line looks like data, not like names of columns "
            f"({listed(header, 4)}); add a header line"
        )


def _check_quotes(path: Path, data: bytes, table: Any) -> None:
    """Refuse a quotation that runs on to the end of the file."""
    if data.count(b'"') % 2 == 0:
        return
    last = table.slice(table.num_rows - 1).to_pylist()[0]
    for name, cell in last.items():
        if isinstance(cell, str) and "\n" in cell:
            line = data.count(b"\n", 0, data.rindex(cell.encode()[:64])) + 1
            raise DataError(
                f"{path}: a quotation mark opens in line {line}, column {name!r}, "
                "and is never closed"
            )


def _parse_error(path: Path, message: str) -> DataError:
    ragged = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+): ?(.*)", message)
    if ragged:
        line, expected, got, text = ragged.groups()
        return DataError(
            f"{path}: line {line} has {got} cells, but the header has {expected} ({text[:60]!r})"
        )
    return DataError(f"{path}: cannot be read as a table ({message.splitlines()[0]})")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
