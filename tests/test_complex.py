"""Complex numbers: gradients by the stated convention, for every function that takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import formulas
from gradnet.backends import Backend
from gradnet.errors import DTypeError
from gradnet.formulas.complex import COMPLEX
from gradnet.ops import elementwise

Function = Callable[..., Any]
UNARY = sorted(name for name in COMPLEX if elementwise(name).arity == 1 and name != "round")


def complex_normal(*shape: int, seed: int = 3) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.standard_normal(shape) + 1j * rng.standard_normal(shape))


@pytest.mark.parametrize("name", [*UNARY, "conj", "real", "imag"])
def test_derivatives_of_functions_of_one_complex_number(name: str, backend: Backend) -> None:
    gn.gradcheck(getattr(gn, name), complex_normal(3, 2), order=2)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "pow"])
def test_derivatives_of_functions_of_two(name: str, backend: Backend) -> None:
    z, w = complex_normal(3, 2), complex_normal(2, seed=4)
    r = np.array([0.7, 1.9])
    for operands in ((z, w), (z, r), (r, z)):
        gn.gradcheck(getattr(gn, name), *operands, order=2)


REDUCTIONS: dict[str, Function] = {
    "sum": gn.sum,
    "prod": lambda z: gn.prod(z, axis=1),
    "mean": gn.mean,
    "cumulative_sum": lambda z: gn.cumulative_sum(z, axis=0),
    "cumulative_prod": lambda z: gn.cumulative_prod(z, axis=1),
    "where": lambda z: gn.where(gn.real(z) > 0, z, 2 * z),
    "setitem": lambda z: assigned(z),
    "index": lambda z: z[[0, 0, 1]],
    "einsum": lambda z: gn.einsum("ij,kj->ik", z, gn.exp(z)),
    "linear": lambda z: gn.ops.linear(z, z.mT, activation="tanh"),
    "vecdot": lambda z: gn.vecdot(z, gn.sin(z)),
    "var": lambda z: gn.var(z, axis=0, correction=1),
    "std": lambda z: gn.std(z, axis=0, keepdims=True),
}


def test_a_variance_is_real(backend: Backend) -> None:
    values = complex_normal(4, 3)
    for ours, theirs in ((gn.var, np.var), (gn.std, np.std)):
        for requires_grad in (False, True):
            z = gn.asarray(values, requires_grad=requires_grad)
            found = ours(z, axis=0, correction=1)
            assert found.dtype == gn.float64
            np.testing.assert_allclose(found.numpy(), theirs(values, axis=0, ddof=1))


def assigned(z: Any) -> Any:
    y = gn.zeros_like(z)
    y[0] = z[1] * z[0]
    return y


@pytest.mark.parametrize("name", REDUCTIONS)
def test_derivatives_through_other_ops(name: str, backend: Backend) -> None:
    gn.gradcheck(REDUCTIONS[name], complex_normal(3, 2), order=2)


def test_real_values_among_complex_ones_get_real_gradients(backend: Backend) -> None:
    r = gn.asarray(np.array([1.0, 2.0]), requires_grad=True)
    z = gn.asarray(complex_normal(2), requires_grad=True)
    loss = gn.sum(gn.abs(r * z) ** 2)
    loss.backward()
    assert r.grad is not None
    assert z.grad is not None
    assert r.grad.dtype == gn.float64
    np.testing.assert_allclose(r.grad.numpy(), 2 * r.numpy() * np.abs(z.numpy()) ** 2)
    # dL/dx + i dL/dy of r^2 (x^2 + y^2) is 2 r^2 z: the direction of steepest ascent.
    np.testing.assert_allclose(z.grad.numpy(), 2 * r.numpy() ** 2 * z.numpy())


def test_descent_along_the_gradient_descends(backend: Backend) -> None:
    z = gn.asarray(np.array([1 + 2j, -0.5 + 0.3j]))

    def loss(z: Any) -> Any:
        return gn.sum(gn.abs(gn.exp(z) - z) ** 2)

    before, g = gn.value_and_grad(loss)(z)
    assert float(loss(z - 1e-4 * g)) < float(before)


def test_magnitude_and_direction_at_zero(backend: Backend) -> None:
    for f in (gn.abs, lambda z: gn.real(gn.sign(z))):
        z = gn.zeros((2,), dtype=gn.complex64)
        z.requires_grad = True
        gn.sum(f(z)).backward()
        assert z.grad is not None
        assert not z.grad.numpy().any()
    assert gn.sign(gn.zeros((1,), dtype=gn.complex64)).item() == 0


def test_parts_of_real_numbers(backend: Backend) -> None:
    x = gn.asarray([1.0, -2.0])
    assert gn.conj(x) is x
    assert gn.real(x) is x
    assert gn.imag(x).tolist() == [0.0, 0.0]
    for f in (gn.conj, gn.real, gn.imag):
        with pytest.raises(DTypeError, match="got bool"):
            f(gn.asarray([True]))


@pytest.mark.parametrize(
    "name",
    [
        row.name
        for row in formulas.rows()
        if row.kind in ("float", "numeric") and row.name not in COMPLEX
    ]
    + ["signbit"],
)
def test_functions_of_real_numbers_refuse_complex_ones(name: str) -> None:
    op = elementwise(name)
    with pytest.raises(DTypeError, match="takes real numbers, got complex128"):
        op(*[gn.asarray(complex_normal(2))] * op.arity)


def test_gradients_are_those_of_torch(backend: Backend) -> None:
    torch = pytest.importorskip("torch")
    values = complex_normal(3)
    turned = {
        "cot": lambda t: 1 / torch.tan(t),
        "csc": lambda t: 1 / torch.sin(t),
        "sec": lambda t: 1 / torch.cos(t),
        "identity": torch.clone,
    }
    for name in (*UNARY, "conj", "real", "imag"):
        z = gn.asarray(values, requires_grad=True)
        gn.sum(gn.real(getattr(gn, name)(z) * (2 - 1j))).backward()
        t = torch.tensor(values, requires_grad=True)
        theirs = getattr(torch, {"sign": "sgn"}.get(name, name), None) or turned[name]
        (theirs(t) * (2 - 1j)).real.sum().backward()
        assert z.grad is not None
        np.testing.assert_allclose(z.grad.numpy(), t.grad.resolve_conj().numpy(), rtol=1e-12)


SPECIAL = [
    (complex(np.inf, 0.0), complex(np.inf, 0.0)),
    (complex(-np.inf, np.inf), -1 + 0j),
    (complex(-np.inf, np.nan), -1 + 0j),
    (complex(np.nan, 0.0), complex(np.nan, 0.0)),
    (1e3 + 0j, complex(np.inf, 0.0)),
    (complex(-0.0, 0.0), complex(0.0, 0.0)),
]


@pytest.mark.parametrize(("z", "expected"), SPECIAL)
def test_expm1_at_complex_infinities(z: complex, expected: complex, backend: Backend) -> None:
    y = gn.expm1(gn.asarray([z, 1e-9j])).numpy()
    np.testing.assert_equal(y[0], np.complex64(expected))
    assert np.signbit(y[0].real) == np.signbit(expected.real)
    np.testing.assert_allclose(y[1].imag, 1e-9, rtol=1e-6)
    np.testing.assert_equal(gn.expm1(gn.asarray(z)).numpy(), y[0])


def test_floor_divide_at_infinities(backend: Backend) -> None:
    a = gn.asarray([np.inf, -np.inf, 1.0, -1.0, np.inf, 7.0])
    b = gn.asarray([2.0, 2.0, -np.inf, np.inf, np.inf, 2.0])
    y = gn.floor_divide(a, b).numpy()
    np.testing.assert_array_equal(y, np.array([np.inf, -np.inf, -0.0, -0.0, np.nan, 3.0]))
    assert np.signbit(y[2:4]).all()
    # Between finite numbers it is NumPy's, whose quotient goes with its remainder.
    assert gn.floor_divide(gn.asarray([1.0], dtype=gn.float64), 0.1).item() == 9.0


def test_tanh_at_complex_infinities(backend: Backend) -> None:
    z = np.array([complex(np.inf, 2.0), complex(-np.inf, -2.0), 0.3 + 0.2j])
    y = gn.tanh(gn.asarray(z)).numpy()
    np.testing.assert_array_equal(y.real, [1, -1, np.tanh(z[2]).real])
    assert np.signbit(y.imag).tolist() == [False, True, False]
    assert y.imag[:2].tolist() == [0, 0]
