"""Batches from files on disk: the same preprocessing, a bounded memory, the same order again."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gradnet import data
from gradnet.data.preprocessing import Preprocessing
from gradnet.data.streaming import Stream
from gradnet.errors import DataError

ROWS = 1000


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """1,000 rows in ten row groups; column `id` tells the row, some targets are missing."""
    i = np.arange(ROWS)
    table = pa.table(
        {
            "id": i.astype(np.float64),
            " a": pa.array([None if k % 50 == 0 else float(k % 97) for k in i]),
            "c": np.array(["u", "v", "w"])[i % 3],
            "day": pa.array(i % 9, pa.int32()),
            "y": pa.array([None if k % 100 == 7 else "no" if k % 4 else "yes" for k in i]),
        }
    )
    path = tmp_path / "t.parquet"
    pq.write_table(table, path, row_group_size=100)
    return path


def ids(stream: Stream, batches: list[data.Batch]) -> list[int]:
    """The rows in the order in which they came."""
    encoder = stream.preprocessing.inputs[0]  # type: ignore[index]
    x = np.concatenate([batch.X[:, 0] for batch in batches]).astype(np.float64)
    return [round(v * encoder.scale + encoder.mean) for v in x]  # type: ignore[attr-defined]


def test_a_stream_gives_every_row_that_has_a_target_once(parquet: Path) -> None:
    stream = data.stream(parquet, 64, "y", numbers="standard", buffer=256)
    batches = list(stream)
    assert stream.rows == 990
    assert len(stream) == len(batches) == 16
    assert [len(b.X) for b in batches] == [64] * 15 + [30]
    assert all(b.X.dtype == np.float32 and b.y.dtype == np.int64 for b in batches)  # type: ignore[union-attr]
    rows = ids(stream, batches)
    assert sorted(rows) == [k for k in range(ROWS) if k % 100 != 7]
    y = np.concatenate([b.y for b in batches])  # type: ignore[arg-type]
    assert [stream.classes[code] for code in y] == ["no" if k % 4 else "yes" for k in rows]
    assert stream.task == "classification"
    assert "t.parquet: 10 rows without a target 'y' left out" in stream.notes


def test_the_order_follows_from_seed_and_epoch(parquet: Path) -> None:
    first, again = (data.stream(parquet, 64, "y", seed=3, numbers="standard") for _ in range(2))
    epochs = [ids(first, list(first)) for _ in range(2)]
    assert epochs[0] != epochs[1]
    assert first.epoch == 2
    assert ids(again, list(again.batches(1))) == epochs[1]
    assert again.epoch == 0
    other = data.stream(parquet, 64, "y", seed=4, numbers="standard")
    assert ids(other, list(other)) != epochs[0]


def test_shuffling_mixes_within_and_across_row_groups(parquet: Path) -> None:
    stream = data.stream(parquet, 50, "y", numbers="standard", buffer=300)
    rows = ids(stream, list(stream))
    groups = [row // 100 for row in rows]
    assert len(set(groups[:50])) >= 3
    assert groups[0] != 0 or groups[-1] != 9
    steps = np.abs(np.diff(rows))
    assert np.median(steps) > 20


def test_streamed_preprocessing_is_that_of_the_whole_table(parquet: Path) -> None:
    stream = data.stream(parquet, 64, "y")
    whole = data.load(parquet, "y").split(validation=0, test=0)
    assert stream.preprocessing.features == whole.preprocessing.features
    assert "a (missing)" in stream.preprocessing.features
    plain = data.stream_with(stream.preprocessing, parquet, 64)
    x = np.concatenate([b.X for b in plain])
    y = np.concatenate([b.y for b in plain])  # type: ignore[arg-type]
    assert np.allclose(x, whole.train.X, atol=1e-6)
    assert np.array_equal(y, whole.train.y)
    restored = Preprocessing.from_json(stream.preprocessing.to_json())
    again = data.stream_with(restored, parquet, 100)
    assert np.array_equal(np.concatenate([b.X for b in again]), x)


def test_the_validation_part_is_apart_and_stays(parquet: Path) -> None:
    stream = data.stream(parquet, 64, "y", validation=0.2, seed=1, numbers="standard")
    assert stream.validation is not None
    held = ids(stream, list(stream.validation))
    train = ids(stream, list(stream))
    assert len(held) == stream.validation.rows
    assert len(train) == stream.rows
    assert sorted(held + train) == [k for k in range(ROWS) if k % 100 != 7]
    assert 120 < len(held) < 280
    assert ids(stream, list(stream.validation)) == held == sorted(held)
    encoder = stream.preprocessing.inputs[0]  # type: ignore[index]
    assert encoder.mean == pytest.approx(np.mean(train))  # type: ignore[attr-defined]


def test_prediction_has_every_row_in_order(parquet: Path) -> None:
    prep = data.stream(parquet, 64, "y", numbers="standard").preprocessing
    stream = data.stream_with(prep, parquet, 300, targets=False)
    batches = list(stream)
    assert [len(b.X) for b in batches] == [300, 300, 300, 100]
    assert all(b.y is None for b in batches)
    assert ids(stream, batches) == list(range(ROWS))


def test_memory_is_bounded_by_the_buffer(tmp_path: Path) -> None:
    """A file of 400,000 × 10 float64 (32 MB) passes through less than 12 MB."""
    path = tmp_path / "big.parquet"
    schema = pa.schema([(f"x{j}", pa.float64()) for j in range(10)])
    with pq.ParquetWriter(path, schema) as writer:
        for group in range(80):
            block = np.random.default_rng(group).normal(size=(10, 5000))
            writer.write_table(pa.table([pa.array(row) for row in block], schema=schema))
    tracemalloc.start()
    try:
        stream = data.stream(path, 1000, "x9", "regression", numbers="standard", buffer=10_000)
        tracemalloc.reset_peak()
        rows = sum(len(batch.X) for batch in stream)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows == stream.rows == 400_000
    assert peak < 12e6


@pytest.mark.parametrize("order", ["C", "F"])
def test_mapped_arrays(tmp_path: Path, order: str) -> None:
    x = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    y = x[:, 0] * 2 + 1
    path = tmp_path / "t.npz"
    np.savez(path, X=np.asarray(x, order=order), y=y.reshape(-1, 1))  # type: ignore[call-overload]
    stream = data.stream(path, 128, numbers="standard")
    batches = list(stream)
    assert stream.task == "regression"
    assert len(batches) == 4
    assert stream.test is None
    found = np.concatenate([b.X for b in batches])
    targets = stream.preprocessing.decode(np.concatenate([b.y for b in batches]))  # type: ignore[arg-type]
    encoder = stream.preprocessing.inputs[0]  # type: ignore[index]
    assert np.allclose(found[:, 0] * encoder.scale + encoder.mean, (targets - 1) / 2, atol=1e-5)  # type: ignore[attr-defined]


def test_mapped_images_with_a_test_part(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 5, 5)).astype(np.uint8)
    path = tmp_path / "t.npz"
    labels = np.arange(60) % 3
    np.savez(path, x_train=pixels, y_train=labels, x_test=pixels[:7], y_test=labels[:7])
    stream = data.stream(path, 16, validation=0.25)
    whole = Preprocessing.fit(data.Images(pixels), stream.preprocessing.target)
    assert stream.test is not None
    (batch,) = stream.test
    assert batch.y.tolist() == labels[:7].tolist()  # type: ignore[union-attr]
    assert np.allclose(batch.X, whole.transform(data.Images(pixels[:7])), atol=0.1)
    assert stream.rows + stream.validation.rows == 60  # type: ignore[union-attr]
    assert sum(len(b.X) for b in stream) == stream.rows


def test_rows_are_read_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks smaller than a row group or an array give the same rows and row numbers."""
    monkeypatch.setattr("gradnet.data.chunks.ROWS", 40)
    x = np.arange(100.0)
    np.savez(tmp_path / "t.npz", X=x[:, None], y=x)
    pq.write_table(pa.table({"x0": x, "y": x}), tmp_path / "t.parquet")
    for name in ("t.npz", "t.parquet"):
        stream = data.stream(tmp_path / name, 30, "y", "regression")
        assert len(stream.chunks.sizes) == (3 if name == "t.npz" else 1)
        plain = data.stream_with(stream.preprocessing, tmp_path / name, 30)
        back = plain.preprocessing.decode(np.concatenate([b.y for b in plain]))  # type: ignore[arg-type]
        assert np.allclose(back, x, atol=1e-4)
    x[70] = np.inf
    np.savez(tmp_path / "t.npz", X=x[:, None], y=x)
    pq.write_table(pa.table({"x0": x, "y": x}), tmp_path / "t.parquet")
    for name in ("t.npz", "t.parquet"):
        with pytest.raises(DataError, match=r"column '(x0|y)', row 71: inf is not a finite number"):
            data.stream(tmp_path / name, 30, "y", "regression")


