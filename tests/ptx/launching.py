"""Launches of PTX: what the launcher gives to CuPy is packed as CuPy packs it, and run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from gradnet.kernels import launch
from gradnet.kernels.cuda_templates.program import Program

from .blocks import Compiled, compiled
from .machine import Machine, granule_of
from .memory import Fault, GlobalMemory
from .text import Kernel, Module, parsed

ARCHITECTURE = (8, 0)
# So many threads run at the same time at most, where their blocks have nothing to do with others.
_AT_ONCE = 1 << 14


class Loaded:
    """A kernel of a PTX text.

    units  how many units in the last place approximate instructions err by
    """

    def __init__(self, text: str, entry: str = "", units: int = 0) -> None:
        self.module: Module = parsed(text)
        kernels = self.module.kernels
        self.kernel: Kernel = kernels[entry] if entry else next(iter(kernels.values()))
        self.compiled: Compiled = compiled(self.kernel)
        self.granule = granule_of(self.compiled, ("global", ""))
        self.units = units

    def __call__(
        self,
        blocks: int,
        threads: int,
        arguments: Sequence[Any],
        shared: int = 0,
        cluster: int = 1,
        tally: Any = None,
    ) -> int:
        """Run a launch on NumPy's arrays; how many instructions its threads ran."""
        most = self.kernel.limits.get("maxntid", (1024,))[0]
        if threads > most or not blocks:
            raise Fault(f"{blocks} blocks of {threads} threads of a kernel of {most}")
        asked = self.kernel.limits.get("reqnctapercluster", (cluster,))[0]
        if asked != cluster or blocks % cluster:
            raise Fault(f"{blocks} blocks in clusters of {cluster} of a kernel for {asked}")
        memory = GlobalMemory(self.granule, tally)
        parameters = packed(self.kernel, arguments, memory)
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
            )
            machine.run()
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
    path = launch.kept(program, ARCHITECTURE)
    text = path.read_bytes()
    return Loaded(text.decode(), launch.entry(text), units)


def run(program: Program, blocks: int, arguments: Sequence[Any], **options: Any) -> None:
    """Run a launch on NumPy's arrays, in the place of `fakes.lockstep.run`."""
    loaded(program)(blocks, program.threads, launch.numbers(program, arguments))
