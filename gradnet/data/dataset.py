"""load() and Dataset: from a name or a file to training, validation and test parts."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np

from gradnet.data.checks import check
from gradnet.data.preprocessing import Numbers, Part, Preprocessing
from gradnet.data.sources import Source, read
from gradnet.data.splits import folds, split
from gradnet.data.statistics import TableStatistics
from gradnet.data.table import NUMBER, Column, Features, Images, Rows, Table, counted, listed, note
from gradnet.data.targets import Target, Task, choose, with_target
from gradnet.errors import DataError

Fraction = float | str | os.PathLike[str]
OFFICIAL_OR_FIFTH = 0.2


@dataclass(frozen=True)
class Parts:
    """A split: validation and test are None where none was wanted."""

    train: Part
    validation: Part | None
    test: Part | None
    preprocessing: Preprocessing
    notes: list[str]


@dataclass(frozen=True)
class Dataset:
    """Features and target of a data set, before it is split.

    `rows` are the places in the file of the rows that have a target; `notes` what there is to
    say about the data; `official` the test part that the set brings, if it brings one.
    """

    name: str
    features: Features
    column: Column
    target: Target
    rows: Rows
    notes: list[str] = field(default_factory=list)
    official: tuple[Features, Column, Rows] | None = None

    @property
    def task(self) -> Task:
        """What is predicted: classes or numbers."""
        return self.target.task

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of their codes; empty for a regression."""
        return self.target.classes

    def __len__(self) -> int:
        return len(self.rows)

    def split(
        self,
        validation: Fraction | None = 0.1,
        test: Fraction | None = None,
        *,
        seed: int = 0,
        numbers: Numbers = "auto",
        embed: int | None = None,
    ) -> Parts:
        """Training, validation and test rows, with preprocessing fitted to the training rows.

        Each of `validation` and `test` is a fraction of all rows (stratified for classes), 0 for
        none, or a file or folder with the same columns; text such as "0.2" is a fraction too.
        `test=None` takes the official test part where there is one, else a fifth. `numbers` and
        `embed` are those of Preprocessing.fit.
        Raises DataError for fractions that leave no rows, and for a file that does not fit.
        """
        notes = list(self.notes)
        rest = np.arange(len(self))
        chosen: dict[str, Rows | None] = {"test": None, "validation": None}
        official = test is None and self.official is not None
        if test is None:
            test = 0.0 if official else OFFICIAL_OR_FIFTH
        wanted = {"test": _asked(test), "validation": _asked(validation or 0.0)}
        shares = {what: asked for what, asked in wanted.items() if isinstance(asked, float)}
        for what, share in shares.items():
            if not 0.0 <= share < 1.0:
                raise DataError(
                    f"{what} must be a fraction from 0 up to 1, or a file, not {share:g}"
                )
        if sum(shares.values()) >= 1.0:
            raise DataError(
                f"validation {shares['validation']:g} and test {shares['test']:g} leave no rows "
                "to train on"
            )
        left = 1.0
        for what in ("test", "validation"):
            share = shares.get(what, 0.0)
            if share:
                labels = self._labels(rest)
                keep, part = split(labels, share / left, seed=seed, purpose=what)  # type: ignore[arg-type]
                chosen[what], rest = rest[part], rest[keep]
                left -= share
        preprocessing = self._fit(rest, numbers, embed, notes)
        parts: dict[str, Part | None] = {}
        for what in ("validation", "test"):
            rows, asked = chosen[what], wanted[what]
            if rows is not None:
                parts[what] = self._part(preprocessing, rows, notes)
            elif what == "test" and official:
                assert self.official is not None
                parts[what] = _encoded(preprocessing, *self.official, notes)
            elif isinstance(asked, float):
                parts[what] = None
            else:
                parts[what] = _from_file(preprocessing, asked, what, notes)
        train = self._part(preprocessing, rest, notes)
        self._note_absent(train, notes)
        return Parts(train, parts["validation"], parts["test"], preprocessing, notes)

    def folds(
        self,
        count: int = 5,
        *,
        validation: float = 0.0,
        seed: int = 0,
        numbers: Numbers = "auto",
        embed: int | None = None,
    ) -> Iterator[Parts]:
        """Cross-validation: `count` splits whose test parts together are all rows, each once.

        `validation` is a fraction of each split's training rows. Folds are stratified for classes.
        """
        for part in folds(self._labels(np.arange(len(self))), count, seed=seed):
            notes = list(self.notes)
            rest = np.setdiff1d(np.arange(len(self)), part)
            held = None
            if validation:
                labels = self._labels(rest)
                keep, chosen = split(labels, validation, seed=seed, purpose="validation")
                rest, held = rest[keep], rest[chosen]
            preprocessing = self._fit(rest, numbers, embed, notes)
            yield Parts(
                self._part(preprocessing, rest, notes),
                None if held is None else self._part(preprocessing, held, notes),
                self._part(preprocessing, part, notes),
                preprocessing,
                notes,
            )

    def _labels(self, rows: Rows) -> Rows | int:
        """What to stratify by: the class codes, or for a regression only the number of rows."""
        if self.task == "regression":
            return len(rows)
        codes: Rows = self.target.encode(self.column.take(rows))
        return codes

    def _fit(
        self, rows: Rows, numbers: Numbers, embed: int | None, notes: list[str]
    ) -> Preprocessing:
        target = self.target.rescaled(self.column.take(rows))
        return Preprocessing.fit(
            self.features.take(rows), target, numbers=numbers, embed=embed, notes=notes
        )

    def _part(self, preprocessing: Preprocessing, rows: Rows, notes: list[str]) -> Part:
        x = preprocessing.transform(self.features.take(rows), notes)
        return Part(x, preprocessing.target.encode(self.column, rows), self.rows[rows])

    def _note_absent(self, train: Part, notes: list[str]) -> None:
        if self.classes and train.y is not None:
            seen = np.bincount(train.y, minlength=len(self.classes))
            absent = [text for text, count in zip(self.classes, seen, strict=True) if not count]
            if absent:
                note(notes, f"no training row has class {listed(absent)}")

    def __repr__(self) -> str:
        what = f"{len(self.classes)} classes" if self.classes else "regression"
        return f"Dataset({self.name!r}: {counted(len(self), 'row')}, {what})"


