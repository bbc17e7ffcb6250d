"""The benchmark suites: their definitions, the workers, one small run, and what is made of it."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import machine, peers, readme_table, rounds, suites, text
from benchmarks import main as bench
from benchmarks.cases import CASES, Case
from benchmarks.peers import ops_numpy, ops_ours
from benchmarks.pool import ROOT, Worker, WorkerError, environment
from benchmarks.resident import Peak
from benchmarks.suites import step as step_suite
from benchmarks.workloads import BARS, STEPS, Workload
from gradnet.cli import main

SMALL = Workload("small", (5, 7, 3), 4, batches=3)


# Definitions


@pytest.mark.parametrize("workload", STEPS.values(), ids=lambda w: w.name)
def test_a_workload_is_what_it_says(workload: Workload) -> None:
    assert Workload.of(json.loads(json.dumps(workload.record()))) == workload
    small = dataclasses.replace(workload, batches=2)
    x, y = small.data()
    assert x.shape == (2, workload.batch, workload.sizes[0])
    assert y.shape[:2] == x.shape[:2]
    layers = workload.weights()
    sizes = sum(w.size + (0 if b is None else b.size) for w, b in layers)
    assert sizes == workload.parameters
    assert {x.dtype.name, *(w.dtype.name for w, _ in layers)} == {workload.dtype}
    flops, moved = workload.cost()
    products = sum(2.0 * n * k * m for n, k, m in workload.products())
    assert products < flops < 2 * products
    assert moved > np.dtype(workload.dtype).itemsize * 2 * workload.parameters


def test_the_products_of_a_step() -> None:
    assert SMALL.products() == [(4, 5, 7), (5, 4, 7), (4, 7, 3), (7, 4, 3), (4, 3, 7)]
    assert set(BARS) == set(STEPS)


def test_every_contender_has_its_file() -> None:
    for entry in (*peers.CONTENDERS.values(), *suites.load("ops").CONTENDERS.values()):
        source = (ROOT / "benchmarks" / "peers" / f"{entry.module}.py").read_text("utf-8")
        assert f"class {entry.kind}(" in source
    assert peers.FAMILIES == ("torch", "jax", "sklearn", "numpy")


def test_who_takes_part() -> None:
    entries = {
        "own": peers.Entry("", "", peers.OURS, "gradnet", ""),
        "first": peers.Entry("", "", "one", "json", ""),
        "second": peers.Entry("", "", "one", "json", ""),
        "third": peers.Entry("", "", "two", "no_such_package", ""),
    }
    assert peers.chosen(None, entries, entries) == (
        ["own", "first", "second"],
        {"third": "no_such_package is not installed"},
    )
    assert peers.chosen(["second"], entries, entries)[0] == ["own", "second"]
    assert peers.chosen(["one"], entries, entries)[0] == ["own", "first", "second"]
    assert peers.unknown(["torch", "jax-scan", "tensorflow"]) == ["tensorflow"]


@pytest.mark.parametrize("name", [n for n in CASES if not n.endswith("large")])
def test_a_case_computes_the_same_in_numpy(name: str) -> None:
    case = Case.of(json.loads(json.dumps(CASES[name].record())))
    flops, moved = case.cost()
    assert flops > 0
    assert moved == case.bytes > 4 * math.prod(case.shapes[0])
    results = []
    for kind in (ops_ours.Gradnet, ops_numpy.NumPy):
        if kind.unfit(case, "cpu"):
            continue
        operation = kind(case, "cpu")
        operation.prepare()
        operation.build()
        results.append(operation.losses(1))
    assert all(map(math.isfinite, results[0]))
    assert results[-1] == pytest.approx(results[0], rel=1e-4)


# Workers


def test_a_worker_answers_stops_and_tells_of_errors() -> None:
    with Worker(peers.EAGER) as worker:
        assert worker.ask("build", work=SMALL.record(), device="cpu") == {"info": {}}
        losses = worker.ask("losses", count=3)["losses"]
        assert len(losses) == 3
        assert losses[0] == pytest.approx(math.log(3), abs=1.5)
        worker.ask("calibrate", least=1e-3)
        worker.pause()
        if sys.platform == "linux":
            pid = worker._process.pid
            os.waitpid(pid, os.WUNTRACED)
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            assert state == "T"
        worker.go_on()
        turn = worker.ask("time", seconds=1e-3)
        assert turn["seconds"] > 0
        assert turn["steps"] >= 1
        broken = {**SMALL.record(), "activation": "no_such"}
        with pytest.raises(WorkerError, match=r"^gradnet-eager: KeyError.*no_such"):
            worker.ask("build", work=broken, device="cpu")
        worker.ask("build", work=SMALL.record(), device="cpu")  # it lives on
        worker._process.kill()
        with pytest.raises(WorkerError, match="the process ended"):
            worker.ask("hello")


def test_peak_memory() -> None:
    peak = Peak()
    block = np.ones(40_000_000, np.uint8)
    block[::4096] = 2
    found = peak.bytes()
    del block
    if peak.exact and sys.platform == "linux":
        assert 38_000_000 < found < 80_000_000
        peak.restart()
        assert peak.bytes() < 38_000_000


# Figures


def test_figures_of_rounds() -> None:
    assert rounds.summary([3.0, 1.0, 2.0, 4.0, 5.0]) == {
        "median": 3.0,
        "q1": 2.0,
        "q3": 4.0,
        "min": 1.0,
    }
    assert rounds.summary([2.0])["q3"] == 2.0
    # Of the ratios within rounds, not of the medians.
    assert rounds.ratio([2.0, 30.0, 4.0], [1.0, 10.0, 1.0]) == 3.0


def test_other_losses_are_an_error() -> None:
    ours = [2.5, 2.0, 1.5]
    rounds.compare({"a": ours, "b": [2.5, 2.0, 1.5 + 1e-5], "mean": [2.0], "floor": []}, "a", 1e-4)
    for wrong in ([2.5, 2.0, 1.49], [2.5, math.nan, 1.5], [2.1], [2.5, 2.0]):
        assert (
            "b computes something else" in rounds.compare({"a": ours, "b": wrong}, "a", 1e-4)["b"]
        )
        with pytest.raises(WorkerError, match="gradnet-fit computes something else"):
            rounds.compare({"a": ours, "gradnet-fit": wrong}, "a", 1e-4)


def test_a_verdict_needs_both_bars() -> None:
    seconds = {
        peers.FLOOR: [10.0, 10.0],
        peers.EAGER: [50.0, 50.0],
        peers.CAPTURED: [14.0, 14.0],
        peers.FIT: [16.0, 16.0],
        "torch-eager": [100.0, 100.0],
        "jax-scan": [22.0, 22.0],
    }
    found = step_suite.verdict("tiny", seconds)
    assert found["best_peer"] == "jax-scan"
    assert found["modes"][peers.CAPTURED]["over_floor"] == 1.4
    assert found["modes"][peers.CAPTURED]["times_faster"] == pytest.approx(22 / 14)
    assert found["modes"][peers.CAPTURED]["passes"]
    assert not found["modes"][peers.FIT]["passes"]
    assert "passes" not in found["modes"][peers.EAGER]
    assert found["modes"][peers.EAGER]["times_faster_than_torch_eager"] == 2.0


def test_text() -> None:
    assert [text.seconds(s) for s in (2.5e-5, 0.0123, 3.0, 123.4, None)] == [
        *("25 µs", "12.3 ms", "3 s", "123 s", "-"),
    ]
    assert text.table(["a", "b"], [["x", "1.5"]]).splitlines() == [
        "| a   |   b |",
        "| --- | --: |",
        "| x   | 1.5 |",
    ]


# A run


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of a hasty run of one workload by the command."""
    file = tmp_path_factory.mktemp("bench") / "report.json"
    line = "bench step --workloads lecture --peers numpy --rounds 1 --seconds 0.001 --json"
    assert main([*line.split(), str(file)]) == 0
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return found


