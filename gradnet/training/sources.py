"""Where the batches of an epoch come from: tensors on the device, or a data set that streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from gradnet import ops
from gradnet.errors import DataError
from gradnet.random import Generator
from gradnet.tensor import Tensor
from gradnet.training.weights import row_weights

# Batches that are gathered before they are used are so several at a time where they are small, into
# memory that a cache holds.
_BLOCK_BYTES = 1 << 20
# So many orders of rows are drawn one after the other: between an epoch's steps, which take the
# caches, one alone takes twice as long as it does after another.
_ORDERS, _ORDER_BYTES = 8, 1 << 18


class Rows(NamedTuple):
    """Features (n, ...), targets (n, ...), and a weight per row (n,) or None."""

    x: Tensor
    y: Tensor
    weight: Tensor | None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.x.shape[0]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What is there of features, targets and weights."""
        return (self.x, self.y) if self.weight is None else (self.x, self.y, self.weight)

    def take(self, indices: Tensor) -> Rows:
        """The rows at integer indices."""
        return Rows(
            ops.take(self.x, indices, axis=0),
            ops.take(self.y, indices, axis=0),
            None if self.weight is None else ops.take(self.weight, indices, axis=0),
        )

    def part(self, start: int, stop: int) -> Rows:
        """Neighbouring rows, without a copy."""
        if stop - start == self.rows:
            return self
        weight = None if self.weight is None else self.weight[start:stop]
        return Rows(self.x[start:stop], self.y[start:stop], weight)

    def gathered(self, size: int) -> Iterator[Rows]:
        """These rows: they are side by side already."""
        yield self

    def weighed(self, by_class: Tensor | None) -> Rows:
        """The rows with the weights of their classes, (k,), too, without those of weight 0."""
        weight = row_weights(self.weight, by_class, self.y)
        if weight is None:
            return self
        rows = Rows(self.x, self.y, weight)
        if bool((weight > 0).all()):
            return rows
        (kept,) = ops.nonzero(weight)
        return rows.take(kept)


