"""Binding formulas to targets: the same numbers everywhere, every literal typed, no surprises."""

from __future__ import annotations

import ast
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import formulas_oracle as oracle
import numba
import numpy as np
import pytest
from mpmath import mp, mpf

import gradnet as gn
from gradnet import binding, formulas
from gradnet.binding import FormulaError
from gradnet.formulas import Row

# Formulas name what their targets supply.
# ruff: noqa: F821
# mypy: disable-error-code="name-defined"

SCALE = 0.75


def bent(x: Any, alpha: Any) -> Any:
    """A formula nobody has: (sqrt(x**2 + 1) - 1) / 2 + alpha x, gated, times a constant."""
    root = sqrt(x * x + 1)
    gate = where((x > -2.5) & (x < 1e3), (root - 1) / 2 + alpha * x, -0.125)
    return SCALE * gate + swish(x) * 1e-3


def bent_dx(x: Any, alpha: Any) -> Any:
    slope = where((x > -2.5) & (x < 1e3), 0.5 * x / sqrt(x * x + 1) + alpha, 0.0 * x)
    return SCALE * slope + swish_dx(x) * 1e-3


def reference(x: float, alpha: float) -> float:
    gate = (math.sqrt(x * x + 1) - 1) / 2 + alpha * x if -2.5 < x < 1e3 else -0.125
    return 0.75 * gate + x / (1 + math.exp(-x)) * 1e-3


POINTS = [-30.0, -2.5, -1.0, 0.0, 0.3, 7.0]


def test_a_new_formula_runs_on_every_target() -> None:
    alpha = 0.2
    expected = [reference(x, alpha) for x in POINTS]
    x = np.array(POINTS)
    np.testing.assert_allclose(oracle.on_numpy(bent)(x, alpha), expected, rtol=1e-14)
    compiled = oracle.on_numba(bent, numba.float64)
    np.testing.assert_allclose([compiled(v, alpha) for v in POINTS], expected, rtol=1e-14)
    exact = oracle.on_mpmath(bent)
    found = [float(exact(mpf(v), mpf(alpha))) for v in POINTS]
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    for name in gn.backends.available():
        backend = gn.backends.get(name)
        held = backend.from_host(x, copy=False)
        mapped = backend.to_host(backend.map(bent, held, alpha, dtype=np.dtype(np.float64)))
        np.testing.assert_allclose(mapped, expected, rtol=1e-14, err_msg=name)


def test_float32_stays_float32_on_every_target() -> None:
    x = np.float32(POINTS)
    assert oracle.on_numpy(bent)(x, 0.2).dtype == np.float32
    compiled = oracle.on_numba(bent)
    compiled(np.float32(0.3), np.float32(0.2))
    (signature,) = compiled.signatures
    assert compiled.overloads[signature].signature.return_type == numba.float32


def test_a_new_row_is_an_op_that_differentiates_twice() -> None:
    formulas.register(Row("bent", bent, (bent_dx, None), defaults={"alpha": 0.25}))
    try:
        from gradnet.ops.elementwise import op

        def total(x: Any) -> Any:
            return op("bent")(x).sum()

        x = gn.asarray([-1.0, 0.3, 7.0], dtype=gn.float64)
        slope = gn.grad(total)(x).numpy()
        curvature = gn.grad(lambda v: gn.grad(total)(v).sum())(x).numpy()
        for i, point in enumerate(x.numpy()):
            exact = oracle.on_mpmath(bent)
            first = mp.diff(lambda v, f=exact: f(v, mpf("0.25")), mpf(point))
            second = mp.diff(lambda v, f=exact: f(v, mpf("0.25")), mpf(point), 2)
            assert slope[i] == pytest.approx(float(first), rel=1e-12)
            assert curvature[i] == pytest.approx(float(second), rel=1e-10)
    finally:
        formulas.unregister("bent")


# -- The text of a formula ------------------------------------------------------------------------


def _all_formulas() -> dict[str, Any]:
    found: dict[str, Any] = {"bent": bent}
    for row in formulas.ROWS:
        for formula in (row.formula, *filter(None, row.derivatives)):
            found[formula.__name__] = formula
    for update in formulas.UPDATES.values():
        found[update.formula.__name__] = update.formula
    return found


@pytest.mark.parametrize("name", _all_formulas())
def test_every_literal_is_typed_and_every_name_known(name: str) -> None:
    source = binding.source(_all_formulas()[name])
    tree = ast.parse(source.text)
    # T(-1.0) is parsed as T of minus 1.0.
    typed = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "T"
        for inner in ast.walk(node.args[0])
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            assert id(node) in typed, ast.unparse(node)
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called in ("T", *source.functions, *source.primitives)
            assert called != "where"
    assert (source.literal == "T") == bool(typed)
    assert source.name == source.functions[-1]
    assert list(source.functions) == [node.name for node in ast.iter_child_nodes(tree)]  # type: ignore[attr-defined]


