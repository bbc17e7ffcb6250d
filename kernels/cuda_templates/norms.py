"""Normalisation of columns or of rows, and its gradient, in one launch or two.

Columns of a few rows are one launch. Else the rows are cut into parts, at most PARTS: a first
launch gives the sums of each, and every block of the second joins them for the columns that it goes
on with, in the same order. A row's statistics are those of the threads that share it; what weight
and bias get is summed over the rows of a block, then by a second launch over the blocks.
"""

from __future__ import annotations

from collections.abc import Iterable

from gradnet import binding
from gradnet.formulas import norms

from . import computed
from .computed import Activation, Operand, activated
from .elementwise import scalar_code
from .program import THREADS, Program, indented, loaded, stored
from .reductions import TERMS, tree
from .softmax import closing, each, opening, sums

PARTS = 64
_FORMULAS = {f"f_{name}": getattr(norms, name) for name in ("factor", "standard", "scaled")}
_FORMULAS |= {"f_slope": norms.slope, "f_follow": norms.follow}


def _program(
    kind: str,
    lines: list[str],
    taken: dict[str, str],
    bits: int,
    *others: Operand | binding.Source | None,
) -> Program:
    """A kernel of lines, with its parameters and their codes, and what else its lines call."""
    body = indented(lines, 1)
    used = [binding.source(formula) for name, formula in _FORMULAS.items() if f"{name}(" in body]
    text = (
        computed.formulas_of(*used, *(x for x in others if x is not None))
        + f"def kernel({', '.join(taken)}):\n{body}"
    )
    return Program(kind, text, tuple(taken.values()), bits)


def _pointers(code: str, names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), f"{code}*")


def _results(code: str, activation: Activation | None) -> dict[str, str]:
    return _pointers(code, "y activated" if activation and activation.kept else "y")


def _numbers(activation: Activation | None, number: str) -> dict[str, str]:
    return dict.fromkeys(activation.scalars, number) if activation else {}


def formulas_used() -> tuple[binding.Source, ...]:
    """Those of norms, with which an operand's or an activation's must agree."""
    return tuple(binding.source(formula) for formula in _FORMULAS.values())


