"""The benchmark of the estimators: what it makes of figures, and the table in the README."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pandas")
estimators = pytest.importorskip("benchmarks.estimators", reason="the wheel has no benchmarks")


def figures(scores: list[float]) -> dict[str, Any]:
    return {"scores": scores, "seconds": [0.5, 1.5, 1.0]}


def test_a_summary_compares_fit_by_fit(tmp_path: Path) -> None:
    task = estimators.Problem(None, np.zeros(900), [], True)
    found = {
        estimators.OURS: figures([9.0, 10.0, 11.0]),
        estimators.DEFAULT: figures([10.0, 12.0, 14.0]),
    }
    part = estimators.summary(task, found)
    other = part["contenders"][estimators.DEFAULT]
    assert other["ours_better_by"] == pytest.approx(2.0)  # a lower error is better
    assert other["standard_error"] == pytest.approx(1 / np.sqrt(3))
    assert other["median_seconds"] == 1.0

    report = {"machine": estimators.machine.describe(), "data": {"made": part}}
    readme = tmp_path / "README.md"
    readme.write_text(
        f"before\n{estimators.BEGIN}\nthe last table\n{estimators.END}\nafter\n", "utf-8"
    )
    estimators.put_table(json.loads(json.dumps(report)), readme)
    text = readme.read_text("utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| made, RMSE | 900 | 10 ± 1 | 12 ± 2 | - | 1 s | 1 s |" in text
    assert "the last table" not in text
    readme.write_text("no markers", "utf-8")
    with pytest.raises(ValueError, match="no lines"):
        estimators.put_table(report, readme)


def test_what_is_merged_was_measured_alike(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    assert estimators.begun(path, True)["data"] == {}
    report = {"machine": estimators.machine.describe(), "data": {"wine": {"rows": 178}}}
    path.write_text(json.dumps(report), "utf-8")
    assert estimators.begun(path, True)["data"] == report["data"]
    assert estimators.begun(path, False)["data"] == {}
    report["machine"]["cores"] += 1
    path.write_text(json.dumps(report), "utf-8")
    with pytest.raises(SystemExit, match="measured with cores"):
        estimators.begun(path, True)


def test_a_run_keeps_the_data_it_does_not_measure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "found.json"
    report = {"machine": estimators.machine.describe(), "data": {"wine": {"rows": 178}}}
    path.write_text(json.dumps(report), "utf-8")
    monkeypatch.setattr(estimators, "problem", lambda *_: estimators.Problem(None, "four", [], 0))
    rows = {who: figures([0.5]) for who in (estimators.OURS, estimators.DEFAULT)}
    monkeypatch.setattr(estimators, "measured", lambda *_: rows)
    call = ["estimators", "--data", "digits", "--merge", "--no-tuned", "--out", str(path)]
    monkeypatch.setattr("sys.argv", call)
    monkeypatch.setenv("PYTHONWARNINGS", "")
    with warnings.catch_warnings():
        estimators.main()
    data = json.loads(path.read_text("utf-8"))["data"]
    assert list(data) == ["digits", "wine"]
    assert data["wine"] == {"rows": 178}
    assert data["digits"]["contenders"][estimators.DEFAULT]["ours_better_by"] == 0.0
    assert "ours better by 0" in capsys.readouterr().out


def test_contenders_fit_what_they_are_given() -> None:
    task = estimators.problem("wine", Path())
    assert len(task.splits) == 5
    train, test = task.splits[0]
    model = estimators.contender(estimators.OURS, task, 0).set_params(max_iter=2)
    model.fit(task.frame.iloc[train], task.y[train])
    predicted = model.predict(task.frame.iloc[test])
    assert 0 <= estimators.score(task, task.y[test], predicted) <= 1
    tuned = estimators.contender(estimators.TUNED, task, 0)
    assert len(task.y) < estimators.SMALL
    assert type(tuned).__name__ == "GridSearchCV"
    assert "onehotencoder" in str(estimators.contender(estimators.DEFAULT, task, 0)).lower()
