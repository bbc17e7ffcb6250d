"""What a target must supply: formulas that name themselves.

The one exception is `where`, which compiled targets spell `a if c else b`; on arrays both branches
are evaluated, so formulas guard their arguments: exp(-abs(x)).
"""


def exp(x):
    """e to the x."""
    return exp(x)


def exp2(x):
    """2 to the x."""
    return exp2(x)


def expm1(x):
    """e**x - 1, exact near 0."""
    return expm1(x)


def log(x):
    """Natural logarithm."""
    return log(x)


def log1p(x):
    """log(1 + x), exact near 0."""
    return log1p(x)


def log2(x):
    """Logarithm to base 2."""
    return log2(x)


def log10(x):
    """Logarithm to base 10."""
    return log10(x)


def sqrt(x):
    """Square root."""
    return sqrt(x)


def sin(x):
    """Sine, x in radians."""
    return sin(x)


def cos(x):
    """Cosine, x in radians."""
    return cos(x)


def tan(x):
    """Tangent, x in radians."""
    return tan(x)


def asin(x):
    """Inverse sine, in [-pi/2, pi/2]."""
    return asin(x)


def acos(x):
    """Inverse cosine, in [0, pi]."""
    return acos(x)


def atan(x):
    """Inverse tangent, in (-pi/2, pi/2)."""
    return atan(x)


def atan2(a, b):
    """Angle of the point (b, a), in [-pi, pi]."""
    return atan2(a, b)


def sinh(x):
    """Hyperbolic sine."""
    return sinh(x)


def cosh(x):
    """Hyperbolic cosine."""
    return cosh(x)


def tanh(x):
    """Hyperbolic tangent."""
    return tanh(x)


def asinh(x):
    """Inverse hyperbolic sine."""
    return asinh(x)


def acosh(x):
    """Inverse hyperbolic cosine."""
    return acosh(x)


def atanh(x):
    """Inverse hyperbolic tangent."""
    return atanh(x)


def hypot(a, b):
    """sqrt(a**2 + b**2) without overflow on the way."""
    return hypot(a, b)


def floor(x):
    """Largest integer <= x."""
    return floor(x)


def ceil(x):
    """Smallest integer >= x."""
    return ceil(x)


def trunc(x):
    """Integer part."""
    return trunc(x)


def round(x):
    """Nearest integer, halves to even."""
    return round(x)


def abs(x):
    """|x|."""
    return abs(x)


def copysign(a, b):
    """|a| with the sign of b."""
    return copysign(a, b)


def nextafter(a, b):
    """The float next to a on the way to b."""
    return nextafter(a, b)


def isinf(x):
    """Whether x is infinite."""
    return isinf(x)


def isfinite(x):
    """Whether x is neither infinite nor NaN."""
    return isfinite(x)


def where(c, a, b):
    """a where c holds, else b."""
    return where(c, a, b)
