"""The defaults: one row for each size, and what they reach on real data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gradnet.cli import main
from gradnet.cli.report import Report, counted, figure, lasting
from gradnet.training.defaults import choose, choose_whole


@pytest.mark.parametrize("rows", [1, 299, 300, 1258, 5000, 15_000, 10**9])
def test_defaults_are_within_what_the_flags_allow(rows: int) -> None:
    chosen = choose(rows, None)
    assert chosen.hidden
    assert 0.0 <= chosen.dropout < 1.0
    assert chosen.lr is not None
    assert chosen.lr > 0.0
    assert chosen.schedule == "cosine"
    assert 10 <= chosen.patience < chosen.epochs


def test_another_optimizer_has_its_own_rates() -> None:
    assert choose(500, "sgd").lr is None
    assert choose(500, "sgd").weight_decay is None
    assert choose(500, "adamw") == choose(500, None)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_all_rows_are_trained_on_for_a_short_time(task: str) -> None:
    chosen = choose_whole(500, task, None)
    assert chosen.epochs < choose(500, None).epochs
    assert chosen.hidden == choose(500, None).hidden
    assert choose_whole(500, task, "sgd").lr is None
    assert choose_whole(20, task, None) == choose(20, None)


def test_a_search_takes_all_rows_at_a_constant_rate() -> None:
    chosen = choose(500, "lbfgs", searches=True)
    assert chosen.batch_size == 500
    assert chosen.schedule is None
    assert chosen.lr is None


def test_heart_by_defaults(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heart = str(data_dir / "heart" / "Heart.csv")
    line = ["train", heart, "--target", "AHD", "--json", "--out"]
    accuracies = []
    for seed in range(3):
        assert main([*line, str(tmp_path / str(seed)), "--seed", str(seed)]) == 0
        told = capsys.readouterr()
        found = json.loads(told.out)
        assert found["task"] == "classification"
        accuracies.append(found["test"]["accuracy"])
    assert "note: Heart.csv: the unnamed column that numbers the rows is left out" in told.err
    assert accuracies[0] >= 0.80
    assert sum(accuracies) / 3 >= 0.78


def test_figures() -> None:
    assert [figure(x) for x in (None, float("nan"), 0.12345, 1.0, 999.94, 49174.98)] == [
        *("-", "-", "0.1235", "1", "999.9", "49,175"),
    ]
    assert [lasting(x) for x in (0.1234, 9.96, 12.3, 200.0, 7500.0)] == [
        *("0.12 s", "10 s", "12 s", "3 min 20 s", "2 h 5 min"),
    ]
    assert (counted(1, "row"), counted(1797, "row")) == ("1 row", "1,797 rows")


@pytest.mark.parametrize("plain", [True, False])
def test_tables_with_and_without_rich(
    plain: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if plain:
        monkeypatch.setattr("gradnet.cli.report.find_spec", lambda name: None)
    report = Report()
    report.table(("", "a [b]", "c"), [("loss", "0.1", "10"), ("x" * 9, "2", "[red]")])
    report.line("[bold]" + "long " * 40)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines() if "─" not in line]
    assert [line.split() for line in lines[:3]] == [
        ["a", "[b]", "c"],
        ["loss", "0.1", "10"],
        ["xxxxxxxxx", "2", "[red]"],
    ]
    assert lines[3].startswith("[bold]long ")
    assert len(lines) == 4
