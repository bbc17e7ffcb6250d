"""Loops that apply a formula: over any operands, with a bias, backwards, and in place.

`f` is the formula. Each builder returns a kernel's text and its signature.
"""

from __future__ import annotations

from gradnet import binding

Text = tuple[str, str]


def head(bits: int) -> str:
    """The names that kernels are written with."""
    return f"""
T = float{bits}
scalar = float64


def In(dimensions, kind=float{bits}):
    return Array(kind, dimensions)


Out = In

"""


def formula(source: binding.Source, bits: int, *, condition: bool = False) -> str:
    """The definition of `f`, and that its loops are worth the widest vectors."""
    options = ", condition=True" if condition else ""
    return f'wide = True\nf = function({source.name!r}, """\n{source.text}""", {bits}{options})\n'


def helpers(bits: int, *names: str) -> str:
    """Definitions of primitives, by name."""
    return "".join(f"{name} = primitive({name!r}, {bits})\n" for name in names)


def extreme(bits: int, kind: str) -> str:
    """The definition of `extreme(x, i, k)`: the "max" or "min" of row i of k columns of x."""
    return f"wide = True\nfrom gradnet.kernels.templates.extremes import {kind}_{bits} as extreme\n"


# How a kernel takes an operand, by a letter. Capitals: the same for arrays of bool.
#   x  an array of the result's shape     r  a row, repeated along the leading axes
#   e  an array of one element            c  a column, repeated along the trailing axes
#   s  a Python number                    y  the array that the result goes to
# Kernels take first what threads cut into parts, x and c, then the result, then the others.
CUT = "xXcC"


def copied(bits: int, into: int) -> Text:
    """`y = x`, rounded to so many bits."""
    text = """
def kernel(x, y):
    for i in range(y.size):
        y[i] = x[i]
"""
    return head(bits) + text, f"In(1), Out(1, float{into})"


def map_kernel(source: binding.Source, bits: int, pattern: str, condition: bool) -> Text:
    """`y = f(operands)`: operands and result flat, or as rows and columns where some repeat."""
    table = any(letter in "rRcC" for letter in pattern)
    dimensions, place = (2, "i, j") if table else (1, "i")
    cut, whole, before, inside, values = {}, {}, [], [], []
    for number, letter in enumerate(pattern):
        name, kind = f"a{number}", letter.lower()
        boolean = ", boolean" if letter.isupper() else ""
        if kind == "x":
            cut[name] = f"In({dimensions}{boolean})"
        elif kind == "c":
            cut[name] = f"In(1{boolean})"
            inside.append(f"s{number} = {name}[i]")
        elif kind in ("r", "e"):
            whole[name] = f"In(1{boolean})"
        elif kind == "s":
            whole[name] = "scalar"
        if kind in ("s", "e"):
            before.append(f"s{number} = " + (f"T({name})" if kind == "s" else f"{name}[0]"))
        value = {"x": f"{name}[{place}]", "r": f"{name}[j]", "y": f"y[{place}]"}
        values.append(value.get(kind, f"s{number}"))
    taken = {**cut, "y": f"Out({dimensions}{', boolean' if condition else ''})", **whole}
    call = f"y[{place}] = f({', '.join(values)})"
    lines = [f"def kernel({', '.join(taken)}):", *(f"    {line}" for line in before)]
    if table:
        lines += ["    for i in range(y.shape[0]):", *(f"        {line}" for line in inside)]
        lines += ["        for j in range(y.shape[1]):", f"            {call}"]
    else:
        lines += ["    for i in range(y.size):", f"        {call}"]
    text = head(bits) + formula(source, bits, condition=condition) + "\n\n" + "\n".join(lines)
    return text + "\n", ", ".join(taken.values())


def _parameters(count: int) -> tuple[str, str, str, str]:
    """Trailing scalars: as arguments, as lines, as operands and in a signature."""
    numbers = range(count)
    return (
        "".join(f", p{i}" for i in numbers),
        "".join(f"    s{i} = T(p{i})\n" for i in numbers),
        "".join(f", s{i}" for i in numbers),
        ", scalar" * count,
    )


def bias_activation(source: binding.Source, bits: int, in_place: bool) -> Text:
    """`y = f(z + bias)`, and `z + bias` left in z; with `in_place`, y is z."""
    arguments, lines, operands, signature = _parameters(len(source.arguments) - 1)
    text = f"""
def kernel(z{"" if in_place else ", y"}, bias{arguments}):
{lines}    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            v = z[i, j] + bias[j]
            {"z" if in_place else "z[i, j] = v" + chr(10) + "            y"}[i, j] = f(v{operands})
"""
    taken = "Out(2), In(1)" if in_place else "Out(2), Out(2), In(1)"
    return head(bits) + formula(source, bits) + "\n" + text, taken + signature


def bias_activation_backward(source: binding.Source, bits: int, in_place: bool) -> Text:
    """`dz = f(g, saved)`, and the sums of its columns over each block of rows.

    With `in_place`, dz is g.
    """
    arguments, lines, operands, signature = _parameters(len(source.arguments) - 2)
    text = f"""
def kernel(g, saved{"" if in_place else ", dz"}, sums, block{arguments}):
{lines}    for b in range(sums.shape[0]):
        for j in range(sums.shape[1]):
            sums[b, j] = T(0)
        end = b * block + block
        for i in range(b * block, end if end < g.shape[0] else g.shape[0]):
            for j in range(g.shape[1]):
                v = f(g[i, j], saved[i, j]{operands})
                {"g" if in_place else "dz"}[i, j] = v
                sums[b, j] += v
"""
    given = "Out(2), In(2)" if in_place else "In(2), In(2), Out(2)"
    taken = f"{given}, Out(2), int64"
    return head(bits) + formula(source, bits) + "\n" + text, taken + signature


def update(source: binding.Source, bits: int, arrays: int) -> Text:
    """`p, *state = f(p, g, *state, *scalars)` on every element, in place."""
    state = [f"a{i}" for i in range(arrays - 2)]
    arguments, lines, operands, signature = _parameters(len(source.arguments) - arrays)
    kept = ["p", *state]
    results = ", ".join(f"{name}_new" for name in kept)
    values = ", ".join(f"{name}[i]" for name in ["p", "g", *state])
    stores = "".join(f"        {name}[i] = {name}_new\n" for name in kept)
    text = f"""
def kernel({", ".join(["p", "g", *state])}{arguments}):
{lines}    for i in range(p.size):
        {results} = f({values}{operands})
{stores}"""
    taken = ", ".join(["Out(1)", "In(1)", *["Out(1)"] * len(state)])
    return head(bits) + formula(source, bits) + "\n" + text, taken + signature
