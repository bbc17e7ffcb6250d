# mypy: disable-error-code="no-untyped-call, attr-defined"
"""Kernels from text to launch: Numba compiles PTX, CuPy loads it and launches on its stream.

Numba's own launcher takes ten times as long and may wait for the device, so it only compiles, and
only what is not in the cache folder (see `cache.cache_directory`). A file there is named after
the hash of the kernel's text and signature, the architecture and the versions of the compiler.
A file that was compiled elsewhere for that text will do where there is no compiler; and where
$GRADNET_KERNELS names a folder of such files, with it all that is in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import tempfile
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gradnet.errors import DeviceError

from . import cuda_names, nvrtc
from .cache import cache_directory
from .cuda_driver import INSTALL, line_of
from .cuda_templates.program import Program

# What a program's parameters are: NumPy's types of the numbers. Pointers are arrays.
NUMBERS: dict[str, Callable[[Any], Any]] = {
    "f4": np.float32,
    "f8": np.float64,
    "i4": np.int32,
    "i8": np.int64,
    "u1": np.uint8,
    "u2": np.uint16,
    "u4": np.uint32,
    "u8": np.uint64,
}

# The environment variable that names a folder of kernels that were compiled elsewhere.
FOLDER = "GRADNET_KERNELS"

# What Numba compiles with, by the names of the libraries.
_LIBRARIES = ("nvrtc", "nvvm")

_ENTRY = re.compile(rb"\.visible \.entry (\w+)\(")
_lock = threading.RLock()


def function(program: Program, names: dict[str, Any]) -> Callable[..., None]:
    """The text of a program as a Python function over those names."""
    scope = dict(names)
    exec(compile(program.text, f"<{program.kind} kernel>", "exec"), scope)
    kernel: Callable[..., None] = scope["kernel"]
    return kernel


def plain(program: Program) -> Any:
    """The kernel as a plain `@cuda.jit` kernel, for debugging and for Numba's simulator.

    Called as `plain(program)[blocks, program.threads](*arguments)` on flat arrays and numbers.
    """
    from numba import cuda

    if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1":
        names = {**cuda_names.host_names(program.bits), "cuda": cuda}
    else:
        names = cuda_names.device_names(program.bits)
    return cuda.jit(function(program, names))


def compiled(program: Program, architecture: tuple[int, int]) -> bytes:
    """The PTX of a program, made by Numba without a device.

    Raises DeviceError where Numba's CUDA target or NVIDIA's compiler library is missing.
    """
    if importlib.util.find_spec("numba_cuda") is None:
        # The CUDA target that Numba itself brings is an old one.
        raise DeviceError(f"CUDA kernels need numba-cuda, which is not installed; {INSTALL}")
    from numba import cuda, types

    names = cuda_names.device_names(program.bits)
    known = {
        **{code: getattr(types, np.dtype(code).name) for code in (*NUMBERS, "f2", "i1", "i2")},
        "b2": types.uint16,
    }
    parameters = [
        types.CPointer(known[code[:-1]]) if code.endswith("*") else known[code]
        for code in program.signature
    ]
    try:
        text, _ = cuda.compile(
            function(program, names),
            types.void(*parameters),
            device=False,
            abi="numba",
            cc=architecture,
            output="ptx",
            launch_bounds=program.threads,
        )
    except (OSError, RuntimeError, ImportError) as error:
        reason = line_of(error)
        missing = next((name for name in _LIBRARIES if name in reason.lower()), "")
        if not missing and type(error).__module__.startswith("numba"):
            raise
        what = f"NVIDIA's compiler library lib{missing} is missing" if missing else "Numba fails"
        raise DeviceError(
            f"CUDA kernels cannot be compiled: {what} ({reason}); {INSTALL}, or set CUDA_HOME to a "
            "CUDA toolkit"
        ) from error
    ptx: bytes = text.encode() if isinstance(text, str) else text
    return ptx


@cache
def _versions() -> str:
    """The versions that PTX depends on, beside its program."""
    found = []
    packages = ("numba-cuda", "numba", "nvidia-nvvm", "nvidia-cuda-nvcc-cu12", "cuda-toolkit")
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{package} {importlib.metadata.version(package)}")
    return " ".join(found)


@cache
def _names() -> str:
    """What the names that texts use stand for."""
    return Path(cuda_names.__file__).read_text(encoding="utf-8")


def _hash(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def place_of(program: Program, architecture: tuple[int, int]) -> tuple[str, str]:
    """The start of the name of a program's files in the cache, and the end of this compiler's."""
    digest = _hash(f"{program.key}\n{_names()}", 24)
    major, minor = architecture
    return f"gradnet_cuda_{program.kind}_{digest}_sm{major}{minor}", f"_{_hash(_versions(), 12)}"


def elsewhere(program: Program, architecture: tuple[int, int], ending: str) -> Path | None:
    """The file for a program in the folder of kernels that were compiled elsewhere."""
    folder = os.environ.get(FOLDER)
    return _by_others(Path(folder), program, architecture, ending) if folder else None


def _by_others(
    folder: Path, program: Program, architecture: tuple[int, int], ending: str
) -> Path | None:
    """A whole file for a program, whoever compiled it."""
    start, _ = place_of(program, architecture)
    return next((x for x in sorted(folder.glob(f"{start}_*{ending}")) if whole(x)), None)


def whole(path: Path) -> bool:
    """Whether a file is all of PTX, or of machine code."""
    with contextlib.suppress(OSError):
        text = path.read_bytes()
        return bool(_ENTRY.search(text)) or text[:4] == b"\x7fELF"
    return False


def kept(program: Program, architecture: tuple[int, int]) -> Path:
    """The file that holds a program's PTX: the cache's, or a temporary one where that fails."""
    brought = elsewhere(program, architecture, ".ptx")
    if brought is not None:
        return brought
    folder = cache_directory()
    path = folder / ("".join(place_of(program, architecture)) + ".ptx")
    if whole(path):
        return path
    try:
        text = compiled(program, architecture)
    except DeviceError:
        other = _by_others(folder, program, architecture, ".ptx")
        if other is None:
            raise
        return other
    return written(text, path)


def written(text: bytes, path: Path) -> Path:
    """A file in the cache, made in one move; or a temporary one where there can be none."""
    for folder in (path.parent, Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(suffix=path.suffix, dir=folder)
            with os.fdopen(handle, "wb") as file:
                file.write(text)
            if folder != path.parent:
                return Path(temporary)
            os.replace(temporary, path)
            return path
    raise DeviceError(
        f"the CUDA kernel {path.name} can be written neither to {path.parent} nor to "
        f"{tempfile.gettempdir()}; set GRADNET_CACHE_DIR to a folder that can be written to"
    )


def entry(ptx: bytes) -> str:
    """The name of the one kernel in a PTX text."""
    found = _ENTRY.findall(ptx)
    if len(found) != 1:
        raise DeviceError(f"a CUDA kernel's PTX has {len(found)} entries where it should have one")
    return str(found[0].decode())


def numbers(program: Program, arguments: Sequence[Any]) -> tuple[Any, ...]:
    """Arguments as the launch takes them: numbers as the typed ones of the signature."""
    return tuple(
        value if code[-1] == "*" else NUMBERS[code](value)
        for code, value in zip(program.signature, arguments, strict=True)
    )


class Launcher:
    """Launches programs on the current stream of CuPy, loading each at its first use."""

    def __init__(self, cupy: Any, architecture: tuple[int, int]) -> None:
        self.cupy = cupy
        self.architecture = architecture
        self.loaded: dict[Program, Any] = {}

    def __call__(self, program: Program, blocks: int, *arguments: Any) -> None:
        """Give a program's work to the device: `blocks` of `program.threads` threads."""
        kernel = self.loaded.get(program)
        if kernel is None:
            kernel = self.load(program)
        kernel((blocks,), (program.threads,), numbers(program, arguments))

    def load(self, program: Program) -> Any:
        """The program on the device, without launching it."""
        with _lock:
            if program in self.loaded:
                return self.loaded[program]
            if isinstance(program, nvrtc.CudaProgram):
                brought = elsewhere(program, self.architecture, ".cubin")
                self.loaded[program] = nvrtc.loaded(self.cupy, program, brought)
            else:
                path = kept(program, self.architecture)
                name = entry(path.read_bytes())
                try:
                    self.loaded[program] = self.cupy.RawModule(path=str(path)).get_function(name)
                except self.cupy.cuda.driver.CUDADriverError as error:
                    if "PTX" not in str(error):
                        raise
                    # The compiler is newer than the driver, which takes its machine code though.
                    cubin = linked(path, self.architecture)
                    self.loaded[program] = self.cupy.RawModule(path=str(cubin)).get_function(name)
            return self.loaded[program]


def linked(path: Path, architecture: tuple[int, int]) -> Path:
    """The machine code of a PTX file, kept beside it. Raises DeviceError without a linker."""
    kept_ = path.with_suffix(".cubin")
    if kept_.exists():
        return kept_
    try:
        from cuda.core import Linker, LinkerOptions, ObjectCode
    except ImportError as error:
        raise DeviceError(
            "the CUDA compiler is newer than the driver, and there is no linker for it "
            f"({error}); install a newer driver, or pip install 'cuda-toolkit==13.0.*'"
        ) from error
    major, minor = architecture
    options = LinkerOptions(arch=f"sm_{major}{minor}")
    code = Linker(ObjectCode.from_ptx(path.read_bytes()), options=options).link("cubin").code
    return written(bytes(code), kept_)
