"""What encoders need to know of a column, gathered in one pass over chunks of rows.

Memory stays bounded however long the table is: moments are combined chunk by chunk, distinct
values are counted up to a limit, and quantiles come from a uniform sample of rows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gradnet.data.splits import keys
from gradnet.data.table import Column, Floats, Kind, Table

SAMPLE = 65_536
"""Rows kept for quantiles."""
DISTINCT_NUMBERS = 1_000
"""Distinct numbers counted before a column is taken for continuous."""
DISTINCT_CATEGORIES = 100_000
"""Distinct categories counted before a column is taken for free text."""


class NumberStatistics:
    """Count, mean, variance, range, distinct values and a sample of one column of numbers.

    Mean and variance count the weights of rows, where there are any; the rest does not. Chunks are
    combined by M2 = M2a + M2b + (mean_b - mean_a)^2 na nb / (na + nb)
    (Chan, Golub, LeVeque 1983).
    """

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0  # of weights, which are 1 by default
        self.missing = 0
        self.mean = 0.0
        self.m2 = 0.0
        self.low = np.inf
        self.high = -np.inf
        self.whole = True
        self.counts: dict[float, int] | None = {}
        self.sample: Floats = np.empty(0)

    @property
    def deviation(self) -> float:
        """The standard deviation sqrt(M2 / total)."""
        return float(np.sqrt(self.m2 / self.total)) if self.total else 0.0

    @property
    def distinct(self) -> int | None:
        """How many distinct values, or None where there are too many to count."""
        return None if self.counts is None else len(self.counts)

    def update(self, cells: Floats, weight: Floats | None = None) -> None:
        """Take in a chunk of cells, NaN where missing, and the weights of its rows."""
        present = ~np.isnan(cells)
        values = cells[present]
        self.missing += len(cells) - len(values)
        if not len(values):
            return
        with np.errstate(over="ignore", invalid="ignore"):
            if weight is None:
                mean, added = float(values.mean()), float(len(values))
                m2 = float(np.square(values - mean).sum())
            else:
                w = weight[present]
                added = float(w.sum())
                mean = float((w * values).sum()) / added if added else 0.0
                m2 = float((w * np.square(values - mean)).sum())
            total = self.total + added
            if added:
                shift = mean - self.mean
                self.m2 += m2 + shift * shift * self.total * added / total
                self.mean += shift * added / total
        self.total = total
        self.count += len(values)
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))
        self.whole = self.whole and bool(np.all(values == np.floor(values)))
        if self.counts is not None:
            distinct, counts = np.unique(values, return_counts=True)
            if len(distinct) <= DISTINCT_NUMBERS:
                for value, count in zip(distinct.tolist(), counts.tolist(), strict=True):
                    self.counts[value] = self.counts.get(value, 0) + count
            if max(len(distinct), len(self.counts)) > DISTINCT_NUMBERS:
                self.counts = None


class CategoryStatistics:
    """How often each category of one column occurs; `counts` is None where there are too many."""

    def __init__(self) -> None:
        self.count = 0
        self.missing = 0
        self.counts: dict[str, int] | None = {}

    def update(self, column: Column) -> None:
        """Take in a chunk of a category column."""
        assert column.categories is not None
        codes = column.values[column.values >= 0]
        self.missing += len(column) - len(codes)
        self.count += len(codes)
        if self.counts is None:
            return
        counts = np.bincount(codes, minlength=len(column.categories)).tolist()
        for text, count in zip(column.categories, counts, strict=True):
            if count:
                self.counts[text] = self.counts.get(text, 0) + count
        if len(self.counts) > DISTINCT_CATEGORIES:
            self.counts = None


Statistics = NumberStatistics | CategoryStatistics


class TableStatistics:
    """Statistics of every column of a table that arrives in chunks.

    The sample holds the rows with the smallest keys of a counter-based generator, so it does not
    depend on how the table was cut into chunks.
    """

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        self.rows = 0
        self.columns: dict[str, Statistics] = {
            name: NumberStatistics() if kind == "number" else CategoryStatistics()
            for name, kind in kinds.items()
        }
        self._keys: NDArray[np.uint64] = np.empty(0, dtype=np.uint64)

    @classmethod
    def of(cls, table: Table, weight: Floats | None = None) -> TableStatistics:
        """The statistics of a table in memory, with a weight for each row, (n,), if given."""
        statistics = cls({column.name: column.kind for column in table})
        statistics.update(table, weight)
        return statistics

    def update(self, table: Table, weight: Floats | None = None) -> None:
        """Take in the next rows; they have the columns and kinds given at the start."""
        drawn = keys(len(table), seed=0, purpose="sample", start=self.rows)
        every = np.concatenate([self._keys, drawn])
        kept = np.arange(len(every))
        if len(every) > SAMPLE:
            kept = np.sort(np.argpartition(every, SAMPLE)[:SAMPLE])
        old = kept[kept < len(self._keys)]
        new = kept[len(old) :] - len(self._keys)
        self._keys = every[kept]
        self.rows += len(table)
        for name, statistics in self.columns.items():
            column = table[name]
            if isinstance(statistics, CategoryStatistics):
                statistics.update(column)
            else:
                statistics.update(column.values, weight)
                statistics.sample = np.concatenate([statistics.sample[old], column.values[new]])
