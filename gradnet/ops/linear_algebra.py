"""Products and contractions made of the ops: einsum, tensordot, norms, diagonals, triangles."""

from __future__ import annotations

import math
import operator
import string
from typing import Any

import numpy as np

from gradnet import dtypes
from gradnet.errors import ShapeError
from gradnet.ops.complex import conj
from gradnet.ops.creation import arange, asarray, astype, operands_of_one_dtype, zeros_like
from gradnet.ops.elementwise import op
from gradnet.ops.multilinear import MATMUL, matmul
from gradnet.ops.reduce import SUM, max, root, sum
from gradnet.ops.reduce import min as least
from gradnet.ops.shape import is_number, normalize_axes, normalize_axis, permute_dims, reshape
from gradnet.tensor import Tensor

_LETTERS = string.ascii_letters


def dot(a: Any, b: Any, /) -> Tensor:
    """The inner product of vectors, or the matrix product, as in NumPy."""
    a, b = operands_of_one_dtype("dot", a, b)
    if not a.ndim or not b.ndim:
        return a * b
    return matmul(a, b) if b.ndim <= 2 else tensordot(a, b, axes=((a.ndim - 1,), (b.ndim - 2,)))


def outer(a: Any, b: Any, /) -> Tensor:
    """The outer product: (n,), (m,) -> (n, m)."""
    a, b = operands_of_one_dtype("outer", a, b)
    return reshape(a, (a.size, 1)) * reshape(b, (1, b.size))


def vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Tensor:
    """The inner products of vectors along an axis, counted from the last: sum(conj(x1) x2).

    Raises ShapeError where their lengths differ or another axis does not broadcast.
    """
    a, b = operands_of_one_dtype("vecdot", x1, x2)
    for x in (a, b):
        normalize_axis("vecdot", axis, x.ndim)
    if not a.ndim or not b.ndim or a.shape[axis] != b.shape[axis]:
        raise ShapeError(
            f"vecdot got shapes {a.shape} and {b.shape}, whose lengths along axis {axis} differ"
        )
    return sum(conj(a) * b, axis=axis, dtype=a.dtype)


def tensordot(x1: Any, x2: Any, /, axes: Any = 2) -> Tensor:
    """The sum of products over paired axes: the last n of x1 and first n of x2, or as listed.

    Raises ShapeError where the lengths of a pair of axes differ.
    """
    a, b = operands_of_one_dtype("tensordot", x1, x2)
    if is_number(axes):
        count = operator.index(axes)
        left, right = tuple(range(a.ndim - count, a.ndim)), tuple(range(count))
    else:
        left, right = (tuple(axis) if isinstance(axis, tuple | list) else (axis,) for axis in axes)
    left = tuple(normalize_axis("tensordot", i, a.ndim) for i in left)
    right = tuple(normalize_axis("tensordot", i, b.ndim) for i in right)
    if [a.shape[i] for i in left] != [b.shape[i] for i in right]:
        raise ShapeError(
            f"tensordot got shapes {a.shape} and {b.shape} with axes {left} and {right}, whose "
            "lengths differ"
        )
    rest_a = tuple(i for i in range(a.ndim) if i not in left)
    rest_b = tuple(i for i in range(b.ndim) if i not in right)
    inner = math.prod(a.shape[i] for i in left)
    shape_a, shape_b = (tuple(x.shape[i] for i in rest) for x, rest in ((a, rest_a), (b, rest_b)))
    flat_a = reshape(permute_dims(a, rest_a + left), (math.prod(shape_a), inner))
    flat_b = reshape(permute_dims(b, right + rest_b), (inner, math.prod(shape_b)))
    return reshape(MATMUL(flat_a, flat_b), shape_a + shape_b)


def diagonal(x: Any, /, *, offset: int = 0) -> Tensor:
    """The diagonals of matrices in the last two axes: (..., n, m) -> (..., min(n, m)).

    Raises ShapeError for fewer axes than two.
    """
    x = asarray(x)
    if x.ndim < 2:
        raise ShapeError(f"diagonal needs at least two axes, got shape {x.shape}")
    (n, m), offset = x.shape[-2:], operator.index(offset)
    count = min(n, m - offset) if offset >= 0 else min(n + offset, m)
    steps = arange(0 if count < 0 else count, backend=x.backend)
    below, right = (-offset, 0) if offset < 0 else (0, offset)
    return x[..., steps + below, steps + right]


def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Tensor:
    """The sum of the diagonal of matrices in the last two axes."""
    return sum(diagonal(x, offset=offset), axis=-1, dtype=dtype)


