"""Kernels in CUDA C++ on the CPU: g++ compiles their text over tests/kernels/cuda/shim, and a
process of its own runs them, so that a sanitizer may end it.
"""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gradnet.kernels.nvrtc import CudaProgram

HEADERS = Path(__file__).parents[1] / "kernels" / "cuda" / "shim"
# What the kernels' texts call the shared memory that a launch gives; each block's own in the shim.
_DECLARATION = "extern __shared__ __align__(128) unsigned char {}[];"
_MEMORIES = ("fused_mlp_memory", "cluster_step_memory")


def altered(program: CudaProgram, text: str) -> CudaProgram:
    """The same program with another text."""
    one = program
    return CudaProgram(
        one.entry, text, one.signature, one.threads, one.shared, one.choice, one.cluster
    )


def translation(programs: Sequence[CudaProgram]) -> str:
    """One C++ text with the kernels of all programs, and a main that launches them by number."""
    texts = list(dict.fromkeys(one.text for one in programs))
    lines = ['#include "serve.h"']
    for i, text in enumerate(texts):
        entries = sorted({one.entry for one in programs if one.text == text})
        for name in _MEMORIES:
            text = text.replace(_DECLARATION.format(name), "")
        # A kernel's name is one of C, without its namespace.
        lines += [f"#define {entry} {entry}_{i}" for entry in entries]
        lines += [f"namespace space{i} {{", text, "}"]
        lines += [f"#undef {entry}" for entry in entries]
    lines.append("static const Kernel kernels[] = {")
    for one in programs:
        given: list[str] = []
        pointers = numbers = 0
        for code in one.signature:
            given.append(f"p[{pointers}]" if code[-1] == "*" else f"h[{numbers}]")
            pointers, numbers = pointers + (code[-1] == "*"), numbers + (code[-1] != "*")
        i = texts.index(one.text)
        call = f"space{i}::{one.entry}_{i}({', '.join(given)})"
        lines.append(f"[](const Numbers& h, const Pointers& p) {{ {call}; }},")
    return "\n".join([*lines, "};", "int main() { return serve(kernels); }"]) + "\n"


def built(folder: Path, name: str, programs: Sequence[CudaProgram], *options: str) -> Path:
    """The executable that runs programs, made by g++ with these options."""
    source, executable = folder / f"{name}.cpp", folder / name
    source.write_text(translation(programs))
    command = ["g++", "-std=c++20", "-O1", "-g1", "-pthread", "-Wno-attributes", *options]
    command += [f"-I{HEADERS}", str(source), "-o", str(executable)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[:4000]
    return executable


class Shim:
    """A running executable; called like the launcher of a device, on NumPy's arrays."""

    def __init__(self, executable: Path, programs: Sequence[CudaProgram]) -> None:
        self.numbers = {program: i for i, program in enumerate(programs)}
        self.errors = executable.with_suffix(".log").open("w+")
        options = "halt_on_error=1 exitcode=66"
        self.process = subprocess.Popen(
            [str(executable)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env={**os.environ, "TSAN_OPTIONS": options, "ASAN_OPTIONS": "exitcode=67"},
        )
        self.launched: list[tuple[str, int]] = []

    def __call__(self, program: CudaProgram, blocks: int, *arguments: Any) -> None:
        pairs = list(zip(program.signature, arguments, strict=True))
        # A null pointer is a number, as CuPy takes it.
        arrays = [x for code, x in pairs if code[-1] == "*"]
        numbers = [int(x) for code, x in pairs if code[-1] != "*"]
        head = [self.numbers[program], blocks, program.threads, program.shared, program.cluster]
        message = [struct.pack(f"<{len(head)}q", *head)]
        message.append(struct.pack(f"<{1 + len(numbers)}q", len(numbers), *numbers))
        message.append(struct.pack("<q", len(arrays)))
        for code, x in ((code, x) for code, x in pairs if code[-1] == "*"):
            if isinstance(x, np.ndarray):
                assert x.flags.c_contiguous
                assert x.dtype.itemsize == int(code[1]), (code, x.dtype)
                message += [struct.pack("<q", x.nbytes), x.tobytes()]
            else:
                message.append(struct.pack("<q", -1))
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"".join(message))
        process.stdin.flush()
        for x in arrays:
            if isinstance(x, np.ndarray):
                data = process.stdout.read(x.nbytes)
                assert len(data) == x.nbytes, "the kernel's process ended"
                x[...] = np.frombuffer(data, x.dtype).reshape(x.shape)
        self.launched.append((program.entry, blocks))

    def close(self) -> tuple[int, str]:
        """The exit status and what the process said."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        status = self.process.wait()
        self.errors.seek(0)
        said = self.errors.read()
        self.errors.close()
        return status, said


def poisoned(shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    """An array that a kernel has to fill: of NaN."""
    array = np.empty(shape, dtype)
    array.view(np.uint8)[...] = 0xFF
    return array
