"""Rows of logits: softmax, and cross-entropy with its gradient, in one launch for any row length.

A row is shared by `lanes` threads, which meet in shared memory; its arithmetic is that of the
formulas which the compiled CPU kernels are made of.
"""

from __future__ import annotations

from gradnet import binding

from ..templates.softmax import exponential, shifted, slope, surprise
from .elementwise import scalar_code
from .program import THREADS, Program, definitions, indented, loaded, stored
from .reductions import formulas_of, tree

# How many blocks' threads the one block has that also adds up what it finds.
ROUNDS = 4

_PARTS = {"f_shifted": shifted, "f_exponential": exponential, "f_surprise": surprise}
_PARTS |= {"f_slope": slope}


def opening(lanes: int, threads: int = 0) -> list[str]:
    """The start of a kernel, and of its loop over rows: `item` is the row, `x[at + j]` a logit."""
    threads = threads or THREADS
    own = threads // lanes
    return [
        f"shared = cuda.shared.array({threads}, T)",
        "t = cuda.threadIdx.x",
        f"lane = t % {lanes}",
        f"base = cuda.blockIdx.x * {own}",
        "while base < n:",
        f"    item = base + t // {lanes}",
        "    size = k if item < n else 0",
        "    at = item * k",
    ]


def closing(lanes: int, threads: int = 0) -> list[str]:
    return [f"    base = base + cuda.gridDim.x * {(threads or THREADS) // lanes}"]


def each(lanes: int, lines: list[str]) -> list[str]:
    """A loop over the elements of the row that are this thread's."""
    body = [f"        {line}" for line in lines]
    return ["    j = lane", "    while j < size:", *body, f"        j = j + {lanes}"]


def _top(code: str, lanes: int) -> list[str]:
    value = loaded(code, "x[at + j]")
    return [
        "    top = T(-np.inf)",
        *each(lanes, [f"top = f_maximum(top, {value})"]),
        *(f"    {line}" for line in tree("max", "top", "shared", "lane", lanes)),
    ]


def sums(lanes: int, terms: dict[str, str], before: list[str]) -> list[str]:
    """Sums over the row, by name; a thread's terms are added in blocks of 32."""
    lines = [f"    {name} = T(0)" for name in terms]
    lines += [f"    {name}_part = T(0)" for name in terms] + ["    taken = 0"]
    body = [*before, *(f"{name}_part = {name}_part + {term}" for name, term in terms.items())]
    body += ["taken = taken + 1", "if taken == 32:", "    taken = 0"]
    for name in terms:
        body += [f"    {name} = {name} + {name}_part", f"    {name}_part = T(0)"]
    lines += each(lanes, body)
    for name in terms:
        lines.append(f"    {name} = {name} + {name}_part")
        lines += [f"    {line}" for line in tree("sum", name, "shared", "lane", lanes)]
    return lines


def _program(
    kind: str, lines: list[str], names: str, signature: list[str], bits: int, threads: int = 0
) -> Program:
    body = indented(lines, 1)
    used = [binding.source(formula) for name, formula in _PARTS.items() if f"{name}(" in body]
    text = formulas_of("max") + definitions(*used) + f"def kernel({names}):\n{body}"
    return Program(kind, text, signature, bits, threads)


def softmax(bits: int, code: str, log: bool, lanes: int) -> Program:
    """`y = exp(x) / sum(exp(x))` of each row, or its logarithm; parameters: x, y, n, k."""
    x = loaded(code, "x[at + j]")
    value = f"f_shifted({x}, top) - whole" if log else f"f_exponential({x}, top) / whole"
    lines = [
        *opening(lanes),
        *_top(code, lanes),
        *sums(lanes, {"whole": f"f_exponential({x}, top)"}, []),
        *(["    whole = log(whole)"] if log else []),
        *each(lanes, [f"y[at + j] = {stored(code, value)}"]),
        *closing(lanes),
    ]
    return _program("softmax", lines, "x, y, n, k", [f"{code}*", f"{code}*", "i8", "i8"], bits)


