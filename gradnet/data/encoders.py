"""Encoders: one per column, fitted to training rows, turning cells into float32 features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gradnet.data.statistics import CategoryStatistics, NumberStatistics
from gradnet.data.table import Column, Floats, Images, counted, listed, note, places
from gradnet.errors import DataError

CLIP = 10.0
"""Standardised numbers are cut off here: one wild cell must not drown the others."""
KNOTS = 65
QUANTILE_ROWS = 500
QUANTILE_DISTINCT = 50
QUANTILE_SHARE = 0.1
ROWS_TO_JUDGE = 20
MISSING = "(missing)"
OTHER = "(other)"


class Encoder(Protocol):
    """What a column's encoder offers."""

    @property
    def name(self) -> str:
        """The column it encodes."""

    @property
    def features(self) -> tuple[str, ...]:
        """Names of its features."""

    def encode(self, column: Column, out: NDArray[np.float32], notes: list[str]) -> None:
        """Write the features of a column, shape (n,), into out, shape (n, len(features))."""


class _Number:
    """What both encoders of numbers share: a gap becomes 0 and, if training had gaps, a flag."""

    name: str
    missing: bool

    @property
    def features(self) -> tuple[str, ...]:
        return (self.name, f"{self.name} {MISSING}") if self.missing else (self.name,)

    def encode(self, column: Column, out: NDArray[np.float32], notes: list[str]) -> None:
        """Write the number and the flag of a gap, shape (n,) -> (n, 1 or 2).

        Raises DataError for text, naming the row.
        """
        values = column.as_number("a number, as it was in training").values
        gaps = np.isnan(values)
        with np.errstate(over="ignore"):
            out[:, 0] = np.where(gaps, 0.0, self.scaled(values))
        if self.missing:
            out[:, 1] = gaps
        elif gaps.any():
            note(
                notes,
                f"column {self.name!r}: {counted(int(gaps.sum()), 'missing cell')}, though "
                "training had none; the middle is taken",
            )

    def scaled(self, values: Floats) -> Floats:
        raise NotImplementedError


@dataclass(frozen=True)
class Standard(_Number):
    """z = (x - mean) / scale, cut off at ±10; gaps become 0, the mean."""

    name: str
    mean: float
    scale: float
    missing: bool

    def scaled(self, values: Floats) -> Floats:
        return np.clip((values - self.mean) / self.scale, -CLIP, CLIP)


@dataclass(frozen=True)
class Quantile(_Number):
    """z = normal scores: the standard normal quantile of a value's rank among training rows.

    Piecewise linear between `knots` and `scores`, constant outside; gaps become 0, the median.
    """

    name: str
    knots: tuple[float, ...]
    scores: tuple[float, ...]
    missing: bool

    def scaled(self, values: Floats) -> Floats:
        return np.interp(values, self.knots, self.scores)

    @classmethod
    def fit(cls, name: str, sample: Floats, missing: bool) -> Quantile:
        """Knots evenly spaced in z from a sample without gaps.

        Equal values share their middle rank.
        """
        values, counts = np.unique(sample, return_counts=True)
        ranks = (np.cumsum(counts) - 0.5 * counts) / len(sample)
        normal = NormalDist()
        low, high = normal.inv_cdf(float(ranks[0])), normal.inv_cdf(float(ranks[-1]))
        wanted = [normal.cdf(z) for z in np.linspace(low, high, KNOTS)]
        places = np.unique(np.searchsorted(ranks, wanted).clip(0, len(ranks) - 1))
        scores = tuple(normal.inv_cdf(float(rank)) for rank in ranks[places])
        return cls(name, tuple(values[places].tolist()), scores, missing)


