"""Preprocessing: fitted on training rows, carried inside the model file as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradnet.data.encoders import (
    Dropped,
    Embedded,
    Encoder,
    OneHot,
    Pixels,
    Quantile,
    Standard,
    fit_category,
    fit_number,
)
from gradnet.data.sources import Source, read
from gradnet.data.statistics import CategoryStatistics, TableStatistics
from gradnet.data.table import Features, Images, Kind, Rows, Table, counted, listed, note
from gradnet.data.targets import Target, Task
from gradnet.errors import DataError

Numbers = Literal["auto", "standard", "quantile"]
NUMBERS = ("auto", "standard", "quantile")
FORMAT = 1
MOST_FEATURES = 64
"""Features that one column of categories may take before the rare ones are grouped."""

_ENCODERS: dict[str, type[Any]] = {
    "standard": Standard,
    "quantile": Quantile,
    "one-hot": OneHot,
    "embedded": Embedded,
    "dropped": Dropped,
}


class Embedding(NamedTuple):
    """A feature that holds codes 0 … size - 1 for an embedding layer."""

    feature: int
    column: str
    size: int


@dataclass(frozen=True)
class Part:
    """Rows ready for a network: X float32 (n, k); y int64 codes or float32 numbers (n,), or None.

    `rows` are their places in the file, from 0.
    """

    X: NDArray[np.float32]
    y: NDArray[Any] | None
    rows: Rows

    def __len__(self) -> int:
        return len(self.X)


@dataclass(frozen=True)
class Preprocessing:
    """How cells become features and y, and how y becomes cells again.

    `inputs` are the encoders of a table's columns in their order, or one for images.
    """

    inputs: tuple[Encoder, ...] | Pixels
    target: Target

    @classmethod
    def fit(
        cls,
        features: Features,
        target: Target,
        *,
        numbers: Numbers = "auto",
        embed: int | None = None,
        notes: list[str] | None = None,
        weight: NDArray[np.float64] | None = None,
    ) -> Preprocessing:
        """Fit to training rows, which may have weights (n,): means and deviations count them.

        `numbers`: "standard" (z = (x - mean) / deviation), "quantile" (normal scores) or "auto"
        (normal scores for columns with many distinct values, standard for the others).
        `embed`: columns with more categories than this become one feature for an embedding layer.
        Raises DataError where no column is left.
        """
        if isinstance(features, Images):
            return cls(Pixels.fit(features), target)
        return cls.measured(
            TableStatistics.of(features, weight),
            target,
            numbers=numbers,
            embed=embed,
            notes=notes,
        )

    @classmethod
    def measured(
        cls,
        statistics: TableStatistics,
        target: Target,
        *,
        numbers: Numbers = "auto",
        embed: int | None = None,
        notes: list[str] | None = None,
    ) -> Preprocessing:
        """Fit from statistics gathered in chunks; otherwise as `fit`.

        Raises DataError for unknown options, and where no column is left to learn from.
        """
        notes = [] if notes is None else notes
        if numbers not in NUMBERS:
            raise DataError(f"numbers must be one of {listed(NUMBERS)}, not {numbers!r}")
        if embed is not None and embed < 1:
            raise DataError(f"embed must be at least 1 category, not {embed}")
        encoders: list[Encoder] = []
        for name, column in statistics.columns.items():
            if isinstance(column, CategoryStatistics):
                encoder = fit_category(name, column, MOST_FEATURES, embed)
                if isinstance(encoder, OneHot) and encoder.other:
                    assert column.counts is not None
                    note(
                        notes,
                        f"column {name!r} has {counted(len(column.counts), 'category')}: the "
                        f"{len(encoder.categories)} most frequent are kept, the rest grouped",
                    )
            else:
                encoder = fit_number(name, column, numbers)
            encoders.append(encoder)
        _note_dropped(encoders, notes)
        if not any(encoder.features for encoder in encoders):
            raise DataError(
                "no column is left to learn from: " + _reasons(encoders)
                if encoders
                else "there is no column besides the target"
            )
        return cls(tuple(encoders), target)

    @property
    def task(self) -> Task:
        """What is predicted: classes or numbers."""
        return self.target.task

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of their codes; empty for a regression."""
        return self.target.classes

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features, in the order of X's columns."""
        if isinstance(self.inputs, Pixels):
            return self.inputs.features
        return tuple(feature for encoder in self.inputs for feature in encoder.features)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input: (k,), or an image's (height, width[, channels])."""
        return self.inputs.shape if isinstance(self.inputs, Pixels) else (len(self.features),)

    @property
    def embeddings(self) -> tuple[Embedding, ...]:
        """The features that hold codes for embedding layers."""
        found = []
        place = 0
        for encoder in () if isinstance(self.inputs, Pixels) else self.inputs:
            if isinstance(encoder, Embedded):
                found.append(Embedding(place, encoder.name, encoder.size))
            place += len(encoder.features)
        return tuple(found)

    @property
    def kinds(self) -> dict[str, Kind]:
        """The columns that a table must have, and how their cells are to be read."""
        kinds: dict[str, Kind] = {}
        for encoder in () if isinstance(self.inputs, Pixels) else self.inputs:
            if isinstance(encoder, OneHot | Embedded):
                kinds[encoder.name] = "category"
            elif not isinstance(encoder, Dropped):
                kinds[encoder.name] = "number"
        return kinds

    def transform(self, features: Features, notes: list[str] | None = None) -> NDArray[np.float32]:
        """X of a table or of images, shape (n, k), float32.

        Remarks, such as on categories that training had not, are added to `notes` and logged.
        Raises DataError for a missing column, for text among numbers, and for images of another
        size.
        """
        notes = [] if notes is None else notes
        if isinstance(self.inputs, Pixels):
            if not isinstance(features, Images):
                raise DataError("the model was trained on images, but this is a table")
            return self.inputs.encode(features)
        if isinstance(features, Images):
            raise DataError("the model was trained on a table, but these are images")
        absent = [name for name in self.kinds if name not in features]
        if absent:
            raise DataError(
                f"no column {listed(absent)}, which the model needs "
                f"(it has {listed(features.names, 20) or 'none of its columns'})"
            )
        out = np.empty((len(features), len(self.features)), dtype=np.float32)
        place = 0
        for encoder in self.inputs:
            if encoder.features:
                width = len(encoder.features)
                encoder.encode(features[encoder.name], out[:, place : place + width], notes)
                place += width
        return out

    def read(self, data: str | os.PathLike[str], notes: list[str] | None = None) -> Part:
        """All rows of a file for prediction; y is None where the file has not every target.

        A set with an official test part gives that part.
        """
        notes = [] if notes is None else notes
        source = self.source(data, notes)
        x = self.transform(source.features, notes)
        return Part(x, self._targets(source, notes), np.arange(len(x)))

    def _targets(self, source: Source, notes: list[str]) -> NDArray[Any] | None:
        """y where every row has a target that fits; predictions can do without."""
        if source.target is None:
            return None
        if source.target.missing.any():
            note(notes, f"{source.name}: not every row has a target {source.target.name!r}")
            return None
        try:
            return self.target.encode(source.target)
        except DataError as error:
            note(notes, f"{source.name}: the targets cannot be used: {error}")
            return None

    def source(self, data: str | os.PathLike[str], notes: list[str]) -> Source:
        """Read a file as training data was read: only the columns needed, with their kinds."""
        name = self.target.name
        kinds: Mapping[str, Kind | None] | None = None
        if not isinstance(self.inputs, Pixels):
            dropped = {e.name: None for e in self.inputs if isinstance(e, Dropped)}
            kinds = {**dropped, **self.kinds, name: self.target.kind}
        source = read(data, kinds=kinds, notes=notes)
        if source.test is not None:
            count = counted(len(source.test.features), "row")
            note(notes, f"{source.name}: its test part, {count}, is read")
            source = source.test
        if isinstance(source.features, Table) and name in source.features:
            target = source.features[name]
            return Source(source.name, source.features.without(name), target)
        if source.target is not None and isinstance(source.features, Table):
            return source if source.target.name == name else Source(source.name, source.features)
        return source

    def decode(self, y: NDArray[Any]) -> NDArray[Any]:
        """Class names of codes, or numbers in the target's units (float64), shape (n,)."""
        return self.target.decode(y)

    def to_json(self) -> str:
        """All of it as JSON text; numbers are written so that they come back to the bit."""
        if isinstance(self.inputs, Pixels):
            inputs: Any = asdict(self.inputs)
        else:
            names = {kind: name for name, kind in _ENCODERS.items()}
            inputs = [{"encoder": names[type(e)], **asdict(e)} for e in self.inputs]  # type: ignore[call-overload]
        content = {"format": FORMAT, "inputs": inputs, "target": asdict(self.target)}
        return json.dumps(content, allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Preprocessing:
        """Back from `to_json`; raises DataError for other text and for a later format."""
        try:
            content = json.loads(text)
            if content["format"] != FORMAT:
                raise DataError(
                    f"preprocessing has format {content['format']}, but this version of gradnet "
                    f"reads {FORMAT}; use a later one"
                )
            inputs = content["inputs"]
            target = _made(Target, content["target"])
            if isinstance(inputs, dict):
                return cls(_made(Pixels, inputs), target)
            encoders = []
            for item in inputs:
                kind = _ENCODERS[item.pop("encoder")]
                encoders.append(_made(kind, item))
            return cls(tuple(encoders), target)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"this is not preprocessing written by gradnet ({error!r})") from error


def _made(kind: type[Any], content: Mapping[str, Any]) -> Any:
    """A dataclass from JSON: exactly its fields, lists as tuples."""
    names = {field.name for field in fields(kind)}
    if set(content) != names:
        raise KeyError(f"{kind.__name__} has fields {sorted(names)}, not {sorted(content)}")
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in content.items()})


def _note_dropped(encoders: Sequence[Encoder], notes: list[str]) -> None:
    dropped = [encoder for encoder in encoders if isinstance(encoder, Dropped)]
    if len(dropped) > 5:
        note(
            notes,
            f"{len(dropped)} columns are left out, as hardly anything can be learnt from "
            f"them: {_reasons(dropped)}",
        )
        return
    for encoder in dropped:
        note(notes, f"column {encoder.name!r} is left out: {encoder.reason}")


def _reasons(encoders: Sequence[Encoder], most: int = 3) -> str:
    dropped = [encoder for encoder in encoders if isinstance(encoder, Dropped)]
    told = "; ".join(f"{encoder.name!r}: {encoder.reason}" for encoder in dropped[:most])
    return told + (f"; and {len(dropped) - most} more" if len(dropped) > most else "")
