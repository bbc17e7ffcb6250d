"""How blocks of threads share the steps of a training: their grid, its memory, and what it costs.

The grid is that of `cluster_layout.cu`, whose numbers are computed here once more: the host must
know how much memory to ask for. Which of them is expected to be fastest goes by an estimate.
"""

from __future__ import annotations

from functools import cache
from itertools import accumulate, pairwise, product
from operator import add
from typing import NamedTuple

from gradnet import formulas
from gradnet.errors import DeviceError
from gradnet.formulas.rows import Update

# How many blocks there may be.
CLUSTERS = (1, 2, 4, 8, 16, 32, 64, 128)
THREADS = 256
# Bytes of shared memory that a block of compute capability 9.0 can have, and the least one that has
# what the kernel needs.
SHARED = 227 * 1024
MAJOR = 8
# Words before those that blocks exchange.
_HEAD = 16
# Estimates of cycles: until a number that one block gives can be seen by others, until who looks at
# it has it, and of a barrier with what waits before and after it.
_EXCHANGE, _LOOK, _PHASE = 600, 300, 150


class Split(NamedTuple):
    """A grid of blocks, down * across; tiled if the first weights are in tiles of one block each.

    See `cluster_layout.cu`. With one layer that is tiled there is one block across.
    """

    down: int
    across: int
    tiled: bool


class Training(NamedTuple):
    """A network with cross-entropy at its end, its batch and its optimizer.

    offsets  where each layer's weights (in, out) and bias begin in the flat parameters; one after
             the other if empty
    cluster  blocks that share the work; 0 for as many as are expected to be fastest
    split    how they share it; empty for what is expected to be fastest
    most     blocks that a device has processors for
    shared   bytes of shared memory that each can have
    """

    sizes: tuple[int, ...]
    batch: int
    activation: str = "relu"
    update: str = "adam"
    offsets: tuple[int, ...] = ()
    cluster: int = 0
    threads: int = THREADS
    split: tuple[int, ...] = ()
    most: int = CLUSTERS[-1]
    shared: int = SHARED

    @property
    def places(self) -> tuple[int, ...]:
        """Where each layer's weights and bias begin, and at the end where the last of them ends."""
        counts = [count for n, m in pairwise(self.sizes) for count in (n * m, m)]
        begins = self.offsets or tuple(accumulate(counts[:-1], initial=0))
        return (*begins, max(map(add, begins, counts)))


def rule(training: Training) -> Update:
    """The optimizer's update. Raises DeviceError for an unknown one."""
    found = formulas.UPDATES.get(training.update)
    if found is None:
        raise DeviceError(f"{training.update!r} is no update; there are {sorted(formulas.UPDATES)}")
    return found


class Layout(NamedTuple):
    """Numbers of a split, as the text has them under the same names."""

    rows: int
    widths: tuple[int, ...]
    outs: int
    common: int
    shared: int
    box: int


