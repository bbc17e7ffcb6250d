"""Deterministic splits and folds.

Random choices come from 64-bit keys of the counter-based generator Philox4x64-10 (Salmon et al.
2011): one key per row, for a seed and a purpose. Only the generator's raw bits are used, which
NumPy keeps the same on every platform and in every version.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradnet.data.table import Rows, counted
from gradnet.errors import DataError

Purpose = Literal["test", "validation", "folds", "shuffle", "sample", "generate"]
_PURPOSES: dict[str, int] = {
    "test": 1,
    "validation": 2,
    "folds": 3,
    "shuffle": 4,
    "sample": 5,
    "generate": 6,
}


def keys(
    count: int, *, seed: int, purpose: Purpose, part: int = 0, start: int = 0
) -> NDArray[np.uint64]:
    """Keys `start` to `start + count` of one stream of random 64-bit words, shape (count,).

    `part` tells apart streams of one seed and purpose: an epoch, a class.
    Raises DataError for a seed outside 0 <= seed < 2**64.
    """
    if not 0 <= seed < 2**64:
        raise DataError(f"seed must be between 0 and 2**64 - 1, not {seed}")
    generator = np.random.Philox(
        key=np.array([seed, _PURPOSES[purpose]], dtype=np.uint64),
        counter=np.array([0, 0, 0, part], dtype=np.uint64),
    )
    generator.advance(start // 4)  # one counter gives four words
    words: NDArray[np.uint64] = generator.random_raw(count + start % 4)
    return words[start % 4 :]


def uniforms(count: int, *, seed: int, purpose: Purpose, part: int = 0) -> NDArray[np.float64]:
    """Uniform numbers in (0, 1) with 53 random bits, shape (count,)."""
    words = keys(count, seed=seed, purpose=purpose, part=part) >> np.uint64(11)
    return (words.astype(np.float64) + 0.5) * 2.0**-53


def permutation(count: int, *, seed: int, purpose: Purpose, part: int = 0) -> Rows:
    """A random order of `count` rows, shape (count,)."""
    drawn = keys(count, seed=seed, purpose=purpose, part=part)
    return np.argsort(drawn, kind="stable").astype(np.int64)


def split(
    rows: int | ArrayLike,
    fraction: float,
    *,
    seed: int = 0,
    stratify: bool = True,
    purpose: Purpose = "test",
) -> tuple[Rows, Rows]:
    """Row numbers (rest, part), each ascending, where part has about `fraction` of the rows.

    `rows` is their number, or their class labels, shape (n,): with labels and `stratify`, part
    holds each class in its proportion, and every class of at least two rows is on both sides.
    Raises DataError for a fraction outside (0, 1) and for fewer than two rows.
    """
    labels, count = _labels(rows)
    if not 0.0 < fraction < 1.0:
        raise DataError(f"{purpose} fraction must lie between 0 and 1, not {fraction}")
    if count < 2:
        raise DataError(f"{counted(count, 'row')} cannot be split; at least 2 are needed")
    wanted = min(max(round(fraction * count), 1), count - 1)
    order = permutation(count, seed=seed, purpose=purpose)
    chosen = np.zeros(count, dtype=bool)
    if labels is None or not stratify:
        chosen[order[:wanted]] = True
    else:
        shares = _shares(np.bincount(labels), wanted)
        for code, share in enumerate(shares):
            members = order[labels[order] == code]
            chosen[members[:share]] = True
        if not chosen.any():  # every class has one row
            chosen[order[:wanted]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def folds(rows: int | ArrayLike, count: int, *, seed: int = 0, stratify: bool = True) -> list[Rows]:
    """Row numbers of `count` disjoint test folds that cover all rows, each ascending.

    With class labels and `stratify`, each class is dealt out evenly over the folds.
    Raises DataError for fewer than 2 folds or more folds than rows.
    """
    labels, total = _labels(rows)
    if not 2 <= count <= total:
        raise DataError(f"{count} folds of {total} rows: expected 2 <= folds <= rows")
    order = permutation(total, seed=seed, purpose="folds")
    if labels is not None and stratify:
        order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(total, dtype=np.int64)
    fold[order] = np.arange(total) % count
    return [np.flatnonzero(fold == part) for part in range(count)]


def _labels(rows: int | ArrayLike) -> tuple[NDArray[Any] | None, int]:
    """Class codes 0, 1, … and the number of rows."""
    if isinstance(rows, int | np.integer):
        if rows < 0:
            raise DataError(f"the number of rows must not be negative, not {rows}")
        return None, int(rows)
    labels = np.asarray(rows)
    if labels.ndim != 1:
        raise DataError(f"labels must have shape (n,), not {labels.shape}")
    return np.unique(labels, return_inverse=True)[1], len(labels)


def _shares(counts: NDArray[Any], wanted: int) -> list[int]:
    """How many rows of each class to take so that they sum to `wanted` where that is possible."""
    quotas = counts * (wanted / counts.sum())
    lower = np.where(counts >= 2, 1, 0)
    upper = np.where(counts >= 2, counts - 1, 0)
    shares = np.clip(np.floor(quotas).astype(np.int64), lower, upper)
    while shares.sum() != wanted:
        step = 1 if shares.sum() < wanted else -1
        free = shares < upper if step > 0 else shares > lower
        if not free.any():
            break
        lack = np.where(free, (quotas - shares) * step, -np.inf)
        shares[int(np.argmax(lack))] += step
    return [int(share) for share in shares]
