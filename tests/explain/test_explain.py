"""Explanations: every number of the table against derivatives taken another way."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import formulas, nn
from gradnet.explainer import Explanation, Expression, ExpressionError, symbolic
from gradnet.explainer.expression import compute

pytestmark = pytest.mark.usefixtures("backend")


def close(a: Any, b: Any, rtol: float = 1e-12) -> None:
    np.testing.assert_allclose(np.asarray(a.numpy()), np.asarray(b), rtol=rtol, atol=1e-14)


def check(e: Explanation, f: Callable[..., Any], *inputs: Any) -> None:
    """Value, gradients and forward derivatives are those of gn.grad and gn.jvp, flows add up."""
    tensors = [gn.asarray(x, dtype=gn.float64) for x in inputs]
    value, gradients = gn.value_and_grad(f, argnums=tuple(range(len(inputs))))(*tensors)
    close(e.value, value.numpy())
    for step, gradient in zip(e.variables, gradients, strict=True):
        close(e.gradients[step.name], gradient.numpy())
    for i, step in enumerate(e.variables):
        ts = [gn.ones_like(x) if i == j else gn.zeros_like(x) for j, x in enumerate(tensors)]
        close(e.output.forward[step.name], gn.jvp(f, tuple(tensors), tuple(ts))[1].numpy())
    consistent(e)


def consistent(e: Explanation) -> None:
    """Gradients that flow to a variable add up to its own; both modes end with the same."""
    flows: dict[str, Any] = {}
    uses: dict[str, int] = {}
    for row in e.rows:
        assert row.backward is not None
        assert row.backward.shape == row.value.shape
        for partial in row.partials:
            source = e[partial.operand]
            assert partial.gradient.shape == source.value.shape
            flows[source.name] = flows.get(source.name, 0) + partial.gradient
            uses[source.name] = uses.get(source.name, 0) + 1
            if partial.value is not None and partial.value.shape == (
                *row.value.shape,
                *source.value.shape,
            ):
                # A whole Jacobian: the flow is the row's gradient times it.
                axes = row.value.ndim
                product = np.tensordot(row.backward.numpy(), partial.value.numpy(), axes)
                close(partial.gradient, product)
    for name, total in flows.items():
        close(total, e[name].backward.numpy())
        assert uses[name] == e[name].uses
    for step in e.variables:
        along = e.output.forward[step.name]
        close(gn.sum(e.gradients[step.name]), along.numpy(), rtol=1e-10)


# The lecture's circuits


def test_a_product() -> None:
    e = gn.explain(lambda x, y, z: (x + y) * z, -2, 5, -4)
    assert [(row.name, row.expression, row.gate) for row in e.rows] == [
        ("u1", "x + y", "distributes"),
        ("f", "u1 * z", "switches"),
    ]
    assert [float(row.value) for row in e.rows] == [3, -12]
    assert {name: float(g) for name, g in e.gradients.items()} == {"x": -4, "y": -4, "z": 3}
    first, last = e.rows
    assert [(p.operand, p.formula, float(p.value)) for p in first.partials] == [
        ("x", "1", 1),
        ("y", "1", 1),
    ]
    assert [(p.operand, p.formula, float(p.value), float(p.gradient)) for p in last.partials] == [
        ("u1", "z", -4, -4),
        ("z", "u1", 3, 3),
    ]
    assert {k: float(t) for k, t in last.forward.items()} == {"x": -4, "y": -4, "z": 3}
    assert float(first.backward) == -4
    check(e, lambda x, y, z: (x + y) * z, -2.0, 5.0, -4.0)


def test_text_is_a_function_too() -> None:
    e = gn.explain("-y * log(sigmoid(w * x))", 1, 3, 3)
    assert [step.name for step in e.inputs] == ["y", "w", "x"]
    assert e.expression == "-y * log(sigmoid(w * x))"
    assert float(e.gradients["w"]) == pytest.approx(
        -3 * math.exp(-9) / (1 + math.exp(-9)), rel=1e-13
    )
    assert e["u3"].expression == "sigmoid(u2)"
    assert e["u3"].partials[0].formula == "u3 * (1 - u3)"


def test_branches_add() -> None:
    def f(x: Any, y: Any) -> Any:
        u = x * y
        return u * u + gn.exp(x) * gn.maximum(x, y) ** 2 + x

    e = gn.explain(f, 1.5, 0.5)
    check(e, f, 1.5, 0.5)
    assert e["x"].uses == 4
    assert e["u1"].uses == 2
    assert e["y"].uses == 2
    assert e.rows[1].expression == "u1 * u1"
    assert "branches add: the gradients that reach x, y, u1 are summed" in e.gates()


# Formulas of partials


def operands(row: formulas.Row) -> list[float]:
    if row.domain == (-1.0, 1.0):
        return [0.3]
    return [1.3, 0.7, 1.9][: len(row.derivatives)]


SMOOTH = [
    row
    for row in formulas.rows()
    if row.kind in ("float", "numeric") and any(row.derivatives) and row.name != "where"
]


@pytest.mark.parametrize("row", SMOOTH, ids=lambda row: row.name)
def test_every_formula_of_a_partial_has_the_value_of_the_partial(row: formulas.Row) -> None:
    at = operands(row)
    op = gn.ops.elementwise(row.name)
    names = ["x", "b", "c"][: len(at)]
    e = gn.explain(lambda *xs: op(*xs), *at, names=names)
    check(e, lambda *xs: op(*xs), *at)
    known = {step.name: step.value for step in (*e.inputs, *e.rows)}
    for partial in e.output.partials:
        try:
            value = compute(ast.parse(partial.formula, mode="eval").body, known)
        except ExpressionError:
            # Too long to be written out, or with a helper: by its name in the catalogue.
            called = [
                n.func.id for n in ast.walk(ast.parse(partial.formula)) if isinstance(n, ast.Call)
            ]
            assert called
            assert all(name in formulas.FORMULAS for name in called)
            continue
        close(partial.value, float(value), rtol=1e-12)


@pytest.mark.parametrize(
    ("text", "at", "expected"),
    [
        ("x**3", [2], ["3 * x ** 2"]),
        ("x**2", [2], ["2 * x"]),
        ("x**1", [2], ["1"]),
        ("x**0.5", [4], ["0.5 * x ** (-0.5)"]),
        ("3**x", [2], ["f * log(3)"]),
        ("x**y", [2, 3], ["y * x ** (y - 1)", "f * log(x)"]),
        ("x*5", [2], ["5"]),
        ("5*x", [2], ["5"]),
        ("5/x", [2], ["-f / x"]),
        ("x/4", [2], ["1 / 4"]),
        ("x-y", [2, 3], ["1", "-1"]),
        ("max(x,y)", [2, 3], ["1 if x > y else 0", "1 if y > x else 0"]),
        ("max(x,y)", [2, 2], [f"1 if {p} else 0.5 if x == y else 0" for p in ("x > y", "y > x")]),
        ("min(x,1)", [2], ["1 if x < 1 else 0"]),
        ("abs(x)", [-2], ["sign(x)"]),
        ("relu(x)", [-2], ["1 if f > 0 else 0"]),
        ("leaky_relu(x,0.1)", [-2], ["1 if x > 0 else 0.1"]),
        ("elu(x,1)", [-2], ["1 if x > 0 else exp(x)"]),
        ("tanh(x)", [0.5], ["(1 - f) * (1 + f)"]),
        ("reciprocal(x)", [2], ["-f ** 2"]),
        ("gelu(x)", [2], ["gelu_dx(x)"]),
        ("floor(x)", [1.5], ["0"]),
        ("acot(x)", [1.5], ["acot_dx(x)"]),
        ("hypot(x,y)", [3, 4], ["x / f", "y / f"]),
    ],
)
def test_formulas_are_simplified_for_reading(
    text: str, at: list[float], expected: list[str]
) -> None:
    e = gn.explain(text, *at)
    assert [partial.formula for partial in e.output.partials] == expected


def test_an_op_without_a_derivative_of_its_own() -> None:
    from gradnet.formulas import exp

    @gn.elementwise
    def bump(x, width):
        return exp(-((x / width) ** 2))

    e = gn.explain(lambda x: bump(x, 2.0), 1.0)
    check(e, lambda x: bump(x, 2.0), 1.0)
    assert e.output.partials[0].formula == "bump'(x)"
    assert float(e.output.partials[0].value) == pytest.approx(-0.5 * math.exp(-0.25))


def test_a_custom_op() -> None:
    cube = gn.op(lambda x: x**3, vjp=lambda g, y, x: 3 * g * x**2, name="cube")
    e = gn.explain(lambda x: cube(x), 2.0)
    assert float(e.value) == 8
    assert float(e.gradients["x"]) == 12
    assert float(e.output.forward["x"]) == 12
    assert e.output.expression == "cube(x)"
    assert e.output.partials[0].formula == "d f / d x"
    assert float(e.output.partials[0].value) == 12


def test_a_step_that_no_gradient_reaches() -> None:
    e = gn.explain("floor(x * x) + x", 1.5)
    assert float(e["u1"].backward) == 0
    assert float(e["u1"].forward["x"]) == 3
    assert float(e["u2"].forward["x"]) == 0
    assert float(e.gradients["x"]) == 1


def reduced(x):
    return 0 + x * 1 + 0 * x - 0


def flipped(x):
    return +(x / 1) * -1


def restored(x):
    return -(0 - -x)


def folded(x):
    return x ** (2**3) * (6 / 3) + (2 + 3 - 4)


def chosen(x, alpha):
    return where(alpha == 1, x, where(x > 2, exp(x), exp(x)))  # noqa: F821


def inverted(x):
    return ~x


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        (reduced, "u"),
        (flipped, "-u"),
        (restored, "-u"),
        (folded, "u ** 8 * 2 + 1"),
        (chosen, "exp(u)"),
        (inverted, "~u"),
    ],
)
def test_what_a_reader_would_strike_out(formula: Callable[..., Any], text: str) -> None:
    names = {"x": "u", "alpha": "0.5"}
    given = {name: names[name] for name in formula.__code__.co_varnames}
    assert symbolic.partial(formula, given, lambda condition: False) == text


# Arrays


ARRAYS: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = [
    ("squared", lambda w, x: ((w @ x) ** 2).sum(), ([[0.1, 0.5], [-0.3, 0.8]], [0.2, 0.4])),
    ("mean", lambda x: gn.mean(gn.exp(x)), ([1.0, -2.0, 0.5],)),
    ("softmax", lambda x: gn.log(gn.softmax(x)[1]), ([1.0, 2.0, 0.5],)),
    ("row", lambda x, b: ((x + b) ** 2).sum(), ([[1.0, 2.0], [3.0, 4.0]], [0.5, -0.5])),
    ("max", lambda x: gn.max(x * x) + gn.min(x), ([1.0, -2.0, 0.5],)),
    ("index", lambda x: (x[0:2] * x[1]).sum() + x[-1], ([1.0, 2.0, 3.0],)),
    ("norm", lambda x: gn.linalg.vector_norm(x), ([3.0, 4.0],)),
    ("stack", lambda x, y: gn.stack([x * y, x + y]).prod(), (2.0, 3.0)),
    ("transpose", lambda x: (x.T @ x).sum(), ([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],)),
    ("cumulative", lambda x: (gn.cumulative_sum(x) * x).sum(), ([1.0, 2.0, 3.0],)),
    ("sorted", lambda x: (gn.sort(x) * gn.asarray([1.0, 2.0, 3.0])).sum(), ([3.0, 1.0, 2.0],)),
    ("split", lambda x: gn.unstack(x)[0] * gn.unstack(x)[2], ([3.0, 1.0, 2.0],)),
    ("clip", lambda x: gn.clip(x, -1.0, 1.0).sum(), ([-3.0, 0.5, 2.0],)),
    ("where", lambda x: gn.where(x > 0, x, x * x).sum(), ([-3.0, 0.5, 2.0],)),
    ("linear", lambda x, w: gn.ops.linear(x, w, activation="tanh").sum(), ([[1, 2]], [[0.1], [3]])),
    ("inner", lambda x: gn.grad(lambda y: y**3)(x) * x, (2.0,)),
    ("checkpoint", lambda x: gn.checkpoint(lambda y: gn.sin(y) * y)(x) + x, (2.0,)),
    ("large", lambda x: (x @ x).sum(), (np.arange(100.0).reshape(10, 10).tolist(),)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "f", "inputs"), ARRAYS, ids=[name for name, *_ in ARRAYS])
def test_arrays(name: str, f: Callable[..., Any], inputs: tuple[Any, ...]) -> None:
    e = gn.explain(f, *inputs)
    check(e, f, *inputs)
    assert str(e)
    assert e.svg()


def test_jacobians_of_partials() -> None:
    e = gn.explain(lambda w, x: ((w @ x) ** 2).sum(), [[0.1, 0.5], [-0.3, 0.8]], [0.2, 0.4])
    product = e["u1"]
    assert product.value.shape == (2,)
    dw, dx = product.partials
    close(dx.value, [[0.1, 0.5], [-0.3, 0.8]])
    close(dw.value, np.einsum("ij,k->ijk", np.eye(2), [0.2, 0.4]))
    assert (dw.formula, dx.formula) == ("g @ x.T", "w.T @ g")
    close(dw.gradient, [[0.088, 0.176], [0.104, 0.208]])
    close(dx.gradient, [-0.112, 0.636])
    assert e.output.expression == "sum(u2)"
    large = gn.explain(lambda x: (x @ x).sum(), np.ones((10, 10)))
    assert large["u1"].partials[0].value is None


def test_axes_that_are_reduced_are_told() -> None:
    e = gn.explain(lambda x: gn.max(gn.sum(x, axis=0)), [[1.0, 2.0], [3.0, 4.0]])
    assert [row.expression for row in e.rows] == ["sum(x, axis=0)", "max(u1)"]
    e = gn.explain(lambda x: x[0, 1:].sum() + x[..., 0].sum() + x[[0, 1]].sum(), np.eye(2))
    assert [r.expression for r in e.rows if r.op == "getitem"] == [
        "x[0, 1:]",
        "x[..., 0]",
        "x[indices]",
    ]


def test_a_network_with_its_parameters() -> None:
    model = nn.MLP((2, 3, 2), activation="tanh", output="softmax", dtype=gn.float64, seed=0)
    y = gn.asarray([0, 1])
    e = gn.explain(lambda X, y: nn.cross_entropy(model(X), y), [[1.0, 2.0], [3.0, 4.0]], y)
    assert [step.name for step in e.inputs] == ["X", "p1", "p2", "p3", "p4", "y"]
    assert e["y"].op == "constant"
    assert e["y"].backward is None
    assert list(e.gradients) == ["X", "p1", "p2", "p3", "p4"]
    loss = nn.cross_entropy(model(gn.asarray([[1.0, 2.0], [3.0, 4.0]], dtype=gn.float64)), y)
    loss.backward()
    close(e.value, float(loss))
    for i, p in enumerate(model.parameters()):
        close(e.gradients[f"p{i + 1}"], p.grad.numpy())
    consistent(e)
    assert e["u1"].expression == "linear(X, p1, p2, activation=tanh)"
    assert "cross_entropy(u2, y" in [row.expression for row in e.rows][2]


def test_constants_within_a_function() -> None:
    table = gn.asarray([1.0, 2.0, 3.0], dtype=gn.float64)
    e = gn.explain(lambda x: (x * table + gn.asarray(5.0, dtype=gn.float64)).sum(), 2.0)
    assert [row.expression for row in e.rows] == ["x * c1", "u1 + 5", "sum(u2)"]
    assert e["c1"].op == "constant"
    close(e["c1"].value, [1, 2, 3])
    assert float(e.gradients["x"]) == 6


# Programs that nobody thought of


def program(rng: np.random.Generator, depth: int) -> str:
    """A random expression of x, y and z, with values that are used again and again."""
    if depth == 0:
        return str(rng.choice(["x", "y", "z", "2", "0.5"]))
    left, right = program(rng, depth - 1), program(rng, depth - 1)
    forms = ["{a} + {b}", "{a} - {b}", "{a} * {b}", "{a} / (2 + ({b})**2)", "max({a}, {b})"]
    forms += ["sin({a}) * {b}", "tanh({a} + {b})", "sigmoid({a}) - {b}", "sqrt(1 + ({a})**2) * {b}"]
    return "(" + str(rng.choice(forms)).format(a=left, b=right) + ")"


@pytest.mark.parametrize("seed", range(6))
def test_random_programs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    text = program(rng, 4) + " + 0 * (x + y + z)"
    at = rng.uniform(-2, 2, 3).tolist()
    names = Expression(text).variables
    e = gn.explain(text, *(dict(zip("xyz", at, strict=True))[name] for name in names))
    consistent(e)
    eps = 1e-6
    for name in names:
        shifted = {n: v + (eps if n == name else 0) for n, v in zip("xyz", at, strict=True)}
        back = {n: v - (eps if n == name else 0) for n, v in zip("xyz", at, strict=True)}
        up, down = (
            float(gn.explain(text, *(point[n] for n in names)).value) for point in (shifted, back)
        )
        slope = (up - down) / (2 * eps)
        assert float(e.gradients[name]) == pytest.approx(slope, rel=1e-5, abs=1e-7)
