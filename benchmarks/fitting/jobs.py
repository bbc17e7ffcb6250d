"""The jobs: data, network, schedule of training, and the goal, each defined once."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradnet import data


def folder() -> Path:
    """The folder of real data sets: $GRADNET_DATA, else beside the checkout."""
    given = os.environ.get("GRADNET_DATA")
    return Path(given) if given else Path(__file__).parents[3] / "shared" / "data" / "files"


@dataclass(frozen=True)
class Definition:
    """A training job that all peers do alike, from the same arrays.

    hidden        widths of the hidden layers, all ReLU
    goal          a score on the test rows that ends the run, or None: all epochs are run. Scores
                  are accuracies, and for numbers the negative RMSE of the standardised target
    equal         how far two scores may be apart and still count as equal
    repetitions   how often each peer does it
    """

    name: str
    source: str
    task: str
    hidden: tuple[int, ...]
    epochs: int
    batch: int
    lr: float = 1e-3
    dropout: float = 0.0
    goal: float | None = None
    equal: float = 0.0
    repetitions: int = 3
    target: str | None = None

    def missing(self) -> str:
        """Why its data are not there, or nothing."""
        path = folder() / self.source
        if self.source == "digits" or path.exists():
            return ""
        return f"no data at {self.source}; set GRADNET_DATA to the folder that holds it"

    def prepare(self, path: Path) -> dict[str, Any]:
        """Write the arrays to a file; the job for the peers' scripts."""
        where = self.source if self.source == "digits" else str(folder() / self.source)
        parts = data.load(where, self.target).split(validation=0.0, test=None, seed=0)
        assert parts.test is not None
        arrays = {}
        for suffix, part in (("", parts.train), ("_test", parts.test)):
            arrays[f"X{suffix}"] = np.ascontiguousarray(part.X, np.float32)
            y: Any = np.asarray(part.y)
            classes = self.task == "classification"
            arrays[f"y{suffix}"] = y.astype(np.int64 if classes else np.float32)
            if not classes:
                arrays[f"y{suffix}"] = arrays[f"y{suffix}"].reshape(len(y), -1)
        np.savez(path, **arrays)
        outputs = int(arrays["y"].max()) + 1 if self.task == "classification" else 1
        return {
            "data": str(path),
            "task": self.task,
            "sizes": [arrays["X"].shape[1], *self.hidden, outputs],
            "dropout": self.dropout,
            "lr": self.lr,
            "batch": self.batch,
            "epochs": self.epochs,
            "goal": self.goal,
            "seed": 0,
        }


JOBS: dict[str, Definition] = {
    job.name: job
    for job in (
        Definition("digits", "digits", "classification", (128,), 60, 32, goal=0.97, repetitions=5),
        Definition(
            *("heart", "heart/Heart.csv", "classification", (32,), 50, 32),
            dropout=0.0,
            equal=0.05,
            target="AHD",
        ),
        Definition(
            *("california", "california/california_housing.csv", "regression", (256, 256), 20, 256),
            equal=0.01,
            target="median_house_value",
        ),
        Definition(
            *("mnist", "mnist", "classification", (512, 512), 20, 128),
            dropout=0.2,
            equal=0.003,
            repetitions=1,
        ),
    )
}

Script = tuple[str, str, str]  # module, mode, package

SCRIPTS: dict[str, Script] = {
    "gradnet": ("ours", "fit", "gradnet"),
    "gradnet-command": ("", "command", "gradnet"),
    "torch-eager": ("with_torch", "eager", "torch"),
    "torch-fused": ("with_torch", "fused", "torch"),
    "torch-compile": ("with_torch", "compile", "torch"),
    "jax-scan": ("with_jax", "scan", "jax"),
    "sklearn": ("with_sklearn", "fit", "sklearn"),
    "sklearn-defaults": ("with_sklearn", "defaults", "sklearn"),
    "import-torch": ("importing", "import", "torch"),
}

FITS: dict[str, Callable[[Definition], bool]] = {
    "gradnet-command": lambda job: job.name == "digits",
    "import-torch": lambda job: job.name == "digits",
    "sklearn": lambda job: not job.dropout,
    "sklearn-defaults": lambda job: job.name == "digits",
}
"""Where a script takes part; those not listed do every job."""
