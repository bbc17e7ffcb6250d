"""Activations that let x pass through a smooth gate: x sigmoid(x) and its kin.

Where exp(x) leaves the normal float32 numbers, and would lose digits before its product with x
does, the product is taken as exp(64 + x) (x e**-64).
"""

from gradnet.formulas.arithmetic import clip, maximum, ones_like, zeros_like
from gradnet.formulas.primitives import abs, exp, expm1, floor, where
from gradnet.formulas.rows import Row
from gradnet.formulas.special import erf_near_zero, gaussian_tail

EXP_MINUS_64 = 1.603810890548638e-28


def swish(x):
    """x sigmoid(x)."""
    c = maximum(x, -1000.0)
    far = c < -86
    e = exp(where(far, 64 + c, -c))
    return where(far, c * EXP_MINUS_64 * e, x / (1 + e))


def swish_dx(x):
    c = clip(x, -1000.0, 1000.0)
    e = exp(-abs(c))
    up = where(c >= 0, 1.0, e) / (1 + e)
    down = where(c >= 0, e, 1.0) / (1 + e)
    return up * (1 + c * down)


def mish(x):
    """x tanh(softplus(x)), as x ((1 + e)**2 - 1) / ((1 + e)**2 + 1) with e = exp(x).

    With e = exp(-|x|) that is x - 2x e**2 / (1 + 2e + 2e**2) for x >= 0, and for x < 0
    x e (1 - (e + e**2) / (2 + 2e + e**2)).
    """
    c = clip(x, -1000.0, 1000.0)
    far = c < -86
    e = exp(where(far, 64.0, zeros_like(x)) - abs(c))
    weight = where(far, EXP_MINUS_64, ones_like(x))
    s = weight * e
    product = where(x >= 0, c, c * weight * e)
    below = where(x >= 0, 1 + 2 * s * (1 + s), 2 + s * (2 + s))
    rest = product * (where(x >= 0, 2 * s, 1 + s) * s / below)
    return where(x >= 0, x, product) - rest


def mish_dx(x):
    c = clip(x, -1000.0, 1000.0)
    e = exp(-abs(c))
    below = where(c >= 0, 1 + 2 * e * (1 + e), 2 + e * (2 + e))
    slope = where(c >= 0, e, 1.0) * e * (1 + e) / below
    return (where(c >= 0, 1 + 2 * e, e * (2 + e)) + 4 * c * slope) / below


def gelu(x):
    """x times the normal distribution function at x: x erfc(-x / sqrt(2)) / 2."""
    c = clip(x, -40.0, 40.0)
    a = abs(c)
    far = a > 13
    weight = where(far, 0.5 * EXP_MINUS_64, 0.5 * ones_like(x))
    tail = gaussian_tail(
        a,
        0.5,
        1.4140625,
        0.00015106237309504880,
        5.656854249492381,
        where(far, 64.0, zeros_like(x)),
    )
    product = c * weight * tail
    # Near 0 the tail is about 1, all its roundings with it.
    h = 0.5 * c
    near = h + h * erf_near_zero(0.7071067811865476 * clip(x, -0.7, 0.7))
    return where(a < 0.7, near, where(x < 0, product, x - product))


def gelu_dx(x):
    c = clip(x, -40.0, 40.0)
    a = abs(c)
    tail = 0.5 * gaussian_tail(a, 0.5, 1.4140625, 0.00015106237309504880, 5.656854249492381, 0.0)
    density = 0.3989422804014327 * exp(-0.5 * c * c)
    return where(c < 0, tail, 1 - tail) + c * density


def gelu_tanh(x):
    """x (1 + tanh(u)) / 2 = x sigmoid(2u), u = sqrt(2 / pi) (x + 0.044715 x**3)."""
    c = clip(x, -25.0, 25.0)
    a = abs(c)
    # 2u to more digits than it has in float32, for exp magnifies its rounding: z of 9 bits, the
    # constants 1.59375 and 73 / 1024 of 8, so that products of them are exact.
    z = floor(a * 32 + 0.5) / 32
    d = a - z
    cube = 0.0712890625 * z * z
    high = floor(cube * 128) / 128
    low = z * ((cube - high) + 0.0020191216057307117 + 6.575377260024877e-05 * z * z)
    low = low + d * (1.5957691216057308 + 0.07135481627260025 * (a * a + a * z + z * z))
    far = a > 9.9
    e = exp(where(far, 64.0, zeros_like(x)) - (high + 1.59375) * z)
    m = expm1(-low)
    weight = where(far, EXP_MINUS_64, ones_like(x))
    s = weight * (e + e * m)
    below = 1 + s
    product = c * weight * e
    return where(x >= 0, x / below, product + product * (m - (1 + m) * (s / below)))


def gelu_tanh_dx(x):
    c = clip(x, -25.0, 25.0)
    e = exp(-abs(c) * (1.5957691216057308 + 0.07135481627260025 * c * c))
    up = where(c >= 0, 1.0, e) / (1 + e)
    down = where(c >= 0, e, 1.0) / (1 + e)
    return up * (1 + c * down * (1.5957691216057308 + 0.21406444881780073 * c * c))


GATES = (
    Row(
        "swish",
        swish,
        (swish_dx,),
        activation=True,
        derivative_scale=1.0,
        aliases=("silu",),
        flops=17,
        source="arXiv 1606.08415, 1710.05941",
        ulp=3.6,
        derivative_ulp=1.9,
    ),
    Row(
        "gelu",
        gelu,
        (gelu_dx,),
        activation=True,
        derivative_scale=1.0,
        flops=85,
        source="arXiv 1606.08415",
        ulp=4.0,
        derivative_ulp=1.7,
    ),
    Row(
        "gelu_tanh",
        gelu_tanh,
        (gelu_tanh_dx,),
        activation=True,
        derivative_scale=1.0,
        flops=55,
        source="arXiv 1606.08415",
        ulp=3.9,
        derivative_ulp=2.2,
    ),
    Row(
        "mish",
        mish,
        (mish_dx,),
        activation=True,
        derivative_scale=1.0,
        flops=24,
        source="arXiv 1908.08681",
        ulp=3.6,
        derivative_ulp=2.2,
    ),
)
