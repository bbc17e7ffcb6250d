"""Exponential, logarithm and tanh out of +, -, *, / and the bits of floats, as formulas.

Loops over them vectorise, which calls of the platform's library do not, and their results are the
same on every processor with a fused multiply-add. They take all floats: subnormal numbers, both
zeros, infinities and NaN. The polynomials interpolate at Chebyshev's points; the arguments are
reduced as in Cody and Waite, Software Manual for the Elementary Functions (1980), and the float64
logarithm is that of Tang, ACM Transactions on Mathematical Software 16 (1990).
"""

from __future__ import annotations

from typing import Any

from gradnet import formulas

abs: Any = formulas.abs
copysign: Any = formulas.copysign
where: Any = formulas.where

INFINITY = float("inf")


def fma(a: Any, b: Any, c: Any) -> Any:
    """a * b + c, a primitive of this target, like those that follow."""
    return fma(a, b, c)


def nearest(x: Any) -> Any:
    """The integer nearest to a small x."""
    return nearest(x)


def power_of_two(k: Any) -> Any:
    """2**k for a whole k."""
    return power_of_two(k)


def exponent(x: Any) -> Any:
    """The e for which x * 2**-e is in [sqrt(1/2), sqrt(2))."""
    return exponent(x)


def significand(x: Any) -> Any:
    """x * 2**-exponent(x)."""
    return significand(x)


def clamp(x: Any, lower: Any, upper: Any) -> Any:
    """x no farther than the bounds; NaN stays."""
    return where(x > upper, upper, where(x < lower, lower, x))


# float32


def reduced_32(x: Any, k: Any) -> Any:
    """x - k log(2), with a log(2) of 15 + 24 bits."""
    return fma(k, -1.4286067653e-6, fma(k, -0.693145751953125, x))


def small_expm1_32(r: Any) -> Any:
    """exp(r) - 1 for |r| at most log(2) / 2."""
    p = fma(r, 1.98910171843020296e-4, 1.39336737329318517e-3)
    p = fma(r, p, 8.33331090172596997e-3)
    p = fma(r, p, 4.1666464711379083e-2)
    p = fma(r, p, 0.166666666816470155)
    p = fma(r, p, 0.500000001348722526)
    return fma(r * r, p, r)


def exp_32(x: Any) -> Any:
    """e to the x."""
    # What becomes 0 must not do so by underflow, which takes a hundred times as long.
    c = where(x < -104.0, 0.0, where(x > 89.0, 89.0, x))
    k = nearest(c * 1.4426950408889634)
    y = small_expm1_32(reduced_32(c, k)) + 1.0
    # 2**k in two factors: k reaches beyond the exponents of normal numbers at both ends.
    h = nearest(k * 0.5)
    return where(x < -104.0, 0.0, y * power_of_two(h) * power_of_two(k - h))


def expm1_32(x: Any) -> Any:
    """e**x - 1."""
    c = clamp(x, -20.0, 89.0)
    k = nearest(c * 1.4426950408889634)
    y = small_expm1_32(reduced_32(c, k))
    s = power_of_two(k - 1.0)
    y = where(k == 0.0, y, 2.0 * fma(s, y, s - 0.5))
    return where(x == 0.0, x, y)


def log_32(x: Any) -> Any:
    """Natural logarithm."""
    subnormal = x < 1.1754943508222875e-38
    w = where(subnormal, x * 8388608.0, x)
    e = exponent(w) - where(subnormal, 23.0, 0.0)
    f = significand(w) - 1.0
    p = fma(f, 0.0697161147145, -0.114797338466)
    p = fma(f, p, 0.116854199235)
    p = fma(f, p, -0.124256873315)
    p = fma(f, p, 0.142490576457)
    p = fma(f, p, -0.166678023195)
    p = fma(f, p, 0.200007157489)
    p = fma(f, p, -0.24999996958)
    p = fma(f, p, 0.3333333118)
    z = f * f
    y = f + fma(z, -0.5, fma(f * z, p, e * 1.4286067653e-6))
    y = fma(e, 0.693145751953125, y)
    beyond = where(x == 0.0, -INFINITY, INFINITY - INFINITY)
    return where(x > 0.0, where(x < INFINITY, y, x), beyond)


