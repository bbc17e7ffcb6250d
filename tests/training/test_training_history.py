"""History: columns, rows, and how it reads."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from gradnet.training import History


def filled(epochs: int) -> History:
    history = History()
    for i in range(1, epochs + 1):
        history.append({"loss": 1 / i, "lr": 0.1, "samples_per_second": 12345.6})
    return history


def test_columns_are_plain_float64_arrays() -> None:
    history = filled(3)
    loss = history["loss"]
    assert type(loss) is np.ndarray
    assert loss.dtype == np.float64
    assert loss.tolist() == [1.0, 1 / 2, 1 / 3]
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history.epochs == len(history) == 3
    assert history.columns == tuple(history) == ("epoch", "loss", "lr", "samples_per_second")
    assert dict(history).keys() == set(history.columns)
    assert "loss" in history
    assert "val_loss" not in history


def test_a_column_that_begins_late_or_misses_an_epoch_is_nan_there() -> None:
    history = filled(2)
    history.append({"loss": 0.5, "accuracy": 0.9})
    history.append({"loss": 0.4})
    assert np.isnan(history["accuracy"]).tolist() == [True, True, False, True]
    assert np.isnan(history["lr"]).tolist() == [False, False, True, True]


def test_rows_count_from_one() -> None:
    history = filled(4)
    assert history.row(2)["loss"] == 0.5
    assert history.row(-1) == history.row(4)
    for epoch in (0, 5, -5):
        with pytest.raises(IndexError, match=r"epochs 1 \.\.\. 4"):
            history.row(epoch)


def test_an_unknown_column_names_the_closest() -> None:
    with pytest.raises(KeyError, match=r"no column 'los' \(did you mean 'loss'\?\)"):
        filled(1)["los"]


def test_json_and_back() -> None:
    history = filled(3)
    history.append({"loss": math.nan, "new": 1.0})
    history.best_epoch, history.monitor, history.notes = 2, "loss", ["stopped"]
    again = History.from_dict(json.loads(json.dumps(history.to_dict())))
    assert repr(again) == repr(history)
    for name in history:
        np.testing.assert_array_equal(again[name], history[name])
    assert (again.best_epoch, again.monitor, again.notes) == (2, "loss", ["stopped"])


def test_it_prints_as_a_small_table() -> None:
    assert repr(History()) == "History(no epochs)"
    history = filled(30)
    history.best_epoch = 28
    history.notes.append("stopped early")
    lines = repr(history).splitlines()
    assert len(lines) == 1 + 5 + 1 + 5 + 1
    assert lines[0].split() == ["epoch", "loss", "lr", "samples_per_second"]
    assert lines[1].split() == ["1", "1", "0.1", "12346"]
    assert lines[6].split() == ["..."]
    assert lines[9].endswith("best")
    assert lines[-1] == "stopped early"
    history.best_epoch = 15  # not among those shown
    assert "best" not in repr(history)
