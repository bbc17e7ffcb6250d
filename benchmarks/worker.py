"""A process that holds one contender: `python -m benchmarks.worker CONTENDER`.

It answers lines of JSON on its standard input with lines of JSON; what libraries print goes to
standard error. Between its answers the parent stops it, threads and all.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from benchmarks.resident import Peak

LEAST_SECONDS = 0.02  # of a trial run from which the time of a step is estimated


class Server:
    """What a worker knows between two messages."""

    def __init__(self, where: str) -> None:
        module, _, kind = where.partition(":")
        self.kind = getattr(importlib.import_module(module), kind)
        self.contender: Any = None
        self.estimate = 0.0

    def build(self, work: dict[str, Any], device: str) -> dict[str, Any]:
        """Make a contender from a workload; {"unfit": reason} where it cannot take part."""
        self.contender = None
        gc.collect()
        workload = self.kind.read(work)
        reason = self.kind.unfit(workload, device)
        if reason:
            return {"unfit": reason}
        self.contender = self.kind(workload, device)
        self.contender.prepare()
        self.contender.build()
        return {"info": self.contender.info}

    def losses(self, count: int) -> dict[str, Any]:
        """The losses of the first steps."""
        return {"losses": self.contender.losses(count)}

    def calibrate(self, least: float = LEAST_SECONDS) -> dict[str, Any]:
        """Warm up, and estimate the seconds of a step."""
        self.contender.tune()
        self.contender.reset()
        steps = self.contender.stride
        self.contender.run(steps)
        while True:
            start = time.perf_counter()
            self.contender.run(steps)
            elapsed = time.perf_counter() - start
            if elapsed >= least:
                break
            steps *= 2
        self.estimate = elapsed / steps
        return {"seconds": self.estimate, "info": self.contender.info}

    def time(self, seconds: float) -> dict[str, Any]:
        """Seconds of a step, over steps that take about so long, after a quarter as many untimed.

        The caches are others' when its turn comes: the untimed steps fetch them back.
        """
        self.contender.reset()
        gc.collect()
        warm = self._steps(seconds / 4)
        start = time.perf_counter()
        self.contender.run(warm)
        # The machine may have become slower or faster since the last turn.
        self.estimate = (time.perf_counter() - start) / warm
        steps = self._steps(seconds)
        start = time.perf_counter()
        self.contender.run(steps)
        return {"seconds": (time.perf_counter() - start) / steps, "steps": steps}

    def _steps(self, seconds: float) -> int:
        """How many steps take about so long: at least one, and a multiple of the stride."""
        stride: int = self.contender.stride
        return max(1, round(seconds / self.estimate / stride)) * stride

    def memory(self, work: dict[str, Any], device: str, steps: int) -> dict[str, Any]:
        """Peak bytes over what the process held with its data, in the first and in later steps."""
        workload = self.kind.read(work)
        reason = self.kind.unfit(workload, device)
        if reason:
            return {"unfit": reason}
        self.contender = self.kind(workload, device)
        self.contender.prepare()
        gc.collect()
        peak = Peak()
        self.contender.build()
        self.contender.run(steps)
        first = peak.bytes()
        peak.restart()
        self.contender.run(steps)
        return {"first": first, "step": peak.bytes(), "exact": peak.exact}


def die_with_parent() -> None:
    """Ask Linux to end this process when its parent ends, even while it is stopped."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def serve(make: Callable[[str], Any]) -> None:
    """Answer messages, by what is made of the command's argument, until there are no more."""
    die_with_parent()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    server: Any = None
    for line in sys.stdin:
        message = json.loads(line)
        called = message.pop("do")
        try:
            if server is None:
                server = make(sys.argv[1])
            answer = getattr(server, called)(**message) if called != "hello" else {}
        except Exception as error:  # noqa: BLE001  whatever it is, the parent tells of it
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve(Server)
