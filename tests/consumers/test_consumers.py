"""Other people's code on Tensors: what they compute is right, stays a Tensor, keeps its gradient.

Each test runs the library for real and is skipped where it is not installed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.backends import Backend
from gradnet.tensor import Tensor

X = np.random.default_rng(0).standard_normal((2, 3, 4))
ROOT = Path(__file__).parents[2]


# einops, opt_einsum, autoray


def test_einops(backend: Backend) -> None:
    einops = pytest.importorskip("einops")
    calls: list[Any] = [
        lambda x: einops.rearrange(x, "a b c -> (a b) c"),
        lambda x: einops.rearrange(x, "a (b d) c -> d c a b", d=3),
        lambda x: einops.reduce(x, "a b c -> a c", "mean"),
        lambda x: einops.reduce(x, "a b (c d) -> a b c", "max", d=2),
        lambda x: einops.repeat(x, "a b c -> a b c d", d=2),
        lambda x: einops.einsum(x, x, "a b c, a d c -> a b d"),
        lambda x: einops.pack([x, 2 * x], "* b c")[0],
    ]
    for f in calls:
        y = f(gn.asarray(X))
        assert isinstance(y, Tensor)
        np.testing.assert_allclose(y.numpy(), f(X))
        gn.gradcheck(f, X)


@pytest.mark.parametrize("first", ["einops", "gradnet"])
def test_einops_takes_tensors_whichever_is_imported_first(first: str) -> None:
    pytest.importorskip("einops")
    second = "gradnet" if first == "einops" else "einops"
    code = f"import {first}; import {second}; einops.rearrange(gradnet.ones((2, 3)), 'a b -> b a')"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_opt_einsum(backend: Backend) -> None:
    opt_einsum = pytest.importorskip("opt_einsum")
    w = np.random.default_rng(1).standard_normal((3, 2))

    def f(x: Any, w: Any) -> Any:
        return opt_einsum.contract("abc,adc,de->be", x, x, w)

    np.testing.assert_allclose(f(gn.asarray(X), gn.asarray(w)).numpy(), f(X, w))
    gn.gradcheck(f, X, w)


def test_autoray(backend: Backend) -> None:
    autoray = pytest.importorskip("autoray")
    x = gn.asarray(X)
    assert autoray.infer_backend(x) == "gradnet"

    def f(x: Any) -> Any:
        do = autoray.do
        y = do("tensordot", do("exp", x), do("transpose", x, (1, 2, 0)), 2)
        return do("sum", y) / do("linalg.norm", x)

    np.testing.assert_allclose(f(x).numpy(), f(X))
    gn.gradcheck(f, X)


def test_autoray_finds_what_has_another_name_here(backend: Backend) -> None:
    do = pytest.importorskip("autoray").do
    x = gn.asarray(X[0], requires_grad=True)
    calls: dict[str, tuple[Any, ...]] = {
        **dict.fromkeys(("arcsinh", "diag", "cumsum", "conjugate", "median", "fft.fft2"), ()),
        **dict.fromkeys(("arctan2", "kron", "vdot", "inner"), (X[0],)),
    }
    for name, more in calls.items():
        found = do(name, x, *more)
        assert found.requires_grad
        np.testing.assert_allclose(found.detach().numpy(), do(name, X[0], *more), rtol=1e-6)
    np.testing.assert_array_equal(do("vstack", [x, x]).detach().numpy(), np.vstack([X[0]] * 2))
    np.testing.assert_array_equal(do("identity", 2, like=x).numpy(), np.eye(2))
    np.testing.assert_allclose(do("complex", x, 2 * x).detach().numpy(), X[0] * (1 + 2j))
    assert do("clone", x).requires_grad
    assert do("random.normal", size=(2, 3), like=x).shape == (2, 3)
    drawn = do("random.uniform", 2.0, 3.0, size=100, like=x).numpy()
    assert drawn.shape == (100,)
    assert ((drawn >= 2) & (drawn <= 3)).all()


@pytest.mark.parametrize("name", ["linalg.expm", "linalg.lstsq"])
def test_linear_algebra_by_autoray(name: str) -> None:
    do = pytest.importorskip("autoray").do
    pytest.importorskip("scipy")
    a, b = X[0, :, :3], X[1, :, :2]

    def f(a: Any) -> Any:
        return do(name, a) if name == "linalg.expm" else do(name, a, b)[0]

    with gn.backends.use("numpy"):
        np.testing.assert_allclose(f(gn.asarray(a)).numpy(), f(a), rtol=1e-9)
        gn.gradcheck(f, a, order=2, tolerance=1e-5)


# The array API's own tools


def test_array_api_compat(backend: Backend) -> None:
    compat = pytest.importorskip("array_api_compat")
    x = gn.asarray(X)
    assert compat.is_array_api_obj(x)
    assert compat.array_namespace(x) is gn
    assert compat.device(x) == backend.device
    assert compat.size(x) == 24
    assert compat.to_device(x, backend.device) is x


def test_array_api_extra(backend: Backend) -> None:
    extra = pytest.importorskip("array_api_extra")
    x = gn.asarray(X)
    for y, expected in (
        (extra.atleast_nd(x, ndim=4), X[None]),
        (extra.cov(x[0]), np.cov(X[0])),
        (extra.kron(x[0], x[1]), np.kron(X[0], X[1])),
        (extra.pad(x[0], 1), np.pad(X[0], 1)),
        (extra.sinc(x), np.sinc(X)),
        (extra.isclose(x, x + 1e-12), np.ones(X.shape, bool)),
        (extra.setdiff1d(x[0], x[0, :1]), np.setdiff1d(X[0], X[0, :1])),
        (extra.apply_where(x > 0, x, lambda a: a, fill_value=0.0), np.where(X > 0, X, 0)),
        (extra.at(x, 0).set(0.0, copy=True)[0], np.zeros((3, 4))),
    ):
        assert isinstance(y, Tensor)
        np.testing.assert_allclose(y.numpy(), expected)
    gn.gradcheck(lambda x: extra.kron(x[0], x[1]), X)
    gn.gradcheck(lambda x: extra.cov(x[0]), X)
