"""Code: functions of a text in LLVM's language, compiled."""

from __future__ import annotations

import llvmlite.binding as llvm

from .. import objects
from .waits import yields


class Code:
    """Functions of a text of LLVM's language, compiled, for as long as this object lives."""

    def __init__(self, text: str) -> None:
        head = "declare i32 @sched_yield()\n" if yields() else ""
        module = llvm.parse_assembly(head + text)
        module.verify()
        self.engine = llvm.create_mcjit_compiler(module, objects.machine(objects.host(), 1))
        self.engine.finalize_object()

    def address(self, name: str) -> int:
        """Where a function is."""
        return int(self.engine.get_function_address(name))
