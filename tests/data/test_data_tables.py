"""Reading CSV, TSV, Parquet and NPZ files into tables."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradnet import data
from gradnet.data.files import MISSING_WORDS
from gradnet.data.sources import read
from gradnet.data.table import Column, Table, counted, listed

TOY = "size,colour,ok,y\n" + "".join(
    f"{i / 2},{'red' if i % 3 else 'blue'},{'True' if i % 2 else 'False'},{'ab'[i % 2]}\n"
    for i in range(12)
)


def write(folder: Path, text: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def table_of(path: Path) -> tuple[Table, list[str]]:
    notes: list[str] = []
    features = read(path, notes=notes).features
    assert isinstance(features, Table)
    return features, notes


def test_a_csv_file_has_numbers_and_categories(tmp_path: Path) -> None:
    table, notes = table_of(write(tmp_path, TOY))
    assert table.names == ("size", "colour", "ok", "y")
    assert len(table) == 12
    assert table["size"].values.tolist() == [i / 2 for i in range(12)]
    assert table["colour"].categories == ("blue", "red")
    assert table["ok"].categories == ("false", "true")
    assert table["y"].values.tolist() == [0, 1] * 6
    assert notes == []


@pytest.mark.parametrize(("name", "delimiter"), [("t.tsv", "\t"), ("t.csv", ";"), ("t.csv", "\t")])
def test_other_delimiters_give_the_same_table(tmp_path: Path, name: str, delimiter: str) -> None:
    wanted, _ = table_of(write(tmp_path, TOY, "wanted.csv"))
    table, notes = table_of(write(tmp_path, TOY.replace(",", delimiter), name))
    assert table.names == wanted.names
    assert all(np.array_equal(table[n].values, wanted[n].values) for n in wanted.names)
    assert bool(notes) == (name == "t.csv")


def test_a_byte_order_mark_blanks_and_crlf_are_taken_off(tmp_path: Path) -> None:
    text = "\ufeff a , b\r\n 1 , x \r\n2, x\r\n\r\n3,  ?\r\n"
    table, _ = table_of(write(tmp_path, text))
    assert table.names == ("a", "b")
    assert table["a"].values.tolist() == [1.0, 2.0, 3.0]
    assert table["b"].categories == ("x",)
    assert table["b"].values.tolist() == [0, 0, -1]


@pytest.mark.parametrize("word", MISSING_WORDS)
def test_words_for_missing(tmp_path: Path, word: str) -> None:
    table, _ = table_of(write(tmp_path, f"a,b,y\n1,u,0\n{word},{word},1\n2,v,0\n{word} ,v,1\n"))
    assert table["a"].kind == "number"
    assert table["a"].missing.tolist() == [False, True, False, True]
    assert table["b"].values.tolist() == [0, -1, 1, 1]


def test_quoted_cells_may_hold_delimiters_quotes_and_lines(tmp_path: Path) -> None:
    table, _ = table_of(write(tmp_path, 'a,b\n1,"x, ""y""\nz"\n2,w\n'))
    assert table["b"].categories == ("w", 'x, "y"\nz')


def test_the_type_of_a_column_comes_from_all_rows(tmp_path: Path) -> None:
    rows = "".join(f"{i},{i}\n" for i in range(200_000))
    table, notes = table_of(write(tmp_path, f"a,b\n{rows}0,unknown\n"))
    assert table["b"].kind == "category"
    assert notes == [
        "t.csv: column 'b' is taken for text, because of row 200001: 'unknown'; most cells are "
        "numbers: leave unknown cells empty"
    ]


@pytest.mark.parametrize("cell", ["$12.50", "1,200", "35%", "1 200"])
def test_numbers_with_signs_are_text_with_a_note(tmp_path: Path, cell: str) -> None:
    table, notes = table_of(write(tmp_path, f'a,b\n1,"{cell}"\n2,"{cell}"\n'))
    assert table["b"].kind == "category"
    assert notes == [
        f"t.csv: column 'b' is taken for text, though it looks like numbers ({cell!r}); write "
        "them plainly, such as 1234.5"
    ]


@pytest.mark.parametrize("header", ["", '""', "Unnamed: 0"])
@pytest.mark.parametrize("order", [range(30), range(1, 31), range(40, 10, -1)])
def test_an_unnamed_index_column_is_left_out_with_a_word(
    tmp_path: Path, header: str, order: range, caplog: pytest.LogCaptureFixture
) -> None:
    text = f"{header},a,y\n" + "".join(f"{i},{i % 7},{i % 2}\n" for i in order)
    with caplog.at_level(logging.WARNING, "gradnet.data"):
        table, notes = table_of(write(tmp_path, text))
    assert table.names == ("a", "y")
    assert len(notes) == 1
    assert "numbers the rows is left out" in notes[0]
    assert caplog.messages == notes


def test_an_unnamed_column_with_data_gets_a_name(tmp_path: Path) -> None:
    table, _ = table_of(write(tmp_path, ",a,y\n5.5,1,0\n5.5,2,1\n"))
    assert table.names == ("column 1", "a", "y")


def test_parquet_types(tmp_path: Path) -> None:
    columns = pa.table(
        {
            "i": pa.array([1, None, 3], pa.int16()),
            "f": pa.array([0.5, float("nan"), None], pa.float32()),
            "d": pa.array(["1.50", "2.25", None]).cast(pa.decimal128(5, 2)),
            "b": pa.array([True, None, False]),
            "s": pa.array(["v", "", "u"], pa.large_string()),
            "view": pa.array(["v", "w", "u"], pa.string_view()),
            "c": pa.array(["q", "p", "q"]).dictionary_encode(),
            "codes": pa.array([7, 8, 7]).dictionary_encode(),
            "n": pa.nulls(3),
            "NA": ["NA", "x", "x"],
        }
    )
    path = tmp_path / "t.parquet"
    pq.write_table(columns, path)
    table, _ = table_of(path)
    expected = {
        "i": [1, None, 3],
        "f": [0.5, None, None],
        "d": [1.5, 2.25, None],
        "b": ["true", None, "false"],
        "s": ["v", None, "u"],
        "view": ["v", "w", "u"],
        "c": ["q", "p", "q"],
        "codes": [7, 8, 7],
        "n": [None] * 3,
        "NA": ["NA", "x", "x"],  # a null is a null in this format, so words mean themselves
    }
    for name, cells in expected.items():
        found = [table[name].cell(row) for row in range(3)]
        assert found == ["" if cell is None else str(cell) for cell in cells], name


def test_pandas_index_in_parquet_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": [1.0, 2.0], "__index_level_0__": [4, 9]}), path)
    table, notes = table_of(path)
    assert table.names == ("a",)
    assert notes == [
        "t.parquet: the index column '__index_level_0__' that numbers the rows is left out"
    ]


def test_npz_tables_and_images(tmp_path: Path) -> None:
    x = np.array([[1.0, np.nan], [3.0, 4.0]], dtype=np.float32)
    np.savez(tmp_path / "a.npz", X=x, y=np.array([["p"], ["q"]]))
    dataset = read(tmp_path / "a.npz", notes=[])
    assert isinstance(dataset.features, Table)
    assert dataset.features.names == ("x0", "x1")
    assert dataset.features["x1"].missing.tolist() == [True, False]
    assert dataset.target is not None
    assert dataset.target.categories == ("p", "q")

    pixels = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    np.savez_compressed(
        tmp_path / "b.npz", x_train=pixels, y_train=[0, 1], x_test=pixels[:1], y_test=[1]
    )
    source = read(tmp_path / "b.npz", notes=[])
    assert isinstance(source.features, data.Images)
    assert source.features.shape == (3, 4, 3)
    assert source.test is not None
    assert len(source.test.features) == 1


def test_drop_leaves_columns_out_before_they_are_judged(tmp_path: Path) -> None:
    path = write(tmp_path, "day,a,y\n2026-01-02,1,0\n2026-01-03,2,1\n")
    source = read(path, drop=["day"], notes=[])
    assert isinstance(source.features, Table)
    assert source.features.names == ("a", "y")
    iris = data.load("iris", drop=["sepal width"])
    assert isinstance(iris.features, Table)
    assert len(iris.features.names) == 3


cells = st.one_of(
    st.none(), st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=6)
)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(allow_nan=False, allow_infinity=False), cells), min_size=1))
def test_csv_roundtrip(rows: list[tuple[float, str | None]]) -> None:
    """What is written as CSV is read back: numbers to the bit, text but for blanks around it."""
    import csv
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, quoting=csv.QUOTE_ALL)
            writer.writerow(["number", "text", "last"])
            for number, text in rows:
                writer.writerow([repr(number), "" if text is None else text, "x"])
        table = read(path, kinds={"number": "number", "text": "category"}, notes=[]).features
    assert isinstance(table, Table)
    assert table["number"].values.tolist() == [number for number, _ in rows]
    wanted = ["" if t is None or t in MISSING_WORDS else t.strip() for _, t in rows]
    wanted = ["" if text in MISSING_WORDS else text for text in wanted]
    if {text.lower() for text in wanted} <= {"", "true", "false"}:
        wanted = [text.lower() for text in wanted]
    assert [table["text"].cell(row) for row in range(len(rows))] == wanted


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.sampled_from(["u", "v", "w"])), min_size=1))
def test_categories_are_sorted_and_used(cells: list[str | None]) -> None:
    column = Table.from_arrays({"c": np.array(cells, dtype=object)})["c"]
    assert column.categories == tuple(sorted({cell for cell in cells if cell}))
    assert [column.cell(row) or None for row in range(len(cells))] == cells
    assert column.as_category() is column
    taken = column.take(np.arange(len(cells))[::-1])
    assert [taken.cell(row) or None for row in range(len(cells))] == cells[::-1]


def test_numbers_as_categories_and_back() -> None:
    column = Column("n", np.array([2.0, np.nan, -1.5, 1e20, 2.0]))
    texts = column.as_category()
    assert texts.categories == ("-1.5", "100000000000000000000", "2")
    assert texts.values.tolist() == [2, -1, 0, 1, 2]
    assert np.array_equal(texts.as_number().values, column.values, equal_nan=True)


def test_texts_for_people() -> None:
    assert counted(1, "row") == "1 row"
    assert counted(2000, "category") == "2,000 categories"
    assert listed("abcdefg") == "'a', 'b', 'c', 'd', 'e' and 2 more"
    assert repr(Table.from_arrays({"a": [1, 2]})) == "Table(2 rows: 'a')"
    assert repr(data.load("iris")) == "Dataset('iris': 150 rows, 3 classes)"
    assert repr(data.load("diabetes")) == "Dataset('diabetes': 442 rows, regression)"
