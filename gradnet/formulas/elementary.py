"""The elementary functions of a calculus table, with their derivatives."""

from gradnet.formulas.primitives import exp, log
from gradnet.formulas.rows import INFINITY, Row


def exp_dx(y):
    return y


def log_dx(x):
    return 1 / x


ELEMENTARY = (
    Row("exp", exp, (exp_dx,), flops=10),
    Row("log", log, (log_dx,), domain=(0.0, INFINITY), flops=10),
)