def _pieces(n: int, of: int) -> int:
    return -(-n // of)


def _fours(n: int) -> int:
    return 4 * _pieces(n, 4)


@cache
def layout(training: Training, split: Split) -> Layout:
    """What each block has and gives, as `placed` and `boxed` in its text have it."""
    (*sizes, classes), batch, (down, across, tiled) = training.sizes, training.batch, split
    states, first = 1 + len(rule(training).state), int(tiled)
    rows, outs_of = _pieces(batch, down), training.sizes[1:]
    widths = [
        _fours(_pieces(n, down if tiled and layer == 0 else across))
        for layer, n in enumerate(sizes)
    ]
    outs = _fours(classes) if tiled and len(sizes) == 1 else widths[min(1, len(sizes) - 1)]
    common = 1 + sum(w * (m | 1) for w, m in list(zip(widths, outs_of, strict=True))[first:])
    common += sum(widths[1:]) + classes
    share = _pieces(common, down)
    beside = batch if tiled else rows
    long = 4 * (widths[0] // 4 | 1)
    parts = [6 * beside, 4 * rows, 2 * beside * long]
    if tiled:
        groups = _cut(widths[0], outs, batch, training.threads)[1]
        parts += [states * outs * long, groups * outs * widths[0], batch * outs]
    parts += [states * share, 0 if down == 1 else common]
    parts += [rows * width for width in widths[1:] for _ in range(2)]
    parts += [rows * m for m in outs_of[first:]]
    parts += [rows * outs] if tiled and down > 1 else []
    parts += [rows * classes, rows, 2 * len(rule(training).scalars)]
    box = 0
    if tiled and down > 1:
        box += batch * outs + rows * outs
    if across > 1:
        box += sum(rows * m for m in outs_of[first:]) + sum(rows * w for w in widths[first + 1 :])
    if down > 1:
        box += common + share
    shared = 4 * sum(map(_fours, parts))
    return Layout(rows, tuple(widths), outs, common, shared, 16 * _pieces(box, 16))


def _cut(width: int, outs: int, batch: int, threads: int) -> tuple[int, int, int]:
    """Cycles of the first weights' gradient, its groups of rows, and its quads: see `cut`."""
    found = []
    for deep in (1, 2):
        tiles = _pieces(width // 4, deep) * (outs // 4)
        groups = max(1, min(threads // tiles, 8, batch))
        each = _pieces(batch, groups) * max(32 * deep, 24 * (deep + 1))
        cycles = _pieces(tiles * groups, threads) * each + groups * width * outs // 16
        found.append((cycles, groups, deep))
    return min(found, key=lambda one: (one[0], one[2]))


def splits(training: Training) -> list[Split]:
    """How the work can be split, in blocks that have the memory for it."""
    if training.split:
        down, across, tiled = training.split
        return [Split(down, across, bool(tiled))]
    found, counts = [], (training.cluster,) if training.cluster else CLUSTERS
    for down, across in product(CLUSTERS, CLUSTERS):
        for tiled in (False, True):
            if (
                down * across in counts
                and down * across <= training.most
                and down <= training.batch
                and not (tiled and across > 1 and len(training.sizes) == 2)
            ):
                found.append(Split(down, across, tiled))
    return found


@cache
def split_of(training: Training) -> Split:
    """How the work is split: as asked for, or as is expected to be fastest."""
    found = splits(training)
    fitting = [one for one in found if layout(training, one).shared <= training.shared]
    return min(fitting or found, key=lambda one: (cycles(training, one), one))


def cycles(training: Training, split: Split) -> int:
    """An estimate of the processor's cycles in a step."""
    sizes, batch, threads = training.sizes, training.batch, training.threads
    (down, across, tiled), warps = split, training.threads // 32
    rows, widths, outs, common, _, _ = layout(training, split)

    def multiplied(n: int, m: int, k: int) -> int:
        """Cycles of `product`."""
        each = min(
            _pieces(_pieces(n, a) * _pieces(m, b), threads) * (a * b + 2 * (a + b))
            for a, b in product((1, 2, 4, 8), repeat=2)
        )
        return each * k * threads // 128 + _PHASE

    def first() -> int:
        """Cycles of `first_product`."""
        found = []
        for a, b in product((1, 2, 4), repeat=2):
            tiles = _pieces(batch, 8 * a) * _pieces(outs, 4 * b)
            busy, rounds = min(tiles, warps), _pieces(tiles, warps)
            arithmetic = _pieces(busy, 4) * (4 * a * b + a + b + 8)
            found.append(rounds * max(arithmetic, busy * 3 * (a + b)))
        return min(found) * widths[0] // 4 + _PHASE

    def exchanged(count: int, others: int, ahead: int = 16) -> int:
        """Cycles in which a block has so many numbers of others, once they are there."""
        return _LOOK * _pieces(count, threads) * _pieces(others, ahead) + count * others // 8

    many = rows * sizes[-1] * sizes[-1] * threads // 32768 + 3 * _PHASE
    if tiled:
        many += first() + _cut(widths[0], outs, batch, threads)[0] + _PHASE
    if down > 1:
        share = exchanged(_pieces(common, down), down) + exchanged(_pieces(common, 8), 8)
        there = exchanged(rows * outs, down) + exchanged(_pieces(batch * outs, 8), 8)
        many += 2 * _EXCHANGE + (max(there, share) if tiled else share)
    for layer in range(int(tiled), len(widths)):
        width, m = widths[layer], sizes[layer + 1]
        last = layer + 1 == len(widths)
        many += multiplied(rows, m, width) + multiplied(width, m, rows)
        many += multiplied(rows, width, m) if layer else 0
        if across > 1:
            many += _EXCHANGE + exchanged(rows * (m if last else widths[layer + 1]), across)
            many += 0 if last else _EXCHANGE + exchanged(_pieces(rows * m, 8), 8)
    return many


def cluster_of(training: Training) -> int:
    """How many blocks share the work."""
    down, across, _ = split_of(training)
    return down * across


def shared_bytes(training: Training) -> int:
    """The shared memory of a block."""
    return layout(training, split_of(training)).shared


def room_of(training: Training) -> int:
    """Words of 64 bits by which the blocks exchange: zero before the first launch, then left."""
    blocks = cluster_of(training)
    return _HEAD + (0 if blocks == 1 else 2 * blocks * layout(training, split_of(training)).box)
