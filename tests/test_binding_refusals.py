"""What a formula may not contain, and how it is said."""

from __future__ import annotations

import math
from math import exp as imported_exp
from typing import Any

import formulas_oracle as oracle
import numpy as np
import pytest

from gradnet import binding
from gradnet.binding import FormulaError
from gradnet.errors import GradnetError

# Formulas name what their targets supply.
# ruff: noqa: F821
# mypy: disable-error-code="name-defined"

SCALE = 0.75


def with_if(x):
    if x > 0:
        return x
    return -x


def with_for(x):
    for _ in range(3):
        x = x * x
    return x


def with_conditional(x):
    return x if x > 0 else -x


def with_unknown(x):
    return frobnicate(x)


def with_default(x, alpha=0.1):
    return x * alpha


def with_star(*x):
    return x


def with_keyword_only(x, *, alpha):
    return x * alpha


def with_chain(x):
    return where(0 < x < 1, x, 0)


def with_keyword_call(x):
    return where(c=x > 0, a=x, b=0)


def with_starred_call(x):
    return maximum(*x)


def with_attribute(x):
    return math.exp(x)


def with_and(x):
    return where(x > 0 and x < 1, x, 0)


def with_not(x):
    return where(not x, x, 0)


def with_in(x):
    return x in x


def with_matmul(x):
    return x @ x


def with_text(x):
    return x + "1"


def with_true(x):
    return x + True


def with_complex(x):
    return x * 1j


def with_list(x):
    return [x, x]


def with_subscript(x):
    return x[0]


def with_inner_tuple(x):
    return maximum((x, x), 0)


def with_unpacking(a, b):
    a, b = b, a
    return a - b


def with_augmented(x):
    x += 1
    return x


def with_walrus(x):
    return (y := x) + y


def with_no_return(x):
    x = x + 1


def with_bare_return(x):
    return


def with_documentation_only(x):
    """Nothing else."""


def with_wrong_count(x):
    return maximum(x)


def with_called_argument(x):
    return x(x)


def with_global(x):
    return x + math


def with_unset_local(x):
    y = z + x
    z = y * y
    return y + z


def with_builtin(x):
    return float(x)


def with_import(x):
    return imported_exp(x)


def with_itself(x):
    return x * with_itself(x - 1)


def with_each_other(x):
    return 1 + with_one_another(x)


def with_one_another(x):
    return 2 * with_each_other(x)


def with_lost_constant(x):
    return x + LOST


LOST = math.nan


def unchanged(function):
    return function


@unchanged
def with_decorator(x):
    return x


def with_global_statement(x):
    global SCALE
    return x


REFUSED = [
    (with_if, "'with_if' contains If, which is not allowed; use where"),
    (with_for, "'with_for' contains For, which is not allowed: `for _ in range"),
    (with_conditional, "contains IfExp, which is not allowed; use where"),
    (with_unknown, "calls 'frobnicate', which is neither a primitive nor a formula"),
    (with_default, "'with_default' has default values; pass every argument"),
    (with_star, "'with_star' must take positional arguments only"),
    (with_keyword_only, "must take positional arguments only"),
    (with_chain, r"chains comparisons; write \(a < x\) & \(x < b\).*: `0 < x < 1`"),
    (with_keyword_call, "calls with keyword or starred arguments"),
    (with_starred_call, r"calls with keyword or starred arguments: `maximum\(\*x\)`"),
    (with_attribute, "calls something other than a bare name: `math.exp"),
    (with_and, "contains BoolOp, which is not allowed"),
    (with_not, "uses the operator Not: `not x`"),
    (with_in, "uses the operator In"),
    (with_matmul, "uses the operator MatMult"),
    (with_text, "has the literal '1'; only numbers are allowed"),
    (with_true, "has the literal True; only numbers are allowed"),
    (with_complex, "has the literal 1j; only numbers are allowed"),
    (with_list, "contains List, which is not allowed"),
    (with_subscript, "contains Subscript, which is not allowed"),
    (with_inner_tuple, "contains Tuple, which is not allowed"),
    (with_unpacking, "assigns to something other than one plain name: `a, b = "),
    (with_augmented, "contains AugAssign, which is not allowed"),
    (with_walrus, "contains NamedExpr, which is not allowed"),
    (with_no_return, "must end with `return` of an expression: `x = x \\+ 1`"),
    (with_bare_return, "must end with `return` of an expression"),
    (with_documentation_only, "must end with `return` of an expression"),
    (with_wrong_count, r"passes 1 arguments to maximum\(a, b\): `maximum\(x\)`"),
    (with_called_argument, "calls 'x', which is a value of its own"),
    (with_global, "reads 'math', which is not an argument, a local name or a numeric constant"),
    (with_unset_local, "reads 'z', which is not an argument"),
    (with_builtin, "calls 'float', which is neither a primitive nor a formula"),
    (with_itself, "calls itself: with_itself -> with_itself"),
    (with_each_other, "calls itself: with_each_other -> with_one_another -> with_each_other"),
    (with_lost_constant, "reads 'LOST', which is not an argument"),
    (with_decorator, "'with_decorator' is decorated; a formula is a plain function"),
    (with_global_statement, "contains Global, which is not allowed"),
    (with_import, "calls 'imported_exp', which is neither a primitive nor a formula"),
    (lambda x: x, "is not a formula; define one with `def name"),
    (math.exp, "is not a formula; define one with `def name"),
    (np.exp, "is not a formula; define one with `def name"),
]


@pytest.mark.parametrize(
    ("formula", "message"), REFUSED, ids=[getattr(f, "__name__", "") for f, _ in REFUSED]
)
def test_refused(formula: Any, message: str) -> None:
    with pytest.raises(FormulaError, match=message):
        binding.bind(formula, oracle.NUMPY)
    with pytest.raises(FormulaError, match=message):
        binding.source(formula)


def test_a_formula_needs_its_source() -> None:
    scope: dict[str, Any] = {}
    exec("def hidden(x):\n    return x\n", scope)
    with pytest.raises(FormulaError, match="'hidden' has no readable source in <string>"):
        binding.bind(scope["hidden"], oracle.NUMPY)


def test_formula_errors_are_value_errors_of_gradnet() -> None:
    assert issubclass(FormulaError, ValueError)
    assert issubclass(FormulaError, GradnetError)
