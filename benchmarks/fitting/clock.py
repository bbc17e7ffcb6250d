"""What every script of this folder has in common: its job, its data, and what it tells.

A script is run as `python -m benchmarks.fitting.NAME JOB.json`. The seconds that it tells are
those since the parent started the process: interpreter, imports, data and compilation included.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


class Job:
    """A job as the parent wrote it; `tell` says how good the model is by now."""

    def __init__(self) -> None:
        with open(sys.argv[1]) as file:
            record: dict[str, Any] = json.load(file)
        self.started = float(sys.argv[2])  # of the clock that all processes share
        self.mode = sys.argv[3]
        self.data: str = record["data"]
        self.task: str = record["task"]
        self.sizes: list[int] = record["sizes"]
        self.dropout: float = record["dropout"]
        self.lr: float = record["lr"]
        self.batch: int = record["batch"]
        self.epochs: int = record["epochs"]
        self.goal: float | None = record["goal"]
        self.seed: int = record["seed"]

    @property
    def classification(self) -> bool:
        """Whether classes are predicted."""
        return self.task == "classification"

    def arrays(self) -> Any:
        """The data: X, y, X_test, y_test, by these names."""
        import numpy as np

        return np.load(self.data)

    def tell(self, epoch: int, score: float) -> bool:
        """Report the score on the test rows after an epoch; whether the goal is reached."""
        seconds = time.monotonic() - self.started
        print(json.dumps({"epoch": epoch, "score": float(score), "seconds": seconds}), flush=True)
        return self.goal is not None and score >= self.goal
