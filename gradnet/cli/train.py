"""`gradnet train`: read, split, fit, test, save, tell."""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import importlib.util
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gradnet import backends, data, nn, optim
from gradnet.backends import Backend
from gradnet.cli import pictures
from gradnet.cli.folder import Folder
from gradnet.cli.parser import BadCall
from gradnet.cli.report import Report
from gradnet.cli.settings import Settings
from gradnet.cli.summary import PARTS, conclude, introduce
from gradnet.data import Parts
from gradnet.io import replacing
from gradnet.training import (
    Callback,
    Checkpoint,
    EarlyStopping,
    History,
    Run,
    Trainer,
    TrainingInterrupted,
)
from gradnet.training.defaults import choose

INTERRUPTED = 130
CHECKPOINT_SECONDS = 2.0
"""The least time between two checkpoints: what a crash can cost, beside the epoch it is in."""


def run(options: argparse.Namespace, started: float) -> int:
    """Train as the options say: 0, or 130 where Ctrl-C ended it and what there was is saved.

    Raises BadCall, GradnetError, ImportError and OSError with one line for the user.
    """
    settings = Settings.of(options)
    folder = Folder(settings.data, options.out, options.resume)
    plots = pictures.check(options.plots, resumed=folder.resumed)
    report = Report(sys.stderr if options.json else sys.stdout)
    with using(settings.backend, settings.device) as backend:
        searches = rehearse(settings)
        job = Job(settings, folder, backend, searches)
        if not options.quiet:
            introduce(report, job)
        try:
            with folder:
                job.fit(progress=not options.quiet, started=started)
                job.save()
            if plots is not None:
                job.plots = pictures.draw(job, plots)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted; {folder.remains}") from None
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OSError(f"{error}; {folder.remains}") from error
        except MemoryError as error:
            raise MemoryError(f"{error or 'use a smaller batch'}; {folder.remains}") from error
    conclude(report, job)
    if options.json:
        print(json.dumps(job.result(), allow_nan=False))
    return INTERRUPTED if job.history.interrupted else 0


@contextlib.contextmanager
def using(name: str, device: str) -> Iterator[Backend]:
    """The backend of these flags, as the default within a `with` block.

    Raises BadCall for a device that is not the backend's, DeviceError where one is missing.
    """
    if name == "auto":
        chosen = backends.for_device(device)
    else:
        if device != "auto" and (name == "cuda") != device.startswith("cuda"):
            raise BadCall(f"--backend {name} does not run on --device {device}: leave one out")
        chosen = backends.get(name, int(device.partition(":")[2] or 0))
    with backends.use(chosen):
        yield chosen


def rehearse(settings: Settings) -> bool:
    """Make a tiny network and its optimizer, so that a bad call is told before data are read.

    Whether a step of that optimizer searches along a line.
    """
    if importlib.util.find_spec("safetensors") is None:
        raise ImportError(
            'saving needs safetensors: run pip install ".[train]" in the checkout of gradnet'
        )
    settings = settings.completed(choose(1000, settings.optimizer))
    made = _optimizer(settings)
    try:
        optimizer = optim.create(made.pop("name"), _model(settings, 1, 2).parameters(), **made)
        if settings.precision == "float16":
            optim.LossScale(optimizer)
    except ValueError as error:
        raise BadCall(f"--optimizer {settings.optimizer}: {error}") from error
    return optimizer.needs_closure


def _model(settings: Settings, inputs: int, classes: int) -> nn.MLP:
    """The network of these settings; a number is predicted where there are no classes."""
    assert settings.hidden is not None
    assert settings.activation is not None
    try:
        return nn.MLP(
            (inputs, *settings.hidden, classes or 1),
            settings.activation,
            settings.dropout or 0.0,
            "softmax" if classes else "linear",
            seed=settings.seed,
        )
    except (KeyError, ValueError) as error:
        raise BadCall(f"--activation {settings.activation}: {error.args[0]}") from error


def _optimizer(settings: Settings) -> dict[str, Any]:
    given = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    found: dict[str, Any] = {"name": settings.optimizer}
    return found | {name: value for name, value in given.items() if value is not None}


def fingerprint(parts: Parts) -> str:
    """A hash of what is trained on, by which a resumed run knows its data again."""
    found = hashlib.blake2b(parts.preprocessing.to_json().encode(), digest_size=16)
    for part in (parts.train, parts.validation):
        if part is not None and part.y is not None:
            found.update(part.X.data)
            found.update(part.y.data)
    return found.hexdigest()


