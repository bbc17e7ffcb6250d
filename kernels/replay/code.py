"""Code: functions of a text in LLVM's language, compiled."""

from __future__ import annotations

import llvmlite.binding as llvm

from .. import objects
from .waits import yields


class Code:
    """Functions of a text of LLVM's language, compiled, for as long as this object lives.

    With `keep`, the code is kept on disk: it is that of every process.
    """

    def __init__(self, text: str, keep: bool = False) -> None:
        def make() -> bytes:
            head = "declare i32 @sched_yield()\n" if yields() else ""
            module = llvm.parse_assembly(head + text)
            module.verify()
            made: bytes = objects.machine(objects.host(), 1).emit_object(module)
            return made

        self._engine = objects.Engine()
        self._engine.load(objects.kept("code", (text, objects.host()), make) if keep else make())

    def address(self, name: str) -> int:
        """Where a function is."""
        return self._engine.address(name)
