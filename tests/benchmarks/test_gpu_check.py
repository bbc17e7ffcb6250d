"""The scripted check on a GPU: its dry run, and how it takes stages that go wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import gpu_check, machine
from benchmarks.gpu import comparisons, probe, races, report, sanitizers, shards, speed, stages
from benchmarks.gpu.bars import UNKNOWN
from benchmarks.gpu.device import Bench
from benchmarks.gpu.notes import ABSENT, DONE, FAILED, LATE, Notebook, NotThere, Options, Wrong
from benchmarks.gpu.stages import STAGES
from benchmarks.workloads import STEPS

# All that is a duration or a rate, by the names that the report has for them.
FIGURES = (
    *("seconds", "median", "q1", "q3", "min", "flops_per_second", "host", "with_wait"),
    *("seconds_of_a_node", "first_step_seconds", "peak_bytes", "of_product_ceiling"),
    *("of_copy_ceiling", "times_faster"),
)


@pytest.fixture(scope="module")
def dry(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A dry run of everything."""
    out = tmp_path_factory.mktemp("gpu")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_check", "--out", str(out), "--dry"],
        cwd=stages.ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out, json.loads((out / "gpu.json").read_text("utf-8"))


def figures(value: Any, name: str = "") -> list[Any]:
    """The values of everything that is named as a figure."""
    if isinstance(value, dict):
        return [x for key, item in value.items() for x in figures(item, key)]
    if isinstance(value, list):
        return [x for item in value for x in figures(item, name)]
    return [value] if name in FIGURES else []


def test_a_dry_run_takes_all_stages(dry: tuple[Path, dict[str, Any]]) -> None:
    out, found = dry
    assert found["schema"] == report.SCHEMA
    assert list(found["stages"]) == [stage.name for stage in STAGES]
    assert found["dry"] is True
    for stage in found["stages"].values():
        assert stage["dry"] is True
        assert stage["ended"] == "well"
        assert all(part["status"] in (DONE, ABSENT) for part in stage["parts"].values())
    told = report.of(found, "probe", "versions")
    assert {"device", "driver", "packages", "date", "tools"} <= set(told)
    assert {path.name for path in out.iterdir()} == {"gpu.json", "gpu.md", "details.zip"}
    with zipfile.ZipFile(out / "details.zip") as packed:
        assert set(packed.namelist()) >= {"probe.log", "tests.xml", "tests.log", "small.txt"}


def test_a_dry_run_has_no_figures(dry: tuple[Path, dict[str, Any]]) -> None:
    out, found = dry
    values = figures(found)
    assert len(values) > 50
    assert set(values) == {None}
    text = (out / "gpu.md").read_text("utf-8")
    assert report.DRY in text
    assert "| by cublasLt itself, error |" in text
    assert "elementwise chain, of the ceiling of copies" in text
    assert {bar["verdict"] for bar in found["bars"]} == {UNKNOWN}
    assert len(found["bars"]) == len(races.DRY) + 3
    assert " µs" not in text
    assert " TB/s" not in text


def test_a_dry_run_checks_what_there_is(dry: tuple[Path, dict[str, Any]]) -> None:
    _, found = dry
    parts = found["stages"]["correctness"]["parts"]
    assert report.of(found, "correctness", "philox")["counts"]["different"] == 0
    assert report.of(found, "correctness", "tests")["counts"]["passed"] >= 2
    assert report.of(found, "correctness", "curves")["same_bits_twice"] is True
    for name in shards.WORK:
        for precision in ("float32", "float64"):
            counts = parts[f"{name}, {precision}"]["found"]["counts"]
            assert counts["compared"] >= 4
            assert counts["wrong"] == 0
    for race in races.DRY:
        entry = report.of(found, "speed", race.name)
        assert set(entry["contenders"]) >= set(races.FAMILIES["gradnet"])
    launched = report.of(found, "speed", races.DRY[0].name)["contenders"]["gradnet-eager"]
    assert launched["launches"]["products"] == 5
    assert launched["launches"]["kernels"] > 5
    assert report.of(found, "sanitizers", "small")["ran"][:2] == ["kernels", "a step"]


def test_bad_calls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = (["--stages", "probe,rest"], ["--wheels", str(tmp_path)], ["--kernels", str(tmp_path)])
    for arguments in bad:
        with pytest.raises(SystemExit) as raised:
            gpu_check.main(["--out", str(tmp_path), *arguments])
        assert raised.value.code == 2
    said = capsys.readouterr().err
    assert "there is no stage 'rest'; there are probe, correctness" in said
    assert f"there are no wheels in {tmp_path}" in said
    assert f"there are no kernels in {tmp_path}" in said


# Their pieces


