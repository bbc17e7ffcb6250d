"""The pictures of a training run that `--plots` asks for: those that fit its task and its data."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradnet.cli.parser import BadCall
from gradnet.data import Images, Part, Table
from gradnet.training import Trainer

if TYPE_CHECKING:
    from gradnet.cli.train import Job

NAMES = (
    *("curves", "confusion", "roc", "precision_recall", "calibration"),
    *("residuals", "weights", "boundary"),
)
_MOST_CLASSES = 30
"""Up to so many classes a confusion matrix can be read."""

Picture = tuple[str, Callable[[], Any]]


def check(folder: str | None, *, resumed: bool) -> Path | None:
    """The folder to write pictures to, if any, before anything is computed.

    Raises BadCall where it holds pictures already or cannot be made, ImportError where matplotlib
    is missing.
    """
    if folder is None:
        return None
    path = Path(folder)
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError(
            '--plots needs matplotlib: run pip install ".[plot]" in the checkout of gradnet'
        )
    above = next(p for p in (path, *path.absolute().parents) if os.path.lexists(p))
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise BadCall(f"--plots {path}: no folder can be made in {above}")
    there = [name for name in NAMES if (path / f"{name}.png").exists()]
    if there and not resumed:
        raise BadCall(
            f"--plots {path}: {there[0]}.png is there already, and nothing is overwritten; "
            "choose another folder"
        )
    return path


def draw(job: Job, folder: Path) -> list[Path]:
    """Write the pictures of a run, on the rows it was tested on: their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for name, picture in _pictures(job):
        path = folder / f"{name}.png"
        picture().savefig(path)
        found.append(path)
    return found


def _pictures(job: Job) -> Iterator[Picture]:
    from gradnet import plots

    parts, dataset = job.parts, job.dataset
    rows = next(part for part in (parts.test, parts.validation, parts.train) if part is not None)
    trainer = Trainer(job.model, progress=False)
    if job.history.epochs:
        yield "curves", lambda: plots.history(job.history, labels=_labels(job), theme="light")
    p = trainer.predict(rows.X).numpy()
    if not dataset.classes:
        decode = parts.preprocessing.decode
        target = dataset.column.name
        y, prediction = decode(rows.y), decode(p[:, 0])  # type: ignore[arg-type]
        yield "residuals", lambda: plots.residuals(y, prediction, name=target, theme="light")
    else:
        yield from _of_classes(job, rows, p)
    if isinstance(dataset.features, Images) and len(parts.preprocessing.shape) == 2:
        height, width = parts.preprocessing.shape
        yield "weights", lambda: plots.weights(job.model, (height, width), theme="light")
    plane = _plane(job, rows)
    if plane is not None:
        yield "boundary", plane


def _of_classes(job: Job, rows: Part, p: Any) -> Iterator[Picture]:
    from gradnet import plots

    classes, y = job.dataset.classes, rows.y
    if len(classes) <= _MOST_CLASSES:
        yield "confusion", lambda: plots.confusion(y, p, classes=classes, theme="light")
    assert y is not None
    if len(set(y.tolist())) > 1:
        yield "roc", lambda: plots.roc(y, p, classes=classes, theme="light")
        yield (
            "precision_recall",
            lambda: plots.precision_recall(y, p, classes=classes, theme="light"),
        )
    yield "calibration", lambda: plots.calibration(y, p, classes=classes, theme="light")


def _labels(job: Job) -> dict[str, str]:
    """What the curves measure: the network learns a standardised target."""
    if job.dataset.classes:
        return {"loss": "cross-entropy (nats per row)"}
    return {
        "loss": "mean squared error (standardised)",
        "rmse": "RMSE (standardised)",
        "r2": "R²",
    }


def _plane(job: Job, rows: Part) -> Callable[[], Any] | None:
    """The decision boundary in the data's own units, where two columns of numbers are all."""
    features, preprocessing = job.dataset.features, job.parts.preprocessing
    if not (job.dataset.classes and isinstance(features, Table) and len(features.names) == 2):
        return None
    columns = [features[name] for name in features.names]
    if any(column.kind != "number" or column.missing.any() for column in columns):
        return None
    if len(preprocessing.features) != 2:
        return None
    if isinstance(job.settings.test, str):
        rows = job.parts.train  # the cells of another file are no longer there
    from gradnet import plots

    trainer = Trainer(job.model, progress=False)
    places = job.dataset.rows.searchsorted(rows.rows)
    cells = [column.values[places].tolist() for column in columns]

    def probabilities(points: Any) -> Any:
        table = Table.from_arrays(dict(zip(features.names, points.T, strict=True)))
        return trainer.predict(preprocessing.transform(table))

    return lambda: plots.decision_boundary(
        probabilities,
        list(zip(*cells, strict=True)),
        rows.y,
        classes=job.dataset.classes,
        features=features.names,
        theme="light",
    )
