"""Tables on disk, read in chunks of rows: Parquet row groups and memory-mapped NPZ arrays."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gradnet.data import arrays
from gradnet.data.arrow import from_arrow, require
from gradnet.data.files import open_parquet
from gradnet.data.table import Column, Features, Images, Kind, listed
from gradnet.errors import DataError

CELLS = 4_000_000
"""Cells of one chunk at most."""
ROWS = 65_536
"""Rows of one chunk at most."""


class Chunk(NamedTuple):
    """Consecutive rows: the number of the first, and their columns or images and target."""

    start: int
    features: Features
    target: Column | None


class Chunks(Protocol):
    """A data set that is read block by block, in any order of blocks."""

    name: str
    sizes: tuple[int, ...]

    @property
    def empty(self) -> Features:
        """The features of no rows: which columns there are, or the images' shape and dtype."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that can be the target."""

    def read(self, block: int, target: str | None) -> Iterator[Chunk]:
        """The chunks of one block, in order."""


class ParquetChunks:
    """A Parquet file; its blocks are the row groups."""

    def __init__(
        self,
        path: Path,
        kinds: Mapping[str, Kind | None] | None,
        drop: Collection[str],
        notes: list[str],
    ) -> None:
        self.name = path.name
        self._path = path
        with open_parquet(path) as file:
            groups = file.metadata
            self.sizes = tuple(groups.row_group(g).num_rows for g in range(groups.num_row_groups))
            schema = file.schema_arrow
        table = from_arrow(
            schema.empty_table(), source=self.name, kinds=kinds, drop=drop, words=(), notes=notes
        )
        self._empty = table
        self._kinds = {column.name: column.kind for column in table}
        self._columns = [name for name in schema.names if name.strip() in self._kinds]
        self._rows = max(1, min(ROWS, CELLS // max(1, len(self._columns))))

    @property
    def empty(self) -> Features:
        return self._empty

    @property
    def columns(self) -> tuple[str, ...]:
        return self._empty.names

    def read(self, block: int, target: str | None) -> Iterator[Chunk]:
        arrow = require("pyarrow", f"reading {self.name}")
        start = sum(self.sizes[:block])
        with open_parquet(self._path) as file:
            batches = file.iter_batches(self._rows, row_groups=[block], columns=self._columns)
            for batch in batches:
                table = from_arrow(
                    arrow.Table.from_batches([batch]),
                    source=self.name,
                    kinds=self._kinds,
                    drop=(),
                    words=(),
                    notes=[],
                    start=start,
                )
                if target is None:
                    yield Chunk(start, table, None)
                else:
                    yield Chunk(start, table.without(target), table[target])
                start += len(table)


class ArrayChunks:
    """Arrays X and y of an uncompressed NPZ file, mapped into memory."""

    def __init__(self, path: Path, part: str, drop: Collection[str]) -> None:
        self.name = path.name
        self._path = path
        self._drop = drop
        found = mapped(path)
        parts = arrays.members(path, list(found))
        self._x_name, self._y_name = parts[part]
        self._x = found[self._x_name]
        self._y = None if self._y_name is None else found[self._y_name]
        arrays.features(path, self._x_name, self._x[:1])
        if self._y is not None:
            arrays.labels(path, self._y_name, self._y, len(self._x))
        width = int(np.prod(self._x.shape[1:]))
        rows = max(1, min(ROWS, CELLS // max(1, width)))
        count = len(self._x)
        self.sizes = tuple(min(rows, count - start) for start in range(0, count, rows))
        self._block = rows

    @property
    def empty(self) -> Features:
        return self._features(self._x[:1]).take(np.arange(0))

    @property
    def columns(self) -> tuple[str, ...]:
        return () if self._y is None else (arrays.TARGET,)

    def read(self, block: int, target: str | None) -> Iterator[Chunk]:
        start = block * self._block
        x = self._x[start : start + self._block]
        column = None
        if target is not None and self._y is not None:
            y = np.asarray(self._y[start : start + self._block])
            column = arrays.labels(self._path, self._y_name, y, len(x))
            assert column is not None
            column = replace(column, start=start)
        yield Chunk(start, self._features(x, start), column)

    def _features(self, x: NDArray[Any], start: int = 0) -> Features:
        features = arrays.features(self._path, self._x_name, np.asarray(x), start)
        if self._drop:
            if isinstance(features, Images):
                raise DataError(f"{self.name}: images have no columns to drop")
            features = features.without(*self._drop)
        return features


def mapped(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an NPZ file, mapped from the disk read-only instead of read.

    Raises DataError for a compressed file and for arrays of Python objects.
    """
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            return {
                info.filename.removesuffix(".npy"): _member(path, file, info)
                for info in archive.infolist()
            }
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not a readable NPZ file ({error})") from error


def _member(path: Path, file: Any, info: zipfile.ZipInfo) -> NDArray[Any]:
    name = info.filename.removesuffix(".npy")
    if info.compress_type != zipfile.ZIP_STORED:
        raise DataError(
            f"{path}: array {name} is compressed, and so cannot be read in parts; "
            "save the file with numpy.savez"
        )
    file.seek(info.header_offset + 26)  # the lengths of name and extra field end its local header
    lengths = file.read(4)
    skipped = int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
    file.seek(info.header_offset + 30 + skipped)
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    if dtype.hasobject:
        raise DataError(
            f"{path}: {name} holds Python objects, which are not unpickled; "
            "save it as an array of numbers or text"
        )
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.memmap(
        path, dtype, mode="r", offset=file.tell(), shape=shape, order="F" if fortran else "C"
    )


def open_chunks(
    path: Path,
    *,
    part: str,
    kinds: Mapping[str, Kind | None] | None,
    drop: Collection[str],
    notes: list[str],
) -> Chunks:
    """A Parquet or NPZ file in chunks; raises DataError for other files and empty ones."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    suffix = path.suffix.lower()
    chunks: Chunks
    if suffix == ".parquet":
        chunks = ParquetChunks(path, kinds, drop, notes)
    elif suffix == ".npz":
        chunks = ArrayChunks(path, part, drop)
    else:
        raise DataError(
            f"{path}: only {listed(['.parquet', '.npz'])} files are read in parts; "
            "write the table as Parquet"
        )
    if not sum(chunks.sizes):
        raise DataError(f"{path}: the table has no rows")
    return chunks
