"""Loops over the rows of a table of logits: softmax and cross-entropy.

Everything is taken from a row less its maximum. Where that is +inf, the entries that reach it
become 0 and the others -inf: the limit, in which they share all probability. Of a row of -inf
nothing can be said: it gives NaN.
"""

from __future__ import annotations

from typing import Any

from gradnet import binding, formulas

from .elementwise import Text, head, helpers

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


def _head(bits: int) -> str:
    text = head(bits) + helpers(bits, "log", "larger", "lane_add")
    for formula in (shifted, exponential, surprise):
        source = binding.source(formula)
        text += f'{formula.__name__} = function({source.name!r}, """\n{source.text}""", {bits})\n'
    return text


# Terms are added in blocks of T's, the blocks in float64.
_TOTAL = """
        top = x[i, 0]
        for j in range(1, k):
            top = larger(top, x[i, j])
        total = 0.0
        for start in range(0, k, 512):
            part = T(0)
            end = start + 512
            for r in range(start, end if end < k else k):
                j = U(r)
                {store}
            total += part
"""


def softmax(bits: int, *, log: bool) -> Text:
    """`y = exp(x) / sum(exp(x))` of each row, or its logarithm."""
    if log:
        store = """d = shifted(x[i, j], top)
                y[i, j] = d
                part = lane_add(part, exp(d))"""
        finish = "y[i, j] -= log_total"
    else:
        store = """e = exponential(x[i, j], top)
                y[i, j] = e
                part = lane_add(part, e)"""
        finish = "y[i, j] /= whole"
    text = f"""
def kernel(x, y):
    k = x.shape[1]
    for i in range(x.shape[0]):{_TOTAL.format(store=store)}
        whole = T(total)
        {"log_total = log(whole)" if log else ""}
        for j in range(k):
            {finish}
"""
    return _head(bits) + (helpers(bits, "exp") if log else "") + text, "In(2), Out(2)"


_CROSS_ENTROPY = """
def kernel(x, target, scale, loss, dx, smoothing):
    k = x.shape[1]
    kept = T(1 - smoothing)
    spread = T(smoothing / k)
    for i in range(x.shape[0]):
        s = scale[i]
        if s == T(0):
            loss[i] = T(0)
            for j in range(k):
                dx[i, j] = T(0)
            continue{total}{row}
"""

# The gradient is s (mass * softmax - p), for class probabilities p whose sum is the mass.
_CLASSES = """
        log_total = log(T(total))
        t = target[i]
        if t < 0 or t >= k:
            s = T(np.nan)
            t = 0
        v = T(0)
        if kept != T(0):
            v = kept * (log_total - shifted(x[i, t], top))
        if spread != T(0):
            for j in range(k):
                v = lane_add(v, surprise(spread, x[i, j], top, log_total))
        loss[i] = v * s
        factor = T(s / total)
        share = s * spread
        for j in range(k):
            dx[i, j] = dx[i, j] * factor - share
        dx[i, t] -= s * kept
"""

_PROBABILITIES = """
        log_total = log(T(total))
        mass = 0.0
        v = 0.0
        for start in range(0, k, 512):
            part = T(0)
            terms = T(0)
            end = start + 512
            for r in range(start, end if end < k else k):
                j = U(r)
                p = target[i, j] * kept + spread
                part = lane_add(part, p)
                terms = lane_add(terms, surprise(p, x[i, j], top, log_total))
            mass += part
            v += terms
        loss[i] = T(v) * s
        factor = T(mass * s / total)
        for j in range(k):
            dx[i, j] = dx[i, j] * factor - (target[i, j] * kept + spread) * s
"""


def cross_entropy(bits: int, *, classes: bool) -> Text:
    """Each row's loss and its gradient; `targets` are classes, or a probability for each class."""
    store = """e = exponential(x[i, j], top)
                dx[i, j] = e
                part = lane_add(part, e)"""
    text = _CROSS_ENTROPY.format(
        total=_TOTAL.format(store=store), row=_CLASSES if classes else _PROBABILITIES
    )
    target = "In(1, types.int64)" if classes else "In(2)"
    return _head(bits) + text, f"In(2), {target}, In(1), Out(1), Out(2), scalar"
