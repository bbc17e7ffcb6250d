"""Columns written to files: what is written reads back, and nothing is left half done."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

from gradnet.errors import DataError
from gradnet.io.columns import save_columns, write_text

COLUMNS = {
    "prediction": np.array(["No", 'say "Yes", or', "No"]),
    "value": np.array([0.1, 452600.123456789, -1e-30]),
    "score": np.array([0.1, 0.25, 1.0], dtype=np.float32),
}


def test_text_is_quoted_and_floats_are_short() -> None:
    stream = io.StringIO()
    write_text(stream, COLUMNS)
    assert stream.getvalue().splitlines() == [
        "prediction,value,score",
        "No,0.1,0.100000001",
        '"say ""Yes"", or",452600.123,0.25',
        "No,-1e-30,1",
    ]


def test_csv_and_tsv(tmp_path: Path) -> None:
    save_columns(COLUMNS, tmp_path / "p.csv")
    save_columns(COLUMNS, tmp_path / "p.tsv")
    assert (tmp_path / "p.csv").read_text("utf-8").startswith("prediction,value,score\nNo,0.1,")
    assert (tmp_path / "p.tsv").read_text("utf-8").startswith("prediction\tvalue\tscore\nNo\t0.1")


def test_npz_and_parquet_keep_every_bit(tmp_path: Path) -> None:
    save_columns(COLUMNS, tmp_path / "p.npz")
    save_columns(COLUMNS, tmp_path / "p.PARQUET")
    table = parquet.read_table(tmp_path / "p.PARQUET")
    with np.load(tmp_path / "p.npz", allow_pickle=False) as file:
        for name, column in COLUMNS.items():
            np.testing.assert_array_equal(file[name], column)
            assert file[name].dtype == column.dtype
            assert table[name].to_pylist() == column.tolist()


def test_a_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("old")
    save_columns({"a": np.array([1])}, path)
    assert path.read_text("utf-8") == "a\n1\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["p.xlsx", "p", "p.csv.gz"])
def test_other_suffixes_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be written \(expected \.csv, \.tsv, \.parquet"):
        save_columns(COLUMNS, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    uneven = {"a": np.arange(2), "b": np.arange(3)}
    with pytest.raises(ValueError, match="zip"):
        save_columns(uneven, tmp_path / "p.csv")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="cannot be written"):
        save_columns(COLUMNS, tmp_path / "absent" / "p.csv")
