"""Tables larger than memory: batches read from the disk, already transformed."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradnet.data.checks import check
from gradnet.data.chunks import Chunk, Chunks, open_chunks
from gradnet.data.encoders import Pixels
from gradnet.data.preprocessing import Numbers, Preprocessing
from gradnet.data.splits import keys, permutation
from gradnet.data.statistics import NumberStatistics, Statistics, TableStatistics
from gradnet.data.table import Images, Kind, Rows, Table, counted, note
from gradnet.data.targets import Target, Task, choose
from gradnet.errors import DataError

BUFFER = 65_536
Side = Literal["train", "validation", "all"]


class Batch(NamedTuple):
    """X float32 (n, k); y int64 codes or float32 numbers (n,), or None where there is no target."""

    X: NDArray[np.float32]
    y: NDArray[Any] | None


@dataclass
class Stream:
    """Batches of a file on disk. Each pass is another epoch, with another order of rows.

    Row groups come in random order, and rows are shuffled within a buffer of `buffer` rows: both
    follow from the seed and the epoch alone. Not more than about two buffers are in memory.
    """

    chunks: Chunks
    preprocessing: Preprocessing
    column: str | None
    rows: int
    batch_size: int
    side: Side = "all"
    fraction: float = 0.0
    seed: int = 0
    buffer: int = BUFFER
    shuffle: bool = False
    notes: list[str] = field(default_factory=list)
    validation: Stream | None = None
    test: Stream | None = None
    epoch: int = 0

    @property
    def task(self) -> Task:
        """What is predicted: classes or numbers."""
        return self.preprocessing.task

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of their codes; empty for a regression."""
        return self.preprocessing.classes

    def __len__(self) -> int:
        """The number of batches in a pass."""
        return -(-self.rows // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """The batches of the next epoch."""
        epoch = self.epoch
        self.epoch += 1
        return self.batches(epoch)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch; the last may be smaller."""
        order: Rows = np.arange(len(self.chunks.sizes))
        if self.shuffle:
            order = permutation(len(order), seed=self.seed, purpose="shuffle", part=epoch)
        drawn = len(order)
        held: list[Batch] = []
        for block in order:
            for chunk in self.chunks.read(int(block), self.column):
                held.append(self._encoded(chunk))
                waiting = sum(len(batch.X) for batch in held)
                if waiting >= (self.buffer if self.shuffle else self.batch_size):
                    rows = self._mixed(held, epoch, drawn)
                    drawn += waiting
                    whole = waiting - waiting % self.batch_size
                    yield from self._cut(rows, whole)
                    held = [_rows(rows, slice(whole, None))]
        if held:
            rows = self._mixed(held, epoch, drawn)
            yield from self._cut(rows, len(rows.X))

    def _encoded(self, chunk: Chunk) -> Batch:
        rows = _chosen(chunk, self.side, self.fraction, self.seed)
        x = self.preprocessing.transform(chunk.features, self.notes)
        y = None
        if chunk.target is not None:
            y = self.preprocessing.target.encode(chunk.target, rows)
        return Batch(x[rows], y)

    def _mixed(self, held: list[Batch], epoch: int, drawn: int) -> Batch:
        x = np.concatenate([batch.X for batch in held])
        ys = [batch.y for batch in held if batch.y is not None]
        rows = Batch(x, np.concatenate(ys) if ys else None)
        if not self.shuffle:
            return rows
        order = keys(len(x), seed=self.seed, purpose="shuffle", part=epoch, start=drawn)
        return _rows(rows, np.argsort(order, kind="stable"))

    def _cut(self, rows: Batch, count: int) -> Iterator[Batch]:
        for start in range(0, count, self.batch_size):
            yield _rows(rows, slice(start, min(start + self.batch_size, count)))


def stream(
    data: str | os.PathLike[str],
    batch_size: int,
    target: str | None = None,
    task: str = "auto",
    *,
    validation: float = 0.0,
    seed: int = 0,
    numbers: Numbers = "auto",
    embed: int | None = None,
    buffer: int = BUFFER,
    drop: Collection[str] = (),
) -> Stream:
    """Batches of a .parquet or an uncompressed .npz file of any size, for training.

    One pass over the file gathers what the preprocessing needs. `validation` is the chance of
    each row to go to the validation part, `Stream.validation`, by the seed; it is not stratified.
    The other arguments are those of load() and Dataset.split. `Stream.test` is the test part of
    an NPZ file that has one. Raises as load() does.
    """
    if batch_size < 1 or buffer < 1:
        raise DataError(f"batch_size and buffer must be positive, not {batch_size} and {buffer}")
    if not 0.0 <= validation < 1.0:
        raise DataError(f"validation must be a fraction from 0 up to 1, not {validation:g}")
    notes: list[str] = []
    path = Path(data).expanduser()
    chunks = open_chunks(path, part="train", kinds=None, drop=drop, notes=notes)
    if not chunks.columns:
        raise DataError(f"{path}: there is an array X, but no y to learn from")
    column = choose(chunks.columns, target, chunks.name, notes)
    survey = _Survey(chunks, column, validation, seed, notes)
    fitted = Target.fit(column, survey.target, task, notes).scaled(survey.training_target)
    if survey.inputs is not None:
        preprocessing = Preprocessing.measured(
            survey.inputs, fitted, numbers=numbers, embed=embed, notes=notes
        )
    else:
        preprocessing = Preprocessing(survey.pixels(), fitted)
    train = Stream(
        *(chunks, preprocessing, column, survey.training, batch_size),
        side="train",
        fraction=validation,
        seed=seed,
        buffer=max(buffer, batch_size),
        shuffle=True,
        notes=notes,
    )
    if validation:
        train.validation = Stream(
            *(chunks, preprocessing, column, survey.held_out, batch_size),
            side="validation",
            fraction=validation,
            seed=seed,
            notes=notes,
        )
    if path.suffix.lower() == ".npz" and _has_test(path):
        train.test = stream_with(preprocessing, path, batch_size, part="test")
    if len(chunks.sizes) == 1 and survey.training > train.buffer:
        note(
            notes,
            f"{chunks.name} is one row group: rows are only shuffled among {train.buffer:,} "
            "neighbours; smaller row groups mix better",
        )
    return train


def stream_with(
    preprocessing: Preprocessing,
    data: str | os.PathLike[str],
    batch_size: int,
    *,
    targets: bool = True,
    part: str = "train",
) -> Stream:
    """Batches of another file with preprocessing that is fitted already, in the file's order.

    With `targets`, rows without a target are left out; without, every row is there and y is None,
    for prediction. Raises DataError for a file that does not fit.
    """
    notes: list[str] = []
    wanted = preprocessing.target
    kinds: dict[str, Kind | None] | None = None
    if not isinstance(preprocessing.inputs, Pixels):
        kinds = {**preprocessing.kinds, wanted.name: wanted.kind if targets else None}
    path = Path(data).expanduser()
    chunks = open_chunks(path, part=part, kinds=kinds, drop=(), notes=notes)
    if not targets:
        return Stream(chunks, preprocessing, None, sum(chunks.sizes), batch_size, notes=notes)
    if wanted.name not in chunks.columns:
        raise DataError(f"{path}: no column {wanted.name!r} for the target")
    rows = 0
    for block in range(len(chunks.sizes)):
        for chunk in chunks.read(block, wanted.name):
            rows += len(_chosen(chunk, "all", 0.0, 0))
    return Stream(chunks, preprocessing, wanted.name, rows, batch_size, notes=notes)


class _Survey:
    """One pass over a file: statistics of the training rows, and of every row's target."""

    def __init__(
        self, chunks: Chunks, column: str, fraction: float, seed: int, notes: list[str]
    ) -> None:
        self.training = self.held_out = 0
        self.inputs: TableStatistics | None = None
        self._pixels = NumberStatistics()
        self._pixels.counts = None
        self._empty = chunks.empty
        every: TableStatistics | None = None
        training: TableStatistics | None = None
        for block in range(len(chunks.sizes)):
            for chunk in chunks.read(block, column):
                assert chunk.target is not None
                kinds = {column: chunk.target.kind}
                if every is None or training is None:
                    every, training = TableStatistics(kinds), TableStatistics(kinds)
                    _check(chunk, notes)
                every.update(Table([chunk.target]))
                rows = _chosen(chunk, "train", fraction, seed)
                training.update(Table([chunk.target.take(rows)]))
                self.training += len(rows)
                self.held_out += len(_chosen(chunk, "validation", fraction, seed))
                self._update(chunk, rows)
        assert every is not None
        assert training is not None
        self.target: Statistics = every.columns[column]
        self.training_target: Statistics = training.columns[column]
        if self.target.missing:
            gaps = counted(self.target.missing, "row")
            note(notes, f"{chunks.name}: {gaps} without a target {column!r} left out")
        if not self.training:
            raise DataError(f"{chunks.name}: no rows are left to train on")

    def _update(self, chunk: Chunk, rows: Rows) -> None:
        features = chunk.features.take(rows)
        if isinstance(features, Images):
            top = Pixels.top_of(features)
            for start in range(0, len(rows), 1024):
                block = features.pixels[start : start + 1024]
                self._pixels.update(Pixels.flat(block, chunk.start + start) / top)
            return
        if self.inputs is None:
            self.inputs = TableStatistics({column.name: column.kind for column in features})
        self.inputs.update(features)

    def pixels(self) -> Pixels:
        """The encoder of the images that were read."""
        assert isinstance(self._empty, Images)
        return Pixels.measured(self._empty.shape, Pixels.top_of(self._empty), self._pixels)


def _check(chunk: Chunk, notes: list[str]) -> None:
    if isinstance(chunk.features, Table) and chunk.target is not None:
        rows = np.flatnonzero(~chunk.target.missing)
        where = f"in the first {counted(len(rows), 'row')}, "
        check(chunk.features.take(rows), chunk.target.take(rows), notes, where=where)


def _chosen(chunk: Chunk, side: Side, fraction: float, seed: int) -> Rows:
    """The rows of a chunk that have a target and belong to a side."""
    kept = np.ones(len(chunk.features), dtype=bool)
    if chunk.target is not None:
        kept &= ~chunk.target.missing
    if fraction and side != "all":
        drawn = keys(len(kept), seed=seed, purpose="validation", start=chunk.start)
        held_out = drawn < np.uint64(round(fraction * 2.0**64))
        kept &= held_out if side == "validation" else ~held_out
    return np.flatnonzero(kept)


def _rows(batch: Batch, which: slice | Rows) -> Batch:
    return Batch(batch.X[which], None if batch.y is None else batch.y[which])


def _has_test(path: Path) -> bool:
    from gradnet.data.arrays import members
    from gradnet.data.chunks import mapped

    return "test" in members(path, list(mapped(path)))
