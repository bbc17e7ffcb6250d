"""Contenders on a GPU that raise, crash, hang or chatter: what the others' report is then."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import bars, compiling, field, races, report, speed
from benchmarks.gpu.notes import ABSENT, DONE, FAILED, LATE, Notebook, Options

import gpu_racers  # isort: skip  of this folder

RACE = races.DRY[0]


@pytest.fixture(autouse=True)
def _racers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The contenders of gpu_racers.py, in processes, with little time."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setattr(field.Library, "program", "gpu_racers")
    for name, contenders in gpu_racers.families().items():
        monkeypatch.setitem(races.FAMILIES, name, contenders)
    for name, value in (("BUILDING", 5.0), ("ROUNDS", 3), ("SLICE", 1e-3)):
        monkeypatch.setattr(field, name, value)
    monkeypatch.setattr(speed, "RACES", (RACE,))
    monkeypatch.setattr(speed, "said", lambda query: "1980 MHz")
    monkeypatch.setattr(compiling, "RACES", (RACE,))
    monkeypatch.setattr(bars, "RACES", (RACE,))


def test_whoever_goes_wrong_costs_nobody_else(tmp_path: Path) -> None:
    ceiling = {"flops_per_second": 1e15}
    probed = {
        "products": {"found": {"float32": ceiling}},
        "products by torch": {"status": LATE},
        "copies": {"found": {"bytes_per_second": {"copy": 4e12}}},
    }
    (tmp_path / "probe.json").write_text(json.dumps({"parts": probed}))
    notes = Notebook("speed", Options(str(tmp_path), dry=False, limit=60.0))
    speed.run(notes)
    race = notes.parts[RACE.name]
    rows = race["found"]["contenders"]
    errors = {name: row["error"] for name, row in rows.items() if "error" in row}
    assert race["status"] == FAILED
    assert set(errors) == {
        *("gradnet-loses", "gradnet-raises", "gradnet-crashesatonce", "gradnet-crasheslate"),
        *("torch-crashes", "torch-hangs", "torch-wrong"),
    }
    assert errors["gradnet-loses"] == "gradnet: RuntimeError: an illegal address was met"
    assert "80 GB were asked for" in errors["gradnet-raises"]
    assert "exit status -9" in errors["gradnet-crasheslate"]
    assert "exit status -11" in errors["torch-crashes"]
    assert errors["torch-hangs"] == "torch: no answer after 5 s"
    assert errors["torch-wrong"] == "its first loss is 2.0, not 1.0"
    assert rows["torch-absent"]["left_out"] == "not there: this version has none"
    assert rows["jax-good"]["left_out"].startswith("jax cannot be imported here: No module named")
    told = notes.parts["libraries"]["found"]
    assert told["torch"] == {"starts": 3, "ends": {"torch-crashes": 1, "torch-hangs": 1}}
    ends = dict.fromkeys(("gradnet-loses", "gradnet-crashesatonce", "gradnet-crasheslate"), 1)
    assert told["gradnet"]["ends"] == ends
    assert "cannot be imported" in told["jax"]["missing"]
    # The process of these ended after one round, or two.
    assert [rows[name]["rounds"] for name in ("gradnet-good", "gradnet-chatters")] == [1, 2]
    good = rows["torch-good"]
    assert good["rounds"] == 3
    assert 1e-4 <= good["min"] <= good["median"] < 0.1
    assert good["of_product_ceiling"] == RACE.flops / good["median"] / 1e15
    assert good["of_copy_ceiling"] > 0
    assert good["peak_bytes"] == 1000
    assert good["launches"] == {"kernels": 2}
    # gradnet's process has no chains: the part says so, and the races go on.
    assert notes.parts["chains"]["status"] == FAILED
    assert notes.parts["state"]["status"] == DONE
    found = {"dry": False, "date": "", "stages": {"speed": stage(notes)}}
    assert "| torch-hangs" in report.markdown(found)
    against, *others = bars.bars(found)
    # Torch's fault is that it is as fast; JAX was not there to be faster.
    assert (against.verdict, against.about) == (bars.MISSED, "without jax")
    assert [bar.verdict for bar in others] == [bars.MISSED, bars.UNKNOWN]


def test_the_first_steps_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(races.FAMILIES["torch"], "torch-hangs")
    notes = Notebook("compiling", Options(str(tmp_path), dry=False, limit=60.0))
    compiling.run(notes)
    assert notes.parts["jax"]["status"] == ABSENT
    torch = notes.parts["torch"]["found"]["races"][RACE.name]
    assert torch["torch-good"]["launches"] == {"kernels": 3}
    assert torch["torch-good"]["first_step_seconds"] > 0
    assert "median" not in torch["torch-good"]
    gradnet = notes.parts["gradnet"]
    assert gradnet["status"] == FAILED
    assert "gradnet-raises" in gradnet["reason"]
    assert gradnet["found"]["counts"] == {"races": 1}
    chatters = gradnet["found"]["races"][RACE.name]["gradnet-chatters"]
    assert chatters["losses"] == [1.0, 1.0, 1.0]
    assert chatters["error"] == "gradnet: KeyError: 'nodes'"
    assert set(json.loads(notes.path.read_text())["parts"]) == {"gradnet", "torch", "jax"}


def test_answers_that_were_found_beside_other_stages_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("gradnet_fused_1.txt", "gradnet_cuda_map_1.ptx"):
        (tmp_path / name).touch()
    monkeypatch.delenv("GRADNET_CACHE_DIR", raising=False)
    speed.forget()
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setenv("GRADNET_CACHE_DIR", str(tmp_path))
    speed.forget()
    assert [path.name for path in tmp_path.iterdir()] == ["gradnet_cuda_map_1.ptx"]


def test_no_time(tmp_path: Path) -> None:
    notes = Notebook("speed", Options(str(tmp_path), dry=False, limit=1.0))
    speed.run(notes)
    assert notes.parts[RACE.name]["status"] == LATE
    late = Notebook("compiling", Options(str(tmp_path), dry=False, limit=-1.0))
    compiling.run(late)
    assert {part["status"] for part in late.parts.values()} == {LATE}


def test_who_has_too_little_time_is_not_to_blame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = field.Library("torch", Options(str(tmp_path), dry=False, limit=60.0))
    monkeypatch.setattr(field, "LEAST", 0.0)
    row = library._built(RACE, "torch-hangs", time.monotonic() + 1.0)
    assert row["error"].startswith("torch: no answer after")
    assert library.ends["torch-hangs"] == 0
    assert library.worker is None


def test_who_ends_its_process_too_often_is_left_out(tmp_path: Path) -> None:
    library = field.Library("torch", Options(str(tmp_path), dry=True, limit=60.0))
    library.ends["torch-crashes"] = field.MOST_ENDS
    assert "too often" in library._built(RACE, "torch-crashes", 1e12)["left_out"]
    assert library.worker is None


def stage(notes: Notebook) -> dict[str, Any]:
    """The report of a stage that ended well."""
    return {"ended": "well", "told": "", "seconds": 1.0, "limit": 60.0, "parts": notes.parts}
