"""Formulas of complex numbers, which array targets supply and no table of real functions lists."""

from gradnet.formulas.primitives import sqrt


def conj(x):
    """x with the sign of its imaginary part flipped."""
    return conj(x)


def real(x):
    """The real part."""
    return real(x)


def imag(x):
    """The imaginary part."""
    return imag(x)


def complex_atan_dx(x):
    return 1 / (1 + x * x)


def complex_asinh_dx(x):
    return 1 / sqrt(1 + x * x)


def complex_acosh_dx(x):
    return 1 / (sqrt(x - 1) * sqrt(x + 1))


# The derivatives of rows whose own are written with abs, max or hypot, which are not holomorphic.
HOLOMORPHIC = {
    "atan": complex_atan_dx,
    "asinh": complex_asinh_dx,
    "acosh": complex_acosh_dx,
}

# The rows that mean something for complex numbers.
COMPLEX = frozenset(
    (
        *("add", "subtract", "multiply", "divide", "negative", "positive", "pow", "reciprocal"),
        *("square", "sqrt", "rsqrt", "sign", "abs", "where", "round", "exp", "exp2", "expm1"),
        *("log", "log1p", "log2", "log10", "sin", "cos", "tan", "cot", "sec", "csc", "asin"),
        *("acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "identity"),
    )
)
