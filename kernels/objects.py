"""Machine code kept on disk: made once for a processor, and loaded by the next process.

A file's name is a hash of all that its code depends on, and its first bytes are a hash of the
rest: a file that is damaged, or another's, is made again. The cache is $GRADNET_CACHE_DIR, else the
platform's cache folder; where it cannot be written, each process makes its code anew. Delete it at
any time.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import llvmlite
import llvmlite.binding as llvm

from .cache import cache_directory

log = logging.getLogger("gradnet")

_DIGEST = hashlib.sha256().digest_size


class Processor(NamedTuple):
    """A processor, by LLVM's names."""

    cpu: str
    features: str


@cache
def host() -> Processor:
    """The processor that this is."""
    features = llvm.get_host_cpu_features()
    return Processor(llvm.get_host_cpu_name(), features.flatten())


def machine(processor: Processor, optimization: int) -> Any:
    """LLVM's machine for a processor; an engine takes it over, so each has its own."""
    for prepare in (
        llvm.initialize_native_target,
        llvm.initialize_native_asmprinter,
        llvm.initialize_native_asmparser,  # for the one instruction of waiting loops
    ):
        prepare()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=processor.cpu, features=processor.features, opt=optimization
    )


def optimized(machine: Any, text: str, level: int) -> Any:
    """LLVM's module of a text, made as fast as it knows how to for a machine."""
    parsed = llvm.parse_assembly(text)
    parsed.triple = llvm.get_process_triple()
    parsed.data_layout = str(machine.target_data)
    parsed.verify()
    options = llvm.create_pipeline_tuning_options()
    options.speed_level, options.loop_vectorization = level, level > 2
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(parsed, builder)
    return parsed


class Engine:
    """Loaded machine code, for as long as this object lives."""

    def __init__(self) -> None:
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine(host(), 2))

    def load(self, code: bytes) -> None:
        """Load what `emit_object` has given."""
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self._engine.finalize_object()

    def address(self, name: str) -> int:
        """Where a function is."""
        return int(self._engine.get_function_address(name))


def known(symbol: str) -> bool:
    """Whether machine code that calls a function of the platform's library can be loaded."""
    if llvm.address_of_symbol(symbol) is not None:
        return True
    name = ctypes.util.find_library("m")
    library = ctypes.CDLL(name) if name else None
    if not hasattr(library, symbol):
        return False
    llvm.add_symbol(symbol, ctypes.cast(getattr(library, symbol), ctypes.c_void_p).value)
    return True


def texts(modules: Iterable[ModuleType]) -> str:
    """The text of modules that write code, which is then made again when they change."""
    return "".join(Path(module.__file__ or "").read_text(encoding="utf-8") for module in modules)


def kept(kind: str, words: Iterable[object], make: Callable[[], bytes]) -> bytes:
    """What `make` gives, or gave to a process before: `words` are what it depends on.

    The version of LLVM and Python's layout of objects are among them without being told.
    """
    try:
        path = _place(kind, words)
    except RuntimeError as error:
        _warn_once("a cache folder", str(error))
        return make()
    found = _read(path)
    if found is None:
        found = make()
        try:
            _write(path, found)
        except OSError as error:
            _warn_once(str(path.parent), str(error))
    return found


def there(kind: str, words: Iterable[object]) -> bool:
    """Whether `kept` has it, and need not make it."""
    try:
        return _read(_place(kind, words)) is not None
    except RuntimeError:
        return False


def _place(kind: str, words: Iterable[object]) -> Path:
    """The file of what depends on words. Raises RuntimeError where there is no folder for it."""
    whole = (llvmlite.__version__, llvm.llvm_version_info, object.__basicsize__, *words)
    name = hashlib.sha256(repr(whole).encode()).hexdigest()[:24]
    return cache_directory() / f"gradnet_{kind}_{name}.bin"


def _read(path: Path) -> bytes | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    head, body = data[:_DIGEST], data[_DIGEST:]
    return body if hashlib.sha256(body).digest() == head else None


def _write(path: Path, body: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=path.stem, suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(body).digest() + body)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


@cache
def _warn_once(directory: str, reason: str) -> None:
    log.debug("kernels are not kept between runs: cannot write %s (%s)", directory, reason)
