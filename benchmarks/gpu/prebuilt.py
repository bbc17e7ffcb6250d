"""A folder of compiled kernels to bring along, so that a GPU's time is not spent on compiling.

    python -m benchmarks.gpu.prebuilt FOLDER [--architecture 9.0] [--all]

Needs no GPU: the kernels of training in every precision, the fused networks and the trainings by a
cluster that `python -m benchmarks.gpu_check --kernels FOLDER` takes; with --all also those of its
comparisons, as far as tiny sizes have the same. What is in the folder already stays. Compilers of
the CUDA version that the GPU's driver has, or of an older one, must be installed.
"""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.gpu.stages import ROOT, SITE

sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
# This checkout's kernels, also in the processes that compile.
runpy.run_path(str(SITE / "sitecustomize.py"))

Architecture = tuple[int, int]
FULL_BLOCK = 256


def numba_programs(everything: bool) -> list[Any]:
    """The programs that Numba compiles, with blocks of the size that a GPU is given."""
    from fakes import training

    training.EVERY = True
    found = {one.key: one for one in training.programs(FULL_BLOCK)}
    if everything:
        found |= {one.key: one for one in _compared()}
    return list(found.values())


def _compared() -> Iterator[Any]:
    """The programs of the comparisons in the stage `correctness`."""
    from fakes import lockstep
    from gradnet.kernels.nvrtc import CudaProgram

    from benchmarks.gpu.comparisons import FLOATS
    from benchmarks.gpu.device import Bench
    from benchmarks.gpu.notes import NotThere, Wrong
    from benchmarks.gpu.shards import WORK

    bench = Bench("fake")
    lockstep.use_blocks(FULL_BLOCK)
    for work in WORK.values():
        for precision in FLOATS:
            try:
                work(bench, precision)
            except (NotThere, Wrong) as error:
                print(error, file=sys.stderr)
    for one in bench.device.launch.programs:
        if not isinstance(one, CudaProgram):
            yield one


def written_programs() -> list[Any]:
    """The programs in CUDA C++, of the races and of the comparisons."""
    from gradnet.kernels import cluster_step
    from gradnet.kernels.fused_mlp import WIDTHS, Kernels, Network

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
        kernels = Kernels(Network(width, width, width, 1, activation, dtype))
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


def compile_one(program: Any, architecture: Architecture, folder: Path) -> str:
    """Compile a program into the folder; what was done."""
    from gradnet.kernels import launch, nvrtc

    start, end = launch.place_of(program, architecture)
    by_nvrtc = isinstance(program, nvrtc.CudaProgram)
    path = folder / f"{start}{end}{'.cubin' if by_nvrtc else '.ptx'}"
    if launch.whole(path):
        return "there"
    if by_nvrtc:
        text = nvrtc.machine_code(program, architecture)[0]
    else:
        text = launch.compiled(program, architecture)
    launch.written(text, path)
    return "compiled"


def build(programs: Sequence[Any], architecture: Architecture, folder: Path) -> dict[str, int]:
    """Compile programs, several at a time; how many were compiled, and how many there."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {"compiled": 0, "there": 0}
    with ProcessPoolExecutor() as processes:
        jobs = [processes.submit(compile_one, one, architecture, folder) for one in programs]
        for i, job in enumerate(jobs):
            told[job.result()] += 1
            if i % 50 == 49 or i == len(jobs) - 1:
                print(f"{i + 1} of {len(jobs)}", file=sys.stderr, flush=True)
    return told


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.prebuilt")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--architecture", default="9.0", metavar="N.N", help="of the GPU")
    parser.add_argument("--all", action="store_true", help="those of the comparisons too")
    options = parser.parse_args(arguments)
    major, _, minor = options.architecture.partition(".")
    programs = [*numba_programs(options.all), *written_programs()]
    told = build(programs, (int(major), int(minor)), options.folder.resolve())
    print(", ".join(f"{count} {what}" for what, count in told.items()))


if __name__ == "__main__":
    main()
