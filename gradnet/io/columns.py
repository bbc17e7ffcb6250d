"""Columns written to CSV, TSV, Parquet and NPZ files, atomically."""

from __future__ import annotations

import csv
import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from gradnet.errors import DataError
from gradnet.io.files import replacing

Columns = Mapping[str, NDArray[Any]]


def save_columns(columns: Columns, path: str | os.PathLike[str]) -> None:
    """Write columns of shape (n,) to a file whose suffix says how: .csv, .tsv, .parquet or .npz.

    Raises DataError for another suffix and where the file cannot be written, ImportError where
    pyarrow is missing for Parquet.
    """
    save = writer(path)
    try:
        with replacing(path) as temporary:
            save(temporary, columns)
    except OSError as error:
        reason = error.strerror or f"there is no folder {Path(path).parent}"
        raise DataError(f"{path}: cannot be written ({reason})") from error


def writer(path: str | os.PathLike[str]) -> Callable[[Path, Columns], None]:
    """What writes files of this name's suffix; raises as `save_columns` does."""
    writers = {".csv": _csv, ".tsv": _tsv, ".parquet": _parquet, ".npz": _npz}
    suffix = Path(path).suffix.lower()
    if suffix not in writers:
        raise DataError(
            f"{path}: files named {suffix or 'without a suffix'} cannot be written "
            f"(expected {', '.join(writers)})"
        )
    if suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ImportError("Parquet files need pyarrow; install it with: pip install pyarrow")
    return writers[suffix]


def write_text(stream: TextIO, columns: Columns, delimiter: str = ",") -> None:
    """Columns as CSV with a header line; floats with nine significant digits."""
    table = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    table.writerow(columns)
    cells = [
        [f"{cell:.9g}" for cell in column.tolist()] if column.dtype.kind == "f" else column.tolist()
        for column in columns.values()
    ]
    table.writerows(zip(*cells, strict=True))


def _csv(path: Path, columns: Columns) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        write_text(file, columns)


def _tsv(path: Path, columns: Columns) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        write_text(file, columns, "\t")


def _parquet(path: Path, columns: Columns) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    parquet.write_table(pa.table(dict(columns)), path)


def _npz(path: Path, columns: Columns) -> None:
    with path.open("wb") as file:
        np.savez(file, **columns)  # type: ignore[arg-type]
