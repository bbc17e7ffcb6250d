"""Kernels in CUDA C++: what NVRTC compiles them with, on the device's machine and without one."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from gradnet.errors import DeviceError

from .cuda_driver import INSTALL, line_of
from .cuda_templates.program import Program


class CudaProgram(Program):
    """A kernel in CUDA C++, and the shared memory that it is given.

    entry    its name in the text
    cluster  how many blocks wait for one another, so that all must be resident; 1 if none do
    choice   what the text was written for
    """

    __slots__ = ("choice", "cluster", "entry", "shared")

    def __init__(
        self,
        entry: str,
        text: str,
        signature: Sequence[str],
        threads: int,
        shared: int,
        choice: tuple[Any, ...],
        cluster: int = 1,
    ) -> None:
        super().__init__(entry, text, signature, 32, threads)
        self.entry = entry
        self.shared = shared
        self.choice = choice
        self.cluster = cluster


def loaded(cupy: Any, program: CudaProgram, path: Path | None = None) -> Any:
    """The program on the device: that file's machine code, or compiled by CuPy's NVRTC.

    CuPy keeps on disk what it compiles. Raises DeviceError where the text does not compile.
    """
    together = {"enable_cooperative_groups": True} if program.cluster > 1 else {}
    if path is not None:
        kernel = cupy.RawModule(path=str(path), **together).get_function(program.entry)
    else:
        options = ("-std=c++17",)  # no kernel includes anything
        module = cupy.RawModule(code=program.text, options=options, backend="nvrtc", **together)
        try:
            kernel = module.get_function(program.entry)
        except cupy.cuda.compiler.CompileException as error:
            raise DeviceError(f"NVRTC cannot compile {program.entry}: {error}"[:2000]) from error
        except RuntimeError as error:
            if isinstance(
                error, (cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError)
            ):
                raise
            # Without libnvrtc.
            raise DeviceError(
                f"{program.entry} cannot be compiled: {line_of(error)}; {INSTALL}, or set "
                "CUDA_HOME to a CUDA toolkit"
            ) from error
    # Above 48 KB it must be asked for.
    kernel.max_dynamic_shared_size_bytes = program.shared
    if program.cluster > 1:
        return partial(_together, kernel, program.shared)
    return partial(kernel, shared_mem=program.shared)


def _together(kernel: Any, shared: int, grid: tuple[int], block: tuple[int], given: Any) -> None:
    """A cooperative launch: of all blocks at the same time, or none.

    Where they are too many, CuPy launches fewer of a grid of one dimension, and refuses one of two:
    so the blocks are those of the second. Raises DeviceError where they are too many.
    """
    try:
        kernel((1, *grid), block, given, shared_mem=shared)
    except ValueError as error:
        raise DeviceError(
            f"the device cannot run {grid[0]} blocks of a kernel at the same time: {error}"
        ) from error


def machine_code(program: CudaProgram, architecture: tuple[int, int]) -> tuple[bytes, str]:
    """The machine code of all kernels of a program's text, and the compiler's log of registers.

    Needs no device. Raises DeviceError where cuda-core is missing.
    """
    try:
        from cuda.core import Program as Compiled
        from cuda.core import ProgramOptions
    except ImportError as error:
        raise DeviceError(
            f"NVRTC without a device needs cuda-core, which is not installed ({error}); {INSTALL}"
        ) from error
    major, minor = architecture
    options = ProgramOptions(arch=f"sm_{major}{minor}", std="c++17", ptxas_options="-v")
    log = io.StringIO()
    code = Compiled(program.text, "c++", options).compile("cubin", logs=log).code
    return bytes(code), log.getvalue()
