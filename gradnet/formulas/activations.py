"""Activations: each one the formula, its derivative and a row."""

from gradnet.formulas.arithmetic import maximum, one, ones_like
from gradnet.formulas.primitives import abs, exp, tanh, where
from gradnet.formulas.rows import Row


def identity(x):
    """x."""
    return x


def sigmoid(x):
    """1 / (1 + exp(-x))."""
    e = exp(-abs(x))
    return where(x >= 0, 1.0, e) / (1 + e)


def sigmoid_dx(y):
    return y * (1 - y)


def tanh_dx(y):
    return (1 - y) * (1 + y)


def relu(x):
    """max(x, 0)."""
    return maximum(x, 0.0)


def relu_dx(y):
    return where(y > 0, ones_like(y), 0.0)


ACTIVATIONS = (
    Row("identity", identity, (one,), activation=True, aliases=("linear",), flops=0),
    Row("sigmoid", sigmoid, (sigmoid_dx,), activation=True, flops=14),
    Row("tanh", tanh, (tanh_dx,), activation=True, flops=14),
    Row("relu", relu, (relu_dx,), activation=True, kinks=(0.0,)),
)
