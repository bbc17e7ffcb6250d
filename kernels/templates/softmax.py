"""Loops over the rows of a table of logits: softmax and cross-entropy.

Everything is taken from a row less its maximum. Where that is +inf, the entries that reach it
become 0 and the others -inf: the limit, in which they share all probability. Of a row of -inf
nothing can be said: it gives NaN.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import llvmlite.binding as llvm

from gradnet import binding, formulas

from .elementwise import Text, extreme, head, helpers

exp: Any = formulas.exp
where: Any = formulas.where


def shifted(x: Any, top: Any) -> Any:
    """x less the maximum of its row."""
    return where((x == top) & (top > 0.0), 0.0, x - top)


def exponential(x: Any, top: Any) -> Any:
    """exp of x less the maximum of its row."""
    return exp(where((x == top) & (top > 0.0), 0.0, x - top))


def surprise(p: Any, x: Any, top: Any, log_total: Any) -> Any:
    """What a class of probability p adds to the loss: nothing for 0, whatever its logit."""
    return where(p == 0.0, 0.0, p * (log_total - where((x == top) & (top > 0.0), 0.0, x - top)))


def slope(e: Any, factor: Any, share: Any, s: Any) -> Any:
    """A row's gradient from its exponentials: 0 where its scale is 0, whatever its logits."""
    return where(s == 0.0, 0.0, e * factor - share)


_FORMULAS = {"shifted": shifted, "exponential": exponential, "surprise": surprise, "slope": slope}


def _kernel(bits: int, text: str) -> str:
    """The definitions that a text uses, and the text."""
    used = head(bits) + extreme(bits, "max") + helpers(bits, "log", "exp", "lane_add")
    for name, formula in _FORMULAS.items():
        if f"{name}(" in text:
            source = binding.source(formula)
            used += f'{name} = function({source.name!r}, """\n{source.text}""", {bits})\n'
    return used + text


def _sums(names: list[str], term: str) -> str:
    """Sums over a row, in blocks of T's added in float64; `term` adds to `<name>_part`.

    `term` writes nothing: a loop that writes too is made for arrays that may overlap and for those
    that cannot, and adds up in another order in each, so that places would change bits.
    """

    def each(line: str, indent: int) -> str:
        return "".join(" " * indent + line.format(name) + "\n" for name in names)

    return (
        each("{} = 0.0", 8)
        + "        for start in range(0, k, 512):\n"
        + each("{}_part = T(0)", 12)
        + "            end = start + 512\n"
        + "            for j in range(start, end if end < k else k):\n"
        + "".join(f"                {line}\n" for line in term.splitlines())
        + each("{0} += {0}_part", 12)
    )


_TOP = """
        top = extreme(x, i, k)
"""


def softmax(bits: int, *, log: bool) -> Text:
    """`y = exp(x) / sum(exp(x))` of each row, or its logarithm."""
    first, term, finish = (
        ("shifted", "exp(y[i, j])", "y[i, j] -= whole")
        if log
        else ("exponential", "y[i, j]", "y[i, j] /= whole")
    )
    text = f"""
def kernel(x, y):
    k = x.shape[1]
    for i in range(x.shape[0]):{_TOP}
        for j in range(k):
            y[i, j] = {first}(x[i, j], top)
{_sums(["total"], f"total_part = lane_add(total_part, {term})")}
        whole = {"log(T(total))" if log else "T(total)"}
        for j in range(k):
            {finish}
"""
    return _kernel(bits, text), "In(2), Out(2)"


# For class probabilities p, whose sum is the mass, and the scale s, the gradient of a row is
# s (mass * softmax - p).
_ROW = """
        loss[i] = T(0) if s == T(0) else T(v) * s
        factor = T({mass}s / total)
        for j in range(k):
            dx[i, j] = slope(dx[i, j], factor, {share}, s)
"""


# The kernel of a few classes: see short_rows.py.
_SHORT = """
from gradnet.kernels.templates.short_rows import LANES, rows_{bits} as rows


def kernel(x, target, scale, loss, dx, smoothing):
    for begin in range(0, x.shape[0], LANES):
        left = x.shape[0] - begin
        count = left if left < LANES else LANES
        rows(x, target, scale, loss, dx, begin, count, x.shape[1])
"""
# Of so many classes a row is one vector.
SHORT = 16


@cache
def short(classes: int) -> bool:
    """Whether rows of so many classes go a vector each: where vectors are loaded with masks."""
    return classes <= SHORT and bool(llvm.get_host_cpu_features().get("avx"))


def cross_entropy(bits: int, *, classes: bool, smooth: bool, short: bool) -> Text:
    """Each row's loss and its gradient; `targets` are classes, or a probability for each class.

    `short` is what that function says of the number of classes.
    """
    if classes and short and not smooth:
        signature = "In(2), In(1, int64), In(1), Out(1), Out(2), scalar"
        return head(bits) + _SHORT.format(bits=bits), signature
    sums = ["total"]
    term = "total_part = lane_add(total_part, dx[i, j])"
    if classes and smooth:
        sums.append("depth")
        term += "\ndepth_part = lane_add(depth_part, shifted(x[i, j], top))"
    row = "        log_total = log(T(total))\n"
    if classes:
        row += """
        t = target[i]
        if t < 0 or t >= k:
            s = s if s == T(0) else T(nan)
            t = 0
        v = log_total - shifted(x[i, t], top)
"""
        if smooth:
            row += """
        v = (T(0) if kept == T(0) else kept * v) + spread * (T(k) * log_total - T(depth))
"""
        row += _ROW.format(mass="", share="s * spread" if smooth else "T(0)")
        row += f"        dx[i, t] -= {'s * kept' if smooth else 's'}\n"
    else:
        p = "target[i, j] * kept + spread" if smooth else "target[i, j]"
        row += _sums(
            ["mass", "v"],
            f"p = {p}\nmass_part = lane_add(mass_part, p)\n"
            "v_part = lane_add(v_part, surprise(p, x[i, j], top, log_total))",
        )
        row += _ROW.format(mass="mass * ", share=f"({p}) * s")
    text = f"""
def kernel(x, target, scale, loss, dx, smoothing):
    k = x.shape[1]
    kept = T(1 - smoothing)
    spread = T(smoothing / k)
    for i in range(x.shape[0]):
        s = scale[i]{_TOP}
        for j in range(k):
            dx[i, j] = exponential(x[i, j], top)
{_sums(sums, term)}{row}
"""
    target = "In(1, int64)" if classes else "In(2)"
    return _kernel(bits, text), f"In(2), {target}, In(1), Out(1), Out(2), scalar"
