"""Where runs are saved: never over anything, and nothing stays of a run that failed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gradnet.cli.folder import Folder
from gradnet.cli.parser import BadCall


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fail(folder: Folder) -> None:
    """A run that has written something when an error ends it."""
    with folder:
        folder.model.write_text("half")
        (folder.path / "sub").mkdir()
        (folder.path / "sub" / "file").write_text("half")
        raise ZeroDivisionError


def test_new_folders_are_numbered(here: Path) -> None:
    paths = []
    for _ in range(3):
        with Folder("some data.v2.csv", None, None) as folder:
            folder.model.write_text("weights")
            paths.append(folder.path.as_posix())
    assert paths == ["runs/some-data.v2", "runs/some-data.v2-2", "runs/some-data.v2-3"]


def test_named_folder_is_made_with_its_parents(here: Path) -> None:
    with Folder("digits", "a/b/c", None) as folder:
        folder.model.write_text("weights")
    assert (here / "a/b/c/model.safetensors").exists()
    (here / "empty").mkdir()
    with Folder("digits", "empty", None) as folder:
        assert folder.path == Path("empty")


@pytest.mark.parametrize("out", [None, "a/b"])
def test_an_error_takes_everything_away(out: str | None, here: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        fail(Folder("digits", out, None))
    assert list(here.iterdir()) == []


def test_an_error_spares_what_was_there(here: Path) -> None:
    (here / "runs/other").mkdir(parents=True)
    (here / "empty").mkdir()
    for out in (None, "empty"):
        with pytest.raises(ZeroDivisionError):
            fail(Folder("digits", out, None))
    assert sorted(p.as_posix() for p in Path().rglob("*")) == ["empty", "runs", "runs/other"]


def test_a_resumed_run_stays_after_an_error(here: Path) -> None:
    (here / "run").mkdir()
    with pytest.raises(ZeroDivisionError):
        fail(Folder("digits", None, "run"))
    assert (here / "run/model.safetensors").exists()


def test_refusals(here: Path) -> None:
    (here / "full").mkdir()
    (here / "full/model.safetensors").write_text("weights")
    (here / "file").write_text("text")
    with pytest.raises(BadCall, match="full: the folder is not empty, and nothing is overwritten"):
        Folder("digits", "full", None)
    with pytest.raises(BadCall, match="file: this is a file; expected a folder"):
        Folder("digits", "file", None)
    with pytest.raises(BadCall, match="no folder can be made in"):
        Folder("digits", "file/below", None)
    with pytest.raises(BadCall, match="a resumed run is saved where it was"):
        Folder("digits", "other", "full")
    assert (here / "full/model.safetensors").read_text() == "weights"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind root")
def test_a_folder_that_may_not_be_written_is_refused(here: Path) -> None:
    (here / "locked").mkdir(mode=0o500)
    with pytest.raises(BadCall, match="no folder can be made in"):
        Folder("digits", "locked/run", None)
