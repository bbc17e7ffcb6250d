"""`gradnet predict`: a row of predictions for each row of data."""

from __future__ import annotations

import argparse
import io
import math
import sys
from pathlib import Path
from typing import Any

from gradnet import ops
from gradnet.cli.folder import MODEL
from gradnet.cli.parser import unwritten
from gradnet.cli.report import counted, figure
from gradnet.data import Part, Preprocessing
from gradnet.errors import DataError
from gradnet.io import load, save_columns
from gradnet.io.columns import write_text, writer
from gradnet.training import Trainer


def run(options: argparse.Namespace, started: float) -> int:
    """Write predictions to --out or to standard output; measurements, where the target is there.

    Raises BadCall, GradnetError, ImportError and OSError with one line for the user.
    """
    path = model_file(options.model)
    if options.out is not None:
        writer(options.out)
        unwritten("--out", options.out)
    model = load(path)
    text = model.extra.get("preprocessing")
    if text is None:
        raise DataError(
            f"{path}: the model has no preprocessing of tables or images with it; only models "
            "that gradnet train saved can be used here"
        )
    preprocessing = Preprocessing.from_json(text)
    notes: list[str] = []
    try:
        part = preprocessing.read(options.data, notes)
    finally:
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
    trainer = Trainer(model, progress=False)
    columns = predictions(trainer, preprocessing, part)
    if options.out is None:
        text = io.StringIO()
        write_text(text, columns)
        sys.stdout.write(_encodable(text.getvalue()))
        sys.stdout.flush()
    else:
        save_columns(columns, options.out)
        print(f"{counted(len(part), 'prediction')} in {options.out}", file=sys.stderr)
    if part.y is not None:
        print(measured(trainer, preprocessing, part), file=sys.stderr)
    return 0


def _encodable(text: str) -> str:
    """The text, which is data and so must not be spelled otherwise; raises DataError."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError as error:
        lacking = text[error.start : error.start + 1]
        raise DataError(
            f"standard output is in {encoding}, which has no {lacking!r}: write to a file by "
            "--out FILE, or set PYTHONIOENCODING=utf-8"
        ) from error
    return text


def model_file(name: str) -> Path:
    """The model file of that name, or the one in a folder of that name; raises DataError."""
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / MODEL).is_file():
            raise DataError(f"{path}: there is no {MODEL} in this folder")
        return path / MODEL
    if not path.exists():
        raise DataError(
            f"{path}: no such model; give a folder that gradnet train saved, or a model file"
        )
    return path


def predictions(trainer: Trainer, preprocessing: Preprocessing, part: Part) -> dict[str, Any]:
    """Columns "prediction" and, for classes, "probability_<class>"; numbers in the target's units.

    A model of mean and variance gives "prediction" and "deviation".
    """
    found = trainer.predict(part.X)
    if preprocessing.task == "classification":
        codes = ops.argmax(found, axis=1).numpy()
        columns = {"prediction": preprocessing.decode(codes)}
        for code, name in enumerate(preprocessing.classes):
            columns[f"probability_{name}"] = found[:, code].numpy()
        return columns
    mean, variance = found if isinstance(found, tuple) else (found, None)
    columns = {"prediction": preprocessing.decode(ops.reshape(mean, (-1,)).numpy())}
    if variance is not None:
        scale = preprocessing.target.scale
        columns["deviation"] = (ops.sqrt(ops.reshape(variance, (-1,))) * scale).numpy()
    return columns


def measured(trainer: Trainer, preprocessing: Preprocessing, part: Part) -> str:
    """How good the predictions are, in a line."""
    found = trainer.evaluate(part.X, part.y)
    if "rmse" in found:
        found["rmse"] *= preprocessing.target.scale
    shown = ", ".join(f"{n} {figure(v)}" for n, v in found.items() if math.isfinite(v))
    return f"measured on {counted(len(part), 'row')}: {shown}"
