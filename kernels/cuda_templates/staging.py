"""What a captured step is given for a replay, and what it gives: copies, and numbers."""

from __future__ import annotations

from .program import Program, indented


def copies(codes: tuple[str, ...], words: int, several: bool) -> Program:
    """`y[i] = x[i]` for pairs of arrays, and numbers written side by side.

    Parameters: for each pair x, y, n; with `several` also the number of parts that follow one
    another, each of n elements, and how many elements further a part of x and of y begins; then,
    if there are words, where they are written, and each of them.
    """
    names, signature = [], []
    lines = ["step = cuda.gridsize(1)", "start = cuda.grid(1)"]
    if words:
        lines.append("if start == 0:")
        lines += [f"    table[{k}] = w{k}" for k in range(words)]
    for k, code in enumerate(codes):
        names += [f"x{k}", f"y{k}", f"n{k}"]
        signature += [f"{code}*", f"{code}*", "i8"]
        total, target, source = f"n{k}", "i", "i"
        if several:
            names += [f"parts{k}", f"from{k}", f"to{k}"]
            signature += ["i8"] * 3
            total = f"n{k} * parts{k}"
            target, source = f"part * to{k} + at", f"part * from{k} + at"
        lines += ["i = start", f"while i < {total}:"]
        if several:
            lines += [f"    part = I(U(i) // U(n{k}))", f"    at = i - part * n{k}"]
        lines += [f"    y{k}[{target}] = x{k}[{source}]", "    i = i + step"]
    if words:
        names += ["table", *(f"w{k}" for k in range(words))]
        signature += ["u8*", *["u8"] * words]
    text = f"def kernel({', '.join(names)}):\n" + indented(lines, 1)
    return Program("stage", text, signature, 32)
