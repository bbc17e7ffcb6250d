"""Formulas bound to Tensors: a formula becomes an expression of ops, which differentiates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from gradnet import binding, formulas
from gradnet.backends import Formula


class _Names(Mapping[str, Any]):
    """The elementwise ops by name, made when a formula first calls them.

    A formula that has a row is called as an op: its derivative is the row's, not one found by
    tracing through its branches.
    """

    def __getitem__(self, name: str) -> Any:
        from gradnet.ops.elementwise import op

        return op(name)

    def __iter__(self) -> Iterator[str]:
        return (row.name for row in formulas.rows())

    def __len__(self) -> int:
        return len(formulas.rows())


_NAMES = _Names()


@cache
def bind_to_tensors(formula: Formula) -> Callable[..., Any]:
    """The formula as a function of Tensors and scalars."""
    bound: Callable[..., Any] = binding.bind(formula, _NAMES)
    return bound