def test_notes_of_a_stream(parquet: Path, tmp_path: Path) -> None:
    stream = data.stream(parquet, 10, buffer=20, drop=["day"])
    assert stream.buffer == 20
    assert "day" not in stream.preprocessing.features
    path = tmp_path / "one.parquet"
    i = np.arange(300)
    pq.write_table(pa.table({"copy": i % 3, "y": i % 3, "a": i % 7}), path)
    notes = data.stream(path, 10, "y", buffer=20).notes
    assert [notes[0], notes[-1]] == [
        "in the first 300 rows, column 'copy' equals the target 'y' in every row: it gives the "
        "target away; remove it unless it is known when predicting",
        "one.parquet is one row group: rows are only shuffled among 20 neighbours; smaller row "
        "groups mix better",
    ]


BAD: list[tuple[dict[str, object], str]] = [
    ({"batch_size": 0}, "batch_size and buffer must be positive, not 0 and 65536"),
    ({"buffer": 0}, "batch_size and buffer must be positive, not 8 and 0"),
    ({"validation": 1.0}, "validation must be a fraction from 0 up to 1, not 1"),
    ({"target": "z"}, "t.parquet: no column 'z' for the target"),
    ({"task": "regression"}, "target 'y' holds text (such as 'no', 'yes')"),
    ({"data": "t.csv"}, "t.csv: no such file"),
    ({"drop": ["z"]}, "no column 'z' to drop"),
    ({"numbers": "log"}, "numbers must be one of"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_calls(parquet: Path, options: dict[str, object], message: str) -> None:
    call: dict[str, object] = {"data": parquet, "batch_size": 8, "target": "y", **options}
    with pytest.raises(DataError, match=re.escape(message)):
        data.stream(**call)  # type: ignore[arg-type]


def test_files_that_cannot_be_streamed(tmp_path: Path, parquet: Path) -> None:
    (tmp_path / "t.csv").write_text("a,y\n1,2\n")
    with pytest.raises(DataError, match=r"only '.parquet', '.npz' files are read in parts; write"):
        data.stream(tmp_path / "t.csv", 8)
    x = np.ones((3, 2))
    path = tmp_path / "t.npz"
    np.savez_compressed(path, X=x, y=[0, 1, 0])
    with pytest.raises(DataError, match=r"array X is compressed, and so cannot be read in parts; "):
        data.stream(path, 8)
    np.savez(path, X=x)
    with pytest.raises(DataError, match="there is an array X, but no y to learn from"):
        data.stream(path, 8)
    np.savez(path, X=x, y=np.array([0, None, 1], dtype=object))
    with pytest.raises(DataError, match="y holds Python objects, which are not unpickled"):
        data.stream(path, 8)
    np.savez(path, X=np.ones((0, 2)), y=[])
    with pytest.raises(DataError, match=r"X is empty, shape \(0, 2\)"):
        data.stream(path, 8)
    np.savez(path, X=np.ones((3, 2, 2)), y=[0, 1, 0])
    with pytest.raises(DataError, match="images have no columns to drop"):
        data.stream(path, 8, drop=["a"])
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"not a readable NPZ file \(File is not a zip file\)"):
        data.stream(path, 8)
    pq.write_table(pa.table({"a": [1.0], "y": [None]}), tmp_path / "u.parquet")
    with pytest.raises(DataError, match="no rows are left to train on"):
        data.stream(tmp_path / "u.parquet", 8)
    pq.write_table(pa.table({"a": pa.array([], pa.int8())}), tmp_path / "u.parquet")
    with pytest.raises(DataError, match="the table has no rows"):
        data.stream(tmp_path / "u.parquet", 8)
    prep = data.stream(parquet, 8, "y").preprocessing
    pq.write_table(pa.table({"a": [1.0]}), tmp_path / "u.parquet")
    with pytest.raises(DataError, match="no column 'y' for the target"):
        data.stream_with(prep, tmp_path / "u.parquet", 8)
    with pytest.raises(DataError, match="no column 'id', 'c', 'day', which the model needs"):
        list(data.stream_with(prep, tmp_path / "u.parquet", 8, targets=False))
