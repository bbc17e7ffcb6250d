"""Activations: each one the formula, its derivatives and a row.

A derivative takes the output `y` where that loses nothing: then a layer need not keep its input.
Where exp(-|x|) leaves the normal float32 numbers, and would lose digits before its product with x
does, the product is taken as exp(64 - |x|) (x e**-64).
"""

from gradnet.formulas.arithmetic import (
    abs_dx,
    clip,
    maximum,
    minimum,
    one,
    ones_like,
    sign,
    zeros_like,
)
from gradnet.formulas.primitives import abs, copysign, exp, expm1, floor, log1p, tanh, where
from gradnet.formulas.rows import Row
from gradnet.formulas.special import erf_near_zero, gaussian_tail

SELU_SCALE = 1.0507009873554805
SELU_SCALE_ALPHA = 1.7580993408473769
EXP_MINUS_64 = 1.603810890548638e-28


def identity(x):
    """x."""
    return x


def heaviside(x):
    """0 for x < 0, 0.5 at 0, 1 for x > 0."""
    return 0.5 + 0.5 * sign(x)


def hard_threshold(x):
    """1 for x >= 0, else 0."""
    return where(x >= 0, 1, where(x < 0, 0, x))


def piecewise_linear(x):
    """x + 0.5 between 0 and 1."""
    return clip(x + 0.5, 0, 1)


def piecewise_linear_dx(x):
    return where(abs(x) < 0.5, ones_like(x), 0.0)


def sigmoid(x):
    """1 / (1 + exp(-x))."""
    e = exp(-abs(x))
    below = 1 + e
    return where(x >= 0, 1 / below, e - e * (e / below))


def sigmoid_dx(y):
    return y * (1 - y)


def log_sigmoid(x):
    """log(1 / (1 + exp(-x)))."""
    return minimum(x, 0) - log1p(exp(-abs(x)))


def log_sigmoid_dx(x):
    return sigmoid(-x)


def softplus(x):
    """log(1 + exp(x))."""
    return maximum(x, 0) + log1p(exp(-abs(x)))


def softplus_dx(x):
    return sigmoid(x)


def tanh_dx(y):
    return (1 - y) * (1 + y)


def relu(x):
    """max(x, 0)."""
    return maximum(x, 0)


def relu_dx(y):
    return where(y > 0, ones_like(y), 0.0)


def relu6(x):
    """min(max(x, 0), 6)."""
    return clip(x, 0, 6)


def relu6_dx(y):
    return where((y > 0) & (y < 6), ones_like(y), 0.0)


def leaky_relu(x, alpha):
    """x for x > 0, else alpha x."""
    return where(x > 0, x, alpha * minimum(x, 0))


def leaky_relu_dx(x, alpha):
    return where(x > 0, ones_like(x), alpha)


def leaky_relu_dalpha(x):
    return minimum(x, 0)


def elu(x, alpha):
    """x for x > 0, else alpha (exp(x) - 1)."""
    return where(x > 0, x, alpha * expm1(minimum(x, 0)))


def elu_dx(x, alpha):
    return where(x > 0, ones_like(x), alpha * exp(minimum(x, 0)))


def elu_dalpha(x):
    return expm1(minimum(x, 0))


def selu(x):
    """1.0507 elu(x, 1.67326): keeps mean 0 and variance 1 through layers."""
    return where(x > 0, SELU_SCALE * maximum(x, 0), SELU_SCALE_ALPHA * expm1(minimum(x, 0)))


def selu_dx(x):
    return where(x > 0, SELU_SCALE, SELU_SCALE_ALPHA * exp(minimum(x, 0)))


def softsign(x):
    """x / (1 + |x|)."""
    # From 1e20 on the quotient is 1 in float64; infinity would divide by itself.
    a = minimum(abs(x), 1e20)
    return copysign(a / (1 + a), x)


def softsign_dx(x):
    r = 1 / (1 + abs(x))
    return r * r


def hard_sigmoid(x):
    """min(max(x + 3, 0), 6) / 6."""
    return clip(x + 3, 0, 6) / 6


def hard_sigmoid_dx(x):
    return where(abs(x) < 3, ones_like(x), 0.0) / 6


