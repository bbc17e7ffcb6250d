"""One library's process: `python -m benchmarks.gpu.race LIBRARY` holds its contenders of a race.

It answers messages as `benchmarks.worker` does, each about one contender of the race at hand.
"""

from __future__ import annotations

import gc
import importlib
import time
from typing import Any

from benchmarks.gpu.notes import NotThere, finite
from benchmarks.gpu.races import FAMILIES, Contender, Kept, Race
from benchmarks.worker import Server, serve

LOSSES = 3


class Racer(Server):
    """A contender of a race."""

    def __init__(self, entry: Contender) -> None:
        super().__init__(f"{entry.module}:{entry.kind}")
        self.first = 0.0
        self.first_losses: list[float] = []
        self.peak: int | None = None

    def race(self, race: Race, dry: bool) -> str:
        """Make it ready, its first steps taken; or say why it takes no part."""
        reason = self.kind.cannot(race, dry)
        if reason:
            return str(reason)
        self.contender = contender = self.kind.racing(race, dry)
        contender.start_memory()
        contender.prepare()
        contender.build()
        start = time.perf_counter()
        self.first_losses = contender.losses(LOSSES)
        self.first = time.perf_counter() - start  # with all that is compiled at first use
        contender.run(contender.stride)
        # Before the next contender of this process takes memory too.
        self.peak = None if dry else contender.peak_memory()
        return ""


class Library:
    """The contenders of the race at hand, by name."""

    def __init__(self, name: str) -> None:
        self.entries = FAMILIES[name]
        self.racers: dict[str, Racer] = {}

    def build(
        self, contender: str, work: dict[str, Any], precision: str, dry: bool
    ) -> dict[str, Any]:
        """Its row; or, in "missing", why nobody of this library can take part."""
        entry = self.entries[contender]
        if dry and not entry.dry:
            return {"row": {"left_out": "not in a dry run"}}
        try:
            racer = Racer(entry)
        except ImportError as error:
            return {"missing": str(error)}
        try:
            reason = racer.race(Race(Kept.of(work), precision), dry)
        except NotThere as error:
            return {"row": {"left_out": f"not there: {error}"}}
        if reason:
            return {"row": {"left_out": reason}}
        self.racers[contender] = racer
        # What lives as long as the race need not be looked through whenever it is timed.
        gc.collect()
        gc.freeze()
        row = {
            "losses": racer.first_losses,
            "first_step_seconds": None if dry else racer.first,
            "peak_bytes": racer.peak,
        }
        return {"row": finite(row)}

    def calibrate(self, contender: str, dry: bool) -> dict[str, Any]:
        """Warm up, and choose between ways."""
        racer = self.racers[contender]
        racer.contender.turn()
        racer.calibrate(0.0) if dry else racer.calibrate()
        return {"row": finite(racer.contender.info)}

    def time(self, contender: str, seconds: float) -> dict[str, Any]:
        """The seconds of a step, over some of them."""
        racer = self.racers[contender]
        racer.contender.turn()
        return racer.time(seconds)

    def tell(self, contender: str, dry: bool, counted: bool) -> dict[str, Any]:
        """What else there is to tell.

        counted  whether a profiler may count launches, which no step is timed after
        """
        racer = self.racers[contender].contender
        racer.turn()
        return {"row": finite(racer.told(counted))}

    def over(self, contender: str) -> dict[str, Any]:
        """Make room for the next race."""
        self.racers.clear()
        gc.unfreeze()
        gc.collect()
        return {}

    def well(self, contender: str) -> dict[str, Any]:
        """Raises where the device does no more of what this process asks for."""
        importlib.import_module(self.entries[contender].module).settle()
        return {}

    def chains(self, contender: str, dry: bool, copy: float | None) -> dict[str, Any]:
        """Chains of elementwise work, by gradnet alone."""
        from benchmarks.gpu.chains import chains
        from benchmarks.gpu.race_ours import bench_of

        return {"row": finite(chains(bench_of(dry), copy))}


if __name__ == "__main__":
    serve(Library)