def part_length(n: int, lanes: int) -> int:
    """The rows in each part but the last."""
    return max(lanes * TERMS, -(-n // PARTS))


# Columns


def _tiles(lanes: int, lines: Iterable[str]) -> list[str]:
    """Lines for each part of each tile of columns: `j` is a column, its rows first ... end - 1."""
    wide = THREADS // lanes
    return [
        f"shared = cuda.shared.array({THREADS}, T)",
        "t = cuda.threadIdx.x",
        f"lane = t // {wide}",
        f"tiles = (m + {wide - 1}) // {wide}",
        "tile = cuda.blockIdx.x",
        "while tile < parts * tiles:",
        "    part = tile // tiles",
        f"    j = (tile - part * tiles) * {wide} + t % {wide}",
        "    first = part * length",
        "    end = min(first + length, n) if j < m else first",
        *(f"    {line}" for line in lines),
        "    tile = tile + cuda.gridDim.x",
    ]


def _down(
    lanes: int, terms: dict[str, str], start: str, end: str, before: Iterable[str] = ()
) -> list[str]:
    """Sums over i = start, start + lanes, ... of a column, by name, joined by all its threads.

    A thread's terms are added in blocks of TERMS. The lines `before` come before each term.
    """
    lines = [f"{name} = T(0)" for name in terms] + [f"{name}_part = T(0)" for name in terms]
    lines += ["taken = 0", f"i = {start}", f"while i < {end}:", "    at = i * m + j"]
    lines += [f"    {line}" for line in before]
    lines += [f"    {name}_part = {name}_part + {term}" for name, term in terms.items()]
    lines += ["    taken = taken + 1", f"    if taken == {TERMS}:", "        taken = 0"]
    for name in terms:
        lines += [f"        {name} = {name} + {name}_part", f"        {name}_part = T(0)"]
    lines.append(f"    i = i + {lanes}")
    for name in terms:
        lines.append(f"{name} = {name} + {name}_part")
        lines += tree("sum", name, "shared", "lane", lanes, THREADS // lanes)
    return lines


def _across(lanes: int, terms: dict[str, str]) -> list[str]:
    """Sums over the parts i, of `own` rows each."""
    terms = {name: f"({term})" for name, term in terms.items()}
    end = "(parts if j < m else 0)"
    lines = _down(lanes, terms, "lane", end)
    at = lines.index("    at = i * m + j")
    return [*lines[: at + 1], "    own = T(min(length, n - i * length))", *lines[at + 1 :]]


def moments(bits: int, code: str, lanes: int) -> Program:
    """The mean of each part of each column of `x`, and the sum of squares about it, in `found`.

    Parameters: x, found, n, m, parts, length.
    """
    x = loaded(code, "x[at]")
    lines = [
        *_down(lanes, {"v": x}, "first + lane", "end"),
        "mean = v / T(max(end - first, 1))",
        *_down(lanes, {"w": f"({x} - mean) * ({x} - mean)"}, "first + lane", "end"),
        "if j < m and lane == 0:",
        "    found[part * m + j] = v / T(max(end - first, 1))",
        "    found[(parts + part) * m + j] = w",
    ]
    taken = _pointers(code, "x") | _pointers(scalar_code(bits), "found")
    taken |= dict.fromkeys(("n", "m", "parts", "length"), "i8")
    return _program("norm_moments", _tiles(lanes, lines), taken, bits)


def columns(
    bits: int,
    code: str,
    lanes: int,
    affine: str,
    following: str,
    joining: bool,
    activation: Activation | None = None,
) -> Program:
    """Columns normalised, from their `moments` where `joining`, else with them.

    `affine` and `following` are the codes of weight and bias, and of running mean and variance, or
    empty. Parameters: x, weight, bias, y, activated, mean, factor, the running ones, found, n, m,
    parts, length, eps, kept, rate, unbiased, the activation's.
    """
    x = loaded(code, "x[at]")
    if joining:
        lines = _across(lanes, {"v": "own * found[at]"})
        about = "found[at] - mean"
        squares = f"found[parts * m + at] + own * ({about}) * ({about})"
        more = _across(lanes, {"w": squares})
    else:
        lines = _down(lanes, {"v": x}, "first + lane", "end")
        more = _down(lanes, {"w": f"({x} - mean) * ({x} - mean)"}, "first + lane", "end")
    lines = [*lines, "mean = v / T(n)", *more, "variance = w / T(n)"]
    lines += ["factor = f_factor(variance, eps)", "scale = factor", "shift = T(0)"]
    if affine:
        lines += ["if j < m:", f"    scale = factor * {loaded(affine, 'weight[j]')}"]
        lines.append(f"    shift = {loaded(affine, 'bias[j]')}")
    lines += ["if j < m and lane == 0 and part == 0:"]
    lines += ["    means[j] = mean", "    factors[j] = factor"]
    if following:
        for name, batch in (("running_mean", "mean"), ("running_var", "variance * unbiased")):
            old = loaded(following, f"{name}[j]")
            new = stored(following, f"f_follow({old}, {batch}, kept, rate)")
            lines.append(f"    {name}[j] = {new}")
    lines += ["i = first + lane", "while i < end:", "    at = i * m + j"]
    value = f"f_scaled({x}, mean, scale, shift)"
    lines += [f"    {line}" for line in activated(code, value, activation, "at")]
    lines.append(f"    i = i + {lanes}")
    number = scalar_code(bits)
    taken = _pointers(code, "x") | (_pointers(affine, "weight bias") if affine else {})
    taken |= _results(code, activation) | _pointers(number, "means factors")
    taken |= _pointers(following, "running_mean running_var") if following else {}
    taken |= _pointers(number, "found") if joining else {}
    taken |= dict.fromkeys(("n", "m", "parts", "length"), "i8") | {"eps": number}
    taken |= dict.fromkeys(("kept", "rate", "unbiased"), number) if following else {}
    taken |= _numbers(activation, number)
    used = activation.formula if activation else None
    return _program("norm", _tiles(lanes, lines), taken, bits, used)


def _slopes(code: str, gradient: Operand) -> tuple[list[str], dict[str, str], list[str]]:
    """What a column's gradient begins with, the sums that it needs, and what brings their terms."""
    statistics = ["mean = T(0)", "factor = T(0)", "if j < m:", "    mean = means[j]"]
    standard = f"f_standard({loaded(code, 'x[at]')}, mean, factor)"
    brought = computed.lines("g", gradient, 1, "at")
    return [*statistics, "    factor = factors[j]"], {"v": f"g_0 * {standard}", "w": "g_0"}, brought


def slope_sums(bits: int, code: str, lanes: int, gradient: Operand) -> Program:
    """The sums that the gradients of columns need, for each part of them, in `found`.

    Parameters: g, x, mean, factor, found, n, m, parts, length.
    """
    begin, terms, before = _slopes(code, gradient)
    lines = [
        *begin,
        *_down(lanes, terms, "first + lane", "end", before),
        "if j < m and lane == 0:",
        "    found[part * m + j] = v",
        "    found[(parts + part) * m + j] = w",
    ]
    taken = computed.parameters("g", gradient, bits) | _pointers(code, "x")
    taken |= _pointers(scalar_code(bits), "means factors found")
    taken |= dict.fromkeys(("n", "m", "parts", "length"), "i8")
    return _program("norm_slope_sums", _tiles(lanes, lines), taken, bits, gradient)


def columns_backward(
    bits: int, code: str, lanes: int, affine: str, joining: bool, gradient: Operand
) -> Program:
    """The gradients of columns, from their `slope_sums` where `joining`, else with them.

    Parameters: g, x, weight, mean, factor, dx, dweight, dbias, found, n, m, parts, length. g may be
    computed: `gradient` is its code, or how.
    """
    begin, terms, before = _slopes(code, gradient)
    if joining:
        own = {"v": "found[at]", "w": "found[parts * m + at]"}
        lines = [*begin, *_down(lanes, own, "lane", "(parts if j < m else 0)")]
    else:
        lines = [*begin, *_down(lanes, terms, "first + lane", "end", before)]
    lines += ["one = w / T(n)", "two = v / T(n)", "scale = factor"]
    if affine:
        lines += ["if j < m:", f"    scale = factor * {loaded(affine, 'weight[j]')}"]
        lines += ["if j < m and lane == 0 and part == 0:"]
        lines.append(f"    dweight[j] = {stored(affine, 'v')}")
        lines.append(f"    dbias[j] = {stored(affine, 'w')}")
    value = f"f_slope({terms['w']}, f_standard({loaded(code, 'x[at]')}, mean, factor), scale"
    lines += ["i = first + lane", "while i < end:", "    at = i * m + j"]
    lines += [f"    {line}" for line in before]
    lines += [f"    dx[at] = {stored(code, f'{value}, one, two)')}", f"    i = i + {lanes}"]
    number = scalar_code(bits)
    taken = computed.parameters("g", gradient, bits) | _pointers(code, "x")
    taken |= _pointers(affine, "weight") if affine else {}
    taken |= _pointers(number, "means factors") | _pointers(code, "dx")
    taken |= _pointers(affine, "dweight dbias") if affine else {}
    taken |= _pointers(number, "found") if joining else {}
    taken |= dict.fromkeys(("n", "m", "parts", "length"), "i8")
    return _program("norm_backward", _tiles(lanes, lines), taken, bits, gradient)


# Rows


def rows(
    bits: int, code: str, lanes: int, affine: str, activation: Activation | None = None
) -> Program:
    """Rows normalised.

    Parameters: x, weight, bias, y, activated, mean, factor, n, k, eps, the activation's.
    """
    x = loaded(code, "x[at + j]")
    scale, shift = "factor", "T(0)"
    if affine:
        scale, shift = f"factor * {loaded(affine, 'weight[j]')}", loaded(affine, "bias[j]")
    value = f"f_scaled({x}, mean, {scale}, {shift})"
    lines = [
        *opening(lanes),
        *sums(lanes, {"v": x}, []),
        "    mean = v / T(k)",
        *sums(lanes, {"w": f"({x} - mean) * ({x} - mean)"}, []),
        "    factor = f_factor(w / T(k), eps)",
        "    if item < n and lane == 0:",
        "        means[item] = mean",
        "        factors[item] = factor",
        *each(lanes, activated(code, value, activation, "at + j")),
        *closing(lanes),
    ]
    number = scalar_code(bits)
    taken = _pointers(code, "x") | (_pointers(affine, "weight bias") if affine else {})
    taken |= _results(code, activation) | _pointers(number, "means factors")
    taken |= {"n": "i8", "k": "i8", "eps": number} | _numbers(activation, number)
    return _program("norm", lines, taken, bits, activation.formula if activation else None)


def side_by_side(k: int) -> int:
    """Threads that add up columns of rows next to each other: a power of 2, at most a block."""
    wide = 1
    while wide < min(k, THREADS):
        wide *= 2
    return wide


def rows_backward(
    bits: int, code: str, lanes: int, affine: str, wide: int, gradient: Operand
) -> Program:
    """The gradients of rows, and where `affine` the sums for weight and bias, in `found`.

    `wide` threads are next to each other in a row there: each block has THREADS / wide rows of
    sums, `count` in all. Parameters: g, x, weight, mean, factor, dx, found, n, k, count.
    """
    g, x = "g_0", loaded(code, "x[at + j]")
    before = computed.lines("g", gradient, 1, "at + j")
    given = f"{g} * {loaded(affine, 'weight[j]')}" if affine else g
    standard = f"f_standard({x}, mean, factor)"
    begin = [
        "    mean = T(0)",
        "    factor = T(0)",
        "    if item < n:",
        "        mean = means[item]",
        "        factor = factors[item]",
        *sums(lanes, {"one": given, "two": f"({given}) * {standard}"}, before),
        "    one = one / T(k)",
        "    two = two / T(k)",
    ]
    value = f"f_slope({given}, {standard}, factor, one, two)"
    lines = opening(lanes)
    if affine:
        groups = THREADS // wide
        place = f"(cuda.blockIdx.x * {groups} + t // {wide}) * k"
        own = THREADS // lanes
        names = ("mean", "factor", "one", "two")
        lines[1:1] = [f"row_{name} = cuda.shared.array({own}, T)" for name in names]
        at = lines.index("while base < n:")
        lines[at:at] = [
            f"sums = {place}",
            f"j = t % {wide}",
            "while j < k:",
            "    found[sums + j] = T(0)",
            "    found[count * k + sums + j] = T(0)",
            f"    j = j + {wide}",
        ]
        lines += [*begin, "    if lane == 0:"]
        lines += [f"        row_{name}[t // {lanes}] = {name}" for name in names]
        statistics = [f"{name} = row_{name}[r]" for name in names]
        lines += [
            "    cuda.syncthreads()",
            f"    rows = min({own}, n - base)",
            f"    j = t % {wide}",
            "    while j < k:",
            "        v = T(0)",
            "        w = T(0)",
            f"        r = t // {wide}",
            "        while r < rows:",
            "            at = (base + r) * k",
            *(f"            {line}" for line in (*statistics, *before)),
            f"            v = v + {g} * {standard}",
            f"            w = w + {g}",
            f"            dx[at + j] = {stored(code, value)}",
            f"            r = r + {groups}",
            "        found[sums + j] = found[sums + j] + v",
            "        found[count * k + sums + j] = found[count * k + sums + j] + w",
            f"        j = j + {wide}",
            "    cuda.syncthreads()",
        ]
    else:
        lines += [*begin, *each(lanes, [*before, f"dx[at + j] = {stored(code, value)}"])]
    lines += closing(lanes)
    number = scalar_code(bits)
    taken = computed.parameters("g", gradient, bits) | _pointers(code, "x")
    taken |= _pointers(affine, "weight") if affine else {}
    taken |= _pointers(number, "means factors") | _pointers(code, "dx")
    taken |= _pointers(number, "found") if affine else {}
    taken |= {"n": "i8", "k": "i8"} | ({"count": "i8"} if affine else {})
    return _program("norm_backward", lines, taken, bits, gradient)


def affine_sums(bits: int, affine: str, lanes: int) -> Program:
    """The gradients of weight and bias from the rows of sums in `found`.

    Parameters: found, dweight, dbias, n, m, parts, length: as of columns, with two parts, each of
    n = 2 count rows in all, `length` = count.
    """
    number = scalar_code(bits)
    lines = [
        *_down(lanes, {"v": "found[at]"}, "first + lane", "end"),
        "if j < m and lane == 0:",
        "    if part == 0:",
        f"        dweight[j] = {stored(affine, 'v')}",
        "    else:",
        f"        dbias[j] = {stored(affine, 'v')}",
    ]
    taken = _pointers(number, "found") | _pointers(affine, "dweight dbias")
    taken |= dict.fromkeys(("n", "m", "parts", "length"), "i8")
    return _program("norm_affine", _tiles(lanes, lines), taken, bits)