def test_a_bare_checkout_finds_the_kernels() -> None:
    code = "import gradnet, gradnet.kernels as k; print(gradnet.__file__, k.__file__)"
    done = subprocess.run(
        # Without site-packages' own finders, where an editable installation would be.
        [sys.executable, "-S", "-c", f"import sitecustomize as s; s.sys.path += {site()}; {code}"],
        env=stages.environment(), cwd="/", capture_output=True, text=True, check=True,
    )  # fmt: skip
    package, kernels = done.stdout.split()
    assert Path(package) == stages.ROOT / "gradnet" / "__init__.py"
    assert Path(kernels) == stages.ROOT / "kernels" / "__init__.py"


def test_wheels_are_unpacked_without_pip(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    for name in ("one", "two"):
        with zipfile.ZipFile(tmp_path / "wheels" / f"{name}-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"shared/{name}.py", f"name = {name!r}")
    into = stages.unpacked(str(tmp_path / "wheels"), str(tmp_path / "into"))
    code = "from shared import one, two; print(one.name, two.name)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=stages.environment(wheels=into), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "one two\n"


def test_an_installed_toolkit_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "TOOLKITS", (str(tmp_path),))
    monkeypatch.setattr(stages.shutil, "which", lambda name: None)
    monkeypatch.delenv("CUDA_HOME", raising=False)
    assert "CUDA_HOME" not in stages.environment()
    (tmp_path / "nvvm" / "lib64").mkdir(parents=True)
    (tmp_path / "nvvm" / "lib64" / "libnvvm.so.4").touch()
    told = stages.environment(kernels="/brought")
    assert (told["CUDA_HOME"], told["GRADNET_KERNELS"]) == (str(tmp_path), "/brought")
    monkeypatch.setenv("CUDA_HOME", "/chosen")
    assert stages.environment()["CUDA_HOME"] == "/chosen"


def site() -> list[str]:
    """Where NumPy is installed."""
    return [str(Path(np.__file__).parents[1])]


def test_all_stages_fit_in_nine_minutes() -> None:
    turns = stages.turns(STAGES)
    assert [[stage.name for stage in turn] for turn in turns] == [
        ["probe"],
        ["correctness", "sanitizers", "compiling"],
        # Alone: what it times, nobody disturbs.
        ["speed"],
    ]
    most = sum(max(stage.limit for stage in turn) for turn in turns)
    assert most <= stages.TOTAL_SECONDS <= 540


def test_whatever_a_part_finds_is_written_down(tmp_path: Path) -> None:
    notes = Notebook("probe", Options(str(tmp_path), True, 60))
    found = {"rate": np.float32(0.5), "name": b"H200", "shape": (np.int64(3), None), "odd": 1j}
    found["far"] = np.float64("nan")
    notes.part("versions", lambda: found)
    written = json.loads(notes.path.read_text("utf-8"))["parts"]["versions"]["found"]
    assert written == {"rate": 0.5, "name": "H200", "shape": [3, None], "odd": "1j", "far": "nan"}


def test_a_table_that_cannot_be_made_leaves_the_report(tmp_path: Path) -> None:
    (tmp_path / "details" / "folder").mkdir(parents=True)
    (tmp_path / "details" / "said.log").write_text("words")
    parts = {"copies": {"status": DONE, "found": {"bytes_per_second": 3}}}
    stage = {"ended": "well", "told": "", "seconds": 1.0, "limit": 2.0, "parts": parts}
    found = {"dry": False, "date": "today", "stages": {"probe": stage}}
    report.write(found, tmp_path, tmp_path / "details")
    assert json.loads((tmp_path / "gpu.json").read_text("utf-8")) == found
    assert "cannot be made: AttributeError" in (tmp_path / "gpu.md").read_text("utf-8")
    with zipfile.ZipFile(tmp_path / "details.zip") as packed:
        assert packed.namelist() == ["said.log"]


def test_a_machine_that_does_not_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither of its caches nor of its device, in time."""

    def late(command: list[str], **options: Any) -> None:
        raise subprocess.TimeoutExpired(command, options["timeout"])

    (tmp_path / "index0").mkdir()
    monkeypatch.setattr(machine, "_CACHES", tmp_path)
    monkeypatch.setattr(subprocess, "run", late)
    assert machine.caches() == []
    monkeypatch.setattr(probe, "tool", lambda name: None)
    assert probe.said("name") == ""
    monkeypatch.setattr(probe, "tool", lambda name: name)
    assert probe.said("name") == "TimeoutExpired"


def test_parts_end_with_the_time(tmp_path: Path) -> None:
    notes = Notebook("late", Options(str(tmp_path), dry=False, limit=-1.0))
    assert notes.part("first", dict) is None
    assert notes.parts["first"]["status"] == LATE
    some = Notebook("some", Options(str(tmp_path), dry=False, limit=9.0, only=("second",)))
    assert some.part("first", dict) is None
    assert some.part("second", lambda: 3) == 3
    assert list(some.parts) == ["second"]
    assert some.parts["second"]["seconds"] is not None


def test_distances() -> None:
    a = np.array([3.0, np.nan, 4.0, np.inf])
    assert comparisons.distance(a, a) == 0
    assert comparisons.distance(np.array([3.0, 4.0]), np.array([0.0, 5.0])) == pytest.approx(
        10**0.5 / 5
    )
    for other in ([3.0, 0.0, 4.0, np.inf], [3.0, np.nan, 4.0, -np.inf], [3.0]):
        assert comparisons.distance(np.array(other), a) == np.inf
    assert comparisons.distance(np.array([np.nan]), np.array([1.0])) == np.inf


def test_a_tally_tells_of_what_is_wrong() -> None:
    tally = comparisons.Tally()
    one = np.ones(3)
    tally.compare("right", "float32", lambda: [(one, one)])
    tally.compare("refused", "float16", lambda: (_ for _ in ()).throw(TypeError("no halves")))
    assert tally.told()["counts"] == {"compared": 1, "wrong": 0, "refused": 1}
    tally.compare("off", "float32", lambda: [(one + 1e-3, one)])
    with pytest.raises(Wrong, match=r"^off in float32: off by 0\.001$"):
        tally.told()


def test_a_comparison_in_a_process_of_its_own(tmp_path: Path) -> None:
    notes = Notebook("correctness", Options(str(tmp_path), dry=True, limit=400.0))
    shards.one(notes, "optimizers", "float32")
    shards.one(notes, "no such", "float32")
    shards.one(notes, "philox")
    good, bad = notes.parts["optimizers, float32"], notes.parts["no such, float32"]
    assert notes.parts["philox"]["found"]["counts"]["different"] == 0
    assert good["status"] == DONE
    assert good["found"]["counts"]["compared"] >= 4
    assert (bad["status"], bad["reason"]) == (FAILED, "KeyError: 'no such'")
    assert [path.name for path in tmp_path.iterdir()] == ["correctness.json"]


class Stream:
    """As much of CuPy's streams as the probe of graphs uses."""

    def __init__(self, non_blocking: bool) -> None:
        assert non_blocking
        self.capturing = False
        self.launched = 0

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        assert not self.capturing

    def begin_capture(self) -> None:
        self.capturing = True

    def end_capture(self) -> Stream:
        self.capturing = False
        return self

    def launch(self, stream: Stream) -> None:
        assert stream is self
        assert not self.capturing
        self.launched += 1

    def synchronize(self) -> None:
        assert self.launched == 3


def test_the_probe_of_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    bench = Bench("fake")
    bench.cupy.cuda.Stream = Stream
    launched = bench.launches(lambda: probe.graph_nodes(bench))
    # The random numbers, a warm-up, and the nodes.
    assert launched == {"kernels": 1 + 1 + 1 + 10 + 100, "products": 0}
    del bench.cupy.cuda.Stream
    with pytest.raises(NotThere, match="no graphs"):
        probe.graph_nodes(bench)


def test_what_a_sanitizer_says() -> None:
    good = "ran kernels\nran a step\nall has run\n========= ERROR SUMMARY: 0 errors\n"
    assert sanitizers.judged(good, 0, by_tool=True)["counts"] == {"steps": 2, "errors": 0}
    with pytest.raises(Wrong, match=r"^3 errors"):
        sanitizers.judged(good.replace(": 0", ": 3"), 0, by_tool=True)
    with pytest.raises(Wrong, match="did not end well: Killed"):
        sanitizers.judged("ran kernels\nKilled", -9, by_tool=True)
    with pytest.raises(NotThere, match="Device not supported"):
        sanitizers.judged("========= Error: Device not supported", 1, by_tool=True)


def test_the_best_of_ours_against_the_best_peer() -> None:
    rows = {
        "gradnet-eager": {"median": 4.0},
        "gradnet-captured": {"median": 2.0},
        "torch-graph": {"median": 3.0},
        "jax-scan": {"median": 1.0, "error": "another function"},
        "jax-jit": {"left_out": "no time was left"},
    }
    best = {"ours": "gradnet-captured", "peer": "torch-graph", "times_faster": 1.5}
    assert speed.verdict(rows) == best
    assert speed.verdict({"gradnet-eager": {"median": 4.0}}) == {"times_faster": None}


def test_the_races_are_those_of_the_design() -> None:
    names = {race.workload.name for race in races.RACES}
    fused = {f"fused{width}-{rows}" for width in (64, 128) for rows in (1 << 14, 1 << 17)}
    assert names == {*STEPS, "fleet", "middle", *fused}
    fleet = [race.precision for race in races.RACES if race.workload.name == "fleet"]
    assert {"float32", "tf32", "bfloat16"} <= set(fleet)
    kept = races.Kept.of(races.DRY[0].workload.record())
    assert kept.data()[0] is kept.data()[0]
    np.testing.assert_array_equal(kept.data()[0], races.DRY[0].workload.data()[0])
    assert dataclasses.asdict(kept) == races.DRY[0].workload.record()
