"""The elementary functions of a calculus table, with their derivatives."""

from gradnet.formulas.arithmetic import maximum, minimum
from gradnet.formulas.primitives import (
    abs,
    acos,
    acosh,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    copysign,
    cos,
    cosh,
    exp,
    exp2,
    expm1,
    hypot,
    log,
    log1p,
    log2,
    log10,
    sin,
    sinh,
    sqrt,
    tan,
    where,
)
from gradnet.formulas.rows import INFINITY, Row


def exp_dx(y):
    return y


def exp2_dx(y):
    return 0.6931471805599453 * y


def expm1_dx(x):
    return exp(x)


def log_dx(x):
    return 1 / x


def log1p_dx(x):
    return 1 / (1 + x)


def log2_dx(x):
    return 1.4426950408889634 / x


def log10_dx(x):
    return 0.4342944819032518 / x


def gap(a, b):
    """a - b, and 0 for equal infinities."""
    return where(a == b, 0.0, a) - where(a == b, 0.0, b)


def logaddexp(a, b):
    """log(exp(a) + exp(b))."""
    return maximum(a, b) + log1p(exp(-abs(gap(a, b))))


def logaddexp_da(a, b):
    e = exp(-abs(gap(a, b)))
    return where(a >= b, 1.0, e) / (1 + e)


def logaddexp_db(a, b):
    e = exp(-abs(gap(a, b)))
    return where(b >= a, 1.0, e) / (1 + e)


def sin_dx(x):
    return cos(x)


def cos_dx(x):
    return -sin(x)


def tan_dx(y):
    return 1 + y * y


def cot(x):
    """1 / tan(x)."""
    return cos(x) / sin(x)


def cot_dx(y):
    return -(1 + y * y)


def sec(x):
    """1 / cos(x)."""
    return 1 / cos(x)


def sec_dx(x, y):
    return y * y * sin(x)


def csc(x):
    """1 / sin(x)."""
    return 1 / sin(x)


def csc_dx(x, y):
    return -(y * y) * cos(x)


def asin_dx(x):
    return 1 / sqrt((1 - x) * (1 + x))


def acos_dx(x):
    return -1 / sqrt((1 - x) * (1 + x))


def atan_dx(x):
    # 1 / (1 + x**2) below 1 and (1 / x)**2 / (1 + (1 / x)**2) above: x**2 would overflow.
    r = 1 / maximum(abs(x), 1.0)
    v = minimum(abs(x), r)
    return r * r / (1 + v * v)


def acot(x):
    """The angle in (0, pi) whose cotangent is x."""
    return atan2(1.0, x)


def acot_dx(x):
    return -atan_dx(x)


def other_leg(x):
    """sqrt(x**2 - 1): the other leg of a right triangle with hypotenuse |x| and leg 1."""
    a = abs(x)
    b = minimum(a, 1e9)
    return where(a < 1e9, sqrt((b - 1) * (b + 1)), a)


def asec(x):
    """acos(1 / x), in [0, pi]."""
    angle = atan(other_leg(x))
    return where(x < 0, 3.141592653589793 - angle, angle)


def asec_dx(x):
    return 1 / abs(x) / other_leg(x)


def acsc(x):
    """asin(1 / x), in [-pi/2, pi/2]."""
    return copysign(atan(1 / maximum(other_leg(x), 1e-30)), x)


def acsc_dx(x):
    return -1 / abs(x) / other_leg(x)


def atan2_da(a, b):
    r = hypot(a, b)
    r = where(r == 0, 1.0, r)
    return b / r / r


def atan2_db(a, b):
    r = hypot(a, b)
    r = where(r == 0, 1.0, r)
    return -a / r / r


def hypot_da(a, y):
    return a / where(y == 0, 1.0, y)


def hypot_db(b, y):
    return b / where(y == 0, 1.0, y)


def sinh_dx(x):
    return cosh(x)


