"""Folders of IDX files, MNIST's format, plain or gzipped.

A file is a magic number (two zero bytes, the type of its cells, the number of axes), one 32-bit
size per axis and the cells, all big-endian (LeCun, Cortes, Burges: the MNIST database).
"""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradnet.data.files import read_bytes
from gradnet.data.table import Column, Images, listed
from gradnet.errors import DataError

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_NAME = re.compile(r"(.*?)(train|t10k|test)-(images|labels)[-.]idx\d-\w+?(\.gz)?", re.IGNORECASE)


def read_idx(path: Path) -> NDArray[Any]:
    """The array in one IDX file; raises DataError for a damaged one."""
    data = read_bytes(path)
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path}: the gzip file is damaged or cut short ({error})") from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES:
        raise DataError(
            f"{path}: not an IDX file: it starts with {data[:4].hex(' ') or 'nothing'}, "
            "expected 00 00, a type and the number of axes"
        )
    dtype = np.dtype(_TYPES[data[2]])
    axes = data[3]
    start = 4 + 4 * axes
    if len(data) < start:
        raise DataError(f"{path}: cut short in its header")
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", axes, 4))
    expected = start + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if len(data) != expected:
        raise DataError(
            f"{path}: holds {len(data):,} bytes, but its header, shape {shape}, asks for "
            f"{expected:,}: {'cut short' if len(data) < expected else 'too long'}"
        )
    array = np.frombuffer(data, dtype, offset=start).reshape(shape)
    return array.astype(dtype.newbyteorder("="))


def read_folder(folder: Path) -> dict[str, tuple[Images, Column | None]]:
    """Parts "train" and "test" of a folder with files named as MNIST's; either may be absent.

    Labels are absent (None) only where the folder has images alone, for prediction.
    Raises DataError for a folder without images, with several sets, or with files that disagree.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: not a folder")
    found: dict[tuple[str, str], Path] = {}
    prefixes = set()
    # the .gz come first, so that a plain file replaces its own
    for path in sorted(folder.iterdir(), key=lambda path: (path.suffix != ".gz", path.name)):
        match = _NAME.fullmatch(path.name)
        if match:
            part = "train" if match[2].lower() == "train" else "test"
            found[part, match[3].lower()] = path
            prefixes.add(match[1])
    if not any(what == "images" for _, what in found):
        names = [path.name for path in sorted(folder.iterdir())]
        raise DataError(
            f"{folder}: no IDX images; expected train-images-idx3-ubyte and "
            f"train-labels-idx1-ubyte, plain or .gz (found {listed(names) or 'nothing'})"
        )
    if len(prefixes) > 1:
        raise DataError(f"{folder}: holds several sets, {listed(sorted(prefixes))}; keep one")
    return {
        part: _part(found[part, "images"], found.get((part, "labels")))
        for part in ("train", "test")
        if (part, "images") in found
    }


def _part(images_path: Path, labels_path: Path | None) -> tuple[Images, Column | None]:
    images = read_idx(images_path)
    if images.ndim not in (3, 4) or not len(images):
        raise DataError(
            f"{images_path}: shape {images.shape}; expected (images, height, width) with images > 0"
        )
    if labels_path is None:
        return Images(images), None
    labels = read_idx(labels_path)
    if labels.shape != images.shape[:1]:
        raise DataError(
            f"{images_path.name} has {len(images):,} images, but {labels_path.name} has labels of "
            f"shape {labels.shape}"
        )
    return Images(images), Column("label", labels.astype(np.float64))
