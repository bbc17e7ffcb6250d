"""Loops that normalise the columns or the rows of a table, and their gradients.

Mean and variance take a pass each over the values, which stay in the cache. Sums go in blocks of
T's added in float64. Columns are independent of one another: a kernel is told which are its own.
"""

from __future__ import annotations

from gradnet import binding
from gradnet.formulas import norms as formulas

from .elementwise import Text, head, helpers
from .reductions import BLOCK, ROWS

# Rows whose terms are added before the sum so far is loaded and stored.
_TOGETHER = 4


def _kernel(bits: int, text: str) -> str:
    """The definitions that a text uses, and the text."""
    used = head(bits) + "wide = True\n"
    for name in ("factor", "standard", "scaled", "slope", "follow"):
        if f"f_{name}(" in text:
            source = binding.source(getattr(formulas, name))
            used += f'f_{name} = function({source.name!r}, """\n{source.text}""", {bits})\n'
    if "lane_add(" in text:
        used += helpers(bits, "lane_add")
    return used + text


def _columns_of(terms: dict[str, str]) -> str:
    """Sums of terms over the rows, `<name>_total[j]`, by way of `<name>[j]` for a block of them.

    `{i}` in a term is the row.
    """

    def lines(text: str, indent: int) -> str:
        return "".join(f"{' ' * indent}{text.format(name)}\n" for name in terms)

    def added(rows: int) -> str:
        # A loop for each, which LLVM then need not look at so many arrays for that might overlap.
        found = ""
        for name, term in terms.items():
            values = [term.format(i=f"i + {r}") for r in range(rows)]
            whole = values[0]
            if rows == _TOGETHER:
                whole = f"({values[0]} + {values[1]}) + ({values[2]} + {values[3]})"
            found += "            for j in range(first, last):\n"
            found += f"                {name}[j] += {whole}\n"
        return found

    return (
        "    for j in range(first, last):\n"
        + lines("{}_total[j] = 0.0", 8)
        + f"    for start in range(0, n, {ROWS}):\n"
        + f"        end = start + {ROWS} if start + {ROWS} < n else n\n"
        + f"        most = end - (end - start & {_TOGETHER - 1})\n"
        + "        for j in range(first, last):\n"
        + lines("{}[j] = T(0)", 12)
        + f"        for i in range(start, most, {_TOGETHER}):\n"
        + added(_TOGETHER)
        + "        for i in range(most, end):\n"
        + added(1)
        + "        for j in range(first, last):\n"
        + lines("{0}_total[j] += {0}[j]", 12)
    )


def columns(bits: int) -> Text:
    """`y`, `mean` and `inv` (the factor) of columns first ... last - 1.

    Where `following` is not 0, a running mean `rm` and variance `rv` follow them. There is room to
    work in `part` and `part_total`.
    """
    text = f"""
def kernel(x, w, c, y, mean, inv, rm, rv, part, part_total, first, last, eps, momentum, following):
    n = x.shape[0]
{_columns_of({"part": "x[{i}, j]"})}
    for j in range(first, last):
        mean[j] = T(part_total[j] / n)
{_columns_of({"part": "(x[{i}, j] - mean[j]) * (x[{i}, j] - mean[j])"})}
    if following != 0:
        kept = T(1 - momentum)
        rate = T(momentum)
        for j in range(first, last):
            rm[j] = f_follow(rm[j], mean[j], kept, rate)
            rv[j] = f_follow(rv[j], T(part_total[j] / (n - 1)), kept, rate)
    for j in range(first, last):
        inv[j] = f_factor(T(part_total[j] / n), T(eps))
        part[j] = inv[j] * w[j]
    for i in range(n):
        for j in range(first, last):
            y[i, j] = f_scaled(x[i, j], mean[j], part[j], c[j])
"""
    taken = "In(2), In(1), In(1), Out(2), Out(1), Out(1), Out(1), Out(1), Out(1), Out(1, float64)"
    return _kernel(bits, text), f"{taken}, int64, int64, scalar, scalar, int64"


