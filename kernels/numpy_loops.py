"""NumPy's own loops as kernels, so that threads share large arrays: to the bits that NumPy gives.

A ufunc keeps the address of a loop for each of its types, as NumPy's C API says. Threads call it
on whole lines of elements: where a part of an array ends, so does a vector of any processor.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np

from gradnet.dtypes import DType, bool_

from . import entries, handles, kinds, threads
from .compiler import Compiled
from .habits import Habits

# Elements of a line, which no vector is longer than.
LINE = 64

# Where a ufunc has, after the counts of its operands, its loops, what they are given, and how many
# they are.
_COUNTS = object.__basicsize__
_LOOPS, _DATA, _TYPES = _COUNTS + 16, _COUNTS + 24, _COUNTS + 32

_held: list[Any] = []


def loop(ufunc: np.ufunc, types: str) -> tuple[int, int] | None:
    """The addresses of a ufunc's loop for types, and of what that is given beside its arrays."""
    if not handles.DIRECT or types not in ufunc.types:
        return None
    counts = (ctypes.c_int * 3).from_address(id(ufunc) + _COUNTS)
    known = ctypes.c_int.from_address(id(ufunc) + _TYPES).value
    if (*counts, known) != (ufunc.nin, ufunc.nout, ufunc.nargs, len(ufunc.types)):
        return None
    at = 8 * ufunc.types.index(types)
    loops, data = (
        ctypes.c_size_t.from_address(id(ufunc) + place).value for place in (_LOOPS, _DATA)
    )
    code = ctypes.c_size_t.from_address(loops + at).value
    return (code, ctypes.c_size_t.from_address(data + at).value if data else 0) if code else None


def habits(ufunc: np.ufunc, given: DType, dtype: DType) -> Habits:
    """What is known of a ufunc's loop for operands and a result of dtypes on several threads."""
    return threads.habits_of((ufunc, given, dtype))


@cache
def kernel(ufunc: np.ufunc, given: DType, dtype: DType, pattern: str) -> Compiled | None:
    """A ufunc as a kernel on operands and a result; None where its loop is not found.

    `pattern` has a letter for each operand: "x" for an array with as many elements as the result,
    whatever its axes, "e" for one of one element, and "s" for a number. First comes the result,
    flat; then the arrays as long, which may be cut into lines, and then the others.
    """
    from .replay.code import Code

    letter = {4: "f", 8: "d"}[given.itemsize]
    found = loop(ufunc, f"{letter * len(pattern)}->{'?' if dtype is bool_ else letter}")
    if found is None:
        return None
    code, data = found
    kind = kinds.KINDS[given.name]
    result = kinds.KINDS["boolean" if dtype is bool_ else given.name]
    last, count = len(pattern), len(pattern) + 1
    order = [last, *sorted(range(last), key=lambda i: pattern[i] != "x")]
    arguments: list[kinds.Argument] = []
    names, body = [], []
    for i in order:
        sign = pattern[i] if i < last else "x"
        of = kind if i < last else result
        place = f"%a{i}"
        if sign == "s":
            arguments.append(kinds.KINDS["float64"])
            names.append(f"double %n{i}")
            place = f"%p{i}"
            body.append(f"{place} = alloca double")
            value = f"double %n{i}"
            if given.itemsize == 4:
                body.append(f"%f{i} = fptrunc {value} to float")
                value = f"float %f{i}"
            body.append(f"store {value}, ptr {place}")
        else:
            arguments.append(kinds.Array(of, 1))
            names += [f"ptr {place}", f"i64 %n{i}"]
        for what, put in (
            ("places", f"ptr {place}"),
            ("steps", f"i64 {of.itemsize * (sign == 'x')}"),
        ):
            body.append(f"%{what}{i} = getelementptr i64, ptr %{what}, i64 {i}")
            body.append(f"store {put}, ptr %{what}{i}")
    lines = "\n".join(body)
    text = f"""
define void @kernel({", ".join(names)}) {{
%places = alloca [{count} x i64]
%steps = alloca [{count} x i64]
%length = alloca i64
{lines}
store i64 %n{last}, ptr %length
%given = inttoptr i64 {data} to ptr
call void inttoptr (i64 {code} to ptr)(ptr %places, ptr %length, ptr %steps, ptr %given)
ret void
}}
"""
    taken = tuple(arguments)
    entries.prepare()
    made = Code(text + entries.text("entry", "kernel", taken))
    _held.append((made, ufunc))
    call = entries.function(b"kernel", made.address("entry"))
    return Compiled(made.address("kernel"), taken, call, LINE)
