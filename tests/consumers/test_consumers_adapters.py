"""Libraries with backends of their own that we add ours to: POT and TensorLy; and arrays in arrays.

Each library runs for real, in values and gradients, and is skipped where it is not installed.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.tensor import Tensor

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
X, Y, W = RNG.random((4, 3, 5)), RNG.random((5, 2)), RNG.random((2, 3))
POINTS = RNG.random((6, 2))


def check(f: Callable[[Any], Any], x: Any, expected: Any, *, gradient: bool = True) -> None:
    """The values are those expected, in a Tensor, and the gradient is right."""
    y = f(gn.asarray(x, requires_grad=gradient))
    y = getattr(y, "data", y)
    assert isinstance(y, Tensor)
    np.testing.assert_allclose(y.detach().numpy(), getattr(expected, "data", expected), rtol=1e-6)
    if gradient:
        gn.gradcheck(lambda x: getattr(f(x), "data", f(x)), x, order=1)


# xarray

XARRAY: dict[str, Callable[[Any], Any]] = {
    "mean": lambda d: d.mean("b"),
    "sum": lambda d: d.sum(("a", "c")),
    "std": lambda d: d.std("a"),
    "var": lambda d: d.var("c", ddof=1),
    "max": lambda d: d.max("a"),
    "min": lambda d: d.min(),
    "prod": lambda d: d.prod("c"),
    "median": lambda d: d.median("a"),
    "cumsum": lambda d: d.cumsum("c"),
    "isel": lambda d: d.isel(a=0, c=[0, 2]),
    "sel": lambda d: d.sel(b=20),
    "transpose": lambda d: d.transpose("c", "a", "b"),
    "arithmetic": lambda d: 2 * d * d - d.isel(a=0) / 3,
    "where": lambda d: d.where(d > 0.3, 0.0),
    "missing": lambda d: d.where(d > 0.3).mean("c"),
    "fillna": lambda d: d.where(d > 0.3).fillna(1.0),
    "ufunc": lambda d: np.exp(d),
    "clip": lambda d: d.clip(0.2, 0.7),
    "diff": lambda d: d.diff("c"),
    "shift": lambda d: d.shift(c=1, fill_value=0.0),
    "roll": lambda d: d.roll(c=1),
    "pad": lambda d: d.pad(c=1, constant_values=0.0),
    "stack": lambda d: d.stack(z=("a", "b")),
    "expand_dims": lambda d: d.expand_dims("z"),
    "groupby": lambda d: d.groupby("b").mean(),
    "weighted": lambda d: d.weighted(d.isel(a=0, c=0)).mean("b"),
    "reduce": lambda d: d.reduce(np.sum, "a"),
    "quantile": lambda d: d.quantile([0.2, 0.7], "a"),
    "real": lambda d: (d * 2j).real + d.conj(),
    "rolling": lambda d: d.rolling(c=2, min_periods=1).sum(),
    "rolling_construct": lambda d: d.rolling(c=3, b=2).construct(c="w", b="v", fill_value=0.0),
    "cumulative": lambda d: d.cumulative("c").mean(),
    "coarsen": lambda d: d.coarsen(a=2).max(),
    "differentiate": lambda d: d.differentiate("b", edge_order=2),
    "integrate": lambda d: d.integrate("b"),
    "cumulative_integrate": lambda d: d.cumulative_integrate("b"),
    "polyfit": lambda d: d.polyfit("b", 1).polyfit_coefficients,
    "sortby": lambda d: d.sortby("b", ascending=False),
    "where_drop": lambda d: d.where(d.b > 10, drop=True),
    "pad_reflect": lambda d: d.pad(c=2, mode="reflect"),
}


def array(x: Any) -> Any:
    import xarray

    return xarray.DataArray(x, dims=("a", "b", "c"), coords={"b": [10, 20, 30]})


@pytest.mark.parametrize("name", XARRAY)
def test_xarray(name: str) -> None:
    pytest.importorskip("xarray")
    f = XARRAY[name]
    check(lambda x: f(array(x)).data, X, f(array(X)).values)


def test_xarray_of_several_arrays() -> None:
    xarray = pytest.importorskip("xarray")
    check(lambda x: xarray.concat([array(x), array(x)], "a").data, X, np.concatenate([X, X]))
    check(lambda x: xarray.apply_ufunc(np.tanh, array(x)).data, X, np.tanh(X))
    check(lambda x: xarray.Dataset({"x": array(x)}).mean().x.data, X, X.mean())
    product = np.einsum("abc,bc->ab", X, X[0])
    check(lambda x: xarray.dot(array(x), array(x).isel(a=0), dim="c").data, X, product)
    assert "Tensor" in repr(array(gn.asarray(X)))
    found = array(gn.asarray(X)).round(1)
    np.testing.assert_array_equal(found.data.numpy(), X.round(1))
    assert (array(gn.asarray(X)) > 0.5).any("a").data.tolist() == (X > 0.5).any(0).tolist()


def test_a_tensor_beside_an_array_of_xarray_takes_its_labels() -> None:
    xarray = pytest.importorskip("xarray")
    w = gn.asarray(X, requires_grad=True)
    for f in (lambda x, y: x * y, lambda x, y: y - x, lambda x, y: (x > y) * 1.0 * w):
        found = f(w, array(gn.asarray(X + 0.5, requires_grad=True)))
        assert isinstance(found, xarray.DataArray)
        assert found.dims == ("a", "b", "c")
        assert found.data.requires_grad


# marray

MARRAY: dict[str, Callable[[Any, Any], Any]] = {
    "arithmetic": lambda xp, x: xp.exp(x) * x - 1 / (x + 1),
    "sum": lambda xp, x: xp.sum(x, axis=1),
    "mean": lambda xp, x: xp.mean(x, axis=0),
    "std": lambda xp, x: xp.std(x, axis=1),
    "var": lambda xp, x: xp.var(x, axis=1),
    "max": lambda xp, x: xp.max(x, axis=1),
    "prod": lambda xp, x: xp.prod(x, axis=0),
    "cumulative_sum": lambda xp, x: xp.cumulative_sum(x, axis=1),
    "sort": lambda xp, x: xp.sort(x, axis=1),
    "where": lambda xp, x: xp.where(x > 0.3, x, -x),
    "matmul": lambda xp, x: x @ x.T,
    "concat": lambda xp, x: xp.concat([x, x]),
    "stack": lambda xp, x: xp.stack([x, x]),
    "reshape": lambda xp, x: xp.reshape(x, (-1,)),
    "getitem": lambda xp, x: x[0, 1:],
    "diff": lambda xp, x: xp.diff(x),
}


@pytest.mark.parametrize("name", MARRAY)
def test_marray(name: str) -> None:
    marray = pytest.importorskip("marray")
    numpy = pytest.importorskip("array_api_compat.numpy")
    mask, f = np.eye(3, 5) > 0, MARRAY[name]
    ours, theirs = marray.masked_namespace(gn), marray.masked_namespace(numpy)

    def filled(x: Any) -> Any:
        y = f(ours, ours.asarray(x, mask=gn.asarray(mask)))
        assert isinstance(y.data, Tensor)
        assert isinstance(y.mask, Tensor)
        return gn.where(y.mask, 0.0, y.data)

    expected = f(theirs, theirs.asarray(X[0], mask=mask))
    check(filled, X[0], np.where(np.asarray(expected.mask), 0.0, np.asarray(expected.data)))


def test_a_tensor_beside_a_masked_array_takes_its_mask() -> None:
    marray = pytest.importorskip("marray")
    masked = marray.masked_namespace(gn)
    x = gn.asarray([1.0, 2.0])
    y = masked.asarray(gn.asarray([3.0, 4.0]), mask=gn.asarray([True, False]))
    for found in (x + y, x * y, x < y):
        assert found.mask.numpy().any()


# TensorLy

TENSORLY: dict[str, tuple[Callable[[Any, Any], Any], bool]] = {
    "fold": (lambda tl, x: tl.fold(tl.unfold(x, 1), 1, (4, 3, 5)), True),
    "norm": (lambda tl, x: tl.norm(x), True),
    "mode_dot": (lambda tl, x: tl.tenalg.mode_dot(x, tl.tensor(W), 1), True),
    "inner": (lambda tl, x: tl.tenalg.inner(x, x), True),
    "khatri_rao": (lambda tl, x: tl.tenalg.khatri_rao([tl.unfold(x, 0), tl.unfold(x, 0)]), True),
    "kron": (lambda tl, x: tl.kron(tl.unfold(x, 0), tl.tensor(W)), True),
    "svd": (lambda tl, x: tl.tenalg.svd_interface(tl.unfold(x, 0), n_eigenvecs=2)[1], True),
    "index_update": (lambda tl, x: tl.index_update(tl.copy(x), tl.index[0], x[1] * 2), True),
    "logsumexp": (lambda tl, x: tl.logsumexp(x, axis=1), True),
    "solve": (lambda tl, x: tl.solve(x[:3, :, 0], x[:3, :, 1]), True),
    "lstsq": (lambda tl, x: tl.lstsq(tl.unfold(x, 0).T, tl.tensor(RHS))[0], True),
    "einsum": (lambda tl, x: tl.einsum("ijk,lj->ilk", x, tl.tensor(W)), True),
    "diag": (lambda tl, x: tl.diag(x[0, 0]) + tl.eye(5) + tl.zeros((5, 5)), True),
    "tensor_train": (
        lambda tl, x: tl.tt_to_tensor(tl.decomposition.tensor_train(x, (1, 2, 2, 1))),
        True,
    ),
    "parafac": (
        lambda tl, x: tl.cp_to_tensor(
            tl.decomposition.parafac(x, 2, n_iter_max=3, init="random", random_state=0, tol=0)
        ),
        True,
    ),
    "tucker": (
        lambda tl, x: tl.tucker_to_tensor(tl.decomposition.tucker(x, (2, 2, 2), n_iter_max=3)),
        False,
    ),
    "non_negative_parafac": (
        lambda tl, x: tl.cp_to_tensor(
            tl.decomposition.non_negative_parafac(x, 2, n_iter_max=3, random_state=0)
        ),
        False,
    ),
}
RHS = RNG.random((15, 2))


@pytest.fixture(scope="module")
def tensorly() -> Iterator[ModuleType]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library = pytest.importorskip("tensorly")
        pytest.importorskip("tensorly.decomposition")
    yield library
    library.set_backend("numpy")


@pytest.mark.parametrize("name", TENSORLY)
@pytest.mark.filterwarnings("ignore")
def test_tensorly(tensorly: ModuleType, name: str) -> None:
    f, gradient = TENSORLY[name]
    tensorly.set_backend("numpy")
    expected = f(tensorly, X)
    tensorly.set_backend("gradnet")
    check(lambda x: f(tensorly, x), X, expected, gradient=gradient)


def test_tensorly_makes_tensors(tensorly: ModuleType) -> None:
    tensorly.set_backend("gradnet")
    x = tensorly.tensor([1.0, 2.0], dtype=tensorly.float64)
    assert tensorly.is_tensor(x)
    assert tensorly.context(x) == {"dtype": gn.float64, "device": "cpu"}
    assert isinstance(tensorly.randn((2, 3), seed=0), Tensor)
    assert isinstance(tensorly.to_numpy(x), np.ndarray)
    assert tensorly.arange(3).tolist() == [0, 1, 2]


# POT

POT: dict[str, Callable[[Any, Any, Any, Any, Any], Any]] = {
    "dist": lambda ot, x, y, a, b: ot.dist(x, y),
    "emd2": lambda ot, x, y, a, b: ot.emd2(a, b, ot.dist(x, y)),
    "sinkhorn": lambda ot, x, y, a, b: ot.sinkhorn(a, b, ot.dist(x, y), 1.0),
    "sinkhorn2": lambda ot, x, y, a, b: ot.sinkhorn2(a, b, ot.dist(x, y), 1.0),
    "sinkhorn_log": lambda ot, x, y, a, b: ot.sinkhorn2(
        a, b, ot.dist(x, y), 1.0, method="sinkhorn_log"
    ),
    "wasserstein_1d": lambda ot, x, y, a, b: ot.wasserstein_1d(x, y, a, b),
    "unbalanced": lambda ot, x, y, a, b: ot.sinkhorn_unbalanced2(a, b, ot.dist(x, y), 1.0, 1.0),
    "gromov": lambda ot, x, y, a, b: ot.gromov_wasserstein2(ot.dist(x, x), ot.dist(y, y), a, b),
    "solve": lambda ot, x, y, a, b: ot.solve(ot.dist(x, y), a, b, reg=1.0).value,
    "bures": lambda ot, x, y, a, b: ot.gaussian.empirical_bures_wasserstein_distance(x, y),
    "partial": lambda ot, x, y, a, b: ot.partial.partial_wasserstein2(a, b, ot.dist(x, y), m=0.5),
}


@pytest.fixture(scope="module")
def pot() -> ModuleType:
    # POT imports every library that it has a backend for, unless told not to.
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("PYTORCH", "JAX", "CUPY", "TENSORFLOW"):
            patch.setenv(f"POT_BACKEND_DISABLE_{name}", "1")
        return pytest.importorskip("ot")


@pytest.mark.parametrize("name", POT)
@pytest.mark.filterwarnings("ignore")
def test_pot(pot: ModuleType, name: str) -> None:
    a, b, f = np.full(6, 1 / 6), np.full(5, 1 / 5), POT[name]

    def ours(x: Any) -> Any:
        return f(pot, x, gn.asarray(Y), gn.asarray(a), gn.asarray(b))

    check(ours, POINTS, f(pot, POINTS, Y, a, b))


def test_pot_makes_tensors(pot: ModuleType) -> None:
    nx = pot.backend.get_backend(gn.ones((2,)))
    like = gn.ones((1,), dtype=gn.float64)
    nx.seed(3)
    made = [nx.rand(2, type_as=like), nx.randn(2, type_as=like), nx.full(2, 1, type_as=like)]
    made += [nx.zeros(2, type_as=like), nx.ones(2, type_as=like), nx.eye(2, type_as=like)]
    made += [nx.linspace(0, 1, 3, type_as=like), nx.from_numpy(np.ones(2), type_as=like)]
    assert all(isinstance(x, Tensor) and x.dtype == gn.float64 for x in made)
    assert nx.arange(3).tolist() == [0, 1, 2]
    assert sorted(nx.randperm(3).tolist()) == [0, 1, 2]
    rows = nx.searchsorted(gn.asarray(X[0]), gn.asarray(X[1]))
    assert rows.shape == (3, 5)
    inverse = nx.inv(gn.asarray(X[:3, :, 0])).numpy()
    np.testing.assert_allclose(inverse, np.linalg.inv(X[:3, :, 0]))
    assert nx.dtype_device(like) == (gn.float64, "cpu")
    assert nx.device_type(like) == "CPU"
    assert nx.detach(gn.asarray([1.0], requires_grad=True)).requires_grad is False


def test_tensorly_imported_before_gradnet_knows_it_as_well() -> None:
    pytest.importorskip("tensorly")
    code = "import tensorly, gradnet; tensorly.set_backend('gradnet'); tensorly.eye(2).detach()"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=ROOT)