def log1p_32(x: Any) -> Any:
    """log(1 + x): what 1 + x loses by rounding comes back as a first-order term."""
    u = 1.0 + x
    lost = where(x < 1.0, x - (u - 1.0), 1.0 - (u - x))
    y = log_32(u)
    y = where((u > 0.0) & (u < INFINITY), y + lost / u, y)
    return where(x == 0.0, x, y)


def tanh_32(x: Any) -> Any:
    """Hyperbolic tangent, as (e**2x - 1) / (e**2x + 1)."""
    t = expm1_32(2.0 * clamp(abs(x), 0.0, 10.0))
    return copysign(t / (t + 2.0), x)


# float64


def reduced_64(x: Any, k: Any) -> Any:
    """x - k log(2), with a log(2) of 33 + 53 bits."""
    return fma(k, -1.9082149292705877e-10, fma(k, -0.6931471803691238, x))


def small_expm1_64(r: Any) -> Any:
    """exp(r) - 1 for |r| at most log(2) / 2."""
    p = fma(r, 2.09147070696123534e-9, 2.51052451539013699e-8)
    p = fma(r, p, 2.75572735947994132e-7)
    p = fma(r, p, 2.75572553325544091e-6)
    p = fma(r, p, 2.48015873255858389e-5)
    p = fma(r, p, 1.98412698748739751e-4)
    p = fma(r, p, 1.38888888888837374e-3)
    p = fma(r, p, 8.33333333332611986e-3)
    p = fma(r, p, 4.16666666666666698e-2)
    p = fma(r, p, 0.16666666666666671)
    p = fma(r, p, 0.5)
    return fma(r * r, p, r)


def exp_64(x: Any) -> Any:
    """e to the x."""
    c = where(x < -746.0, 0.0, where(x > 710.0, 710.0, x))
    k = nearest(c * 1.4426950408889634)
    y = small_expm1_64(reduced_64(c, k)) + 1.0
    h = nearest(k * 0.5)
    return where(x < -746.0, 0.0, y * power_of_two(h) * power_of_two(k - h))


def expm1_64(x: Any) -> Any:
    """e**x - 1."""
    c = clamp(x, -40.0, 710.0)
    k = nearest(c * 1.4426950408889634)
    y = small_expm1_64(reduced_64(c, k))
    s = power_of_two(k - 1.0)
    y = where(k == 0.0, y, 2.0 * fma(s, y, s - 0.5))
    return where(x == 0.0, x, y)


def log_64(x: Any) -> Any:
    """Natural logarithm."""
    subnormal = x < 2.2250738585072014e-308
    w = where(subnormal, x * 18014398509481984.0, x)
    e = exponent(w) - where(subnormal, 54.0, 0.0)
    f = significand(w) - 1.0
    s = f / (f + 2.0)
    z = s * s
    p = fma(z, 0.146168789190753214, 0.15331686868634076)
    p = fma(z, p, 0.181828901703141303)
    p = fma(z, p, 0.222222111204492957)
    p = fma(z, p, 0.285714286260633804)
    p = fma(z, p, 0.399999999998993107)
    p = fma(z, p, 0.666666666666666969)
    h = 0.5 * f * f
    y = fma(s, fma(z, p, h), e * 1.9082149292705877e-10)
    y = fma(e, 0.6931471803691238, f - (h - y))
    beyond = where(x == 0.0, -INFINITY, INFINITY - INFINITY)
    return where(x > 0.0, where(x < INFINITY, y, x), beyond)


def log1p_64(x: Any) -> Any:
    """log(1 + x)."""
    u = 1.0 + x
    lost = where(x < 1.0, x - (u - 1.0), 1.0 - (u - x))
    y = log_64(u)
    y = where((u > 0.0) & (u < INFINITY), y + lost / u, y)
    return where(x == 0.0, x, y)


def tanh_64(x: Any) -> Any:
    """Hyperbolic tangent."""
    t = expm1_64(2.0 * clamp(abs(x), 0.0, 20.0))
    return copysign(t / (t + 2.0), x)


FORMULAS = {
    ("exp", 32): exp_32,
    ("exp", 64): exp_64,
    ("expm1", 32): expm1_32,
    ("expm1", 64): expm1_64,
    ("log", 32): log_32,
    ("log", 64): log_64,
    ("log1p", 32): log1p_32,
    ("log1p", 64): log1p_64,
    ("tanh", 32): tanh_32,
    ("tanh", 64): tanh_64,
}