def columns_backward(bits: int) -> Text:
    """The gradients of columns first ... last - 1; `dw` and `dc` are those of weight and bias."""
    standard = "f_standard(x[{i}, j], mean[j], inv[j])"
    terms = {"dw": f"g[{{i}}, j] * {standard}", "dc": "g[{i}, j]"}
    text = f"""
def kernel(g, x, w, mean, inv, dx, dw, dc, dw_total, dc_total, one, two, first, last):
    n = x.shape[0]
{_columns_of(terms)}
    for j in range(first, last):
        dw[j] = T(dw_total[j])
        dc[j] = T(dc_total[j])
        two[j] = T(dw_total[j] / n)
        one[j] = T(dc_total[j] / n)
    for i in range(n):
        for j in range(first, last):
            h = {standard.format(i="i")}
            dx[i, j] = f_slope(g[i, j], h, inv[j] * w[j], one[j], two[j])
"""
    taken = "In(2), In(2), In(1), In(1), In(1), Out(2), Out(1), Out(1)"
    taken += ", Out(1, float64), Out(1, float64), Out(1), Out(1)"
    return _kernel(bits, text), f"{taken}, int64, int64"


def _row_sums(terms: dict[str, str], indent: int) -> str:
    """Sums of terms over row i, in float64; see softmax.py for why a term writes nothing."""

    def each(line: str) -> list[str]:
        return [line.format(name) for name in terms]

    lines = each("{} = 0.0")
    lines += [f"for start in range(0, k, {BLOCK}):", *each("    {}_part = T(0)")]
    lines += [f"    end = start + {BLOCK}", "    for j in range(start, end if end < k else k):"]
    for name, term in terms.items():
        lines.append(f"        {name}_part = lane_add({name}_part, {term})")
    lines += each("    {0} += {0}_part")
    return "".join(f"{' ' * indent}{line}\n" for line in lines)


def rows(bits: int) -> Text:
    """`y`, `mean` and `inv` (the factor) of each row."""
    text = f"""
def kernel(x, y, mean, inv, w, c, eps):
    k = x.shape[1]
    for i in range(x.shape[0]):
{_row_sums({"s": "x[i, j]"}, 8)}
        m = T(s / k)
{_row_sums({"v": "(x[i, j] - m) * (x[i, j] - m)"}, 8)}
        f = f_factor(T(v / k), T(eps))
        mean[i] = m
        inv[i] = f
        for j in range(k):
            y[i, j] = f_scaled(x[i, j], m, f * w[j], c[j])
"""
    return _kernel(bits, text), "In(2), Out(2), Out(1), Out(1), In(1), In(1), scalar"


def rows_backward(bits: int) -> Text:
    """The gradients of rows, and of weight and bias the sums over each block of rows."""
    standard = "f_standard(x[i, j], m, f)"
    terms = {"one": "g[i, j] * w[j]", "two": f"(g[i, j] * w[j]) * {standard}"}
    text = f"""
def kernel(g, x, mean, inv, dx, dw, dc, w):
    k = x.shape[1]
    for b in range(dw.shape[0]):
        for j in range(k):
            dw[b, j] = T(0)
            dc[b, j] = T(0)
        stop = b * {ROWS} + {ROWS}
        for i in range(b * {ROWS}, stop if stop < x.shape[0] else x.shape[0]):
            m = mean[i]
            f = inv[i]
{_row_sums(terms, 12)}
            first = T(one / k)
            second = T(two / k)
            for j in range(k):
                h = {standard}
                dx[i, j] = f_slope(g[i, j] * w[j], h, f, first, second)
            for j in range(k):
                dw[b, j] += g[i, j] * f_standard(x[i, j], m, f)
            for j in range(k):
                dc[b, j] += g[i, j]
"""
    taken = "In(2), In(2), In(1), In(1), Out(2), Out(2), Out(2), In(1)"
    return _kernel(bits, text), taken
