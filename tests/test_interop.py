"""NumPy's functions on Tensors, and memory shared with NumPy, PyTorch and others."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.backends import Backend
from gradnet.errors import DeviceError, GraphError, ShapeError
from gradnet.interop import hooks, numpy_functions
from gradnet.tensor import Tensor

MATRIX = np.random.default_rng(1).standard_normal((3, 3)) + 3 * np.eye(3)
SYMMETRIC = MATRIX @ MATRIX.T
POSITIVE = np.abs(MATRIX) + 0.1

UNARY = """absolute arccos arccosh arcsin arcsinh arctan arctanh ceil cos cosh exp exp2 expm1 fabs
floor isfinite isinf isnan log log10 log1p log2 negative positive reciprocal rint sign signbit sin
sinh sqrt square tan tanh trunc conjugate logical_not"""
BINARY = """add arctan2 copysign divide equal float_power floor_divide greater greater_equal hypot
less less_equal logaddexp logical_and logical_or logical_xor maximum minimum multiply nextafter
not_equal power remainder subtract matmul vecdot"""


@pytest.mark.parametrize("name", UNARY.split())
def test_ufuncs_of_one_operand(name: str, backend: Backend) -> None:
    values = np.cosh(MATRIX) if name == "arccosh" else POSITIVE / POSITIVE.max() * 0.9
    check(getattr(np, name), values)


@pytest.mark.parametrize("name", BINARY.split())
def test_ufuncs_of_two_operands(name: str, backend: Backend) -> None:
    ufunc = getattr(np, name)
    check(ufunc, POSITIVE, MATRIX.T + 0.5 if name in ("matmul", "vecdot") else POSITIVE.T)
    # An array on either side leaves the result a Tensor.
    x = gn.asarray(POSITIVE)
    for y in (ufunc(POSITIVE, x), ufunc(x, POSITIVE)):
        assert isinstance(y, Tensor)


def check(f: Callable[..., Any], *operands: np.ndarray[Any, Any], **options: Any) -> None:
    """The values are NumPy's, the result is a Tensor, and its gradient is there."""
    expected = f(*operands, **options)
    tensors = [gn.asarray(x, requires_grad=True) for x in operands]
    found = f(*tensors, **options)
    several = isinstance(expected, tuple | list)
    for y, z in zip(
        found if several else [found], expected if several else [expected], strict=True
    ):
        assert isinstance(y, Tensor), f"{f} gave {type(y)}"
        np.testing.assert_allclose(y.numpy(), z, rtol=1e-9, atol=1e-12)
        if y.dtype.kind in "fc" and not _flat(f):
            assert y.requires_grad


def _flat(f: Any) -> bool:
    names = ("nextafter", "floor_divide", "ones_like", "zeros_like", "full_like", "empty_like")
    return getattr(f, "__name__", "") in names


def test_methods_of_ufuncs(backend: Backend) -> None:
    for method, ufunc in ((m, u) for m in ("reduce", "accumulate") for u in (np.add, np.multiply)):
        check(getattr(ufunc, method), MATRIX)
        check(getattr(ufunc, method), MATRIX, axis=1)
    check(np.maximum.reduce, MATRIX)
    check(np.add.reduce, MATRIX, axis=1, keepdims=True)
    check(np.subtract.outer, MATRIX[0], MATRIX[1])
    check(np.add, MATRIX, MATRIX, dtype=np.float32)


