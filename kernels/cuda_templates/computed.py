"""Operands that a kernel computes on its way, of the elements that lie where theirs would."""

from __future__ import annotations

from typing import NamedTuple

from gradnet import binding

from .elementwise import brought, scalar_code
from .program import definitions, loaded, stored


class Computed(NamedTuple):
    """`formula(...)` of arrays of one layout and of numbers, rounded as an array of `code` has it.

    `operands` are the codes of the arrays, and "s" where there is a number.
    """

    formula: binding.Source
    operands: tuple[str, ...]
    code: str

    def parameters(self, name: str, bits: int) -> dict[str, str]:
        """The parameters that take the place of the array `name`, and their codes."""
        codes = (scalar_code(bits) if code == "s" else f"{code}*" for code in self.operands)
        return {f"{name}{k}": code for k, code in enumerate(codes)}

    def lines(self, name: str, width: int, place: str) -> list[str]:
        """Lines that compute the elements from a place on as `<name>_<lane>`."""
        lines = []
        for k, code in enumerate(self.operands):
            if code != "s":
                lines += brought(f"{name}{k}", code, width, place)
        for lane in range(width):
            taken = ", ".join(
                f"{name}{k}" if code == "s" else f"{name}{k}_{lane}"
                for k, code in enumerate(self.operands)
            )
            lines.append(f"{name}_{lane} = {self._rounded(f'{self.formula.name}({taken})')}")
        return lines

    def _rounded(self, value: str) -> str:
        return loaded(self.code, stored(self.code, value)) if self.code in ("f2", "b2") else value


# An operand: an array of that code, or what is computed in its place.
Operand = str | Computed


def parameters(name: str, operand: Operand, bits: int) -> dict[str, str]:
    """The parameters of an operand, and their codes."""
    if isinstance(operand, Computed):
        return operand.parameters(name, bits)
    return {name: f"{operand}*"}


def lines(name: str, operand: Operand, width: int, place: str) -> list[str]:
    """Lines that bring elements of an operand, or compute them, as `<name>_<lane>`."""
    if isinstance(operand, Computed):
        return operand.lines(name, width, place)
    return brought(name, operand, width, place)


class Activation(NamedTuple):
    """What is done to a result before it is stored; `kept` also stores that itself."""

    formula: binding.Source
    kept: bool

    @property
    def scalars(self) -> list[str]:
        """The parameters of its numbers."""
        return [f"p{k}" for k in range(len(self.formula.arguments) - 1)]


def activated(code: str, value: str, activation: Activation | None, place: str) -> list[str]:
    """Lines that store a value in y, or what an activation makes of it, rounded."""
    if activation is None:
        return [f"y[{place}] = {stored(code, value)}"]
    lines = [f"u = {stored(code, value)}"]
    if activation.kept:
        lines.append(f"y[{place}] = u")
    taken = ", ".join([loaded(code, "u"), *activation.scalars])
    result = "activated" if activation.kept else "y"
    return [*lines, f"{result}[{place}] = {stored(code, f'{activation.formula.name}({taken})')}"]


def formulas_of(*used: Operand | binding.Source) -> str:
    """The definitions that the lines of operands call, and other formulas."""
    sources = (x.formula if isinstance(x, Computed) else x for x in used)
    return definitions(*(x for x in sources if isinstance(x, binding.Source)))


def agree(*sources: binding.Source) -> bool:
    """Whether one text can hold all of these: no function is another one in each of two."""
    known: dict[str, str] = {}
    for source in sources:
        for text in source.text.strip().split("\n\n\n"):
            name = text[: text.index("(")]
            if known.setdefault(name, text) != text:
                return False
    return True