def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: float = 2) -> Tensor:
    """The norm of vectors: (sum |x|^ord)^(1/ord), or the largest |x| for infinite `ord`.

    -inf gives the smallest |x|, 0 the count of values that are not zero. The gradient where all
    values are 0 is 0. Of no values the norm is 0 if `ord` is not negative.
    """
    x = asarray(x)
    if not dtypes.is_inexact(x.dtype):
        x = astype(x, dtypes.DEFAULT_FLOAT)
    magnitude = op("abs")(x)
    if math.isinf(ord):
        return (largest if ord > 0 else least)(magnitude, axis=axis, keepdims=keepdims)
    if ord == 0:
        count = sum(op("not_equal")(magnitude.detach(), 0), axis=axis, keepdims=keepdims)
        return astype(count, magnitude.dtype)
    if ord == 1:
        return sum(magnitude, axis=axis, keepdims=keepdims)
    if ord == 2:
        return root(sum(op("square")(magnitude), axis=axis, keepdims=keepdims))
    total = sum(_power(magnitude, ord), axis=axis, keepdims=keepdims)
    return _power(total, 1 / ord)


def _power(x: Tensor, exponent: float) -> Tensor:
    """A power of magnitudes, with derivatives of 0 at 0."""
    flat = op("equal")(x.detach(), 0)
    return op("where")(
        flat, 0.0 if exponent > 0 else math.inf, op("where")(flat, 1.0, x) ** exponent
    )