def test_the_report_has_its_schema(report: dict[str, Any]) -> None:
    assert report["schema"] == bench.SCHEMA
    assert {"cpu", "cores", "caches", "system", "python", "packages", "blas", "date"} <= set(
        report["machine"]
    )
    assert report["machine"]["packages"]["numpy"] == np.__version__
    suite = report["suites"]["step"]
    assert suite["left_out"]["torch-eager"] in ("not chosen", "torch is not installed")
    (part,) = suite["workloads"].values()
    assert Workload.of(part["workload"]) == STEPS["lecture"]
    contenders = part["contenders"]
    assert {peers.FLOOR, peers.EAGER, peers.CAPTURED, peers.FIT, "numpy"} == set(contenders)
    for row in contenders.values():
        assert row["min"] <= row["q1"] <= row["median"] <= row["q3"]
        assert row["over_floor"] > 0
        assert len(row["rounds"]) == 1
    assert part["verdict"]["best_peer"] == "numpy"
    # All computed the same, from the same weights.
    assert part["losses"]["numpy"] == pytest.approx(part["losses"][peers.EAGER], rel=1e-10)


@pytest.fixture
def quick_suites(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The suites `one` and `two`, whose parts take the seconds in this dictionary."""
    seconds: dict[str, float] = {"a": 1.0, "b": 2.0}

    def run(options: suites.Options) -> dict[str, Any]:
        found: dict[str, Any] = {"left_out": {}, "workloads": {}}
        for name, value in seconds.items():
            if options.wants(name):
                found["workloads"][name] = 1 / value
                options.keep(found)
        return found

    module = SimpleNamespace(PARTS=("a", "b"), run=run, table=str)
    monkeypatch.setattr(suites, "SUITES", {"one": "first", "two": "second"})
    monkeypatch.setattr(suites, "load", lambda name: module)
    return seconds


def parts_of(file: Path) -> dict[str, Any]:
    """The parts of each suite in a file of results."""
    found = json.loads(file.read_text("utf-8"))["suites"]
    return {name: suite["workloads"] for name, suite in found.items()}


def test_a_run_that_dies_leaves_what_it_has(quick_suites: dict[str, float], tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    quick_suites["b"] = 0.0
    with pytest.raises(ZeroDivisionError):
        bench.run("all", suites.Options(), str(file))
    assert parts_of(file) == {"one": {"a": 1.0}}
    assert list(tmp_path.iterdir()) == [file]


def test_an_update_keeps_other_suites_and_parts(
    quick_suites: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "r.json"
    bench.run("one", suites.Options(), str(file), update=True)
    quick_suites["b"] = 4.0
    bench.run("one", suites.Options(workloads=("b",)), str(file), update=True)
    bench.run("two", suites.Options(workloads=("a",)), str(file), update=True)
    assert parts_of(file) == {"one": {"a": 1.0, "b": 0.25}, "two": {"a": 1.0}}
    bench.run("two", suites.Options(), str(file))
    assert parts_of(file) == {"two": {"a": 1.0, "b": 0.25}}
    monkeypatch.setattr(machine, "cores", lambda: 999)
    with pytest.raises(bench.BadRequest, match=r"on another machine \(cores "):
        bench.run("two", suites.Options(), str(file), update=True)
    file.write_text("[]")
    with pytest.raises(bench.BadRequest, match="is not a file of results"):
        bench.run("two", suites.Options(), str(file), update=True)


def test_the_readme_gets_its_table(report: dict[str, Any]) -> None:
    table = readme_table.section(report, "somewhere.json")
    assert re.search(r"^\| lecture +\| +1000-100-10, 64 \|", table, re.MULTILINE)
    marked = f"before\n{readme_table.BEGIN}\nold\n{readme_table.END}\nafter\n"
    new = readme_table.replaced(marked, table)
    assert new == marked.replace("old", table)
    assert readme_table.replaced(new, table) == new
    with pytest.raises(ValueError, match="has no lines"):
        readme_table.replaced("nothing", table)


def test_the_readme_tells_of_whole_processes() -> None:
    def told(median: float, to_goal: float | None, epochs: int = 3) -> dict[str, Any]:
        return {"median": median, "to_goal": to_goal, "score": -0.5, "epochs": epochs}

    job = {"sizes": [2, 3], "batch": 8, "goal": 0.9, "epochs": 7}
    contenders = {
        "gradnet": told(4.0, 3.0),
        "gradnet-command": told(1.0, 1.0),
        "torch-eager": told(5.0, None),
        "torch-fused": told(9.0, 8.0),
        "import-torch": told(0.5, None, epochs=0),
        "jax-scan": told(2.0, None),
    }
    part = {"job": job, "contenders": contenders}
    table = readme_table.processes({"a": part, "b": part | {"job": job | {"goal": None}}})
    first, second = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]
    )
    assert first == ["a", "2-3, 8, to 0.9", "3 s (0.500)", "8 s (0.500)", "-", "-"]
    assert second == ["b", "2-3, 8, 7 epochs", "4 s (0.500)", "5 s (0.500)", "2 s (0.500)", "-"]


def test_the_readme_has_the_table_of_the_results() -> None:
    readme = readme_table.README.read_text("utf-8")
    assert readme.count(readme_table.BEGIN) == readme.count(readme_table.END) == 1
    if not readme_table.RESULTS.exists():
        between = readme.partition(readme_table.BEGIN)[2].partition(readme_table.END)[0]
        assert not re.search(r"\d", between)  # no figure without its file
        return
    assert readme_table.replaced(readme, readme_table.recorded(readme_table.RESULTS)) == readme


def test_the_readme_tells_what_calls_cost(report: dict[str, Any]) -> None:
    rows = [
        {"function": name, "size": size, "over_us": over}
        for name, size, over in (("a", 10, 0.5), ("b", 10, 1.5), ("c", 10, 0.75), ("b", 1_000, 9.0))
    ]
    calls = {"functions": rows, "chain_us": {"gradnet": 60.4, "torch": 250.0}}
    told = readme_table.section(report, "somewhere.json", calls)
    assert "Calls of 3 functions on 10 elements take 0.8 µs more than NumPy's in the median" in told
    assert "1.5 µs at most (b). Value and gradient" in told
    assert "take 60 µs (torch 250 µs)." in told


def test_pictures_of_a_report(report: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks import pictures

    assert list(pictures.draw(report, tmp_path / "new")) == [tmp_path / "new" / "step.png"]
    assert (tmp_path / "new" / "step.png").read_bytes().startswith(b"\x89PNG")
    assert set(pictures.PICTURES) == set(suites.SUITES)


def test_pytest_benchmark_runs_the_definitions(tmp_path: Path) -> None:
    file = tmp_path / "b.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "benchmarks/test_suites.py", "-q"),
            *("-p", "no:cacheprovider", f"--benchmark-json={file}", "-k", "add-small-numpy"),
        ],
        cwd=ROOT,
        # Not as a part of a run that is spread over processes, which measures nothing.
        env={k: v for k, v in environment().items() if not k.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = json.loads(file.read_text("utf-8"))["benchmarks"]
    assert found["name"] == "test_op[add-small-numpy]"
    assert found["group"] == "ops add-small"
    assert 0 < found["stats"]["median"] < 1
    assert found["extra_info"]["flops"], found["extra_info"]["bytes"] == CASES["add-small"].cost()
    assert found["extra_info"]["of_ceiling"] > 0
