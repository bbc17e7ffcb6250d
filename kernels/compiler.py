"""Generated kernels: text in, compiled function out, kept on disk for the next process.

A kernel's text holds everything it computes, so the hash of the text, with that of the code that
writes LLVM's, names its file in the cache: see objects.py. A process that finds it there loads it,
and parses, optimizes and compiles nothing.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

from llvmlite import ir

from . import entries, handles, kinds, loops, lowering, objects
from .templates import (
    column_sums,
    elementary,
    extremes,
    gather,
    gaussian,
    philox,
    short_rows,
    softmax,
)

Kernel = Callable[..., Any]

_lock = threading.RLock()


class Compiled:
    """A compiled kernel.

    address    its machine code: `void kernel(place, lengths..., number)`
    arguments  what it takes, as numbers and arrays
    call       the same as a function of Python: whoever calls it must know that every array has
               the dtype, the count of axes and the layout that the signature says
    step       where threads may cut arrays: at multiples of so many rows
    """

    def __init__(
        self, address: int, arguments: tuple[kinds.Argument, ...], call: Kernel, step: int = 1
    ) -> None:
        self.address, self.arguments, self.call, self.step = address, arguments, call, step

    def __call__(self, *given: Any) -> None:
        self.call(*given)


_kernels: dict[tuple[str, str], Compiled] = {}
# The kernel of each function that has been asked for.
_entered: dict[Kernel, Compiled] = {}


def compiled(text: str, signature: str) -> Compiled:
    """The function `kernel` of a text, compiled for a signature, such as "In(1), Out(1), scalar".

    See loops.py for what the text may say.
    """
    key = text, signature
    found = _kernels.get(key)
    if found is not None:
        return found
    with _lock:
        found = _kernels.get(key)
        if found is None:
            found = _kernels[key] = _load(text, signature)
    return found


def entry(kernel: Compiled) -> Kernel:
    """A kernel as a function of Python, which is faster to call."""
    _entered[kernel.call] = kernel
    return kernel.call


def whole(kernel: Kernel) -> Compiled:
    """The kernel of which this is the `entry`, or the kernel itself."""
    return kernel if isinstance(kernel, Compiled) else _entered[kernel]


@cache
def _engine() -> objects.Engine:
    entries.prepare()
    return objects.Engine()


def _load(text: str, signature: str) -> Compiled:
    processor = objects.host()
    words = (text, signature, processor, _writers(), handles.DATA)
    # Functions of one engine have names of their own.
    name = hashlib.sha256(f"{text}{signature}".encode()).hexdigest()
    kept = objects.kept("kernel", words, lambda: _compile(name, text, signature))
    engine = _engine()
    told, _, code = kept.partition(b"\n")
    line, _, symbols = told.decode().partition("|")
    for symbol in symbols.split():
        if not objects.known(symbol):
            raise LookupError(f"the platform's library has no {symbol!r}")
    engine.load(code)
    address, arguments = engine.address(f"kernel_{name}"), kinds.read(line)
    if handles.DIRECT:
        call = entries.function(b"kernel", engine.address(f"entry_{name}"))
    else:
        call = entries.by_ctypes(address, arguments)
    return Compiled(address, arguments, call)


def _compile(name: str, text: str, signature: str) -> bytes:
    """A line of what the kernel takes and calls, and its machine code."""
    machine = objects.machine(objects.host(), 3)
    module = ir.Module()
    arguments = loops.lower(module, f"kernel_{name}", text, signature)
    whole = f"{module}\n{entries.text(f'entry_{name}', f'kernel_{name}', arguments)}"
    parsed = objects.optimized(machine, whole, 3)
    symbols = [
        x.name for x in parsed.functions if x.is_declaration and not x.name.startswith("llvm.")
    ]
    head = f"{kinds.told(arguments)}|{' '.join(symbols)}\n"
    made: bytes = machine.emit_object(parsed)
    return head.encode() + made


@cache
def _writers() -> str:
    """The code that a kernel's code depends on beside its text."""
    own = (column_sums, elementary, extremes, gather, gaussian, philox, short_rows, softmax)
    return objects.texts((lowering, loops, entries, *own))
