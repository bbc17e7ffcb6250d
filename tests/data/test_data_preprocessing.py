"""Preprocessing: fitted to training rows, the same bits after its journey as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradnet import data
from gradnet.data.encoders import Dropped, Embedded, OneHot, Quantile, Standard
from gradnet.data.preprocessing import Preprocessing
from gradnet.data.statistics import (
    DISTINCT_NUMBERS,
    CategoryStatistics,
    NumberStatistics,
    TableStatistics,
)
from gradnet.data.table import Images, Table, from_values
from gradnet.data.targets import Target

Y = Target("y", "regression")
numbers = st.one_of(st.just(float("nan")), st.floats(-1e6, 1e6))
texts = st.one_of(st.just(""), st.sampled_from(["u", "v", "wörter"]), st.text("ab", max_size=3))


def fit(notes: list[str] | None = None, **columns: object) -> Preprocessing:
    table = Table.from_arrays(columns)  # type: ignore[arg-type]
    return Preprocessing.fit(table, Y, notes=notes)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    rows = draw(st.integers(2, 30))
    n = draw(st.lists(numbers, min_size=rows, max_size=rows))
    t = draw(st.lists(texts, min_size=rows, max_size=rows))
    return Table.from_arrays({"n": n, "t": np.array(t), "base": np.arange(rows)})


@settings(deadline=None)
@given(tables(), tables(), st.sampled_from(["auto", "standard", "quantile"]), st.booleans())
def test_json_roundtrip_gives_the_same_bits(
    train: Table, other: Table, mode: data.preprocessing.Numbers, embed: bool
) -> None:
    first = Preprocessing.fit(train, Y, numbers=mode, embed=2 if embed else None)
    second = Preprocessing.from_json(first.to_json())
    assert second == first
    for table in (train, other):
        x = first.transform(table)
        assert x.dtype == np.float32
        assert x.shape == (len(table), len(first.features))
        assert np.isfinite(x).all()
        assert np.array_equal(second.transform(table), x)
    assert json.loads(first.to_json())["format"] == 1


@settings(deadline=None)
@given(tables())
def test_training_rows_are_standardised(table: Table) -> None:
    prep = Preprocessing.fit(table, Y, numbers="standard")
    x = prep.transform(table)
    names = prep.features
    gaps = table["n"].missing
    if "n" in names:
        z = x[~gaps, names.index("n")].astype(np.float64)
        spread = table["n"].values[~gaps].std()
        if spread > 1e-6 * np.abs(table["n"].values[~gaps]).max():
            assert abs(z.mean()) < 1e-4
            if np.abs(z).max() < 10:
                assert abs(z.std() - 1) < 1e-4
        assert (x[gaps, names.index("n")] == 0).all()
    if "n (missing)" in names:
        assert np.array_equal(x[:, names.index("n (missing)")] == 1, gaps)
    hot = [i for i, name in enumerate(names) if name.startswith("t=")]
    if hot and len(hot) <= 64:
        assert (x[:, hot].sum(axis=1) == 1).all()


def test_numbers_and_gaps() -> None:
    prep = fit(a=[1.0, np.nan, 3.0], b=[0.0, 2.0, 4.0])
    assert prep.features == ("a", "a (missing)", "b")
    x = prep.transform(Table.from_arrays({"a": [np.nan, 2.0, 1e9], "b": [2.0, np.nan, -1e9]}))
    assert x.tolist() == [[0, 1, 0], [0, 0, 0], [10, 0, -10]]


def test_an_unexpected_gap_becomes_the_middle_with_a_note() -> None:
    prep = fit(a=[1.0, 2.0, 3.0])
    notes: list[str] = []
    assert prep.transform(Table.from_arrays({"a": [np.nan]}), notes).tolist() == [[0.0]]
    assert notes == ["column 'a': 1 missing cell, though training had none; the middle is taken"]


def test_a_number_that_never_changes_still_tells_where_it_is_missing() -> None:
    prep = fit(a=[7.0, np.nan, 7.0])
    x = prep.transform(Table.from_arrays({"a": [7.0, np.nan]}))
    assert x.tolist() == [[0.0, 0.0], [0.0, 1.0]]


def test_normal_scores() -> None:
    """An exponential column becomes standard normal, and order is kept beyond training's range."""
    values = -np.log1p(-(np.arange(2000) + 0.5) / 2000)
    prep = fit(a=values)
    (encoder,) = prep.inputs  # type: ignore[misc]
    assert isinstance(encoder, Quantile)
    z = prep.transform(Table.from_arrays({"a": values}))[:, 0]
    exact = [NormalDist().inv_cdf((i + 0.5) / 2000) for i in range(2000)]
    assert np.abs(z - exact).max() < 0.02
    assert (np.diff(z) >= 0).all()
    outside = prep.transform(Table.from_arrays({"a": [-5.0, 1e12]}))[:, 0]
    assert outside.tolist() == [z[0], z[-1]]


