"""Code: functions of a text in LLVM's language, compiled."""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm

from .waits import yields


class Code:
    """Functions of a text of LLVM's language, compiled, for as long as this object lives."""

    def __init__(self, text: str) -> None:
        head = "declare i32 @sched_yield()\n" if yields() else ""
        module = llvm.parse_assembly(head + text)
        module.verify()
        self.engine = llvm.create_mcjit_compiler(module, _target())
        self.engine.finalize_object()

    def address(self, name: str) -> int:
        """Where a function is."""
        return int(self.engine.get_function_address(name))


def _target() -> Any:
    """A target for code that is made quickly; MCJIT takes it over, so each has its own."""
    for prepare in (
        llvm.initialize_native_target,
        llvm.initialize_native_asmprinter,
        llvm.initialize_native_asmparser,  # for the one instruction of waiting loops
    ):
        prepare()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), opt=1
    )