def gaps(x: Any) -> Any:
    return np.where(np.eye(3) > 0, np.nan, x)


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "all": lambda x: np.all(x),
    "amax": lambda x: np.amax(x, 0),
    "amin": lambda x: np.amin(x, axis=(0, 1)),
    "any": lambda x: np.any(x, axis=1),
    "argmax": lambda x: np.argmax(x, 0),
    "argmin": lambda x: np.argmin(x, axis=1),
    "argsort": lambda x: np.argsort(x, axis=0),
    "around": lambda x: np.around(x),
    "astype": lambda x: np.astype(x, np.float32),
    "broadcast_arrays": lambda x: np.broadcast_arrays(x, x[0]),
    "broadcast_to": lambda x: np.broadcast_to(x, shape=(2, 3, 3)),
    "clip": lambda x: np.clip(x, 0.1, 0.5) + np.clip(x, min=0.2),
    "concatenate": lambda x: np.concatenate([x, 2 * x], axis=1),
    "copy": lambda x: np.copy(x),
    "count_nonzero": lambda x: np.count_nonzero(x, axis=0),
    "cumprod": lambda x: np.cumprod(x),
    "cumsum": lambda x: np.cumsum(x, axis=1),
    "cumulative_prod": lambda x: np.cumulative_prod(x, axis=0),
    "cumulative_sum": lambda x: np.cumulative_sum(x, axis=0, include_initial=True),
    "diagonal": lambda x: np.diagonal(x, offset=1),
    "diff": lambda x: np.diff(x, n=2, axis=0),
    "dot": lambda x: np.dot(x, x[0]),
    "einsum": lambda x: np.einsum("ij,kj->ik", x, x),
    "empty_like": lambda x: np.zeros_like(np.empty_like(x)),  # what is there may be NaN
    "expand_dims": lambda x: np.expand_dims(x, axis=1),
    "flip": lambda x: np.flip(x, 0),
    "full_like": lambda x: np.full_like(x, 3.0),
    "imag": lambda x: np.imag(x * (1 + 2j)),
    "isin": lambda x: np.isin(x, x[0]),
    "matrix_transpose": lambda x: np.matrix_transpose(x),
    "max": lambda x: np.max(x),
    "mean": lambda x: np.mean(x, axis=0, keepdims=True),
    "meshgrid": lambda x: np.meshgrid(x[0], x[1], indexing="ij"),
    "min": lambda x: np.min(x, axis=1),
    "moveaxis": lambda x: np.moveaxis(x, 0, 1),
    "nonzero": lambda x: np.nonzero(x),
    "ones_like": lambda x: np.ones_like(x),
    "outer": lambda x: np.outer(x[0], x[1]),
    "permute_dims": lambda x: np.permute_dims(x, (1, 0)),
    "prod": lambda x: np.prod(x, axis=0),
    "ravel": lambda x: np.ravel(x),
    "real": lambda x: np.real(x * (1 + 2j)),
    "repeat": lambda x: np.repeat(x, 2, axis=0),
    "reshape": lambda x: np.reshape(x, (1, -1)),
    "roll": lambda x: np.roll(x, 1, axis=0),
    "round": lambda x: np.round(x),
    "searchsorted": lambda x: np.searchsorted(np.sort(x[0]), x[1]),
    "sort": lambda x: np.sort(x, axis=0),
    "split": lambda x: np.split(x, 3),
    "squeeze": lambda x: np.squeeze(x[:, :1], axis=1),
    "stack": lambda x: np.stack([x, x], axis=-1),
    "std": lambda x: np.std(x, axis=0, ddof=1),
    "sum": lambda x: np.sum(x, 0),
    "swapaxes": lambda x: np.swapaxes(x, 0, 1),
    "take": lambda x: np.take(x, [0, 2, 0], axis=1),
    "take_along_axis": lambda x: np.take_along_axis(x, np.array([[0, 1, 2]]), axis=0),
    "tensordot": lambda x: np.tensordot(x, x, axes=1),
    "tile": lambda x: np.tile(x, (2, 1)),
    "trace": lambda x: np.trace(x),
    "transpose": lambda x: np.transpose(x),
    "tril": lambda x: np.tril(x),
    "triu": lambda x: np.triu(x, 1),
    "unique": lambda x: np.unique(x),
    "unique_all": lambda x: np.unique_all(x).values,
    "unique_counts": lambda x: np.unique_counts(x).values,
    "unique_inverse": lambda x: np.unique_inverse(x).values,
    "unique_values": lambda x: np.sort(np.unique_values(x)),
    "unstack": lambda x: np.unstack(x, axis=1),
    "var": lambda x: np.var(x, axis=0, ddof=1),
    "where": lambda x: np.where(x > 0.2, x, -x),
    "zeros_like": lambda x: np.zeros_like(x),
    "linalg.cholesky": lambda x: np.linalg.cholesky(x @ x.T),
    "linalg.cross": lambda x: np.linalg.cross(x, x[0]),
    "linalg.det": lambda x: np.linalg.det(x),
    "linalg.eig": lambda x: tuple(np.abs(y) for y in np.linalg.eig(x)),
    "linalg.eigh": lambda x: tuple(np.abs(y) for y in np.linalg.eigh(x + x.T)),
    "linalg.eigvals": lambda x: np.abs(np.linalg.eigvals(x)),
    "linalg.eigvalsh": lambda x: np.linalg.eigvalsh(x + x.T),
    "linalg.inv": lambda x: np.linalg.inv(x),
    "linalg.matrix_norm": lambda x: np.linalg.matrix_norm(x, ord="nuc"),
    "linalg.matrix_power": lambda x: np.linalg.matrix_power(x, 3),
    "linalg.matrix_rank": lambda x: np.linalg.matrix_rank(x),
    "linalg.norm": lambda x: np.linalg.norm(x, axis=0) + np.linalg.norm(x, "nuc"),
    "linalg.pinv": lambda x: np.linalg.pinv(x),
    "linalg.qr": lambda x: tuple(np.linalg.qr(x)),
    "linalg.slogdet": lambda x: np.linalg.slogdet(x).logabsdet,
    "linalg.solve": lambda x: np.linalg.solve(x, x[0]),
    "linalg.svd": lambda x: np.linalg.svd(x[:2], full_matrices=False).S,
    "linalg.svdvals": lambda x: np.linalg.svdvals(x),
    "linalg.vector_norm": lambda x: np.linalg.vector_norm(x, axis=0),
    "fft.fft": lambda x: np.fft.fft(x, axis=0),
    "fft.ifft": lambda x: np.fft.ifft(x),
    "fft.rfft": lambda x: np.fft.rfft(x, 4),
    "fft.irfft": lambda x: np.fft.irfft(x),
    "fft.hfft": lambda x: np.fft.hfft(x),
    "fft.ihfft": lambda x: np.fft.ihfft(x),
    "fft.fftn": lambda x: np.fft.fftn(x),
    "fft.ifftn": lambda x: np.fft.ifftn(x, norm="ortho"),
    "fft.rfftn": lambda x: np.fft.rfftn(x),
    "fft.irfftn": lambda x: np.fft.irfftn(x),
    "fft.fftshift": lambda x: np.fft.fftshift(x),
    "fft.ifftshift": lambda x: np.fft.ifftshift(x, axes=0),
    "diag": lambda x: np.diag(x, 1),
    "kron": lambda x: np.kron(x, x[0]),
    "median": lambda x: np.median(x, axis=(0, 1), keepdims=True),
    "nan_to_num": lambda x: np.nan_to_num(gaps(x), nan=2.0, posinf=3.0, neginf=4.0),
    "pad": lambda x: np.pad(x, ((1, 0), (0, 2)), constant_values=2.0),
    "nanargmax": lambda x: np.nanargmax(gaps(x), axis=1),
    "nanargmin": lambda x: np.nanargmin(gaps(x)),
    "nanmax": lambda x: np.nanmax(gaps(x), 0),
    "nanmin": lambda x: np.nanmin(gaps(x), axis=1, keepdims=True),
    "nanmedian": lambda x: np.nanmedian(gaps(x), axis=0),
    "nanmean": lambda x: np.nanmean(gaps(x), axis=1),
    "nanprod": lambda x: np.nanprod(gaps(x)),
    "nansum": lambda x: np.nansum(gaps(x), axis=0),
    "nanstd": lambda x: np.nanstd(gaps(x), ddof=1),
    "nanvar": lambda x: np.nanvar(gaps(x), axis=0, keepdims=True),
    "nancumprod": lambda x: np.nancumprod(gaps(x)),
    "nancumsum": lambda x: np.nancumsum(gaps(x), axis=1),
}
WITHOUT_GRADIENT = {"around", "round", "empty_like", "full_like", "ones_like", "zeros_like"}


