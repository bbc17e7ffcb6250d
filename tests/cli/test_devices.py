"""`gradnet devices`: a real operation on each backend, and what to do where it fails."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import gradnet as gn
from gradnet import backends
from gradnet.cli import devices, main, trial


def test_every_backend_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices"]) == 0
    told = capsys.readouterr().out
    lines = {line.split()[0]: line for line in told.splitlines() if line}
    for name in backends.names():
        works = backends.unavailable(name) is None
        assert ("PASS" in lines[name]) is works
    assert "PASS" in lines["numpy"]
    assert "default backend: " in told


def test_a_failure_comes_with_reason_and_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "_MODULES", {"numba": "absent_module", "numpy": "gradnet.tensor"})
    monkeypatch.setattr(backends, "_loaded", {("numpy", 0): backends.get("numpy")})
    monkeypatch.setattr(devices, "attempt", lambda name: (0.0, "it is broken"))
    assert main(["devices"]) == 0
    told = capsys.readouterr().out
    assert "numba FAIL  the backend 'numba' cannot be loaded" in told
    assert "remedy: pip install numba" in told
    assert "numpy FAIL  it is broken; remedy: report it" in told


def test_a_trial_that_fails_tells_its_reason_and_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error's first line, however long it is: that of the last of several."""
    first = (
        'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\nKeyError: 1\n'
    )
    last = 'Traceback (most recent call last):\n  File "b.py", line 2, in h\n    raise\n    ^^^^\n'
    error = "gradnet.errors.DeviceError: libnvrtc is missing; run pip install it\n  listdir: b\n"
    ended = subprocess.CompletedProcess([], 1, "", f"{first}\n{last}{error}")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)
    monkeypatch.setattr(backends, "_MODULES", {"numpy": "gradnet.numpy_backend"})
    assert main(["devices"]) == 0
    told = capsys.readouterr().out
    assert "numpy FAIL  libnvrtc is missing; remedy: run pip install it\n" in told


def test_trial_measures_and_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trial.trial("numpy") > 0.0
    sound = backends.get("numpy")

    class Wrong:
        def __getattr__(self, name: str) -> Any:
            return getattr(sound, name)

        def matmul(self, a: Any, b: Any, **options: Any) -> Any:
            return sound.matmul(a, b, **options) * 1.001

    monkeypatch.setitem(backends._loaded, ("wrong", 0), Wrong())
    with pytest.raises(ArithmeticError, match=r"and its gradient are off by 0\.00"):
        trial.trial("wrong")


def test_attempt_tells_how_a_process_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, reason = devices.attempt("numpy")
    assert seconds > 0.0
    assert reason == ""
    assert devices.attempt("absent") == (
        0.0,
        f"there is no backend 'absent'; there are {', '.join(backends.names())}",
    )
    ended = subprocess.CompletedProcess([], -11, "", "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)
    assert devices.attempt("numpy") == (0.0, "exit status -11")

    def late(*_: Any, **__: Any) -> None:
        raise subprocess.TimeoutExpired("gradnet", 1.0)

    monkeypatch.setattr(subprocess, "run", late)
    assert devices.attempt("numpy") == (0.0, "no result after 300 s")


def test_device_info() -> None:
    found = {info.name: info for info in gn.device_info()}
    assert set(found) == set(backends.names())
    assert found["numpy"].device == "cpu"
    assert found["numpy"].reason == found["numpy"].remedy == ""
    assert found["numpy"].versions["numpy"].count(".") >= 1
    for info in found.values():
        assert (info.device == "") is (info.reason != "")


def test_trial_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gradnet.cli.trial", "numpy"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout) > 0.0
