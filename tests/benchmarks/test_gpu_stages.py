"""The stages of the check on a GPU that go wrong, and what the report says then."""

from __future__ import annotations

import json
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu_check
from benchmarks.gpu import report, stages
from benchmarks.gpu.notes import ABSENT, DONE, FAILED, Options
from benchmarks.gpu.stages import STAGES, Stage


def checked(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: float) -> Any:
    """The report of one stage of gpu_stages.py, and of one that is not started after it."""
    monkeypatch.setenv("GRADNET_TEST_STAGE", name)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    stage = Stage(name, "gpu_stages", limit, "goes wrong", 1)
    return gpu_check.check([stage], tmp_path, dry=True, total=limit)


def test_a_stage_that_dies_leaves_its_report_and_the_others_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADNET_TEST_STAGE", "dies")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    chosen = [Stage("dies", "gpu_stages", 20, "", 1), Stage("missing", "no_such_module", 20, "", 1)]
    found = gpu_check.check(chosen, tmp_path, dry=True)
    dies, missing = found["stages"]["dies"], found["stages"]["missing"]
    assert dies["ended"] == "died"
    assert dies["told"].startswith("by signal 9")
    assert {name: part["status"] for name, part in dies["parts"].items()} == {
        "good": DONE,
        "wrong": FAILED,
        "absent": ABSENT,
        "broken": FAILED,
    }
    assert dies["parts"]["good"]["found"] == {"worst": "inf"}
    assert dies["parts"]["wrong"]["found"] == {"counts": {"wrong": 1}}
    assert "KeyError" in dies["parts"]["broken"]["reason"]
    assert missing["ended"] == "died"
    assert "No module named no_such_module" in missing["told"]
    assert len(report.troubles(found)) == 4
    assert json.loads((tmp_path / "gpu.json").read_text("utf-8")) == found
    text = (tmp_path / "gpu.md").read_text("utf-8")
    assert "dies died: by signal 9" in text
    assert "- dies, absent: this version has none" in text


def test_a_stage_over_its_limit_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = checked("hangs", tmp_path, monkeypatch, 2)
    stage = found["stages"]["hangs"]
    assert stage["ended"] == "killed"
    assert 1 < stage["limit"] <= 2
    assert stage["told"] == f"over its limit of {stage['limit']:g} s"
    assert stage["parts"]["good"]["status"] == DONE
    with zipfile.ZipFile(tmp_path / "details.zip") as packed:
        child = int(packed.read("child"))
    for _ in range(100):  # the system takes a moment to bury it
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("a child of the stage lives on")


def test_a_stage_without_a_word_and_one_without_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = checked("silent", tmp_path, monkeypatch, 20)["stages"]["silent"]
    assert (stage["ended"], stage["parts"]) == ("died", {})
    assert stage["told"] == "with exit status 1: before its first part"
    late = gpu_check.check([STAGES[0]], tmp_path, dry=True, total=0)["stages"]["probe"]
    assert late["ended"] == "not started"


def test_stages_whose_report_is_no_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of JSON, a full disk, none at all, and one without a part."""
    told = {}
    for name in ("garbage", "full", "nothing", "empty"):
        found = checked(name, tmp_path, monkeypatch, 20)["stages"][name]
        assert found["ended"] == "died"
        told[name] = found["told"]
        parts = set(found["parts"])
        assert parts == ({"good", "wrong", "absent", "broken"} if name == "full" else set())
    assert told["garbage"] == "its report has no part: \ufffd[but this it said"
    assert told["full"] == "with exit status 1: OSError: [Errno 28] No space left on device"
    assert told["nothing"].startswith("it left no report: broken: failed: KeyError")
    assert told["empty"] == "its report has no part: without a word"


def test_a_disk_without_room_for_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "write", full)
    monkeypatch.setattr(stages, "run", full)
    found = gpu_check.check(STAGES[-1:], tmp_path, dry=True)
    assert found["stages"]["speed"]["ended"] == "died"
    assert "could not be run: [Errno 28]" in found["stages"]["speed"]["told"]
    assert "the report cannot be written: [Errno 28]" in capsys.readouterr().err


def test_a_report_is_there_while_a_stage_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as it is: whoever ends the check has it."""
    seen = []
    write = report.write

    def seeing(found: dict[str, Any], out: Path, details: Path) -> None:
        write(found, out, details)
        stage = json.loads((out / "gpu.json").read_text("utf-8"))["stages"]["hangs"]
        seen.append((stage["ended"], list(stage["parts"])))

    monkeypatch.setattr(gpu_check, "EVERY", 0.2)
    monkeypatch.setattr(report, "write", seeing)
    checked("hangs", tmp_path, monkeypatch, 4)
    parts = ["good", "wrong", "absent", "broken"]
    assert ("running", parts) in seen
    assert seen[-1] == ("killed", parts)


def test_the_last_stages_have_the_time_that_others_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {}

    def run(stage: Stage, options: Options, env: object) -> dict[str, Any]:
        limits[stage.name] = options.limit
        return {**stages.unrun(True, "well", ""), "limit": options.limit}

    monkeypatch.setattr(stages, "run", run)
    gpu_check.check(STAGES, tmp_path, dry=True)
    assert {name: limits[name] for name in limits if name != "speed"} == {
        stage.name: stage.limit for stage in STAGES[:-1]
    }
    assert 500 < limits["speed"] < stages.TOTAL_SECONDS


def test_who_says_too_much_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "_SAID", 4)
    for text, kept in ((b"12345678", "12345678"), (b"123456789", "1234\n[...]\n6789")):
        path = tmp_path / "said"
        path.write_bytes(text)
        with path.open("rb") as file:
            assert stages._said(file) == kept
