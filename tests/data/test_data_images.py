"""Folders of IDX files."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from gradnet import data
from gradnet.data.idx import read_idx

TYPES = {"u1": 8, "i1": 9, ">i2": 0x0B, ">i4": 0x0C, ">f4": 0x0D, ">f8": 0x0E}


def idx(array: np.ndarray, dtype: str = "u1") -> bytes:
    head = bytes([0, 0, TYPES[dtype], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(dtype).tobytes()


def write(folder: Path, part: str, images: np.ndarray, labels: np.ndarray, end: str = "") -> None:
    pack = gzip.compress if end else bytes
    (folder / f"{part}-images-idx3-ubyte{end}").write_bytes(pack(idx(images)))
    (folder / f"{part}-labels-idx1-ubyte{end}").write_bytes(pack(idx(labels)))


IMAGES = np.random.default_rng(0).integers(0, 256, (40, 3, 4)).astype(np.uint8)
LABELS = np.arange(40) % 4


@pytest.mark.parametrize("dtype", sorted(TYPES))
def test_cell_types(tmp_path: Path, dtype: str) -> None:
    array = np.array([[1, -2, 3], [4, 5, 126]]) if dtype != "u1" else np.array([[0, 255]])
    (tmp_path / "f").write_bytes(idx(array, dtype))
    found = read_idx(tmp_path / "f")
    assert np.array_equal(found, array)
    assert found.dtype.isnative


@pytest.mark.parametrize("end", ["", ".gz"])
def test_official_test_files_are_the_test_part(tmp_path: Path, end: str) -> None:
    write(tmp_path, "train", IMAGES, LABELS, end)
    write(tmp_path, "t10k", IMAGES[:8], LABELS[:8], end)
    dataset = data.load(tmp_path)
    parts = dataset.split(validation=0.2)
    assert parts.test is not None
    assert parts.validation is not None
    assert [len(p) for p in (parts.train, parts.validation, parts.test)] == [32, 8, 8]
    assert parts.test.y.tolist() == LABELS[:8].tolist()  # type: ignore[union-attr]
    assert parts.preprocessing.shape == (3, 4)
    assert dataset.notes[-1] == f"{tmp_path}: its own test part has 8 rows"
    drawn = dataset.split(validation=0, test=0.5)
    assert [len(drawn.train), len(drawn.test)] == [20, 20]  # type: ignore[arg-type]
    assert dataset.split(test=0).test is None


def test_a_folder_with_training_files_alone_gives_a_fifth(tmp_path: Path) -> None:
    write(tmp_path, "train", IMAGES, LABELS)
    parts = data.load(tmp_path).split(validation=0)
    assert [len(parts.train), len(parts.test)] == [32, 8]  # type: ignore[arg-type]


def test_a_plain_file_goes_before_its_gz_and_names_may_vary(tmp_path: Path) -> None:
    write(tmp_path, "emnist-train", 255 - IMAGES, LABELS, ".gz")
    write(tmp_path, "emnist-train", IMAGES, LABELS)
    (tmp_path / "emnist-train-images-idx3-ubyte").rename(
        tmp_path / "emnist-train-images.idx3-ubyte"
    )
    dataset = data.load(tmp_path)
    assert isinstance(dataset.features, data.Images)
    assert np.array_equal(dataset.features.pixels, IMAGES)


def test_another_folder_as_test_part_and_for_prediction(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    write(tmp_path / "a", "train", IMAGES, LABELS)
    write(tmp_path / "b", "test", IMAGES[:5], LABELS[:5])
    parts = data.load(tmp_path / "a").split(validation=0, test=tmp_path / "b")
    assert np.array_equal(parts.test.X, parts.train.X[:5])  # type: ignore[union-attr]
    (tmp_path / "b" / "test-labels-idx1-ubyte").unlink()
    part = parts.preprocessing.read(tmp_path / "b")
    assert part.y is None
    assert np.array_equal(part.X, parts.train.X[:5])
    notes: list[str] = []
    write(tmp_path / "a", "t10k", IMAGES[:6], LABELS[:6])
    assert len(parts.preprocessing.read(tmp_path / "a", notes)) == 6
    assert notes == [f"{tmp_path / 'a'}: its test part, 6 rows, is read"]
