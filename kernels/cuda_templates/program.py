"""A kernel as text, and the lines that all of them are written with.

A text defines `kernel`, the work of one thread. It is compiled for the device by Numba, and runs
as it stands in Numba's simulator. Arrays are flat pointers, indices int64. A signature lists the
parameters: `f4*` is a pointer to float32, `i8` an int64. The codes are NumPy's but for two: `b2`
is bfloat16 and `u1` a bool.
"""

from __future__ import annotations

from collections.abc import Sequence

from gradnet import binding

# Threads in a block, and the most blocks of a loop over elements: 16 on each of a large device's
# 132 multiprocessors. A thread takes a further element for each grid's length.
THREADS = 256
BLOCKS = 132 * 16

# Bytes that one load brings at most.
WIDEST = 16

# A formula longer than this is not written once for each element of a wide load: it computes long
# enough to hide the loads, and compiles four times as fast. One of half that length is written
# four times at most.
LONG = 2000


class Program:
    """The text of a kernel, its signature, and the threads that a block of it has.

    `bits` is the size of T, the float type that it computes in; `kind` names it in reports.
    """

    __slots__ = ("bits", "key", "kind", "signature", "text", "threads")

    def __init__(
        self, kind: str, text: str, signature: Sequence[str], bits: int, threads: int = 0
    ) -> None:
        self.kind = kind
        self.text = text
        self.signature = tuple(signature)
        self.bits = bits
        self.threads = threads = threads or THREADS
        self.key = f"{kind} {bits} {threads} {' '.join(signature)}\n{text}"

    def __repr__(self) -> str:
        return f"Program({self.kind!r}, {' '.join(self.signature)!r}, {self.bits} bits)"


def definitions(*sources: binding.Source) -> str:
    """The formulas of a text, inlined where they are called."""
    texts: dict[str, None] = {}
    for source in sources:
        for one in source.text.strip().split("\n\n\n"):
            texts[one] = None
    return "".join(f"@device\n{one}\n\n\n" for one in texts)


def loaded(code: str, place: str) -> str:
    """An element of an array as a T."""
    return {"u1": f"T({place})", "f2": f"T({place})", "b2": f"widened({place})"}.get(code, place)


def stored(code: str, value: str) -> str:
    """A T as an element of an array; a condition where the array is of bool."""
    return {"f2": f"half({value})", "b2": f"narrowed({value})"}.get(code, value)


def indented(lines: Sequence[str], depth: int) -> str:
    return "".join(f"{'    ' * depth}{line}\n" for line in lines)


def blocks_for(elements: int) -> int:
    """How many blocks a loop over so many elements is given.

    It depends on the number of elements alone, so that results do.
    """
    return max(1, min(-(-elements // THREADS), BLOCKS))
