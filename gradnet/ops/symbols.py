"""Arithmetic of numbers, traced: an optimizer's scalars become a formula that a device computes."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from gradnet import binding, formulas
from gradnet.backends import Formula

_Step = tuple[str, Formula, tuple[str, ...]]
_ROOT: Any = formulas.FORMULAS["sqrt"]


class Trace:
    """The formula of what is done to its symbols; other numbers become arguments behind `names`."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._steps: list[_Step] = []
        self._constants: dict[float, str] = {}

    def symbol(self, name: str) -> Symbol:
        """The argument of that name."""
        return Symbol(self, name)

    def apply(self, formula: Formula, *operands: Any) -> Symbol:
        """A formula of symbols and numbers."""
        local = f"v{len(self._steps)}"
        self._steps.append((local, formula, tuple(map(self._name, operands))))
        return Symbol(self, local)

    def formula(self, *results: Any) -> tuple[Formula, tuple[float, ...]]:
        """The formula that returns these, and the numbers that it takes behind its names."""
        returned = tuple(map(self._name, results))
        names = (*self._names, *self._constants.values())
        return _combined(names, tuple(self._steps), returned), tuple(self._constants)

    def _name(self, x: Any) -> str:
        if isinstance(x, Symbol):
            return x.name
        return self._constants.setdefault(float(x), f"c{len(self._constants)}")


class Symbol:
    """A number that is not known yet."""

    __slots__ = ("name", "trace")

    def __init__(self, trace: Trace, name: str) -> None:
        self.trace = trace
        self.name = name

    def __add__(self, other: Any) -> Symbol:
        return self.trace.apply(formulas.add, self, other)

    def __radd__(self, other: Any) -> Symbol:
        return self.trace.apply(formulas.add, other, self)

    def __sub__(self, other: Any) -> Symbol:
        return self.trace.apply(formulas.subtract, self, other)

    def __rsub__(self, other: Any) -> Symbol:
        return self.trace.apply(formulas.subtract, other, self)

    def __mul__(self, other: Any) -> Symbol:
        return self.trace.apply(formulas.multiply, self, other)

    def __rmul__(self, other: Any) -> Symbol:
        return self.trace.apply(formulas.multiply, other, self)

    def __truediv__(self, other: Any) -> Symbol:
        return self.trace.apply(formulas.divide, self, other)

    def __rtruediv__(self, other: Any) -> Symbol:
        return self.trace.apply(formulas.divide, other, self)

    def __pow__(self, exponent: float) -> Symbol:
        if exponent != 0.5:
            raise TypeError(f"a traced number can be taken to the power 0.5, not {exponent!r}")
        return self.trace.apply(_ROOT, self)


@lru_cache(maxsize=256)
def _combined(
    names: tuple[str, ...], steps: tuple[_Step, ...], returned: tuple[str, ...]
) -> Formula:
    """One formula for all traces that are alike: kernels are kept by it."""
    return binding.combine("advance", names, steps, returned)