def largest(x: Tensor, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The largest of magnitudes over axes, 0 where there are none."""
    counted = [x.shape[a] for a in normalize_axes("largest", axis, x.ndim)]
    return (max if math.prod(counted) else sum)(x, axis=axis, keepdims=keepdims)


# Einstein summation


def einsum(subscripts: Any, *operands: Any, optimize: Any = True) -> Tensor:
    """Sums of products by index letters, as in NumPy: einsum("ij,jk->ik", a, b).

    Indices may also be lists of integers, after each operand: einsum(a, [0, 1], b, [1, 2], [0, 2]).
    Operands are contracted in pairs, in a greedy order whatever `optimize` says, each pair as one
    batched matrix product.
    Raises ShapeError where letters and shapes do not agree.
    """
    if not isinstance(subscripts, str):
        subscripts, operands = _lettered((subscripts, *operands))
    tensors = operands_of_one_dtype("einsum", *operands)
    terms, output = _subscripts(subscripts, tensors)
    lengths = _lengths(subscripts, terms, tensors)
    work = [
        _spanned(*_diagonalized(x, term), lengths) for x, term in zip(tensors, terms, strict=True)
    ]
    for pair in _path(work, output):
        picked = [work[i] for i in pair]
        work = [item for i, item in enumerate(work) if i not in pair]
        needed = set(output).union(*(term for _, term in work))
        first = _without(*picked[0], needed.union(*(t for _, t in picked[1:])))
        for second in picked[1:]:
            first = _contracted(first, _without(*second, needed.union(first[1])), needed)
        work.append(first)
    x, term = _without(*work[0], set(output))
    return permute_dims(x, tuple(term.index(letter) for letter in output)) if term else x


def _lettered(given: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    """Subscripts for operands, each followed by its indices, and maybe those of the output."""
    count = len(given) // 2 * 2
    if not count:
        raise ShapeError("einsum takes subscripts and operands, or operands and lists of indices")
    terms = [
        "".join("..." if i is Ellipsis else _LETTERS[operator.index(i)] for i in indices)
        for indices in (*given[1:count:2], *given[count:])
    ]
    left = ",".join(terms[: count // 2])
    return "->".join([left, *terms[count // 2 :]]), given[:count:2]


def _lengths(subscripts: str, terms: list[str], tensors: list[Tensor]) -> dict[str, int]:
    """The length that each letter stands for; 1 in one operand goes with any in another."""
    lengths: dict[str, int] = {}
    for term, x in zip(terms, tensors, strict=True):
        within: dict[str, int] = {}
        for letter, n in zip(term, x.shape, strict=True):
            known = lengths.setdefault(letter, n)
            if within.setdefault(letter, n) != n or (known != n and 1 not in (n, known)):
                raise ShapeError(
                    f"einsum {subscripts!r} got lengths {known} and {n} for {letter!r}, in shapes "
                    f"{', '.join(str(t.shape) for t in tensors)}"
                )
            lengths[letter] = n if known == 1 else known
    return lengths


def _subscripts(subscripts: str, tensors: list[Tensor]) -> tuple[list[str], str]:
    """The letters of each operand and of the output, with ellipses spelled out."""
    left, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(tensors):
        raise ShapeError(
            f"einsum {subscripts!r} has {len(terms)} operands, but got {len(tensors)} tensors"
        )
    spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in subscripts]
    extra = 0
    for term, x in zip(terms, tensors, strict=True):
        count = x.ndim - len(term.replace("...", ""))
        if count < 0 or (count and "..." not in term):
            raise ShapeError(
                f"einsum {subscripts!r}: {term!r} names {len(term.replace('...', ''))} axes of a "
                f"tensor of shape {x.shape}"
            )
        extra = count if count > extra else extra
    spelled = [
        term.replace("...", "".join(spare[extra - (x.ndim - len(term) + 3) : extra]))
        for term, x in zip(terms, tensors, strict=True)
    ]
    ellipsis = "".join(spare[:extra])
    if arrow:
        output = output.replace("...", ellipsis)
    else:
        letters = "".join(terms).replace(".", "")
        output = ellipsis + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    known = set("".join(spelled))
    if len(set(output)) != len(output) or not set(output) <= known:
        raise ShapeError(f"einsum {subscripts!r}: the output needs distinct letters of the inputs")
    return spelled, output


def _path(work: list[tuple[Tensor, str]], output: str) -> list[tuple[int, ...]]:
    """The order of contraction that NumPy plans from the shapes alone."""
    if len(work) < 3:
        return [tuple(range(len(work)))]
    # Zero-strided stand-ins: the plan needs shapes, never values.
    stand_ins = [np.broadcast_to(np.zeros((), np.int8), x.shape) for x, _ in work]
    terms = ",".join(term for _, term in work)
    path, _ = np.einsum_path(f"{terms}->{output}", *stand_ins, optimize="greedy")
    return [tuple(step) for step in path[1:]]


def _diagonalized(x: Tensor, term: str) -> tuple[Tensor, str]:
    """An operand without repeated letters: the diagonal of their axes."""
    for letter in set(term):
        while term.count(letter) > 1:
            i = term.index(letter)
            j = term.index(letter, i + 1)
            rest = tuple(a for a in range(x.ndim) if a not in (i, j))
            x = diagonal(permute_dims(x, (*rest, i, j)))
            term = "".join(term[a] for a in rest) + letter
    return x, term


def _spanned(x: Tensor, term: str, lengths: dict[str, int]) -> tuple[Tensor, str]:
    """An operand without its axes of length 1 that stand for a longer one: it repeats there."""
    axes = [i for i, letter in enumerate(term) if x.shape[i] != lengths[letter]]
    if not axes:
        return x, term
    rest = [i for i in range(x.ndim) if i not in axes]
    return reshape(x, tuple(x.shape[i] for i in rest)), "".join(term[i] for i in rest)


def _without(x: Tensor, term: str, kept: set[str]) -> tuple[Tensor, str]:
    """An operand summed over the letters that nothing else needs."""
    axes = tuple(i for i, letter in enumerate(term) if letter not in kept)
    if not axes:
        return x, term
    y = SUM(x, axes=axes, keepdims=False, dtype=x.dtype)
    return y, "".join(letter for letter in term if letter in kept)


def _contracted(
    first: tuple[Tensor, str], second: tuple[Tensor, str], needed: set[str]
) -> tuple[Tensor, str]:
    """Two operands as one batched matrix product over the letters that only they share."""
    (a, term_a), (b, term_b) = first, second
    shared = [c for c in term_a if c in term_b]
    batch = [c for c in shared if c in needed]
    inner = [c for c in shared if c not in needed]
    left = [c for c in term_a if c not in term_b]
    right = [c for c in term_b if c not in term_a]

    def length(x: Tensor, term: str, letter: str) -> int:
        return x.shape[term.index(letter)]

    def grouped(x: Tensor, term: str, groups: tuple[list[str], ...]) -> Tensor:
        order = [c for group in groups for c in group]
        x = permute_dims(x, tuple(term.index(c) for c in order)) if order else x
        batch_lengths = tuple(length(x, "".join(order), c) for c in groups[0])
        rest = tuple(math.prod(length(x, "".join(order), c) for c in group) for group in groups[1:])
        return reshape(x, batch_lengths + rest)

    y = matmul(grouped(a, term_a, (batch, left, inner)), grouped(b, term_b, (batch, inner, right)))
    lengths = tuple(
        length(a, term_a, c) if c in left else length(b, term_b, c) for c in (*left, *right)
    )
    return reshape(y, y.shape[: len(batch)] + lengths), "".join((*batch, *left, *right))


def _triangle(name: str, x: Any, k: int, lower: bool) -> Tensor:
    x = asarray(x)
    if x.ndim < 2:
        raise ShapeError(f"{name} needs at least two axes, got shape {x.shape}")
    n, m = x.shape[-2:]
    rows = reshape(arange(n, backend=x.backend), (n, 1))
    columns = arange(m, backend=x.backend)
    kept = op("less_equal" if lower else "greater_equal")(columns - rows, k)
    return op("where")(kept, x, zeros_like(x))


def tril(x: Any, /, *, k: int = 0) -> Tensor:
    """The lower triangle of matrices, up to the k-th diagonal, zeros elsewhere."""
    return _triangle("tril", x, k, True)


def triu(x: Any, /, *, k: int = 0) -> Tensor:
    """The upper triangle of matrices, from the k-th diagonal on, zeros elsewhere."""
    return _triangle("triu", x, k, False)
