"""Writing columns to CSV, TSV, Parquet and NPZ files, whole or not at all."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from gradnet.data.arrow import require
from gradnet.errors import DataError

Columns = Mapping[str, NDArray[Any]]


def write_text(stream: TextIO, columns: Columns, delimiter: str = ",") -> None:
    """Columns of shape (n,) as CSV with a header line; floats with nine significant digits."""
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    writer.writerow(columns)
    cells = [
        [f"{value:.9g}" for value in values.tolist()]
        if values.dtype.kind == "f"
        else values.tolist()
        for values in columns.values()
    ]
    writer.writerows(zip(*cells, strict=True))


def write(path: str | os.PathLike[str], columns: Columns) -> None:
    """Columns of shape (n,) to a file whose suffix says how: .csv, .tsv, .parquet or .npz.

    A file of that name is replaced once the new one is complete. Raises DataError for another
    suffix and where the file cannot be written, ImportError where pyarrow is missing for Parquet.
    """
    target = Path(path)
    save = writer(target)
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise DataError(f"{target}: cannot be written ({error.strerror or error})") from error
    os.close(handle)
    temporary = Path(name)
    try:
        save(temporary, columns)
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # temporary files are made for their owner's eyes only
        temporary.replace(target)
    except OSError as error:
        raise DataError(f"{target}: cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def writer(path: Path) -> Callable[[Path, Columns], None]:
    """What writes files of this name's suffix.

    Raises DataError for another suffix, ImportError where pyarrow is missing for Parquet.
    """
    writers = {".csv": _csv, ".tsv": _tsv, ".parquet": _parquet, ".npz": _npz}
    suffix = path.suffix.lower()
    if suffix not in writers:
        raise DataError(
            f"{path}: files named {suffix or 'without a suffix'} cannot be written "
            f"(expected {', '.join(writers)})"
        )
    if suffix == ".parquet":
        require("pyarrow", f"writing {path.name}")
    return writers[suffix]


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
