"""Kernels over flat arrays as ufuncs of NumPy's, which take least to call.

NumPy's C code looks at the operands, makes the result and calls a loop of ours, and that calls the
kernel: once where all arrays are contiguous, else for one element after the other, as it does for
operands of other shapes. A loop is made for each count and size of operands, not for each kernel.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from gradnet.dtypes import DType

from .compiler import Kernel, whole

# What Numba makes its own ufuncs with.
_numba: Any = import_module("numba.np.ufunc._internal")


def made(kernel: Kernel, given: DType, count: int, dtype: DType) -> np.ufunc:
    """The ufunc of a kernel that takes so many flat arrays of a dtype, and one for the result."""
    from .replay import machine

    loop, code = _loop(given.itemsize, count, dtype.itemsize)
    native = whole(kernel)
    found: np.ufunc = _numba.fromfunc(
        "map", None, [loop], [[*[given.num] * count, dtype.num]], count, 1,
        [machine.entry(native)], [code, native], _numba.PyUFunc_None,
    )  # fmt: skip
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
    code = Code(f"""
define void @loop(ptr %places, ptr %lengths, ptr %steps, ptr %kernel) {{
entry:
%scratch = alloca [2 x i64]
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
""")
    return code.address("loop"), code


def _call(places: str, count: str, sizes: list[int]) -> str:
    """A call of a kernel: Numba passes an array as its owner, counts, place, shape and strides."""
    given = "".join(
        f", ptr null, ptr null, i64 {count}, i64 {size}, ptr %{places}{i}, i64 {count}, i64 {size}"
        for i, size in enumerate(sizes)
    )
    return f"%status_{places} = call i32 %kernel(ptr %scratch, ptr %scratch{given})"
