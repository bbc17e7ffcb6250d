"""The target: which column it is, classes or numbers, and how it becomes y and back."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gradnet.data.statistics import NumberStatistics, Statistics
from gradnet.data.table import Column, Kind, Rows, counted, listed, note, number_text, places
from gradnet.errors import DataError

Task = Literal["classification", "regression"]
TASKS = ("auto", "classification", "regression")
USUAL_NAMES = ("target", "label", "class", "y")
MOST_INTEGER_CLASSES = 20
FEW_ROWS = 5


def choose(names: tuple[str, ...], target: str | None, source: str, notes: list[str]) -> str:
    """The target's column: the one asked for, or one named target, label, class or y, or the last.

    Raises DataError where there is no such column.
    """
    if target is not None:
        if target in names:
            return target
        same = [name for name in names if name.strip().lower() == target.strip().lower()]
        hint = f"; did you mean {same[0]!r}?" if same else ""
        raise DataError(
            f"{source}: no column {target!r} for the target{hint} (columns: {listed(names, 20)})"
        )
    for usual in USUAL_NAMES:
        for name in names:
            if name.strip().lower() == usual:
                note(notes, f"the target is column {name!r}, by its name", logging.INFO)
                return name
    note(notes, f"no target was named: the last column, {names[-1]!r}, is taken", logging.WARNING)
    return names[-1]


@dataclass(frozen=True)
class Target:
    """How the target's cells become y: class codes (int64) or standardised numbers (float32).

    y = code of the class, in the order of `classes`, or (cell - mean) / scale.
    """

    name: str
    task: Task
    classes: tuple[str, ...] = ()
    numeric: bool = True
    mean: float = 0.0
    scale: float = 1.0

    @property
    def kind(self) -> Kind:
        """How the target's cells are to be read."""
        return "number" if self.numeric else "category"

    @classmethod
    def fit(cls, name: str, statistics: Statistics, task: str, notes: list[str]) -> Target:
        """Settle the task and the classes.

        Raises DataError for a constant target, for text in a regression and for classes that
        hardly ever repeat.
        """
        if task not in TASKS:
            raise DataError(f"task must be one of {listed(TASKS)}, not {task!r}")
        if not statistics.count:
            raise DataError(f"target {name!r} is missing in every row")
        numeric = isinstance(statistics, NumberStatistics)
        distinct = None if statistics.counts is None else len(statistics.counts)
        if distinct == 1:
            assert statistics.counts is not None
            only = next(iter(statistics.counts))
            text = number_text(only) if isinstance(only, float) else str(only)
            raise DataError(f"target {name!r} is {text!r} in every row: there is nothing to learn")
        if task == "auto":
            task = _inferred(name, statistics, distinct, notes)
        if task == "regression":
            if not numeric:
                raise DataError(
                    f"target {name!r} holds text ({_examples(statistics.counts)}): "
                    "a regression needs numbers; use task 'classification' or another target"
                )
            return cls(name, "regression").scaled(statistics)
        if statistics.counts is None or len(statistics.counts) > max(20, statistics.count // 2):
            kinds = "distinct values" if distinct is None else f"{distinct:,} distinct values"
            raise DataError(
                f"target {name!r} has {'too many ' if distinct is None else ''}{kinds} in "
                f"{counted(statistics.count, 'row')}: classes must repeat; "
                + ("use task 'regression'" if numeric else "is it the right column?")
            )
        counts: Mapping[Any, int] = statistics.counts
        ordered = sorted(counts)
        classes = tuple(number_text(c) if numeric else str(c) for c in ordered)
        few = [text for text, c in zip(classes, ordered, strict=True) if counts[c] < FEW_ROWS]
        if few:
            what = f"classes {listed(few)} have" if len(few) > 1 else f"class {few[0]!r} has"
            note(notes, f"{what} fewer than {FEW_ROWS} rows")
        same = [text for text in classes if [c.lower() for c in classes].count(text.lower()) > 1]
        if same:
            note(notes, f"classes {listed(same)} differ by capital letters only")
        return cls(name, "classification", classes, numeric)

    def rescaled(self, column: Column, weight: NDArray[np.float64] | None = None) -> Target:
        """The same target with the mean and scale of these rows; of no effect on classes."""
        if column.categories is not None:
            return self
        statistics = NumberStatistics()
        statistics.update(column.values, weight)
        return self.scaled(statistics)

    def scaled(self, statistics: Statistics) -> Target:
        """The same target with the mean and scale of statistics; of no effect on classes.

        Raises DataError for numbers too large to standardise.
        """
        if self.task == "classification" or not isinstance(statistics, NumberStatistics):
            return self
        scale = statistics.deviation
        if not np.isfinite(scale):
            raise DataError(
                f"target {self.name!r} reaches {max(-statistics.low, statistics.high):g}, "
                "too large to standardise; rescale the column"
            )
        return replace(self, mean=statistics.mean, scale=scale if scale > 0.0 else 1.0)

    def encode(self, column: Column, rows: Rows | None = None) -> NDArray[Any]:
        """y of the cells, or of those at `rows`, which have no gaps: (n,) int64 or float32.

        Raises DataError, naming the row, for a class or a kind of cell that training had not.
        """
        chosen = slice(None) if rows is None else rows
        if self.task == "regression":
            values = column.as_number("a number, as the target was in training").values
            return ((values[chosen] - self.mean) / self.scale).astype(np.float32)
        cells = column.as_category()
        assert cells.categories is not None
        mapping = np.array([*places(self.classes, cells.categories, -1), -1])
        codes: NDArray[np.int64] = mapping[cells.values]
        unknown = np.flatnonzero((codes < 0) & ~cells.missing)
        if len(unknown):
            row = int(unknown[0])
            raise DataError(
                f"target {self.name!r}, row {column.start + row + 1}: class {cells.cell(row)!r} "
                f"is not among the classes of training ({listed(self.classes, 20)})"
            )
        return codes[chosen]

    def decode(self, y: NDArray[Any]) -> NDArray[Any]:
        """Back from y, shape (n,): class names, or numbers in the target's own units (float64)."""
        values = np.asarray(y)
        if self.task == "classification":
            names: NDArray[np.str_] = np.array(self.classes, dtype=np.str_)[values]
            return names
        return values.astype(np.float64) * self.scale + self.mean


def _inferred(name: str, statistics: Statistics, distinct: int | None, notes: list[str]) -> Task:
    if not isinstance(statistics, NumberStatistics):
        task: Task = "classification"
        why = f"text with {counted(distinct or 0, 'value')}"
    else:
        few = distinct is not None and 3 * distinct <= statistics.count
        whole = statistics.whole and distinct is not None and distinct <= MOST_INTEGER_CLASSES
        if few and (distinct == 2 or whole):
            task, why = "classification", f"numbers with {distinct} distinct values"
        else:
            how_many = "many" if distinct is None else str(distinct)
            task, why = "regression", f"numbers with {how_many} distinct values"
    note(notes, f"task: {task}, for the target {name!r} has {why}", logging.INFO)
    return task


def _examples(counts: Mapping[Any, int] | None) -> str:
    return "free text" if counts is None else f"such as {listed(sorted(counts)[:2])}"


def with_target(column: Column, source: str, notes: list[str]) -> Rows:
    """The rows that have a target; a note counts the others.

    Raises DataError where no row has one.
    """
    rows: Rows = np.flatnonzero(~column.missing)
    if not len(rows):
        raise DataError(f"{source}: target {column.name!r} is missing in every row")
    gaps = len(column) - len(rows)
    if gaps:
        note(notes, f"{source}: {counted(gaps, 'row')} without a target {column.name!r} left out")
    return rows
