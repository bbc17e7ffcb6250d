"""load() and Dataset.split: targets, tasks, parts, folds, leaks."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gradnet import data


def csv(folder: Path, columns: dict[str, list[object]], name: str = "t.csv") -> Path:
    path = folder / name
    rows = zip(*columns.values(), strict=True)
    lines = [",".join(columns), *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


A = [i * 7 % 30 for i in range(30)]


@pytest.mark.parametrize("name", ["target", "Label", "class", "y"])
def test_a_target_is_known_by_its_name(tmp_path: Path, name: str) -> None:
    dataset = data.load(csv(tmp_path, {"a": A, name: [0, 1] * 15, "b": A}))
    assert dataset.target.name == name
    assert f"the target is column {name!r}, by its name" in dataset.notes


def test_without_a_name_the_last_column_is_the_target(tmp_path: Path) -> None:
    dataset = data.load(csv(tmp_path, {"a": A, "b": [0, 1] * 15}))
    assert dataset.target.name == "b"
    assert dataset.notes[0] == "no target was named: the last column, 'b', is taken"


@pytest.mark.parametrize(
    ("cells", "task", "classes"),
    [
        (["no", "yes"] * 15, "classification", ("no", "yes")),
        (["False", "True"] * 15, "classification", ("false", "true")),
        ([0, 1] * 15, "classification", ("0", "1")),
        ([-1.0, 1.0] * 15, "classification", ("-1", "1")),
        ([0.5, 1.5] * 15, "classification", ("0.5", "1.5")),
        ([10, 9, 2] * 10, "classification", ("2", "9", "10")),
        ([i % 15 for i in range(30)], "regression", ()),
        ([0.1, 0.2, 0.3] * 10, "regression", ()),
        ([i % 15 * 7 for i in range(30)], "regression", ()),
    ],
)
def test_the_task_follows_from_the_target(
    tmp_path: Path, cells: list[object], task: str, classes: tuple[str, ...]
) -> None:
    dataset = data.load(csv(tmp_path, {"a": A, "y": cells}))
    assert dataset.task == task
    assert dataset.classes == classes
    forced = data.load(csv(tmp_path, {"a": A, "y": cells}), task="classification")
    assert forced.task == "classification"
    assert len(forced.classes) == len(set(cells))


def test_rows_without_a_target_are_left_out_and_counted(tmp_path: Path) -> None:
    y: list[object] = [0, 1] * 15
    y[3] = y[7] = ""
    dataset = data.load(csv(tmp_path, {"a": A, "y": y}))
    assert len(dataset) == 28
    assert "t.csv: 2 rows without a target 'y' left out" in " ".join(dataset.notes)
    parts = dataset.split(validation=0.2, test=0.2)
    places = np.concatenate([parts.train.rows, parts.validation.rows, parts.test.rows])  # type: ignore[union-attr]
    assert sorted(places) == [i for i in range(30) if i not in (3, 7)]


def test_rare_classes_are_noted(tmp_path: Path) -> None:
    y = ["u"] * 15 + ["v"] * 13 + ["w"] * 2
    assert "class 'w' has fewer than 5 rows" in data.load(csv(tmp_path, {"a": A, "y": y})).notes
    y = ["u"] * 26 + ["v"] * 2 + ["w"] * 2
    notes = data.load(csv(tmp_path, {"a": A, "y": y})).notes
    assert "classes 'v', 'w' have fewer than 5 rows" in notes


def test_classes_that_differ_by_capitals_are_noted(tmp_path: Path) -> None:
    path = csv(tmp_path, {"a": A, "y": ["yes", "Yes", "no"] * 10})
    assert "classes 'Yes', 'yes' differ by capital letters only" in data.load(path).notes


LEAK = "it gives the target away; remove it unless it is known when predicting"


def test_columns_that_give_the_target_away_are_noted_and_kept(tmp_path: Path) -> None:
    y = ["u", "v", "w"] * 20
    columns: dict[str, list[object]] = {
        "fair": [i * 7 % 60 % 11 for i in range(60)],
        "constant": [4] * 60,
        "copy": y,
        "renamed": [{"u": 5, "v": 3, "w": 8}[c] for c in y],
        "finer": [f"{c}{i % 2}" for i, c in enumerate(y)],
        "row": list(range(100, 160)),
        "y": y,
    }
    dataset = data.load(csv(tmp_path, columns))
    assert dataset.notes[-4:] == [
        f"column 'copy' equals the target 'y' in every row: {LEAK}",
        f"column 'renamed' goes one to one with the target 'y': {LEAK}",
        f"column 'finer' determines the target 'y' in every row: {LEAK}",
        "column 'row' numbers the rows; remove it if it means nothing",
    ]
    assert "copy=u" in dataset.split().preprocessing.features


def test_long_tables_are_judged_by_a_sample() -> None:
    from gradnet.data.checks import check

    i = np.arange(100_001)
    notes: list[str] = []
    table = data.Table.from_arrays({"twice": 2 * i, "fair": i * 7919 % 100_003})
    check(table, data.Table.from_arrays({"y": i})["y"], notes)
    assert notes == [f"column 'twice' is a linear function of the target 'y': {LEAK}"]


def test_leaks_of_a_regression(tmp_path: Path) -> None:
    y = [i * 37 % 101 / 4 for i in range(100)]
    columns: dict[str, list[object]] = {
        "fair": [v + (i % 3) for i, v in enumerate(y)],
        "copy": y,
        "linear": [3 - 2 * v for v in y],
        "y": y,
    }
    notes = data.load(csv(tmp_path, columns)).notes
    assert notes[-2:] == [
        f"column 'copy' equals the target 'y' in every row: {LEAK}",
        f"column 'linear' is a linear function of the target 'y': {LEAK}",
    ]


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes", "xor", "spirals"])
def test_honest_sets_are_not_accused(name: str) -> None:
    assert not [note for note in data.load(name).notes if "target away" in note]


def test_a_split_is_a_partition_and_stratified() -> None:
    dataset = data.load("wine")
    parts = dataset.split(validation=0.1, test=0.2, seed=4)
    assert parts.validation is not None
    assert parts.test is not None
    assert [len(p) for p in (parts.train, parts.validation, parts.test)] == [124, 18, 36]
    rows = np.concatenate([parts.train.rows, parts.validation.rows, parts.test.rows])
    assert sorted(rows) == list(range(178))
    assert np.bincount(parts.test.y).tolist() == [12, 14, 10]
    assert abs(parts.train.X.mean(axis=0)).max() < 1e-6
    assert abs(parts.train.X.std(axis=0) - 1).max() < 1e-5
    again = dataset.split(validation=0.1, test=0.2, seed=4)
    assert np.array_equal(again.train.X, parts.train.X)
    other = dataset.split(validation=0.1, test=0.2, seed=5)
    assert not np.array_equal(other.train.rows, parts.train.rows)


def test_the_test_part_does_not_depend_on_the_validation_part() -> None:
    dataset = data.load("diabetes")
    a = dataset.split(validation=0, test=0.25, seed=1)
    b = dataset.split(validation=0.3, test=0.25, seed=1)
    assert a.validation is None
    assert np.array_equal(a.test.rows, b.test.rows)  # type: ignore[union-attr]
    assert b.train.y.dtype == np.float32
    train = dataset.column.values[b.train.rows]
    assert b.preprocessing.target.mean == pytest.approx(train.mean())
    assert np.allclose(b.preprocessing.decode(b.train.y), train)


def test_files_for_validation_and_test(tmp_path: Path) -> None:
    columns: dict[str, list[object]] = {"a": A, "c": ["u", "v"] * 15, "y": [0, 1, 1] * 10}
    path = csv(tmp_path, columns)
    first = {name: cells[:9] for name, cells in columns.items()}
    first["y"] = ["", *columns["y"][1:9]]
    other = csv(tmp_path, first, "other.csv")
    parts = data.load(path).split(validation=other, test=str(other))
    assert len(parts.train) == 30
    assert np.array_equal(parts.validation.X, parts.train.X[1:9])  # type: ignore[union-attr]
    assert np.array_equal(parts.validation.y, parts.train.y[1:9])  # type: ignore[union-attr]
    assert parts.test.rows.tolist() == list(range(1, 9))  # type: ignore[union-attr]
    assert f"{other}: 1 row without a target 'y' left out" in parts.notes


def test_fractions_may_be_text() -> None:
    """As they come from a command line."""
    dataset = data.load("iris")
    a = dataset.split(validation="0.1", test="0.2")
    b = dataset.split(validation=0.1, test=0.2)
    assert np.array_equal(a.test.rows, b.test.rows)  # type: ignore[union-attr]
    assert np.array_equal(a.train.rows, b.train.rows)
    assert dataset.split(validation=None, test="0").test is None


def test_a_class_without_training_rows_is_noted(tmp_path: Path) -> None:
    path = csv(tmp_path, {"a": [0, 1, 2, 3], "y": ["p", "q", "r", "s"]})
    whole = data.load(path).split(validation=0, test=0)
    assert not [n for n in whole.notes if "no training row" in n]
    parts = data.load(path).split(validation=0, test=0.25)
    absent = parts.preprocessing.decode(parts.test.y)[0]  # type: ignore[union-attr]
    assert f"no training row has class '{absent}'" in parts.notes


def test_folds_cover_all_rows() -> None:
    dataset = data.load("iris")
    parts = list(dataset.folds(5, validation=0.1, seed=2))
    assert sorted(row for p in parts for row in p.test.rows) == list(range(150))  # type: ignore[union-attr]
    for p in parts:
        assert np.bincount(p.test.y).tolist() == [10, 10, 10]  # type: ignore[union-attr]
        assert len(p.train) == 108
        assert len(p.validation) == 12  # type: ignore[arg-type]
        rows = {*p.train.rows, *p.validation.rows, *p.test.rows}  # type: ignore[union-attr]
        assert len(rows) == 150
    regression = list(data.load("diabetes").folds(4))
    assert [len(p.test) for p in regression] == [111, 111, 110, 110]  # type: ignore[arg-type]
    assert regression[0].validation is None


def test_another_target_of_a_built_in_set() -> None:
    dataset = data.load("iris", target="petal width")
    assert dataset.task == "regression"
    assert isinstance(dataset.features, data.Table)
    assert "species" in dataset.features.names


@pytest.mark.parametrize(
    ("name", "rows", "shape", "counts"),
    [
        ("digits", 1797, (8, 8), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]),
        ("iris", 150, (4,), [50, 50, 50]),
        ("wine", 178, (13,), [59, 71, 48]),
        ("breast_cancer", 569, (30,), [357, 212]),
        ("xor", 400, (2,), [200, 200]),
        ("spirals", 900, (2,), [300, 300, 300]),
    ],
)
def test_built_in_sets(name: str, rows: int, shape: tuple[int, ...], counts: list[int]) -> None:
    parts = data.load(name).split(validation=0, test=0)
    assert len(parts.train) == rows
    assert parts.preprocessing.shape == shape
    assert np.bincount(parts.train.y).tolist() == counts


@pytest.mark.parametrize("name", ["digits", "iris", "wine", "breast_cancer", "diabetes"])
def test_built_in_sets_are_those_of_scikit_learn(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read from its files, and through its functions where the files have moved: the same cells."""
    features, column = data.BUILTIN[name]()
    monkeypatch.setattr(Path, "is_file", lambda self: False)
    again, labels = data.BUILTIN[name]()
    assert np.array_equal(column.values, labels.values)
    assert column.categories == labels.categories
    if isinstance(features, data.Images):
        assert isinstance(again, data.Images)
        assert np.array_equal(features.pixels, again.pixels)
    else:
        assert isinstance(again, data.Table)
        assert all(np.array_equal(features[n].values, again[n].values) for n in features.names)


def test_generated_sets_are_the_same_everywhere() -> None:
    xor, y = data.BUILTIN["xor"]()
    assert isinstance(xor, data.Table)
    assert [xor["x1"].values[i] for i in range(3)] == [0.108485, 0.248563, 1.097699]
    assert y.values[:4].tolist() == [0, 1, 1, 0]
    spirals, _ = data.BUILTIN["spirals"]()
    assert isinstance(spirals, data.Table)
    assert [spirals["x2"].values[i] for i in range(3)] == [-0.301298, -0.520316, 0.068829]


def test_reading_does_not_import_scikit_learn_or_pandas() -> None:
    code = (
        "import sys, gradnet.data as d; assert not {'pyarrow', 'sklearn'} & set(sys.modules); "
        "d.load('digits').split(); d.load('diabetes').split(); "
        "assert not {'sklearn', 'pandas', 'scipy', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_notes_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gradnet.data"):
        dataset = data.load(csv(tmp_path, {"a": A, "b": [0, 1] * 15}))
    assert caplog.messages == dataset.notes
    assert [record.levelname for record in caplog.records][:2] == ["WARNING", "INFO"]
