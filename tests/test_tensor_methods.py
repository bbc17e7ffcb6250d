"""Methods named as in NumPy, and operators beside operands of other classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradnet as gn

pytestmark = pytest.mark.usefixtures("backend")

CUBE = np.random.default_rng(1).standard_normal((3, 4, 4))
LIKE_NUMPY: dict[str, Any] = {
    "real": lambda x: x.real,
    "imag": lambda x: x.imag,
    "conj": lambda x: x.conj(),
    "conjugate": lambda x: x.conjugate(),
    "round": lambda x: x.round(),
    "round to decimals": lambda x: x.round(1),
    "parts of truth": lambda x: (x > 0).real & (x > 0).conj() & ~(x > 0).imag,
    "argsort": lambda x: x.argsort(axis=1),
    "repeat": lambda x: x.repeat(2, axis=1),
    "repeat, flattened": lambda x: x.repeat(2),
    "ravel": lambda x: x.ravel(),
    "swapaxes": lambda x: x.swapaxes(0, 2),
    "dot": lambda x: x.dot(x[0]),
    "diagonal": lambda x: x.diagonal(1),
    "diagonal of axes": lambda x: x.diagonal(-1, 2, 1),
    "trace": lambda x: x.trace(),
    "trace of axes": lambda x: x.trace(1, axis1=2, axis2=0),
    "divmod": lambda x: np.stack(divmod(x, 0.5)),
    "divmod, turned": lambda x: np.stack(divmod(2.0, x)),
    "nonzero": lambda x: np.stack(x.nonzero()),
}


@pytest.mark.parametrize("name", LIKE_NUMPY)
def test_methods_like_numpys(name: str) -> None:
    found = LIKE_NUMPY[name](gn.asarray(CUBE))
    assert isinstance(found, gn.Tensor)
    np.testing.assert_allclose(found.numpy(), LIKE_NUMPY[name](CUBE), atol=1e-12)


# Operands of other classes


class Reflected:
    """Neither a number nor an array, with operators of its own."""

    def __radd__(self, other: Any) -> str:
        return "radd"

    def __rmatmul__(self, other: Any) -> str:
        return "rmatmul"

    def __gt__(self, other: Any) -> Any:
        return "gt"


class Wrapper(Reflected):
    """An array that wants no ufuncs."""

    __array_ufunc__ = None

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise AssertionError("an operator took the values of an array that answers itself")


@pytest.mark.parametrize("other", [Reflected(), Wrapper()], ids=["no array", "wrapper"])
def test_operators_leave_other_classes_to_themselves(other: Any) -> None:
    x: Any = gn.asarray([[1.0]])
    assert x + other == "radd"
    assert x @ other == "rmatmul"
    assert (x < other) == "gt"
    assert (x == other) is False
    y = x
    y += other
    assert y == "radd"


@pytest.mark.parametrize("other", [None, "a", object()], ids=["None", "text", "object"])
def test_a_tensor_equals_nothing_that_is_no_array(other: Any) -> None:
    x: Any = gn.asarray([1.0])
    assert (x == other) is False
    assert (x != other) is True
    with pytest.raises(TypeError, match="unsupported operand"):
        x - other
    with pytest.raises(TypeError, match="expected numbers or booleans"):
        gn.multiply(x, other)
