"""Remarks on columns that would spoil an experiment: those that give the target away."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gradnet.data.splits import permutation
from gradnet.data.table import Column, Table, note

ROWS = 100_000
FEWEST = 20


def check(table: Table, target: Column, notes: list[str], where: str = "") -> None:
    """Note columns that equal or determine the target, and columns that number the rows.

    Nothing is left out: whether a column is known when predicting, only its owner can say. Long
    tables are judged by a sample of rows; `where` says so where only some rows were given.
    """
    if len(table) > ROWS:
        chosen = np.sort(permutation(len(table), seed=0, purpose="sample")[:ROWS])
        table, target = table.take(chosen), target.take(chosen)
    if len(table) < FEWEST:
        return
    y = _codes(target)
    for column in table:
        finding = _finding(column, target, y)
        if finding:
            note(notes, f"{where}column {column.name!r} {finding}")


def _finding(column: Column, target: Column, y: NDArray[np.int64]) -> str:
    leak = "it gives the target away; remove it unless it is known when predicting"
    x = _codes(column)
    values, classes = int(x.max()) + 1, int(y.max()) + 1
    if values == 1:
        return ""
    pairs = len(np.unique(x * classes + y))
    if values == classes == pairs and column.kind == target.kind and _same(column, target):
        return f"equals the target {target.name!r} in every row: {leak}"
    if pairs == values == classes and classes <= len(x) // 2:
        return f"goes one to one with the target {target.name!r}: {leak}"
    if pairs == values and values <= len(x) // 10:
        return f"determines the target {target.name!r} in every row: {leak}"
    if column.kind == target.kind == "number":
        both = ~column.missing & ~target.missing
        a, b = column.values[both], target.values[both]
        if len(a) >= FEWEST and a.min() < a.max() and b.min() < b.max():
            scaled = (a - a.mean()) / a.std(), (b - b.mean()) / b.std()
            if abs(float(np.mean(scaled[0] * scaled[1]))) > 1.0 - 1e-9:
                return f"is a linear function of the target {target.name!r}: {leak}"
        if bool(np.all(np.diff(column.values) == 1.0)):
            return "numbers the rows; remove it if it means nothing"
    elif column.kind == "number" and bool(np.all(np.diff(column.values) == 1.0)):
        return "numbers the rows; remove it if it means nothing"
    return ""


def _codes(column: Column) -> NDArray[np.int64]:
    """Codes 0, 1, … of the distinct cells; missing is one of them."""
    return np.unique(column.values, return_inverse=True)[1].astype(np.int64)


def _same(column: Column, target: Column) -> bool:
    if column.kind == "number":
        return bool(np.array_equal(column.values, target.values, equal_nan=True))
    return column.categories == target.categories and bool(
        np.array_equal(column.values, target.values)
    )
