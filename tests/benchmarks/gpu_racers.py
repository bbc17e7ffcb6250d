"""A library's process whose contenders go wrong, each in its way, for test_gpu_field.py."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from benchmarks.gpu import races
from benchmarks.gpu.notes import NotThere
from benchmarks.gpu.race import Library
from benchmarks.gpu.races import Contender, Race
from benchmarks.peers import base
from benchmarks.worker import serve

LOST = []


def settle() -> None:
    """Raises once a contender has lost the device."""
    if LOST:
        raise RuntimeError("an illegal address was met before")


class Good(base.Contender):
    """One that has a loss of 1."""

    loss = 1.0

    @classmethod
    def cannot(cls, race: Race, dry: bool) -> str:
        return ""

    @classmethod
    def racing(cls, race: Race, dry: bool) -> Good:
        return cls(race.workload, "cpu")

    def prepare(self) -> None:
        self.batches = [(0, 0)]

    def build(self) -> None:
        self.turns = 0

    def step(self, x: Any, y: Any) -> float:
        time.sleep(1e-4)
        return self.loss

    def turn(self) -> None:
        self.turns += 1

    def reset(self) -> None:
        return

    def start_memory(self) -> None:
        return

    def peak_memory(self) -> int:
        return 1000

    def told(self, counted: bool) -> dict[str, Any]:
        return {"launches": {"kernels": 2 + counted}}


class Wrong(Good):
    """One that computes something else."""

    loss = 2.0


class Absent(Good):
    """One that this version has not."""

    @classmethod
    def cannot(cls, race: Race, dry: bool) -> str:
        raise NotThere("this version has none")


class Raises(Good):
    """One that the library refuses."""

    def losses(self, count: int) -> list[float]:
        raise MemoryError("80 GB were asked for")


class Loses(Good):
    """One after which the device does nothing more for its process."""

    def losses(self, count: int) -> list[float]:
        LOST.append(1)
        raise RuntimeError("an illegal address was met")


class Crashes(Good):
    """One that ends its process."""

    def losses(self, count: int) -> list[float]:
        os.kill(os.getpid(), signal.SIGSEGV)
        return []


class CrashesAtOnce(Good):
    """One that ends its process in its first turn, in which it is not timed yet."""

    def turn(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class CrashesLate(Good):
    """One that ends its process in its second turn to be timed."""

    def turn(self) -> None:
        super().turn()
        if self.turns == 3:
            os.kill(os.getpid(), signal.SIGKILL)


class Hangs(Good):
    """One that has no end."""

    def build(self) -> None:
        time.sleep(600)


class Chatters(Good):
    """One that writes to where the answers go, or so it thinks; and cannot tell of itself."""

    def prepare(self) -> None:
        super().prepare()
        print("{}")
        os.write(1, b"\xff{]\n")

    def told(self, counted: bool) -> dict[str, Any]:
        raise KeyError("nodes")


def families() -> dict[str, dict[str, Contender]]:
    """Who takes part."""

    def named(library: str, *kinds: type[Good]) -> dict[str, Contender]:
        return {
            f"{library}-{kind.__name__.lower()}": Contender("gpu_racers", kind.__name__, True)
            for kind in kinds
        }

    return {
        "gradnet": named("gradnet", Good, Loses, Raises, Chatters, CrashesAtOnce, CrashesLate),
        "torch": named("torch", Good, Crashes, Hangs, Absent, Wrong),
        "jax": {"jax-good": Contender("no_such_library", "Good", True)},
    }


if __name__ == "__main__":
    # The contenders' module, once.
    sys.modules["gpu_racers"] = sys.modules["__main__"]
    races.FAMILIES.clear()
    races.FAMILIES.update(families())
    serve(Library)
