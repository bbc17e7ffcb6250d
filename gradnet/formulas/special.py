"""The error function and the normal distribution's, of exp and polynomials alone.

NumPy has no error function, so it is written here once for every target. With x >= 0,

    erfc(x) = exp(-x**2) h(q) / (1 + 2x),    q = (x - 4) / (x + 4)

where h is smooth and nearly constant on the whole half line (M. M. Shepherd and J. G. Laframboise,
Mathematics of Computation 36, 1981): a Chebyshev fit of degree 22, made with 60 digits, is within
6e-17 of it for x <= 28, where erfc ends in float64.
"""

from gradnet.formulas.arithmetic import minimum
from gradnet.formulas.primitives import abs, copysign, exp, expm1, trunc, where
from gradnet.formulas.rows import Row


def tail_excess(q):
    """(1 + 2x) exp(x**2) erfc(x) - 1.25 at q = (x - 4) / (x + 4), x >= 0."""
    high = 6.258721442256385e-08 + q * (
        1.1494863135062745e-07
        + q * (-7.764817952397257e-09 + q * (-1.3529367067220971e-08 + q * -1.7668021904964841e-09))
    )
    middle = 0.00015062234674481447 + q * (
        -2.4403036998954536e-05
        + q
        * (
            -1.1225008755089552e-05
            + q
            * (
                5.717563626689596e-06
                + q * (3.016107881318932e-07 + q * (-8.346789501461553e-07 + q * high))
            )
        )
    )
    low = -0.0663303658119996 + q * (
        0.037167515561938515
        + q
        * (
            -0.0161977340542423
            + q
            * (
                0.005031969761432285
                + q * (-0.000757773370277741 + q * (-0.0001992555416162786 + q * middle))
            )
        )
    )
    return -0.017004881374447387 + q * (
        -0.1396211168405629
        + q
        * (
            0.015379652102620305
            + q
            * (
                0.06809705425473639
                + q * (-0.10103906603632913 + q * (0.09373283499682628 + q * low))
            )
        )
    )


def gaussian_tail(a, rate, slope, slope_rest, centre, shift):
    """exp(shift - rate a**2) h(q) / (1 + slope a), q = (a - centre) / (a + centre), 0 <= a <= 40.

    A rounding in a**2 would be magnified by exp, and a rounding in each factor adds up. So a is
    split into z, of at most 12 bits, and d; the quotient into r0, of at most 10 bits, and what is
    left over. Products of z, r0 and the leading bits of the slope are exact in float32.
    """
    z = trunc(a * 128) / 128
    d = a - z
    s = tail_excess((a - centre) / (a + centre))
    width = 1 + (slope + slope_rest) * a
    r = (1.25 + s) / width
    r0 = trunc(r * 512) / 512
    rest = ((1.25 - r0) - slope * z * r0) + (s - r0 * (slope * d + slope_rest * a))
    e = exp(shift - rate * z * z)
    return e * r0 + e * (rest / width + r * expm1(-rate * d * (z + a)))


def exp_minus_square(x):
    """exp(-x**2), with x split as in gaussian_tail."""
    a = minimum(abs(x), 30.0)
    z = trunc(a * 128) / 128
    e = exp(-z * z)
    return e + e * expm1((z - a) * (z + a))


def erf_near_zero(x):
    """erf(x) for |x| <= 0.5: a Chebyshev fit of erf(x) / x - 1 in x**2, within 5e-18."""
    s = x * x
    p = 0.00012053337222877719 + s * (-1.4845900896375835e-05 + s * 1.4726381680017032e-06)
    p = -0.026866170632921085 + s * (0.005223977373542183 + s * (-0.0008548297798086192 + s * p))
    p = 0.12837916709551256 + s * (-0.37612638903183476 + s * (0.11283791670925457 + s * p))
    return x + x * p


def erfc(x):
    """1 - erf(x), accurate far into the tail."""
    a = minimum(abs(x), 30.0)
    tail = gaussian_tail(a, 1.0, 2.0, 0.0, 4.0, 0.0)
    # Near 1 the difference rounds once, where the product rounds in every factor.
    near = 1 - erf_near_zero(minimum(a, 0.5))
    upper = where(a <= 0.5, near, tail)
    return where(x < 0, 2 - upper, upper)


def erfc_dx(x):
    return -1.1283791670955126 * exp_minus_square(x)


def erf(x):
    """2 / sqrt(pi) times the integral of exp(-t**2) from 0 to x."""
    a = minimum(abs(x), 30.0)
    tail = gaussian_tail(a, 1.0, 2.0, 0.0, 4.0, 0.0)
    return copysign(where(a <= 0.5, erf_near_zero(minimum(a, 0.5)), 1 - tail), x)


def erf_dx(x):
    return 1.1283791670955126 * exp_minus_square(x)


SPECIAL = (
    Row(
        "erf",
        erf,
        (erf_dx,),
        flops=70,
        source="Shepherd and Laframboise 1981",
        ulp=2.3,
        derivative_ulp=3.5,
    ),
    Row(
        "erfc",
        erfc,
        (erfc_dx,),
        flops=70,
        source="Shepherd and Laframboise 1981",
        ulp=3.4,
        derivative_ulp=3.5,
    ),
)
