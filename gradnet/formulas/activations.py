"""Activations: each one the formula, its derivatives and a row.

A derivative takes the output `y` where that loses nothing: then a layer need not keep its input."""

from gradnet.formulas.arithmetic import (
    abs_dx,
    clip,
    maximum,
    minimum,
    one,
    ones_like,
    sign,
)
from gradnet.formulas.primitives import abs, copysign, exp, expm1, log1p, tanh, where
from gradnet.formulas.rows import Row

SELU_SCALE = 1.0507009873554805
SELU_SCALE_ALPHA = 1.7580993408473769


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
    r = 1 / (1 + e)
    return where(x >= 0, r, e - e * (e * r))


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
    Row(
        "sigmoid",
        sigmoid,
        (sigmoid_dx,),
        activation=True,
        derivative_scale=1.0,
        flops=14,
        ulp=2.9,
        derivative_ulp=0.9,
    ),
    Row(
        "tanh",
        tanh,
        (tanh_dx,),
        activation=True,
        derivative_scale=1.0,
        flops=14,
        ulp=2.2,
        derivative_ulp=1.7,
    ),
    Row("relu", relu, (relu_dx,), activation=True, kinks=(0.0,), source="Nair and Hinton 2010"),
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
        ulp=2.4,
        derivative_ulp=2.5,
    ),
    Row(
        "selu",
        selu,
        (selu_dx,),
        activation=True,
        kinks=(0.0,),
        flops=14,
        source="arXiv 1706.02515",
        ulp=3.4,
        derivative_ulp=2.9,
    ),
    Row(
        "softplus", softplus, (softplus_dx,), activation=True, flops=24, ulp=3.2, derivative_ulp=2.9
    ),
    Row(
        "hard_sigmoid",
        hard_sigmoid,
        (hard_sigmoid_dx,),
        activation=True,
        kinks=(-3.0, 3.0),
        flops=4,
        source="arXiv 1905.02244",
        ulp=1.1,
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
    Row(
        "softsign",
        softsign,
        (softsign_dx,),
        activation=True,
        flops=3,
        source="Bergstra 2009",
        ulp=1.6,
        derivative_ulp=3.6,
    ),
    Row(
        "log_sigmoid",
        log_sigmoid,
        (log_sigmoid_dx,),
        activation=True,
        flops=24,
        ulp=3.3,
        derivative_ulp=3.0,
    ),
)
