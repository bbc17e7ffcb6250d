"""Copies of a captured step in one launch: rows taken by index, and casts, with the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes.steps import replay_of
from gradnet.kernels.cuda_backend import CudaBackend

import gradnet as gn
from gradnet.dtypes import bfloat16

TABLE = np.random.default_rng(5).standard_normal((11, 3)).astype(np.float32)
CLASSES = np.arange(11) % 4
ROWS = np.array([3, 0, 10, -1, 3])


def same(function: Any, *arguments: Any) -> list[str]:
    """The calls of the captured function, which gives the bits that the function gives."""

    def run(wrapped: Any) -> list[bytes]:
        return [x.numpy().tobytes() for _ in range(2) for x in wrapped(*arguments)]

    captured = gn.capture(function)
    assert run(captured) == run(function)
    return [call.method for call in replay_of(captured)._program.calls]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "complex64"])
def test_a_batch(graphs: CudaBackend, dtype: str) -> None:
    """Features and classes of the same rows; the features rounded on the way."""
    kind: Any = bfloat16() if dtype == "bfloat16" else np.dtype(dtype)
    table = gn.asarray(TABLE.astype(np.complex64) if dtype == "complex64" else TABLE)
    classes, weights = gn.asarray(CLASSES), gn.asarray(TABLE.ravel()[:10])

    def function(rows: gn.Tensor) -> Any:
        x = table[rows]
        x = gn.astype(x, kind) if dtype.endswith("float16") else x
        return x + x, classes[rows] * 2, gn.astype(weights, gn.float16) * 2.0

    left = same(function, gn.asarray(ROWS))
    assert left.count("moves") == 1
    assert not {"take", "cast"} & set(left)


def test_an_index_out_of_range(graphs: CudaBackend) -> None:
    table, classes = gn.asarray(TABLE), gn.asarray(CLASSES)

    @gn.capture
    def function(rows: gn.Tensor) -> Any:
        return gn.astype(table[rows], gn.float16) * 2.0, table[rows] + 1.0, classes[rows] + 0

    for bad in (11, -12):
        function(gn.asarray(ROWS))
        halves, whole, picked = function(gn.asarray(np.array([bad, 1])))
        with pytest.raises(IndexError, match=f"index {bad} is out of bounds for an axis of size 1"):
            graphs.synchronize()
        for found in (halves, whole):
            assert np.isnan(found.numpy()[0]).all()
            assert np.isfinite(found.numpy()[1]).all()
        assert picked.numpy().tolist() == [0, 1]


def test_what_must_stay_in_its_place(graphs: CudaBackend) -> None:
    rows, kept, turned = gn.asarray(ROWS), gn.asarray(TABLE), gn.asarray(ROWS[::-1].copy())
    tables = [gn.asarray(TABLE + k) for k in range(6)]

    def changed(rows: gn.Tensor) -> Any:
        table = kept * 1.5
        first = table[rows]
        table.assign_(table * 2.0)
        return first + 0.0, table[rows] + 0.0

    def following(rows: gn.Tensor) -> Any:
        order = turned[rows % 5]
        return kept[order] * 2.0, order + 0

    def many(rows: gn.Tensor) -> Any:
        return tuple(table[rows] * 2.0 for table in tables)

    assert same(changed, rows).count("take") == 2
    assert same(following, rows).count("take") == 2
    assert same(many, rows).count("moves") == 2
    assert "moves" not in same(lambda rows: (kept[rows, rows % 3] * 2.0,), rows)
    assert "moves" not in same(lambda rows: (gn.zeros((4, 0))[rows % 4] * 1.0,), rows)
