"""Matrix products over strided arrays as cublasLt takes them: leading lengths, transposes, batches.

Pure arithmetic on shapes and strides. Strides are in elements.
"""

from __future__ import annotations

from typing import NamedTuple

from gradnet.backends import Shape

Strides = tuple[int, ...]
Placed = tuple[Shape, Strides]


class Matrix(NamedTuple):
    """How a matrix, or each of a batch, lies in memory.

    row      elements from a row to the next; from a column to the next where it is turned
    turned   whether it is stored column by column
    step     elements from a matrix of a batch to the next; 0 where all share one
    """

    row: int
    turned: bool
    step: int


class Problem(NamedTuple):
    """`batch` products (n, k) @ (k, m) = (n, m).

    exchanged   whether it is the transposed product: `a` is the second operand, turned
    """

    n: int
    m: int
    k: int
    batch: int
    a: Matrix
    b: Matrix
    out: Matrix
    exchanged: bool = False


def stored(rows: int, columns: int, across: int, along: int) -> tuple[int, bool] | None:
    """The leading length of a matrix, and whether it is turned; None for any other layout.

    `across` is the stride from row to row, `along` that from column to column.
    """
    if (along == 1 or columns == 1) and (rows == 1 or across >= columns):
        return (columns if rows == 1 else across), False
    if (across == 1 or rows == 1) and (columns == 1 or along >= rows):
        return (rows if columns == 1 else along), True
    return None


def problem_of(a: Placed, b: Placed, out: Placed, *, exchange: bool = True) -> Problem | None:
    """The product of arrays (..., n, k) @ (..., k, m), or None where it needs copies first.

    The result must be stored row by row; with `exchange`, one stored column by column is computed
    as (b^T a^T)^T.
    """
    batch = out[0][:-2]
    steps = _steps(batch, (a, b, out))
    if steps is None:
        return None
    count, steps_ = steps
    (n, m), k = out[0][-2:], a[0][-1]
    matrices = []
    for (shape, strides), step in zip((a, b, out), steps_, strict=True):
        found = stored(*shape[-2:], *strides[-2:])
        if found is None:
            return None
        matrices.append(Matrix(*found, step))
    first, second, result = matrices
    exchanged = result.turned
    if exchanged:
        if not exchange:
            return None
        first, second, result = (
            matrix._replace(turned=not matrix.turned) for matrix in (second, first, result)
        )
        n, m = m, n
    if count > 1 and _one(n, first, second, result):
        n, count = n * count, 1
    if count == 1:
        first, second, result = (x._replace(step=0) for x in (first, second, result))
    return Problem(n, m, k, count, first, second, result, exchanged)


def _one(n: int, a: Matrix, b: Matrix, out: Matrix) -> bool:
    """Whether a batch is one matrix of more rows times a matrix that all share."""
    if b.step or a.turned or out.turned:
        return False
    return a.step == n * a.row and out.step == n * out.row


def _steps(batch: Shape, arrays: tuple[Placed, ...]) -> tuple[int, list[int]] | None:
    """The number of matrices in a batch, and of each array the stride between them.

    None where the axes of a batch do not make one axis.
    """
    full = []
    for shape, strides in arrays:
        missing = len(batch) - (len(shape) - 2)
        own = zip(shape[:-2], strides[:-2], strict=True)
        full.append([0] * missing + [0 if n == 1 else stride for n, stride in own])
    count, steps = 1, [0] * len(arrays)
    for axis in reversed(range(len(batch))):
        length = batch[axis]
        if length == 1:
            continue
        strides_ = [one[axis] for one in full]
        if count == 1:
            count, steps = length, strides_
        elif all(s == step * count for s, step in zip(strides_, steps, strict=True)):
            count *= length
        else:
            return None
    return count, steps
