"""Arithmetic, comparison, logic and bits: what the operators of a Tensor compute."""

from gradnet.formulas.primitives import (
    abs,
    ceil,
    copysign,
    floor,
    isfinite,
    isinf,
    log,
    nextafter,
    round,
    sqrt,
    trunc,
    where,
)
from gradnet.formulas.rows import INFINITY, Row


def zeros_like(x):
    """0 with the type of x: where(c, 1.0, 0.0) alone would have no dtype on arrays."""
    return 0


def ones_like(x):
    """1 with the type of x."""
    return 1


def one():
    """The derivative that passes a cotangent through."""
    return 1


def minus_one():
    """The derivative that flips a cotangent's sign."""
    return -1


def add(a, b):
    """a + b."""
    return a + b


def subtract(a, b):
    """a - b."""
    return a - b


def multiply(a, b):
    """a b."""
    return a * b


def multiply_da(b):
    return b


def multiply_db(a):
    return a


def divide(a, b):
    """a / b."""
    return a / b


def divide_da(b):
    return 1 / b


def divide_db(b, y):
    return -y / b


def negative(x):
    """-x."""
    return -x


def positive(x):
    """x."""
    return +x


def floor_divide(a, b):
    """floor(a / b)."""
    return a // b


def remainder(a, b):
    """a - b floor(a / b), with the sign of b."""
    return a % b


def remainder_db(a, b, y):
    # a / b may round up to a whole number that it has not reached, as 1 / 0.1 does.
    return round((y - a) / b)


def pow(a, b):
    """a to the power b."""
    return a**b


def pow_da(a, b):
    # a**-1 is infinite at 0, where b = 0 wants 0 * a**-1 = 0.
    base = where(b == 0, 1.0, a)
    # b - 1 rounds unless b is whole, and a power of a far from 1 magnifies that.
    return b * base ** (b - 1)


def pow_db(a, b, y):
    # 0**b stays 0 when b > 0 moves; log(0) must not be asked for.
    flat = (a == 0) & (b >= 0)
    return where(flat, 0.0, y) * log(where(flat, 1.0, a))


def reciprocal(x):
    """1 / x."""
    return 1 / x


def reciprocal_dx(y):
    return -(y * y)


def square(x):
    """x**2."""
    return x * x


def square_dx(x):
    return 2 * x


def sqrt_dx(y):
    return 0.5 / y


def rsqrt(x):
    """1 / sqrt(x)."""
    return 1 / sqrt(x)


def rsqrt_dx(x, y):
    return -0.5 * y / x


def sign(x):
    """-1, 0 or 1."""
    return where(x > 0, 1, where(x < 0, -1, x))


def abs_dx(x):
    return sign(x)


def minimum(a, b):
    """The smaller of a and b; NaN if either is."""
    return where((a < b) | (a != a), a, b)


def minimum_da(a, b):
    return where(a < b, 1.0, where(a == b, 0.5, zeros_like(a)))


def minimum_db(a, b):
    return where(b < a, 1.0, where(a == b, 0.5, zeros_like(b)))


def maximum(a, b):
    """The larger of a and b; NaN if either is."""
    return where((a > b) | (a != a), a, b)


def maximum_da(a, b):
    return where(a > b, 1.0, where(a == b, 0.5, zeros_like(a)))


def maximum_db(a, b):
    return where(b > a, 1.0, where(a == b, 0.5, zeros_like(b)))


def clip(x, lower, upper):
    """min(max(x, lower), upper)."""
    return minimum(maximum(x, lower), upper)


def clip_dx(x, lower, upper):
    return where((x >= lower) & (x <= upper), ones_like(x), 0.0)


def clip_dlower(x, lower, upper):
    return where((x < lower) & (lower <= upper), ones_like(lower), 0.0)


def clip_dupper(x, lower, upper):
    return where((x > upper) | (lower > upper), ones_like(upper), 0.0)


def where_da(c, a):
    return where(c, ones_like(a), 0.0)


def where_db(c, b):
    return where(c, 0.0, ones_like(b))


def copysign_da(a, b):
    return sign(a) * copysign(1.0, b)


def equal(a, b):
    """a == b."""
    return a == b


def not_equal(a, b):
    """a != b."""
    return a != b


def less(a, b):
    """a < b."""
    return a < b


def less_equal(a, b):
    """a <= b."""
    return a <= b


def greater(a, b):
    """a > b."""
    return a > b


def greater_equal(a, b):
    """a >= b."""
    return a >= b


