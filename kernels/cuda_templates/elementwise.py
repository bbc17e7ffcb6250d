"""Loops over elements: any formula on any operands, a bias with an activation, an update.

An operand is described by its layout and its code, such as "c.f4":
    c  an array laid out like the loop            t  strided: an offset from the coordinates
    e  one element                                s  a number, passed by value
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gradnet import binding

from .program import LONG, Program, definitions, indented, loaded, stored

# Of more arrays than this a thread takes so many elements at a time at most: it has registers for
# those, and more warps hide what time it waits for memory.
MANY, FEW = 3, 4


def scalar_code(bits: int) -> str:
    return f"f{bits // 8}"


def loop(
    width: int, count: str, body: Callable[[int, str], list[str]], before: Sequence[str] = ()
) -> str:
    """A loop over `count` elements, `width` at a time; `body` writes the work at index i.

    The thread whose group is cut off by the end does the rest one by one.
    """
    lines = [*before, "step = cuda.gridsize(1)", "i = cuda.grid(1)"]
    if width > 1:
        lines += [f"step = step * {width}", f"i = i * {width}", f"while i + {width} <= {count}:"]
        lines += [f"    {line}" for line in body(width, "i")] + ["    i = i + step"]
        lines += [f"while i < {count}:"]
        lines += [f"    {line}" for line in body(1, "i")] + ["    i = i + 1"]
    else:
        lines += [f"while i < {count}:"]
        lines += [f"    {line}" for line in body(1, "i")] + ["    i = i + step"]
    return indented(lines, 1)


def brought(name: str, code: str, width: int, place: str = "i") -> list[str]:
    """Lines that bring elements of an array as `<name>_<lane>`."""
    if width == 1:
        return [f"{name}_0 = {loaded(code, f'{name}[{place}]')}"]
    lanes = [f"{name}_{k} = {loaded(code, f'{name}_all[{k}]')}" for k in range(width)]
    return [f"{name}_all = load{width}({name}, {place})", *lanes]


def put(name: str, code: str, values: Sequence[str], place: str = "i") -> str:
    if len(values) == 1:
        return f"{name}[{place}] = {stored(code, values[0])}"
    lanes = ", ".join(stored(code, value) for value in values)
    return f"store{len(values)}({name}, {place}, ({lanes}))"


def map_program(
    source: binding.Source,
    bits: int,
    operands: tuple[str, ...],
    result: str,
    dimensions: int,
    width: int,
    small: bool,
) -> Program:
    """`y = f(operands)`; parameters: operands, y, n, all lengths but the first, strides.

    A strided operand or result has a stride for each dimension. `small`: n is below 2**31, so
    that coordinates need no 64-bit division.
    """
    names, signature, before, loads, strides = [], [], [], [], []
    values = []
    for number, operand in enumerate(operands):
        name = f"a{number}"
        layout, _, code = operand.partition(".")
        names.append(name)
        signature.append(scalar_code(bits) if layout == "s" else f"{code}*")
        if layout == "s":
            values.append(name)
        elif layout == "e":
            before.append(f"{name}_e = {loaded(code, f'{name}[0]')}")
            values.append(f"{name}_e")
        else:
            place = f"{name}_at" if layout == "t" else "i"
            loads.append((name, code, place))
            values.append(f"{name}_{{lane}}")
            if layout == "t":
                strides.append(name)
    layout, _, code = result.partition(".")
    if layout == "t":
        strides.append("y")
    lengths = [f"n{d}" for d in range(1, dimensions)]
    names += ["y", "n", *lengths, *(f"{s}_s{d}" for s in strides for d in range(dimensions))]
    signature += [f"{code}*", "i8"]
    signature += ["i8"] * (len(lengths) + len(strides) * dimensions)

    unsigned = "W" if small else "U"
    coordinates = []
    if strides:
        coordinates.append(f"r = {unsigned}(i)")
        for d in reversed(range(1, dimensions)):
            coordinates.append(f"c{d} = I(r % {unsigned}(n{d}))")
            coordinates.append(f"r = {unsigned}(r // {unsigned}(n{d}))")
        coordinates.append("c0 = I(r)")
        for name in strides:
            terms = " + ".join(f"c{d} * {name}_s{d}" for d in range(dimensions))
            coordinates.append(f"{name}_at = {terms}")

    def body(lanes: int, place: str) -> list[str]:
        lines = list(coordinates)
        for name, kind, where in loads:
            lines += brought(name, kind, lanes, where)
        calls = [
            f"{source.name}({', '.join(v.format(lane=k) for v in values)})" for k in range(lanes)
        ]
        return [*lines, put("y", code, calls, "y_at" if layout == "t" else place)]

    text = definitions(source) + f"def kernel({', '.join(names)}):\n"
    return Program("map", text + loop(width, "n", body, before), signature, bits)


def wide_enough(source: binding.Source, width: int, arrays: int) -> int:
    """How many elements a thread takes at a time, of those that a load can bring it."""
    length = len(source.text)
    if length >= LONG:
        return 1
    return width if length < LONG // 2 and arrays <= MANY else min(width, FEW)


def bias_activation(
    source: binding.Source | None,
    bits: int,
    code: str,
    in_place: bool,
    bias: bool,
    width: int,
    small: bool,
) -> Program:
    """`y = f(z + bias)`, z left holding `z + bias`; parameters: z, [y], [bias], n, m, scalars."""
    count = len(source.arguments) - 1 if source else 0
    scalars = [f"p{k}" for k in range(count)]
    names = ["z", *([] if in_place else ["y"]), *(["bias"] if bias else []), "n", "m", *scalars]
    arrays = 1 + (not in_place) + bias
    signature = [*[f"{code}*"] * arrays, "i8", "i8", *[scalar_code(bits)] * count]

    def body(lanes: int, place: str) -> list[str]:
        lines = brought("z", code, lanes)
        if bias:
            unsigned = "W" if small else "U"
            lines += [f"j = I({unsigned}(i) % {unsigned}(m))", *brought("bias", code, lanes, "j")]
            lines += [f"z_{k} = z_{k} + bias_{k}" for k in range(lanes)]
        sums = [f"z_{k}" for k in range(lanes)]
        values = sums
        if source:
            values = [f"{source.name}({', '.join([v, *scalars])})" for v in sums]
        if in_place:
            return [*lines, put("z", code, values)]
        if bias:
            lines.append(put("z", code, sums))
        return [*lines, put("y", code, values)]

    text = definitions(source) if source else ""
    text += f"def kernel({', '.join(names)}):\n" + loop(width, "n", body)
    return Program("bias_activation", text, signature, bits)


def update(
    source: binding.Source, bits: int, code: str, arrays: int, width: int, held: bool = False
) -> Program:
    """`p, *state = f(p, g, *state, *scalars)` in place; parameters: arrays, n, scalars.

    With `held` the scalars are in one array of T in the device's memory instead, which differs
    from replay to replay of a captured step.
    """
    state = [f"a{k}" for k in range(arrays - 2)]
    every, kept = ["p", "g", *state], ["p", *state]
    count = len(source.arguments) - arrays
    scalars = [f"s{k}" for k in range(count)]
    before = [f"s{k} = held[{k}]" for k in range(count)] if held else []
    names = [*every, "n", *(["held"] if held else scalars)]
    number = scalar_code(bits)
    signature = [*[f"{code}*"] * arrays, "i8", *([f"{number}*"] if held else [number] * count)]

    def body(lanes: int, place: str) -> list[str]:
        lines = []
        for name in every:
            lines += brought(name, code, lanes)
        for k in range(lanes):
            taken = ", ".join([*(f"{name}_{k}" for name in every), *scalars])
            lines.append(f"new = {source.name}({taken})")
            lines += [f"{name}_{k} = new[{r}]" for r, name in enumerate(kept)]
        return lines + [put(name, code, [f"{name}_{k}" for k in range(lanes)]) for name in kept]

    text = definitions(source) + f"def kernel({', '.join(names)}):\n"
    return Program("update", text + loop(width, "n", body, before), signature, bits)
