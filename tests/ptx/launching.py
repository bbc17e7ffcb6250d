"""Launches of PTX: what the launcher gives to CuPy is packed as CuPy packs it, and run."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
from gradnet.kernels import launch
from gradnet.kernels.cache import cache_directory
from gradnet.kernels.cuda_templates.program import Program
from gradnet.kernels.nvrtc import CudaProgram

from . import turns
from .blocks import Compiled, compiled
from .machine import Machine, granule_of
from .memory import Fault, GlobalMemory
from .text import Kernel, Module, parsed

# Of the PTX that is run, and of that which needs clusters of blocks.
ARCHITECTURE, CLUSTERS = (8, 0), (9, 0)
# So many threads run at the same time at most, where their blocks have nothing to do with others.
_AT_ONCE = 1 << 14


# A text in CUDA C++ has several kernels, one needed after the other.
_parsed = lru_cache(2)(parsed)


class Loaded:
    """A kernel of a PTX text.

    units  how many units in the last place approximate instructions err by
    """

    def __init__(self, text: str, entry: str = "", units: int = 0) -> None:
        self.module: Module = _parsed(text)
        kernels = self.module.kernels
        self.kernel: Kernel = kernels[entry] if entry else next(iter(kernels.values()))
        self.compiled: Compiled = compiled(self.kernel)
        self.granule = granule_of(self.compiled, ("global", ""))
        self.units = units
        # Of the order in which blocks take turns that tell each other numbers.
        self.seed = 0

    def __call__(
        self,
        blocks: int,
        threads: int,
        arguments: Sequence[Any],
        shared: int = 0,
        cluster: int = 1,
        tally: Any = None,
        told: Sequence[int] = (),
        axis: str = "x",
    ) -> int:
        """Run a launch on NumPy's arrays; how many instructions its threads ran.

        `told` are the parameters that any thread may tell something, and the last one counts.
        """
        most = self.kernel.limits.get("maxntid", (1024,))[0]
        if threads > most or not blocks:
            raise Fault(f"{blocks} blocks of {threads} threads of a kernel of {most}")
        asked = self.kernel.limits.get("reqnctapercluster", (cluster,))[0]
        if asked != cluster or blocks % cluster:
            raise Fault(f"{blocks} blocks in clusters of {cluster} of a kernel for {asked}")
        memory = GlobalMemory(self.granule, tally)
        parameters = packed(self.kernel, arguments, memory)
        for region in memory.regions:
            region.shared = region.name in {self.kernel.parameters[k].name[-12:] for k in told}
        at_once = max(1, _AT_ONCE // (threads * cluster)) * cluster
        instructions = 0
        for first in range(0, blocks, at_once):
            some = min(at_once, blocks - first)
            machine = Machine(
                self.module,
                self.compiled,
                memory,
                parameters,
                threads,
                first,
                some,
                blocks,
                shared,
                cluster,
                self.units,
                axis,
            )
            if any(stretch.looks for stretch in self.compiled.stretches):
                turns.apart(machine, self.seed)
            else:
                turns.together(machine)
            instructions += machine.instructions
        if tally is not None:
            tally.instructions += instructions
        return instructions


def packed(kernel: Kernel, arguments: Sequence[Any], memory: GlobalMemory) -> list[bytes]:
    """Arguments as CuPy packs them: an array's address, a number's own bytes, an int's eight.

    Raises Fault where the kernel declares other parameters than those.
    """
    if len(arguments) != len(kernel.parameters):
        raise Fault(f"{len(arguments)} arguments for {len(kernel.parameters)} parameters")
    found = []
    for one, value in zip(kernel.parameters, arguments, strict=True):
        if isinstance(value, np.ndarray):
            data = np.uint64(memory.add(one.name[-12:], value)).tobytes()
            is_float = False
        elif isinstance(value, np.generic | bool | int | float):
            number = np.asarray(value)
            data, is_float = number.tobytes(), number.dtype.kind == "f"
        else:
            raise Fault(f"an argument of {type(value)} for parameter {one.name}")
        if len(data) != one.size or is_float != (one.type[0] == "f"):
            raise Fault(f"{len(data)} bytes of {type(value)} for {one.type} {one.name}")
        found.append(data)
    return found


@cache
def loaded(program: Program, units: int = 0) -> Loaded:
    """A program's PTX, from the cache of compiled kernels or made for it."""
    if isinstance(program, CudaProgram):
        architecture = CLUSTERS if program.cluster > 1 else ARCHITECTURE
        return Loaded(of_cuda(program.text, architecture), program.entry, units)
    path = launch.kept(program, ARCHITECTURE)
    text = path.read_bytes()
    return Loaded(text.decode(), launch.entry(text), units)


@cache
def of_cuda(text: str, architecture: tuple[int, int]) -> str:
    """The PTX that NVRTC makes of CUDA C++, kept beside that of other kernels."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:24]
    path = (
        cache_directory() / f"gradnet_cuda_text_{digest}_sm{architecture[0]}{architecture[1]}.ptx"
    )
    if not launch.whole(path):
        return launch.written(_compiled(text, architecture), path).read_text()
    return path.read_text()


def _compiled(text: str, architecture: tuple[int, int]) -> bytes:
    from cuda.bindings import nvrtc as compiler

    def checked(result: Any) -> Any:
        status, *values = result
        if int(status):
            raise RuntimeError(f"{status}: {log()}")
        return values[0] if values else None

    def log() -> str:
        said = b" " * compiler.nvrtcGetProgramLogSize(made)[1]
        compiler.nvrtcGetProgramLog(made, said)
        return said.decode()

    made = compiler.nvrtcCreateProgram(text.encode(), b"kernel.cu", 0, [], [])[1]
    options = ["--std=c++17", f"-arch=sm_{architecture[0]}{architecture[1]}"]
    checked(compiler.nvrtcCompileProgram(made, len(options), [x.encode() for x in options]))
    ptx = b" " * checked(compiler.nvrtcGetPTXSize(made))
    checked(compiler.nvrtcGetPTX(made, ptx))
    return ptx.rstrip(b"\0")


def run(program: Program, blocks: int, arguments: Sequence[Any], **options: Any) -> None:
    """Run a launch on NumPy's arrays, in the place of `fakes.lockstep.run`."""
    shared, cluster, told = 0, 1, []
    if isinstance(program, CudaProgram):
        shared, cluster = program.shared, program.cluster
    else:
        (names,) = re.findall(r"^def kernel\((.*)\):$", program.text, re.MULTILINE)
        # Whichever wrong index, or class, is told of: each is one.
        wrong = ("fault", "notes") if program.kind == "cross_entropy" else ("fault",)
        told = [k for k, name in enumerate(names.split(", ")) if name in wrong]
    typed = launch.numbers(program, arguments)
    axis = "y" if cluster > 1 else "x"  # as `nvrtc.loaded` launches blocks that wait for others
    loaded(program)(blocks, program.threads, typed, shared, cluster, told=told, axis=axis)


def give(program: Program, blocks: int, *arguments: Any) -> None:
    """A launch as the launcher's own call makes it."""
    run(program, blocks, arguments)
