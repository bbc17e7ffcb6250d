"""NPZ files: arrays X and y, or x_train, y_train, x_test and y_test as in Keras' mnist.npz."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradnet.data.table import Column, Features, Images, Table, from_values, listed
from gradnet.errors import DataError

TARGET = "y"


def read_npz(path: Path) -> dict[str, tuple[Features, Column | None]]:
    """Parts "train" and, where the file has one, "test"; y may be absent, for prediction.

    X is (n, k) numbers or booleans, columns x0, x1, …, or images (n, h, w) or (n, h, w, c);
    y is (n,) or (n, 1). Nothing is unpickled. Raises DataError for other arrays and files.
    """
    parts = {}
    with _opened(path) as file:
        for part, keys in members(path, list(file.files)).items():
            x = _member(path, file, keys[0])
            y = None if keys[1] is None else _member(path, file, keys[1])
            parts[part] = features(path, keys[0], x), labels(path, keys[1], y, len(x))
    return parts


def members(path: Path, names: list[str]) -> dict[str, tuple[str, str | None]]:
    """The names of (X, y) for each part, whatever their case; raises DataError without any."""
    found = {name.lower(): name for name in names}
    for train, test in ((("x", "y"), None), (("x_train", "y_train"), ("x_test", "y_test"))):
        if train[0] in found:
            parts = {"train": (found[train[0]], found.get(train[1]))}
            if test and test[0] in found:
                parts["test"] = (found[test[0]], found.get(test[1]))
            return parts
    raise DataError(
        f"{path}: expected arrays X and y, or x_train, y_train, x_test and y_test; "
        f"found {listed(names) or 'none'}"
    )


def features(path: Path, name: str, x: NDArray[Any], start: int = 0) -> Features:
    """An array X as a table or as images; raises DataError for other shapes and dtypes."""
    if x.dtype.kind not in "iufb":
        raise DataError(f"{path}: {name} has dtype {x.dtype}; expected numbers or booleans")
    if x.ndim not in (2, 3, 4):
        raise DataError(
            f"{path}: {name} has shape {x.shape}; expected (n, k), (n, height, width) or "
            "(n, height, width, channels)"
        )
    if 0 in x.shape:
        raise DataError(f"{path}: {name} is empty, shape {x.shape}")
    if x.ndim > 2:
        return Images(x.astype(np.uint8) if x.dtype.kind == "b" else x)
    return Table(
        Column(f"x{place}", x[:, place].astype(np.float64), start=start)
        for place in range(x.shape[1])
    )


def labels(path: Path, name: str | None, y: NDArray[Any] | None, rows: int) -> Column | None:
    """An array y as a column; raises DataError for shapes that do not go with X."""
    if y is None:
        return None
    if y.shape not in ((rows,), (rows, 1)):
        hint = "; use class numbers, argmax of the rows" if y.shape[:1] == (rows,) else ""
        raise DataError(f"{path}: {name} has shape {y.shape}; expected ({rows},){hint}")
    return from_values(TARGET, y.reshape(rows))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    # Opened here, because NumPy leaves a file open that turns out to be damaged.
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    with file:
        try:
            arrays = np.load(file, allow_pickle=False)
        except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: not a readable NPZ file ({error})") from error
        if not hasattr(arrays, "files"):
            raise DataError(f"{path}: a single array; save X and y with numpy.savez")
        with arrays:
            yield arrays


def _member(path: Path, file: Any, name: str) -> NDArray[Any]:
    try:
        array = file[name]
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        if "allow_pickle" in str(error):
            raise DataError(
                f"{path}: {name} holds Python objects, which are not unpickled; "
                "save it as an array of numbers or text"
            ) from error
        raise DataError(f"{path}: array {name} is damaged ({error})") from error
    if not isinstance(array, np.ndarray):  # the bytes of an entry that is in no format of NumPy's
        raise DataError(f"{path}: {name} is no array; save X and y with numpy.savez")
    return array
