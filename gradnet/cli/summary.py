"""What a person is told of a training run: the data before it, the result after it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from gradnet import backends
from gradnet.cli.report import Report, counted, figure, lasting
from gradnet.data import Images

if TYPE_CHECKING:
    from gradnet.cli.train import Job

PARTS = ("train", "validation", "test")
MOST_CLASSES = 6


def introduce(report: Report, job: Job) -> None:
    """The data and how they are split, and the remarks of the data room."""
    dataset, parts = job.dataset, job.parts
    shape = parts.preprocessing.shape
    features = len(parts.preprocessing.features)
    if isinstance(dataset.features, Images):
        what = f"{counted(len(dataset), 'image')} of {' by '.join(map(str, shape))} pixels"
    else:
        columns = len(dataset.features.names)
        what = f"{counted(len(dataset), 'row')}, {counted(columns, 'column')}"
        what += f" as {counted(features, 'feature')}"
    target = dataset.column.name
    classes = dataset.classes
    if classes:
        named = ", ".join(classes[:MOST_CLASSES]) + (", …" if len(classes) > MOST_CLASSES else "")
        aim = f"{target}, {len(classes)} classes ({named})"
    else:
        aim = f"{target}, a number"
    split = [(name, getattr(parts, name)) for name in PARTS]
    facts = {
        "data": f"{dataset.name}: {what}",
        "target": aim,
        "split": ", ".join(f"{name} {len(part):,}" for name, part in split if part is not None),
    }
    report.facts(facts)
    for text in parts.notes:
        report.line(f"note: {text}", style="yellow")
    report.line()


def conclude(report: Report, job: Job) -> None:
    """Measurements on every part, and how they came about."""
    history, settings = job.history, job.settings
    report.table(("", *job.metrics), _rows(job))
    report.line()
    epochs = f"{job.history.epochs} of {settings.epochs}"
    best = "" if history.best_epoch is None else f", the best was epoch {history.best_epoch}"
    sizes = "-".join(map(str, job.model.sizes))
    facts = {
        "epochs": epochs + best,
        "time": f"{lasting(job.fit_seconds)} of fitting, {lasting(job.setup_seconds)} before it",
        "speed": f"{figure(job.samples_per_second)} samples/s",
        "network": f"{sizes} {settings.activation}, {counted(job.parameters, 'parameter')}",
        "run on": f"{job.backend.name}, {job.backend.device}, {settings.precision}, "
        f"seed {settings.seed}",
        **_without_gpu(job),
        "saved": str(job.folder.model),
        **_drawn(job),
        "next": f"gradnet predict {job.folder.path} DATA",
    }
    if history.interrupted:
        facts["next"] = (
            f"interrupted; go on with: gradnet train {settings.data} --resume {job.folder.path}"
        )
    report.facts(facts)


def _without_gpu(job: Job) -> dict[str, str]:
    """Why the device "auto" is no GPU, where it is none."""
    if job.settings.device != "auto" or job.backend.device != "cpu":
        return {}
    reason = backends.unavailable("cuda")
    return {"no GPU": reason} if reason else {}


def _drawn(job: Job) -> dict[str, str]:
    """Where the pictures are, if there are any."""
    if not job.plots:
        return {}
    names = ", ".join(path.stem for path in job.plots)
    return {"plots": f"{job.plots[0].parent}: {names} (.png)"}


def _rows(job: Job) -> list[list[str]]:
    """A row for each measurement, with a column for each part."""
    measured = list(job.metrics.values())
    names = list(measured[0])
    units = {"rmse": f"rmse of {job.dataset.column.name}"}
    rows = [[units.get(name, name), *(figure(m[name]) for m in measured)] for name in names]
    if job.dataset.classes:
        parts = [getattr(job.parts, name) for name in job.metrics]
        shares = [Counter(part.y.tolist()).most_common(1)[0] for part in parts]
        rows.append(
            ["accuracy of the most frequent class"]
            + [figure(count / len(part)) for (_, count), part in zip(shares, parts, strict=True)]
        )
    return rows
