"""Checks of values on the device: what is found is left where the host looks later."""

from __future__ import annotations

from .program import THREADS, Program, indented, loaded

# The most blocks that look at an array, each with a place of its own for what it finds first.
BLOCKS = 32
_TERMS = 4


def blocks_of(count: int) -> int:
    """How many blocks look at so many elements."""
    return max(1, min(-(-count // (THREADS * _TERMS)), BLOCKS))


def outside(code: str, bits: int, size: int, width: int) -> Program:
    """Notes the first element of `x` outside low ... high, NaN being outside.

    Parameters: x, shown, notes, values, n, low, high. Block b keeps what it finds first, in this
    launch or a later one: in `notes[b]` the number of the launch, from 1; in `notes[BLOCKS + b]`
    the element i; and in `values` the `width` numbers of `shown`, of `size` bytes each, of i.
    `notes[2 * BLOCKS + b]` counts launches. All are 0 at first.
    """
    whole = code[0] in "iu"
    lines = [
        f"shared = cuda.shared.array({THREADS}, I)",
        "t = cuda.threadIdx.x",
        "b = cuda.blockIdx.x",
        "found = notes[b]",
        "step = cuda.gridsize(1)",
        "best = I(n)",
        "end = I(0) if found != 0 else I(n)",
        "i = cuda.grid(1)",
        "while i < end:",
        f"    v = {'I(x[i])' if whole else loaded(code, 'x[i]')}",
        "    if v >= low and v <= high:",
        "        i = i + step",
        "    else:",
        "        best = I(i)",
        "        end = I(0)",
        "shared[t] = best",
        "cuda.syncthreads()",
        f"reach = {THREADS // 2}",
        "while reach > 0:",
        "    if t < reach:",
        "        shared[t] = min(shared[t], shared[t + reach])",
        "    cuda.syncthreads()",
        "    reach = reach >> 1",
        "if t == 0 and found == 0:",
        f"    launches = notes[{2 * BLOCKS} + b] + 1",
        f"    notes[{2 * BLOCKS} + b] = launches",
        "    if shared[0] < n:",
        "        notes[b] = launches",
        f"        notes[{BLOCKS} + b] = shared[0]",
        *(
            f"        values[b * {width} + {k}] = shown[shared[0] * {width} + {k}]"
            for k in range(width)
        ),
    ]
    text = "def kernel(x, shown, notes, values, n, low, high):\n" + indented(lines, 1)
    moved, number = f"u{size}*", "i8" if whole else f"f{bits // 8}"
    signature = (f"{code}*", moved, "i8*", moved, "i8", number, number)
    return Program("flag", text, signature, bits)
