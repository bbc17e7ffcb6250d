"""Progress: what is written where, and what is not."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

import gradnet as gn
from gradnet.training import fit
from gradnet.training.progress import Bar, Lines, style


def trained(classes: Any, **options: Any) -> None:
    model = gn.nn.MLP((5, 8, 3), output="softmax", seed=0)
    fit(model, *classes, **{"epochs": 3, "validation": 0.2, **options})


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_go_to_standard_error(classes: Any, capsys: pytest.CaptureFixture[str]) -> None:
    trained(classes)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("epoch 1/3: loss ")
    assert "val_loss " in lines[0]
    assert "val_accuracy " in lines[0]
    assert "samples/s" in lines[0]
    assert "\r" not in err
    assert "\x1b" not in err


def test_silence(classes: Any, capsys: pytest.CaptureFixture[str]) -> None:
    trained(classes, progress=False)
    assert capsys.readouterr() == ("", "")


def test_many_epochs_make_about_twenty_lines(
    classes: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(classes, epochs=200, batch_size=None)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 21
    assert lines[0].startswith("epoch 1/200")
    assert lines[-1].startswith("epoch 200/200")


def test_notes_end_the_lines(classes: Any, capsys: pytest.CaptureFixture[str]) -> None:
    trained(classes, epochs=60, early_stopping=2, lr=0.5)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-2].startswith("stopped early at epoch")
    assert lines[-1].startswith("weights of epoch")


def test_long_epochs_are_told_of_each(
    classes: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradnet.training.progress._LONGEST_SILENCE", -1.0)
    trained(classes, epochs=100, batch_size=None)
    assert len(capsys.readouterr().err.splitlines()) == 100


def test_a_terminal_has_a_bar(classes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    trained(classes, epochs=4, early_stopping=1, monitor="val_accuracy")
    text = stream.getvalue()
    assert "epoch " in text
    assert "val_loss" in text
    assert "stopped early" in text


def test_the_style_by_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    assert style("auto", io.StringIO()) == style(True, io.StringIO()) == "lines"
    assert style("lines", Terminal()) == "lines"
    assert style("bar", io.StringIO()) == "bar"
    assert style(False, Terminal()) == ""
    pytest.importorskip("rich")
    assert style("auto", Terminal()) == "bar"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert style("auto", Terminal()) == "lines"


def test_an_error_takes_the_bar_down(classes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(ValueError, match="cannot watch"):
        trained(classes, monitor="nothing")
    with pytest.raises(gn.training.NotFinite):
        trained(classes, optimizer="sgd", lr=1e30)
    assert Bar().on_fit_end(None) is None  # type: ignore[func-returns-value, arg-type]
    assert isinstance(Lines(), gn.training.Callback)
