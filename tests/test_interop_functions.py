"""NumPy's functions on Tensors in calls that are not everyday's, and what they store in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy_calls import OTHERWISE, POSITIVE

import gradnet as gn
from gradnet.errors import GraphError
from gradnet.interop import numpy_functions, numpy_table
from gradnet.interop.moved import MOVING, STORING
from gradnet.tensor import Tensor

X = POSITIVE + np.diag([0.3, 0.5, 0.7])


def _several(y: Any) -> list[Any]:
    return list(y) if isinstance(y, tuple | list) else [y]


@pytest.mark.parametrize("name", OTHERWISE)
def test_calls_of_numpy_that_are_not_everydays(name: str) -> None:
    f = OTHERWISE[name]
    found = _several(f(gn.asarray(X, requires_grad=True)))
    for y, z in zip(found, _several(f(X)), strict=True):
        assert isinstance(y, Tensor)
        assert y.dtype.kind == np.asarray(z).dtype.kind
        np.testing.assert_allclose(y.detach().numpy(), z, rtol=1e-9, atol=1e-12)

    moving = [i for i, y in enumerate(found) if y.dtype.kind in "fc" and y.requires_grad]
    assert moving
    if name != "unique":  # of rounded numbers
        gn.gradcheck(lambda x: tuple(_several(f(x))[i] for i in moving), X, directions=2)


STORED: dict[str, Callable[[Any, Any], Any]] = {
    "copyto": lambda x, v: np.copyto(x, v[0], where=[True, False, True]),
    "fill_diagonal": lambda x, v: np.fill_diagonal(x, v[1]),
    "place": lambda x, v: np.place(x, np.eye(3) > 0, v[0, :2]),
    "put": lambda x, v: np.put(x, [7, 0, -2], v[2]),
    "put_along_axis": lambda x, v: np.put_along_axis(x, np.array([[0, 2, 1]]), v[:1], 0),
    "putmask": lambda x, v: np.putmask(x, np.eye(3) == 0, v[1]),
}


@pytest.mark.parametrize("name", STORING)
def test_what_numpy_stores_in_a_tensor_keeps_its_gradient(name: str) -> None:
    def stored(x: Any, v: Any) -> Any:
        y = x * 2
        STORED[name](y, v)
        return y

    found = stored(gn.asarray(X, requires_grad=True), gn.asarray(X * X))
    np.testing.assert_allclose(found.detach().numpy(), stored(X, X * X))
    gn.gradcheck(stored, X, X * X)
    with pytest.raises(GraphError, match="NumPy"):
        STORED[name](np.zeros((3, 3)), gn.asarray(X, requires_grad=True))


def test_numbers_beside_float64_are_exact() -> None:
    x = gn.asarray(X, requires_grad=True)
    assert np.insert(x, 0, 0.1)[0].item() == 0.1
    assert np.block([x[0], [0.1]])[-1].item() == 0.1
    y = x * 1
    np.put(y, [0], 0.1)
    assert y[0, 0].item() == 0.1


FLAT = {
    "fmod": lambda x: np.fmod(x, x.T * 0.7),
    "frexp": lambda x: np.frexp(x * 5)[0],
    "heaviside": lambda x: np.heaviside(np.eye(3), x),
    "ldexp": lambda x: np.ldexp(x, [1, 2, -3]),
    "modf": lambda x: np.modf(x * 3 + 0.01)[0],
}


@pytest.mark.parametrize("name", FLAT)
def test_ufuncs_with_jumps(name: str) -> None:
    f = FLAT[name]
    np.testing.assert_allclose(f(gn.asarray(X)).numpy(), f(X), rtol=1e-14)
    gn.gradcheck(f, X)


def test_ufuncs_with_jumps_at_their_special_values() -> None:
    x = np.asarray([-np.inf, -2.5, -0.0, 0.0, 0.75, np.inf, np.nan])
    for f in (lambda x: np.heaviside(x, 0.5), np.modf, np.frexp):
        for y, z in zip(_several(f(gn.asarray(x))), _several(f(x)), strict=True):
            np.testing.assert_array_equal(y.numpy(), z)
            np.testing.assert_array_equal(np.signbit(y.numpy()), np.signbit(z))


# What has no derivative here: of values that are no floats, of files, and counts along many axes.
INTEGERS = """bitwise_count busday_count busday_offset datetime_as_string gcd is_busday isnat lcm
packbits ravel_multi_index unpackbits unravel_index"""
REFUSED: dict[str, Callable[[Any], Any]] = {
    "histogram2d": lambda x: np.histogram2d(x[0], x[1]),
    "histogramdd": lambda x: np.histogramdd(x),
    "save": lambda x: np.save("x", x),
    "savetxt": lambda x: np.savetxt("x", x),
    "savez": lambda x: np.savez("x", x=x),
    "savez_compressed": lambda x: np.savez_compressed("x", x=x),
    "spacing": np.spacing,
}


def test_every_function_of_numpy_is_known() -> None:
    known = {*numpy_table.FUNCTIONS, *numpy_table.DESCRIPTIONS, *numpy_table.POSITIONS}
    known |= {*MOVING, *STORING, *INTEGERS.split(), *REFUSED, "frompyfunc"}
    unknown = []
    for room, module in (("", np), ("linalg.", np.linalg), ("fft.", np.fft)):
        for f in vars(module).values():
            if isinstance(f, np.ufunc):
                missing = numpy_functions._ufunc(f.__name__, "__call__") is None
            else:
                missing = hasattr(f, "_implementation")
            if missing and room + f.__name__ not in known:
                unknown.append(room + f.__name__)
    assert not unknown


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_derivative_is_refused_by_name(name: str) -> None:
    with pytest.raises(GraphError, match=rf"no derivative of numpy\.{name}|NumPy cannot carry"):
        REFUSED[name](gn.asarray(X, requires_grad=True))


def test_counts_of_tensors_with_gradients_are_plain() -> None:
    x = gn.asarray(X, requires_grad=True)
    for f in (
        lambda x: np.linalg.matrix_rank(x, tol=0.1),
        lambda x: np.isin(x, x[0], assume_unique=True, kind="sort"),
        lambda x: np.argsort(x, axis=0, order=None, stable=True),
        lambda x: np.bincount(np.floor(x[0]).astype(np.int64)),
        lambda x: np.histogram(x, [0.0, 1.0, 5.0])[0],
    ):
        found = f(x)
        assert isinstance(found, Tensor)
        assert not found.requires_grad
        np.testing.assert_array_equal(found.numpy(), f(X))


@pytest.mark.parametrize("deviation", [np.std, np.nanstd])
def test_deviations_of_equal_values_have_derivatives_of_0(deviation: Any) -> None:
    x = gn.asarray([2.0, 2.0, 2.0], requires_grad=True)
    deviation(x).backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 0.0, 0.0]
