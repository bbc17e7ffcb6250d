"""Where data comes from: a built-in name, a file or a folder, read into features and target."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from gradnet.data.arrays import read_npz
from gradnet.data.builtin import BUILTIN
from gradnet.data.files import read_parquet, read_text
from gradnet.data.idx import read_folder
from gradnet.data.table import Column, Features, Kind, Table, listed
from gradnet.errors import DataError

SUFFIXES = (".csv", ".tsv", ".parquet", ".npz")


@dataclass(frozen=True)
class Source:
    """Data as read, before a target is chosen.

    `target` is None where it is still one of the columns of `features`, or absent. `test` is the
    official test part, where the data brings one.
    """

    name: str
    features: Features
    target: Column | None = None
    test: Source | None = None


def read(
    data: str | os.PathLike[str],
    *,
    kinds: Mapping[str, Kind | None] | None = None,
    drop: Collection[str] = (),
    notes: list[str],
) -> Source:
    """Read a built-in set, a .csv, .tsv, .parquet or .npz file, or a folder of IDX files.

    With `kinds`, only those columns of a table are read, as in `from_arrow`. Raises DataError for
    what is not there or cannot be used, ImportError where a package of the `train` extra is
    missing.
    """
    name = os.fspath(data)
    if not name.strip():
        raise DataError("no data was named; expected a file, a folder or a built-in set")
    if name in BUILTIN:
        features, target = BUILTIN[name]()
        source = Source(name, features, target)
    else:
        path = Path(name).expanduser()
        source = _read_path(path, name, kinds, drop, notes)
    if source.target is not None and drop:
        source = _dropped(source, drop)
    return source


def _read_path(
    path: Path,
    name: str,
    kinds: Mapping[str, Kind | None] | None,
    drop: Collection[str],
    notes: list[str],
) -> Source:
    if path.is_dir():
        return _parts(name, read_folder(path))
    if not path.exists():
        raise _absent(path, name)
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return Source(name, read_text(path, kinds=kinds, drop=drop, notes=notes))
    if suffix == ".parquet":
        return Source(name, read_parquet(path, kinds=kinds, drop=drop, notes=notes))
    if suffix == ".npz":
        return _parts(name, read_npz(path))
    remedy = "; decompress it first" if suffix in (".gz", ".zip", ".xz", ".bz2") else ""
    raise DataError(
        f"{path}: files named {suffix or 'without a suffix'} cannot be read{remedy} "
        f"(expected {', '.join(SUFFIXES)} or a folder of IDX files)"
    )


def _parts(name: str, parts: Mapping[str, tuple[Features, Column | None]]) -> Source:
    sources = {part: Source(name, *content) for part, content in parts.items()}
    if "train" not in sources:
        return sources["test"]
    train = sources["train"]
    return Source(name, train.features, train.target, sources.get("test"))


def _dropped(source: Source, drop: Collection[str]) -> Source:
    features = source.features
    if not isinstance(features, Table):
        raise DataError(f"{source.name}: images have no columns to drop ({listed(drop)})")
    absent = [name for name in drop if name not in features]
    if absent:
        raise DataError(
            f"{source.name}: no column {listed(absent)} to drop (columns: {listed(features.names)})"
        )
    test = None if source.test is None else _dropped(source.test, drop)
    return Source(source.name, features.without(*drop), source.target, test)


def _absent(path: Path, name: str) -> DataError:
    if path.suffix or os.sep in name:
        return DataError(f"{path}: no such file or folder")
    close = difflib.get_close_matches(name, BUILTIN, n=2, cutoff=0.7)
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
    return DataError(
        f"{name!r} is neither a file or folder nor a built-in set{hint} "
        f"(built-in: {', '.join(BUILTIN)})"
    )