def cross_entropy(
    bits: int,
    code: str,
    lanes: int,
    *,
    classes: bool,
    smooth: bool,
    weighted: bool,
    noted: bool = False,
    rounded: str = "",
    times: bool = False,
    total: int = 0,
    columns: int = 0,
) -> Program:
    """Each row's loss and its gradient; parameters: x, target, scale, loss, dx, n, k, kept, spread.

    With `rounded`, the code of 16-bit floats, the gradient is also written as those, to a parameter
    after dx. With `times` the gradient is multiplied by the first element of a parameter after
    that. With `total` or `columns` the kernel is one block, of ROUNDS times as many threads: so
    many of them then add up the losses, and each column of the gradient, as `reductions.rows` and
    `reductions.columns` of so many lanes would, to parameters after that.

    With `noted`, a further parameter is where a row whose class is out of range is told, unless one
    has been: 1 + 2**32 row + the last 32 bits of the class.

    `target` holds classes, or a probability for each class; `scale` is an array where `weighted`,
    else a number. For class probabilities p, mixed as kept p + spread, whose sum is the mass, and
    the scale s, the gradient is s (mass softmax - p).
    """
    x = loaded(code, "x[at + j]")
    threads = THREADS * (ROUNDS if total or columns else 1)
    lines = [*opening(lanes, threads), *_top(code, lanes)]
    s = loaded(code, "scale[item]") if weighted else "scale"
    lines += ["    s = T(0)", "    if item < n:", f"        s = {s}"]
    terms = {"total": f"f_exponential({x}, top)"}
    if classes and smooth:
        terms["depth"] = f"f_shifted({x}, top)"
    lines += [*sums(lanes, terms, []), "    log_total = log(total)"]
    note = (
        "        if lane == 0 and notes[0] == 0:",
        "            notes[0] = (I(item) << 32) + (c & 0xFFFFFFFF) + 1",
    )
    if classes:
        # A class out of range gives NaN, which nobody can overlook.
        lines += [
            "    c = I(0)",
            "    if item < n:",
            "        c = target[item]",
            "    if c < 0 or c >= k:",
            *(note if noted else ()),
            "        if s != T(0):",
            "            s = T(np.nan)",
            "        c = I(0)",
            "    v = T(0)",
            "    if item < n:",
            f"        v = log_total - f_shifted({loaded(code, 'x[at + c]')}, top)",
        ]
        if smooth:
            rest = "spread * (T(k) * log_total - depth)"
            lines.append(f"    v = (T(0) if kept == T(0) else kept * v) + {rest}")
        share, mass = ("s * spread" if smooth else "T(0)"), ""
        hit = "s * kept" if smooth else "s"
    else:
        p = loaded(code, "target[at + j]")
        p = f"{p} * kept + spread" if smooth else p
        surprise_ = f"f_surprise(p, {x}, top, log_total)"
        lines += sums(lanes, {"mass": "p", "v": surprise_}, [f"p = {p}"])
        share, mass, hit = f"({p}) * s", "mass * ", ""
    gradient = [f"d = f_slope(f_exponential({x}, top), factor, {share}, s)"]
    if hit:
        gradient += ["if j == c:", f"    d = d - {hit}"]
    if times:
        gradient.append(f"d = d * {loaded(code, 'times[0]')}")
    gradient.append(f"dx[at + j] = {stored(code, 'd')}")
    if rounded:
        gradient.append(f"rounded[at + j] = {stored(rounded, 'd')}")
    loss = stored(code, "T(0) if s == T(0) else v * s")
    lines += [
        f"    factor = {mass}s / total",
        *each(lanes, gradient),
        "    if item < n and lane == 0:",
        f"        loss[item] = {loss}",
        *closing(lanes, threads),
    ]
    if total or columns:
        lines.append("cuda.syncthreads()")
    lines += _total(code, total) if total else []
    lines += _columns(code, columns, threads) if columns else []
    number = scalar_code(bits)
    signature = [f"{code}*", "i8*" if classes else f"{code}*", f"{code}*" if weighted else number]
    further = {"rounded": rounded, "times": code if times else ""}
    further |= {"whole": code if total else "", "sums": code if columns else ""}
    further = {name: kind for name, kind in further.items() if kind}
    signature += [f"{kind}*" for kind in (code, code, *further.values())]
    signature += ["i8", "i8", number, number]
    names = ", ".join(("x, target, scale, loss, dx", *further, "n, k, kept, spread"))
    if noted:
        names, signature = f"{names}, notes", [*signature, "i8*"]
    return _program("cross_entropy", lines, names, signature, bits, threads)


def _total(code: str, lanes: int) -> list[str]:
    """The sum of all losses, by the block that has written them."""
    return [
        "v = T(0)",
        f"j = t if t < {lanes} else n",
        "while j < n:",
        f"    v = v + {loaded(code, 'loss[j]')}",
        f"    j = j + {lanes}",
        *tree("sum", "v", "shared", "t", lanes),
        "if t == 0:",
        f"    whole[0] = {stored(code, 'v')}",
    ]


def _columns(code: str, lanes: int, threads: int) -> list[str]:
    """The sum of each column of the gradient, by the block that has written it."""
    wide = threads // lanes
    return [
        f"lane = t // {wide}",
        "tile = 0",
        "while tile < k:",
        f"    j = tile + t % {wide}",
        "    v = T(0)",
        "    i = lane if j < k else n",
        "    while i < n:",
        f"        v = v + {loaded(code, 'dx[i * k + j]')}",
        f"        i = i + {lanes}",
        *(f"    {line}" for line in tree("sum", "v", "shared", "lane", lanes, wide)),
        "    if j < k and lane == 0:",
        f"        sums[j] = {stored(code, 'v')}",
        f"    tile = tile + {wide}",
    ]
