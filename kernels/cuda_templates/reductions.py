"""Reductions in two phases: over rows, over columns, with the place of the extreme, and scans.

No order depends on anything but the shape. A thread adds at most TERMS terms one after the other;
what the threads of a block have is joined in a tree, and what the blocks have by a second launch.
"""

from __future__ import annotations

from gradnet import binding, formulas

from . import computed
from .computed import Computed, Operand, parameters
from .elementwise import brought, put, scalar_code
from .program import THREADS, Program, definitions, indented, loaded, stored

TERMS = 32

_JOIN = {
    "sum": "{a} + {b}",
    "prod": "{a} * {b}",
    "max": "f_maximum({a}, {b})",
    "min": "f_minimum({a}, {b})",
    "any": "{a} | {b}",
    "all": "{a} & {b}",
}
_START = {"sum": "T(0)", "prod": "T(1)", "max": "T(-np.inf)", "min": "T(np.inf)"}
_START |= {"any": "np.uint8(0)", "all": "np.uint8(1)"}
_FORMULAS = {"max": formulas.FORMULAS["maximum"], "min": formulas.FORMULAS["minimum"]}


def join(kind: str, a: str, b: str) -> str:
    """Two values of a reduction as one."""
    return _JOIN[kind].format(a=a, b=b)


def start(kind: str) -> str:
    """What no values reduce to."""
    return _START[kind]


def formulas_of(*kinds: str) -> str:
    """The definitions that `join` calls for these kinds."""
    return definitions(*(binding.source(_FORMULAS[k]) for k in kinds if k in _FORMULAS))


def tree(kind: str, value: str, shared: str, lane: str, lanes: int, stride: int = 1) -> list[str]:
    """Lines that join `value` of `lanes` threads: all of them then hold the result.

    `lane` is a thread's number among them; threads next to each other there lie `stride` apart in
    the block, and `t` is the thread's number in the block. All threads of the block must come by.
    """
    other = "t + reach" if stride == 1 else f"t + reach * {stride}"
    return [
        f"{shared}[t] = {value}",
        "cuda.syncthreads()",
        f"reach = {lanes // 2}",
        "while reach > 0:",
        f"    if {lane} < reach:",
        f"        {shared}[t] = {join(kind, f'{shared}[t]', f'{shared}[{other}]')}",
        "    cuda.syncthreads()",
        "    reach = reach >> 1",
        f"{value} = {shared}[t - {lane} * {stride}]",
        "cuda.syncthreads()",
    ]


def _types(kind: str, bits: int) -> tuple[str, str]:
    """The type of a kind's values, in a text and in a signature."""
    return ("np.uint8", "u1") if kind in ("any", "all") else ("T", scalar_code(bits))


def _value(kind: str, code: str, place: str) -> str:
    if kind in ("any", "all"):
        return f"np.uint8({place} != 0)"
    return loaded(code, place)