def load(
    data: str | os.PathLike[str],
    target: str | None = None,
    task: str = "auto",
    *,
    drop: Collection[str] = (),
) -> Dataset:
    """Load a data set by its built-in name, or from a file or folder.

    `target` is the column to predict: if not named, the column target, label, class or y, else
    the last. `task` is "classification", "regression" or "auto": text, booleans and few distinct
    integers are classes. `drop` names columns to leave out.
    Raises DataError, with one line that says what is wrong and where, for data that cannot be
    used; ImportError where a package of the `train` extra is missing.
    """
    notes: list[str] = []
    source = read(data, drop=drop, notes=notes)
    features, column = _chosen(source, target, notes)
    if isinstance(features, Table) and not features.names:
        raise DataError(f"{source.name}: there is no column besides the target {column.name!r}")
    rows = with_target(column, source.name, notes)
    if len(rows) < len(column):
        features, column = features.take(rows), column.take(rows)
    statistics = TableStatistics.of(Table([column]))
    fitted = Target.fit(column.name, statistics.columns[column.name], task, notes)
    if isinstance(features, Table):
        check(features, column, notes)
    official = None
    if source.test is not None and source.test.target is not None:
        others, labels = _chosen(source.test, target, [])
        official = (others, labels, with_target(labels, f"{source.name}, test part", notes))
        count = counted(len(official[2]), "row")
        note(notes, f"{source.name}: its own test part has {count}", logging.INFO)
    return Dataset(source.name, features, column, fitted, rows, notes, official)


def _asked(wanted: Fraction) -> float | str:
    """A fraction as a number, a file as its path."""
    if isinstance(wanted, int | float):
        return float(wanted)
    text = os.fspath(wanted)
    return float(text) if NUMBER.fullmatch(text) else text


def _chosen(source: Source, target: str | None, notes: list[str]) -> tuple[Features, Column]:
    """Features and target column, the target taken out of the table where it stands there."""
    features = source.features
    if source.target is not None and target in (None, source.target.name):
        return features, source.target
    if isinstance(features, Images):
        if source.target is None:
            raise DataError(f"{source.name}: there are images, but no labels to learn from")
        raise DataError(
            f"{source.name}: the target of these images is {source.target.name!r}, not {target!r}"
        )
    if source.target is not None:
        features = Table([*features, source.target])
    elif target is None and source.name.endswith(".npz"):
        raise DataError(f"{source.name}: there is an array X, but no y to learn from")
    name = choose(features.names, target, source.name, notes)
    return features.without(name), features[name]


def _encoded(
    preprocessing: Preprocessing,
    features: Features,
    column: Column,
    rows: Rows,
    notes: list[str],
) -> Part:
    """The part of those rows, out of all rows of a file, that have a target."""
    x = preprocessing.transform(features, notes)
    y = preprocessing.target.encode(column, rows)
    return Part(x if len(rows) == len(x) else x[rows], y, rows)


def _from_file(preprocessing: Preprocessing, path: str, what: str, notes: list[str]) -> Part:
    source = preprocessing.source(path, notes)
    if source.target is None:
        raise DataError(
            f"{what} file {source.name}: no column {preprocessing.target.name!r} for the target"
        )
    rows = with_target(source.target, source.name, notes)
    return _encoded(preprocessing, source.features, source.target, rows, notes)