def test_equal_values_share_their_middle_rank() -> None:
    values = np.concatenate([np.zeros(500), np.arange(1, 501)])
    prep = Preprocessing.fit(Table.from_arrays({"a": values}), Y, numbers="quantile")
    z = prep.transform(Table.from_arrays({"a": [0.0, 250.0]}))[:, 0]
    assert z[0] == pytest.approx(NormalDist().inv_cdf(0.25), abs=1e-6)
    assert z[1] == pytest.approx(NormalDist().inv_cdf(0.75), abs=0.01)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.arange(400) ** 2.0, Standard),  # few rows
        (np.arange(4000) % 40, Standard),  # few values
        (np.maximum(0, np.arange(-1000, 3000)), Standard),  # one value in a quarter of the rows
        (np.arange(4000) ** 2.0, Quantile),
    ],
)
def test_which_numbers_become_normal_scores(values: np.ndarray, kind: type) -> None:
    (encoder,) = fit(a=values).inputs  # type: ignore[misc]
    assert isinstance(encoder, kind)


def test_categories_and_unknown_ones() -> None:
    prep = fit(c=np.array(["u", "v", "", "v"]))
    assert prep.features == ("c=u", "c=v", "c=(missing)")
    notes: list[str] = []
    x = prep.transform(Table.from_arrays({"c": np.array(["v", "", "new"])}), notes)
    assert x.tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert notes == ["column 'c': 1 category unknown to training ('new')"]
    whole = fit(c=np.array(["u", "v"]))
    assert whole.transform(Table.from_arrays({"c": np.array(["", "u"])})).tolist() == [
        [0, 0],
        [1, 0],
    ]
    nothing = Table.from_arrays({"c": np.array(["", ""])})
    assert whole.transform(nothing).tolist() == [[0, 0], [0, 0]]


def test_rare_categories_are_grouped_with_a_note() -> None:
    cells = np.array([f"c{i:03}" for i in range(100) for _ in range(3 if i < 63 else 2)])
    notes: list[str] = []
    prep = fit(notes, c=cells)
    (encoder,) = prep.inputs  # type: ignore[misc]
    assert isinstance(encoder, OneHot)
    assert encoder.categories == tuple(f"c{i:03}" for i in range(63))
    assert prep.features[-1] == "c=(other)"
    assert notes == [
        "column 'c' has 100 categories: the 63 most frequent are kept, the rest grouped"
    ]
    x = prep.transform(Table.from_arrays({"c": np.array(["c099", "never seen"])}))
    assert x[:, -1].tolist() == [1, 1]
    assert x.sum() == 2


def test_embedding_codes() -> None:
    table = Table.from_arrays({"a": [1.0, 2, 3, 4], "c": np.array(["u", "v", "w", "u"])})
    prep = Preprocessing.fit(table, Y, embed=2)
    assert prep.embeddings == ((1, "c", 4),)
    other = Table.from_arrays({"a": [1.0] * 4, "c": np.array(["w", "", "new", "u"])})
    assert prep.transform(other)[:, 1].tolist() == [3, 0, 0, 1]
    assert Preprocessing.fit(table, Y, embed=3).embeddings == ()


def test_columns_that_say_nothing_are_left_out_with_a_note() -> None:
    notes: list[str] = []
    prep = fit(
        notes,
        a=np.arange(40),
        one=np.ones(40),
        word=np.array(["x"] * 40),
        empty=np.full(40, np.nan),
        blank=np.array([""] * 40),
        name=np.array([f"n{i}" for i in range(40)]),
    )
    assert prep.features == ("a",)
    assert prep.kinds == {"a": "number"}
    assert len([e for e in prep.inputs if isinstance(e, Dropped)]) == 5  # type: ignore[union-attr]
    assert notes == [
        "column 'one' is left out: every cell is 1",
        "column 'word' is left out: every cell is 'x'",
        "column 'empty' is left out: every cell is missing",
        "column 'blank' is left out: every cell is missing",
        "column 'name' is left out: every cell is different: it looks like a name",
    ]


