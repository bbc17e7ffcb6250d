"""What the error function and its kin are made of, in float32 with fused multiply-adds.

The catalogue's formulas, in gradnet/formulas/special.py, are for any target: of float64 accuracy,
and careful not to need an exact product. Here polynomials have the degree that float32 can tell,
minimax fits of an error of 4e-9 made with 40 digits, and what a product or a quotient loses by
rounding is known from a fused multiply-add, and put right to first order.
"""

from __future__ import annotations

from typing import Any

from gradnet import formulas

from .elementary import fma, nearest, power_of_two, reduced_32, small_expm1_32

abs: Any = formulas.abs
where: Any = formulas.where


def powered(m: Any, d: Any, c: Any, rest: Any) -> Any:
    """m (1 + d) exp(c + rest) for small d and rest: rounded once but for m and below 1e-38."""
    # What becomes 0 must not do so by underflow, which takes a hundred times as long.
    b = where(c < -104.0, 0.0, c)
    k = nearest(b * 1.4426950408889634)
    s = small_expm1_32(reduced_32(b, k) + rest)
    y = fma(m, s + fma(d, s, d), m)
    h = nearest(k * 0.5)
    return where(c < -104.0, 0.0, y * power_of_two(h) * power_of_two(k - h))


def gaussian_tail_32(
    a: Any, rate: Any, slope: Any, slope_rest: Any, centre: Any, shift: Any
) -> Any:
    """exp(shift - x**2) times exp(x**2) erfc(x), x = a sqrt(rate) from 0 on.

    The second factor is t P(t - 5/16) with t = 2 / (2 + x).
    """
    c = 0.5 * centre
    w = a + c
    t = c / w
    # What w and t lost by rounding, relative to t.
    back = w - a
    lost = (a - (w - back)) + (c - back)
    d = fma(-t, w, c) - t * lost
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
    square = a * a
    # The product t P changes 1.2 to 2 times as much as t does.
    return powered(t * p, d * (1.5 / c), shift - rate * square, -rate * fma(a, a, -square))


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
    ("gaussian_tail", 32): gaussian_tail_32,
    ("erf_near_zero", 32): erf_near_zero_32,
    ("exp_minus_square", 32): exp_minus_square_32,
}
