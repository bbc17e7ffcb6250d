"""SciPy's special functions on Tensors: its values, and derivatives of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.backends import Backend
from gradnet.errors import DeviceError
from gradnet.interop import special as ours
from gradnet.tensor import Tensor

X = np.random.default_rng(0).random((3, 4)) * 0.8 + 0.1
TWO = ("kl_div", "rel_entr", "xlog1py", "xlogy")
NAMES = [*ours._SLOPES, *ours._MADE, "erf", "erfc", "log1p", "expm1", "exp2"]


@pytest.mark.parametrize("name", NAMES)
def test_special_functions_of_scipy(name: str) -> None:
    special = pytest.importorskip("scipy.special")
    function = getattr(special, name)
    if not isinstance(function, np.ufunc):
        pytest.skip("SCIPY_ARRAY_API has SciPy convert what it is given to NumPy")
    f: Callable[[Any], Any] = (lambda x: function(x, x * x + 0.2)) if name in TWO else function
    with gn.backends.use("numpy"):
        y = f(gn.asarray(X, requires_grad=True))
        assert isinstance(y, Tensor)
        np.testing.assert_allclose(y.detach().numpy(), f(X), rtol=1e-13)
        gn.gradcheck(f, X, order=2, tolerance=1e-5)
        assert f(gn.asarray(X.astype(np.float32))).dtype == gn.float32


@pytest.mark.parametrize("name", TWO)
def test_functions_of_two_at_their_edges(name: str, backend: Backend) -> None:
    special = pytest.importorskip("scipy.special")
    function = getattr(special, name)
    if not isinstance(function, np.ufunc):
        pytest.skip("SCIPY_ARRAY_API has SciPy convert what it is given to NumPy")
    a, b = np.meshgrid([0.0, 0.5, np.nan], [0.0, 2.0, np.inf, np.nan])
    found = function(gn.asarray(a), gn.asarray(b)).numpy()
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(found, function(a, b))


def test_values_on_a_gpu_are_refused(backend: Backend) -> None:
    special = pytest.importorskip("scipy.special")
    x = gn.asarray([0.5])
    if backend.device == "cpu":
        assert special.gammaln(x).tolist() == [float(np.float32(special.gammaln(0.5)))]
    else:
        with pytest.raises(DeviceError, match="SciPy's gammaln cannot read"):
            special.gammaln(x)