@dataclass(frozen=True)
class OneHot:
    """One feature per category, 1 where it applies; (missing) and (other) where needed.

    A category that training had not becomes (other), or all zeros where there is no such feature.
    """

    name: str
    categories: tuple[str, ...]
    missing: bool
    other: bool

    @property
    def features(self) -> tuple[str, ...]:
        extra = (OTHER,) * self.other + (MISSING,) * self.missing
        return tuple(f"{self.name}={text}" for text in (*self.categories, *extra))

    def encode(self, column: Column, out: NDArray[np.float32], notes: list[str]) -> None:
        """Write ones at the categories of a column, shape (n,) -> (n, len(features))."""
        size = len(self.categories)
        nowhere = len(self.features)
        codes = _codes(
            column,
            self.categories,
            unknown=size if self.other else nowhere,
            gap=size + self.other if self.missing else nowhere,
            warn=not self.other,
            notes=notes,
        )
        out[:] = 0.0
        rows = np.flatnonzero(codes < nowhere)
        out[rows, codes[rows]] = 1.0


@dataclass(frozen=True)
class Embedded:
    """One feature that holds a code for an embedding layer: 1, 2, … and 0 for anything else."""

    name: str
    categories: tuple[str, ...]

    @property
    def size(self) -> int:
        """Rows of the embedding: the categories and the one for anything else."""
        return len(self.categories) + 1

    @property
    def features(self) -> tuple[str, ...]:
        return (f"{self.name} (code)",)

    def encode(self, column: Column, out: NDArray[np.float32], notes: list[str]) -> None:
        """Write the codes of a column, shape (n,) -> (n, 1)."""
        size = len(self.categories)
        codes = _codes(column, self.categories, unknown=size, gap=size, warn=False, notes=notes)
        out[:, 0] = np.where(codes == size, 0, codes + 1)


@dataclass(frozen=True)
class Dropped:
    """A column that training left out, and why."""

    name: str
    reason: str

    @property
    def features(self) -> tuple[str, ...]:
        return ()

    def encode(self, column: Column, out: NDArray[np.float32], notes: list[str]) -> None:
        """Write nothing."""


def _codes(
    column: Column,
    categories: Sequence[str],
    *,
    unknown: int,
    gap: int,
    warn: bool,
    notes: list[str],
) -> NDArray[np.int64]:
    """Each cell's place among `categories`, or `unknown`, or `gap` where missing."""
    cells = column.as_category()
    assert cells.categories is not None
    if not cells.categories:
        return np.full(len(column), gap, dtype=np.int64)
    mapping = np.array(places(categories, cells.categories, unknown), dtype=np.int64)
    if warn:
        new = [
            text for text, code in zip(cells.categories, mapping, strict=True) if code == unknown
        ]
        if new:
            note(
                notes,
                f"column {column.name!r}: {counted(len(new), 'category')} unknown to training "
                f"({listed(new)})",
            )
    return np.where(cells.values < 0, gap, mapping[cells.values])


def fit_number(name: str, statistics: NumberStatistics, numbers: str) -> Encoder:
    """The encoder of a column of numbers.

    `numbers` is "standard", "quantile", or "auto": quantiles for columns with many distinct values
    none of which is frequent, where heavy tails and skew cost a network most.
    Raises DataError for numbers too large to standardise.
    """
    if not statistics.count:
        return Dropped(name, "every cell is missing")
    missing = statistics.missing > 0
    scale = statistics.deviation
    if not np.isfinite(scale):
        raise DataError(
            f"column {name!r} reaches {max(-statistics.low, statistics.high):g}, "
            "too large to standardise; rescale the column"
        )
    if statistics.low == statistics.high or scale == 0.0:
        if not missing:
            return Dropped(name, f"every cell is {statistics.low:g}")
        return Standard(name, statistics.mean, 1.0, missing)
    sample = statistics.sample[~np.isnan(statistics.sample)]
    if numbers == "quantile" or (numbers == "auto" and _is_continuous(sample)):
        return Quantile.fit(name, sample, missing)
    return Standard(name, statistics.mean, scale, missing)