class Beginning(Callback):
    """How many epochs a run had behind it when it began."""

    epochs = 0

    def on_fit_start(self, run: Run) -> None:
        self.epochs = run.history.epochs


class Job:
    """One training run, from data to a saved model."""

    def __init__(
        self, settings: Settings, folder: Folder, backend: Backend, searches: bool
    ) -> None:
        self.folder = folder
        self.backend = backend
        self.dataset = data.load(settings.data, settings.target, settings.task)
        self.parts = self.dataset.split(settings.validation, settings.test, seed=settings.seed)
        rows = len(self.parts.train)
        if searches and (settings.batch_size or rows) < rows:
            raise BadCall(
                f"--optimizer {settings.optimizer} needs all {rows:,} training rows in each step: "
                "leave out --batch-size"
            )
        if settings.patience and self.parts.validation is None:
            raise BadCall("--patience needs validation rows: leave out --validation 0")
        settings = settings.completed(choose(rows, settings.optimizer, searches))
        self.settings = settings.of_data(fingerprint(self.parts))
        self.model = _model(
            settings, len(self.parts.preprocessing.features), len(self.dataset.classes)
        )
        self.history = History()
        self.metrics: dict[str, dict[str, float]] = {}
        self.setup_seconds = self.fit_seconds = 0.0
        self.samples_per_second: float | None = None
        self.plots: list[Path] | None = None

    @property
    def parameters(self) -> int:
        """The number of weights and biases."""
        return sum(parameter.size for parameter in self.model.parameters())

    def fit(self, *, progress: bool, started: float) -> None:
        """Train, and measure on every part; Ctrl-C ends the training early."""
        settings, parts, folder = self.settings, self.parts, self.folder
        assert settings.epochs is not None
        if not folder.resumed:
            settings.write(folder.path)
        held = parts.validation
        trainer = Trainer(
            self.model,
            optimizer=_optimizer(settings),
            schedule=settings.schedule,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            early_stopping=None if held is None else EarlyStopping(settings.patience or None),
            precision=settings.precision,
            seed=settings.seed,
            progress=progress,
            checkpoint=Checkpoint(folder.path, seconds=CHECKPOINT_SECONDS),
            callbacks=[first := Beginning()],
        )
        ready = time.perf_counter()
        try:
            self.history = trainer.fit(
                parts.train.X,
                parts.train.y,
                validation=None if held is None else (held.X, held.y),
                # Without a checkpoint it was killed in its first epoch, and begins anew.
                resume=folder.path if folder.resumed and folder.begun else None,
            )
        except TrainingInterrupted as stop:
            self.history = stop.history
        self.fit_seconds = time.perf_counter() - ready
        self.setup_seconds = ready - started
        done = self.history.epochs - first.epochs
        self.samples_per_second = len(parts.train) * done / self.fit_seconds if done else None
        scale = parts.preprocessing.target.scale
        for name in PARTS:
            part = getattr(parts, name)
            if part is not None:
                measured = trainer.evaluate(part.X, part.y)
                if "rmse" in measured:
                    measured["rmse"] *= scale  # y is standardised, users think in its units
                self.metrics[name] = measured

    def save(self) -> None:
        """Write the model with its preprocessing, and the curves of the run."""
        preprocessing = self.parts.preprocessing.to_json()
        self.model.save(self.folder.model, {"preprocessing": preprocessing})
        with replacing(self.folder.history) as path, path.open("w", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(self.history.columns)
            for epoch in range(1, self.history.epochs + 1):
                row = self.history.row(epoch)
                table.writerow(int(v) if n == "epoch" else repr(v) for n, v in row.items())

    def result(self) -> dict[str, Any]:
        """What --json prints; a measurement that is not a finite number is null."""
        metrics = {
            name: {key: value if math.isfinite(value) else None for key, value in part.items()}
            for name, part in ((name, self.metrics.get(name, {})) for name in PARTS)
        }
        return {
            "data": self.settings.data,
            "task": self.dataset.task,
            "backend": self.backend.name,
            "device": self.backend.device,
            "precision": self.settings.precision,
            "seed": self.settings.seed,
            "parameters": self.parameters,
            "epochs": self.history.epochs,
            "best_epoch": self.history.best_epoch,
            "seconds": {"setup": self.setup_seconds, "fit": self.fit_seconds},
            "samples_per_second": self.samples_per_second,
            **{name: part or None for name, part in metrics.items()},
            "model": str(self.folder.model),
            **({} if self.plots is None else {"plots": [str(path) for path in self.plots]}),
        }
