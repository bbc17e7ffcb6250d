"""Gate: a step as a function that Python calls as it calls its own, with arrays and numbers.

Of a small step the way by ctypes, with arguments packed into words before, takes a fifth of the
time. A gate is machine code that takes Python's objects where the interpreter has them: arrays as
they are, for the step finds their data, and numbers by the functions of Python's C API.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

from .. import entries, handles
from . import machine


@cache
def _python(name: str) -> str:
    """A function of Python's C API, as text."""
    place = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value
    return f"inttoptr (i64 {place} to ptr)"


def possible() -> bool:
    """Whether this interpreter's objects can be read, and its functions made, in this way."""
    return handles.DIRECT


def text(kinds: str, status: int, alone: bool) -> str:
    """The function `gate` of a module that has `step0`: one argument for each of the kinds.

    P stands for an array, Q for a whole number, d for a float. It gives the number at `status`.
    With `alone`, other threads of Python wait meanwhile.
    """
    lines = []
    for i, kind in enumerate(kinds):
        lines += [
            f"%from{i} = getelementptr ptr, ptr %arguments, i64 {i}",
            f"%given{i} = load ptr, ptr %from{i}",
            f"%into{i} = getelementptr i64, ptr %slots, i64 {i}",
        ]
        taken = f"ptr %given{i}"
        if kind != "P":
            result, name = {
                "d": ("double", "PyFloat_AsDouble"),
                "Q": ("i64", "PyLong_AsUnsignedLongLongMask"),
            }[kind]
            lines.append(f"%number{i} = call {result} {_python(name)}(ptr %given{i})")
            taken = f"{result} %number{i}"
        lines.append(f"store {taken}, ptr %into{i}")
    before, after = "", ""
    if not alone:
        before = f"%state = call ptr {_python('PyEval_SaveThread')}()"
        after = f"call void {_python('PyEval_RestoreThread')}(ptr %state)"
    body = "\n".join(lines)
    return f"""
define ptr @gate(ptr %self, ptr %arguments, i64 %count) {{
entry:
%slots = alloca [{max(len(kinds), 1)} x i64]
%fits = icmp eq i64 %count, {len(kinds)}
br i1 %fits, label %take, label %refuse
refuse:
%ignored = call i32 {_python("PyErr_BadArgument")}()
ret ptr null
take:
{body}
%raised = call ptr {_python("PyErr_Occurred")}()
%well = icmp eq ptr %raised, null
br i1 %well, label %run, label %leave
leave:
ret ptr null
run:
{before}
call void @step0(ptr %slots)
{after}
%word = load volatile i64, ptr inttoptr (i64 {status} to ptr)
%result = call ptr {_python("PyLong_FromLongLong")}(i64 %word)
ret ptr %result
}}
"""


def opened(code: machine.Code, *kept: Any) -> Callable[..., int]:
    """The gate of compiled code, which lives as long as that function, with all that is kept."""
    return entries.function(b"step", code.address("gate"), [code, *kept])
