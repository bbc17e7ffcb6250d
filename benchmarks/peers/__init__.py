"""The contenders by name: the floor, ours in each mode, and the peers in each of theirs."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

FLOOR = "gemm"
OURS = "gradnet"
EAGER = "gradnet-eager"
CAPTURED = "gradnet-captured"
FIT = "gradnet-fit"


class Entry(NamedTuple):
    """Where a contender is, whose it is, and which package it needs."""

    module: str
    kind: str
    family: str
    package: str
    says: str

    def load(self) -> Any:
        """Its class; imports its library."""
        return getattr(importlib.import_module(f"benchmarks.peers.{self.module}"), self.kind)


CONTENDERS = {
    FLOOR: Entry("gemm", "Gemm", "floor", "numpy", "the step's own matrix products, alone"),
    EAGER: Entry("ours", "Eager", OURS, OURS, "gradnet, op by op"),
    CAPTURED: Entry("ours", "Captured", OURS, OURS, "gn.capture(step)"),
    FIT: Entry("ours", "Fit", OURS, OURS, "gn.fit, per step"),
    "torch-eager": Entry("pytorch", "Eager", "torch", "torch", "PyTorch, Adam()"),
    "torch-fused": Entry("pytorch", "Fused", "torch", "torch", "PyTorch, Adam(fused=True)"),
    "torch-compile": Entry("pytorch", "Compiled", "torch", "torch", "torch.compile, fused Adam"),
    "jax-jit": Entry("with_jax", "Jit", "jax", "jax", "JAX, jit with donated buffers"),
    "jax-scan": Entry("with_jax", "Scan", "jax", "jax", "JAX, lax.scan over all batches"),
    "sklearn": Entry("scikit", "PartialFit", "sklearn", "sklearn", "scikit-learn, partial_fit"),
    "numpy": Entry("numpy_loop", "Loop", "numpy", "numpy", "the lecture's NumPy loop"),
}

FAMILIES = tuple(dict.fromkeys(e.family for e in CONTENDERS.values()))[2:]


def installed(package: str) -> bool:
    """Whether a package is there, without importing it."""
    return importlib.util.find_spec(package) is not None


def chosen(
    wanted: Iterable[str] | None, names: Iterable[str], among: Mapping[str, Entry] = CONTENDERS
) -> tuple[list[str], dict[str, str]]:
    """Contenders of `names` that run, and those left out with the reason.

    `wanted` has families or contenders, or is None for all; the floor and ours always run.
    """
    runs, out = [], {}
    for name in names:
        entry = among[name]
        asked = wanted is None or entry.family in wanted or name in wanted
        if entry.family not in ("floor", OURS) and not asked:
            out[name] = "not chosen"
        elif not installed(entry.package):
            out[name] = f"{entry.package} is not installed"
        else:
            runs.append(name)
    return runs, out


def unknown(wanted: Iterable[str]) -> list[str]:
    """The names that are no family and no contender."""
    known = {*FAMILIES, *CONTENDERS}
    return [name for name in wanted if name not in known]
