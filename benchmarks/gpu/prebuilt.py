"""A folder of compiled kernels to bring along, so that a GPU's time is not spent on compiling.

    python -m benchmarks.gpu.prebuilt FOLDER [--architecture 9.0] [--all]

Needs no GPU: the kernels of the races, the comparisons, the fused networks and the trainings by a
cluster that `python -m benchmarks.gpu_check --kernels FOLDER` takes; with --all also
those of the tests' samples of training. What is in the folder already stays, so that an interrupted
run goes on where it was. Compilers of the CUDA version that the GPU's driver has, or of an older
one, must be installed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.gpu import programs

Architecture = tuple[int, int]


def numba_programs(everything: bool) -> list[Any]:
    """The programs that Numba compiles, each once."""
    found = {one.key: one for one in programs.of_races()}
    found |= {one.key: one for one in programs.of_comparisons()}
    if everything:
        found |= {one.key: one for one in programs.of_training()}
    return list(found.values())


def written_programs() -> list[Any]:
    """The programs in CUDA C++, of the races and of the comparisons."""
    from gradnet.kernels import cluster_step
    from gradnet.kernels.fused_mlp import ONE_ROUND, WIDTHS, Kernels, Network

    from benchmarks.gpu.fused import FACTORS, trainings
    from benchmarks.gpu.races import FUSED, RACES

    kinds = {(width, dtype, activation) for width in WIDTHS for dtype, activation, _ in FACTORS}
    kinds |= {
        (work.sizes[1], dtype, work.activation)
        for work in FUSED
        for dtype in ("float16", "bfloat16")
    }
    found: list[Any] = []
    for width, dtype, activation in sorted(kinds):
        for rows in (ONE_ROUND, ONE_ROUND + 1):
            kernels = Kernels.of(Network(width, width, width, 1, activation, dtype), rows)
            found += [kernels.forward, kernels.backward, kernels.reduce]
    chosen = dict.fromkeys(trainings(dry=False))
    chosen |= dict.fromkeys(
        _captured(race.workload) for race in RACES if race.precision == "float32"
    )
    found += [cluster_step.program(one) for one in chosen if one is not None]
    return list({one.key: one for one in found}.values())


def _captured(work: Any) -> Any:
    """The training by a cluster that a captured step of a workload becomes, or None."""
    import numpy as np
    from gradnet.kernels import cluster_step
    from gradnet.kernels.cuda_cluster import whole_step

    import gradnet as gn
    from gradnet import backends
    from gradnet.numpy_backend import NumpyBackend
    from gradnet.program.replay import Interpreted

    plain = cluster_step.Training(work.sizes, work.batch, work.activation, work.optimizer)
    if work.loss != "cross_entropy" or not work.bias or cluster_step.refusal(plain):
        return None
    steps = []

    class Noting(NumpyBackend):
        def compile(self, program: Any) -> Any:
            calls = [call for call in program.calls if call.method != "check"]
            steps.append(whole_step(program.with_calls(calls)))
            return Interpreted(self, program)

    with backends.use(Noting()):
        model = gn.nn.MLP(work.sizes, activation=work.activation, output="softmax", seed=0)
        optimizer = gn.optim.create(work.optimizer, model.parameters(), lr=work.lr)

        def step(x: Any, y: Any) -> Any:
            loss = gn.nn.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss

        x = gn.asarray(np.zeros((work.batch, work.sizes[0]), np.float32))
        gn.capture(step)(x, gn.asarray(np.zeros(work.batch, np.int64)))
    return steps[0].training if steps[0] is not None else None


def compile_alike(alike: Sequence[Any], architecture: Architecture, folder: Path) -> dict[str, int]:
    """Compile programs of one text into the folder, once; how many were compiled, or there."""
    from gradnet.kernels import launch, nvrtc

    by_nvrtc = isinstance(alike[0], nvrtc.CudaProgram)
    names = ("".join(launch.place_of(one, architecture)) for one in alike)
    paths = [folder / f"{name}{'.cubin' if by_nvrtc else '.ptx'}" for name in names]
    missing = [path for path in paths if not launch.whole(path)]
    if missing:
        if by_nvrtc:
            text = nvrtc.machine_code(alike[0], architecture)[0]
        else:
            text = launch.compiled(alike[0], architecture)
        for path in missing:
            launch.written(text, path)
    return {"compiled": len(missing), "there": len(paths) - len(missing)}


def grouped(chosen: Sequence[Any]) -> list[list[Any]]:
    """Programs that one compilation serves: kernels of one text in CUDA C++, others alone."""
    from gradnet.kernels.nvrtc import CudaProgram

    found: dict[Any, list[Any]] = {}
    for one in chosen:
        found.setdefault(one.text if isinstance(one, CudaProgram) else one.key, []).append(one)
    return list(found.values())


def build(chosen: Sequence[Any], architecture: Architecture, folder: Path) -> dict[str, int]:
    """Compile programs, several at a time; how many were compiled, and how many there."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {"compiled": 0, "there": 0}
    started = time.monotonic()
    with ProcessPoolExecutor() as processes:
        jobs = [processes.submit(compile_alike, x, architecture, folder) for x in grouped(chosen)]
        for job in jobs:
            done = sum(told.values())
            for name, count in job.result().items():
                told[name] += count
            now = sum(told.values())
            if now // 50 > done // 50 or now == len(chosen):
                seconds = time.monotonic() - started
                print(f"{now} of {len(chosen)}, {seconds:.0f} s", file=sys.stderr, flush=True)
    return told


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.prebuilt")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--architecture", default="9.0", metavar="N.N", help="of the GPU")
    parser.add_argument("--all", action="store_true", help="those of the tests' samples too")
    options = parser.parse_args(arguments)
    major, _, minor = options.architecture.partition(".")
    # The longest first, that no process is left alone with one.
    chosen = [*written_programs(), *numba_programs(options.all)]
    told = build(chosen, (int(major), int(minor)), options.folder.resolve())
    print(", ".join(f"{count} {what}" for what, count in told.items()))


if __name__ == "__main__":
    main()
