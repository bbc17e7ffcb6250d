"""The suites by name: each module has `run(options) -> dict` and `table(found) -> str`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

SUITES = {
    "step": "a training step: seven networks, ours and the peers, over the step's own products",
    "ops": "single operations: the fraction of the machine's memory and arithmetic ceiling",
    "fit": "whole processes, from cold start to a trained model: time to accuracy",
    "import": "time and memory of an import",
    "scale": "a step's cost against batch, width, depth and rows",
    "memory": "the peak memory of a step",
}
_MODULES = {"import": "imports"}


def to_standard_error(text: str) -> None:
    """Say what is going on."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Options:
    """How the suites run.

    peers       families or names of contenders beside ours, or None for all
    workloads   names of a suite's parts, or None for all
    rounds      rounds of each measurement, or None for the suite's own number
    seconds     about how long a contender is timed in a round
    keep        is given what a suite has found after each of its parts
    """

    peers: tuple[str, ...] | None = None
    device: str = "cpu"
    rounds: int | None = None
    seconds: float = 0.15
    workloads: tuple[str, ...] | None = None
    say: Callable[[str], None] = field(default=to_standard_error)
    keep: Callable[[dict[str, Any]], None] = field(default=lambda found: None)

    def wants(self, name: str) -> bool:
        """Whether a part of that name is to run."""
        return self.workloads is None or name in self.workloads


def load(name: str) -> ModuleType:
    """The module of a suite."""
    return importlib.import_module(f"benchmarks.suites.{_MODULES.get(name, name)}")


def parts(name: str) -> tuple[str, ...]:
    """The names of a suite's parts."""
    found: Any = load(name).PARTS
    return tuple(found)