def cosh_dx(x):
    return sinh(x)


def asinh_dx(x):
    return 1 / hypot(1.0, x)


def acosh_dx(x):
    return 1 / (sqrt(x - 1) * sqrt(x + 1))


def atanh_dx(x):
    return 1 / ((1 - x) * (1 + x))


ELEMENTARY = (
    Row("exp", exp, (exp_dx,), flops=10, ulp=2.5, derivative_ulp=2.5),
    Row("exp2", exp2, (exp2_dx,), flops=10, ulp=2.7, derivative_ulp=1.9),
    Row("expm1", expm1, (expm1_dx,), flops=12, ulp=2.7, derivative_ulp=2.5),
    Row("log", log, (log_dx,), domain=(0.0, INFINITY), flops=10, ulp=3.6),
    Row(
        "log1p", log1p, (log1p_dx,), domain=(-1.0, INFINITY), flops=12, ulp=2.0, derivative_ulp=1.6
    ),
    Row("log2", log2, (log2_dx,), domain=(0.0, INFINITY), flops=10, ulp=2.1, derivative_ulp=0.9),
    Row("log10", log10, (log10_dx,), domain=(0.0, INFINITY), flops=10, ulp=3.0, derivative_ulp=1.0),
    Row(
        "logaddexp",
        logaddexp,
        (logaddexp_da, logaddexp_db),
        scale=1.0,
        derivative_scale=1.0,
        flops=26,
        ulp=1.5,
        derivative_ulp=0.9,
    ),
    Row("sin", sin, (sin_dx,), flops=12, ulp=1.5, derivative_ulp=1.5),
    Row("cos", cos, (cos_dx,), flops=12, ulp=1.6, derivative_ulp=1.5),
    Row("tan", tan, (tan_dx,), flops=16, ulp=3.7, derivative_ulp=6.8),
    Row("cot", cot, (cot_dx,), flops=28, ulp=3.0, derivative_ulp=5.7),
    Row("sec", sec, (sec_dx,), flops=16, ulp=2.5, derivative_ulp=6.0),
    Row("csc", csc, (csc_dx,), flops=16, ulp=2.7, derivative_ulp=6.0),
    Row("asin", asin, (asin_dx,), domain=(-1.0, 1.0), flops=16, ulp=3.2, derivative_ulp=2.2),
    Row("acos", acos, (acos_dx,), domain=(-1.0, 1.0), flops=16, ulp=2.1, derivative_ulp=2.2),
    Row("atan", atan, (atan_dx,), flops=14, ulp=2.2, derivative_ulp=4.1),
    Row("acot", acot, (acot_dx,), flops=18, ulp=3.4, derivative_ulp=4.1),
    Row("asec", asec, (asec_dx,), domain=(1.0, INFINITY), flops=28, ulp=3.7, derivative_ulp=2.8),
    Row("acsc", acsc, (acsc_dx,), domain=(1.0, INFINITY), flops=28, ulp=3.7, derivative_ulp=2.8),
    Row("atan2", atan2, (atan2_da, atan2_db), flops=18, ulp=3.6, derivative_ulp=3.5),
    Row("hypot", hypot, (hypot_da, hypot_db), flops=6, derivative_ulp=1.6),
    Row("sinh", sinh, (sinh_dx,), flops=14, ulp=2.0, derivative_ulp=2.5),
    Row("cosh", cosh, (cosh_dx,), flops=14, ulp=2.5, derivative_ulp=1.9),
    Row("asinh", asinh, (asinh_dx,), flops=18, ulp=1.8, derivative_ulp=1.6),
    Row("acosh", acosh, (acosh_dx,), domain=(1.0, INFINITY), flops=18, ulp=2.1, derivative_ulp=3.2),
    Row("atanh", atanh, (atanh_dx,), domain=(-1.0, 1.0), flops=18, ulp=1.8, derivative_ulp=2.2),
)
