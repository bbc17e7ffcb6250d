"""The programs that `benchmarks.gpu_check` launches, found without a GPU: nothing is run.

Which programs a step takes depends on no value, and on sizes only in how they divide and up to some
hundreds: the largest workloads are stood for by smaller ones.
"""

from __future__ import annotations

import dataclasses
import os
import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.gpu.stages import ROOT, SITE

sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
# This checkout's kernels, also in the processes that compile.
runpy.run_path(str(SITE / "sitecustomize.py"))

FULL_BLOCK = 256  # of the size that a GPU is given
_MOST = 1024


def of_training() -> list[Any]:
    """Those of the tests' samples of training."""
    from fakes import training

    return training.programs(FULL_BLOCK)


def of_races() -> list[Any]:
    """Those that Numba compiles of the stage `speed`: op by op, captured, several at a time."""
    from benchmarks.gpu.race_ours import Captured, Eager, Several
    from benchmarks.gpu.races import RACES
    from gradnet import backends

    steps = dict.fromkeys((_smaller(race.workload), race.precision) for race in RACES)
    with _recorded() as (cuda, recorder), backends.use(cuda):
        for work, precision in steps:
            for kind in (Eager, Captured, Several):
                contender = kind(work, "")
                contender.precision = precision
                contender.prepare()
                contender.build()
                x, y = contender.batches[0]
                contender.step(x, y)
                if isinstance(contender, Several):
                    contender.captured.each(contender.x, contender.y, rows=work.batch)
    return _by_numba(recorder.programs)


def of_comparisons() -> list[Any]:
    """Those of the comparisons in the stage `correctness`, of the probe, and of chains."""
    from fakes import lockstep

    from benchmarks.gpu import correctness, probe
    from benchmarks.gpu.chains import chains
    from benchmarks.gpu.comparisons import FLOATS
    from benchmarks.gpu.device import Bench
    from benchmarks.gpu.notes import NotThere, Wrong
    from benchmarks.gpu.shards import WORK

    bench = Bench("fake")
    lockstep.use_blocks(FULL_BLOCK)
    for part in (probe.copies, probe.launches, correctness.philox, correctness.captured):
        part(bench)
    chains(bench, None)
    for work in WORK.values():
        for precision in FLOATS:
            try:
                work(bench, precision)
            except (NotThere, Wrong) as error:
                print(error, file=sys.stderr)
    return _by_numba(bench.device.launch.programs)


@contextmanager
def _recorded() -> Iterator[tuple[Any, Any]]:
    """A CUDA backend that runs nothing, with cublasLt, and what takes down its launches."""
    from fakes import lockstep, training
    from fakes.cublaslt_over_numpy import attach
    from fakes.cupy_over_numpy import THREADS, Cupy
    from gradnet.kernels.cuda_backend import CudaBackend
    from gradnet.kernels.cuda_device import Device

    class Idle(Cupy):
        """Takes work, and does none."""

        def do(self, what: str, function: Any, *arguments: Any, **options: Any) -> None:
            self.note(what)

    recorder = training.Recorder()
    # What a step is without the kernels that are compiled from CUDA C++.
    switches = {"GRADNET_FUSED_MLP": "0", "GRADNET_CLUSTER_STEP": "0"}
    before = {name: os.environ.get(name) for name in switches}
    lockstep.use_blocks(FULL_BLOCK)
    os.environ.update(switches)
    try:
        cuda = CudaBackend(Device(Idle(), 0, recorder))
        attach(cuda)
        yield cuda, recorder
    finally:
        lockstep.use_blocks(THREADS)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _smaller(work: Any) -> Any:
    """A workload whose steps take the same programs, and no time."""
    sizes = tuple(n if n <= _MOST else _MOST + n % 8 for n in work.sizes)
    return dataclasses.replace(work, sizes=sizes, batch=min(work.batch, _MOST), batches=2)


def _by_numba(programs: Any) -> list[Any]:
    from gradnet.kernels.nvrtc import CudaProgram

    return [one for one in programs if not isinstance(one, CudaProgram)]