class Picked(NamedTuple):
    """The rows of a table at integer indices (n,), which are gathered when they are needed."""

    table: Rows
    indices: Tensor

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.indices.shape[0]

    @property
    def weight(self) -> Tensor | None:
        """A weight per row (n,) or None."""
        weight = self.table.weight
        return None if weight is None else ops.take(weight, self.indices, axis=0)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What says which rows these are."""
        return (self.indices,)

    def part(self, start: int, stop: int) -> Picked:
        """Neighbouring rows."""
        if stop - start == self.rows:
            return self
        return Picked(self.table, self.indices[start:stop])

    def gathered(self, size: int) -> Iterator[Rows]:
        """These rows side by side, some batches of so many rows at a time."""
        batch_bytes = size * sum(x.nbytes for x in self.table.tensors) // self.table.rows
        step = size * max(1, _BLOCK_BYTES // max(1, batch_bytes))
        for start in range(0, self.rows, step):
            yield self.table.take(self.part(start, min(start + step, self.rows)).indices)


Batches = Rows | Picked


def one_by_one(batches: Batches, size: int) -> Iterator[Rows]:
    """Batches of so many rows, each gathered."""
    for rows in batches.gathered(size):
        for begin in range(0, rows.rows, size):
            yield rows.part(begin, begin + size)


class Source(Protocol):
    """The training rows, batch by batch."""

    @property
    def table(self) -> Rows | None:
        """The rows that batches are picked from, or None where they are there as they are."""

    @property
    def rows(self) -> int | None:
        """The number of rows of an epoch, if known."""

    @property
    def steps(self) -> int | None:
        """The number of batches of an epoch, if known."""

    def blocks(self, generator: Generator, epoch: int, start: int) -> Iterator[tuple[Batches, int]]:
        """The batches of an epoch (from 0) from the number `start` on, several as one: their rows
        one after the other, and how many a batch has.

        The generator is moved on by what an epoch draws, whatever `start` is.
        """


def batches(source: Source, generator: Generator, epoch: int, start: int) -> Iterator[Rows]:
    """The batches of an epoch one by one; see `Source.blocks`."""
    for block, size in source.blocks(generator, epoch, start):
        yield from one_by_one(block, size)


class InMemory:
    """Rows on the device, gathered there in an order that is drawn anew for each epoch.

    Raises DataError where no row is left. A last row alone joins the batch before it, for batch
    norm needs two.
    """

    def __init__(self, data: Rows, batch_size: int | None, shuffle: bool) -> None:
        if not data.rows:
            raise DataError("every row has weight 0: there is nothing to learn from")
        self.data = data
        self.rows = data.rows
        self.size = min(batch_size or self.rows, self.rows)
        self.steps = -(-self.rows // self.size)
        if self.steps > 1 and self.size > 1 and self.rows % self.size == 1:
            self.steps -= 1
        # The order of rows does not matter to a batch of them all.
        self.shuffle = shuffle and self.steps > 1
        self.table = data if self.shuffle else None
        # The next orders, the last one first, between the generator's states before and after.
        self._orders: list[tuple[dict[str, int], Tensor, dict[str, int]]] = []
        self._drawn = 0

    def blocks(self, generator: Generator, epoch: int, start: int) -> Iterator[tuple[Batches, int]]:
        rows: Batches = self.data
        if self.shuffle:
            rows = Picked(self.data, self._order(generator))
        odd = self.rows != self.steps * self.size
        full = self.steps - 1 if odd else self.steps
        if start < full:
            yield rows.part(start * self.size, full * self.size), self.size
        if odd and start < self.steps:
            begin = full * self.size
            yield rows.part(begin, self.rows), self.rows - begin

    def _order(self, generator: Generator) -> Tensor:
        """The order of the rows that the generator draws next."""
        state = generator.get_state()
        if not self._orders or self._orders[-1][0] != state:
            # More from epoch to epoch, for a run may end at any of them.
            most = min(_ORDERS, _ORDER_BYTES // (8 * self.rows))
            self._drawn = max(1, min(2 * self._drawn, most))
            ahead = Generator(0)
            ahead.set_state(state)
            made = []
            for _ in range(self._drawn):
                order = ahead.permutation(self.rows, backend=self.data.x.backend)
                before, state = state, ahead.get_state()
                made.append((before, order, state))
            self._orders = made[::-1]
        _, order, after = self._orders.pop()
        generator.set_state(after)
        return order


class Streamed:
    """Batches from an object whose every iteration is an epoch, prepared one by one.

    Where the object has `batches(epoch)`, as `gradnet.data.stream` gives, that is called with the
    number of the epoch, so that a resumed run sees the same batches. Raises DataError for an
    object without any batch.
    """

    def __init__(self, dataset: Any, prepare: Callable[[Any, int], Rows]) -> None:
        self.dataset = dataset
        self.prepare = prepare
        self.by_class: Tensor | None = None
        self.table: Rows | None = None
        self.rows: int | None = getattr(dataset, "rows", None)
        self.steps: int | None = len(dataset) if hasattr(dataset, "__len__") else None
        first = next(self.epoch(0), None)
        if first is None:
            raise DataError("the data set has no batches")
        self.first: Rows = first

    def epoch(self, number: int, start: int = 0) -> Iterator[Rows]:
        """The batches of the epoch of that number, from 0, without the weights of classes."""
        by_epoch = getattr(self.dataset, "batches", None)
        batches = iter(self.dataset) if by_epoch is None else by_epoch(number)
        for i, batch in enumerate(batches):
            if i >= start:
                yield self.prepare(batch, i)

    def blocks(self, generator: Generator, epoch: int, start: int) -> Iterator[tuple[Batches, int]]:
        for i, batch in enumerate(self.epoch(epoch, start), start):
            rows = batch.weighed(self.by_class)
            if not rows.rows:
                raise DataError(f"every row of batch {i + 1} is of a class of weight 0")
            yield rows, rows.rows
