"""What the error function and its kin are made of, in float32 with fused multiply-adds.

The catalogue's formulas, in gradnet/formulas/special.py, are for any target: of float64 accuracy,
and careful not to need an exact product. Here polynomials have the degree that float32 can tell,
minimax fits of an error of 1e-8 at most, made with 40 digits, and what a product or a quotient
loses by rounding is known from a fused multiply-add, and put right to first order.
"""

from __future__ import annotations

from typing import Any

from gradnet import formulas

from .elementary import fma, nearest, power_of_two, reduced_32, small_expm1_32

abs: Any = formulas.abs
where: Any = formulas.where


def excess(c: Any, rest: Any) -> Any:
    """exp(c + rest) / 2**k - 1, k the whole number next to c / log(2); a small rest."""
    k = nearest(c * 1.4426950408889634)
    return small_expm1_32(reduced_32(c, k) + rest)


def scaled(y: Any, c: Any) -> Any:
    """2**k y for c from -104 to 0, in two factors: 2**k may be smaller than normal numbers are."""
    return y * power_of_two(nearest(c * 1.4426950408889634) + 64.0) * 5.421010862427522e-20


def grown(m: Any, d: Any, s: Any) -> Any:
    """m (1 + d) (1 + s) for a small d, rounded once."""
    return fma(m, s + fma(d, s, d), m)


def powered(m: Any, d: Any, c: Any, rest: Any) -> Any:
    """m (1 + d) exp(c + rest) for small d and rest, and c up to 0."""
    # What becomes 0 must not do so by underflow, which takes a hundred times as long.
    b = where(c < -104.0, 0.0, c)
    return where(c < -104.0, 0.0, scaled(grown(m, d, excess(b, rest)), b))


def tail_ratio(a: Any, c: Any) -> Any:
    """exp(x**2) erfc(x) for x = 2a / c from 0 on: t P(t - 5/16) with t = 2 / (2 + x)."""
    t = c / (a + c)
    u = t - 0.3125
    p = fma(u, 0.035954572299, -0.0797881088088)
    p = fma(u, p, 0.00190708139205)
    p = fma(u, p, 0.123012961063)
    p = fma(u, p, -0.0304912477807)
    p = fma(u, p, -0.150513838853)
    p = fma(u, p, -0.0414027583773)
    p = fma(u, p, 0.228664185533)
    p = fma(u, p, 0.448960123537)
    p = fma(u, p, 0.496711395209)
    p = fma(u, p, 0.400453299028)
    return t * p


def tail_lost(a: Any, c: Any) -> Any:
    """What tail_ratio lost by rounding t, relative to its result."""
    w = a + c
    t = c / w
    back = w - a
    lost = (a - (w - back)) + (c - back)
    # The product t P changes 1.2 to 2 times as much as t does.
    return fma(-t, lost, fma(-t, w, c)) * (1.5 / c)


def gaussian_tail_32(
    a: Any, rate: Any, slope: Any, slope_rest: Any, centre: Any, shift: Any
) -> Any:
    """exp(shift - rate a**2) times the ratio of the tail, centre = 4 / sqrt(rate)."""
    c = 0.5 * centre
    square = a * a
    rest = -rate * fma(a, a, -square)
    return powered(tail_ratio(a, c), tail_lost(a, c), shift - rate * square, rest)


# Where gelu is 0 before x ends, and so is its slope's tail; the square's part of an exponent of 2.
END, RATE = 14.4, -0.7213475108146667
# What rounds a number to a whole one when it is added.
MAGIC = 12582912.0


def normal_ratio(a: Any) -> Any:
    """exp(a**2 / 2) times the normal distribution function at -a, a from 0 on.

    t P(t - 5/16) with t = 3 / (3 + a).
    """
    t = 3.0 / (a + 3.0)
    u = t - 0.3125
    p = fma(u, 0.0185840874441, -0.0572421958057)
    p = fma(u, p, 0.0463092951486)
    p = fma(u, p, 0.0323366791949)
    p = fma(u, p, -0.0392932759263)
    p = fma(u, p, -0.0632733672554)
    p = fma(u, p, 0.0142745521015)
    p = fma(u, p, 0.140943665211)
    p = fma(u, p, 0.229099543234)
    p = fma(u, p, 0.238834333043)
    p = fma(u, p, 0.189261515428)
    return t * p


def normal_lost(a: Any) -> Any:
    """What normal_ratio lost by rounding t, relative to its result."""
    w = a + 3.0
    t = 3.0 / w
    # Taking a whole number off rounds nothing: this is what the sum has lost.
    lost = a - (w - 3.0)
    # The product t P changes 1 to 2.4 times as much as t does.
    return fma(-t, lost, fma(-t, w, 3.0)) * 0.5


def halvings(a: Any) -> Any:
    """The whole number k next to log2(exp(-a**2 / 2))."""
    return fma(a * a, RATE, MAGIC) - MAGIC


def decay(a: Any) -> Any:
    """exp(-a**2 / 2) / 2**k - 1, with the exponent of 2 to 48 bits."""
    square = a * a
    f = fma(square, -9.629814955633087e-9, fma(square, RATE, -halvings(a)))
    f = fma(fma(a, a, -square), RATE, f)
    p = fma(f, 0.000154035162802, 0.00133909646132)
    p = fma(f, p, 0.00961823834725)
    p = fma(f, p, 0.0555035700511)
    p = fma(f, p, 0.240226497843)
    p = fma(f, p, 0.693147188015)
    return f * p


def decayed(y: Any, a: Any) -> Any:
    """2**k y, in two factors: 2**k may be smaller than normal numbers are."""
    return y * power_of_two(halvings(a) + 64.0) * 5.421010862427522e-20


def gelu_32(x: Any) -> Any:
    """x times the normal distribution function at x, by one tail for both signs of x."""
    far = abs(x) > END
    a = where(far, END, abs(x))
    y = decayed(grown(a * normal_ratio(a), normal_lost(a), decay(a)), a)
    # What becomes 0 must not do so by underflow, which takes a hundred times as long.
    return where(x > 0.0, x, 0.0) - where(far, 0.0, y)


def gelu_dx_32(x: Any) -> Any:
    """The normal distribution function at x, and x times its density."""
    far = abs(x) > END
    a = where(far, END, abs(x))
    s = decay(a)
    y = grown(normal_ratio(a), normal_lost(a), s)
    density = 0.3989422804014327 * where(far, 0.0, x)
    tail = where(far, 0.0, decayed(y, a))
    slope = decayed(fma(density, s, density), a)
    return where(x < 0.0, tail, 1.0 - tail) + slope


def erf_near_zero_32(x: Any) -> Any:
    """erf(x) for |x| <= 0.5, as x + x p(x**2)."""
    s = x * x
    p = fma(s, 0.00471779858285, -0.0267571004871)
    p = fma(s, p, 0.112828216902)
    p = fma(s, p, -0.376126085266)
    p = fma(s, p, 0.128379165565)
    return fma(x, p, x)


def exp_minus_square_32(x: Any) -> Any:
    """exp(-x**2)."""
    a = where(abs(x) > 30.0, 30.0, x)
    square = a * a
    return powered(1.0, 0.0, -square, -fma(a, a, -square))


# What stands for a formula of the catalogue in loops of so many bits.
FORMULAS = {
    ("gelu", 32): gelu_32,
    ("gelu_dx", 32): gelu_dx_32,
    ("gaussian_tail", 32): gaussian_tail_32,
    ("erf_near_zero", 32): erf_near_zero_32,
    ("exp_minus_square", 32): exp_minus_square_32,
}