def _is_continuous(sample: Floats) -> bool:
    if len(sample) < QUANTILE_ROWS:
        return False
    counts = np.unique(sample, return_counts=True)[1]
    return len(counts) >= QUANTILE_DISTINCT and counts.max() <= QUANTILE_SHARE * len(sample)


def fit_category(
    name: str, statistics: CategoryStatistics, most: int, embed: int | None
) -> Encoder:
    """The encoder of a column of categories.

    At most `most` features: beyond it the most frequent categories are kept and the rest are
    (other). Columns with more than `embed` categories get one code for an embedding instead.
    """
    counts = statistics.counts
    missing = statistics.missing > 0
    if counts is None:
        return Dropped(name, "it is free text: hardly any two cells are equal")
    if not counts:
        return Dropped(name, "every cell is missing")
    if len(counts) == 1 and not missing:
        return Dropped(name, f"every cell is {next(iter(counts))!r}")
    if statistics.count >= ROWS_TO_JUDGE:
        if len(counts) == statistics.count:
            return Dropped(name, "every cell is different: it looks like a name")
        if len(counts) > max(most, statistics.count // 2):
            return Dropped(name, f"it is free text: {len(counts):,} different cells")
    if embed is not None and len(counts) > embed:
        return Embedded(name, tuple(sorted(counts)))
    if len(counts) <= most:
        return OneHot(name, tuple(sorted(counts)), missing, other=False)
    frequent = sorted(counts, key=lambda text: (-counts[text], text))[: most - 1]
    return OneHot(name, tuple(sorted(frequent)), missing, other=True)


@dataclass(frozen=True)
class Pixels:
    """Images as rows of standardised pixels: (pixel / top - mean) / scale, top the dtype's maximum.

    Mean and scale are over all pixels of the training images.
    """

    shape: tuple[int, ...]
    top: float
    mean: float
    scale: float

    @classmethod
    def fit(cls, images: Images) -> Pixels:
        """Measure training images; raises DataError for pixels all equal or not finite."""
        pixels = images.pixels
        top = cls.top_of(images)
        statistics = NumberStatistics()
        statistics.counts = None
        for start in range(0, len(pixels), 1024):
            statistics.update(cls.flat(pixels[start : start + 1024], start) / top)
        return cls.measured(images.shape, top, statistics)

    @classmethod
    def measured(cls, shape: tuple[int, ...], top: float, statistics: NumberStatistics) -> Pixels:
        """From the statistics of all pixels divided by top."""
        if statistics.low == statistics.high or not np.isfinite(statistics.deviation):
            raise DataError(
                f"the pixels of all images are {statistics.low * top:g}: there is nothing to learn"
            )
        return cls(shape, top, statistics.mean, statistics.deviation)

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(f"pixel {i}" for i in range(int(np.prod(self.shape))))

    def encode(self, images: Images) -> NDArray[np.float32]:
        """Features of images, shape (n, *shape) -> (n, product of shape), float32.

        Raises DataError for images of another size.
        """
        if images.shape != self.shape:
            raise DataError(f"images are {images.shape}, but the training images are {self.shape}")
        out = np.empty((len(images), int(np.prod(self.shape))), dtype=np.float32)
        for start in range(0, len(images), 1024):
            block = images.pixels[start : start + 1024]
            out[start : start + 1024] = (
                self.flat(block, start) / self.top - self.mean
            ) / self.scale
        return out

    @staticmethod
    def top_of(images: Images) -> float:
        """The largest value of the pixels' dtype, or 1 for floating point."""
        dtype = images.pixels.dtype
        return float(np.iinfo(dtype).max) if dtype.kind in "ui" else 1.0

    @staticmethod
    def flat(pixels: NDArray[Any], start: int) -> Floats:
        """Pixels (n, *shape) as float64 rows (n, k).

        Raises DataError for NaN and infinity; `start` is the number of the first image.
        """
        rows: Floats = pixels.reshape(len(pixels), -1).astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(bad):
            raise DataError(f"image {start + bad[0] + 1} has a pixel that is not a finite number")
        return rows