def segments(count: int, lanes: int) -> int:
    """How many parts a reduction of `count` terms by `lanes` threads is cut into."""
    return max(1, -(-count // (lanes * TERMS)))


def lanes_for(count: int) -> int:
    """The threads that share a row of that length: a power of 2, 2 at least."""
    lanes = 2
    while lanes < THREADS and lanes * 4 < count:
        lanes *= 2
    return lanes


def rows(kind: str, bits: int, source: Operand, target: str, lanes: int) -> Program:
    """The reduction of each part of each row of `x (n, count)` into `y (n, parts)`.

    Parameters: x, y, n, count, parts. `lanes` threads work on a part. Blocks: n * parts * lanes
    threads. `source` and `target` are the codes of the arrays; x may be computed.
    """
    name, _ = _types(kind, bits)
    own = THREADS // lanes
    if isinstance(source, Computed):
        term = [*source.lines("x", 1, "at"), f"v = {join(kind, 'v', 'x_0')}"]
    else:
        term = [f"v = {join(kind, 'v', _value(kind, source, 'x[at]'))}"]
    lines = [
        f"shared = cuda.shared.array({THREADS}, {name})",
        "t = cuda.threadIdx.x",
        f"lane = t % {lanes}",
        f"base = cuda.blockIdx.x * {own}",
        f"step = cuda.gridDim.x * {own}",
        "while base < n * parts:",
        f"    item = base + t // {lanes}",
        f"    v = {start(kind)}",
        "    if item < n * parts:",
        "        row = item // parts",
        f"        first = (item - row * parts) * {lanes * TERMS}",
        f"        end = min(first + {lanes * TERMS}, count)",
        "        j = first + lane",
        "        while j < end:",
        "            at = row * count + j",
        *(f"            {line}" for line in term),
        f"            j = j + {lanes}",
        *(f"    {line}" for line in tree(kind, "v", "shared", "lane", lanes)),
        "    if item < n * parts and lane == 0:",
        f"        y[item] = {stored(target, 'v')}",
        "    base = base + step",
    ]
    taken = {**parameters("x", source, bits), "y": f"{target}*"}
    taken |= dict.fromkeys(("n", "count", "parts"), "i8")
    text = formulas_of(kind) + computed.formulas_of(source)
    text += f"def kernel({', '.join(taken)}):\n" + indented(lines, 1)
    return Program("rows", text, tuple(taken.values()), bits)


def columns(
    kind: str,
    bits: int,
    source: Operand,
    target: str,
    lanes: int,
    formula: binding.Source | None,
    width: int = 1,
) -> Program:
    """The reduction of the middle axis of `x (n, count, m)` into `y (n, parts, m)`.

    A block has THREADS / lanes threads side by side, each for `width` columns, of which m is a
    multiple, and `lanes` threads for each of those; it takes lanes * TERMS rows. A column's order
    is the same at any width. Parameters: x, y, n, count, m, parts. x may be computed.

    With a formula the terms are `dz = formula(g, saved, *scalars)`, which are stored too;
    parameters: g, saved, dz, y, n, count, m, parts, scalars. `source` is that of g, which may be
    computed; saved and dz have its code.
    """
    name, _ = _types(kind, bits)
    wide = THREADS // lanes
    scalars = [f"p{k}" for k in range(len(formula.arguments) - 2)] if formula else []
    code = source if isinstance(source, str) else source.code
    if formula:
        taken = {**parameters("g", source, bits), "saved": f"{code}*", "dz": f"{code}*"}
        term = [*computed.lines("g", source, width, "at"), *brought("saved", code, width, "at")]
        for k in range(width):
            given = ", ".join([f"g_{k}", f"saved_{k}", *scalars])
            term.append(f"term_{k} = {formula.name}({given})")
        term.append(put("dz", code, [f"term_{k}" for k in range(width)], "at"))
    elif isinstance(source, Computed):
        taken = source.parameters("x", bits)
        term = [*source.lines("x", width, "at"), *(f"term_{k} = x_{k}" for k in range(width))]
    else:
        taken = {"x": f"{source}*"}
        x = [f"x_all[{k}]" for k in range(width)] if width > 1 else ["x[at]"]
        term = [f"x_all = load{width}(x, at)"] if width > 1 else []
        term += [f"term_{k} = {_value(kind, source, place)}" for k, place in enumerate(x)]
    lines = [
        f"shared = cuda.shared.array({THREADS}, {name})",
        "t = cuda.threadIdx.x",
        f"lane = t // {wide}",
        f"tiles = (m + {wide * width - 1}) // {wide * width}",
        "tile = cuda.blockIdx.x",
        "while tile < n * parts * tiles:",
        "    item = tile // tiles",
        f"    j = ((tile - item * tiles) * {wide} + t % {wide}) * {width}",
        *(f"    v_{k} = {start(kind)}" for k in range(width)),
        "    if j < m:",
        "        outer = item // parts",
        f"        first = (item - outer * parts) * {lanes * TERMS}",
        f"        end = min(first + {lanes * TERMS}, count)",
        "        i = first + lane",
        "        while i < end:",
        "            at = (outer * count + i) * m + j",
        *(f"            {line}" for line in term),
        *(f"            v_{k} = {join(kind, f'v_{k}', f'term_{k}')}" for k in range(width)),
        f"            i = i + {lanes}",
        *(
            f"    {line}"
            for k in range(width)
            for line in tree(kind, f"v_{k}", "shared", "lane", lanes, wide)
        ),
        "    if j < m and lane == 0:",
        *(f"        y[item * m + j + {k}] = {stored(target, f'v_{k}')}" for k in range(width)),
        "    tile = tile + cuda.gridDim.x",
    ]
    text = formulas_of(kind) + computed.formulas_of(source, *([formula] if formula else []))
    taken |= {"y": f"{target}*", **dict.fromkeys(("n", "count", "m", "parts"), "i8")}
    taken |= dict.fromkeys(scalars, scalar_code(bits))
    text += f"def kernel({', '.join(taken)}):\n" + indented(lines, 1)
    return Program("columns" if formula is None else "backward", text, tuple(taken.values()), bits)


# What comes first among two places of a row: the extreme, or NaN, or the earlier of equals.
_AHEAD = """
@device
def ahead(a, i, b, j):
    same = (a == b) | ((a != a) & (b != b))
    return i < j if same else ((a != a) | ((b == b) & (a {sign} b)))


"""


def argreduce(kind: str, bits: int, source: str, lanes: int) -> Program:
    """The place of the first "max" or "min" along the middle axis of `x (n, count, m)`.

    Parameters: x, y, n, count, m. Each place of the result has `lanes` threads; count is above 0.
    """
    own = THREADS // lanes
    lines = [
        f"values = cuda.shared.array({THREADS}, T)",
        f"places = cuda.shared.array({THREADS}, I)",
        "t = cuda.threadIdx.x",
        f"lane = t % {lanes}",
        f"base = cuda.blockIdx.x * {own}",
        "while base < n * m:",
        f"    item = base + t // {lanes}",
        "    best = I(count)",
        f"    v = {start(kind)}",
        "    if item < n * m:",
        "        outer = item // m",
        "        first = outer * count * m + item - outer * m",
        "        j = lane",
        "        while j < count:",
        f"            term = {loaded(source, 'x[first + j * m]')}",
        "            if best == count or ahead(term, j, v, best):",
        "                v = term",
        "                best = I(j)",
        f"            j = j + {lanes}",
        "    values[t] = v",
        "    places[t] = best",
        "    cuda.syncthreads()",
    ]
    lines += [
        f"    reach = {lanes // 2}",
        "    while reach > 0:",
        "        if lane < reach and places[t + reach] < count:",
        "            if ahead(values[t + reach], places[t + reach], values[t], places[t]):",
        "                values[t] = values[t + reach]",
        "                places[t] = places[t + reach]",
        "        cuda.syncthreads()",
        "        reach = reach >> 1",
        "    if item < n * m and lane == 0:",
        "        y[item] = places[t]",
        "    cuda.syncthreads()",
        f"    base = base + cuda.gridDim.x * {own}",
    ]
    text = _AHEAD.format(sign=">" if kind == "max" else "<")
    text += "def kernel(x, y, n, count, m):\n" + indented(lines, 1)
    return Program("argreduce", text, (f"{source}*", "i8*", "i8", "i8", "i8"), bits)


def scan(kind: str, bits: int, source: str) -> Program:
    """The running reduction along the middle axis of `x (n, count, m)`, a block for each line.

    A thread runs through its part of the line, the totals of the parts are scanned, and the
    thread runs through its part again. Parameters: x, y, n, count, m.
    """
    lines = [
        f"shared = cuda.shared.array({THREADS}, T)",
        "t = cuda.threadIdx.x",
        f"share = (count + {THREADS - 1}) // {THREADS}",
        "line = cuda.blockIdx.x",
        "while line < n * m:",
        "    outer = line // m",
        "    base = outer * count * m + line - outer * m",
        "    first = min(t * share, count)",
        "    end = min(first + share, count)",
        f"    v = {start(kind)}",
        "    i = first",
        "    while i < end:",
        f"        v = {join(kind, 'v', loaded(source, 'x[base + i * m]'))}",
        "        i = i + 1",
        "    shared[t] = v",
        "    cuda.syncthreads()",
        "    reach = 1",
        f"    while reach < {THREADS}:",
        "        v = shared[t]",
        "        if t >= reach:",
        f"            v = {join(kind, 'shared[t - reach]', 'v')}",
        "        cuda.syncthreads()",
        "        shared[t] = v",
        "        cuda.syncthreads()",
        "        reach = reach * 2",
        f"    v = {start(kind)}",
        "    if t > 0:",
        "        v = shared[t - 1]",
        "    i = first",
        "    while i < end:",
        "        at = base + i * m",
        f"        v = {join(kind, 'v', loaded(source, 'x[at]'))}",
        f"        y[at] = {stored(source, 'v')}",
        "        i = i + 1",
        "    cuda.syncthreads()",
        "    line = line + cuda.gridDim.x",
    ]
    text = formulas_of(kind) + "def kernel(x, y, n, count, m):\n" + indented(lines, 1)
    return Program("scan", text, (f"{source}*", f"{source}*", "i8", "i8", "i8"), bits)
