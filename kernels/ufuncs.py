"""Kernels over flat arrays as ufuncs of NumPy's, which take least to call.

NumPy's C code looks at the operands, makes the result and calls a loop of ours, and that calls the
kernel: once where all arrays are contiguous, else for one element after the other, as it does for
operands of other shapes. A loop is made for each count and size of operands, not for each kernel.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np

from gradnet.dtypes import DType

from . import numpy_api
from .compiler import Kernel, whole

# Where NumPy's ufunc API has PyUFunc_FromFuncAndData, and what is no identity there.
_FROM, _NONE = 1, -1


@cache
def _maker() -> Any:
    """NumPy's function that makes a ufunc, and keeps nothing of what it is given."""
    number, text = ctypes.c_int, ctypes.c_char_p
    given = (*[ctypes.c_void_p] * 3, *[number] * 4, text, text, number)
    return ctypes.PYFUNCTYPE(ctypes.py_object, *given)(numpy_api.address("ufunc", _FROM))


# What the ufuncs refer to.
_held: list[Any] = []


def made(kernel: Kernel, given: DType, count: int, dtype: DType) -> np.ufunc:
    """The ufunc of a kernel that takes so many flat arrays of a dtype, and one for the result."""
    loop, code = _loop(given.itemsize, count, dtype.itemsize)
    native = whole(kernel)
    functions, data = (ctypes.c_void_p * 1)(loop), (ctypes.c_void_p * 1)(native.address)
    types = (ctypes.c_byte * (count + 1))(*[given.num] * count, dtype.num)
    _held.append((functions, data, types, code, native))
    places = [ctypes.addressof(x) for x in (functions, data, types)]
    found: np.ufunc = _maker()(*places, 1, count, 1, _NONE, b"map", None, 0)
    return found


@cache
def _loop(given: int, count: int, size: int) -> tuple[int, Any]:
    """The address of a loop for operands and a result of those sizes, and what holds its code."""
    from .replay.code import Code

    sizes = [*[given] * count, size]
    numbers = range(len(sizes))
    head, dense = [], "true"
    for i in numbers:
        head += [
            f"%a{i} = getelementptr ptr, ptr %places, i64 {i}",
            f"%p{i} = load ptr, ptr %a{i}",
            f"%b{i} = getelementptr i64, ptr %steps, i64 {i}",
            f"%s{i} = load i64, ptr %b{i}",
            f"%c{i} = icmp eq i64 %s{i}, {sizes[i]}",
            f"%d{i} = and i1 {dense}, %c{i}",
        ]
        dense = f"%d{i}"
    ahead = []
    for i in numbers:
        ahead += [f"%m{i} = mul i64 %i, %s{i}", f"%q{i} = getelementptr i8, ptr %p{i}, i64 %m{i}"]
    code = Code(
        f"""
define void @loop(ptr %places, ptr %lengths, ptr %steps, ptr %kernel) {{
entry:
%n = load i64, ptr %lengths
{chr(10).join(head)}
br i1 {dense}, label %whole, label %look
whole:
{_call("p", "%n", sizes)}
br label %end
look:
%i = phi i64 [ 0, %entry ], [ %next, %turn ]
%more = icmp slt i64 %i, %n
br i1 %more, label %turn, label %end
turn:
{chr(10).join(ahead)}
{_call("q", "1", sizes)}
%next = add i64 %i, 1
br label %look
end:
ret void
}}
""",
        keep=True,
    )
    return code.address("loop"), code


def _call(places: str, count: str, sizes: list[int]) -> str:
    """A call of a kernel: of each array its place and length."""
    given = ", ".join(f"ptr %{places}{i}, i64 {count}" for i in range(len(sizes)))
    return f"call void %kernel({given})"