def swish(x):
    """x sigmoid(x)."""
    c = maximum(x, -1000.0)
    far = c < -86
    e = exp(where(far, 64.0, zeros_like(x)) - abs(c))
    weight = where(far, EXP_MINUS_64, ones_like(x))
    below = 1 + weight * e
    product = c * weight * e
    return where(x >= 0, x / below, product - product * (weight * e / below))


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
    low = z * ((cube - high) + 0.0020191216057308 + 0.0000657503255350853 * z * z)
    low = low + d * (1.5957691216057308 + 0.07135481282553509 * (a * a + a * z + z * z))
    far = a > 9.9
    e = exp(where(far, 64.0, zeros_like(x)) - (high + 1.59375) * z)
    e = e + e * expm1(-low)
    weight = where(far, EXP_MINUS_64, ones_like(x))
    below = 1 + weight * e
    product = c * weight * e
    return where(x >= 0, x / below, product - product * (weight * e / below))


def gelu_tanh_dx(x):
    c = clip(x, -25.0, 25.0)
    e = exp(-abs(c) * (1.5957691216057308 + 0.07135481282553509 * c * c))
    up = where(c >= 0, 1.0, e) / (1 + e)
    down = where(c >= 0, e, 1.0) / (1 + e)
    return up * (1 + c * down * (1.5957691216057308 + 0.21406443847660527 * c * c))


ACTIVATIONS = (
    Row("identity", identity, (one,), activation=True, aliases=("linear",), flops=0),
    Row("heaviside", heaviside, activation=True, kinks=(0.0,), flops=3),
    Row("sign", sign, kind="numeric", activation=True, kinks=(0.0,), flops=2),
    Row(
        "hard_threshold",
        hard_threshold,
        activation=True,
        kinks=(0.0,),
        flops=2,
        source="McCulloch and Pitts 1943",
    ),
    Row(
        "piecewise_linear",
        piecewise_linear,
        (piecewise_linear_dx,),
        activation=True,
        kinks=(-0.5, 0.5),
        flops=3,
    ),
    Row("sigmoid", sigmoid, (sigmoid_dx,), activation=True, flops=14),
    Row("tanh", tanh, (tanh_dx,), activation=True, flops=14),
    Row(
        "relu",
        relu,
        (relu_dx,),
        activation=True,
        kinks=(0.0,),
        source="Nair and Hinton 2010",
    ),
    # A learned alpha makes it PReLU (arXiv 1502.01852).
    Row(
        "leaky_relu",
        leaky_relu,
        (leaky_relu_dx, leaky_relu_dalpha),
        defaults={"alpha": 0.01},
        activation=True,
        kinks=(0.0,),
        flops=2,
        source="Maas, Hannun and Ng 2013",
    ),
    Row("absolute", abs, (abs_dx,), kind="numeric", activation=True, kinks=(0.0,)),
    Row(
        "elu",
        elu,
        (elu_dx, elu_dalpha),
        defaults={"alpha": 1.0},
        activation=True,
        kinks=(0.0,),
        flops=13,
        source="arXiv 1511.07289",
    ),
    Row(
        "selu",
        selu,
        (selu_dx,),
        activation=True,
        kinks=(0.0,),
        flops=14,
        source="arXiv 1706.02515",
    ),
    Row("softplus", softplus, (softplus_dx,), activation=True, flops=24),
    Row(
        "swish",
        swish,
        (swish_dx,),
        activation=True,
        aliases=("silu",),
        flops=17,
        source="arXiv 1606.08415, 1710.05941",
    ),
    Row(
        "gelu",
        gelu,
        (gelu_dx,),
        activation=True,
        flops=85,
        source="arXiv 1606.08415",
    ),
    Row(
        "gelu_tanh",
        gelu_tanh,
        (gelu_tanh_dx,),
        activation=True,
        flops=55,
        source="arXiv 1606.08415",
    ),
    Row("mish", mish, (mish_dx,), activation=True, flops=24, source="arXiv 1908.08681"),
    Row(
        "hard_sigmoid",
        hard_sigmoid,
        (hard_sigmoid_dx,),
        activation=True,
        kinks=(-3.0, 3.0),
        flops=4,
        source="arXiv 1905.02244",
    ),
    Row(
        "relu6",
        relu6,
        (relu6_dx,),
        activation=True,
        kinks=(0.0, 6.0),
        flops=2,
        source="arXiv 1704.04861",
    ),
    Row("softsign", softsign, (softsign_dx,), activation=True, flops=3, source="Bergstra 2009"),
    Row("log_sigmoid", log_sigmoid, (log_sigmoid_dx,), activation=True, flops=24),
)
