"""Runs that are cut short: what is saved, what is said, and how they go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.cli import main
from gradnet.training import History

RUN = ["spirals", "--hidden", "16", "--epochs", "8", "--batch-size", "64", "--patience", "5"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is pressed when the third epoch is over."""
    append = History.append
    pressed: list[int] = []

    def appended(self: History, row: Any) -> None:
        append(self, row)
        if self.epochs == 3 and not pressed:
            pressed.append(self.epochs)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(History, "append", appended)


def weights(folder: str) -> dict[str, Any]:
    state = gn.load(f"{folder}/model.safetensors").state_dict()
    return {name: tensor.numpy() for name, tensor in state.items()}


def curves(folder: str) -> list[list[str]]:
    """history.csv without the columns of time."""
    lines = [line.split(",") for line in Path(folder, "history.csv").read_text().splitlines()]
    kept = [i for i, n in enumerate(lines[0]) if n not in ("seconds", "samples_per_second")]
    return [[line[i] for i in kept] for line in lines]


def same(a: str, b: str) -> None:
    assert curves(a) == curves(b)
    for name, values in weights(a).items():
        np.testing.assert_array_equal(values, weights(b)[name])


def test_interrupted_then_resumed_is_as_if_never_interrupted(
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *RUN, "--out", "whole", "--quiet"]) == 0
    request.getfixturevalue("interrupted")
    capsys.readouterr()
    assert main(["train", *RUN, "--out", "parts", "--json"]) == 130
    told = capsys.readouterr()
    first = json.loads(told.out.splitlines()[-1])
    assert first["epochs"] == 3
    assert first["test"]["accuracy"] > 0.2
    assert "interrupted; go on with: gradnet train spirals --resume parts" in told.err
    assert len(curves("parts")) == 4
    assert main(["predict", "parts", "spirals", "--out", "p.csv"]) == 0
    capsys.readouterr()
    assert main(["train", "spirals", "--resume", "parts", "--json"]) == 0
    second = json.loads(capsys.readouterr().out)
    assert second["epochs"] == 8
    same("whole", "parts")
    # A run that is complete stays as it is, and is measured again.
    before = weights("parts")
    assert main(["train", "spirals", "--resume", "parts", "--json"]) == 0
    third = json.loads(capsys.readouterr().out)
    assert {**third, "seconds": 0, "samples_per_second": 0} == {
        **second,
        "seconds": 0,
        "samples_per_second": 0,
    }
    for name, values in weights("parts").items():
        np.testing.assert_array_equal(values, before[name])


def test_killed_then_resumed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["spirals", "--hidden", "64,64", "--epochs", "400", "--patience", "0", "--quiet"]
    with subprocess.Popen([sys.executable, "-m", "gradnet", "train", *line, "--out", "m"]) as run:
        checkpoint = here / "m/checkpoint.safetensors"
        while not checkpoint.exists():
            assert run.poll() is None
            time.sleep(0.01)
        run.kill()
    assert not (here / "m/model.safetensors").exists()
    files = {path.name for path in (here / "m").iterdir() if not path.name.endswith(".tmp")}
    assert files == {"run.json", "checkpoint.safetensors"}
    assert main(["train", "spirals", "--out", "m"]) == 2
    assert "--out m: the folder is not empty, and nothing is overwritten" in capsys.readouterr().err
    assert main(["train", "spirals", "--resume", "m", "--epochs", "2", "--json"]) in (0, 2)


