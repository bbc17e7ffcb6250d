"""Deck 3: computational graphs, and derivatives in forward and in backward mode."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from gradnet import ops
from gradnet.autodiff import grad, jacobian, jvp, value_and_grad
from gradnet.explainer import explain
from gradnet.lectures.examples import Figure, example, lecture, real, worked
from gradnet.nn import binary_cross_entropy
from gradnet.optim import SGD
from gradnet.tensor import Tensor


def unit(w1: Any, w2: Any) -> tuple[Any, Any, Any]:
    """u = w1 x1^3 + w2 x2 at x = (3, 5), its sigmoid, and half the squared error against 0."""
    u = w1 * 3.0**3 + w2 * 5.0
    s = ops.sigmoid(u)
    return u, s, 0.5 * (0 - s) ** 2


@example(
    "3.1",
    "One sigmoid unit, u = w1 x1^3 + w2 x2, and a step of gradient descent",
    "The new w1 is printed as -0.0599. It is 0.02 - 0.01 3.9857 = -0.0199, where the loss is "
    "0.0725; the loss printed, 0.0148, is that of w1 = -0.06.",
    "dL/dw1 is printed as 3.9851, the product of rounded factors; unrounded it is 3.9857.",
)
def one_unit() -> Iterator[Figure]:
    w1, w2 = real(0.02, requires_grad=True), real(0.01, requires_grad=True)
    u, s, loss = unit(w1, w2)
    yield lecture("u", 0.59, u, within=1e-12)
    yield lecture("sigmoid(u)", 0.6434, s, digits=4)
    yield lecture("L = (0 - sigmoid(u))^2 / 2", 0.2070, loss, digits=4)
    loss.backward()
    exact = 1 / (1 + math.exp(-0.59))
    slope = exact * exact * (1 - exact)
    yield lecture("dL/dw1 from rounded factors", 3.9851, 0.6434 * 0.2294 * 27, digits=4)
    yield lecture("dL/dw1", 3.9851, w1.grad, within=3.9851 * 2e-4, note="see the misprints")
    yield worked("dL/dw1, unrounded", slope * 27, w1.grad, relative=1e-14)
    yield worked("dL/dw2, unrounded", slope * 5, w2.grad, relative=1e-14)
    yield worked("sigmoid'(u)", exact * (1 - exact), grad(ops.sigmoid)(real(0.59)))
    SGD([w1], lr=0.01).step()
    yield lecture("w1 after a step of 0.01, corrected", -0.0199, w1, digits=4)
    yield lecture("L there, corrected", 0.0725, unit(w1, w2)[2], digits=4)
    yield lecture("L at w1 = -0.06, as printed", 0.0148, unit(real(-0.06), w2)[2], digits=4)


# d/dW of -y log sigmoid(W x) at x = 3, y = 1, W = 3, step by step.
E9 = math.exp(-9)
S9 = 1 / (1 + E9)
VALUES = {
    "u1": 9.0,
    "u2": -9.0,
    "u3": E9,
    "u4": 1 + E9,
    "u5": S9,
    "u6": math.log(S9),
    "L": -math.log(S9),
}
BACKWARD = {  # dL/du, from the loss back
    "L": 1.0,
    "u6": -1.0,
    "u5": -1 / S9,
    "u4": S9,
    "u3": S9,
    "u2": S9 * E9,
    "u1": -S9 * E9,
}
FORWARD = {  # du/dW, from the weight on
    "u1": 3.0,
    "u2": -3.0,
    "u3": -3 * E9,
    "u4": -3 * E9,
    "u5": 3 * E9 * S9**2,
    "u6": 3 * E9 * S9,
    "L": -3 * E9 * S9,
}
PARTIALS = {  # of each step in the one before it
    "u1": ("3", 3.0),
    "u2": ("-1", -1.0),
    "u3": ("u3", E9),
    "u4": ("1", 1.0),
    "u5": ("-u5 / u4", -(S9**2)),
    "u6": ("1 / u5", 1 + E9),
    "L": ("-1", -1.0),
}
STEPS = {
    "u1": "W x",
    "u2": "-u1",
    "u3": "exp(u2)",
    "u4": "1 + u3",
    "u5": "1 / u4",
    "u6": "log(u5)",
    "L": "-y u6",
}
TOTAL = 0.00037018372


def steps_of_the_table(w: Any, x: float = 3.0, y: float = 1.0) -> dict[str, Any]:
    """Every intermediate value of -y log sigmoid(w x), by name."""
    seen = {"u1": w * x}
    seen["u2"] = -seen["u1"]
    seen["u3"] = ops.exp(seen["u2"])
    seen["u4"] = 1 + seen["u3"]
    seen["u5"] = 1 / seen["u4"]
    seen["u6"] = ops.log(seen["u5"])
    seen["L"] = -y * seen["u6"]
    return seen


@example(
    "3.2",
    "The table of d/dW of -y log sigmoid(W x) at x = 3, y = 1, W = 3, in both modes",
    "The total derivative is printed without its sign, and cut off, not rounded: 0.00037018372 for "
    "-0.000370183724....",
)
def table() -> Iterator[Figure]:
    w = real(3.0, requires_grad=True)
    seen = steps_of_the_table(w)
    found: dict[str, float] = {}
    for name, u in seen.items():
        yield worked(f"{name} = {STEPS[name]}", VALUES[name], u, relative=1e-14)
        u.register_hook(lambda g, name=name: found.__setitem__(name, float(g)))
    seen["L"].backward()
    yield worked("backward mode goes from the loss back", True, list(found) == list(BACKWARD))
    for name, expected in BACKWARD.items():
        yield worked(f"dL/d{name}, backward", expected, found[name], relative=1e-14)
    tangents = jvp(lambda w: tuple(steps_of_the_table(w).values()), real(3.0), real(1.0))[1]
    for (name, expected), t in zip(FORWARD.items(), tangents, strict=True):
        yield worked(f"d{name}/dW, forward", expected, t, relative=1e-14)
    yield lecture("dL/dW", -0.000370, w.grad, digits=6)
    yield lecture("dL/dW by forward mode", -0.000370, tangents[-1], digits=6)
    cut = math.floor(-float(tangents[-1]) * 1e11) / 1e11
    yield lecture("its magnitude, cut off", TOTAL, cut, within=1e-16, note="see the misprints")
    yield worked("dL/dW = -3 exp(-9) sigmoid(9)", -3 * E9 * S9, w.grad, relative=1e-14)


@example("3.3", "The same table by `gradnet.explain`: formulas, partials, both modes")
def explained_table() -> Iterator[Figure]:
    e = explain(lambda W: steps_of_the_table(W)["L"], 3.0, names=["W"], output="L")
    for row in e.rows:
        (partial,) = row.partials
        formula, value = PARTIALS[row.name]
        name = f"d{row.name}/d{partial.operand}"
        yield worked(f"formula of {name}: {formula}", True, partial.formula == formula)
        yield worked(f"  {name}", value, partial.value)
        yield worked(f"  {row.name}, value", VALUES[row.name], row.value)
        yield worked(f"  forward d{row.name}/dW", FORWARD[row.name], row.forward["W"])
        yield worked(f"  backward dL/d{row.name}", BACKWARD[row.name], row.backward)


@example("3.4", "The same loss in one piece: stable, with the same derivative")
def one_loss() -> Iterator[Figure]:
    exact = -3 * E9 * S9
    slope = grad(lambda w: -ops.log_sigmoid(w * 3.0))(real(3.0))
    yield worked("-log_sigmoid(W x)", exact, slope, relative=1e-14)
    slope = grad(lambda w: ops.softplus(-w * 3.0))(real(3.0))
    yield worked("softplus(-W x)", exact, slope, relative=1e-14)
    slope = grad(lambda w: binary_cross_entropy(w * real([3.0]), real([1.0])))(real(3.0))
    yield worked("binary_cross_entropy(W x, 1)", exact, slope, relative=1e-12)
    far = value_and_grad(lambda w: -ops.log_sigmoid(w * 3.0))(real(-300.0))
    yield worked(
        "at W = -300, where 1 / (1 + exp(900)) is 0: loss, slope", [900, -3], [*map(float, far)]
    )


@example("3.5", "The circuit of (x + y) z at (-2, 5, -4)")
def product() -> Iterator[Figure]:
    e = explain("(x + y) * z", -2, 5, -4)
    yield worked("q = x + y", 3, e["u1"].value)
    yield worked("f = q z", -12, e.value)
    yield lecture("df/dx, df/dy, df/dz", [-4, -4, 3], [float(g) for g in e.gradients.values()])
    slopes = [float(e.output.forward[name]) for name in "xyz"]
    yield lecture("by forward mode", [-4, -4, 3], slopes)
    yield worked("df/dq = z", -4, e["u1"].backward)


@example("3.6", "The circuit of sigmoid(w0 x0 + w1 x1 + w2) at w = (2, -3, -3), x = (-1, -2)")
def sigmoid_circuit() -> Iterator[Figure]:
    def f(w0: Any, x0: Any, w1: Any, x1: Any, w2: Any) -> Any:
        return ops.sigmoid(w0 * x0 + w1 * x1 + w2)

    at = [real(v) for v in (2, -1, -3, -2, -3)]
    value, gradients = value_and_grad(f, argnums=(0, 1, 2, 3, 4))(*at)
    exact = math.e / (1 + math.e)
    slope = exact * (1 - exact)
    yield lecture("value", 0.73, value, digits=2)
    shown = [-0.20, 0.39, -0.39, -0.59, 0.20]
    yield lecture("gradients of w0, x0, w1, x1, w2", shown, [float(g) for g in gradients], digits=2)
    exactly = [factor * slope for factor in (-1, 2, -2, -3, 1)]
    yield worked("unrounded", exactly, [float(g) for g in gradients])
    # The long way: *(-1), exp, 1 + x, 1 / x. Each gate's gradient is its slope times the next.
    e = explain(lambda u: 1 / (1 + ops.exp(-u)), 1.0)
    chain = [-(exact**2), -(exact**2), -slope, slope]
    found = [e[name].backward for name in ("u3", "u2", "u1", "u")]
    yield worked(
        "gradients of 1 + exp(-u), exp(-u), -u, u",
        chain,
        [g.item() for g in found if g is not None],
    )


@example("3.7", "Matrices: ||W x||^2 with W = [[0.1, 0.5], [-0.3, 0.8]], x = (0.2, 0.4)")
def squared_length() -> Iterator[Figure]:
    w, x = real([[0.1, 0.5], [-0.3, 0.8]]), real([0.2, 0.4])

    def f(w: Any, x: Any) -> Any:
        return ((w @ x) ** 2).sum()

    value, (dw, dx) = value_and_grad(f, argnums=(0, 1))(w, x)
    yield worked("q = W x", [0.22, 0.26], w @ x)
    yield lecture("value", 0.116, value, digits=3)
    yield worked("0.22^2 + 0.26^2", 0.22**2 + 0.26**2, value)
    yield worked("dq = 2 q", [0.44, 0.52], grad(lambda q: (q**2).sum())(w @ x))
    yield lecture("dW = 2 q x^T", [[0.088, 0.176], [0.104, 0.208]], dw, within=1e-13)
    yield lecture("dx = 2 W^T q", [-0.112, 0.636], dx, within=1e-13)
    yield worked("Jacobian of W x in x is W", w.tolist(), jacobian(lambda x: w @ x)(x))


@example("3.8", "What gates do: add distributes, max routes, multiply switches, branches add")
def gates() -> Iterator[Figure]:
    e = explain("2 * (x*y + max(z, w))", 3, -4, 2, -1)
    yield worked("f = 2 (x y + max(z, w)) at x, y, z, w = 3, -4, 2, -1", -20, e.value)
    yield worked("df/dx, df/dy: switched", [-8, 6], [float(e.gradients[k]) for k in "xy"])
    yield worked(
        "df/dz, df/dw: routed to the larger", [2, 0], [float(e.gradients[k]) for k in "zw"]
    )
    kinds = [row.gate for row in e.rows]
    shown = ["switches", "routes", "distributes", "scales"]
    yield worked("the gates are called so", True, kinds == shown)
    e = explain("x * y + x", 3, -4)
    yield worked("d(x y + x)/dx: y and 1 add", -3, e.gradients["x"])
    yield worked("over branches", 2, e["x"].uses)
    tie = explain("max(x, y)", 2, 2)
    yield worked("a tie is shared", [0.5, 0.5], [float(g) for g in tie.gradients.values()])


@example("3.9", "The calculus table of derivatives, at points where they are known exactly")
def calculus() -> Iterator[Figure]:
    ln2, root3 = math.log(2), math.sqrt(3)
    table: list[tuple[str, str, float, float]] = [
        ("exp", "exp x", ln2, 2),
        ("expm1", "exp x", ln2, 2),
        ("exp2", "2^x ln 2", 3, 8 * ln2),
        ("log", "1 / x", 4, 0.25),
        ("log1p", "1 / (1 + x)", 1, 0.5),
        ("log2", "1 / (x ln 2)", 4, 0.25 / ln2),
        ("log10", "1 / (x ln 10)", 4, 0.25 / math.log(10)),
        ("sqrt", "1 / (2 sqrt x)", 4, 0.25),
        ("square", "2 x", 3, 6),
        ("reciprocal", "-1 / x^2", 2, -0.25),
        ("sin", "cos x", math.pi / 3, 0.5),
        ("cos", "-sin x", math.pi / 6, -0.5),
        ("tan", "1 / cos^2 x", math.pi / 4, 2),
        ("cot", "-1 / sin^2 x", math.pi / 4, -2),
        ("sec", "sec x tan x", math.pi / 3, 2 * root3),
        ("csc", "-csc x cot x", math.pi / 6, -2 * root3),
        ("asin", "1 / sqrt(1 - x^2)", 0.6, 1.25),
        ("acos", "-1 / sqrt(1 - x^2)", 0.6, -1.25),
        ("atan", "1 / (1 + x^2)", 2, 0.2),
        ("acot", "-1 / (1 + x^2)", 2, -0.2),
        ("asec", "1 / (|x| sqrt(x^2 - 1))", 1.25, 1 / (1.25 * 0.75)),
        ("acsc", "-1 / (|x| sqrt(x^2 - 1))", 1.25, -1 / (1.25 * 0.75)),
        ("sinh", "cosh x", ln2, 1.25),
        ("cosh", "sinh x", ln2, 0.75),
        ("tanh", "1 - tanh^2 x", ln2, 0.64),
        ("asinh", "1 / sqrt(x^2 + 1)", 0.75, 0.8),
        ("acosh", "1 / sqrt(x^2 - 1)", 1.25, 4 / 3),
        ("atanh", "1 / (1 - x^2)", 0.6, 1.5625),
        ("erf", "2 exp(-x^2) / sqrt(pi)", 0, 2 / math.sqrt(math.pi)),
        ("abs", "sign x", -2, -1),
        ("sigmoid", "y (1 - y)", math.log(3), 0.1875),
    ]
    for name, formula, at, expected in table:
        op: Callable[[Tensor], Tensor] = ops.elementwise(name)
        both = [float(grad(op)(real(at))), float(jvp(op, real(at), real(1.0))[1])]
        yield worked(f"{name}' = {formula} at {at:.4g}, both modes", [expected] * 2, both)
    power = grad(ops.pow, argnums=(0, 1))(real(2.0), real(3.0))
    yield worked("x^a in x and in a at (2, 3)", [12, 8 * ln2], [float(g) for g in power])


@example("3.10", "How many passes: forward mode by inputs, backward mode by outputs")
def passes() -> Iterator[Figure]:
    x = real([1.0, 2.0, 3.0])

    def f(x: Any) -> Any:
        return (x**2).sum()

    whole = grad(f)(x)
    yield worked("gradient of sum x^2 in one backward pass", [2, 4, 6], whole)
    one_by_one = []
    for k in range(3):
        along = ops.one_hot(ops.asarray(k), 3, dtype="float64")
        one_by_one.append(float(jvp(f, x, along)[1]))
    yield worked("the same in three forward passes", [2, 4, 6], one_by_one)
    twice = jacobian(grad(f))(x)
    shown = [[2, 0, 0], [0, 2, 0], [0, 0, 2]]
    yield worked("the Hessian: forward over backward", shown, twice)
