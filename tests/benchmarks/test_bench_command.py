"""Bad calls of `gradnet bench`: one line says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

import gradnet as gn
from gradnet.cli import bench as command
from gradnet.cli import main


def refused(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error of a call that is refused."""
    capsys.readouterr()
    assert main(line.split()) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    return told.err


def test_bad_calls(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "invalid choice: 'speed'" in refused("bench speed", capsys)
    assert "there is no peer 'tf'" in refused("bench step --peers torch,tf", capsys)
    assert "there is no 'small' in step" in refused("bench step --workloads small", capsys)
    assert "is a folder" in refused(f"bench step --json {tmp_path}", capsys)
    assert "there is no folder" in refused(f"bench step --json {tmp_path}/no/f.json", capsys)
    assert "expected names" in refused("bench step --peers torch,,jax", capsys)
    assert "a whole number" in refused("bench step --rounds 0", capsys)
    assert "--update needs --json FILE" in refused("bench step --update", capsys)


def test_a_device_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    if "cuda" in gn.backends.available():
        pytest.skip("there is a GPU")
    reason = gn.backends.unavailable("cuda")
    assert reason is not None
    assert reason in refused("bench step --device cuda", capsys)


def test_without_a_checkout(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "MARK", Path("no-such-folder") / "workloads.py")
    assert "run it in a checkout of the repository" in refused("bench step", capsys)