@pytest.mark.parametrize("saved", [True, False])
def test_an_impatient_interrupt_keeps_the_last_checkpoint(
    saved: bool, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    append = History.append

    def pressed_twice(self: History, row: Any) -> None:
        append(self, row)
        if self.epochs == (3 if saved else 1):
            raise KeyboardInterrupt

    monkeypatch.setattr(History, "append", pressed_twice)
    assert main(["train", *RUN, "--out", "m", "--quiet"]) == 130
    told = capsys.readouterr().err
    assert (here / "m").exists() is saved
    assert ("go on from the last checkpoint by --resume m" in told) is saved
    assert ("nothing was saved" in told) is not saved
    if saved:
        monkeypatch.setattr(History, "append", append)
        assert main(["train", "spirals", "--resume", "m", "--quiet"]) == 0
        assert len(curves("m")) == 9


def test_killed_before_its_first_checkpoint(here: Path) -> None:
    assert main(["train", *RUN, "--out", "whole", "--quiet"]) == 0
    (here / "m").mkdir()
    (here / "m/run.json").write_bytes((here / "whole/run.json").read_bytes())
    assert main(["train", "spirals", "--resume", "m", "--quiet"]) == 0
    same("whole", "m")


@pytest.mark.parametrize("epoch", [1, 4])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError()], ids=str)
def test_a_full_disk_takes_no_checkpoint_away(
    error: Exception,
    epoch: int,
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    append = History.append

    def failing(self: History, row: Any) -> None:
        append(self, row)
        if self.epochs == epoch:
            raise error

    monkeypatch.setattr(History, "append", failing)
    assert main(["train", *RUN, "--out", "m", "--quiet"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    if epoch == 1:
        assert told.endswith("; nothing was saved\n")
        assert not (here / "m").exists()
        return
    assert told.endswith("; go on from the last checkpoint by --resume m\n")
    monkeypatch.setattr(History, "append", append)
    assert main(["train", "spirals", "--resume", "m", "--quiet"]) == 0
    assert len(curves("m")) == 9


def test_a_file_named_as_a_built_in_set_is_no_matter(here: Path) -> None:
    (here / "spirals").mkdir()
    assert main(["train", *RUN, "--out", "m", "--epochs", "1", "--quiet"]) == 0
    assert main(["train", "spirals", "--resume", "m", "--epochs", "2", "--quiet"]) == 0


def test_more_epochs_when_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *RUN, "--out", "m", "--json"]) == 0
    assert main(["train", "spirals", "--resume", "m", "--epochs", "10", "--json"]) == 0
    epochs = [json.loads(line)["epochs"] for line in capsys.readouterr().out.splitlines()]
    assert epochs == [8, 10]


def test_data_may_be_a_relative_path_elsewhere(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "xy.csv").write_text("x,y\n" + "".join(f"{i},{i % 2}\n" for i in range(60)))
    assert main(["train", "xy.csv", "--epochs", "2", "--out", "m", "--quiet"]) == 0
    (here / "below").mkdir()
    monkeypatch.chdir(here / "below")
    assert main(["train", "../xy.csv", "--resume", "../m", "--epochs", "3", "--quiet"]) == 0
    capsys.readouterr()


def test_other_data_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["x,y\n", *(f"{i},{i % 2}\n" for i in range(60))]
    (here / "xy.csv").write_text("".join(lines))
    assert main(["train", "xy.csv", "--epochs", "2", "--out", "m", "--quiet"]) == 0
    (here / "xy.csv").write_text(
        "".join([lines[0], *(line.replace(",", ".5,") for line in lines[1:])])
    )
    assert main(["train", "xy.csv", "--resume", "m", "--epochs", "3", "--quiet"]) == 2
    assert "the data are not what the run began with" in capsys.readouterr().err


BAD = [
    (["spirals", "--resume", "absent"], "absent: there is no run to resume (no file run.json)"),
    (["spirals", "--resume", "m", "--out", "n"], "a resumed run is saved where it was"),
    (["digits", "--resume", "m"], "DATA digits is not what the run in m has, spirals"),
    (["spirals", "--resume", "m", "--lr", "0.5"], "--lr 0.5 is not what the run in m has, 0.001"),
    (["spirals", "--resume", "m", "--hidden", "8,8"], "--hidden 8,8 is not what the run in m has"),
    (["spirals", "--resume", "m", "--seed", "1"], "--seed 1 is not what the run in m has, 0"),
]


def test_what_cannot_be_resumed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *RUN, "--epochs", "2", "--out", "m", "--quiet"]) == 0
    capsys.readouterr()
    before = {path: path.read_bytes() for path in (here / "m").iterdir()}
    for line, expected in BAD:
        assert main(["train", *line]) == 2
        told = capsys.readouterr().err
        assert expected in told
        assert told.count("\n") == 1
    for name, text, expected in (
        ("run.json", "{", "not written by gradnet train, or by another version"),
        ("checkpoint.safetensors", "x", "checkpoint.safetensors"),
    ):
        kept = (here / "m" / name).read_bytes()
        (here / "m" / name).write_text(text)
        assert main(["train", "spirals", "--resume", "m"]) == 2
        told = capsys.readouterr().err
        assert expected in told.splitlines()[-1]
        (here / "m" / name).write_bytes(kept)
    assert {path: path.read_bytes() for path in (here / "m").iterdir()} == before