def test_free_text_and_many_dropped_columns_take_one_line() -> None:
    texts = np.array([f"t{i // 2}" if i < 60 else f"s{i}" for i in range(200)])
    notes: list[str] = []
    fit(notes, a=np.arange(200), text=texts)
    assert notes == ["column 'text' is left out: it is free text: 170 different cells"]
    notes = []
    fit(notes, a=[1, 2], **{f"c{i}": [3, 3] for i in range(9)})
    assert len(notes) == 1
    assert notes[0].startswith("9 columns are left out")
    assert notes[0].endswith("'c2': every cell is 3; and 6 more")


def test_images_are_standardised_as_a_whole() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 4, 5)).astype(np.uint8)
    prep = Preprocessing.fit(Images(pixels), Y)
    x = prep.transform(Images(pixels))
    assert prep.shape == (4, 5)
    assert x.shape == (50, 20)
    assert abs(x.mean()) < 1e-6
    assert x.std() == pytest.approx(1.0, abs=1e-6)
    wanted = (pixels.reshape(50, 20) / 255 - (pixels / 255).mean()) / (pixels / 255).std()
    assert np.allclose(x, wanted, atol=1e-6)
    again = Preprocessing.from_json(prep.to_json())
    assert np.array_equal(again.transform(Images(pixels)), x)
    assert len(prep.features) == 20
    assert prep.embeddings == ()
    assert prep.kinds == {}


def test_targets_there_and_back() -> None:
    classes = Target("y", "classification", ("no", "yes"), numeric=False)
    column = Table.from_arrays({"y": np.array(["yes", "no", "yes"])})["y"]
    codes = classes.encode(column)
    assert codes.tolist() == [1, 0, 1]
    assert codes.dtype == np.int64
    assert classes.decode(codes).tolist() == ["yes", "no", "yes"]
    prices = Table.from_arrays({"y": [1e5, 3e5, 5e5]})["y"]
    target = Y.rescaled(prices)
    y = target.encode(prices)
    assert y.dtype == np.float32
    assert y.tolist() == pytest.approx([-1.2247449, 0, 1.2247449])
    assert target.decode(y).tolist() == pytest.approx([1e5, 3e5, 5e5])
    assert classes.rescaled(column) == classes


@settings(deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=60), st.integers(1, 7))
def test_statistics_do_not_depend_on_the_chunks(values: list[float], size: int) -> None:
    column = np.array(values)
    whole, parts = NumberStatistics(), NumberStatistics()
    whole.update(column)
    for start in range(0, len(column), size):
        parts.update(column[start : start + size])
    assert (parts.count, parts.low, parts.high) == (whole.count, whole.low, whole.high)
    assert parts.counts == whole.counts
    assert parts.mean == pytest.approx(column.mean(), rel=1e-9, abs=1e-9)
    assert parts.deviation == pytest.approx(column.std(), rel=1e-7, abs=1e-7)


def test_the_sample_does_not_depend_on_the_chunks() -> None:
    rows = 100_000
    table = Table.from_arrays(
        {"a": np.arange(rows), "c": np.array(["u", "v"])[np.arange(rows) % 2]}
    )
    whole = TableStatistics.of(table)
    parts = TableStatistics({"a": "number", "c": "category"})
    for start in range(0, rows, 30_000):
        parts.update(table.take(np.arange(start, min(start + 30_000, rows))))
    a, b = whole.columns["a"], parts.columns["a"]
    assert isinstance(a, NumberStatistics)
    assert isinstance(b, NumberStatistics)
    assert len(a.sample) == 65_536
    assert np.array_equal(a.sample, b.sample)
    assert abs(a.sample.mean() / rows - 0.5) < 0.01
    assert a.counts is None
    assert parts.columns["c"].counts == {"u": 50_000, "v": 50_000}


def test_counting_stops_where_there_is_too_much() -> None:
    numbers = NumberStatistics()
    numbers.update(np.arange(DISTINCT_NUMBERS))
    assert numbers.distinct == DISTINCT_NUMBERS
    numbers.update(np.array([-1.0]))
    assert numbers.distinct is None
    words = CategoryStatistics()
    for start in (0, 60_000):
        texts = [f"t{start + i}" for i in range(60_000)]
        words.update(Table.from_arrays({"t": np.array(texts)})["t"])
    assert words.counts is None
    table = TableStatistics({"t": "category", "a": "number"})
    table.columns["t"] = words
    table.columns["a"] = numbers
    encoders = Preprocessing.measured(table, Y).inputs
    assert isinstance(encoders, tuple)
    assert isinstance(encoders[0], Dropped)
    assert encoders[0].reason == "it is free text: hardly any two cells are equal"


