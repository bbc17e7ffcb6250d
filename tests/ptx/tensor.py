"""Instructions that the threads of a warp compute together: products and moves of small matrices.

Where a thread's numbers are in a matrix is as the PTX manual has it for m16n8k16 and m8n8.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from .emit import Emitter, flags, known
from .text import Instruction, UnknownError

Array = Any
TOGETHER = frozenset(("mma", "ldmatrix", "movmatrix"))
WARP = 32
_LANE = np.arange(WARP)
_ROW, _PAIR = _LANE // 4, 2 * (_LANE % 4)
_KINDS = {"f16": np.float16, "bf16": ml_dtypes.bfloat16}
# For each number of a thread: row and column in A (16, 16), B (16, 8) and C (16, 8).
_A = [(_ROW + 8 * (k // 2 % 2), _PAIR + k % 2 + 8 * (k // 4)) for k in range(8)]
_B = [(_PAIR + k % 2 + 8 * (k // 2), _ROW) for k in range(4)]
_C = [(_ROW + 8 * (k // 2), _PAIR + k % 2) for k in range(4)]


def _warps(x: Array) -> Array:
    if x.size % WARP:
        raise UnknownError("warps that are not whole")
    return x.reshape(-1, WARP)


def _matrix(words: tuple[Array, ...], places: Any, shape: tuple[int, int], kind: Any) -> Array:
    """The matrix of each warp in float64, from words of two numbers."""
    found = np.empty((words[0].size // WARP, *shape))
    for k, (row, column) in enumerate(places):
        half = _warps((words[k // 2] >> np.uint32(16 * (k % 2))).astype(np.uint16))
        found[:, row, column] = half.view(kind).astype(np.float64)
    return found


def product(
    kind: str, a: tuple[Array, ...], b: tuple[Array, ...], c: tuple[Array, ...]
) -> list[Array]:
    """`mma.m16n8k16`: A @ B + C, rounded to float32 once."""
    left = _matrix(a, _A, (16, 16), _KINDS[kind])
    right = _matrix(b, _B, (16, 8), _KINDS[kind])
    sums = left @ right
    found = []
    for (row, column), one in zip(_C, c, strict=True):
        total = sums[:, row, column] + _warps(one)
        found.append(total.astype(np.float32).reshape(-1))
    return found


def rows(taken: Array, count: int, transposed: bool) -> list[Array]:
    """`ldmatrix`: of rows of 8 numbers each thread's two of every matrix."""
    matrices = taken.reshape(-1, 4, 8, 8)[:, :count]
    if transposed:
        matrices = matrices.transpose(0, 1, 3, 2)
    found = []
    for k in range(count):
        low, high = (matrices[:, k, _ROW, _PAIR + j].astype(np.uint32) for j in (0, 1))
        found.append((low | high << np.uint32(16)).reshape(-1))
    return found


def transposed(words: Array) -> Array:
    """`movmatrix`: an 8 x 8 matrix of 16-bit numbers that is spread over a warp, transposed."""
    matrix = np.empty((words.size // WARP, 8, 8), np.uint16)
    for j in (0, 1):
        matrix[:, _ROW, _PAIR + j] = _warps((words >> np.uint32(16 * j)).astype(np.uint16))
    low, high = (matrix[:, _PAIR + j, _ROW].astype(np.uint32) for j in (0, 1))
    return (low | high << np.uint32(16)).reshape(-1)


@known("mma")
def _mma(e: Emitter, one: Instruction) -> None:
    targets, a, b, c = one.operands
    known_ = [x for x in one.parts[1:] if x not in ("sync", "aligned")]
    kind = known_[4] if len(known_) == 7 else ""
    if known_ != ["m16n8k16", "row", "col", "f32", kind, kind, "f32"] or kind not in _KINDS:
        raise UnknownError("which product")
    words = [", ".join(e.take(x, "b32") for x in group) for group in (a, b)]
    sums = ", ".join(e.take(x, "f32") for x in c)
    e.lines.append(f"at = product({kind!r}, ({words[0]}), ({words[1]}), ({sums}))")
    for k, target in enumerate(targets):
        e.put(target, f"at[{k}]", "f32")


@known("ldmatrix")
def _ldmatrix(e: Emitter, one: Instruction) -> None:
    targets, address = one.operands
    how = flags(one, "m8n8", "x4", "trans", "shared")
    if not {"m8n8", "x4", "shared"} <= how or one.type != "b16":
        raise UnknownError("which matrices")
    e.lines.append(f"at = m.load('shared', {e.address(address)}, np.uint16, 8, i)")
    e.lines.append(f"at = rows(at, 4, {'trans' in how})")
    for k, target in enumerate(targets):
        e.put(target, f"at[{k}]", "b32")


@known("movmatrix")
def _movmatrix(e: Emitter, one: Instruction) -> None:
    if flags(one, "m8n8", "trans") != {"m8n8", "trans"} or one.type != "b16":
        raise UnknownError("which matrix")
    e.put(one.operands[0], f"transposed({e.take(one.operands[1], 'b32')})", "b32")


NAMES: dict[str, Any] = {"product": product, "rows": rows, "transposed": transposed}
