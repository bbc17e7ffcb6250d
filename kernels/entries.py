"""Kernels as functions of Python, in machine code: they take arrays and numbers as objects.

A call through ctypes takes a microsecond, longer than a small array's loop. This code reads an
array where NumPy's C API says it is, and lets other threads of the interpreter run meanwhile.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import llvmlite.binding as llvm

from . import handles
from .kinds import Argument, Array, Kind

Entry = Callable[..., Any]

# Functions of Python that the code calls.
_PYTHON = ("PyFloat_AsDouble", "PyLong_AsLongLong", "PyLong_AsUnsignedLongLongMask",
           "PyErr_Occurred", "PyErr_BadArgument", "PyEval_SaveThread", "PyEval_RestoreThread",
           "PyLong_FromLongLong", "Py_IncRef")  # fmt: skip
_HEAD = """
declare double @PyFloat_AsDouble(ptr)
declare i64 @PyLong_AsLongLong(ptr)
declare i64 @PyLong_AsUnsignedLongLongMask(ptr)
declare ptr @PyErr_Occurred()
declare i32 @PyErr_BadArgument()
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
declare ptr @PyLong_FromLongLong(i64)
declare void @Py_IncRef(ptr)
"""


def text(name: str, kernel: str, arguments: tuple[Argument, ...]) -> str:
    """A function `name` of Python, by its fast calling convention, that calls a kernel.

    Its self is None, which it returns.
    """
    lines, given = reading(arguments)
    run = f"call void @{kernel}({', '.join(given)})"
    return calling(name, lines, len(arguments), run, "call void @Py_IncRef(ptr %none)", "%none")


def reading(arguments: tuple[Argument, ...]) -> tuple[list[str], list[str]]:
    """The lines that take arguments out of the objects %given; for each, what a kernel is given."""
    lines, given = [], []
    for i, x in enumerate(arguments):
        lines += [f"%p{i} = getelementptr ptr, ptr %given, i64 {i}", f"%o{i} = load ptr, ptr %p{i}"]
        if isinstance(x, Array):
            lines += [
                f"%d{i} = getelementptr i8, ptr %o{i}, i64 {handles.DATA}",
                f"%a{i} = load ptr, ptr %d{i}",
                f"%l{i} = getelementptr i8, ptr %o{i}, i64 {handles.LENGTHS}",
                f"%m{i} = load ptr, ptr %l{i}",
            ]
            given.append(f"ptr %a{i}")
            for axis in range(x.ndim):
                lines.append(f"%q{i}_{axis} = getelementptr i64, ptr %m{i}, i64 {axis}")
                lines.append(f"%n{i}_{axis} = load i64, ptr %q{i}_{axis}")
                given.append(f"i64 %n{i}_{axis}")
        else:
            kind, function = _taken(x)
            lines.append(f"%a{i} = call {kind} @{function}(ptr %o{i})")
            given.append(f"{kind} %a{i}")
    return lines, given


def calling(name: str, lines: list[str], count: int, run: str, after: str, result: str) -> str:
    """A function `name` of Python: `lines` take what it is given, `run` needs no interpreter."""
    body = "\n".join(lines)
    return f"""{_HEAD}
define ptr @{name}(ptr %none, ptr %given, i64 %count) {{
%right = icmp eq i64 %count, {count}
br i1 %right, label %read, label %wrong
wrong:
%told = call i32 @PyErr_BadArgument()
ret ptr null
read:
{body}
%error = call ptr @PyErr_Occurred()
%fine = icmp eq ptr %error, null
br i1 %fine, label %run, label %failed
failed:
ret ptr null
run:
%state = call ptr @PyEval_SaveThread()
{run}
call void @PyEval_RestoreThread(ptr %state)
{after}
ret ptr {result}
}}
"""


def _taken(kind: Kind) -> tuple[str, str]:
    """LLVM's type of a number, and Python's function that gives it."""
    if kind.sort == "float":
        return "double", "PyFloat_AsDouble"
    return "i64", f"PyLong_As{'UnsignedLongLongMask' if kind.sort == 'unsigned' else 'LongLong'}"


@cache
def prepare(names: tuple[str, ...] = _PYTHON) -> None:
    """Tell LLVM where functions of Python's are."""
    for name in names:
        function = getattr(ctypes.pythonapi, name)
        llvm.add_symbol(name, ctypes.cast(function, ctypes.c_void_p).value)


class _Definition(ctypes.Structure):
    """PyMethodDef, what Python knows of a function that is machine code."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("code", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("text", ctypes.c_char_p),
    )


# A call with objects side by side, and how many; with names of the last ones (METH_FASTCALL and
# METH_KEYWORDS of CPython's methodobject.h).
_SIDE_BY_SIDE, _NAMED = 0x0080, 0x0002
_held: list[Any] = []


def function(name: bytes, address: int, itself: list[Any] | None = None) -> Entry:
    """The function of Python whose code is at an address.

    It holds the list that is its self; one whose self is None is never to end.
    """
    definition = _Definition(name, address, _SIDE_BY_SIDE, None)
    (_held if itself is None else itself).append(definition)
    return _made(definition, itself)


def bound(name: bytes, address: int, itself: tuple[Any, ...], text: bytes | None = None) -> Entry:
    """One of the functions whose code is at an address, which never ends: it may be given names.

    `text` is its signature and docstring, as Python reads both of a function of C's.
    """
    return _made(_definition(name, address, text), itself)


@cache
def _definition(name: bytes, address: int, text: bytes | None) -> _Definition:
    return _Definition(name, address, _SIDE_BY_SIDE | _NAMED, text)


def _made(definition: _Definition, itself: Any) -> Entry:
    make = ctypes.PYFUNCTYPE(
        ctypes.py_object, ctypes.POINTER(_Definition), ctypes.py_object, ctypes.py_object
    )(("PyCFunction_NewEx", ctypes.pythonapi))
    found: Entry = make(ctypes.byref(definition), itself, None)
    return found


def by_ctypes(address: int, arguments: tuple[Argument, ...]) -> Entry:
    """The same for a kernel itself, where arrays are not as NumPy's C API says."""
    types: list[Any] = []
    for x in arguments:
        if isinstance(x, Array):
            types += [ctypes.c_void_p, *[ctypes.c_int64] * x.ndim]
        else:
            types.append(ctypes.c_double if x.sort == "float" else ctypes.c_int64)
    call = ctypes.CFUNCTYPE(None, *types)(address)

    def kernel(*given: Any) -> None:
        words: list[Any] = []
        for x, value in zip(arguments, given, strict=True):
            words += [value.ctypes.data, *value.shape] if isinstance(x, Array) else [value]
        call(*words)

    return kernel