def test_a_file_is_read_as_in_training(tmp_path: Path) -> None:
    """Codes such as 007 stay text, an extra column is told, and the order of columns is free."""
    train, other = tmp_path / "train.csv", tmp_path / "other.csv"
    train.write_text(
        "code,a,id,y\n"
        + "".join(f"{'x' if i % 2 else '007'},{i},i{i},{i % 3}\n" for i in range(30))
    )
    parts = data.load(train, "y").split(validation=0, test=0)
    assert parts.validation is None
    assert parts.test is None
    prep = Preprocessing.from_json(parts.preprocessing.to_json())
    assert prep.classes == ("0", "1", "2")
    assert prep.task == "classification"
    other.write_text("when,a,id,code\n2026-11-21,3,i1,007\n2026-11-22,,i2,7\n")
    notes: list[str] = []
    part = prep.read(other, notes)
    assert part.y is None
    assert len(part) == 2
    assert part.X[:, prep.features.index("code=007")].tolist() == [1, 0]
    assert notes == [
        "other.csv: 1 column not used: 'when'",
        "column 'code': 1 category unknown to training ('7')",
        "column 'a': 1 missing cell, though training had none; the middle is taken",
    ]
    other.write_text("a,code,y\n3,007,2\n4,x,0\n")
    assert prep.read(other).y.tolist() == [2, 0]  # type: ignore[union-attr]
    other.write_text("a,code,y\n3,007,2\n4,x,\n")
    assert prep.read(other, notes).y is None
    assert notes[-1] == f"{other}: not every row has a target 'y'"
    other.write_text("a,code,y\n3,007,9\n")
    assert prep.read(other, notes).y is None
    assert "the targets cannot be used: target 'y', row 1: class '9'" in notes[-1]


def test_embedded_columns_know_their_size() -> None:
    assert Embedded("c", ("u", "v")).size == 3
    assert Embedded("c", ("u", "v")).features == ("c (code)",)


def test_weights_count_as_so_many_rows() -> None:
    rng = np.random.default_rng(3)
    cells = np.where(rng.random(40) < 0.2, np.nan, rng.normal(5, 2, 40))
    y = rng.normal(size=40)
    weight = rng.integers(0, 4, 40)
    repeated = np.repeat(np.arange(40), weight)

    def fitted(rows: Any, weights: Any) -> Preprocessing:
        table = Table.from_arrays({"x": cells[rows], "g": np.array(["a", "b"] * 20)[rows]})
        target = Target("y", "regression").rescaled(from_values("y", y[rows]), weights)
        return Preprocessing.fit(table, target, weight=weights)

    a = fitted(np.arange(40), weight.astype(np.float64))
    b = fitted(repeated, None)
    assert isinstance(a.inputs, tuple)
    assert isinstance(b.inputs, tuple)
    assert a.inputs[0].mean == pytest.approx(b.inputs[0].mean, rel=1e-12)  # type: ignore[attr-defined]
    assert a.inputs[0].scale == pytest.approx(b.inputs[0].scale, rel=1e-12)  # type: ignore[attr-defined]
    assert (a.target.mean, a.target.scale) == pytest.approx((b.target.mean, b.target.scale))


@pytest.mark.parametrize(
    ("trained", "read", "expected"),
    [
        (["True", "red", "FALSE"], ["True"], [1]),
        (["True", "red", "FALSE"], ["FALSE", "TRUE"], [0, 1]),
        (["False", "true", "True"], ["TRUE", "false", "maybe"], [1, 0, None]),
        (["red", "blue", "red"], ["True", "blue"], [None, 0]),
    ],
)
def test_a_part_of_a_column_may_spell_true_otherwise_than_the_whole(
    trained: list[str], read: list[str], expected: list[int | None]
) -> None:
    prep = Preprocessing.fit(Table([from_values("c", trained)]), Y)
    (encoder,) = prep.inputs
    assert isinstance(encoder, OneHot)
    out = np.empty((len(read), len(encoder.features)), np.float32)
    encoder.encode(from_values("c", read), out, [])
    assert [int(row.argmax()) if row.any() else None for row in out] == expected


def test_classes_of_a_part_that_are_all_true_or_false() -> None:
    target = Target("y", "classification", ("False", "True", "unknown"), numeric=False)
    part = from_values("y", ["True", "True", "False"])
    assert part.categories == ("false", "true")
    assert target.encode(part).tolist() == [1, 1, 0]
