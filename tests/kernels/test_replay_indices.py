"""Compiled replays of rows taken by index; where machine code reads arrays."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

import gradnet as gn

pytest.importorskip("gradnet.kernels.replay", reason="numba is not installed")
from gradnet.kernels import handles
from gradnet.kernels.replay import machine
from replays import normal

pytestmark = pytest.mark.usefixtures("on_numba")


def test_machine_code_reads_arrays_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert handles._direct() is handles.DIRECT
    table = np.zeros((3, 5), np.uint64)
    monkeypatch.setattr(handles, "DIRECT", True)
    machine.addressed(table, 2, 3)[:] = 7
    # The slots tell where the addresses stand, as if those were the data of array objects.
    for row in table:
        for slot, place in zip(row[:2].tolist(), (3, 4), strict=True):
            assert slot + object.__basicsize__ == row[place:].ctypes.data
            assert ctypes.c_uint64.from_address(slot + object.__basicsize__).value == 7
    monkeypatch.setattr(handles, "DIRECT", False)
    machine.addressed(table, 2, 3)[:] = 9
    assert table[:, :2].tolist() == [[9, 9]] * 3


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool", "bfloat16"])
def test_rows_are_taken_by_index(threads: int, dtype: str) -> None:
    x = gn.asarray(normal(9, 3, 2)).astype(dtype)
    captured = gn.capture(lambda rows: x[rows])
    for rows in ([3, 0, 8, 3, -1, -9], [1, 1, 2, 0, 5, 4]):
        found = captured(gn.asarray(rows))
        np.testing.assert_array_equal(found.numpy(), x.numpy()[rows])
    assert not captured._last._replay._by_storage  # type: ignore[union-attr]


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8, 13, 16, 31, 32, 33, 56, 64, 65, 130])
def test_rows_of_any_width_are_taken(width: int) -> None:
    x = gn.asarray(np.random.default_rng(width).integers(0, 256, (9, width), dtype=np.uint8))
    captured = gn.capture(lambda rows: x[rows])
    for rows in ([3, 0, 8, -9], [1, 2, 2, -1]):
        np.testing.assert_array_equal(captured(gn.asarray(rows)).numpy(), x.numpy()[rows])
    assert not captured._last._replay._by_storage  # type: ignore[union-attr]


def test_an_index_out_of_range_ends_a_step_before_it_changes_anything(threads: int) -> None:
    x, y, total = gn.asarray(normal(9, 3)), gn.arange(9), gn.zeros((4, 3))

    def add(rows: gn.Tensor) -> gn.Tensor:
        total.assign_(total + x[rows])
        return gn.sum(y[rows])

    captured = gn.capture(add)
    assert [captured(gn.asarray([i, 1, 2, 3])).item() for i in range(3)] == [6, 7, 8]
    before = total.tolist()
    for wrong in ([0, 9, 1, 1], [0, 1, 2, -10]):
        with pytest.raises(IndexError, match="out of bounds"):
            captured(gn.asarray(wrong))
        with pytest.raises(IndexError, match="out of bounds"):
            captured.each(gn.asarray(wrong * 2), rows=4)
    assert total.tolist() == before
    assert captured(gn.asarray([0, 1, 2, 3])).item() == 6
    assert captured.recordings == 1


def test_an_index_that_was_changed_is_looked_at_again() -> None:
    x = gn.asarray(normal(9, 3))

    def twice(rows: gn.Tensor) -> gn.Tensor:
        first = x[rows]
        rows.assign_(rows + 1)
        return first + x[rows]

    captured = gn.capture(twice)
    for start in ([0, 1], [6, 7]):
        found = captured(gn.asarray(start)).numpy()
        np.testing.assert_array_equal(found, x.numpy()[start] + x.numpy()[np.add(start, 1)])
    with pytest.raises(IndexError, match="out of bounds"):
        captured(gn.asarray([7, 8]))
