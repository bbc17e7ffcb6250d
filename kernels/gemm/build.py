"""The machine code of products: made once for a processor, and kept on disk for the next process.

Its file in the cache of kernels is named by a hash of what it depends on: the code that writes its
text, the version of LLVM, and the processor. A file that is damaged is not used.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite
import llvmlite.binding as llvm

from gradnet.dtypes import DType

from ..cache import cache_directory
from . import deep, driver, packing, text, tile
from .tile import Shape

_DIGEST = hashlib.sha256().digest_size


class Target(NamedTuple):
    """A processor, by LLVM's names."""

    cpu: str
    features: str


class Code:
    """The functions of one element type; see driver.py."""

    def __init__(self, shape: Shape, target: Target) -> None:
        self.shape = shape
        machine = _machine(target)
        path = _path(shape, target)
        found = None if path is None else _read(path)
        if found is None:
            module = llvm.parse_assembly((deep if shape.deep else driver).text(shape))
            module.verify()
            found = machine.emit_object(module)
            if path is not None:
                _write(path, found)
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(found))
        self._engine.finalize_object()
        self.product, self.stack, self.places, self.objects = (
            int(self._engine.get_function_address(name))
            for name in ("product", "stack", "places", "objects")
        )


@cache
def host() -> Target:
    """The processor that this is."""
    features = llvm.get_host_cpu_features()
    return Target(llvm.get_host_cpu_name(), features.flatten())


def shape(dtype: DType, features: str, large: bool = False) -> Shape | None:
    """The tile for a processor's vectors and registers; None where it has no fused product.

    That of large products has a vector more to each row, so that more is done with each element of
    A that is loaded; as many rows are a half or a whole vector, in which panels of A are packed.
    """
    bits = {"float32": 32, "float64": 64}.get(dtype.name)
    if bits is None or not dtype.isnative:
        return None
    has = set(features.split(","))
    if {"+avx512f", "+avx512vl", "+avx512dq"} <= has:
        return Shape(512 // bits, 8, bits, 3) if large else Shape(512 // bits, 14, bits)
    if {"+avx2", "+fma"} <= has:
        return Shape(256 // bits, 4, bits, 3) if large else Shape(256 // bits, 6, bits)
    return None


@cache
def code(dtype: DType, large: bool = False) -> Code | None:
    """The functions of an element type on this processor, or None."""
    found = shape(dtype, host().features, large)
    return None if found is None else made(found, host())


@cache
def made(shape: Shape, target: Target) -> Code:
    """The functions for a tile and a processor."""
    return Code(shape, target)


def _machine(target: Target) -> Any:
    for prepare in (
        llvm.initialize_native_target,
        llvm.initialize_native_asmprinter,
        llvm.initialize_native_asmparser,
    ):
        prepare()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=target.cpu, features=target.features, opt=2
    )


@cache
def _writers() -> str:
    modules = (deep, driver, packing, text, tile)
    return "".join(Path(module.__file__ or "").read_text(encoding="utf-8") for module in modules)


def _path(shape: Shape, target: Target) -> Path | None:
    words = (_writers(), repr((shape, target, llvm.llvm_version_info, object.__basicsize__)))
    name = hashlib.sha256("".join((llvmlite.__version__, *words)).encode()).hexdigest()[:24]
    try:
        return cache_directory() / f"gradnet_product_{name}.bin"
    except RuntimeError:
        return None


def _read(path: Path) -> bytes | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    head, body = data[:_DIGEST], data[_DIGEST:]
    return body if hashlib.sha256(body).digest() == head else None


def _write(path: Path, body: bytes) -> None:
    with contextlib.suppress(OSError):
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
