"""Kernels that are compiled to be brought along to a GPU."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from gradnet.kernels import launch, nvrtc
from gradnet.kernels.cuda_templates import reductions
from gradnet.kernels.fused_mlp import Kernels, Network

import gradnet as gn
from benchmarks import gpu_check
from benchmarks.gpu import carry, prebuilt, programs, races
from gradnet import backends

PTX = b".visible .entry some_kernel(\n)\n{ ret; }\n"
CUBIN = b"\x7fELF and so on"


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What has been compiled."""
    found: list[Any] = []

    def by_numba(program: Any, architecture: Any) -> bytes:
        found.append((program.kind, architecture))
        return PTX

    def by_nvrtc(program: Any, architecture: Any) -> tuple[bytes, str]:
        found.append((program.kind, architecture))
        return CUBIN, ""

    monkeypatch.setattr(launch, "compiled", by_numba)
    monkeypatch.setattr(nvrtc, "machine_code", by_nvrtc)
    return found


def test_what_is_compiled_is_what_is_launched(
    compiled: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = reductions.rows("sum", 32, "f4", "f4", 32)
    theirs = next(one for one in prebuilt.written_programs() if one.kind == "cluster_step")
    assert prebuilt.compile_alike([ours], (9, 0), tmp_path) == {"compiled": 1, "there": 0}
    prebuilt.compile_alike([theirs], (9, 0), tmp_path)
    for one in (ours, theirs):
        assert prebuilt.compile_alike([one], (9, 0), tmp_path) == {"compiled": 0, "there": 1}
    assert compiled == [("rows", (9, 0)), ("cluster_step", (9, 0))]
    monkeypatch.setenv(launch.FOLDER, str(tmp_path))
    assert launch.kept(ours, (9, 0)).parent == tmp_path
    brought = launch.elsewhere(theirs, (9, 0), ".cubin")
    assert brought is not None
    loaded: list[Any] = []

    class Cupy:
        @staticmethod
        def RawModule(path: str) -> Any:
            loaded.append(path)
            return Cupy

        @staticmethod
        def get_function(name: str) -> Any:
            loaded.append(name)
            return Cupy

    assert nvrtc.loaded(Cupy, theirs, brought)
    assert loaded == [str(brought), "cluster_step"]


def test_networks_of_the_races_are_among_them() -> None:
    kernels = prebuilt.written_programs()
    chosen = {one.choice for one in kernels if one.kind != "cluster_step"}
    assert {(64, "relu", "bfloat16", 8), (128, "relu", "float16", 8)} <= chosen
    clusters = [one.choice for one in kernels if one.kind == "cluster_step"]
    # As a captured step has them: parameters begin at whole lines of the cache.
    mnist = [one[4] for one in clusters if one[0] == (784, 128, 10) and one[4]]
    assert mnist == [(0, 100352, 100480, 101760)]
    assert len({one.key for one in kernels}) == len(kernels)


def test_kernels_of_one_text_are_compiled_once(
    compiled: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = Kernels(Network(5, 16, 3, 2))
    alike = [kernels.forward, kernels.backward, kernels.reduce]
    others = [reductions.rows("sum", 32, "f4", "f4", lanes) for lanes in (2, 4)]
    assert prebuilt.grouped([*alike, *others]) == [alike, *([one] for one in others)]
    assert prebuilt.compile_alike(alike, (9, 0), tmp_path) == {"compiled": 3, "there": 0}
    assert compiled == [("fused_mlp_forward", (9, 0))]
    monkeypatch.setenv(launch.FOLDER, str(tmp_path))
    found = [launch.elsewhere(one, (9, 0), ".cubin") for one in alike]
    assert all(path is not None and path.read_bytes() == CUBIN for path in found)
    assert len(set(found)) == 3


def test_what_a_race_launches_is_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a step at its real sizes, and of a graph of several."""
    raced = next(race for race in races.RACES if race.name == "tabular, bfloat16")
    monkeypatch.setattr(races, "RACES", (raced,))
    found = {one.key: one.kind for one in programs.of_races()}
    work = dataclasses.replace(raced.workload, batches=1)
    with programs._recorded() as (cuda, recorder), backends.use(cuda):
        data = [gn.asarray(x) for x in work.data()]
        model = gn.nn.MLP(work.sizes, output="softmax", precision="bfloat16", seed=0)
        optimizer = gn.optim.Adam(model.parameters(), lr=work.lr)
        gn.nn.cross_entropy(model(data[0][0]), data[1][0]).backward()
        optimizer.step()
    launched = {one.key: one for one in recorder.programs}
    # Weights are drawn here, and given there.
    left = [one for key, one in launched.items() if key not in found and one.kind != "random"]
    assert {one.kind for one in left} <= {"map"}
    assert len(launched) - len(left) > 8
    kinds = {"stage", "update", "cross_entropy", "rows", "columns", "bias_activation"}
    assert kinds <= set(found.values())


def test_a_folder_to_carry(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[str]] = []

    class Done:
        returncode = 0

    def pip(command: list[str], check: bool) -> Done:
        asked.append(command)
        return Done()

    def compile_all(arguments: list[str]) -> None:
        (Path(arguments[0]) / "gradnet_cuda_map_1_sm90_2.ptx").write_bytes(PTX)
        asked.append(arguments[1:])

    monkeypatch.setattr(carry.subprocess, "run", pip)
    monkeypatch.setattr(prebuilt, "main", compile_all)
    folder = tmp_path / "brought"
    assert carry.main([str(folder), "--package", "numba-cuda==0.30.4", "--all"]) == 0
    (download, compiled) = asked
    assert download[-2:] == ["nvmath-python", "numba-cuda==0.30.4"]
    assert download[download.index("--dest") + 1] == str(folder / "wheels")
    assert "manylinux_2_28_x86_64" in download
    assert compiled == ["--architecture", "9.0", "--all"]
    assert f"--brought {folder}" in capsys.readouterr().out
    Done.returncode = 1
    assert carry.main([str(folder)]) == 1
    assert "pip cannot bring nvmath-python" in capsys.readouterr().err


def test_what_was_brought_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "brought"
    (folder / "kernels").mkdir(parents=True)
    (folder / "kernels" / "gradnet_cuda_map_1_sm90_2.ptx").write_bytes(PTX)
    taken: list[Any] = []

    def check(chosen: Any, out: Path, **options: Any) -> dict[str, Any]:
        taken.append(options)
        return {"dry": True, "date": "", "stages": {}, "bars": []}

    monkeypatch.setattr(gpu_check, "check", check)
    told = ["--out", str(tmp_path), "--dry", "--parts", "mnist, float32;chains"]
    assert gpu_check.main([*told, "--brought", str(folder)]) == 0
    assert taken[0]["kernels"] == str(folder / "kernels")
    assert taken[0]["wheels"] == ""
    assert taken[0]["only"] == ("mnist, float32", "chains")
    with pytest.raises(SystemExit):
        gpu_check.main([*told, "--brought", str(tmp_path)])
    assert "neither wheels nor kernels" in capsys.readouterr().err