def test_every_function_known_has_a_case() -> None:
    assert set(FUNCTIONS) == set(numpy_functions._FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_numpy(name: str, backend: Backend) -> None:
    f = FUNCTIONS[name]
    expected = f(POSITIVE)
    found = f(gn.asarray(POSITIVE, requires_grad=True))
    several = isinstance(expected, tuple | list)
    pairs = zip(found, expected, strict=True) if several else [(found, expected)]
    for y, z in pairs:
        assert isinstance(y, Tensor)
        np.testing.assert_allclose(y.numpy(), z, rtol=1e-6, atol=1e-12)
        if y.dtype.kind in "fc" and name not in WITHOUT_GRADIENT:
            assert y.requires_grad


NAN_FUNCTIONS = ("max", "min", "mean", "median", "prod", "std", "sum", "var", "cumprod", "cumsum")


@pytest.mark.parametrize("name", NAN_FUNCTIONS)
def test_missing_values_get_no_gradient(name: str) -> None:
    f = getattr(np, f"nan{name}")
    x = gn.asarray(POSITIVE + np.arange(3) * 2, requires_grad=True)
    gn.sum(f(gaps(x), axis=0)).backward()
    assert x.grad is not None
    g = x.grad.numpy()
    np.testing.assert_array_equal(np.diag(g), 0)
    assert np.isfinite(g).all()
    assert np.abs(g).sum() > 0
    gn.gradcheck(lambda x: f(gaps(x), axis=0), x.detach())


def test_where_nothing_is_left() -> None:
    x = gn.asarray([[np.nan, np.nan], [1.0, np.nan]])
    for name in ("max", "min", "mean", "median", "std", "var"):
        found = getattr(np, f"nan{name}")(x, axis=1).numpy()
        np.testing.assert_array_equal(np.isnan(found), [True, False])
    assert np.nansum(x, axis=1).tolist() == [0.0, 1.0]
    assert np.isnan(np.nanstd(x, axis=1, ddof=1).numpy()).all()
    np.testing.assert_array_equal(np.isnan(np.median(x, axis=1).numpy()), [True, True])
    with pytest.raises(ValueError, match="nanargmax got a slice of NaNs alone"):
        np.nanargmax(x, axis=1)


def test_composed_functions_of_other_operands() -> None:
    row = np.asarray([1.0, 2.0])
    for k in (-1, 0, 2):
        np.testing.assert_array_equal(np.diag(gn.asarray(row), k).numpy(), np.diag(row, k))
    with pytest.raises(ShapeError, match="expected one or two dimensions"):
        np.diag(gn.ones((2, 2, 2)))
    whole = gn.asarray([3, 4])
    assert np.nan_to_num(whole).tolist() == [3, 4]
    assert np.median(whole).item() == 3.5
    odd = np.asarray([np.inf, -np.inf, np.nan, 1], np.float32)
    np.testing.assert_array_equal(np.nan_to_num(gn.asarray(odd)).numpy(), np.nan_to_num(odd))
    assert [x.tolist() for x in np.where(gn.asarray([[False, True]]))] == [[0], [1]]


def test_pad_refuses() -> None:
    x = gn.ones((2, 3))
    for width in (-1, (1, 2, 3), ((1, 1), (1, 1), (1, 1))):
        with pytest.raises(ShapeError, match="pad got the widths"):
            gn.pad(x, width)
    with pytest.raises(ValueError, match="pad got the mode 'edge'; there is 'constant'"):
        np.pad(x, 1, mode="edge")


def test_a_loss_written_for_numpy_has_a_gradient(backend: Backend) -> None:
    def loss(w: Any) -> Any:
        z = np.tanh(MATRIX @ w)
        return np.sum(np.square(z)) / np.linalg.vector_norm(w)

    gn.gradcheck(loss, MATRIX[0], order=2)


def test_what_gradnet_lacks_is_numpys_without_a_gradient(backend: Backend) -> None:
    x = gn.asarray(POSITIVE)
    for f in (np.cbrt, np.ptp, lambda x: np.percentile(x, 30), lambda x: np.round(x, 2)):
        if backend.device != "cpu":
            with pytest.raises(DeviceError, match=r"use x\.numpy\(\) to copy it to the CPU"):
                f(x)
            continue
        y = f(x)
        assert isinstance(y, Tensor)
        np.testing.assert_allclose(y.numpy(), f(POSITIVE))
    x.requires_grad = True
    for f, name in ((np.cbrt, "cbrt"), (np.ptp, "ptp")):
        with pytest.raises(GraphError, match=rf"no derivative of numpy\.{name}"):
            f(x)


def test_descriptions_of_tensors_are_plain() -> None:
    x = gn.asarray(MATRIX, requires_grad=True)
    assert np.shape(x) == (3, 3)
    assert np.ndim(x) == 2
    assert np.size(x) == 9
    assert np.allclose(x, MATRIX)
    assert np.array_equal(x, MATRIX)
    assert np.result_type(x, np.float32) == np.float64


def test_out(backend: Backend) -> None:
    x, y = gn.asarray(MATRIX), gn.zeros((3, 3), dtype=gn.float64)
    assert np.add(x, 1.0, out=y) is y
    np.testing.assert_array_equal(y.numpy(), MATRIX + 1)
    host = np.zeros(3)
    np.sum(x, axis=0, out=host)
    np.testing.assert_allclose(host, MATRIX.sum(axis=0))
    x.requires_grad = True
    with pytest.raises(GraphError, match="cannot store"):
        np.add(x, 1.0, out=np.zeros((3, 3)))


def test_operators_between_arrays_and_tensors(backend: Backend) -> None:
    x = gn.asarray(MATRIX, requires_grad=True)
    for y in (MATRIX * x, MATRIX @ x, x - MATRIX, np.float64(2.0) * x, 2.0 / x, MATRIX**x):
        assert isinstance(y, Tensor)
        assert y.requires_grad
    assert isinstance(np.less(MATRIX, x), Tensor)
    single = gn.asarray(MATRIX.astype(np.float32))
    assert (np.float64(2.0) * single).dtype == gn.float32


def test_a_gradient_is_not_lost_in_a_conversion() -> None:
    x = gn.asarray(MATRIX, requires_grad=True)
    with pytest.raises(GraphError, match="detach"):
        np.asarray(x)
    with pytest.raises(GraphError, match="detach"):
        np.from_dlpack(x)
    assert np.asarray(x.detach()).base is not None or np.shares_memory(
        np.asarray(x.detach()), x.numpy()
    )


def test_memory_is_shared_through_dlpack(backend: Backend) -> None:
    x = gn.asarray(MATRIX.copy())
    if backend.device != "cpu":
        pytest.skip("NumPy shares memory of the CPU alone")
    host = np.from_dlpack(x)
    x[0, 0] = 7.0
    assert host[0, 0] == 7.0
    back = gn.from_dlpack(host)
    assert np.shares_memory(back.numpy(), host)
    assert not np.shares_memory(gn.from_dlpack(host, copy=True).numpy(), host)
    assert np.from_dlpack(x, copy=True)[0, 0] == 7.0


def test_memory_is_shared_with_torch(backend: Backend) -> None:
    torch = pytest.importorskip("torch")
    if backend.device != "cpu" and not torch.cuda.is_available():
        pytest.skip("PyTorch here knows no memory but the CPU's")
    x = gn.asarray(MATRIX.astype(np.float32))
    t = torch.from_dlpack(x)
    t[0, 0] = 9.0
    assert x[0, 0].item() == 9.0
    y = gn.from_dlpack(torch.arange(6.0).reshape(2, 3))
    assert y.dtype == gn.float32
    assert y.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    u = torch.zeros(3)
    v = gn.from_dlpack(u)
    u[1] = 5.0
    assert v.tolist() == [0.0, 5.0, 0.0]
    assert gn.asarray(torch.ones(2)).tolist() == [1.0, 1.0]


# Other libraries


def test_names_of_the_room() -> None:
    assert gn.interop.array_ufunc is numpy_functions.array_ufunc
    assert gn.interop.array_function is numpy_functions.array_function
    with pytest.raises(AttributeError, match=r"'gradnet\.interop' has no attribute 'keras'"):
        _ = gn.interop.keras


@pytest.mark.parametrize("name", ["einops._backends", "ot.backend", "tensorly.backend"])
def test_a_library_that_has_changed_is_still_imported(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorly", None)
    library = name.partition(".")[0]
    with pytest.warns(UserWarning, match=f"version of {library} does not take gradnet's tensors"):
        hooks._register(ModuleType(name))


def test_a_hook_waits_for_its_module_and_leaves_others_alone() -> None:
    waiting = hooks._Waiting({"einops._backends"})
    assert waiting.find_spec("numpy", None) is None
    pytest.importorskip("einops")
    spec = waiting.find_spec("einops._backends", None)
    assert spec is not None
    assert isinstance(spec.loader, hooks._Registering)
    assert waiting.find_spec("einops._backends", None) is None
