"""Bad data: each with its error and message, so that a person knows what to do."""

from __future__ import annotations

import gzip
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gradnet import data
from gradnet.data.arrow import require
from gradnet.data.table import Column, Images, Table, from_values
from gradnet.errors import DataError

ROWS = "".join(f"{i},{i % 3},{i % 2}\n" for i in range(30))
GOOD = "a,b,y\n" + ROWS


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


IMAGES = idx(np.arange(4 * 2 * 3).reshape(4, 2, 3))
LABELS = idx(np.array([0, 1, 0, 1]))

TEXTS: list[tuple[str, bytes | str, str]] = [
    ("t.csv", "", "t.csv: the file is empty"),
    ("t.csv", "\n \n", "t.csv: the file is empty"),
    ("t.csv", "a,b\n", "there is a header line, but no rows"),
    ("t.csv", "a,b\n1,2\n3\n", "line 3 has 1 cells, but the header has 2 ('3')"),
    ("t.csv", "a,b\n1,2\n3,4\n5,6,7\n", "line 4 has 3 cells, but the header has 2 ('5,6,7')"),
    ("t.csv", "a,b,a\n1,2,3\n", "more than one column is named 'a'; rename them"),
    ("t.csv", "a,b\n1,\xe9\n".encode("latin-1"), "line 2 is not UTF-8 (byte 0xe9); save the file"),
    ("t.csv", "\xe9,b\n1,2\n".encode("latin-1"), "line 1 is not UTF-8"),
    ("t.csv", "a,b\n1,2\n".encode("utf-16"), "the text is in UTF-16; save it in UTF-8"),
    ("t.csv", b"a,b\n1,\0\n", "this is a binary file, not text"),
    ("t.csv", 'a,b\n1,x\n2,"y\n3,z\n', "a quotation mark opens in line 3, column 'b', and is nev"),
    ("t.csv", "5.1,3.5,setosa\n4.9,3.0,setosa\n", "the first line looks like data"),
    ("t.csv", "63,1\n67,0\n", "the first line looks like data, not like names of columns ('63'"),
    ("t.csv", "day,y\n2026-11-21,0\n2026-11-22,1\n", "column 'day' holds dates or times (2026-11"),
    ("t.csv", "day,y\n21/11/2026,0\n22/11/2026,1\n", "column 'day' holds dates or times (21/11/"),
    ("t.csv", "at,y\n2026-11-21 10:30:00,0\n2026-11-22 10:30:00,1\n", "replace it by numbers (ye"),
    ("t.csv", "at,y\n10:30,0\n10:31,1\n", "column 'at' holds dates or times (10:30"),
    ("t.csv", "a,y\n1,0\ninf,1\n", "column 'a', row 2: inf is not a finite number (1 such cell)"),
    ("t.csv", "a,y\n1,2.5\n3,-inf\n", "column 'y', row 2: -inf is not a finite number"),
    ("t.csv", "a,y\n1,x\n2,x\n", "target 'y' is 'x' in every row: there is nothing to learn"),
    ("t.csv", "a,y\n1,3\n2,3\n", "target 'y' is '3' in every row"),
    ("t.csv", "a,y\n1,\n2,NA\n", "target 'y' is missing in every row"),
    ("t.csv", "y\n1\n2\n", "there is no column besides the target 'y'"),
    ("t.csv", "a,y\n" + "".join(f"1,n{i}\n" for i in range(40)), "has 40 distinct values in 40 ro"),
    ("t.parquet", b"PAR1 but not really", "not a readable Parquet file"),
    ("t.npz", b"PK but not really", "not a readable NPZ file"),
    ("t.npz", pickle.dumps([1]), "not a readable NPZ file"),
    ("t.xlsx", b"x", "files named .xlsx cannot be read (expected .csv, .tsv, .parquet, .npz or"),
    ("t", b"x", "files named without a suffix cannot be read"),
    ("t.csv.gz", b"x", "files named .gz cannot be read; decompress it first"),
]