def test_text_of_a_small_formula() -> None:
    source = binding.source(formulas.leaky_relu)
    assert source.text == (
        "def f_minimum(a, b):\n"
        "    return a if (a < b) | (a != a) else b\n"
        "\n\n"
        "def f_leaky_relu(x, alpha):\n"
        "    return x if x > T(0) else alpha * f_minimum(x, T(0))\n"
    )
    assert source.arguments == ("x", "alpha")
    assert source.results == 1
    assert source.primitives == ()


def negative_numbers(x: Any) -> Any:
    return -1.5 * x - 2 + -x


def test_negative_numbers_are_one_literal() -> None:
    text = binding.source(negative_numbers, "Real").text
    assert "return Real(-1.5) * x - Real(2) + -x" in text


def test_text_is_the_same_in_every_process() -> None:
    program = (
        "from gradnet import binding, formulas\n"
        "for row in formulas.ROWS: print(binding.source(row.formula))\n"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert "def f_gelu(x)" in runs[0]


def test_formulas_of_the_same_name_are_kept_apart() -> None:
    def make(factor: int) -> Callable[..., Any]:
        inner = scaled_by_two if factor == 2 else scaled_by_three

        def scaled(x: Any) -> Any:
            return inner(x) + 1

        return scaled

    both = binding.compose(make(2), make(3))
    assert oracle.on_numpy(both)(1.0) == (1.0 * 3 + 1) * 2 + 1
    source = binding.source(both)
    assert len(set(source.functions)) == len(source.functions) == 5
    assert source.define({"T": float})(1.0) == 9.0


def scaled_by_two(x: Any) -> Any:
    return x * 2


def scaled_by_three(x: Any) -> Any:
    return x * 3


def test_locals_may_be_called_like_generated_names() -> None:
    def outer(f_scaled_by_two: Any) -> Any:
        return scaled_by_two(f_scaled_by_two)

    source = binding.source(outer)
    assert source.define({"T": float})(4.0) == 8.0


def test_values_may_be_called_like_what_the_target_supplies() -> None:
    def scaled(T: Any, exp: Any) -> Any:
        tanh = 2 * T + exp
        return formulas_tanh(tanh)

    formulas_tanh = formulas.tanh
    source = binding.source(scaled)
    assert source.primitives == ("tanh",)
    assert source.arguments == ("T", "exp")
    assert source.define({"T": float, "tanh": math.tanh})(0.25, 0.1) == pytest.approx(
        math.tanh(0.6)
    )
    assert oracle.on_numpy(scaled)(0.25, 0.1) == pytest.approx(math.tanh(0.6))


def test_constants_of_the_closure_are_written_out() -> None:
    shift = math.inf

    def shifted(x: Any) -> Any:
        return where(x < shift, x + SCALE, -shift)

    source = binding.source(shifted)
    assert "T(0.75)" in source.text
    assert source.define({"T": float})(1.0) == 1.75
    assert source.define({"T": float})(math.inf) == -math.inf
    assert list(oracle.on_numpy(shifted)(np.array([1.0, math.inf]))) == [1.75, -math.inf]


# -- Names ----------------------------------------------------------------------------------------


def test_names_come_from_the_namespace_first() -> None:
    sign = oracle.NUMPY | {"sign": lambda x: "the target's own"}
    assert binding.bind(formulas.sign, sign)(3.0) == "the target's own"
    assert binding.bind(formulas.abs_dx, sign)(3.0) == "the target's own"
    assert binding.bind(formulas.abs_dx, oracle.NUMPY)(np.float64(3.0)) == 1


def square(x: Any) -> Any:
    return 10 * x


def calls_square(x: Any) -> Any:
    return square(x)


def test_own_formulas_win_over_the_targets_of_that_name() -> None:
    names = oracle.NUMPY | {"square": np.square}
    assert binding.bind(square, names)(3.0) == 30
    assert binding.bind(calls_square, names)(3.0) == 30
    assert binding.bind(formulas.square, names)(3.0) == 9


def exp_like(x: Any) -> Any:
    return exp(x)


def test_a_bare_primitive_needs_no_import() -> None:
    assert oracle.on_numpy(exp_like)(np.float64(1.0)) == pytest.approx(math.e)
    assert binding.source(exp_like).primitives == ("exp",)


def test_bindings_are_remembered_per_namespace() -> None:
    other = dict(oracle.NUMPY)
    assert binding.bind(bent, oracle.NUMPY) is binding.bind(bent, oracle.NUMPY)
    assert binding.bind(bent, other) is not binding.bind(bent, oracle.NUMPY)


def fused(a: Any, b: Any, c: Any) -> Any:
    """A primitive of one target."""
    return fused(a, b, c)


def uses_fused(x: Any) -> Any:
    return fused(x, x, 1)


def where(c: Any, a: Any, b: Any) -> Any:
    """The primitive, stated once more."""
    return where(c, a, b)


def test_primitives() -> None:
    assert binding.is_primitive(formulas.exp)
    assert binding.is_primitive(formulas.where)
    assert binding.is_primitive(fused)
    assert not binding.is_primitive(formulas.relu)
    assert not binding.is_primitive(exp_like)
    names = {"fused": lambda a, b, c: a * b + c, "T": float}
    assert binding.bind(uses_fused, names)(3.0) == 10
    assert binding.source(uses_fused).define(names)(3.0) == 10
    assert binding.source(fused).define(names)(3.0, 2.0, 1.0) == 7
    assert binding.source(formulas.where).define({})(True, 1.0, 2.0) == 1


def test_missing_primitives_are_named() -> None:
    with pytest.raises(FormulaError, match="'fused' is a primitive, and the target supplies no"):
        binding.bind(uses_fused, {})
    with pytest.raises(FormulaError, match="'f_uses_fused' needs fused, T, which the target's"):
        binding.source(uses_fused).define({})


def test_arguments_and_results() -> None:
    assert binding.arguments(bent) == ("x", "alpha")
    assert binding.arguments(formulas.one) == ()
    assert binding.results(bent) == 1
    assert binding.results(formulas.lion_update) == 2
    assert binding.results(formulas.sgd_update) == 1
    assert oracle.on_numpy(formulas.minus_one)() == -1


# -- New formulas of old ones ---------------------------------------------------------------------


def test_vjp_multiplies_by_the_cotangent() -> None:
    product = binding.vjp(formulas.tanh_dx)
    assert product is binding.vjp(formulas.tanh_dx)
    assert binding.arguments(product) == ("g", "y")
    assert oracle.on_numpy(product)(3.0, 0.5) == 3 * 0.75
    assert oracle.on_numba(product)(np.float32(3), np.float32(0.5)) == 3 * 0.75
    assert binding.arguments(binding.vjp(formulas.one)) == ("g",)
    assert oracle.on_numpy(binding.vjp(formulas.minus_one))(2.0) == -2


def takes_g(g: Any) -> Any:
    return g


def test_vjp_refuses_a_derivative_in_g() -> None:
    with pytest.raises(FormulaError, match="'takes_g' takes 'g', which is the cotangent's name"):
        binding.vjp(takes_g)


def test_compose_is_bias_and_activation() -> None:
    layer = binding.compose(formulas.leaky_relu, formulas.add)
    assert binding.arguments(layer) == ("a", "b", "alpha")
    a, b = np.float32([[1, -2]]), np.float32([3, -4])
    found = oracle.on_numpy(layer)(a, b, np.float32(0.5))
    np.testing.assert_array_equal(found, [[4, -3]])
    assert found.dtype == np.float32
    assert oracle.on_numba(layer)(a[0, 1], b[1], np.float32(0.5)) == -3


def test_compose_keeps_arguments_of_one_name_apart() -> None:
    both = binding.compose(formulas.subtract, formulas.multiply)
    assert binding.arguments(both) == ("a", "b", "b_")
    assert oracle.on_numpy(both)(2.0, 3.0, 1.0) == 5

    def odd(between: Any, value: Any) -> Any:
        return between - value

    assert oracle.on_numpy(binding.compose(formulas.square, odd))(5.0, 3.0) == 4


def test_combine_makes_a_chain_with_several_results() -> None:
    chain = binding.combine(
        "chain",
        ("x", "b"),
        [
            ("sum", formulas.add, ("x", "b")),
            ("tanh", formulas.tanh, ("sum",)),
            ("twice", formulas.add, ("tanh", "tanh")),
        ],
        ("tanh", "twice"),
    )
    assert binding.results(chain) == 2
    assert oracle.on_numpy(chain)(0.25, 0.25) == (math.tanh(0.5), 2 * math.tanh(0.5))
    assert oracle.on_mpmath(chain)(mpf(0.25), mpf(0.25))[0] == mp.tanh(0.5)
    assert binding.source(chain).text.count("def f_add(") == 1


def test_combine_refuses_unknown_operands() -> None:
    with pytest.raises(FormulaError, match="'chain' has no value z in 'y'"):
        binding.combine("chain", ("x",), [("y", formulas.exp, ("z",))], ("y",))
    with pytest.raises(FormulaError, match="'chain' has no value z in 'return'"):
        binding.combine("chain", ("x",), [("y", formulas.exp, ("x",))], ("z",))