def isnan(x):
    """Whether x is not a number."""
    return x != x


def signbit(x):
    """Whether the sign bit of x is set, -0.0 included."""
    return copysign(1.0, x) < 0


def logical_and(a, b):
    """Whether both are nonzero."""
    return (a != 0) & (b != 0)


def logical_or(a, b):
    """Whether either is nonzero."""
    return (a != 0) | (b != 0)


def logical_xor(a, b):
    """Whether exactly one is nonzero."""
    return (a != 0) ^ (b != 0)


def logical_not(x):
    """Whether x is zero."""
    return x == 0


def bitwise_and(a, b):
    """Bits set in both."""
    return a & b


def bitwise_or(a, b):
    """Bits set in either."""
    return a | b


def bitwise_xor(a, b):
    """Bits set in one of the two."""
    return a ^ b


def bitwise_invert(x):
    """All bits flipped."""
    return x ^ -1


def bitwise_left_shift(a, b):
    """a 2**b."""
    return a << b


def bitwise_right_shift(a, b):
    """floor(a / 2**b)."""
    return a >> b


ARITHMETIC = (
    Row("add", add, (one, one), kind="numeric"),
    Row("subtract", subtract, (one, minus_one), kind="numeric"),
    Row("multiply", multiply, (multiply_da, multiply_db), kind="numeric"),
    Row("divide", divide, (divide_da, divide_db), aliases=("true_divide",), derivative_ulp=1.6),
    Row("negative", negative, (minus_one,), kind="numeric"),
    Row("positive", positive, (one,), kind="numeric"),
    Row("floor_divide", floor_divide, kind="numeric", flops=2, ulp=2.0),
    Row("remainder", remainder, (one, remainder_db), kind="numeric", aliases=("mod",), flops=3),
    Row(
        "pow",
        pow,
        (pow_da, pow_db),
        kind="numeric",
        aliases=("power",),
        domain=(0.0, INFINITY),
        flops=20,
        ulp=1.3,
        derivative_ulp=74.3,
    ),
    Row("reciprocal", reciprocal, (reciprocal_dx,), derivative_ulp=2.0),
    Row("square", square, (square_dx,), kind="numeric"),
    Row("sqrt", sqrt, (sqrt_dx,), domain=(0.0, INFINITY), flops=4, derivative_ulp=1.6),
    Row("rsqrt", rsqrt, (rsqrt_dx,), domain=(0.0, INFINITY), flops=5, ulp=1.6, derivative_ulp=2.1),
    Row("abs", abs, (abs_dx,), kind="numeric", kinks=(0.0,)),
    Row("minimum", minimum, (minimum_da, minimum_db), kind="numeric", kinks=(0.0,)),
    Row("maximum", maximum, (maximum_da, maximum_db), kind="numeric", kinks=(0.0,)),
    Row("clip", clip, (clip_dx, clip_dlower, clip_dupper), kind="numeric", flops=2),
    Row("where", where, (None, where_da, where_db), kind="numeric"),
    Row("copysign", copysign, (copysign_da, None), kinks=(0.0,)),
    Row("nextafter", nextafter),
    Row("floor", floor, kind="numeric"),
    Row("ceil", ceil, kind="numeric"),
    Row("trunc", trunc, kind="numeric"),
    Row("round", round, kind="numeric"),
    Row("equal", equal, kind="compare"),
    Row("not_equal", not_equal, kind="compare"),
    Row("less", less, kind="compare"),
    Row("less_equal", less_equal, kind="compare"),
    Row("greater", greater, kind="compare"),
    Row("greater_equal", greater_equal, kind="compare"),
    Row("isnan", isnan, kind="compare"),
    Row("isinf", isinf, kind="compare"),
    Row("isfinite", isfinite, kind="compare"),
    Row("signbit", signbit, kind="compare"),
    Row("logical_and", logical_and, kind="logical"),
    Row("logical_or", logical_or, kind="logical"),
    Row("logical_xor", logical_xor, kind="logical"),
    Row("logical_not", logical_not, kind="logical"),
    Row("bitwise_and", bitwise_and, kind="bitwise"),
    Row("bitwise_or", bitwise_or, kind="bitwise"),
    Row("bitwise_xor", bitwise_xor, kind="bitwise"),
    Row("bitwise_invert", bitwise_invert, kind="bitwise"),
    Row("bitwise_left_shift", bitwise_left_shift, kind="bitwise"),
    Row("bitwise_right_shift", bitwise_right_shift, kind="bitwise"),
)
