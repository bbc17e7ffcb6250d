"""Output in encodings that lack characters: tables in plain ones, names in escapes, data never."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from gradnet.cli import main


class Told:
    """Standard output and standard error in an encoding, and what was written to them."""

    def __init__(self, patch: pytest.MonkeyPatch, encoding: str, errors: str = "strict") -> None:
        self.streams = []
        for name in ("stdout", "stderr"):
            self.streams.append(io.TextIOWrapper(io.BytesIO(), encoding, errors))
            patch.setattr(sys, name, self.streams[-1])

    @property
    def texts(self) -> list[str]:
        found = []
        for stream in self.streams:
            stream.flush()
            raw = stream.buffer
            assert isinstance(raw, io.BytesIO)
            found.append(raw.getvalue().decode(stream.encoding))
        return found


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_tables_are_drawn_in_characters_that_there_are(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(monkeypatch, encoding)
    assert main(["explain", "x * é", "--at", "x=1,é=2"]) == 0
    out, err = told.texts
    name = "é" if encoding != "ascii" else r"\xe9"
    assert f"f = x * {name} [multiply switches]\n|  value 2\n|  gradient 1\n+- x\n" in out
    assert "-----" in out
    assert err == ""
    assert [stream.errors for stream in told.streams] == ["strict", "strict"]


def test_what_the_user_chose_for_such_characters_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(monkeypatch, "ascii", "replace")
    assert main(["explain", "x", "--at", "x=1"]) == 0
    assert "?????" in told.texts[0]


def test_predictions_are_not_spelled_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{i},{'é漢'[i % 2]}\n" for i in range(40))
    Path("xy.csv").write_text(f"x,y\n{rows}", encoding="utf-8")
    told = Told(monkeypatch, "latin-1")
    assert main(["train", "xy.csv", "--out", "m", "--epochs", "1", "--quiet"]) == 0
    before = told.texts[0]
    assert main(["predict", "m", "xy.csv"]) == 2
    out, err = told.texts
    assert out == before
    assert "standard output is in latin-1, which has no '\\u6f22': write to a file by --out" in err
    assert main(["predict", "m", "xy.csv", "--out", "p.csv"]) == 0
    assert "漢" in Path("p.csv").read_text(encoding="utf-8")
