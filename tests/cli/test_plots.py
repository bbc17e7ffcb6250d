"""`gradnet train --plots`: the pictures that fit a task, and what is refused."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradnet import plots
from gradnet.cli import main

QUICK = ("--epochs", "2", "--hidden", "8", "--quiet")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gradnet.plots.canvas.DPI", 40)
    return tmp_path


def drawn(capsys: pytest.CaptureFixture[str], *line: str) -> list[str]:
    """The pictures that --json names, which have to be in the folder."""
    assert main(["train", *line, *QUICK, "--plots", "pictures", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    for path in map(Path, found["plots"]):
        assert path.read_bytes().startswith(b"\x89PNG")
    assert sorted(map(str, Path("pictures").iterdir())) == sorted(found["plots"])
    return [Path(path).stem for path in found["plots"]]


CLASSES = ["curves", "confusion", "roc", "precision_recall", "calibration"]


def test_pictures_of_images(capsys: pytest.CaptureFixture[str]) -> None:
    assert drawn(capsys, "digits") == [*CLASSES, "weights"]


def test_pictures_of_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert drawn(capsys, "diabetes") == ["curves", "residuals"]


def test_the_plane_is_drawn_in_the_units_of_the_data(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    before = plots.decision_boundary

    def watched(model: Any, X: Any, y: Any, **options: Any) -> Any:
        seen.extend((np.asarray(X), y, options, model(np.asarray(X))))
        return before(model, X, y, **options)

    monkeypatch.setattr(plots, "decision_boundary", watched)
    assert drawn(capsys, "xor") == [*CLASSES, "boundary"]
    X, y, options, p = seen
    # Of the cells themselves: points around the corners of the unit square, y = x1 xor x2.
    np.testing.assert_array_equal((X[:, 0] > 0.5) != (X[:, 1] > 0.5), y == 1)
    assert options["features"] == ("x1", "x2")
    assert p.shape == (80, 2)


def test_the_report_names_the_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "iris", *QUICK, "--plots", "a/b"]) == 0
    assert f"plots    {Path('a/b')}: curves, confusion, roc," in capsys.readouterr().out


def test_nothing_is_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    (folder := Path("pictures")).mkdir()
    (folder / "curves.png").write_text("mine")
    assert main(["train", "iris", *QUICK, "--plots", "pictures"]) == 2
    assert "curves.png is there already" in capsys.readouterr().err
    assert not Path("runs").exists()
    assert main(["train", "iris", *QUICK, "--plots", "pictures/curves.png"]) == 2
    assert "no folder can be made" in capsys.readouterr().err


def test_a_resumed_run_draws_anew(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "iris", *QUICK, "--plots", "pictures"]) == 0
    before = Path("pictures/curves.png").read_bytes()
    line = ["train", "iris", "--resume", "runs/iris", "--epochs", "4", "--quiet"]
    assert main([*line, "--plots", "pictures"]) == 0
    assert Path("pictures/curves.png").read_bytes() != before


def test_without_matplotlib(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "matplotlib" else before(name)
    )
    assert main(["train", "iris", "--plots", "pictures"]) == 2
    assert "--plots needs matplotlib: run pip install" in capsys.readouterr().err
    assert not Path("runs").exists()
