"""Functional derivatives: reverse and forward mode, nested in every order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.errors import DTypeError, GraphError, ShapeError

pytestmark = pytest.mark.usefixtures("backend")

Function = Callable[[Any], Any]


def f64(values: Any, *, requires_grad: bool = False) -> gn.Tensor:
    return gn.asarray(np.asarray(values, np.float64), requires_grad=requires_grad)


def forward(f: Function) -> Function:
    """The derivative of a function of a scalar, in forward mode."""
    return lambda x: gn.jvp(f, x, gn.ones_like(x))[1]


def reverse(f: Function) -> Function:
    """The same in reverse mode."""
    return gn.grad(f)


def pulled(f: Function) -> Function:
    """The same by pulling a cotangent back."""

    def derivative(x: Any) -> Any:
        y, pull = gn.vjp(f, x)
        return pull(gn.ones_like(y))

    return derivative


MODES = {"forward": forward, "reverse": reverse, "vjp": pulled}


# Nesting


@pytest.mark.parametrize("modes", list(itertools.product(MODES, repeat=3)), ids="-".join)
def test_third_derivatives_in_every_nesting(modes: tuple[str, ...]) -> None:
    f: Function = lambda x: gn.sin(x) * x**4  # noqa: E731
    for mode in modes:
        f = MODES[mode](f)
    x = 0.7
    exact = (24 * x - 12 * x**3) * math.sin(x) + (36 * x**2 - x**4) * math.cos(x)
    assert float(f(f64(x))) == pytest.approx(exact, rel=1e-13)


@pytest.mark.parametrize("outer", MODES)
@pytest.mark.parametrize("inner", MODES)
def test_perturbations_are_not_confused(outer: str, inner: str) -> None:
    do, di = MODES[outer], MODES[inner]
    # d/dx (x * d/dy (x + y)) = 1: an inner tangent mistaken for the outer one would give 2.
    f = do(lambda x: x * di(lambda y: x + y)(f64(1.0)))
    assert float(f(f64(1.0))) == 1
    # d/dx (x * d/dy (x y)) = 2x.
    f = do(lambda x: x * di(lambda y: x * y)(f64(3.0)))
    assert float(f(f64(2.0))) == 4
    # d/dx of d/dy sin(x y) at y = x: with the inner point itself depending on x.
    f = do(lambda x: di(lambda y: gn.sin(x * y))(x))
    x = 0.6
    exact = math.cos(x * x) - 2 * x * x * math.sin(x * x)
    assert float(f(f64(x))) == pytest.approx(exact, rel=1e-14)


@pytest.mark.parametrize("outer", MODES)
def test_derivatives_in_the_tangent(outer: str) -> None:
    # A tangent that depends on the variable: d/dx (3^2)' x = 6, and d/dx of its square 72 x.
    inner: Function = lambda x: gn.jvp(lambda y: y * y, f64(3.0), x)[1]  # noqa: E731
    assert float(MODES[outer](inner)(f64(2.0))) == 6
    assert float(MODES[outer](lambda x: inner(x) ** 2)(f64(2.0))) == 144
    cotangent: Function = lambda x: gn.vjp(lambda y: y * y, f64(3.0))[1](x)  # noqa: E731
    assert float(MODES[outer](cotangent)(f64(2.0))) == 6


def test_an_operand_that_is_its_own_cotangent() -> None:
    # exp pulled back by its own output: e^2x, whose derivative is 2 e^2x.
    x = f64(0.3, requires_grad=True)
    y = gn.exp(x)
    y.backward(y, create_graph=True)
    g, x.grad = x.grad, None
    g.backward()
    assert float(x.grad) == pytest.approx(2 * math.exp(0.6), rel=1e-14)


def test_an_operand_given_twice() -> None:
    a = np.random.default_rng(0).standard_normal((3, 3)) / 2
    for f in (
        lambda x: gn.ops.linear(x, x, activation="tanh"),
        lambda x: x @ x,
        lambda x: x * x,
        lambda x: gn.atan2(x, x * 2),
        lambda x: gn.ops.softmax_cross_entropy(x, gn.ops.softmax(x), 1.0, 0.0),
        lambda x: gn.concat([x, x]),
        lambda x: gn.where(x > 0, x, x),
    ):
        gn.gradcheck(f, a, order=2)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: gn.sin(x) * gn.cos(x) + x,
        lambda x: (lambda h: h * gn.exp(h) - h / (1 + h * h))(gn.tanh(x)),
        lambda x: gn.stack([x * x, x.sum() * x]).sum(axis=0),
        lambda x: (x[None, :] * x[:, None]).sum(axis=1) ** 2,
        lambda x: gn.ops.softmax(x) * gn.ops.log_softmax(x),
        lambda x: gn.std(x) * gn.ops.logsumexp(x) * gn.prod(x),
        lambda x: gn.sort(x)[::-1] * gn.cumulative_sum(x),
        lambda x: gn.where(x > 0, x**3, gn.exp(x)),
        lambda x: gn.maximum(x, 0.5) * gn.minimum(x, gn.flip(x)),
        lambda x: (x, gn.sin(x.sum())),
    ],
)
def test_graphs_that_branch_and_join(f: Function) -> None:
    gn.gradcheck(f, np.array([0.7, -0.4, 1.3, 0.2]), order=2)


# Functions of several arguments


def test_argnums() -> None:
    def f(a: Any, b: Any, c: Any = 2.0) -> Any:
        return (a * a * b * c).sum()

    a, b = f64([1.0, 2.0]), f64([3.0, 4.0])
    assert gn.grad(f)(a, b).tolist() == [12, 32]
    assert gn.grad(f, argnums=1)(a, b, c=1.0).tolist() == [1, 4]
    both = gn.grad(f, argnums=(0, -1))(a, b)
    assert [g.tolist() for g in both] == [[12, 32], [2, 8]]
    value, gradient = gn.value_and_grad(f)(a, b)
    assert float(value) == 38
    assert not value.requires_grad
    assert gradient.tolist() == [12, 32]
    with pytest.raises(ShapeError, match="argnums 2 for a function called with 2 arguments"):
        gn.grad(f, argnums=2)(a, b)
    # The same tensor in two places has two gradients.
    same = gn.grad(f, argnums=(0, 1))(a, a)
    assert [g.tolist() for g in same] == [[4, 16], [2, 8]]


def test_has_aux() -> None:
    def f(x: Any) -> Any:
        return (x * x).sum(), {"mean": x.mean()}

    gradient, aux = gn.grad(f, has_aux=True)(f64([1.0, 2.0]))
    assert gradient.tolist() == [2, 4]
    assert float(aux["mean"]) == 1.5
    (value, _), gradient = gn.value_and_grad(f, has_aux=True)(f64([1.0, 2.0]))
    assert float(value) == 5


def test_what_a_gradient_does_not_depend_on() -> None:
    x = f64([1.0, 2.0])
    for f in (
        lambda x: f64(3.0),
        lambda x: gn.argmax(x).astype(gn.float64),
        lambda x: (x * 0).sum(),
        lambda x: x.detach().sum(),
        lambda x: gn.floor(x).sum(),
    ):
        assert gn.grad(f)(x).tolist() == [0, 0]
        assert float(gn.jvp(f, x, x)[1]) == 0
    assert gn.jacobian(lambda x: f64([1.0, 2.0, 3.0]))(x).tolist() == [[0, 0]] * 3


def test_lists_and_numpy_arrays_as_arguments() -> None:
    assert gn.grad(lambda x: (x * x).sum())([1.0, 2.0]).tolist() == [2, 4]
    found = gn.grad(lambda x: (x * x).sum())(np.array([1.0, 2.0]))
    assert found.dtype == gn.float64
    assert float(gn.jvp(lambda x: x * x, 3.0, 1.0)[1]) == 6


def test_vjp_can_be_pulled_again() -> None:
    (a, b), pull = gn.vjp(lambda x, w: (x * w, gn.sin(x)), f64([1.0, 2.0]), f64([3.0, 4.0]))
    assert not a.requires_grad
    assert not b.requires_grad
    zero, one = f64([0.0, 0.0]), f64([1.0, 1.0])
    for _ in range(2):
        gx, gw = pull(one, zero)
        assert gx.tolist() == [3, 4]
        assert gw.tolist() == [1, 2]
        gx, gw = pull((zero, one))
        np.testing.assert_allclose(gx.numpy(), np.cos([1, 2]))
        assert gw.tolist() == [0, 0]
    with pytest.raises(ShapeError, match="1 cotangents for 2 outputs"):
        pull(one)
    with pytest.raises(
        ShapeError, match=r"cotangent of shape \(3,\) for an output of shape \(2,\)"
    ):
        pull(gn.ones((3,)), one)


def test_vjp_of_one_output_takes_one_cotangent() -> None:
    y, pull = gn.vjp(lambda x: x * 2, f64([1.0, 2.0]))
    assert y.tolist() == [2, 4]
    assert pull([1.0, 0.5]).tolist() == [2, 1]
    with pytest.raises(GraphError, match="needs a cotangent"):
        pull(None)


def test_jvp_of_several() -> None:
    values, slopes = gn.jvp(
        lambda x, y: (x * y, x + 1.0), (f64(2.0), f64(3.0)), (f64(1.0), f64(10.0))
    )
    assert [float(v) for v in values] == [6, 3]
    assert [float(s) for s in slopes] == [23, 1]


# Jacobians, Hessians, products with them


def test_jacobian_in_both_modes() -> None:
    a = np.random.default_rng(0).standard_normal((2, 3))

    def f(x: Any) -> Any:
        return gn.sin(gn.asarray(a) @ x) ** 2

    x = np.random.default_rng(1).standard_normal((3, 4))
    u = a @ x
    exact = np.zeros((2, 4, 3, 4))
    for i, j, k in itertools.product(range(2), range(3), range(4)):
        exact[i, k, j, k] = 2 * np.sin(u[i, k]) * np.cos(u[i, k]) * a[i, j]
    for mode in (None, True, False):
        found = gn.jacobian(f, forward=mode)(f64(x))
        assert found.shape == (2, 4, 3, 4)
        np.testing.assert_allclose(found.numpy(), exact, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("mode", [None, True, False])
@pytest.mark.parametrize(
    ("shape", "f", "result"),
    [
        ((3,), lambda x: x[:0], (0, 3)),
        ((2, 0), lambda x: gn.ones((3,), dtype=gn.float64) + x.sum(), (3, 2, 0)),
        ((), lambda x: x * x, ()),
        ((2,), lambda x: x.sum(), (2,)),
        ((), lambda x: gn.stack([x, x]), (2,)),
        ((0,), lambda x: x, (0, 0)),
    ],
)
def test_jacobians_of_all_shapes(mode: Any, shape: Any, f: Any, result: Any) -> None:
    found = gn.jacobian(f, forward=mode)(gn.ones(shape, dtype=gn.float64))
    assert found.shape == result
    assert found.dtype == gn.float64


def test_hessian() -> None:
    found = gn.hessian(lambda x: (x**3).sum() * x[0])(f64([1.0, 2.0]))
    assert found.tolist() == [[12, 12], [12, 12]]
    second = gn.hessian(lambda a, b: (a * b * b).sum(), argnums=1)(f64([2.0, 3.0]), f64([1.0, 1.0]))
    assert second.tolist() == [[4, 0], [0, 6]]


def test_hvp_is_the_hessian_times_a_vector() -> None:
    rng = np.random.default_rng(0)
    w, x = rng.standard_normal((4, 5)), f64(rng.standard_normal(4))

    def f(x: Any) -> Any:
        return gn.ops.logsumexp(gn.tanh(x @ gn.asarray(w)))

    v = f64(rng.standard_normal(4))
    product, matrix = gn.hvp(f, x, v), gn.hessian(f)(x)
    np.testing.assert_allclose(product.numpy(), (matrix @ v).numpy(), rtol=1e-12)
    np.testing.assert_allclose(matrix.numpy(), matrix.numpy().T, rtol=1e-12)


def test_results_carry_no_graph_that_nobody_can_use() -> None:
    x = f64([1.0, 2.0])
    f: Function = lambda x: (x**3).sum()  # noqa: E731
    third = gn.grad(lambda x: gn.hvp(f, x, x).sum())
    for found in (gn.grad(f)(x), gn.hvp(f, x, x), gn.hessian(f)(x), gn.jacobian(f)(x), third(x)):
        assert not found.requires_grad
        assert not found.tangents
        assert found.node is None
    value, slope = gn.jvp(f, x, x)
    assert not value.requires_grad
    assert not slope.requires_grad


# Closures


@pytest.mark.parametrize("mode", MODES)
def test_gradients_reach_tensors_outside(mode: str) -> None:
    w = f64(3.0, requires_grad=True)
    g = MODES[mode](lambda x: x * x * w)(f64(2.0))
    assert g.requires_grad
    g.backward()
    assert float(w.grad) == 4


def test_a_gradient_that_is_part_of_a_loss() -> None:
    # Double backpropagation: a penalty on the gradient in the input.
    w = f64([[0.5, -1.0], [2.0, 0.3]], requires_grad=True)
    x = f64([0.7, -0.2])

    def penalty(w: Any) -> Any:
        g = gn.grad(lambda x: gn.tanh(x @ w).sum())(x)
        return (g * g).sum()

    penalty(w).backward()
    np.testing.assert_allclose(w.grad.numpy(), gn.grad(penalty)(w.detach()).numpy(), rtol=1e-14)
    gn.gradcheck(penalty, w.detach(), order=2)


def test_no_grad_outside_of_a_derivative() -> None:
    w = f64(3.0, requires_grad=True)
    with gn.no_grad():
        for derivative in MODES.values():
            g = derivative(lambda x: x * x * w)(f64(2.0))
            assert float(g) == 12
            assert not g.requires_grad
        second = gn.grad(gn.grad(lambda x: x**3 * w))(f64(2.0))
        assert float(second) == 36
        assert float(gn.hvp(lambda x: x**3 * w, f64(2.0), f64(1.0))) == 36
        assert not second.requires_grad


def test_no_grad_inside_makes_a_constant_in_both_modes() -> None:
    def f(x: Any) -> Any:
        with gn.no_grad():
            c = x * x
            with gn.enable_grad():
                d = x * 2
            # A derivative that begins inside is no concern of those outside.
            e = gn.jvp(lambda z: z * z, x, gn.ones_like(x))[1]
        return (c * x * d + e).sum()

    x, v = f64([1.0, 2.0]), f64([1.0, 0.0])
    np.testing.assert_array_equal(gn.grad(f)(x).numpy(), 4 * x.numpy() ** 3)
    np.testing.assert_array_equal(gn.jacobian(f, forward=True)(x).numpy(), 4 * x.numpy() ** 3)
    np.testing.assert_array_equal(gn.hvp(f, x, v).numpy(), [4, 0])
    second = gn.grad(lambda x: (gn.grad(f)(x) * v).sum())(x)
    np.testing.assert_array_equal(second.numpy(), [4, 0])


def test_gradients_do_not_touch_leaves() -> None:
    w = f64(3.0, requires_grad=True)
    gn.grad(lambda x: x * w)(w)
    gn.value_and_grad(lambda x: x * w)(f64(1.0))
    assert w.grad is None


def test_the_functions_name_is_kept() -> None:
    def energy(x: Any) -> Any:
        """Half the square."""
        return x * x / 2

    for wrapped in (gn.grad(energy), gn.value_and_grad(energy), gn.jacobian(energy)):
        assert wrapped.__name__ == "energy"
        assert wrapped.__doc__ == "Half the square."


# What cannot be


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: gn.grad(lambda x: x * 2)(gn.ones((2,))), GraphError, r"returned shape \(2,\)"),
        (lambda: gn.grad(lambda x: 3.0)(gn.ones(())), GraphError, "returned float; expected a Te"),
        (lambda: gn.grad(lambda x: x)(1), DTypeError, "differentiates floating tensors, got dtype"),
        (lambda: gn.jvp(lambda x: x, gn.arange(2), gn.arange(2)), DTypeError, "int64"),
        (lambda: gn.jvp(lambda x: x, gn.ones((2,)), gn.ones((3,))), ShapeError, r"shape \(3,\)"),
        (lambda: gn.jvp(lambda x: x, (1.0, 2.0), (1.0,)), ShapeError, "1 tangents for 2 arg"),
        (lambda: gn.vjp(lambda x: "a", gn.ones(())), GraphError, "returned str"),
        (lambda: gn.gradcheck(lambda x: x, gn.arange(3)), DTypeError, "gradcheck needs a floating"),
    ],
)
def test_bad_calls(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
