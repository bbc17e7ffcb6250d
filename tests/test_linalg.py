"""The linalg and fft extensions: values as NumPy's, derivatives in both modes to second order."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import fft, linalg
from gradnet.backends import Backend
from gradnet.errors import DTypeError, GraphError, ShapeError
from gradnet.ops import decompositions, fourier
from gradnet.ops.core import Op
from gradnet.ops.decompositions import adjoint

Array = np.ndarray[Any, Any]
Maker = Callable[..., Array]


def real(*shape: int) -> Array:
    return np.asarray(np.random.default_rng(5).standard_normal(shape))


def complexes(*shape: int) -> Array:
    rng = np.random.default_rng(6)
    return np.asarray(rng.standard_normal(shape) + 1j * rng.standard_normal(shape))


def regular(make: Maker, *batch: int) -> Array:
    return np.asarray(make(*batch, 3, 3) + 3 * np.eye(3))


def hermitian(x: Any) -> Any:
    return (x + adjoint(x)) * 0.5


def vectors_without_phase(u: Any, s: Any, v_h: Any) -> tuple[Any, ...]:
    """What of a decomposition does not depend on the phases that are free to choose."""
    return gn.abs(u), s, gn.matmul(u * gn.expand_dims(gn.exp(-s), -2), v_h)


# Per function: what is differentiated, and its operands.
CASES: dict[str, Callable[[Maker], list[tuple[Callable[..., Any], tuple[Array, ...]]]]] = {
    "solve": lambda make: [
        (linalg.solve, (regular(make, 2), make(2, 3, 2))),
        (linalg.solve, (regular(make), make(3))),
        (linalg.solve, (regular(make, 2), make(3, 2))),
        (linalg.solve, (regular(make), make(4, 3, 2))),
    ],
    "inv": lambda make: [(linalg.inv, (regular(make, 2),))],
    "det": lambda make: [(linalg.det, (regular(make, 2),)), (linalg.det, (regular(make),))],
    "slogdet": lambda make: [(linalg.slogdet, (regular(make, 2),))],
    "cholesky": lambda make: [
        (
            lambda x, upper=upper: linalg.cholesky(hermitian(x), upper=upper),
            ((a := regular(make, 2)) @ a.conj().swapaxes(-1, -2),),
        )
        for upper in (False, True)
    ],
    "qr": lambda make: [
        *((linalg.qr, (make(*shape),)) for shape in ((4, 3), (2, 3, 3), (2, 5))),
        (lambda x: linalg.qr(x, mode="complete"), (make(2, 3),)),
    ],
    "svd": lambda make: [
        (
            lambda x: vectors_without_phase(*linalg.svd(x, full_matrices=False)),
            (make(*shape),),
        )
        for shape in ((4, 3), (2, 3, 3), (2, 5))
    ],
    "svdvals": lambda make: [(linalg.svdvals, (make(2, 4, 3),))],
    "pinv": lambda make: [(linalg.pinv, (make(*shape),)) for shape in ((4, 3), (2, 2, 5))],
    "eigh": lambda make: [
        (
            lambda x: (lambda w, v: vectors_without_phase(v, w, adjoint(v)))(
                *linalg.eigh(hermitian(x))
            ),
            (regular(make, 2),),
        )
    ],
    "eigvalsh": lambda make: [(lambda x: linalg.eigvalsh(hermitian(x)), (regular(make, 2),))],
    "eig": lambda make: [
        (lambda x: (lambda w, v: (w, gn.abs(v)))(*linalg.eig(x)), (regular(make, 2),))
    ],
    "eigvals": lambda make: [(linalg.eigvals, (regular(make, 2),))],
    "matrix_norm": lambda make: [
        (lambda x, ord=ord: linalg.matrix_norm(x, ord=ord), (make(2, 3, 4),))
        for ord in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)
    ],
    "norm": lambda make: [
        (lambda x: linalg.norm(x), (make(2, 3),)),
        (lambda x: linalg.norm(x, 3, axis=0, keepdims=True), (make(2, 3),)),
        (lambda x: linalg.norm(x, "nuc", axis=(0, 2), keepdims=True), (make(2, 4, 3),)),
    ],
    "vector_norm": lambda make: [
        (lambda x, ord=ord: linalg.vector_norm(x, ord=ord, axis=-1), (make(2, 4),))
        for ord in (0, 0.5, 1, 2, 3, np.inf, -np.inf)
    ],
    "matrix_power": lambda make: [
        (lambda x, n=n: linalg.matrix_power(x, n), (regular(make, 2),)) for n in (-2, 0, 1, 5)
    ],
    "cross": lambda make: [(linalg.cross, (make(2, 3), make(4, 1, 3)))],
    "outer": lambda make: [(linalg.outer, (make(3), make(2)))],
    "vecdot": lambda make: [(linalg.vecdot, (make(2, 3), make(4, 1, 3)))],
    "trace": lambda make: [(lambda x: linalg.trace(x, offset=1), (make(2, 3, 4),))],
    "diagonal": lambda make: [(lambda x: linalg.diagonal(x, offset=-1), (make(2, 3, 4),))],
    "matmul": lambda make: [(linalg.matmul, (make(2, 3, 4), make(4, 2)))],
    "matrix_transpose": lambda make: [(linalg.matrix_transpose, (make(2, 3, 4),))],
    "tensordot": lambda make: [(linalg.tensordot, (make(2, 3, 4), make(3, 4, 2)))],
}
WITHOUT_DERIVATIVE = {"matrix_rank"}


def defined(room: ModuleType) -> set[str]:
    """The public functions that a module defines, whether it lists them or not."""
    return {
        name
        for name, value in vars(room).items()
        if isinstance(value, FunctionType)
        and value.__module__ == room.__name__
        and not name.startswith("_")
    }


def test_every_function_of_linalg_has_cases() -> None:
    assert set(CASES) | WITHOUT_DERIVATIVE == set(linalg.__all__)
    assert defined(linalg) <= set(linalg.__all__)
    tested = {op.name for op in vars(decompositions).values() if isinstance(op, Op)}
    assert tested - {"conj", "real", "imag", "astype"} <= set(CASES)


@pytest.mark.parametrize("make", [real, complexes], ids=["real", "complex"])
@pytest.mark.parametrize("name", CASES)
def test_derivatives_of_linear_algebra(name: str, make: Maker, backend: Backend) -> None:
    for f, operands in CASES[name](make):
        gn.gradcheck(f, *operands, order=2, directions=2)


@pytest.mark.parametrize("make", [real, complexes], ids=["real", "complex"])
def test_decompositions_multiply_back(make: Maker, backend: Backend) -> None:
    x, h = gn.asarray(make(2, 4, 3)), hermitian(gn.asarray(regular(make, 2)))
    q, r = linalg.qr(x)
    u, s, v_h = linalg.svd(x, full_matrices=False)
    w, v = linalg.eigh(h)
    for product, whole in (
        (q @ r, x),
        (u * gn.expand_dims(s, -2) @ v_h, x),
        (v * gn.expand_dims(w, -2) @ adjoint(v), h),
        (x @ linalg.pinv(x) @ x, x),
    ):
        np.testing.assert_allclose(product.numpy(), whole.numpy(), rtol=1e-10, atol=1e-12)
    w, v = linalg.eig(x[:, :3])
    assert w.dtype == v.dtype == gn.complex128
    np.testing.assert_allclose((x[:, :3] @ v).numpy(), (v * gn.expand_dims(w, -2)).numpy())


def test_rank(backend: Backend) -> None:
    x = np.zeros((2, 4, 3), np.float32)
    x[0, 0, 0], x[1] = 1, np.eye(4, 3)
    assert linalg.matrix_rank(gn.asarray(x)).tolist() == [1, 3]
    assert linalg.matrix_rank(gn.zeros((2, 2))).item() == 0
    assert linalg.matrix_rank(gn.asarray([[1.0, 0.0], [0.0, 1e-3]]), rtol=0.1).item() == 1


@pytest.mark.parametrize("ord", [-2, 0.5, 1, 2, 3, np.inf])
def test_norms_at_zero_have_gradients_of_zero(ord: float, backend: Backend) -> None:
    x = gn.asarray(np.array([[0.0, 0.0, 0.0], [0.0, 2.0, 0.0]]), requires_grad=True)
    y = linalg.vector_norm(x, axis=-1, ord=ord)
    np.testing.assert_allclose(y.numpy(), [0, 0 if ord < 0 else 2])
    gn.sum(y).backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), [[0, 0, 0], [0, float(ord > 0), 0]], atol=1e-12)


def test_norms_of_nothing(backend: Backend) -> None:
    for shape in ((2, 0), (0, 2), (3, 2, 0), (0, 2, 3)):
        x = gn.asarray(np.zeros(shape), requires_grad=True)
        for order in ("fro", "nuc", 1, 2, np.inf):
            y = linalg.matrix_norm(x, ord=order)
            assert y.shape == shape[:-2]
            assert not y.numpy().any()
            gn.sum(y).backward()
    assert linalg.vector_norm(gn.ones((2, 0)), axis=1, ord=np.inf).tolist() == [0.0, 0.0]
    with pytest.raises(ShapeError, match="min of no values"):
        linalg.vector_norm(gn.ones((2, 0)), axis=1, ord=-np.inf)


def test_what_linear_algebra_refuses(backend: Backend) -> None:
    with pytest.raises(ShapeError, match=r"inv takes square matrices.*\(2, 3\)"):
        linalg.inv(gn.ones((2, 3)))
    with pytest.raises(ShapeError, match="solve got matrices of shape"):
        linalg.solve(gn.eye(3), gn.ones((2,)))
    with pytest.raises(np.linalg.LinAlgError, match=r"inv of shape \(2, 2\)"):
        linalg.inv(gn.zeros((2, 2)))
    with pytest.raises(DTypeError, match="float16"):
        linalg.det(gn.ones((2, 2), dtype=gn.float16))
    with pytest.raises(ShapeError, match="3 elements"):
        linalg.cross(gn.ones((2,)), gn.ones((2,)))
    x = gn.asarray(real(4, 3), requires_grad=True)
    with pytest.raises(GraphError, match="full_matrices=False"):
        gn.sum(linalg.svd(x).S).backward()
    with pytest.raises(GraphError, match="mode='reduced'"):
        gn.sum(linalg.qr(x, mode="complete").R).backward()
    for call in (lambda: linalg.qr(x, mode="full"), lambda: linalg.matrix_norm(x, ord=3)):
        with pytest.raises(ValueError, match="expected"):
            call()


# Fourier transforms

ONE_AXIS = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
SEVERAL = ("fftn", "ifftn", "rfftn", "irfftn")
SHIFTS = ("fftshift", "ifftshift")
FREQUENCIES = ("fftfreq", "rfftfreq")


def test_every_function_of_fft_is_tested() -> None:
    assert {*ONE_AXIS, *SEVERAL, *SHIFTS, *FREQUENCIES} == set(fft.__all__) == defined(fft)
    assert {op.name for op in vars(fourier).values() if isinstance(op, Op)} >= {"fft", "irfft"}


@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
@pytest.mark.parametrize("name", ONE_AXIS)
def test_transforms_along_an_axis(name: str, norm: str, backend: Backend) -> None:
    make = real if name in ("rfft", "ihfft") else complexes
    ours, theirs = getattr(fft, name), getattr(np.fft, name)
    for n, axis in ((None, -1), (4, 0), (5, 1), (8, 1), (3, -1)):
        x = make(3, 6)
        expected = theirs(x, n=n, axis=axis, norm=norm)
        found = ours(gn.asarray(x), n=n, axis=axis, norm=norm)
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-14)
        gn.gradcheck(lambda x, n=n, axis=axis: ours(x, n=n, axis=axis, norm=norm), x, order=2)
    assert ours(gn.ones((4,))).dtype in (gn.float32, gn.complex64)


@pytest.mark.parametrize("name", SEVERAL)
def test_transforms_along_several_axes(name: str, backend: Backend) -> None:
    x = (real if name == "rfftn" else complexes)(3, 4, 5)
    ours, theirs = getattr(fft, name), getattr(np.fft, name)
    for options in ({}, {"axes": (0, 2)}, {"s": (4, 5), "axes": (2, 1)}):
        np.testing.assert_allclose(
            ours(gn.asarray(x), **options).numpy(), theirs(x, **options), atol=1e-13
        )
        gn.gradcheck(lambda x, options=options: ours(x, **options), x, directions=2)


@pytest.mark.parametrize("name", SHIFTS)
def test_shifts(name: str, backend: Backend) -> None:
    x = real(4, 5)
    for axes in (None, 1, (0, 1)):
        found = getattr(fft, name)(gn.asarray(x), axes=axes).numpy()
        np.testing.assert_array_equal(found, getattr(np.fft, name)(x, axes=axes))
    gn.gradcheck(getattr(fft, name), x)


@pytest.mark.parametrize("name", FREQUENCIES)
def test_frequencies(name: str, backend: Backend) -> None:
    for n in (1, 2, 5, 6):
        found = getattr(fft, name)(n, d=0.3)
        assert found.dtype == gn.float32
        np.testing.assert_allclose(found.numpy(), getattr(np.fft, name)(n, d=0.3), rtol=1e-6)


def test_what_transforms_refuse(backend: Backend) -> None:
    with pytest.raises(DTypeError, match="rfft takes real values"):
        fft.rfft(gn.ones((4,), dtype=gn.complex64))
    with pytest.raises(ValueError, match="norm 'unitary'"):
        fft.fft(gn.ones((4,)), norm="unitary")
    with pytest.raises(ShapeError, match="at least one element"):
        fft.fft(gn.ones((0,)))