@pytest.mark.parametrize(("name", "content", "message"), TEXTS)
def test_files_that_cannot_be_used(
    tmp_path: Path, name: str, content: bytes | str, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        data.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (" ", "no data was named; expected a file, a folder or a built-in set"),
        ("digts", "neither a file or folder nor a built-in set; did you mean 'digits'?"),
        (
            "zzz",
            "nor a built-in set (built-in: digits, iris, wine, breast_cancer, diabetes, xor, s",
        ),
        ("nowhere/heart.csv", "nowhere/heart.csv: no such file or folder"),
        ("nothing.csv", "nothing.csv: no such file or folder"),
    ],
)
def test_names_of_nothing(name: str, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        data.load(name)


FOLDERS: list[tuple[dict[str, bytes], str]] = [
    ({}, "no IDX images; expected train-images-idx3-ubyte and train-labels-idx1-ubyte"),
    ({"train-labels-idx1-ubyte": LABELS}, "no IDX images"),
    ({"train-images-idx3-ubyte": IMAGES}, "there are images, but no labels to learn from"),
    ({"train-images-idx3-ubyte": b"\0\0"}, "not an IDX file: it starts with 00 00, expected"),
    ({"train-images-idx3-ubyte": b""}, "not an IDX file: it starts with nothing"),
    ({"train-images-idx3-ubyte": b"\x89PNG...."}, "not an IDX file: it starts with 89 50 4e 47"),
    ({"train-images-idx3-ubyte": IMAGES[:9]}, "cut short in its header"),
    ({"train-images-idx3-ubyte": IMAGES[:-1]}, "asks for 40: cut short"),
    ({"train-images-idx3-ubyte": IMAGES + b"x"}, "asks for 40: too long"),
    ({"train-images-idx3-ubyte": LABELS}, "expected (images, height, width) with images > 0"),
    ({"train-images-idx3-ubyte.gz": b"no gzip"}, "the gzip file is damaged or cut short (Not a g"),
    ({"train-images-idx3-ubyte.gz": gzip.compress(IMAGES)[:-9]}, "damaged or cut short (Compress"),
    (
        {"train-images-idx3-ubyte": IMAGES, "train-labels-idx1-ubyte": LABELS[:-1]},
        "train-labels-idx1-ubyte: holds 11 bytes, but its header, shape (4,), asks for 12",
    ),
    (
        {"train-images-idx3-ubyte": IMAGES, "train-labels-idx1-ubyte": idx(np.array([0, 1, 2]))},
        "has 4 images, but train-labels-idx1-ubyte has labels of shape (3,)",
    ),
    (
        {"a-train-images-idx3-ubyte": IMAGES, "b-train-images-idx3-ubyte": IMAGES},
        "holds several sets, 'a-', 'b-'; keep one",
    ),
    (
        {
            "train-images-idx3-ubyte": idx(np.zeros((4, 2, 2))),
            "train-labels-idx1-ubyte": LABELS,
        },
        "the pixels of all images are 0: there is nothing to learn",
    ),
]


@pytest.mark.parametrize(("files", "message"), FOLDERS)
def test_folders_that_cannot_be_used(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=re.escape(message)):
        data.load(tmp_path).split(validation=0, test=0)


ARRAYS: list[tuple[dict[str, object], str]] = [
    ({"a": [1]}, "expected arrays X and y, or x_train, y_train, x_test and y_test; found 'a'"),
    ({"X": np.ones((3, 2))}, "there is an array X, but no y to learn from"),
    ({"X": np.ones((2, 3, 3))}, "there are images, but no labels to learn from"),
    ({"X": np.ones(3), "y": [0, 1, 0]}, "X has shape (3,); expected (n, k)"),
    ({"X": np.ones((0, 2)), "y": []}, "X is empty, shape (0, 2)"),
    ({"X": np.ones((3, 2)), "y": [0, 1]}, "y has shape (2,); expected (3,)"),
    ({"X": np.ones((2, 2)), "y": np.eye(2)}, "expected (2,); use class numbers, argmax of the row"),
    ({"X": np.array([["a"], ["b"]]), "y": [0, 1]}, "X has dtype <U1; expected numbers or booleans"),
    ({"X": np.ones((2, 1)) * 1j, "y": [0, 1]}, "X has dtype complex128; expected numbers"),
    ({"X": np.ones((2, 1)), "y": np.ones(2) * 1j}, "'y' has dtype complex128; expected numbers, b"),
    (
        {"X": np.array([[1, None], [2, 3]], dtype=object), "y": [0, 1]},
        "X holds Python objects, which are not unpickled; save it as an array of numbers or text",
    ),
    ({"X": np.array([[1.0], [np.inf]]), "y": [0, 1]}, "column 'x0', row 2: inf is not a finite"),
    ({"X": np.ones((2, 1)), "y": [0.5, np.inf]}, "column 'y', row 2: inf is not a finite number"),
]


@pytest.mark.parametrize(("arrays", "message"), ARRAYS)
def test_arrays_that_cannot_be_used(
    tmp_path: Path, arrays: dict[str, object], message: str
) -> None:
    np.savez(tmp_path / "t.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=re.escape(message)):
        data.load(tmp_path / "t.npz")


def test_damaged_and_single_arrays(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    np.savez_compressed(path, X=np.random.default_rng(0).normal(size=(50, 4)), y=np.arange(50) % 2)
    content = bytearray(path.read_bytes())
    content[100:200] = bytes(100)
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="array X is damaged"):
        data.load(path)
    np.save(tmp_path / "single.npy", np.ones(3))
    (tmp_path / "single.npy").rename(tmp_path / "single.npz")
    with pytest.raises(DataError, match=r"a single array; save X and y with numpy.savez"):
        data.load(tmp_path / "single.npz")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([[1], [2]]), "column 'a' holds list<"),
        (pa.array([b"x", b"y"]), "column 'a' holds binary; only numbers, text and booleans"),
        (pa.array([1, 2], pa.date32()), "column 'a' holds dates or times (1970-01-02)"),
        (pa.array([1, 2], pa.duration("s")), "column 'a' holds dates or times"),
        (pa.array([None, None], pa.timestamp("us")), "column 'a' holds dates or times, which"),
        (pa.array([], pa.int64()), "the table has no rows"),
    ],
)
def test_parquet_that_cannot_be_used(tmp_path: Path, column: pa.Array, message: str) -> None:
    y = pa.array([0, 1][: len(column)], pa.int64())
    pq.write_table(pa.table({"a": column, "y": y}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=re.escape(message)):
        data.load(tmp_path / "t.parquet")


def load(**options: object) -> Callable[[Path], object]:
    return lambda path: data.load(path, **options)  # type: ignore[arg-type]


def split(**options: object) -> Callable[[Path], object]:
    return lambda path: data.load(path, "y").split(**options)  # type: ignore[arg-type]


def with_file(text: str, **options: object) -> Callable[[Path], object]:
    def call(path: Path) -> object:
        other = path.parent / "other.csv"
        other.write_text(text)
        return data.load(path, "y").split(test=other, **options)  # type: ignore[arg-type]

    return call


CALLS: list[tuple[Callable[[Path], object], str]] = [
    (load(target="z"), "t.csv: no column 'z' for the target (columns: 'a', 'b', 'y')"),
    (load(target="Y"), "no column 'Y' for the target; did you mean 'y'?"),
    (load(task="guess"), "task must be one of 'auto', 'classification', 'regression', not 'guess'"),
    (load(drop=["z"]), "no column 'z' to drop (columns: 'a', 'b', 'y')"),
    (load(target="a", task="classification"), "target 'a' has 30 distinct values in 30 rows: clas"),
    (split(test=1.0), "test must be a fraction from 0 up to 1, or a file, not 1"),
    (split(validation=-0.1), "validation must be a fraction from 0 up to 1, or a file, not -0.1"),
    (split(validation=0.5, test=0.5), "validation 0.5 and test 0.5 leave no rows to train on"),
    (split(test="none.csv"), "none.csv: no such file or folder"),
    (split(seed=-1), "seed must be between 0 and 2**64 - 1, not -1"),
    (split(numbers="log"), "numbers must be one of 'auto', 'standard', 'quantile', not 'log'"),
    (split(embed=0), "embed must be at least 1 category, not 0"),
    (with_file("a,b\n1,2\n"), "test file"),
    (with_file("a,b\n1,2\n"), "no column 'y' for the target"),
    (with_file("a,y\n1,0\n"), "no column 'b', which the model needs (it has 'a')"),
    (with_file("y\n0\n"), "no column 'a', 'b', which the model needs (it has none of its columns)"),
    (
        with_file("a,b,y\n1,2,0\nx,2,1\n"),
        "column 'a', row 2: 'x' is not a number, as it was in tra",
    ),
    (with_file("a,b,y\n1,2,0\n2,2,7\n"), "target 'y', row 2: class '7' is not among the classes o"),
    (with_file("a,b,y\n1,2,\n"), "target 'y' is missing in every row"),
]


@pytest.mark.parametrize(("call", "message"), CALLS)
def test_bad_calls(tmp_path: Path, call: Callable[[Path], object], message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(GOOD)
    with pytest.raises(DataError, match=re.escape(message)):
        call(path)


@pytest.mark.parametrize(
    "date",
    [
        *("2026-11-21", "2026/1/5", "21.11.2026", "3/4/26", "2026-11", "Nov 2026", "Nov 21, 2026"),
        *("21 November 2026", "21-Nov-26", "2026-11-21 10:30", "2026-11-21T10:30:00Z"),
    ],
)
def test_dates_are_refused_however_they_are_written(tmp_path: Path, date: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f'a,when,y\n1,"{date}",0\n2,,1\n')
    with pytest.raises(DataError, match="column 'when' holds dates or times"):
        data.load(path)


@pytest.mark.parametrize("text", ["1.2.3", "192.168.0.1", "555-1234", "May", "10-20", "AB-12-2026"])
def test_other_text_is_no_date(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"a,text,y\n1,{text},0\n2,,1\n")
    assert data.load(path).split(validation=0, test=0).preprocessing.kinds["text"] == "category"


def test_a_regression_needs_numbers(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,y\n1,low\n2,high\n")
    with pytest.raises(DataError, match="target 'y' holds text \\(such as 'high', 'low'\\): a reg"):
        data.load(path, task="regression")
    path.write_text("a,y\n" + "".join(f"{i % 7},{i}\n" for i in range(100)))
    other = tmp_path / "other.csv"
    other.write_text("a,y\n1,2\n2,unknown\n")
    with pytest.raises(DataError, match="column 'y', row 2: 'unknown' is not a number, as the tar"):
        data.load(path).split(test=other)


def test_a_built_in_set_has_its_target() -> None:
    with pytest.raises(DataError, match="the target of these images is 'digit', not 'y'"):
        data.load("digits", "y")
    with pytest.raises(DataError, match="digits: images have no columns to drop \\('a'\\)"):
        data.load("digits", drop=["a"])
    with pytest.raises(DataError, match="iris: no column 'a' to drop"):
        data.load("iris", drop=["a"])


def test_columns_without_information_leave_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b,y\n" + "1,,0\n1,,1\n" * 5)
    with pytest.raises(DataError, match=r"no column is left to learn from: 'a': every cell is 1; "):
        data.load(path).split()


def test_numbers_too_large_to_standardise(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,y\n1e300,0\n-1e300,1\n1e300,0\n-1e300,1\n")
    with pytest.raises(DataError, match=r"column 'a' reaches 1e\+300, too large to standardise"):
        data.load(path).split(validation=0, test=0)
    path.write_text("y,a\n1e300,0\n-1e300,1\n2,0\n5,1\n")
    with pytest.raises(DataError, match=r"target 'y' reaches 1e\+300, too large to standardise"):
        data.load(path, "y", "regression")


def test_tables_in_memory() -> None:
    with pytest.raises(DataError, match="two columns are named 'a'"):
        Table([Column("a", np.zeros(2)), Column("a", np.zeros(2))])
    with pytest.raises(DataError, match=r"columns have different lengths: {'a': 2, 'b': 3}"):
        Table.from_arrays({"a": np.zeros(2), "b": np.zeros(3)})
    with pytest.raises(DataError, match=r"column 'a' must have shape \(n,\), not \(2, 2\)"):
        from_values("a", np.zeros((2, 2)))
    with pytest.raises(DataError, match="column 'a' has dtype object; expected numbers, booleans"):
        from_values("a", np.array([1, "x"], dtype=object))
    with pytest.raises(DataError, match=r"images must be numbers of shape \(n, height, width\)"):
        Images(np.zeros((2, 2)))


def test_images_do_not_pass_for_tables(tmp_path: Path) -> None:
    digits = data.load("digits").split().preprocessing
    iris = data.load("iris").split().preprocessing
    with pytest.raises(DataError, match="the model was trained on images, but this is a table"):
        digits.read("iris")
    with pytest.raises(DataError, match="the model was trained on a table, but these are images"):
        iris.read("digits")
    with pytest.raises(DataError, match=r"images are \(9, 8\), but the training images are \(8, 8"):
        digits.transform(Images(np.zeros((2, 9, 8))))
    np.savez(tmp_path / "t.npz", X=np.full((3, 2, 2), np.nan), y=[0, 1, 0])
    with pytest.raises(DataError, match="image 1 has a pixel that is not a finite number"):
        data.load(tmp_path / "t.npz").split(validation=0, test=0)


def test_a_missing_package_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    remedy = re.escape('run pip install ".[train]" in the checkout of gradnet')
    with pytest.raises(ImportError, match=f"reading x.csv needs no_such_package: {remedy}"):
        require("no_such_package.part", "reading x.csv")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=f"'iris' comes with scikit-learn: {remedy}"):
        data.load("iris")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "this is not preprocessing written by gradnet"),
        ("[]", "this is not preprocessing written by gradnet"),
        ("{}", "this is not preprocessing written by gradnet (KeyError('format'))"),
        ('{"format": 99}', "preprocessing has format 99, but this version of gradnet reads 1"),
        ('{"format": 1, "inputs": [], "target": {"name": "y"}}', "Target has fields"),
        ('{"format": 1, "inputs": [{"encoder": "magic"}], "target": TARGET}', "KeyError('magic')"),
    ],
)
def test_preprocessing_that_is_none(text: str, message: str) -> None:
    target = (
        '{"name": "y", "task": "regression", "classes": [], "numeric": true, "mean": 0.0, '
        '"scale": 1.0}'
    )
    with pytest.raises(DataError, match=re.escape(message)):
        data.Preprocessing.from_json(text.replace("TARGET", target))
